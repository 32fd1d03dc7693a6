"""Opens and closes the span of a scope or a call, and hands what it recorded to the span processor.

Nothing here reads a payload: that is done later, on another thread, by whoever reads the span first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from threading import get_ident
from time import time_ns
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import WeakSet, WeakValueDictionary

from opentelemetry import trace
from opentelemetry.context import _RUNTIME_CONTEXT, _SUPPRESS_INSTRUMENTATION_KEY, Context, attach, detach, get_current
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    set_span_in_context,
)

from spanrelay import semconv
from spanrelay._guard import guarded, losses, pass_on, swallow
from spanrelay._json import clean_text
from spanrelay.records import JSON, ErrorInfo, Kind, SpanRecord
from spanrelay.semconv import names, span_names
from spanrelay.semconv.names import AttributeValue
from spanrelay.semconv.values import clean_attributes
from spanrelay.stacktraces import cut, stacktrace_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider as SDKProvider


class Recorded(Protocol):
    """What a scope or a call hands over when its span ends."""

    record: SpanRecord

    @property
    def scope(self) -> Any:
        """The `Scope` whose observers see the record: the scope itself, or the one around the call, if any."""
        ...

    @property
    def size(self) -> int:
        """Bytes of payload that are kept until somebody reads the record."""
        ...

    def show(self) -> None:
        """Code of the application's will see the record: nothing of it may be anybody else's."""
        ...

    def shorten(self) -> None:
        """Keep less payload for the same record, where that is possible: much is waiting."""
        ...

    def elapsed(self) -> int:
        """Nanoseconds since it began."""
        ...

    def complete(self) -> None:
        """Read the payload into `record`. Called once, under a lock, on any thread."""
        ...

    def forget_content(self) -> None:
        """Drop the payload and keep the record: memory is short."""
        ...


handed_over: dict[int, Recorded] = {}
"""By span id: what was recorded for spans that are ending. The span processor takes each out in `on_end`."""


starting: dict[int, Start] = {}
"""By thread: what a span starts with that is being started without attributes. Our span processor takes it out in
`on_start`, before any other processor."""


class Recording:
    """How this process records: the exporters' dialect, and whether message content may leave it."""

    __slots__ = (
        "chains",
        "checkpoints",
        "content",
        "dialect",
        "fills",
        "finish",
        "mark",
        "price",
        "propagate",
        "schema_url",
        "stands_down",
        "tells_again",
        "trajectory",
        "unrecorded",
    )

    def __init__(self, dialect: str = "genai", *, content: bool = False) -> None:
        self.dialect = dialect
        self.content = content
        self.stands_down: Callable[[str], bool] | None = None
        """Whether the events that an instrumentation of this name writes of calls are left out, as its spans are."""
        self.schema_url = names.SCHEMA_URLS[names.CONVENTION]
        """What the names of attributes are by."""
        self.propagate = False
        """Whether requests to model providers carry `traceparent`."""
        self.chains = False
        """Whether each step of a framework's chains is recorded."""
        self.checkpoints = False
        """Whether calls of a framework's checkpointers are recorded."""
        self.unrecorded: Callable[[Recorded], None] | None = None
        """Takes calls whose span was not sampled: they still count in metrics."""
        self.fills: Callable[[Tracer], bool] | None = None
        """Whether a tracer of an adopted provider shows the attributes of a start to nobody before our processor."""
        self.finish: Callable[[Recorded], SpanRecord] | None = None
        """Returns a complete record as observers leave it, for spans of providers that are not adopted."""
        self.mark: Callable[[Span, Any, str, Mapping[str, Any], int | None], None] | None = None
        """Adds a mark to a span in a scope, if any, and tells observers at once."""
        self.tells_again: Callable[[str], bool] | None = None
        """Whether ours records the model calls of a tracer of others, given its name, on spans of their own."""
        self.trajectory: Callable[[Any, float | None], dict[str, JSON]] | None = None
        """Returns the trajectory that a scope is told of in, within some seconds."""
        self.price: Callable[[SpanRecord], None] | None = None
        """Gives the response of a complete record its cost, where the provider did not say it."""


