"""What is under contract: the hooks that a subclass supplies, and what all promises stand on.

A promise is a file beside this one; here nothing is tested. What is promised of any call stands on a `CallSubject`,
what is promised of a model's on a `Subject`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from spanrelay.instrumentation.instrumentor import Instrumentor
from spanrelay.semconv import names
from spanrelay_testkit import capture as spans
from spanrelay_testkit.capture import APP, Capture, scope_of
from spanrelay_testkit.exchange import Answer, Request, reply
from spanrelay_testkit.half import Form, Half, StreamForm
from spanrelay_testkit.model_server import ModelServer

ANSWER = '{"answer": "blue like the sea"}'
"""What the model says in most tests; it fits the structured outputs of the `parse` forms."""


class CallSubject:
    """What makes calls, of a model or of anything else: whoever answers says `ANSWER`, and notes what was asked."""

    instrumentor: ClassVar[type[Instrumentor]]
    halves: ClassVar[Mapping[str, Half]] = {"sync": Half(asynchronous=False), "async": Half(asynchronous=True)}
    """Those that the SDK has."""
    forms: ClassVar[Mapping[str, Form]]
    """Every way of asking for one answer, by name."""
    secretive: ClassVar[tuple[Any, ...]] = ()
    """Answers, for `talking`, that say `secretly` beside the rest."""
    always_told: ClassVar[str]
    """An attribute that the span of a call has also without content."""
    judged: ClassVar[int] = 1
    """How often policy judges a call: once more where whoever answers is under policy too, out of its context."""

    def question(self, text: str) -> Any:
        """Return what asks `text`, as the SDK takes it."""
        raise NotImplementedError

    def call(self, client: Any, question: Any, /) -> Any:
        """Ask for a whole answer."""
        raise NotImplementedError

    def bound_call(self, client: Any) -> Callable[[Any], Any]:
        """Return `question -> answer` over a bound method that is looked up now."""
        raise NotImplementedError

    def talking(self, half: Half, *answers: Any, **options: Any) -> contextlib.AbstractAsyncContextManager[Any]:
        """Return a server, whose `requests` each have a `last_user_text`, and a client of it, to be entered."""
        raise NotImplementedError

    def under_transport(self, client: Any, capture: Capture) -> contextlib.AbstractAsyncContextManager[None]:
        """Open a span `http` of the application's wherever a request is sent."""
        raise NotImplementedError

    def calls_of(self, capture: Capture) -> list[ReadableSpan]:
        """Return the spans of calls that this side has made: all there are but the application's own."""
        return [span for span in capture.spans if scope_of(span) != APP]

    def call_of(self, capture: Capture) -> ReadableSpan:
        """Return the one there is."""
        [span] = self.calls_of(capture)
        return span

    def asked(self, span: ReadableSpan) -> str:
        """Return what was asked, as the span tells it."""
        raise NotImplementedError

    def said(self, span: ReadableSpan) -> str:
        """Return the answer, as the span tells it."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for each half, and for each form where it asks for one."""
        if "half" in metafunc.fixturenames:
            metafunc.parametrize("half", list(self.halves.values()), ids=list(self.halves))
        if "form" in metafunc.fixturenames:
            metafunc.parametrize("form", list(self.forms.values()), ids=list(self.forms))

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


class Subject(CallSubject):
    """An SDK that asks models: derive, supply the hooks, and every test runs for sync and async."""

    streams: ClassVar[Mapping[str, StreamForm]]
    """Every kind of stream that is handed out as an iterator with `close()`, by name."""
    cancelled_by: ClassVar[tuple[type[BaseException], ...]] = (asyncio.CancelledError,)

    leaves_failed_streams: ClassVar[bool] = False
    """Whether the SDK leaves a stream that failed for the garbage collector to close."""
    secretive: ClassVar[tuple[Any, ...]] = (reply(ANSWER, reasoning="secretly"),)
    always_told: ClassVar[str] = names.FINISH_REASONS

    def open_client(self, half: Half, url: str, **options: Any) -> Any:
        """Return a client; `options` may hold `timeout` (seconds) and `max_retries` (0 unless given)."""
        raise NotImplementedError

    def question(self, text: str) -> list[Any]:
        """Return the messages that ask `text`."""
        raise NotImplementedError

    def call(self, client: Any, messages: Any, **options: Any) -> Any:
        """Ask for a whole answer; `options` are arguments of the SDK's method."""
        raise NotImplementedError

    def embed(self, client: Any, texts: Sequence[str]) -> Any:
        """Ask for embeddings."""
        raise NotImplementedError

    def list_models(self, client: Any) -> Any:
        """Make a request that is no inference."""
        raise NotImplementedError

    def asked(self, span: ReadableSpan) -> str:
        """Return what the model was asked."""
        return spans.asked(span)

    def said(self, span: ReadableSpan) -> str:
        """Return what the model said."""
        return spans.said(span)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for each stream too, where it asks for one."""
        super().pytest_generate_tests(metafunc)
        if "streaming" in metafunc.fixturenames:
            metafunc.parametrize("streaming", list(self.streams.values()), ids=list(self.streams))

    @contextlib.asynccontextmanager
    async def under_transport(self, client: Any, capture: Capture) -> AsyncGenerator[None]:
        """Open the span in the HTTP client's own hook, where the real call is being made."""
        hooks = client._client.event_hooks
        asynchronous = asyncio.iscoroutinefunction(client._client.send)

        def note(request: Any) -> None:
            capture.tracer().start_span("http").end()

        async def anote(request: Any) -> None:
            note(request)

        client._client.event_hooks = {**hooks, "request": [anote if asynchronous else note]}
        yield

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
