"""Scope: where work belongs. A scope is a span plus what everything below it inherits, in the OTel Context.

Lives in the Context under one key, so whatever carries OTel context carries scopes; there is no second
ContextVar, and nothing here holds a context token across a yield of somebody else's generator.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextvars import Token
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, get_current_span, set_span_in_context

from spanrelay import semconv
from spanrelay._guard import guarded
from spanrelay._json import clean_text
from spanrelay.errors import MiddlewareError, TrajectoryUnavailable
from spanrelay.records import JSON, AgentInfo, Kind, SpanRecord, ToolRequest, ToolResult
from spanrelay.registry import Entry, Handle, Registry
from spanrelay.semconv.names import OI_KIND_OF_KIND, OPERATION_OF_KIND, AttributeValue, span_name
from spanrelay.semconv.values import clean_attributes, told_attributes, told_text
from spanrelay.tracing import SPAN_KEY, Tracing, current_context, default_tracing, describe_error, recording

F = TypeVar("F", bound=Callable[..., Any])

SCOPE_KEY = otel_context.create_key("spanrelay.scope")


def current_scope(context: Context | None = None) -> Scope | None:
    """Return the innermost scope of `context`, or of the current context; None outside of all scopes.

    A scope that has ended in another context than it began in, and could not be left, does not count.
    """
    scope: Any = (current_context() if context is None else context).get(SCOPE_KEY)
    while scope is not None and scope._strayed:
        scope = scope.parent
    return scope


def place_now() -> Context:
    """Return the current context without the scopes that have ended and could not be left.

    What opens a span of ours begins here. What others have put into the context since then stays.
    """
    context = current_context()
    scope: Any  # a `cast` is a call
    while (scope := context.get(SCOPE_KEY)) is not None and scope._strayed:
        context = scope._without(context)
    return context


def nearest_scope(kind: Kind) -> Scope | None:
    """Return the innermost scope of `kind` that is current, or None."""
    scope = current_scope()
    while scope is not None and scope.record.kind != kind:
        scope = scope.parent
    return scope


class Registrable(Protocol):
    """Middleware, or an observer."""

    def register(self, scope: Scope | None) -> Handle:
        """Register for `scope`, or for the process where it is None."""
        ...


class _Owners:
    """How many registries scopes have come to own: as long as it is the same, what a scope has found holds."""

    def __init__(self) -> None:
        self.count = 0
        self.free()

    def free(self) -> None:
        """Take a lock that nobody holds: a forked child has none of its parent's threads."""
        self.lock = threading.Lock()


_owners = _Owners()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_owners.free)


