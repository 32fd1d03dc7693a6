"""A support agent: one model, two tools, and a loop between the two. No policy is in here."""

import json
import os
import sys

from openai import OpenAI

import spanrelay

MODEL = os.environ.get("OPENAI_MODEL", "gpt-5-mini")
SYSTEM = "You help the staff of a shop with its customers, in one or two sentences."
CUSTOMERS = {"ann@example.com": {"id": 7, "orders": 3}}


@spanrelay.tool
def find_customer(email: str):
    """Look a customer up by address."""
    return {**CUSTOMERS[email], "email": email}


@spanrelay.tool
def delete_customer(email: str):
    """Delete a customer for good."""
    del CUSTOMERS[email]
    return "deleted"


TOOLS = {function.__name__: function for function in (find_customer, delete_customer)}
DEFINITIONS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": function.__doc__,
            "parameters": {"type": "object", "properties": {"email": {"type": "string"}}, "required": ["email"]},
        },
    }
    for name, function in TOOLS.items()
]


def run_tool(call):
    """Run one tool call; what goes wrong is told to the model, so that it can react."""
    try:
        result = TOOLS[call.function.name](**json.loads(call.function.arguments))
    except Exception as error:
        result = f"Error: {error}"
    print(f"  [{call.function.name} -> {result}]")
    return {"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)}


@spanrelay.agent
def support(*questions):
    """Answer one question after the other."""
    client = OpenAI(api_key=os.environ.get("OPENAI_API_KEY", "not-needed"))
    messages = [{"role": "system", "content": SYSTEM}]
    for question in questions:
        print(f"\nuser: {question}")
        messages.append({"role": "user", "content": question})
        while True:
            answer = client.chat.completions.create(model=MODEL, messages=messages, tools=DEFINITIONS)
            message = answer.choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            if not message.tool_calls:
                print(message.content)
                break
            messages.extend(run_tool(call) for call in message.tool_calls)


if __name__ == "__main__":
    try:
        support("Look ann@example.com up and delete her.", "Then write her that she is gone.")
    except Exception as error:
        sys.exit(f"stopped: {error}")
    finally:
        print(f"\ncustomers: {list(CUSTOMERS)}")
