"""Classes below another, and what each has of a method that the other promises.

A table of patches cannot name these classes. What derives from them and calls up is for the wrapper to tell apart.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import getattr_static
from typing import Any


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
