"""How an observer is declared: the decorators of the three families, and what they refuse.

Whoever may declare one has all that an observer needs: this stands on what applies sanitizers and tells events.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast, get_args, overload

from spanrelay import _guard
from spanrelay.observation import events, sanitizing
from spanrelay.observation.mailbox import Mailbox
from spanrelay.observation.observers import CATEGORIES, Family, Field, FieldName, Observer, Step, observation
from spanrelay.records import Kind
from spanrelay.registry import Handle, check_options, kinds_of, name_of, named_of
from spanrelay.scopes import Scope
from spanrelay.tracing import recording

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
    expected = "a field's name or several: fields=['request', 'response']"
    return cast("frozenset[FieldName] | None", named_of("fields", fields, get_args(FieldName), expected))


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
    before returned. The function must be a plain one.

    Options:
        name: What it is registered as; by default the function's qualified name.
        fields: The fields that it is given, one name or several; by default all but `identifiers`.
        kinds: The kinds of span whose fields it is given; by default all.
        priority: Lower ones run first; those of the same priority in the order of their names.

    Raises:
        TypeError: an option or the function is not what it must be.
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

    Options:
        name: As `sanitizer` takes it, and so are `kinds` and `priority`.

    Raises:
        TypeError: an option or the function is not what it must be.
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

    Options:
        name: As `sanitizer` takes it, and so are `kinds` and `priority`.
        settle: Called whenever nothing more is waiting, for subscribers that write in batches.

    Raises:
        TypeError: an option or the function is not what it must be.
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


def _prepare() -> None:
    """Let records, marks and the words of faults pass the observers also where no processor of ours sees them."""
    recording.finish, recording.mark = sanitizing.finish_elsewhere, events.add_mark
    _guard.worded = sanitizing.words_of


observation.prepare = _prepare