recording = Recording()
"""What `activate()` settled."""

_variable: Any = getattr(_RUNTIME_CONTEXT, "_current_context", None)
_current: tuple[Any, Any, Any] = (
    (_variable.get, _variable.set, _variable.reset)
    if isinstance(_variable, ContextVar)
    else (get_current, attach, detach)
)
current_context: Callable[[], Context] = _current[0]
attach_within: Callable[[Context], Any] = _current[1]
detach_within: Callable[[Any], object] = _current[2]
"""OpenTelemetry's own `get_current`, `attach` and `detach`, without the two calls that each takes to the variable: a
call of a model asks several times, and a stream has hundreds of chunks. The last two only for what surely ends in the
context in which it began: not for coroutines, which may be closed elsewhere."""

SPAN_KEY = next(iter(set_span_in_context(INVALID_SPAN, Context())))
"""Under which a context holds its span: what puts something else there too need not copy the context twice."""
heard: set[str] = set()
"""The tracers of others, by name, whose spans our span processor has seen the start of: where there is none, none of
their spans waits for a call of ours."""

_FILLING = "_spanrelay_filling"
_offered: WeakValueDictionary[int, Span] = WeakValueDictionary()
"""Spans of other instrumentation, by span id."""
_MODEL_OF: dict[Kind, str] = {"llm": names.OI_MODEL, "embedder": names.OI_EMBEDDING_MODEL}


class Filling:
    """What a span of other instrumentation remembers of the call of ours that it was opened for, and that fills it.

    `above` is the span of other instrumentation around it, `recorded` the call once it is over; `told_elsewhere` where
    another span tells of that call. `asked` is when a model was last asked right beneath it by a call that fills none.
    """

    __slots__ = ("_turn", "above", "asked", "recorded", "told_elsewhere")

    def __init__(self, above: Span | None) -> None:
        self.above = above
        self._turn = [True]
        self.recorded: Recorded | None = None
        self.told_elsewhere = False
        self.asked = 0

    @property
    def free(self) -> bool:
        """Whether a call may fill the span: none has, or the one that did has failed and is made again."""
        return bool(self._turn) and self._is_untold

    @property
    def taken(self) -> bool:
        """Whether a call is under way that fills the span."""
        return not self._turn

    @property
    def _is_untold(self) -> bool:
        recorded = self.recorded
        return recorded is None or recorded.record.error is not None

    def claim(self) -> bool:
        """Take the turn to fill the span, unless a call on another thread was faster."""
        try:
            self._turn.pop()
        except IndexError:
            return False
        if not self._is_untold:
            self.give_back()
            return False
        return True

    def give_back(self) -> None:
        """Let the next call have its turn, should it be made again."""
        self._turn[:] = [True]


_ENDS_BEFORE = "com.anthropic.sdk.python"
"""Begins the names of tracers of an SDK that ends the span of a call before the call itself has ended."""


def offer(span: Span, context: Context | None) -> None:
    """Let the first call of ours beneath a span of other instrumentation fill it, should it be of the same kind."""
    scope: Any = getattr(span, "_instrumentation_scope", None)
    name = "" if scope is None else scope.name
    heard.add(name)
    if name.startswith(_ENDS_BEFORE):
        return
    setattr(span, _FILLING, Filling(_current_of_others(context)))
    _offered[span.get_span_context().span_id] = span


def take(kind: Kind, context: Context) -> Span | None:
    """Return the span of `context` where other instrumentation opened it for the very call that begins; it ends it.

    Of several, one in another, it is the outermost, and the others are left out of what is exported.
    """
    around = _opened_by_others(kind, context)
    if not around:
        above: Filling | None = getattr(_current_of_others(context), _FILLING, None)
        if above is not None and kind == "llm":
            above.asked = time_ns()
        return None
    span, filling = around[-1]
    if not filling.claim():
        return None
    for _, inner in around[:-1]:
        inner.told_elsewhere = True
    return span


