"""Methods that every class below another has of its own, patched in those that exist and those that are yet to be.

A table of patches cannot name these classes. What derives from them and calls up is for the wrapper to tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import getattr_static
from typing import Any, cast

import wrapt

from spanrelay._guard import guarded

_HOOK = "__init_subclass__"


class Subclasses:
    """Keeps the classes below one patched, from `patch` to `restore`.

    Args:
        wrappers: Wrapt wrappers by the name of the method.
    """

    def __init__(self, wrappers: Mapping[str, Callable[..., Any]]) -> None:
        self._wrappers = wrappers
        self._root: Any = None
        self._own: Any = None

    @property
    def enabled(self) -> bool:
        """Whether they are in force: wrappers that somebody still holds read this."""
        return self._root is not None

    def patch(self, root: type) -> None:
        """Patch what derives from `root`, and what will."""
        if self._root is not None:
            return
        self._root = root
        for kind in derived_from(root):
            self._take(kind)
        take, own = self._take, vars(root).get(_HOOK)
        self._own = own

        def told_of(cls: type, **options: Any) -> None:
            if own is None:
                super(root, cls).__init_subclass__(**options)
            else:
                own.__get__(None, cls)(**options)
            with guarded(f"instrumenting a class below {root.__name__}"):
                take(cls)

        setattr(root, _HOOK, classmethod(told_of))

    def _take(self, kind: type) -> None:
        for name, wrapper in self._wrappers.items():
            present = method_of(kind, self._root, name)
            if present is None or getattr(present, "__isabstractmethod__", False):
                continue
            setattr(kind, name, wrapt.FunctionWrapper(present, cast("Any", wrapper), enabled=lambda: self.enabled))

    def restore(self) -> None:
        """Put every class back."""
        root, self._root = self._root, None
        if root is None:
            return
        delattr(root, _HOOK)
        if self._own is not None:
            setattr(root, _HOOK, self._own)
        # No list of what was patched, which would grow: a program may make classes without end.
        for kind in derived_from(root):
            for name, wrapper in self._wrappers.items():
                unwrap(kind, name, wrapper)


def derived_from(root: type) -> dict[type, None]:
    """Return the classes below `root`, each once."""
    return {each: None for kind in type.__subclasses__(root) for each in (kind, *derived_from(kind))}


def method_of(kind: type, root: type, name: str) -> Any:
    """Return the method that `kind` has of its own or of a class beside `root`, which nobody else can patch; or None.

    One that it has of a class below `root` is patched there.
    """
    owner = next((each for each in kind.__mro__ if name in vars(each)), root)
    return None if owner is not kind and root in owner.__mro__ else vars(owner)[name]


def unwrap(kind: type, name: str, wrapper: Callable[..., Any]) -> None:
    """Put back what `wrapper` stands around. Where somebody has wrapped it again since, that is not ours to do."""
    present: Any = vars(kind).get(name)
    if getattr(present, "_self_wrapper", None) != wrapper:
        return
    delattr(kind, name)
    if getattr_static(kind, name, None) is not present.__wrapped__:
        setattr(kind, name, present.__wrapped__)
