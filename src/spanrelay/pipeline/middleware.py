"""What may stand around a call, how it is declared, and in which order it runs.

Four families change the real call and fail closed: a request intercept edits the request, a guardrail lets it
pass or refuses, an execution intercept stands around the sending, a stream intercept between source and consumer.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Literal, TypeAlias, cast, overload

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from spanrelay._guard import swallow
from spanrelay.errors import MiddlewareError
from spanrelay.pipeline.call import Call, Response
from spanrelay.pipeline.stream import Tap
from spanrelay.records import Kind
from spanrelay.registry import Handle, Registry, kinds_of, name_of, visible
from spanrelay.scopes import Registrable, Scope

Mode: TypeAlias = Literal["enforce", "observe"]
Family: TypeAlias = Literal["request", "guardrail", "execution", "stream", "gate"]
Step: TypeAlias = Callable[[Any], Any]
Step2: TypeAlias = Callable[[Any, Any], Any]

_FRAME_KEY = otel_context.create_key("spanrelay.frame")


class Place(IntEnum):
    """Where middleware stands, which no priority changes: policy within what applications register, or around it."""

    CHOOSES = -2
    """Sends another request where one is refused: guardrails judge within it each that it sends, the first too."""
    AROUND = -1
    """Sees the answer as the application gets it."""
    AMONG = 0
    """Where applications and plugins register."""
    REFUSES = 1
    """Refuses a sending, which then does not count."""
    ANSWERS = 2
    """Answers in the provider's place: all of policy sees it as the provider's, and nothing is sent or counted."""
    COUNTS = 3
    """Counts, so that each sending of whatever else there is passes it."""
    MARKS = 4
    """Adds hints to what is sent, which change nothing that a model sees: no policy has to check them."""


@dataclass(frozen=True, slots=True, eq=False)
class Middleware:
    """One registered piece of policy.

    `kinds` None means every call of a model or a tool; runs of agents must be asked for. `timeout` limits each
    wait, in seconds. `buffered` (execution intercepts): a stream is drained before the intercept resumes, and
    replayed to the consumer afterwards.
    `stop` (request intercepts): those after it do not run. `answers` (guardrails): a refused tool call answers
    with the reason instead of raising. `hold_back` (stream intercepts): characters of text kept back; None for
    intercepts of events. `targets` (gates): the names of what they switch off.
    `mode`: `observe` puts on trial: what it would have refused or changed is told, and nothing comes of it. Stream
    intercepts and gates on trial do not run. None is `enforce`, unless the plugin that registers it is on trial.
    `place` is policy's own: see `standing`. `plugin`: which plugin registered it, as its context is named; what a
    plugin has put in force, no gate of others switches off. `optional`: its file lets the application leave it out.
    """

    name: str
    function: Callable[..., Any]
    family: Family
    kinds: frozenset[Kind] | None = None
    priority: int = 100
    buffered: bool = False
    timeout: float = 30.0
    stop: bool = False
    answers: bool = False
    hold_back: int | None = None
    targets: frozenset[str] = frozenset()
    mode: Mode | None = None
    place: Place = Place.AMONG
    plugin: str = ""
    optional: bool = False

    def standing(self, place: Place) -> Middleware:
        """Return the same at another place, which its priority is compared within."""
        return replace(self, place=place)

    @property
    def on_trial(self) -> bool:
        """Whether nothing comes of what it does."""
        return self.mode == "observe"

    def __call__(self, *args: Any) -> Any:
        """Run the function itself, for tests of it."""
        return self.function(*args)

    def register(self, scope: Scope | None = None) -> Handle:
        """Register for every call of the process, or for the calls in `scope` and below it."""
        return registered.add(self) if scope is None else scope.own(self)


CALLED: dict[Family, str] = {
    "request": "request intercept",
    "guardrail": "guardrail",
    "execution": "execution intercept",
    "stream": "stream intercept",
    "gate": "gate",
}
"""What each family is called in what people read."""
_OPTIONS: dict[Family, frozenset[str]] = {
    "request": frozenset({"name", "kinds", "priority", "timeout", "stop", "mode"}),
    "guardrail": frozenset({"name", "kinds", "priority", "timeout", "answers", "mode"}),
    "execution": frozenset({"name", "kinds", "priority", "timeout", "buffered", "mode"}),
    "stream": frozenset({"name", "kinds", "priority", "hold_back"}),
    "gate": frozenset({"name", "kinds", "priority", "targets"}),
}


def _check_options(family: Family, options: dict[str, Any]) -> None:
    """Refuse at the declaration what would else bite at the first call, or never."""
    called = CALLED[family]
    for name, value in options.items():
        if name not in _OPTIONS[family]:
            near = difflib.get_close_matches(name, _OPTIONS[family], 1)
            hint = f"; did you mean {near[0]}=?" if near else ""
            raise TypeError(f"a {called} has no option {name}={hint}; it has {', '.join(sorted(_OPTIONS[family]))}")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name == "priority" and not isinstance(value, int):
            raise TypeError(f"priority={value!r} of a {called} must be a whole number; lower runs first")
        if name == "timeout" and not (number and value > 0):
            raise TypeError(f"timeout={value!r} of a {called} must be seconds, above 0")
        if name == "mode" and value not in (None, "enforce", "observe"):
            raise TypeError(f"mode={value!r} of a {called} must be 'enforce' or 'observe'")
        if name == "hold_back" and value is not None and not (isinstance(value, int) and value >= 0):
            raise TypeError(f"hold_back={value!r} of a {called} must be a number of characters, 0 or more, or None")


def _check_step(family: Family, step: Any) -> None:
    called = CALLED[family]
    if not callable(step):
        raise TypeError(f"a {called} is a function, not {step!r}; options are given by name, as in kinds=['llm']")
    generates = inspect.isgeneratorfunction(step) or inspect.isasyncgenfunction(step)
    if family == "execution" and not inspect.isgeneratorfunction(step):
        raise TypeError(
            f"execution intercept {step!r} must be a generator function: `response = yield call` sends the call on"
        )
    if family != "execution" and generates:
        raise TypeError(f"{called} {step!r} must return its answer, not yield it; only execution intercepts yield")
    if family in ("stream", "gate") and inspect.iscoroutinefunction(step):
        raise TypeError(f"{called} {step!r} must be a plain function: nothing waits for it")


def _declare(family: Family, function: Callable[..., Any] | None, options: dict[str, Any]) -> Any:
    _check_options(family, options)

    def decorate(step: Callable[..., Any]) -> Middleware:
        _check_step(family, step)
        return Middleware(
            name=options.get("name") or name_of(step),
            function=step,
            family=family,
            kinds=kinds_of(options.get("kinds")),
            priority=options.get("priority", 100),
            **{key: value for key, value in options.items() if key not in ("name", "kinds", "priority")},
        )

    return decorate if function is None else decorate(function)


@overload
def guardrail(function: Step, /) -> Middleware: ...
@overload
def guardrail(
    *,
    name: str | None = None,
    kinds: Iterable[Kind] | None = None,
    priority: int = 100,
    timeout: float = 30.0,
    answers: bool = False,
    mode: Mode | None = None,
) -> Callable[[Step], Middleware]: ...
def guardrail(function: Step | None = None, /, **options: Any) -> Any:
    """Declare a guardrail: `(call) -> None` lets the call pass, a string is the reason to refuse it.

    It may be a coroutine function. A refused call is not sent and raises `GuardrailRejected`; with `answers` a
    tool call returns the reason instead, so that an agent's loop shows it to the model.

    Options:
        name: What it is registered as, and what refusals name; by default the function's qualified name.
        kinds: The kinds of call that it is for, one or several: `llm`, `tool`, `embedder`, `agent` … By default all but
            runs of agents, which must be asked for.
        priority: Lower ones run first; those of the same priority in the order of their names.
        timeout: Seconds that one wait for a coroutine may take; then the call is refused.
        answers: Whether a refused tool call returns the reason instead of raising.
        mode: `observe` puts it on trial: what it would have refused is recorded, and nothing comes of it. `enforce`, or
            None, holds.

    Raises:
        TypeError: an option is not what it must be, or the function is a generator function.
    """
    return _declare("guardrail", function, options)


@overload
def request_intercept(function: Step, /) -> Middleware: ...
@overload
def request_intercept(
    *,
    name: str | None = None,
    kinds: Iterable[Kind] | None = None,
    priority: int = 100,
    timeout: float = 30.0,
    stop: bool = False,
    mode: Mode | None = None,
) -> Callable[[Step], Middleware]: ...
def request_intercept(function: Step | None = None, /, **options: Any) -> Any:
    """Declare a request intercept: `(call) ->` the changed request record, or None to leave it.

    It may be a coroutine function, and it may edit `call.request` or `call.wire` in place. With `stop` the
    request intercepts after it do not run.

    Options:
        name: As `guardrail` takes it, and so are `kinds`, `priority`, `timeout` and `mode`.
        stop: Whether the request intercepts after it do not run.

    Raises:
        TypeError: an option is not what it must be, or the function is a generator function.
    """
    return _declare("request", function, options)


@overload
def execution_intercept(function: Step, /) -> Middleware: ...
@overload
def execution_intercept(
    *,
    name: str | None = None,
    kinds: Iterable[Kind] | None = None,
    priority: int = 100,
    buffered: bool = False,
    timeout: float = 30.0,
    mode: Mode | None = None,
) -> Callable[[Step], Middleware]: ...
def execution_intercept(function: Step | None = None, /, **options: Any) -> Any:
    """Declare an execution intercept, a generator function around the real call.

    `response = yield call` sends the call on; yielding again sends it again; returning without a yield answers
    instead of the provider; raising refuses. `yield awaitable` waits for it, `yield [a, b]` sends copies
    together. On a stream the generator resumes when the stream has ended, and can no longer change it, unless
    `buffered=True`. No `with attach(...)` may span a `yield`: the driver alone sets the context.

    Options:
        name: As `guardrail` takes it, and so are `kinds`, `priority`, `timeout` and `mode`.
        buffered: Whether a stream is drained before the generator resumes, and replayed to the consumer afterwards, so
            that the whole answer can be checked or changed.

    Raises:
        TypeError: an option is not what it must be, or the function is not a plain generator function.
    """
    return _declare("execution", function, options)


@overload
def stream_intercept(function: Step2, /) -> Middleware: ...
@overload
def stream_intercept(
    *,
    name: str | None = None,
    kinds: Iterable[Kind] | None = None,
    priority: int = 100,
    hold_back: int | None = None,
) -> Callable[[Step2], Middleware]: ...
def stream_intercept(function: Step2 | None = None, /, **options: Any) -> Any:
    """Declare a stream intercept: it sees each chunk of a streamed answer before the consumer does.

    Without `hold_back`: `(call, event) ->` the event as the provider's JSON, another in its place, or None to
    drop it. With `hold_back`: `(call, text) ->` the text to show in its place; text is let go only where the
    intercept makes the same of two pieces as of the whole, and at least `hold_back` characters late, so that a
    match no longer than that is found wherever chunks are cut. It may be asked about the same text more than once.

    Raising refuses: the provider's stream is closed, and the error reaches the consumer.

    Options:
        name: As `guardrail` takes it, and so are `kinds` and `priority`.
        hold_back: Characters of text that are kept back; None for an intercept of events.

    Raises:
        TypeError: an option is not what it must be, or the function is a coroutine or generator function.
    """
    return _declare("stream", function, options)


def gate(
    *targets: str | Middleware, name: str | None = None, kinds: Iterable[Kind] | None = None, priority: int = 100
) -> Callable[[Step], Middleware]:
    """Declare a gate, `(call) -> str | None`: while it gives a reason, its `targets` are off for new calls.

    None leaves them on. So does a gate that raises or answers anything else, which is counted: policy is never
    switched off by mistake. A gate cannot switch off what a plugin has put in force, unless the same plugin registered
    the gate; that is counted too. Calls that have started keep what they saw.

    Args:
        targets: The middleware that it switches off, or their names.
        name: What it is registered as; by default the function's qualified name.
        kinds: The kinds of call for which it is asked; by default all but runs of agents.
        priority: Lower ones run first.

    Raises:
        TypeError: no target is named, or the function is a coroutine or generator function.
    """
    named = frozenset(target.name if isinstance(target, Middleware) else target for target in targets)
    if not named or not all(isinstance(target, str) for target in named):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass functions
        raise TypeError("a gate names what it switches off: @gate('name of a middleware')")
    return _declare("gate", None, {"name": name, "kinds": kinds, "priority": priority, "targets": named})


registered: Registry[Middleware] = Registry()
"""What is registered for every call of the process."""


def use(entry: Registrable | Step, *, scope: Scope | None = None) -> Handle:
    """Register middleware or an observer for the process, or for what is in `scope` and below it.

    A bare generator function is taken for an execution intercept. The handle removes the registration again.

    Args:
        entry: What `guardrail` and the other decorators return, or a generator function.
        scope: Where it holds; by default everywhere in the process.

    Raises:
        TypeError: `entry` cannot be registered, or `scope` is not a scope.
        ConfigurationError: one of that name is registered there already.
    """
    if scope is not None and not isinstance(scope, Scope):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass names
        raise TypeError(f"scope={scope!r} must be a Scope, as in `with spanrelay.scope(...) as here`")
    if not hasattr(entry, "register"):
        if not inspect.isgeneratorfunction(entry):
            raise TypeError(
                f"{entry!r} cannot be registered; declare it first with @guardrail, @request_intercept, "
                "@execution_intercept, @stream_intercept, @gate, @sanitizer, @metadata_injector or @subscriber"
            )
        entry = execution_intercept(cast("Step", entry))
    return cast("Registrable", entry).register(scope)


class Chain:
    """The middleware of one kind of call, compiled."""

    __slots__ = ("buffered", "choosing", "entries", "executions", "gates", "guardrails", "requests", "streams")

    def __init__(self, entries: list[Middleware]) -> None:
        entries = [e for e in entries if not (e.on_trial and e.family in ("stream", "gate"))]
        self.entries = entries
        self.gates = tuple(entry for entry in entries if entry.family == "gate")
        self.streams = tuple(entry for entry in entries if entry.family == "stream")
        self.requests = tuple(entry for entry in entries if entry.family == "request")
        self.guardrails = tuple(entry for entry in entries if entry.family == "guardrail")
        self.executions = tuple(entry for entry in entries if entry.family == "execution")
        self.buffered = any(entry.buffered and not entry.on_trial for entry in self.executions)
        self.choosing = sum(entry.place is Place.CHOOSES for entry in self.executions)

    def past_gates(self, call: Call) -> Chain | None:
        """Return this chain without what its gates switch off for `call`; None when nothing is left."""
        left = [entry for entry in self.entries if entry.family != "gate"]
        for entry in self.gates:
            try:
                reason = entry.function(call)
                if isinstance(reason, str):
                    left = [other for other in left if not _may_close(entry, other)]
                    _check_closed(entry, left)
                elif reason is not None:
                    raise MiddlewareError(
                        f"gate {entry.name!r} must return None, or the reason to switch off as text, "
                        f"not {type(reason).__name__!r}"
                    )
            except Exception as error:
                swallow(f"asking the gate {entry.name!r}", error)
        return Chain(left) if left else None


def _may_close(entry: Middleware, target: Middleware) -> bool:
    return target.name in entry.targets and target.plugin in ("", entry.plugin)


def _check_closed(entry: Middleware, left: list[Middleware]) -> None:
    kept = next((other for other in left if other.name in entry.targets), None)
    if kept is not None:
        raise MiddlewareError(
            f"gate {entry.name!r} cannot switch off {kept.name!r}, which plugin {kept.plugin!r} has put in force; "
            "change the file that configures the plugin"
        )


class Frame:
    """Which middleware is running for one call: it is left out of calls that it makes itself."""

    __slots__ = ("above", "broken", "running")

    def __init__(self, above: frozenset[Middleware]) -> None:
        self.above = above
        self.broken: tuple[Tap, Response] | None = None
        """The stream that broke while it was drained, and the response that it stands in."""
        self.running: Middleware | None = None

    def excluded(self) -> frozenset[Middleware]:
        """What must not run for a call made now."""
        return self.above if self.running is None else self.above | {self.running}


_NOTHING: frozenset[Middleware] = frozenset()


def current_frame() -> Frame | None:
    """Return the innermost frame of the current context."""
    return cast("Frame | None", otel_context.get_value(_FRAME_KEY))


def policy_context(call: Call, frame: Frame) -> Context:
    """The context for middleware of `call`: under its span, with no call in flight."""
    return otel_context.set_value(_FRAME_KEY, frame, call.policy_context())


def leaving_out(entries: Iterable[Middleware]) -> Context:
    """Return the current context, but that `entries` do not run for calls that are made in it."""
    outer = current_frame()
    above = frozenset(entries) if outer is None else outer.excluded().union(entries)
    return otel_context.set_value(_FRAME_KEY, Frame(above))


def leave_nothing_out(context: Context) -> None:
    """Let everything run again for what was begun in the context that `leaving_out` gave, and goes on."""
    cast("Frame", otel_context.get_value(_FRAME_KEY, context)).above = _NOTHING


def registered_for(kind: Kind) -> list[Middleware]:
    """Return what is registered for every call of a kind in the process."""
    return [entry for entry in registered.entries if _concerns(entry, kind)]


def is_covered(scope: Scope | None) -> bool:
    """Whether anything is registered for calls in `scope`, of whatever kind."""
    if registered.entries:
        return True
    return scope is not None and any(registry.entries for registry in scope.registries)


def chain_for(call: Call) -> Chain | None:
    """Return the chain for `call`, which has been opened; None when nothing is registered for it."""
    scope = call.scope
    if not is_covered(scope):
        return None
    chain = _visible_to(call, scope, Place.CHOOSES)
    return chain if chain is None or not chain.gates else chain.past_gates(call)


def marks_for(call: Call) -> Chain | None:
    """Return what marks an exempt call where it is sent, which was checked at a framework's call above."""
    scope = call.scope
    return _visible_to(call, scope, Place.MARKS) if call.sent_beneath and is_covered(scope) else None


