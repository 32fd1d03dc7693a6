"""Settings files of agents: read as they stand, and with our hooks behind those that are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from spanrelay import _json
from spanrelay.codecs.narrowing import as_mapping


def read_settings(path: Path) -> Mapping[str, Any]:
    """Return what a settings file says; one that cannot be read is the agent's affair."""
    try:
        return as_mapping(_json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def with_hooks(settings: Mapping[str, Any], events: Iterable[str], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hooks of settings, by event, with `entry` behind those of each of `events`."""
    hooks: dict[str, Any] = dict(as_mapping(settings.get("hooks")))
    for event in events:
        before = hooks.get(event)
        hooks[event] = [*(cast("list[Any]", before) if isinstance(before, list) else []), entry]
    return hooks


def switched_off(known: Iterable[tuple[str, Mapping[str, Any]]]) -> str | None:
    """Return which of settings, told with where they stand, keeps all hooks from running, in words; None where none."""
    found = (path for path, settings in known if settings.get("disableAllHooks") is True)
    return next((f"{path} says disableAllHooks" for path in found), None)
