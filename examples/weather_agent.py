"""A first agent: one model, one tool, and a loop between the two.

Run it as it is, or under `opentelemetry-instrument` to see what it did; nothing in here knows about tracing.
"""

import json
import os
import sys

from openai import OpenAI

MODEL = os.environ.get("OPENAI_MODEL", "gpt-5-mini")
WEATHER = {"San Francisco": "18 °C, fog", "New York": "25 °C, sun"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The current weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def get_weather(city):
    """Look into the table; a real tool would ask a service."""
    if city not in WEATHER:
        raise LookupError(f"no weather station in {city}")
    return WEATHER[city]


def run_tool(call):
    """Run one tool call; a failure is told to the model, so that it can react."""
    arguments = json.loads(call["function"]["arguments"])
    try:
        result = get_weather(**arguments)
    except Exception as error:
        result = f"Error: {error}"
    print(f"  [{call['function']['name']} {arguments} -> {result}]")
    return {"role": "tool", "tool_call_id": call["id"], "content": result}


def ask_model(client, messages):
    """Stream one answer to the terminal and return it as a message."""
    text, calls = "", {}
    stream = client.chat.completions.create(
        model=MODEL, messages=messages, tools=TOOLS, stream=True, stream_options={"include_usage": True}
    )
    for chunk in stream:
        for choice in chunk.choices:
            if choice.delta.content:
                text += choice.delta.content
                print(choice.delta.content, end="", flush=True)
            for part in choice.delta.tool_calls or []:
                if part.id:
                    function = {"name": part.function.name, "arguments": ""}
                    calls[part.index] = {"id": part.id, "type": "function", "function": function}
                calls[part.index]["function"]["arguments"] += part.function.arguments or ""
    if text:
        print()
    message = {"role": "assistant", "content": text}
    return {**message, "tool_calls": list(calls.values())} if calls else message


def run_turn(client, messages, question):
    """One turn of the user: the model and its tools take turns until it answers in words."""
    print(f"\nuser: {question}")
    messages.append({"role": "user", "content": question})
    while True:
        answer = ask_model(client, messages)
        messages.append(answer)
        if "tool_calls" not in answer:
            return
        messages.extend(run_tool(call) for call in answer["tool_calls"])


def main():
    """Two turns of one conversation."""
    if "OPENAI_API_KEY" not in os.environ and "OPENAI_BASE_URL" not in os.environ:
        sys.exit("Set OPENAI_API_KEY to ask the real model, or run `make demo`, which needs no key.")
    client = OpenAI(api_key=os.environ.get("OPENAI_API_KEY", "not-needed"))
    messages = [{"role": "system", "content": "You answer questions about the weather, in one or two sentences."}]
    run_turn(client, messages, "What is the weather in San Francisco and in New York?")
    run_turn(client, messages, "And in Atlantis?")


if __name__ == "__main__":
    main()
