"""Patch tables: where a package is wrapped, when it is imported, and how it is put back.

Nothing is imported at boot. A hook never raises into the import that triggered it; where configured policy would
not hold for what was imported, it ends the program.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, TypeAlias, cast

import wrapt

from spanrelay._guard import guarded, losses
from spanrelay.imports import on_execution
from spanrelay.installed import version_of
from spanrelay.instrumentation import foreign
from spanrelay.instrumentation.subclasses import derived_from, method_of, unwrap
from spanrelay.instrumentation.wrappers import Wrapped
from spanrelay.plugins.demand import demand, end_now

_log = logging.getLogger("spanrelay")

_REMEDY = (
    'install a version that SpanRelay supports, or allow the program to run without it: [policy] on_failure = "warn"'
)

_INSTRUMENTATION = ("opentelemetry", "openinference", "spanrelay")
"""Whose wrappers are nothing to tell of: they keep nothing for themselves."""

Wrapper: TypeAlias = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]
"""A wrapt wrapper: `(wrapped, instance, args, kwargs)`."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One row of a table: in `module`, wrap `attribute` (`Class.method`) with `wrapper`.

    `required` is false where only the record is poorer without it, so that policy does not miss it. `derived` is true
    where the method of the named class is only a promise: it is wrapped in every class that derives from it and has
    one of its own, now and later. `newer` is true where older versions do not have the method, so that nothing is
    missed there.
    """

    module: str
    attribute: str
    wrapper: Wrapper
    required: bool = True
    derived: bool = False
    newer: bool = False


class Patches:
    """A table in force: wraps each time a module is executed, or now where it has been.

    A package that is imported anew has other classes, and is given a table of its own; those of before stay wrapped.

    Args:
        package: The distribution that is patched.
        modules: The modules whose import asks for the table.
        table: Makes a table; called with the first of these imports, so that boot pays for nothing of it.
    """

    def __init__(self, package: str, modules: tuple[str, ...], table: Callable[[], tuple[Patch, ...]]) -> None:
        self._package = package
        self._modules = modules
        self._make = table
        self._table: tuple[Patch, ...] | None = None
        """The latest."""
        self._tables: weakref.WeakKeyDictionary[ModuleType, tuple[Patch, ...]] = weakref.WeakKeyDictionary()
        """The table that each module was patched by."""
        self._patched: set[str] = set()
        """The names of the modules that were patched by the latest table."""
        self._undo: list[Callable[[], None]] = []
        """Without hold on what it puts back: what was imported before and is used by nobody goes."""
        self._told: set[str] = set()
        self._hooked = False
        self._in_force: list[bool] = []
        """Not empty while the table is in force: wrapt asks what cannot be called at the cost of no call."""

    def apply(self) -> None:
        """Put the table in force. Hooks cannot be unregistered, so they are set once and ask whether it is."""
        self._in_force[:] = [True]
        demand.guarded.add(self._package)
        for name in self._modules:
            if not self._hooked:
                on_execution(name, self._on_import)
            if name in sys.modules:
                self._on_import(sys.modules[name])
        self._hooked = True

    def undo(self) -> None:
        """Put every attribute back, and leave wrappers that somebody still holds without effect."""
        self._in_force.clear()
        demand.guarded.discard(self._package)
        foreign.uncover(self._package)
        while self._undo:
            self._undo.pop()()

    def _on_import(self, module: ModuleType) -> None:
        if not self._in_force:
            return
        if demand.stops:
            self._patch_or_end(module)
            return
        with guarded(f"instrumenting {self._package}"):
            self._patch(module)

    def _patch_or_end(self, module: ModuleType) -> None:
        try:
            self._patch(module)
        except Exception as error:
            end_now(
                f"{_named(self._package)} cannot be instrumented, so the configured "
                f"policy does not hold for it: {type(error).__name__}: {error}; {_REMEDY}"
            )

    def _patch(self, module: ModuleType) -> None:
        table = self._table_of(module)
        foreign.cover(self._package)
        here = [patch for patch in table if patch.module == module.__name__]
        missing = [patch for patch in here if not self._wrap(module, patch) and not patch.newer]
        if missing:
            self._report(missing)

    def _table_of(self, module: ModuleType) -> tuple[Patch, ...]:
        """Return the table that a module was patched by before, as one that is reloaded, or the latest.

        A module that replaces another of its name begins a new one: wrappers know classes of the package.
        """
        known = self._tables.get(module)
        if known is not None:
            return known
        if self._table is None or module.__name__ in self._patched:
            self._patched.clear()
            self._table = self._make()
        self._patched.add(module.__name__)
        self._tables[module] = self._table
        return self._table

    def _wrap(self, module: ModuleType, patch: Patch) -> bool:
        """Put the wrapper in its place; False where there is no such place."""
        owner_path, _, name = patch.attribute.rpartition(".")
        owner: Any = module
        for part in owner_path.split(".") if owner_path else ():
            owner = getattr(owner, part, None)
        present = getattr(owner, "__dict__", {}).get(name)
        if present is None:
            return False
        if patch.derived:
            self._follow(owner, name, patch)
        else:
            self._put(owner, name, present, patch)
        return True

    def _follow(self, owner: Any, name: str, patch: Patch) -> None:
        """Put the wrapper into every class that derives from `owner`, now and when one is made."""

        def put_into(derived: Any) -> None:
            present = method_of(derived, owner, name)
            if present is not None:
                self._put(derived, name, present, patch, remember=False)

        def made(wrapped: Any, derived: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            wrapped(*args, **kwargs)
            put_into(derived)

        def put_back(owner: type) -> None:
            for derived in derived_from(owner):
                unwrap(derived, name, patch.wrapper)

        for derived in derived_from(owner):
            put_into(derived)
        # No list of them, which would keep them: a program may make classes without end.
        self._remember(put_back, owner)
        hook = "__init_subclass__"
        present = vars(owner).get(hook)
        if present is None:
            present = _inherited_hook(owner)
            setattr(owner, hook, present)
            self._remember(partial(_take_away, hook), owner, present.__func__)
        self._put(owner, hook, present, Patch(patch.module, hook, made))

    def _put(self, owner: Any, name: str, present: Any, patch: Patch, *, remember: bool = True) -> None:
        if _holds(present, patch.wrapper):
            return
        wrapper = Wrapped(present, cast("Any", patch.wrapper), enabled=cast("Any", self._in_force))
        setattr(owner, name, wrapper)
        if remember:
            self._remember(partial(_restore, name), owner, wrapper)
            self._tell_of_others(owner, present, patch)
        for kept in _kept_as_it_is(owner, name, present):
            self._put(kept, name, present, patch)
        for theirs in _kept_by_others(owner, name, present):
            if not _holds(theirs, patch.wrapper):
                self._stand_below(theirs, wrapper, patch)

    def _tell_of_others(self, owner: Any, present: Any, patch: Patch) -> None:
        """Say once who wrapped a method before: what holds theirs from then passes ours by."""
        by = _wrapped_by(present)
        if (
            by
            and by.partition(".")[0] not in (*_INSTRUMENTATION, patch.module.partition(".")[0])
            and by not in self._told
            and not _decorates(_home(present, patch), by)
        ):
            self._told.add(by)
            level = logging.WARNING if demand.policy else logging.DEBUG
            _log.log(
                level,
                "%s: %r has wrapped %s before SpanRelay; calls by whatever kept the method from then are not seen; "
                "instrument with SpanRelay first",
                self._package,
                by,
                patch.attribute,
            )

    def _stand_below(self, theirs: Any, wrapper: Any, patch: Patch) -> None:
        """Put `wrapper` between another's wrapper and the method that it keeps, so that calls do not pass ours by."""
        if isinstance(theirs, wrapt.BaseObjectProxy):
            theirs.__wrapped__ = wrapper
            self._remember(_take_out, theirs, wrapper)
            return
        where = (
            f"{self._package}: {getattr(theirs, '__module__', None)!r} has wrapped {patch.attribute} in a class below"
        )
        if demand.stops and patch.required:
            end_now(f"{where}, so the configured policy does not hold for it; instrument with SpanRelay first")
        _log.warning("%s, so its calls are not seen; instrument with SpanRelay first", where)

    def _remember(self, put_back: Callable[..., None], *whom: Any) -> None:
        """Let `undo` call `put_back` with all of `whom`, if they are still there."""
        references = [weakref.ref(each) for each in whom]

        def step() -> None:
            present = [reference() for reference in references]
            if all(each is not None for each in present):
                put_back(*present)

        self._undo.append(step)

    def _report(self, missing: list[Patch]) -> None:
        places = ", ".join(f"{patch.module}.{patch.attribute}" for patch in missing)
        if demand.stops and any(patch.required for patch in missing):
            end_now(
                f"{_named(self._package)} has no {places}, so the configured policy does not hold for it; {_REMEDY}"
            )
        losses.add(f"patch points not found in {self._package}", len(missing))
        _log.warning(
            "%s has no %s, so its calls are not instrumented as they should be; install a version that "
            "SpanRelay supports",
            _named(self._package),
            places,
        )


