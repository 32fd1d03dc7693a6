"""Start and end by hand, for frameworks that own the call: recorded like any other, without policy.

What is started is not current until somebody says so: `with started.current(): ...`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, TypeAlias, cast

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, set_span_in_context

from spanrelay import _json, codecs
from spanrelay.codecs import Codec
from spanrelay.pipeline.call import Boundary, Call, Opened
from spanrelay.pipeline.function import ToolExecution
from spanrelay.pipeline.managed import check_tool, check_wire
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.typed import as_json
from spanrelay.records import JSON, AgentInfo, Kind, ToolRequest
from spanrelay.scopes import Scope, place_now, scope
from spanrelay.tracing import Start, default_tracing, describe_error

Parent: TypeAlias = "Started | Scope | Span | SpanContext | Context | None"
"""Below what something starts: anything with a span, or a context; None is the current context."""


_NOBODY = cast("Boundary", None)
"""Nobody is called: the framework does it."""


class Started:
    """Something that has started and is ended by hand, once. `context` is what its own work is to run in."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._ended = False

    @property
    def span(self) -> Span:
        """Its span."""
        raise NotImplementedError  # pragma: no cover - each kind has its own

    @contextmanager
    def current(self) -> Generator[Context]:
        """Make it current for the block, so that what starts there is below it. Not around a `yield`."""
        token = attach(self.context)
        try:
            yield self.context
        finally:
            detach(token)

    def _end_once(self) -> None:
        if self._ended:
            raise RuntimeError("it has already ended; call `end()` once")
        self._ended = True


class StartedTool(Started):
    """An execution of a tool that a framework runs."""

    def __init__(self, call: ToolExecution, context: Context) -> None:
        super().__init__(context)
        self._call = call

    @property
    def span(self) -> Span:
        """The tool's span."""
        return self._call.span

    def end(
        self,
        result: object = None,
        *,
        error: BaseException | None = None,
        annotation: JSON = None,
        time: datetime | None = None,
    ) -> None:
        """End the span with what the tool gave, or with what it raised.

        Args:
            result: What the tool gave, of any type.
            error: What it raised instead.
            annotation: JSON about the result, for readers of the trace and not for the model.
            time: When it ended, with a time zone; now by default.

        Raises:
            RuntimeError: it has been ended already.
            TypeError, ValueError: `time` is not a `datetime`, or has no time zone.
        """
        end = nanoseconds(time)
        self._end_once()
        if error is None:
            self._call.gave(result)
        else:
            self._call.record.error = describe_error(error)
        self._call.annotation = as_json(annotation)
        self._call.finish(end)


class StartedModel(Started):
    """A call of a model that a framework makes."""

    def __init__(self, call: ModelCall, context: Context) -> None:
        super().__init__(context)
        self._call = call

    @property
    def span(self) -> Span:
        """The call's span."""
        return self._call.span

    def end(self, response: object = None, *, error: BaseException | None = None, time: datetime | None = None) -> None:
        """End the span with the provider's answer, JSON or an object that has a JSON form, or with an error.

        Raises:
            RuntimeError: it has been ended already.
            TypeError, ValueError: `time` is not a `datetime`, or has no time zone.
        """
        end = nanoseconds(time)
        self._end_once()
        if response is not None and self._call.observed:
            self._call.body = _json.dumps(response)
        if error is not None:
            self._call.record.error = describe_error(error)
        self._call.finish(end)


class StartedScope(Started):
    """A scope whose beginning and end are not in one block."""

    def __init__(self, entered: Scope, context: Context) -> None:
        super().__init__(context)
        self.scope = entered
        """The scope itself, for `use(...)` and `mark(...)`."""

    @property
    def span(self) -> Span:
        """The scope's span."""
        return self.scope.span  # pyright: ignore[reportReturnType] - it has been opened

    def end(self, output: object = None, *, error: BaseException | None = None, time: datetime | None = None) -> None:
        """End the span, and take back what was registered for the scope.

        Raises:
            RuntimeError: it has been ended already.
            TypeError, ValueError: `time` is not a `datetime`, or has no time zone.
        """
        end = nanoseconds(time)
        self._end_once()
        if output is not None:
            self.scope.record.output = _json.loads(_json.dumps(output))
        self.scope.close(error, end)