class Scope:
    """One entered scope. `span` is its span; `session_id`, `user_id` and `metadata` reach every span below."""

    __slots__ = (
        "_ended",
        "_handed",
        "_known",
        "_observation",
        "_observers",
        "_outer",
        "_policy",
        "_registry",
        "_strayed",
        "_token",
        "_tracing",
        "name",
        "parent",
        "record",
        "span",
        "started",
    )

    def __init__(self, record: SpanRecord, parent: Scope | None, name: str) -> None:
        self.record = record
        self.name = name
        """The name given to `scope(...)`."""
        self.parent = parent
        self.span: Span | None = None
        self._registry: Registry[Any] | None = None
        self._observers: Registry[Any] | None = None
        self._ended = False
        self._strayed = False
        self._outer: Context | None = None
        self._token: Token[Context] | None = None
        self._handed: tuple[SpanRecord, Mapping[str, AttributeValue]] | None = None
        self._tracing = default_tracing()
        self.started = time.perf_counter_ns()
        if parent is None:
            self._policy, self._observation, self._known = (), (), _owners.count
        else:
            if parent._known != _owners.count:
                parent._look_up()
            self._policy, self._observation, self._known = parent._policy, parent._observation, parent._known

    @property
    def registries(self) -> tuple[Registry[Any], ...]:
        """What is registered for calls in this scope, outer scopes first."""
        if self._known != _owners.count:
            self._look_up()
        return self._policy

    @property
    def observers(self) -> tuple[Registry[Any], ...]:
        """What is registered for records in this scope, outer scopes first."""
        if self._known != _owners.count:
            self._look_up()
        return self._observation

    def _look_up(self) -> None:
        """Find the registries of this scope and of those around it: an outer one may have got its first just now."""
        known = _owners.count
        policy: list[Registry[Any]] = []
        observation: list[Registry[Any]] = []
        place: Scope | None = self
        while place is not None:
            if place._registry is not None:
                policy.append(place._registry)
            if place._observers is not None:
                observation.append(place._observers)
            place = place.parent
        self._policy, self._observation = tuple(reversed(policy)), tuple(reversed(observation))
        self._known = known

    @property
    def agent_name(self) -> str:
        """The name of the agent where this is one, else of the scope."""
        agent = self.record.agent
        return (agent.name if agent is not None else None) or self.name

    @property
    def session_id(self) -> str | None:
        """The conversation this scope belongs to, its own or inherited."""
        return self.record.session_id

    @property
    def user_id(self) -> str | None:
        """The user this scope works for, its own or inherited."""
        return self.record.user_id

    @property
    def metadata(self) -> dict[str, JSON]:
        """The scope's metadata over what it inherits."""
        return self.record.metadata

    @property
    def handed(self) -> Mapping[str, AttributeValue]:
        """What the span of everything below starts with: the session, the user and the metadata. Nobody changes it."""
        record, place = self.record, self
        if record.session_id is None and record.user_id is None and not record.metadata:
            return _NOTHING
        while place.parent is not None and _is_of_one(record, place.parent.record):
            place = place.parent
        known = place._handed
        if known is None or not _is_of_one(record, known[0]):
            identity = inherit(SpanRecord(0, 0), place)
            known = place._handed = identity, clean_attributes(semconv.write_start(identity, recording.dialect))
        return known[1]

    @property
    def size(self) -> int:
        """Nothing of a scope is kept as bytes."""
        return 0

    def show(self) -> None:
        """A scope's record is its own."""

    def shorten(self) -> None:
        """There is nothing to shorten."""

    def elapsed(self) -> int:
        """Nanoseconds since the scope was made."""
        return time.perf_counter_ns() - self.started

    def complete(self) -> None:
        """A scope's record is complete when it ends."""

    def forget_content(self) -> None:
        """Drop a tool scope's arguments and result."""
        self.record.content = False

    def use(self, entry: Registrable) -> Handle:
        """Register middleware or an observer for this scope and everything below it; it goes when the scope ends.

        Raises:
            MiddlewareError: the scope has ended, so that it would never hold.
        """
        if self._ended:
            raise MiddlewareError(
                f"scope {self.name!r} has ended, so what is registered for it would have no effect; register while it "
                "is open, or for everything with spanrelay.use(...)"
            )
        return entry.register(self)

    def own(self, entry: Entry) -> Handle:
        """Register policy for calls in this scope and below."""
        with _owners.lock:
            if self._registry is None:
                self._registry = Registry[Any]()
                _owners.count += 1
        return self._registry.add(entry)

    def own_observer(self, entry: Entry) -> Handle:
        """Register an observer for what is recorded in this scope and below."""
        with _owners.lock:
            if self._observers is None:
                self._observers = Registry[Any]()
                _owners.count += 1
        return self._observers.add(entry)

    @property
    def scope(self) -> Scope:
        """The scope whose observers see its record: this one."""
        return self

    def mark(self, name: str, attributes: Mapping[str, JSON] | None = None, *, time: int | None = None) -> None:
        """Add a span event to this scope's span; subscribers are told at once.

        `time` is when it happened, in nanoseconds since the epoch as `time.time_ns()` gives them; by default, now.

        Raises:
            TypeError: `time` is not a whole number.
        """
        check_time(time)
        if self.span is not None:
            mark_span(self.span, self, name, attributes, time)

    def set_result(self, content: JSON, *, is_error: bool = False) -> None:
        """Record what a scope of kind `tool` gave."""
        self.record.result = ToolResult(content, is_error)

    def trajectory(self, timeout: float | None = 30.0) -> dict[str, JSON]:
        """Return the trajectory of the session, or trace, that this scope is of: the ATIF document so far.

        While the scope is open and after it has ended: it is `spanrelay.trajectory` for this scope.

        Args:
            timeout: Seconds to wait, at most, for what has ended already to be read; None waits as long as it takes.

        Raises:
            TypeError, ValueError: `timeout` is not a number of seconds, 0 or more, or None.
            TrajectoryUnavailable: there is none; the message says why.
        """
        if recording.trajectory is None:
            raise TrajectoryUnavailable(
                f"scope {self.name!r} has no trajectory: nothing is recorded; call spanrelay.activate() first"
            )
        return recording.trajectory(self, timeout)

    def open(self, tracing: Tracing, outer: Context, time: int | None = None) -> Context:
        """Start the span under `outer`, and return the context in which this scope is current."""
        self._tracing = tracing
        self.span = tracing.open(self.record, outer, time)
        return self.within(outer)

    def within(self, outer: Context) -> Context:
        """Return `outer` with this scope and its span current."""
        if self.span is None:
            return otel_context.set_value(SCOPE_KEY, self, outer)
        return Context({**outer, SPAN_KEY: self.span, SCOPE_KEY: self})  # the context is copied once

    def _without(self, context: Context) -> Context:
        """Return `context` as it would be without this scope around it."""
        outer = cast("Context", self._outer)
        if get_current_span(context) is self.span:
            context = set_span_in_context(get_current_span(outer), context)
        return otel_context.set_value(SCOPE_KEY, self.parent, context)

    def close(self, error: BaseException | None = None, time: int | None = None) -> None:
        """End the span, and take back what was registered."""
        if error is not None and not isinstance(error, GeneratorExit):
            self.record.error = describe_error(error)
        if self.span is not None:
            self._tracing.close(self.span, self, time)
        self.release()

    def release(self) -> None:
        """Take back what was registered: tasks that outlive the scope keep its context."""
        self._ended = True
        for registry in (self._registry, self._observers):
            if registry is not None:
                registry.clear()

    def _enter(self, outer: Context) -> Scope:
        self._outer = outer
        self._token = otel_context.attach(self.open(default_tracing(), outer))
        return self

    def _exit(self, error: BaseException | None) -> None:
        if self._token is not None:
            self._strayed = not _detach(self._token)
            self._token = None
        if not self._strayed:
            self._outer = None
        self.close(error)


