"""What may change or see what is recorded, how it is declared, and who sees what.

Three families touch only the record, never the call: a sanitizer replaces a field, a metadata injector adds to
it, a subscriber is told of it. Where nothing is registered nothing here costs anything.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args, overload

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from spanrelay import _guard
from spanrelay.records import JSON, Kind
from spanrelay.registry import Handle, Registry, check_options, kinds_of, name_of, visible
from spanrelay.scopes import Scope, current_scope
from spanrelay.telemetry.mailbox import Mailbox, inside
from spanrelay.telemetry.surroundings import Once
from spanrelay.tracing import recording

Family: TypeAlias = Literal["sanitizer", "injector", "subscriber"]
FieldName: TypeAlias = Literal[
    "request",
    "response",
    "arguments",
    "result",
    "input",
    "output",
    "mark",
    "metadata",
    "error",
    "resource",
    "name",
    "identifiers",
    "body",
    "attribute",
]
Step: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record, as a sanitizer is given it. `value` is a copy that it may change and return.

    | `name` | `value` |
    |---|---|
    | `request` | `{"messages", "instructions", "tools", "parameters"}`, those that there are, as in GenAI's schemas |
    | `response` | `{"messages", "parameters"}` likewise |
    | `arguments`, `result` | of a tool call, JSON |
    | `input`, `output` | of other work, JSON or text |
    | `mark` | `{"name", "attributes"}` of something that happened during the span |
    | `metadata` | the JSON object a scope was given |
    | `error` | `{"type", "message"}` |
    | `resource` | the attributes of what is running |
    | `name` | the span's name |
    | `body` | what a log record says, JSON or text |
    | `attribute` | `{"key", "value"}`: session and user, and any other text on what other instrumentation records |
    | `identifiers` | `{key: text}`: names and ids of models, responses, providers, agents; error codes; numbers |

    `identifiers` tie records together, so only sanitizers that name this field in `fields` are given it; numbers
    are the text of their digits there, and empty where they are short. A changed key is what is recorded.

    `span_name` and `kind` say what span it is on; `kind` is None where nobody knows, and for a resource.
    """

    name: FieldName
    value: JSON
    span_name: str
    kind: Kind | None


@dataclass(frozen=True, slots=True, eq=False)
class Observer:
    """One registered observer.

    `kinds` None means every kind of span, `fields` None (sanitizers only) every field. A subscriber's `mailbox`
    holds what it has not seen yet.
    """

    name: str
    function: Step
    family: Family
    kinds: frozenset[Kind] | None = None
    priority: int = 100
    fields: frozenset[FieldName] | None = None
    mailbox: Mailbox | None = None

    def __call__(self, argument: Any) -> Any:
        """Run the function itself, for tests of it."""
        return self.function(argument)

    def register(self, scope: Scope | None = None) -> Handle:
        """Register for everything that is recorded, or for what is in `scope` and below it.

        Raises:
            TypeError: `scope` is no scope.
        """
        if scope is not None and not isinstance(scope, Scope):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass names
            raise TypeError(f"scope={scope!r} must be what `with spanrelay.scope(...) as entered:` gives, or None")
        observation.begin()
        return observers.add(self) if scope is None else scope.own_observer(self)

    def sees(self, kind: Kind | None) -> bool:
        """Whether it takes spans of `kind`."""
        return self.kinds is None or kind in self.kinds


class Observation:
    """Whether anything was ever registered: until then spans pass without a look at registries."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.active = False

    def begin(self) -> None:
        """Look at registries from now on."""
        if not self.active:
            from spanrelay.telemetry import events, sanitizing  # they stand on this module, and are not small

            recording.finish, recording.mark = sanitizing.finish_elsewhere, events.add_mark
            _guard.worded = sanitizing.words_of
            self.active = True


CATEGORIES: dict[Kind | None, str] = {"chain": "function", None: "unknown"}
"""What ATOF calls a kind, where it has another word."""

observation = Observation()
observers: Registry[Observer] = Registry()
"""What is registered for everything that is recorded."""


_COMMON: dict[str, tuple[Any, str]] = {
    "name": (str, "a string"),
    "kinds": (object, ""),
    "priority": (int, "an integer: lower ones run first"),
}
_OPTIONS: dict[Family, tuple[str, dict[str, tuple[Any, str]]]] = {
    "sanitizer": ("sanitizer", {**_COMMON, "fields": (object, "")}),
    "injector": ("metadata_injector", _COMMON),
    "subscriber": ("subscriber", {**_COMMON, "settle": (Callable, "a function without arguments")}),
}
"""What each family's declaration is called and takes; `kinds` and `fields` are checked by who reads them."""