def start_tool(
    name: str,
    arguments: object = None,
    *,
    call_id: str | None = None,
    description: str | None = None,
    parent: Parent = None,
    time: datetime | None = None,
) -> StartedTool:
    """Record that a tool has started; call `end(...)` on what this returns.

    Args:
        name: The tool's name.
        arguments: What it was given, of any type.
        call_id: The model's id of the call, which ties the result to it in the trajectory.
        description: What the tool does.
        parent: Below what it runs; the current context by default.
        time: When it started, with a time zone; now by default.

    Raises:
        TypeError: `name` is not a string.
        TypeError, ValueError: `time` is not a `datetime`, or has no time zone.
    """
    check_tool(name)
    call = ToolExecution(ToolRequest(name, arguments, call_id, description), _NOBODY, default_tracing())
    context = _opened(call, parent, time)
    call.begin(arguments)
    return StartedTool(call, context)


def start_model(
    request: Mapping[str, Any],
    *,
    codec: str | Codec = "openai_chat",
    provider: str = "openai",
    parent: Parent = None,
    time: datetime | None = None,
) -> StartedModel:
    """Record that a model call has started; call `end(response)` on what this returns.

    Args:
        request: The provider's JSON.
        codec: The wire API that request and response speak, by name.
        provider: `gen_ai.provider.name`.
        parent: Below what it runs; the current context by default.
        time: When it started, with a time zone; now by default.

    Raises:
        TypeError: `request` is not a mapping.
        ConfigurationError: there is no such codec.
        TypeError, ValueError: `time` is not a `datetime`, or has no time zone.
    """
    wire_api = codecs.load(codec) if isinstance(codec, str) else codec
    check_wire(request, "the provider's JSON as a dict")
    call = ModelCall(wire_api, request, _NOBODY, default_tracing(), provider=provider)
    context = _opened(call, parent, time)
    if call.observed:
        call.sent = _json.dumps(request)
    return StartedModel(call, context)


def start_scope(
    name: str,
    kind: Kind = "agent",
    *,
    session: str | None = None,
    user: str | None = None,
    metadata: Mapping[str, JSON] | None = None,
    agent: AgentInfo | None = None,
    input: object = None,
    parent: Parent = None,
    time: datetime | None = None,
) -> StartedScope:
    """Open a scope without a block; call `end(...)` on what this returns. Arguments as `scope` and `start_tool`.

    Raises:
        TypeError, ValueError: `time` is not a `datetime`, or has no time zone.
    """
    outer, start = _context_of(parent), nanoseconds(time)
    token = attach(outer)
    try:
        entered = scope(name, kind, session=session, user=user, metadata=metadata, agent=agent).make()
    finally:
        detach(token)
    if input is not None:
        entered.record.input = _json.loads(_json.dumps(input))
    return StartedScope(entered, entered.open(default_tracing(), outer, start))


def _opened(call: Call, parent: Parent, started: datetime | None) -> Context:
    start = nanoseconds(started)
    token = attach(_context_of(parent))
    try:
        return call.open(Opened(call.tracing, Start(call.record), start))
    finally:
        detach(token)


def _context_of(parent: Any) -> Context:
    if parent is None:
        return place_now()
    if isinstance(parent, Started):
        return parent.context
    if isinstance(parent, Scope):
        return parent.within(place_now())
    if isinstance(parent, Context):
        return parent
    if isinstance(parent, SpanContext):
        return set_span_in_context(NonRecordingSpan(parent))
    if isinstance(parent, Span):
        return set_span_in_context(parent)
    raise TypeError(f"parent={parent!r} must be something started, a Scope, a Span, a SpanContext or a Context")


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def nanoseconds(moment: datetime | None) -> int | None:
    """Return `moment` in nanoseconds since the epoch, exact to the microsecond; None stays None.

    Raises:
        TypeError: it is no `datetime`.
        ValueError: it has no time zone.
    """
    if moment is None:
        return None
    if not isinstance(moment, datetime):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass text
        raise TypeError(f"time={moment!r} must be a datetime.datetime with a time zone")
    if moment.tzinfo is None:
        raise ValueError(f"time={moment!r} must be timezone-aware: which moment it is depends on the zone")
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
