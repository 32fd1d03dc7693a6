"""The real CLI against the provider of a test, both ways to run it, and what is seen of that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import claude_agent_sdk
import pytest
from claude_agent_sdk import ClaudeSDKClient, ResultMessage, create_sdk_mcp_server, tool
from opentelemetry.sdk.trace import ReadableSpan

from spanrelay_testkit.capture import Capture

from .provider import Asked, Block, text, use

Way = Callable[..., "list[Any]"]
QUESTION = "How is the weather in Rome?"
SESSION = "11111111-2222-4333-8444-555555555555"


def environment(provider: Any, home: Path) -> dict[str, str]:
    """What the CLI is told, so that it talks to a test's provider and to nobody else."""
    return {
        "ANTHROPIC_BASE_URL": provider.address,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CONFIG_DIR": str(home / "config"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "HOME": str(home),
        "IS_SANDBOX": "1",
    }


@tool("get_weather", "The weather of a city.", {"city": str})
async def get_weather(given: dict[str, Any]) -> dict[str, Any]:
    """A tool of this process."""
    return {"content": [{"type": "text", "text": f"sunny in {given['city']}"}]}


def skies(*tools: Any) -> dict[str, Any]:
    """The servers of a session that knows the weather."""
    return {"skies": create_sdk_mcp_server("skies", tools=list(tools or (get_weather,)))}


WEATHER = "mcp__skies__get_weather"


def weather_model(asked: Asked) -> list[Block]:
    """Asks for the weather and then says what it was told."""
    if asked.results:
        return [text(f"I was told: {asked.results[-1]}")]
    return [text("Let me see."), use(WEATHER, {"city": "Rome"}, "toolu_weather")]


def queried(prompt: Any, options: Any, **more: Any) -> list[Any]:
    """`query(...)`, read to the end."""

    async def read() -> list[Any]:
        return [message async for message in claude_agent_sdk.query(prompt=prompt, options=options, **more)]

    return asyncio.run(read())


def streamed(prompt: Any, options: Any, **more: Any) -> list[Any]:
    """`query(...)` with a stream of prompts."""
    return queried(stream_of(prompt) if isinstance(prompt, str) else prompt, options, **more)


async def stream_of(*prompts: str) -> AsyncIterator[dict[str, Any]]:
    """Prompts as the SDK takes them from a stream."""
    for prompt in prompts:
        yield {"type": "user", "message": {"role": "user", "content": prompt}}


def in_turns(prompt: Any, options: Any, **more: Any) -> list[Any]:
    """A `ClaudeSDKClient` and one turn of it."""

    async def read() -> list[Any]:
        async with ClaudeSDKClient(options, **more) as client:
            await client.query(prompt)
            return [message async for message in client.receive_response()]

    return asyncio.run(read())


WAYS: dict[str, Way] = {"query": queried, "stream of prompts": streamed, "client": in_turns}
each_way = pytest.mark.parametrize("run", list(WAYS.values()), ids=list(WAYS))


def result_of(messages: list[Any]) -> Any:
    """What a run ended with."""
    return [message for message in messages if isinstance(message, ResultMessage)][-1].result


def named(capture: Capture, name: str) -> ReadableSpan:
    """The one span of that name."""
    found = [span for span in capture.spans if span.name == name]
    assert len(found) == 1, [span.name for span in capture.spans]
    return found[0]


def of(span: ReadableSpan) -> dict[str, Any]:
    """A span's attributes."""
    return dict(span.attributes or {})


def tree(capture: Capture) -> list[str]:
    """The spans by name, indented below their parents, in the order in which they began."""
    spans = sorted(capture.spans, key=lambda span: (span.start_time or 0, span.context.span_id))  # type: ignore[union-attr]
    known = {span.context.span_id for span in spans}  # type: ignore[union-attr]

    def below(parent: int | None, depth: int) -> list[str]:
        lines: list[str] = []
        for span in spans:
            above = span.parent.span_id if span.parent is not None else None
            if above == parent:
                assert span.context is not None
                lines += ["  " * depth + span.name, *below(span.context.span_id, depth + 1)]
        return lines

    assert all(span.parent is None or span.parent.span_id in known for span in spans), "an orphan"
    return below(None, 0)


def traces(capture: Capture) -> int:
    """How many traces there are."""
    return len({span.context.trace_id for span in capture.spans if span.context is not None})