def is_patched(kind: type, method: str) -> bool:
    """Whether a wrapper of ours that is in force stands at `method` of `kind`, or of a class it derives from."""
    present: Any = next((vars(owner)[method] for owner in kind.__mro__ if method in vars(owner)), None)
    while present is not None and hasattr(present, "__wrapped__"):
        wrapper, enabled = getattr(present, "_self_wrapper", None), getattr(present, "_self_enabled", None)
        if enabled is not None and getattr(wrapper, "__module__", "").startswith("spanrelay"):
            return bool(enabled)
        present = present.__wrapped__
    return False


def _holds(present: Any, wrapper: Wrapper) -> bool:
    """Whether `wrapper` works beneath what stands there: somebody wrapped it again before we were put back."""
    while hasattr(present, "__wrapped__"):
        if getattr(present, "_self_wrapper", None) == wrapper:
            return True
        present = present.__wrapped__
    return False


def _wrapped_by(present: Any) -> str:
    """Return the module whose wrapper, or whose function, stands there; `functools.wraps` hides it."""
    inner = getattr(present, "_self_wrapper", None) or present
    return str(getattr(inner, "__globals__", {}).get("__name__", ""))


def _home(present: Any, patch: Patch) -> str:
    """Return the module of the package that defines what stands there: a patch may name one that only shows it."""
    module = str(getattr(present, "__module__", ""))
    return module if module.partition(".")[0] == patch.module.partition(".")[0] else patch.module