def _detach(token: Token[Context]) -> bool:
    """Make the context before `token` current again; tell whether that was possible.

    It is not where an async generator that its consumer left is ended by the event loop, in a task of its own.
    OpenTelemetry's own `detach` would log an error with a traceback.
    """
    try:
        token.var.reset(token)
    except ValueError:
        return False
    return True


class scope:
    """Say where work belongs: `with scope("researcher", session="s-1"): ...`, `async with`, or a decorator.

    Opens a span of `kind`, makes it current, and hands `session`, `user` and `metadata` to every span below,
    our own and those of other instrumentation. Each use opens a span of its own.

    Args:
        name: What the work is called; for an agent its name, for a tool its name.
        kind: agent, chain, tool, llm, retriever, embedder, reranker, guardrail, evaluator or custom.
        session: Conversation id, `gen_ai.conversation.id` and `session.id`.
        user: User id, `user.id`.
        metadata: JSON-like values by name; merged over the enclosing scope's.
        agent: For kind agent, more about it than its name.
        arguments: For kind tool, what it was given.
        call_id: For kind tool, the model's id of the call.
    """

    def __init__(
        self,
        name: str,
        kind: Kind = "agent",
        *,
        session: str | None = None,
        user: str | None = None,
        metadata: Mapping[str, JSON] | None = None,
        agent: AgentInfo | None = None,
        arguments: JSON = None,
        call_id: str | None = None,
    ) -> None:
        if kind not in OI_KIND_OF_KIND:
            choices = ", ".join(str(choice) for choice in OI_KIND_OF_KIND)
            raise ValueError(f"kind={kind!r} is not a kind of scope; use one of {choices}")
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
            raise TypeError(f"a scope's name must be a string, not {name!r}")
        if agent is not None and not isinstance(agent, AgentInfo):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass names
            raise TypeError(f"agent={agent!r} must be an AgentInfo; the agent's name is the first argument")
        if metadata is not None and not isinstance(metadata, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - as above
            raise TypeError(f"metadata={metadata!r} must be a mapping of names to values")
        self._name = name
        self._kind: Kind = kind
        self._session = None if session is None else str(session)
        self._user = None if user is None else str(user)
        self._metadata = metadata
        self._agent = agent
        self._tool = ToolRequest(name, arguments, call_id) if kind == "tool" else None
        self._open: list[Scope] = []

    def make(self) -> Scope:
        """Return a scope that has not been opened yet, below the current one."""
        return self._below(current_scope(place_now()))

    def _below(self, parent: Scope | None) -> Scope:
        operation = OPERATION_OF_KIND.get(self._kind)
        record = inherit(SpanRecord(0, 0, name=span_name(self._kind, operation, self._name)), parent)
        record.kind, record.operation, record.tool = self._kind, operation, self._tool
        if self._kind == "agent":
            record.agent = self._agent or AgentInfo(self._name)
        record.session_id = self._session or record.session_id
        record.user_id = self._user or record.user_id
        if self._metadata:
            record.metadata = {**record.metadata, **self._metadata}
        return Scope(record, parent, self._name)

    def __enter__(self) -> Scope:
        outer = place_now()
        entered = self._below(current_scope(outer))._enter(outer)
        self._open.append(entered)
        return entered

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # One object may be entered by several tasks at once: each leaves what it entered.
        entered = current_scope()
        if entered not in self._open:
            entered = self._open[-1]
        self._open.remove(entered)
        entered._exit(error)

    async def __aenter__(self) -> Scope:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _fresh(self) -> scope:
        """A copy for one call of a decorated function: calls overlap, a context manager must not."""
        copy = object.__new__(scope)
        copy.__dict__.update(self.__dict__)
        copy._open = []
        return copy

    def __call__(self, function: F) -> F:
        """Decorate a function, coroutine function or (async) generator function: each call is one scope."""
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def values_in_scope(*args: Any, **kwargs: Any) -> Any:
                return values_within(self.make(), default_tracing(), function(*args, **kwargs))

            return cast("F", values_in_scope)
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            def values_in_scope_async(*args: Any, **kwargs: Any) -> Any:
                return values_within_async(self.make(), default_tracing(), function(*args, **kwargs))

            return cast("F", values_in_scope_async)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def in_scope_async(*args: Any, **kwargs: Any) -> Any:
                with self._fresh():
                    return await function(*args, **kwargs)

            return cast("F", in_scope_async)

        @functools.wraps(function)
        def in_scope(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return function(*args, **kwargs)

        return cast("F", in_scope)


def scoped(name: str | None = None, kind: Kind = "chain", **options: Any) -> Callable[[F], F]:
    """Decorate a function so that each call is a scope named like it: `@scoped()`; options as `scope` takes them."""

    def decorate(function: F) -> F:
        return scope(name or function.__name__, kind, **options)(function)

    return decorate


def values_within(entered: Scope, tracing: Tracing, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Pass on what a generator yields: the scope is current while it works and never in between."""
    context = entered.open(tracing, place_now())
    step, given = steps.send, cast("Any", None)
    try:
        while True:
            token = otel_context.attach(context)
            try:
                value = step(given)
            except StopIteration as stop:
                entered.close()
                return stop.value
            finally:
                otel_context.detach(token)
            try:
                step, given = steps.send, (yield value)
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as thrown:
                step, given = steps.throw, thrown
    except BaseException as error:
        entered.close(error)
        raise


async def values_within_async(
    entered: Scope, tracing: Tracing, steps: AsyncGenerator[Any, Any]
) -> AsyncGenerator[Any, Any]:
    """The async twin of `values_within`."""
    context = entered.open(tracing, place_now())
    step, given = steps.asend, cast("Any", None)
    try:
        while True:
            token = otel_context.attach(context)
            try:
                value = await step(given)
            except StopAsyncIteration:
                entered.close()
                return
            finally:
                otel_context.detach(token)
            try:
                step, given = steps.asend, (yield value)
            except GeneratorExit:
                await steps.aclose()
                raise
            except BaseException as thrown:
                step, given = steps.athrow, thrown
    except BaseException as error:
        entered.close(error)
        raise


_NOTHING: Mapping[str, AttributeValue] = {}


def _is_of_one(record: SpanRecord, other: SpanRecord) -> bool:
    """Whether two records are of one session, user and metadata: of the very same objects."""
    return (
        record.session_id is other.session_id and record.user_id is other.user_id and record.metadata is other.metadata
    )


def inherit(record: SpanRecord, parent: Scope | None) -> SpanRecord:
    """Give `record` what the scope around it hands down, and return it."""
    if parent is not None:
        above = parent.record
        record.session_id, record.user_id, record.metadata = above.session_id, above.user_id, above.metadata
        record.agent = None
    return record


def mark(name: str, attributes: Mapping[str, JSON] | None = None, *, time: int | None = None) -> None:
    """Add a span event to the current scope's span, as `Scope.mark` does; without a scope, to the current span."""
    inner = current_scope()
    if inner is not None:
        inner.mark(name, attributes, time=time)
        return
    check_time(time)
    mark_span(get_current_span(place_now()), None, name, attributes, time)


def check_time(time: Any) -> None:
    """Check a time that a program gives: nanoseconds since the epoch, as everywhere in OpenTelemetry, or None.

    Raises:
        TypeError: it is something else, such as seconds.
    """
    if time is not None and (type(time) is not int or time < 0):
        raise TypeError(f"time={time!r} must be whole nanoseconds since the epoch, as time.time_ns() gives them")


def mark_span(
    span: Span, inner: Scope | None, name: str, attributes: Mapping[str, JSON] | None, time: int | None = None
) -> None:
    """Add a span event to `span`, which belongs to the scope `inner`; subscribers are told at once."""
    said, told = told_text(name), {} if attributes is None else told_attributes(attributes)
    with guarded("recording marks"):
        if recording.mark is None:
            span.add_event(clean_text(said), clean_attributes(told), time)
        else:
            recording.mark(span, inner, said, told, time)
