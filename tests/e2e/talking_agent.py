"""A program that lives as long as its input: each line is a question to the model, each answer a line."""

import sys

from openai import OpenAI

client = OpenAI()
messages = []
for line in sys.stdin:
    messages.append({"role": "user", "content": line.strip()})
    answer = client.chat.completions.create(model="gpt-5-mini", messages=messages)
    messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    print(messages[-1]["content"], flush=True)
