"""What may change or see what is recorded, and who sees what; `declarations` has how it is declared.

Three families touch only the record, never the call: a sanitizer replaces a field, a metadata injector adds to
it, a subscriber is told of it. Where nothing is registered nothing here costs anything.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from spanrelay.observation.mailbox import Mailbox, inside
from spanrelay.observation.surroundings import Once
from spanrelay.records import JSON, Kind
from spanrelay.registry import Handle, Registry, visible
from spanrelay.scopes import Scope, current_scope

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
    holds what it has not seen yet. A sanitizer is `steady` that makes the same of the same message always, whatever
    else is in the field and whenever it is asked: what it made of a message once is not asked for again.
    """

    name: str
    function: Step
    family: Family
    kinds: frozenset[Kind] | None = None
    priority: int = 100
    fields: frozenset[FieldName] | None = None
    mailbox: Mailbox | None = None
    steady: bool = False

    @property
    def place(self) -> int:
        """The same for all: priority orders them."""
        return 0

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

    __slots__ = ("active", "prepare")

    def __init__(self) -> None:
        self.active = False
        self.prepare: Callable[[], None] | None = None
        """What has to be in place first; set by the module that declares observers."""

    def begin(self) -> None:
        """Look at registries from now on."""
        if not self.active:
            if self.prepare is not None:
                self.prepare()
            self.active = True


CATEGORIES: dict[Kind | None, str] = {"chain": "function", None: "unknown"}
"""What ATOF calls a kind, where it has another word."""

observation = Observation()
observers: Registry[Observer] = Registry()
"""What is registered for everything that is recorded."""


def closed(answer: object) -> bool:
    """Whether an observer has returned a coroutine after all, as a lambda may; it is closed, so that none is left."""
    if not inspect.iscoroutine(answer):
        return False
    answer.close()
    return True


class Frozen:
    """Who sees one moment, fixed when it happened, and the context variables of its thread where they matter."""

    __slots__ = ("_context", "watchers")

    def __init__(self, watchers: Watchers, context: Context | None = None) -> None:
        self.watchers = watchers
        self._context = context

    def again(self) -> Frozen:
        """Return the same moment once more."""
        return Frozen(self.watchers, self._context)

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
        "shows",
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
        self.shows = bool(self.injectors or self.subscribers)
        """Whether anything here is shown records."""
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
