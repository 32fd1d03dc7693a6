"""Scripts for the model server: what the model says to which request.

Each is a pure function of the request, so that retries, concurrency and order change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spanrelay_testkit.exchange import Answer, Request, reply, tool_call

Script = Callable[[Request], Answer]


def echo(request: Request) -> Answer:
    """Repeat the last user message, once for each choice asked for."""
    said = f"You said: {request.last_user_text}"
    asked = int(request.get("n", 1))
    return reply(said) if asked == 1 else reply(choices=[reply(f"{said} ({at})") for at in range(1, asked + 1)])


def weather(request: Request) -> Answer:
    """The model's side of `examples/weather_agent.py`: two tool calls at once, then a tool that fails."""
    messages: list[dict[str, Any]] = request.get("messages", [])
    turn = sum(message.get("role") == "user" for message in messages)
    results = results_since_user(messages)
    if turn == 1 and not results:
        calls = [
            tool_call("get_weather", city="San Francisco", id="call_sf"),
            tool_call("get_weather", city="New York", id="call_ny"),
        ]
        return reply("I'll check both cities.", tool_calls=calls)
    if turn == 1:
        return reply("San Francisco has 18 °C and fog, New York 25 °C and sun. Take a jacket to San Francisco.")
    if not results:
        return reply(tool_calls=[tool_call("get_weather", city="Atlantis", id="call_atlantis")])
    return reply("I have no weather for Atlantis: there is no station there. May I look up another city?")


def pages(request: Request) -> Answer:
    """The model of what the docs tell to type: the weather agent's where tools are offered, else an echo."""
    return weather(request) if request.get("tools") else echo(request)


def support(request: Request) -> Answer:
    """The model's side of `examples/policy/agent.py`: two tool calls at once, then what came of them."""
    messages: list[dict[str, Any]] = request.get("messages", [])
    results = results_since_user(messages)
    if results:
        return reply(f"This is what came of it: {' '.join(str(result['content']) for result in results)}")
    if sum(message.get("role") == "user" for message in messages) > 1:
        return reply("I have written to ann@example.com.")
    email = "ann@example.com"
    calls = [tool_call("find_customer", email=email, id="call_find")]
    return reply(tool_calls=[*calls, tool_call("delete_customer", email=email, id="call_delete")])


def results_since_user(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tool messages after the last user message."""
    last = max((at for at, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    return [message for message in messages[last + 1 :] if message.get("role") == "tool"]


SCRIPTS: dict[str, Script] = {"echo": echo, "pages": pages, "support": support, "weather": weather}
"""The scripts that the command line knows."""