def _visible_to(call: Call, scope: Scope | None, within: Place) -> Chain | None:
    registries = (registered,) if scope is None else (registered, *scope.registries)
    frame = current_frame()
    excluded = _NOTHING if frame is None else frame.excluded()
    return _compiled(registries, call.record.kind or "custom", excluded, within)


def _compiled(
    registries: tuple[Registry[Middleware], ...],
    kind: Kind,
    excluded: frozenset[Middleware],
    within: Place,
) -> Chain | None:
    """Return the chain of what stands at the place `within`, or further in."""
    if len(registries) == 1:
        key = (kind, excluded, within)
        return registries[0].derived(key, lambda entries: _compile(entries, kind, excluded, within))
    # The outer registries' snapshots are part of the key: the cache of the innermost one dies with its scope.
    outer = tuple(registry.entries for registry in registries[:-1])
    key = (kind, excluded, within, outer)
    return registries[-1].derived(key, lambda _: _compile(visible(registries), kind, excluded, within))


def _compile(entries: Iterable[Middleware], kind: Kind, excluded: frozenset[Middleware], within: Place) -> Chain | None:
    chosen = [e for e in entries if e.place >= within and e not in excluded and _concerns(e, kind)]
    return Chain(chosen) if chosen else None


def _concerns(entry: Middleware, kind: Kind) -> bool:
    # What is written for models and tools would not know what to do with an agent's input.
    return kind != "agent" if entry.kinds is None else kind in entry.kinds
