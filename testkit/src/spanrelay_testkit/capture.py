"""What a test sees of the spans it causes: a provider with counted ids, adopted by SpanRelay, and its spans.

Nothing may be left behind: a span that never ended, a record that nobody took, a complaint of the SDK, an error
of ours that was swallowed, or policy that is still registered fails the test.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, cast

import pytest
from opentelemetry.context import Context, get_current
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import SpanContext

from spanrelay import _guard, tracing
from spanrelay.pipeline.middleware import registered, use
from spanrelay.records import SpanRecord
from spanrelay.registry import Handle
from spanrelay.semconv import names
from spanrelay.telemetry.front import put_in_front
from spanrelay.telemetry.processor import RelaySpanProcessor
from spanrelay.telemetry.projection import Ended
from spanrelay.tracing import default_tracing, recording

__all__ = ["Capture", "CountedIds", "at_work", "capture", "captured", "policy", "swallowing_fails_the_test"]

APP = "app"
"""The instrumentation scope of spans that the application makes itself."""
COLLECTED_IN_NO_TIME = 5_000
"""Objects that a collection may look at in vain."""


class CountedIds(IdGenerator):
    """Trace and span ids 1, 2, 3 …, each in its own row."""

    def __init__(self) -> None:
        self._traces = itertools.count(1)
        self._spans = itertools.count(1)

    def generate_trace_id(self) -> int:
        """The next trace id."""
        return next(self._traces)

    def generate_span_id(self) -> int:
        """The next span id."""
        return next(self._spans)


class Ledger(SpanProcessor):
    """Knows which spans have started, how often each has ended, and what was recorded behind each of ours."""

    def __init__(self) -> None:
        self.started: dict[int, str] = {}
        self.ended: Counter[int] = Counter()
        self.behind: dict[int, Ended] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Enter a span."""
        self.started[span.get_span_context().span_id] = span.name

    def on_end(self, span: ReadableSpan) -> None:
        """Tick it off."""
        span_id = cast("SpanContext", span.get_span_context()).span_id
        self.ended[span_id] += 1
        # The view lets go of this when it is read.
        ended = getattr(span._attributes, "_ended", None)
        if ended is not None:
            self.behind[span_id] = ended

    @property
    def open(self) -> list[str]:
        """The names of spans that have not ended."""
        return [name for span_id, name in list(self.started.items()) if not self.ended[span_id]]


class Complaints(logging.Handler):
    """What OpenTelemetry logs: ended twice, written after its end, a token of another context."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message, unless it only says that something is instrumented already."""
        if not record.name.startswith("opentelemetry.instrumentation"):
            self.said.append(record.getMessage())


class Capture:
    """The spans of one test.

    Args:
        dialect: Attribute dialect of the spans.
        content: Whether they carry message content.
        sampler: Decides which spans there are.
        adopted: Whether SpanRelay stands in front of the provider's processors.
    """

    def __init__(
        self, *, dialect: str = "genai", content: bool = True, sampler: Sampler = ALWAYS_ON, adopted: bool = True
    ) -> None:
        self.provider = TracerProvider(sampler=sampler, id_generator=CountedIds(), shutdown_on_exit=False)
        self.ledger = Ledger()
        self.relay = RelaySpanProcessor(dialect=dialect, content=content)
        self._exporter = InMemorySpanExporter()
        if adopted:
            put_in_front(self.relay, self.provider)
        self.provider.add_span_processor(self.ledger)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in that order."""
        return self._exporter.get_finished_spans()

    @property
    def span(self) -> ReadableSpan:
        """The one span there is."""
        names_of_spans = [span.name for span in self.spans]
        assert len(names_of_spans) == 1, f"expected one span, got {names_of_spans}; open: {self.ledger.open}"
        return self.spans[0]

    def of(self, kind: str) -> list[ReadableSpan]:
        """The spans of one OpenInference kind, `LLM` for instance."""
        return [span for span in self.spans if (span.attributes or {}).get(names.OI_KIND) == kind]

    def record(self, span: ReadableSpan) -> SpanRecord:
        """What was recorded behind a span of ours, before any dialect."""
        return self.ledger.behind[cast("SpanContext", span.get_span_context()).span_id].record

    def clear(self) -> None:
        """Forget the spans so far."""
        self._exporter.clear()
        self.ledger.behind.clear()

    def tracer(self) -> Any:
        """A tracer of the application's own."""
        return self.provider.get_tracer(APP)

    def check_nothing_is_left(self) -> None:
        """Fail when anything was left behind."""
        gc.collect()
        assert self.ledger.open == []
        assert [span_id for span_id, times in self.ledger.ended.items() if times > 1] == []
        assert tracing.handed_over == {}
        assert registered.entries == ()
        for span in self.spans:
            dict(span.attributes or {})
        assert self.relay.pending.size == 0


