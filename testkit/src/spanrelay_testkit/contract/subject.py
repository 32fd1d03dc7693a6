"""What is under contract: the hooks that a subclass supplies, and what all promises stand on.

A promise is a file beside this one; here nothing is tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from spanrelay.instrumentation.instrumentor import Instrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Answer, Request, reply
from spanrelay_testkit.half import Form, Half, StreamForm
from spanrelay_testkit.model_server import ModelServer

ANSWER = '{"answer": "blue like the sea"}'
"""What the model says in most tests; it fits the structured outputs of the `parse` forms."""


class Subject:
    """What is under contract: derive, supply the hooks, and every test runs for sync and async."""

    instrumentor: ClassVar[type[Instrumentor]]
    forms: ClassVar[Mapping[str, Form]]
    """Every way of asking for one answer, by name."""
    streams: ClassVar[Mapping[str, StreamForm]]
    """Every kind of stream that is handed out as an iterator with `close()`, by name."""
    cancelled_by: ClassVar[tuple[type[BaseException], ...]] = (asyncio.CancelledError,)

    leaves_failed_streams: ClassVar[bool] = False
    """Whether the SDK leaves a stream that failed for the garbage collector to close."""

    def open_client(self, half: Half, url: str, **options: Any) -> Any:
        """Return a client; `options` may hold `timeout` (seconds) and `max_retries` (0 unless given)."""
        raise NotImplementedError

    def question(self, text: str) -> list[Any]:
        """Return the messages that ask `text`."""
        raise NotImplementedError

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        """Ask for a whole answer; `options` are arguments of the SDK's method."""
        raise NotImplementedError

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        """Return `messages -> answer` over a bound method that is looked up now."""
        raise NotImplementedError

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        """Ask for embeddings."""
        raise NotImplementedError

    def list_models(self, client: Any) -> Any:
        """Make a request that is no inference."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for both halves, and for each form or stream where it asks for one."""
        if "half" in metafunc.fixturenames:
            metafunc.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])
        if "form" in metafunc.fixturenames:
            metafunc.parametrize("form", list(self.forms.values()), ids=list(self.forms))
        if "streaming" in metafunc.fixturenames:
            metafunc.parametrize("streaming", list(self.streams.values()), ids=list(self.streams))

    @pytest.fixture
    def instrumented(self, capture: Capture) -> Iterator[Capture]:
        """The spans of the test's calls, with the SDK instrumented."""
        with self.instrumenting(capture):
            yield capture

    @contextlib.contextmanager
    def instrumenting(self, capture: Capture) -> Generator[Capture]:
        """Instrument the SDK for `capture`."""
        instrumentor = self.instrumentor()
        instrumentor.instrument(tracer_provider=capture.provider)
        try:
            yield capture
        finally:
            if instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.uninstrument()

    @contextlib.asynccontextmanager
    async def talking(self, half: Half, *answers: Answer, **options: Any) -> AsyncGenerator[tuple[ModelServer, Any]]:
        """A server that gives `answers`, or always `ANSWER`, and a client of it."""
        script: Any = list(answers) if answers else _always
        with ModelServer(script) as server:
            client = self.open_client(half, server.url, **options)
            try:
                yield server, client
            finally:
                await half.close(client)

    @contextlib.asynccontextmanager
    async def held_stream(self, half: Half, streaming: StreamForm, capture: Capture) -> AsyncGenerator[Any]:
        """A stream of which some text has been read; the provider waits before the rest."""
        held = threading.Event()
        async with self.talking(half, reply(ANSWER, hold=held, hold_after=streaming.cut)) as (_, client):
            holder = [await half.settle(streaming.open(client, self.question("hi")))]
            text = ""
            while not text:
                text = streaming.text_of(await half.following(holder[0]))
            assert capture.spans == ()
            yield holder.pop()
            held.set()


def _always(request: Request) -> Answer:
    return reply(ANSWER)
