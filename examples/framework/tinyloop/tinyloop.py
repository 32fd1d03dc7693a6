"""A complete agent framework: agents, tools, and agents as tools of others. It knows nothing of tracing."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

from openai import OpenAI


class Tool:
    """A function that a model may call; its arguments are texts."""

    def __init__(self, function: Callable[..., str], name: str | None = None) -> None:
        self.function = function
        self.name = name or function.__name__
        self.description = inspect.getdoc(function) or ""
        self.parameters = list(inspect.signature(function).parameters)

    def call(self, call_id: str, arguments: dict[str, Any]) -> str:
        """Run the function with what the model asked for."""
        return self.function(**arguments)

    @property
    def schema(self) -> dict[str, Any]:
        """What the model is told."""
        properties = {name: {"type": "string"} for name in self.parameters}
        parameters = {"type": "object", "properties": properties, "required": self.parameters}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


class Agent:
    """A model with instructions and tools, and the loop between them."""

    def __init__(self, name: str, instructions: str, tools: Sequence[Tool] = (), model: str = "gpt-5-mini") -> None:
        self.name, self.instructions, self.model = name, instructions, model
        self.tools = {tool.name: tool for tool in tools}
        self.client = OpenAI()

    def run(self, question: str, thread: str | None = None) -> str:
        """Answer a question; `thread` names the conversation that it belongs to."""
        messages: list[Any] = [
            {"role": "system", "content": self.instructions},
            {"role": "user", "content": question},
        ]
        offered = {"tools": [tool.schema for tool in self.tools.values()]} if self.tools else {}
        while True:
            answer = self.client.chat.completions.create(model=self.model, messages=messages, **offered)
            message = answer.choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            if not message.tool_calls:
                return message.content or ""
            for call in message.tool_calls:
                messages.append({"role": "tool", "tool_call_id": call.id, "content": self._tool(call)})

    def _tool(self, call: Any) -> str:
        try:
            return self.tools[call.function.name].call(call.id, json.loads(call.function.arguments))
        except Exception as error:  # the model is told, and may try otherwise
            return f"Error: {error}"

    def as_tool(self) -> Tool:
        """Return a tool by which another agent asks this one."""

        def ask(question: str) -> str:
            return self.run(question)

        ask.__doc__ = self.instructions
        return Tool(ask, name=f"ask_{self.name}")
