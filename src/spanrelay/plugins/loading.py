"""Finds plugins by their entry points and loads the ones that are asked for.

A plugin that nobody configures is never imported.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, cast

from opentelemetry.util._importlib_metadata import EntryPoint, entry_points

from spanrelay.plugins.plugin import Diagnostic, Plugin
from spanrelay.plugins.reading import meaning

GROUP = "spanrelay_plugin"
"""The group of the entry points; each names a class that is made without arguments, or an object."""


def installed() -> dict[str, list[EntryPoint]]:
    """Return the entry points of all installed plugins by name; more than one of a name is a fault."""
    found: dict[str, list[EntryPoint]] = {}
    for entry_point in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        found.setdefault(entry_point.name, []).append(entry_point)
    return found


class Shelf:
    """The plugins that have been loaded; one object serves every file and every reload."""

    def __init__(self) -> None:
        self._loaded: dict[str, Plugin] = {}

    def take(self, name: str) -> tuple[Plugin | None, list[Diagnostic]]:
        """Return the plugin called `name`, or None and why there is none."""
        if name in self._loaded:
            return self._loaded[name], []
        choices = installed()
        named = choices.get(name, [])
        if not named:
            return None, [Diagnostic("no installed plugin has this name", _install_or(name, choices))]
        if len(named) > 1:
            values = ", ".join(entry_point.value for entry_point in named)
            return None, [Diagnostic(f"several plugins have this name: {values}", "uninstall all but one")]
        plugin, problem = load(named[0])
        if plugin is not None:
            self._loaded[name] = plugin
        return plugin, [] if problem is None else [problem]


def load(entry_point: EntryPoint) -> tuple[Plugin | None, Diagnostic | None]:
    """Import one plugin, or say why it is none."""
    try:
        found: Any = entry_point.load()
        plugin: Any = found() if isinstance(found, type) else found
    except Exception as error:
        return None, Diagnostic(f"cannot be loaded: {type(error).__name__}: {error}", f"see {entry_point.value!r}")
    fault = _fault(plugin, entry_point.name)
    if fault is not None:
        return None, Diagnostic(f"is not a plugin: {fault}", f"see {entry_point.value!r} and spanrelay.plugins.Plugin")
    return cast("Plugin", plugin), None


def _fault(plugin: Any, name: str) -> str | None:
    own = getattr(plugin, "name", None)
    if own != name:
        return f"its name is {own!r}, its entry point's is {name!r}"
    model = getattr(plugin, "config_model", None)
    if not (isinstance(model, type) and is_dataclass(model)):
        return "its config_model is not a dataclass"
    lacking = [method for method in ("validate", "register") if not callable(getattr(plugin, method, None))]
    return f"it has no {' and no '.join(lacking)}" if lacking else None


def _install_or(name: str, choices: dict[str, Any]) -> str:
    meant = meaning(name, choices)
    known = f"; installed: {', '.join(sorted(choices))}" if not meant else ""
    return (f"{meant} If not, " if meant else "") + f"install the package that has it{known}"