def _decorates(module: str, by: str) -> bool:
    """Whether a module has a name of `by`: then it has decorated its function itself, as with `deprecated`."""
    return any(
        (isinstance(value, ModuleType) and value.__name__ == by)
        or (isinstance(value, type | FunctionType) and value.__module__ == by)
        for value in list(getattr(sys.modules.get(module), "__dict__", {}).values())
    )


def _kept_as_it_is(owner: Any, name: str, present: Any) -> list[type]:
    """Return the classes that derive from `owner` and hold the very same method as one of their own."""
    below = derived_from(owner) if isinstance(owner, type) else ()
    return [derived for derived in below if vars(derived).get(name) is present]


def _kept_by_others(owner: Any, name: str, present: Any) -> list[Any]:
    """Return the wrappers in classes that derive from `owner` which hold `present`, and would pass ours by."""
    found: list[Any] = []
    for derived in derived_from(owner) if isinstance(owner, type) else ():
        theirs: Any = vars(derived).get(name)
        while getattr(theirs, "__wrapped__", present) is not present:
            theirs = theirs.__wrapped__
        if hasattr(theirs, "__wrapped__"):
            found.append(theirs)
    return found


def _inherited_hook(owner: type) -> Any:
    """Return an `__init_subclass__` for a class that has none of its own."""

    def inherited(derived: type, **options: Any) -> None:
        cast("Any", super(owner, derived)).__init_subclass__(**options)

    return classmethod(cast("Any", inherited))


def _take_out(theirs: Any, wrapper: Any) -> None:
    if theirs.__wrapped__ is wrapper:
        theirs.__wrapped__ = wrapper.__wrapped__


def _restore(name: str, owner: Any, wrapper: Any) -> None:
    # Somebody may have wrapped the attribute again since; taking their wrapper away is not ours to do.
    if vars(owner).get(name) is wrapper:
        setattr(owner, name, wrapper.__wrapped__)


def _take_away(name: str, owner: Any, ours: object) -> None:
    if getattr(vars(owner).get(name), "__func__", None) is ours:
        delattr(owner, name)


def _named(package: str) -> str:
    return f"{package} {version_of(package) or '(unknown version)'}"