def leave_out(kind: Kind, context: Context) -> None:
    """Leave out what other instrumentation opened between a framework's call of ours and the provider's beneath."""
    for _, filling in _opened_by_others(kind, context):
        filling.told_elsewhere = True


def _opened_by_others(kind: Kind, context: Context) -> list[tuple[Span, Filling]]:
    """Return the spans around `context`, innermost first, that wait for a call of `kind`."""
    found: list[tuple[Span, Filling]] = []
    span = _current_of_others(context)
    filling: Filling | None = getattr(span, _FILLING, None)
    while filling is not None and filling.free and _is_open(span, kind):
        found.append((cast("Span", span), filling))
        span = filling.above
        filling = getattr(span, _FILLING, None)
    return [] if found and _is_suppressed(context) else found


def _current_of_others(context: Context | None) -> Span | None:
    """Return the current span if other instrumentation opened it."""
    span = trace.get_current_span(context)
    if hasattr(span, _FILLING):
        return span
    # A tracer that stands down makes the span above current again, without its object.
    return None if span is trace.INVALID_SPAN or span.is_recording() else _offered.get(span.get_span_context().span_id)


def _is_open(span: Any, kind: Kind) -> bool:
    # The SDK's own dict: its mapping takes a lock for each look, and there are several.
    attributes = span._attributes._dict
    found = semconv.kind_of(attributes)
    # OpenInference keeps the kind of some spans back until they end
    if found is None and (_MODEL_OF.get(kind) in attributes or (kind == "llm" and _asks_model(span))):
        found = kind
    return found == kind and span.is_recording()


def fill(span: Span, recorded: Recorded) -> None:
    """Keep what the call recorded that took `span`, until its owner ends it."""
    filling: Filling = getattr(span, _FILLING)
    if span.is_recording():
        filling.recorded = recorded
    else:
        losses.add("model calls that went on after other instrumentation had ended their span")
    filling.give_back()


def hand_over_filling(span: Any) -> bool:
    """Hand over what fills `span`, which its owner ends; return whether it is a span to export.

    An attempt that raised says nothing of a call that its owner got over. A failure that an answer tells of was raised
    to nobody, so that the owner may have called it a success.
    """
    filling: Filling | None = getattr(span, _FILLING, None)
    if filling is None:
        return True
    # Work that goes on holds its span for long: what is around that, or fills it, is not to live as long.
    recorded, above, filling.recorded, filling.above = filling.recorded, filling.above, None, None
    if recorded is None:
        told = _is_told_beside(span, above)
        if told or filling.taken:  # another span tells, or will tell, of the answer
            span._attributes._dict[names.OI_KIND] = "CHAIN"
            return not told
        return not (filling.told_elsewhere or _is_told_again(span))
    error = recorded.record.error
    if error is not None and span.status.status_code is not StatusCode.ERROR:
        if error.stacktrace is not None:
            return True
        # The span has ended for its owner, whose success would be final.
        span._status = _status_of(error)
    handed_over[span.get_span_context().span_id] = recorded
    return True


def _is_told_again(span: Any) -> bool:
    tells_again = recording.tells_again
    return (
        tells_again is not None
        and tells_again(span.instrumentation_scope.name)
        and semconv.kind_of(span._attributes._dict) == "llm"
    )


def _is_told_beside(span: Any, above: Span | None) -> bool:
    """Whether a call of ours tells of the answer that was streamed only after `span` was current no more."""
    around: Filling | None = getattr(above, _FILLING, None)
    return around is not None and around.asked > span.start_time and _asks_model(span)


def _asks_model(span: Any) -> bool:
    return span_names.asks_model(span.instrumentation_scope.name, span.name)


_adopted: dict[int, TracerProvider] = {}
_CLIENT_KINDS = frozenset({"llm", "embedder", "retriever", "reranker"})


def adopt(provider: TracerProvider) -> None:
    """Remember that a span processor of ours stands in front of all others of `provider`."""
    _adopted[id(provider)] = provider
    _look_again()