def _declare(family: Family, function: Step | None, options: dict[str, Any]) -> Any:
    what, known = _OPTIONS[family]
    check_options(what, options, known)
    kinds, fields = kinds_of(options.get("kinds")), _fields(options.get("fields"))
    priority, settle = options.get("priority"), options.get("settle")

    def decorate(step: Step) -> Observer:
        _check_step(what, step)
        name = options.get("name") or name_of(step)
        mailbox = Mailbox(name, _limited(step, kinds), settle) if family == "subscriber" else None
        return Observer(name, step, family, kinds, 100 if priority is None else priority, fields, mailbox)

    return decorate if function is None else decorate(function)


def _check_step(what: str, step: Any) -> None:
    """Refuse what could not be run, or would run without doing anything.

    Raises:
        TypeError: `step` is no such function.
    """
    if not callable(step):
        raise TypeError(f"{what}({step!r}) must be given a function; options go by name, as in @{what}(name='…')")
    name = name_of(step)
    if _is_one_of(step, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        raise TypeError(f"{what} {name!r} is a generator function, and nothing in it would run; return, do not yield")
    if what != "subscriber" and _is_one_of(step, inspect.iscoroutinefunction):
        raise TypeError(
            f"{what} {name!r} must be a plain function: records are read outside any event loop. Declare it with def; "
            "what has to be awaited belongs before the call, or into a subscriber, which may be async"
        )
    if not _takes_one(step):
        raise TypeError(
            f"{what} {name!r} must take one argument, {_GIVEN[what]}; it is declared as {name}{_signature(step)}"
        )


def _is_one_of(step: Any, *tests: Callable[[Any], bool]) -> bool:
    return any(test(step) or test(type(step).__call__) for test in tests)


def closed(answer: object) -> bool:
    """Whether an observer has returned a coroutine after all, as a lambda may; it is closed, so that none is left."""
    if not inspect.iscoroutine(answer):
        return False
    answer.close()
    return True


_GIVEN = {"sanitizer": "the field", "metadata_injector": "the record", "subscriber": "the event"}


def _signature(step: Any) -> inspect.Signature | None:
    """Return how `step` is called; None where nobody knows, as of some functions in C."""
    with suppress(ValueError, TypeError):
        return inspect.signature(step)
    return None


def _takes_one(step: Any) -> bool:
    signature = _signature(step)
    if signature is not None:
        try:
            signature.bind(None)
        except TypeError:
            return False
    return True


def _limited(step: Step, kinds: frozenset[Kind] | None) -> Step:
    """Return `step` for the events of spans of `kinds` only, and of their marks none: a mark has no category."""
    if kinds is None:
        return step
    categories = {CATEGORIES.get(kind, kind) for kind in kinds}
    return lambda event: step(event) if event.category in categories else None


def _fields(fields: Iterable[FieldName] | None) -> frozenset[FieldName] | None:
    if fields is None:
        return None
    if not isinstance(fields, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
        raise TypeError(f"fields={fields!r} must be a field's name or several: fields=['request', 'response']")
    named = (fields,) if isinstance(fields, str) else tuple(fields)
    choices = get_args(FieldName)
    unknown = [field for field in named if field not in choices]
    if unknown:
        raise ValueError(f"fields= names {', '.join(map(repr, unknown))}; use some of {', '.join(choices)}")
    return cast("frozenset[FieldName]", frozenset(named))


@overload
def sanitizer(function: Callable[[Field], Any], /) -> Observer: ...
@overload
def sanitizer(
    *,
    name: str | None = None,
    fields: Iterable[FieldName] | None = None,
    kinds: Iterable[Kind] | None = None,
    priority: int = 100,
) -> Callable[[Callable[[Field], Any]], Observer]: ...
def sanitizer(function: Step | None = None, /, **options: Any) -> Any:
    """Declare a sanitizer: `(field: Field) ->` the value that is recorded instead of `field.value`.

    It changes what is exported, written and told, never the call. Where it raises, or returns what is not such a
    field, the field is left out and the span stays. Sanitizers run in ascending `priority`, each on what the one
    before returned. `fields` and `kinds` limit what it is given; the functions must be plain ones.
    """
    return _declare("sanitizer", function, options)


@overload
def metadata_injector(function: Step, /) -> Observer: ...
@overload
def metadata_injector(
    *,
    name: str | None = None,
    kinds: Iterable[Kind] | None = None,
    priority: int = 100,
) -> Callable[[Step], Observer]: ...
def metadata_injector(function: Step | None = None, /, **options: Any) -> Any:
    """Declare a metadata injector: `(record: SpanRecord) -> Mapping` of what to add to a finished span's metadata.

    Keys are letters, digits, `_`, `-` and dots between them; values are strings, numbers, booleans, or lists of
    one of these. What is there already stays. One invalid entry, or an exception, and nothing of it is added.
    It sees the caller's context variables. On spans of other instrumentation the entries are attributes.
    """
    return _declare("injector", function, options)


@overload
def subscriber(function: Step, /) -> Observer: ...
@overload
def subscriber(
    *,
    name: str | None = None,
    kinds: Iterable[Kind] | None = None,
    priority: int = 100,
    settle: Callable[[], None] | None = None,
) -> Callable[[Step], Observer]: ...
def subscriber(function: Step | None = None, /, **options: Any) -> Any:
    """Declare a subscriber: a function or coroutine function that is told of each `Event`.

    It runs on a thread of its own and is told in the order in which things happened. What it does is not recorded.
    `settle` is called whenever nothing more is waiting, for subscribers that write in batches.
    """
    return _declare("subscriber", function, options)


def subscribe(function: Step, *, name: str | None = None, scope: Scope | None = None) -> Handle:
    """Tell `function` of every event from now on, or of those in `scope` and below it; see `subscriber`.

    Raises:
        TypeError: an argument is not what it must be.
        ConfigurationError: a subscriber of that name is there already.
    """
    declared = _declare("subscriber", function, {"name": name})
    return cast("Observer", declared).register(scope)


class Frozen:
    """Who sees one moment, fixed when it happened, and the context variables of its thread where they matter."""

    __slots__ = ("_context", "watchers")

    def __init__(self, watchers: Watchers, context: Context | None = None) -> None:
        self.watchers = watchers
        self._context = context

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run observers' code as if at that moment, once, on whatever thread."""
        context, self._context = self._context, None
        if context is None:
            return _apart(function, *arguments)
        return context.run(_apart, function, *arguments)


class Watchers:
    """The observers that see one span, by family and in running order."""

    __slots__ = (
        "_chains",
        "changes",
        "injectors",
        "keys",
        "measured",
        "sanitizers",
        "still",
        "subscribers",
        "surroundings",
    )

    def __init__(self, entries: Iterable[Observer]) -> None:
        entries = tuple(entries)
        self.sanitizers = tuple(entry for entry in entries if entry.family == "sanitizer")
        self.injectors = tuple(entry for entry in entries if entry.family == "injector")
        self.subscribers = tuple(entry for entry in entries if entry.family == "subscriber")
        self._chains: dict[tuple[FieldName, Kind | None], tuple[Observer, ...]] = {}
        self.surroundings = Once()
        """What the sanitizers made of resources and instrumentation scopes."""
        self.keys: dict[tuple[str, Kind | None], str | None] = {}
        """What they made of the keys of attributes whose values are shown elsewhere, or are figures."""
        self.measured: dict[Any, dict[str, Any]] = {}
        """What they made of the attributes of measurements."""
        self.changes = bool(self.sanitizers or self.injectors)
        """Whether anything here changes records."""
        self.still = Frozen(self)

    def freeze(self) -> Frozen:
        """Return who sees what happens now, with what their code needs of this moment."""
        return Frozen(self, copy_context()) if self.changes else self.still

    def chain(self, field: FieldName, kind: Kind | None) -> tuple[Observer, ...]:
        """Return the sanitizers of one field on spans of one kind."""
        chain = self._chains.get((field, kind))
        if chain is None:
            named = field == "identifiers"
            chosen = (s for s in self.sanitizers if _takes(s, field, named=named) and s.sees(kind))
            chain = self._chains[field, kind] = tuple(chosen)
        return chain

    def holding_on_to(self, before: Watchers | None) -> Watchers:
        """Return these, with the sanitizers that the span started under: none of them may lapse on the way."""
        if before is None or before.sanitizers == self.sanitizers:
            return self
        lapsed = [entry for entry in before.sanitizers if entry not in self.sanitizers]
        if not lapsed:
            return self
        both = sorted((*self.sanitizers, *lapsed), key=lambda entry: entry.priority)
        return Watchers((*both, *self.injectors, *self.subscribers))


def _takes(sanitizer: Observer, field: FieldName, *, named: bool) -> bool:
    return field in sanitizer.fields if sanitizer.fields is not None else not named


NOBODY = Watchers(())


def _compile(entries: Iterable[Observer]) -> Watchers | None:
    entries = tuple(entries)
    return Watchers(entries) if entries else None


def watching(scope: Scope | None) -> Watchers | None:
    """Return who sees what is recorded in `scope`; None where nobody does."""
    owned = scope.observers if scope is not None else ()
    if not owned:
        return observers.derived("watchers", _compile) if observers.entries else None
    # The outer registries' snapshots are part of the key: the cache of the innermost one dies with its scope.
    outer = (observers.entries, *(registry.entries for registry in owned[:-1]))
    return owned[-1].derived(outer, lambda _: _compile(visible((observers, *owned))))


def watching_here() -> Watchers | None:
    """Return who sees what is recorded where this runs, in observers' code too; None where nobody does."""
    return watching(current_scope())


class _Sanitizing(threading.local):
    value = False


sanitizing = _Sanitizing()
"""`value` is true on a thread that is running sanitizers: what they say themselves cannot be put through them."""


def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    with apart():
        return function(*arguments)


@contextmanager
def apart() -> Generator[None]:
    """Within the block observers' code runs: what it does is not recorded, and it does not wait for delivery."""
    outer = inside.value, inside.record
    inside.value = inside.record = True
    token = otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        yield
    finally:
        otel_context.detach(token)
        inside.value, inside.record = outer