def scope_of(span: ReadableSpan) -> str | None:
    """Return the name of the instrumentation scope that made a span."""
    return span.instrumentation_scope.name if span.instrumentation_scope is not None else None


def text_of(messages: Any) -> str:
    """The text parts of a GenAI message attribute, joined; "" where there is none."""
    found: Sequence[dict[str, Any]] = json.loads(messages) if messages else []
    return "".join(part.get("content", "") for message in found for part in message["parts"] if part["type"] == "text")


def said(span: ReadableSpan) -> str:
    """What the model said, as the span tells it in GenAI."""
    return text_of((span.attributes or {}).get(names.OUTPUT_MESSAGES))


def asked(span: ReadableSpan) -> str:
    """What the model was asked, as the span tells it in GenAI."""
    return text_of((span.attributes or {}).get(names.INPUT_MESSAGES))


@contextlib.contextmanager
def captured(
    *, dialect: str = "genai", content: bool = True, sampler: Sampler = ALWAYS_ON, adopted: bool = True
) -> Generator[Capture]:
    """Record spans as `Capture` says, and check at the end that nothing is left."""
    capture = Capture(dialect=dialect, content=content, sampler=sampler, adopted=adopted)
    complaints = Complaints()
    logger = logging.getLogger("opentelemetry")
    settled = recording.dialect, recording.content
    own = default_tracing()
    before = own._provider
    recording.dialect, recording.content = dialect, content
    own.use(capture.provider)
    if adopted:
        tracing.adopt(capture.provider)
    logger.addHandler(complaints)
    try:
        yield capture
        capture.check_nothing_is_left()
        assert complaints.said == []
    finally:
        logger.removeHandler(complaints)
        recording.dialect, recording.content = settled
        own.use(before)
        tracing.abandon(capture.provider)
        tracing.handed_over.clear()


@pytest.fixture
def capture() -> Iterator[Capture]:
    """Spans in the GenAI dialect, with content."""
    with captured() as spans:
        yield spans


@pytest.fixture(autouse=True)
def only_what_tests_make_is_collected() -> None:
    """Leave what came to stay, as modules do, out of later collections: a check for leaks takes a hundredth."""
    if len(gc.get_objects(generation=2)) > COLLECTED_IN_NO_TIME:
        # It asks the collector who holds the random numbers of trio, and complains where it cannot see that.
        with contextlib.suppress(ImportError):
            importlib.import_module("hypothesis")
        gc.collect()
        gc.freeze()


def read_nothing(context: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
    """Stand in for what reads certificates."""


@pytest.fixture(autouse=True, scope="session")
def nobody_is_trusted() -> Iterator[None]:
    """Let no client read the certificates of this machine: it takes longer than a call, and no server has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_verify_locations", read_nothing)
        yield


@pytest.fixture(autouse=True)
def swallowing_fails_the_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """An error that our guard swallows fails the test; `@pytest.mark.swallows` is for tests about swallowing."""
    swallows = request.node.get_closest_marker("swallows") is not None
    _guard.losses.take()
    _guard.strict = not swallows
    yield
    _guard.strict = False
    lost = _guard.losses.take()
    assert swallows or lost == {}


@contextlib.contextmanager
def at_work(
    capture: Capture, *kinds: Callable[[], BaseInstrumentor], log: pytest.LogCaptureFixture | None = None
) -> Generator[Capture]:
    """Instrument for `capture` within the block, in which nothing may be logged to `log` nor stay current."""
    before = get_current()
    for kind in kinds:
        kind().instrument(tracer_provider=capture.provider)
    try:
        yield capture
    finally:
        for kind in kinds:
            kind().uninstrument()
    assert get_current() == before
    if log is not None:
        assert [record.getMessage() for record in log.records if record.levelname in ("WARNING", "ERROR")] == []


@pytest.fixture
def policy() -> Iterator[Callable[[Any], None]]:
    """Puts policy in force until the test is over."""
    handles: list[Handle] = []
    yield lambda entry: handles.append(use(entry))
    for handle in handles:
        handle.remove()