def abandon(provider: TracerProvider) -> None:
    """Forget what `adopt` remembered."""
    _adopted.pop(id(provider), None)
    _look_again()


def _look_again() -> None:
    for tracing in list(_tracings):
        tracing.look_again()


def is_seen(span: Span) -> bool:
    """Whether a span processor of ours sees the end of `span`, whoever has started it."""
    processor = getattr(span, "_span_processor", None)
    return any(processor is getattr(provider, "_active_span_processor", None) for provider in _adopted.values())


def is_adopted(provider: TracerProvider) -> bool:
    """Whether a span processor of ours sees the spans of `provider` first."""
    return id(provider) in _adopted


_UNKNOWN = object()
_SPAN_ID = 1
"""Where it stands in a `SpanContext`, which is a tuple."""
_named: list[SDKProvider] = []
_tracings: WeakSet[Tracing] = WeakSet()


def named_provider() -> SDKProvider | None:
    """Return the provider that records what was given none of its own: the one named last; None is the global one."""
    return _named[-1] if _named else None


def write_by(convention: str) -> None:
    """Let spans say from now on by which version of OpenTelemetry's GenAI conventions they are written."""
    url = names.SCHEMA_URLS[convention]
    if url != recording.schema_url:
        recording.schema_url = url
        turn_all()


def name_provider(provider: SDKProvider) -> None:
    """Let `provider` record what was given none of its own, from now on and until it is no longer named."""
    forget_provider(provider)
    _named.append(provider)
    turn_all()


def forget_provider(provider: SDKProvider) -> None:
    """Let the provider that was named before it record again, or else the global one."""
    if any(each is provider for each in _named):
        _named[:] = [each for each in _named if each is not provider]
        turn_all()


def turn_all() -> None:
    """Ask the provider that is in force for every tracer anew."""
    for tracing in list(_tracings):
        tracing.turn()


class Start:
    """What a span starts with. It is the same for many calls and made once for them: nobody changes it."""

    __slots__ = ("attributes", "kind", "name", "plain")

    def __init__(self, record: SpanRecord) -> None:
        self.name = clean_text(record.name)
        self.kind = SpanKind.CLIENT if record.kind in _CLIENT_KINDS else SpanKind.INTERNAL
        attributes = semconv.write_start(record, recording.dialect)
        if record.server_address is not None:
            attributes[names.SERVER_ADDRESS] = record.server_address
            if record.server_port is not None:
                attributes[names.SERVER_PORT] = record.server_port
        self.attributes: Mapping[str, AttributeValue] = clean_attributes(attributes)
        self.plain = _is_plain(self.attributes)
        """Whether a span can hold the attributes as they are: there are no lists among them."""

    @classmethod
    def of(cls, name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue]) -> Start:
        """Return the start of a span whose name and attributes are clean already."""
        start = object.__new__(cls)
        start.name, start.kind, start.attributes = name, kind, attributes
        start.plain = _is_plain(attributes)
        return start

    def within(self, handed: Mapping[str, AttributeValue]) -> Start:
        """Return this start with what the scope around hands down."""
        if not handed:
            return self
        other = object.__new__(Start)
        other.name, other.kind, other.attributes = self.name, self.kind, {**self.attributes, **handed}
        other.plain = self.plain and _is_plain(handed)
        return other


_PLAIN = frozenset((str, bool, int, float))


def _is_plain(attributes: Mapping[str, AttributeValue]) -> bool:
    return _PLAIN.issuperset(map(type, attributes.values()))


