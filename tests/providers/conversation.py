"""One conversation of three turns, held through any SDK in its own way: two calls at once, a tool that fails, a stream.

A speaker knows how its SDK asks, what an answer says, and how results of tools go back.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import spanrelay
from spanrelay_testkit.exchange import Answer, Request, ToolCall, Usage, reply
from spanrelay_testkit.half import Half

DESCRIPTION = "What the weather is like in a city."
PARAMETERS: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TEMPERATURE, MAX_TOKENS = 0.5, 100
"""What every request asks for."""
WEATHER = {"Oslo": "4 degrees", "Bergen": "rain"}


@spanrelay.tool(description=DESCRIPTION)
def get_weather(city: str) -> str:
    if city not in WEATHER:
        raise LookupError(f"nobody knows {city}")
    return WEATHER[city]


def calls(*cities: str) -> list[ToolCall]:
    return [ToolCall("get_weather", {"city": city}) for city in cities]


SCRIPT: Sequence[Answer] = (
    reply(None, tool_calls=calls("Oslo", "Atlantis"), usage=Usage(50, 20)),
    reply("It is 4 degrees in Oslo, and Atlantis is on no map.", usage=Usage(90, 12)),
    reply(None, tool_calls=calls("Bergen"), usage=Usage(110, 9)),
    reply("In Bergen it rains.", usage=Usage(130, 5)),
    reply("Cold in Oslo, wet in Bergen.", usage=Usage(150, 7)),
)
QUESTIONS = ("What is the weather in Oslo and in Atlantis?", "And in Bergen?", "Sum it up.")


def script() -> Callable[[Request], Answer]:
    """A model that says its part whatever it is asked."""
    answers = iter(SCRIPT)
    return lambda request: next(answers)


@dataclass
class Call:
    """A call that the model asks for."""

    id: str | None
    name: str
    arguments: dict[str, Any]


Result = tuple[Call, str, bool]
"""A call, what its tool gave, and whether that is an error."""


class Speaker:
    """How one SDK is talked to, by its sync or its async client.

    Args:
        half: Which of the two.
        model: What is asked; None: the one of the class.
        offers: Whether the tool is offered.
    """

    module: ClassVar[str]
    """What the SDK is imported by."""
    instrumentor: ClassVar[str]
    """Our class that records it, as `package:Class`."""
    model: str

    def __init__(self, half: Half, *, model: str | None = None, offers: bool = True) -> None:
        self.half, self.offers = half, offers
        self.model = model or self.model
        self.client: Any = None
        self.messages: list[Any] = []

    def connect(self, address: str) -> Any:
        """Return the client, to be entered."""
        raise NotImplementedError

    @property
    def request(self) -> dict[str, Any]:
        """What is asked next, as most chat APIs have it."""
        tools = {"tools": [function_tool()]} if self.offers else {}
        parameters = {"temperature": TEMPERATURE, "max_tokens": MAX_TOKENS}
        return {"model": self.model, "messages": self.messages, **parameters, **tools}

    def say(self, text: str) -> None:
        """Put what the user says after the rest."""
        self.messages.append({"role": "user", "content": text})

    async def ask(self) -> list[Call]:
        """Ask for an answer, put it after the rest, and return the calls in it."""
        raise NotImplementedError

    async def stream(self) -> str:
        """Ask for a streamed answer, read it, and return its text."""
        raise NotImplementedError

    def give(self, results: Sequence[Result]) -> None:
        """Put the results of calls after the rest."""
        raise NotImplementedError


@asynccontextmanager
async def talking(speaker: Speaker, address: str) -> AsyncGenerator[Speaker]:
    """Have a speaker talk to a server."""
    async with speaker.half.entered(speaker.connect(address)) as speaker.client:
        yield speaker


async def hold(speaker: Speaker) -> str:
    """Hold the conversation, and return what the model said last."""
    with spanrelay.scope("weather", session="weather"):
        for question in QUESTIONS[:-1]:
            speaker.say(question)
            while wanted := await speaker.ask():
                speaker.give([run(call) for call in wanted])
        speaker.say(QUESTIONS[-1])
        return await speaker.stream()


def run(call: Call) -> Result:
    """Run the tool, as a program's own loop does."""
    try:
        return call, get_weather(**call.arguments), False
    except LookupError as error:
        return call, str(error), True


def function_tool() -> dict[str, Any]:
    """The tool as most chat APIs have it."""
    function = {"name": "get_weather", "description": DESCRIPTION, "parameters": PARAMETERS}
    return {"type": "function", "function": function}


def arguments_in(text: str) -> dict[str, Any]:
    return json.loads(text)
