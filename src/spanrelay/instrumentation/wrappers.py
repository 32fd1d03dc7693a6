"""What stands in the place of a function or method of another package, and is copied, pickled and held weakly as that.

A pickle names what it stands for, so that it can be read where nothing is wrapped.
"""

from __future__ import annotations

import copy
import pkgutil
from functools import partial
from types import MethodType
from typing import Any, cast

import wrapt


class _AsFunction:
    """How `copy`, `deepcopy` and `pickle` treat functions and methods; wrapt leaves that to those who derive."""

    __slots__ = ()

    def __copy__(self: Any) -> Any:
        return self

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        owner = _owner_of(self)
        if owner is None or isinstance(owner, type):
            return self
        return self._self_parent.__get__(copy.deepcopy(owner, memo), type(owner))

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        owner = _owner_of(self)
        if owner is not None:
            return getattr, (owner, self.__name__)
        return pkgutil.resolve_name, (f"{self.__module__}:{self.__qualname__}",)


class _Method(type):
    """Makes a method again as a `weakref.WeakMethod` does: of its function and its instance."""

    def __call__(cls, function: Any, owner: Any) -> Any:
        return function.__get__(owner, type(owner))


class _Bound(_AsFunction, wrapt.BoundFunctionWrapper, metaclass=_Method):  # pyright: ignore[reportMissingTypeArgument] - wrapt has none here
    """A `Wrapped` that was looked up at an instance or a class."""

    @property
    def __func__(self: Any) -> Any:
        owner = _owner_of(self)
        if owner is None or isinstance(owner, type):
            return self.__wrapped__.__func__
        return self._self_parent.unbound(type(owner))


class Wrapped(_AsFunction, wrapt.FunctionWrapper):  # pyright: ignore[reportMissingTypeArgument] - wrapt has none here
    """A function wrapper of wrapt's, with which programs can do what they can do with the function."""

    # No annotations here: those of the class would stand for the function's.

    # Every call looks one up: wrapt makes them without code of ours.
    __bound_function_wrapper__ = cast("Any", staticmethod(partial(type.__call__, _Bound)))

    _self_unbound = cast("Any", None)

    def unbound(self: Any, owner: type) -> Any:
        """Return what stands at the class: always the same object, since a `weakref.WeakMethod` holds it weakly."""
        if self._self_unbound is None:
            self._self_unbound = self.__get__(None, owner)
        return self._self_unbound


def _owner_of(wrapper: Any) -> Any:
    """Return what a wrapped method is bound to, or None."""
    wrapped = wrapper.__wrapped__
    return wrapped.__self__ if isinstance(wrapped, MethodType) else None