class Tracing:
    """A tracer, and how its spans get what was recorded.

    With an adopted provider the span processor projects the record when somebody first reads the span.
    Elsewhere it is projected onto the span just before it ends.
    """

    __slots__ = ("__weakref__", "_deaf", "_name", "_provider", "_version", "tracer")

    def __init__(self, name: str, version: str | None = None, provider: TracerProvider | None = None) -> None:
        self._name = name
        self._version = version
        self.use(provider)
        _tracings.add(self)

    def use(self, provider: TracerProvider | None) -> None:
        """Open spans with `provider` from now on; None is the one that `activate()` was given, else the global one."""
        self._provider = provider
        self.turn()

    def turn(self) -> None:
        """Ask the provider that is in force for a tracer."""
        provider = self._provider or named_provider()
        self.tracer: Tracer = trace.get_tracer(self._name, self._version, provider, recording.schema_url)
        self.look_again()

    def look_again(self) -> None:
        """Ask again who looks at what spans start with."""
        self._deaf: object = _UNKNOWN
        """The sampler with which `_fills` is known to be true."""

    @property
    def adopted(self) -> bool:
        """Whether a span processor of ours will see the spans of this tracer first."""
        provider = self._provider or (_named[-1] if _named else None) or trace.get_tracer_provider()
        return id(provider) in _adopted  # without a call: this is asked twice a span

    def open(self, record: SpanRecord, context: Context, time: int | None = None) -> Span:
        """Start the span of `record` under `context`; `time` is in nanoseconds since the epoch."""
        return self.begin(Start(record), context, time)

    def begin(self, start: Start, context: Context, time: int | None = None) -> Span:
        """As `open`, for what is known of the span already."""
        # As `_is_suppressed`, without the call.
        if context.get(_SUPPRESS_INSTRUMENTATION_KEY) or context.get("suppress_instrumentation"):
            return trace.INVALID_SPAN
        tracer = self.tracer
        try:
            if not start.plain or (getattr(tracer, "sampler", None) is not self._deaf and not self._fills()):
                return tracer.start_span(start.name, context, start.kind, start.attributes, start_time=time)
            # Our span processor fills it: the SDK would clean again what is clean.
            thread = get_ident()
            starting[thread] = start
            try:
                span = tracer.start_span(start.name, context, start.kind, start_time=time)
            finally:
                left = starting.pop(thread, None)
            if left is not None and type(span) is not NonRecordingSpan and span.is_recording():
                # Our processor was not asked.
                span.set_attributes(start.attributes)
            return span
        except Exception as error:
            # A sampler or processor of somebody else's; the call goes on without a span.
            swallow("starting a span", error)
            return trace.INVALID_SPAN

    def _fills(self) -> bool:
        """Whether our span processor fills the spans of this tracer before anybody looks at what they start with."""
        fills = recording.fills
        if fills is None or not self.adopted or not fills(self.tracer):
            return False
        self._deaf = cast("Any", self.tracer).sampler
        return True

    def close(self, span: Span, recorded: Recorded, end: int | None = None) -> None:
        """End `span` with everything that `recorded` says."""
        if not span.is_recording():
            if recording.unrecorded is not None and span is not trace.INVALID_SPAN:
                recording.unrecorded(recorded)
            return
        record = recorded.record
        if self._deaf is not _UNKNOWN or self.adopted:
            identity: Any = getattr(span, "_context", None) or span.get_span_context()  # three calls, each span
            handed_over[identity[_SPAN_ID]] = recorded
        else:
            record = _project_now(span, recorded)
        error = record.error
        if error is not None:
            fail(span, error)
        try:
            span.end(end)
        except Exception as problem:  # of somebody else's processor, where none of ours stands in front of it
            swallow("ending a span", problem)


def _is_suppressed(context: Context) -> bool:
    return bool(context.get(_SUPPRESS_INSTRUMENTATION_KEY) or context.get("suppress_instrumentation"))


def is_read(span: Span) -> bool:
    """Whether anybody reads what is recorded of a call with this span."""
    if type(span) is not NonRecordingSpan and span.is_recording():  # the type says it without a call
        return True
    return recording.unrecorded is not None and span is not trace.INVALID_SPAN


_default: list[Tracing] = []


def default_tracing() -> Tracing:
    """The tracer of spans that no instrumentor opens: `scope(...)` and the managed API."""
    if not _default:
        _default.append(Tracing("spanrelay"))
    return _default[0]


