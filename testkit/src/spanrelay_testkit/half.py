"""The sync or the async half of an SDK, driven in one way, so that each test of the contract is written once.

Whatever it does, the caller's OpenTelemetry context is the same object before and after.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from opentelemetry.context import get_current

from spanrelay import scope


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way of asking gave: the model's text, and the types of the objects that the SDK handed out."""

    text: str
    types: tuple[type, ...]


Form: TypeAlias = "Callable[[Half, Any, Any], Awaitable[Outcome]]"
"""One way of asking an SDK: `(half, client, messages) -> Outcome`."""


@dataclass(frozen=True, slots=True)
class StreamForm:
    """One way of streaming: `open(client, messages)` gives the stream, `text_of(chunk)` what a chunk says.

    `cut` is after how many events some of the text, but not all, has come.
    """

    open: Callable[[Any, Any], Any]
    text_of: Callable[[Any], str]
    cut: int = 3


@contextmanager
def context_untouched() -> Generator[None]:
    """Check that the current context is the same object afterwards."""
    before = get_current()
    try:
        yield
    finally:
        assert get_current() is before, "the caller's context was not put back"


class Half:
    """One half: what a coroutine function or an async iterator is in the other is a plain one here."""

    def __init__(self, *, asynchronous: bool) -> None:
        self.asynchronous = asynchronous

    async def settle(self, value: Any) -> Any:
        """Return what a call gave, awaited where it is awaitable."""
        with context_untouched():
            return await value if inspect.isawaitable(value) else value

    async def each(self, stream: Any) -> AsyncGenerator[Any, None]:
        """Yield the chunks of a stream."""
        advance = stream.__anext__ if self.asynchronous else stream.__next__
        while True:
            try:
                with context_untouched():
                    chunk = await advance() if self.asynchronous else advance()
            except (StopIteration, StopAsyncIteration):
                return
            yield chunk

    async def take(self, stream: Any, count: int) -> list[Any]:
        """Return the first `count` chunks of a stream and leave it as it is."""
        return [await self.following(stream) for _ in range(count)]

    async def read_on(self, stream: Any) -> None:
        """Read a stream until something ends it."""
        while True:
            await self.following(stream)

    async def following(self, stream: Any) -> Any:
        """Return the next chunk of a stream."""
        with context_untouched():
            return await stream.__anext__() if self.asynchronous else next(stream)

    @asynccontextmanager
    async def entered(self, manager: Any) -> AsyncGenerator[Any]:
        """`with manager` or `async with manager`."""
        before = get_current()
        if self.asynchronous:
            async with manager as inside:
                assert get_current() is before
                yield inside
        else:
            with manager as inside:
                assert get_current() is before
                yield inside
        assert get_current() is before

    async def close(self, closable: Any) -> None:
        """Close a client or a stream."""
        await self.settle(closable.close())


async def left_early() -> None:
    """Return when an async generator that its consumer left is ended by the event loop, in a task of its own."""

    async def answers() -> AsyncIterator[int]:
        try:
            with scope("request-1", session="s-1"):
                for number in range(3):
                    yield number
        finally:
            left.set()

    left = asyncio.Event()
    async for _ in answers():
        break
    gc.collect()
    await left.wait()
