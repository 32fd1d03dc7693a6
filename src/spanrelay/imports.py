"""Tells whoever waits for a module each time it is executed: imported, imported anew, or reloaded.

Hooks in the manner of PEP 369, wrapt's among them, fire once, and what test runners, autoreload and hosts of plugins
import again would be bare. Whatever a hook raises, the import raises.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeAlias, cast

import wrapt

Hook: TypeAlias = Callable[[ModuleType], None]

_waiting: dict[str, list[Hook]] = {}


def on_execution(name: str, hook: Hook) -> None:
    """Call `hook` with the module `name` each time it has been executed from now on."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _waiting.setdefault(name, []).append(hook)


class _Finder:
    """Finds what is waited for as the finders behind it do, and stands in front of its loader."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _waiting:
            return None
        # Not by `importlib.util.find_spec`: it would begin with us again, and of a reload it knows no more.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find is not None else None
            if spec is not None:
                _stand_before_loader(spec)
                return spec
        return None


_finder: Any = _Finder()


def _stand_before_loader(spec: ModuleSpec) -> None:
    if hasattr(spec.loader, "exec_module") and not isinstance(spec.loader, _Loader):
        spec.loader = cast("Any", _Loader(spec.loader))


class _Loader(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument] - wrapt has no types here
    """A module's own loader in everything else; it leaves when it has done its work, so that none sees it."""

    def exec_module(self, module: ModuleType) -> None:
        for owner, name in ((module, "__loader__"), (module.__spec__, "loader")):
            if getattr(owner, name, None) is self:
                setattr(owner, name, self.__wrapped__)
        self.__wrapped__.exec_module(module)
        for hook in tuple(_waiting.get(module.__name__, ())):
            hook(module)