def complete(recorded: Recorded) -> SpanRecord:
    """Read the kept payload into the record, price the answer, and return the record."""
    recorded.complete()
    record = recorded.record
    if record.session_id is None:
        record.session_id = record.kept_conversation  # before sanitizers see it
    price(record)
    return record


def price(record: SpanRecord) -> None:
    """Price the response of a complete record, where somebody knows prices."""
    if recording.price is not None:
        with guarded("pricing an answer"):
            recording.price(record)


def _project_now(span: Span, recorded: Recorded) -> SpanRecord:
    """Put the record onto the span, and return it as observers leave it."""
    record = SpanRecord(0, 0, error=ErrorInfo("error") if recorded.record.error is not None else None)
    with guarded("projecting a record onto a span"):
        if recording.finish is not None:
            recorded.show()
        complete(recorded)
        record = recorded.record if recording.finish is None else recording.finish(recorded)
        if record is not recorded.record:
            span.update_name(clean_text(record.name))
            gone = semconv.write_start(recorded.record, recording.dialect).keys()
            span.set_attributes(dict.fromkeys(gone - semconv.write_start(record, recording.dialect).keys(), ""))
            span.set_attributes(clean_attributes(semconv.write_start(record, recording.dialect)))
        span.set_attributes(clean_attributes(semconv.write(record, recording.dialect, content=recording.content)))
    return record


def fail(span: Span, error: ErrorInfo) -> None:
    """Give `span` the status of `error`, and where it is an exception the event of it that OpenTelemetry has for it."""
    span.set_status(_status_of(error))
    if error.stacktrace is None:
        return
    told = {names.EXCEPTION_TYPE: clean_text(error.type)}
    if recording.content:
        told[names.EXCEPTION_MESSAGE] = clean_text(cut(error.message))
        if error.stacktrace:
            told[names.EXCEPTION_STACKTRACE] = clean_text(error.stacktrace)
    error.stacktrace = ""  # the event has it, and sanitizers see it there
    span.add_event(names.EXCEPTION_EVENT, told)


def _status_of(error: ErrorInfo) -> Status:
    return Status(StatusCode.ERROR, clean_text(error.message or error.type))


def _told_by_aws(response: Any) -> tuple[Any, Any]:
    """Return code and HTTP status of the answer that botocore's errors have, which is a dict; of others nothing."""
    if type(response) is not dict:
        return None, None
    told: dict[str, Any] = response
    error, metadata = told.get("Error"), told.get("ResponseMetadata")
    code = error.get("Code") if isinstance(error, dict) else None
    return code, metadata.get("HTTPStatusCode") if isinstance(metadata, dict) else None


def _code_of(error: BaseException) -> Any:
    """Return the provider's code: the exception's own, or the one in the body that it came with."""
    # Where it is computed it is an older name, and asking warns: of aiohttp's and websockets' errors.
    is_computed = isinstance(getattr(type(error), "code", None), property)
    code, body = None if is_computed else getattr(error, "code", None), getattr(error, "body", None)
    if code is not None or type(body) is not dict:
        return code
    told = body.get("error", body)
    return told.get("code") if type(told) is dict else None


def _http_status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception has, or the answer that it holds; that of a stream's is no failure's."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status
    try:
        response = getattr(error, "response", None)
        told = (getattr(response, name, None) for name in ("status_code", "status"))
        return next((status for status in told if type(status) is int and status >= 400), None)
    except Exception as failure:  # code of the application's own
        pass_on(failure)
        return None


def describe_error(error: BaseException) -> ErrorInfo:
    """Return what is recorded of an exception: qualified type, message, HTTP status where it has one."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    code, status = _code_of(error), _http_status_of(error)
    if status is None and code is None:
        code, status = _told_by_aws(getattr(error, "response", None))
    try:
        message = str(error)
    except Exception as failure:
        pass_on(failure)
        message = ""
    return ErrorInfo(
        name,
        message,
        str(code) if type(code) in (str, int) else None,
        status if isinstance(status, int) else None,
        stacktrace_of(error, name, message) if recording.content else "",
    )
