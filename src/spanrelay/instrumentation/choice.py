"""Which installed instrumentors `activate()` switches on: all, those that it is given, or none.

Imports no SDK: an instrumentor waits until the program imports its own. What is on already stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from importlib.metadata import EntryPoint
from typing import Any

from opentelemetry.instrumentation.dependencies import DependencyConflictError

from spanrelay import config
from spanrelay._guard import pass_on, traced
from spanrelay.errors import ConfigurationError
from spanrelay.installed import instrumentors, version_of

_log = logging.getLogger("spanrelay")


def choose(instrument: bool | Collection[str]) -> list[EntryPoint]:
    """Return the instrumentors that are meant, without those of `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`.

    Args:
        instrument: True for all that are installed, False for none, or names: `"openai"`, `"spanrelay-openai"`.

    Raises:
        TypeError: it is something else.
        ConfigurationError: no installed instrumentor has such a name.
    """
    if instrument is False:
        return []
    found = {_short(each.name): each for each in instrumentors()}
    if instrument is not True:
        found = {name: found[name] for name in _names(instrument, list(found))}
    off = config.disabled_instrumentations()
    return [] if "*" in off else [each for each in found.values() if each.name not in off]


def switch_on(chosen: Collection[EntryPoint]) -> None:
    """Apply instrumentors to what has been imported and to what will be; one that fails is told and left out."""
    for entry_point in chosen:
        try:
            _apply(entry_point.load()())
        except Exception as error:
            pass_on(error)
            _log.warning("instrumentor %r failed and is left out\n%s", entry_point.name, traced(error))


def _apply(instrumentor: Any) -> None:
    try:
        instrumentor.hold()
    except DependencyConflictError:
        version = version_of(instrumentor.package)
        if version is not None:  # what is not installed is not missed
            _log.warning(
                "%s %s is not recorded; install a supported version (%s)",
                instrumentor.package,
                version,
                ", ".join(instrumentor.requires),
            )


def _names(instrument: Any, installed: list[str]) -> list[str]:
    if isinstance(instrument, str) or not isinstance(instrument, Collection):
        raise TypeError(
            f"activate(instrument=…) takes True, False or a list of names, not {instrument!r}: instrument=['openai']"
        )
    return [_known(name, installed) for name in instrument]


def _known(name: Any, installed: list[str]) -> str:
    short = _short(name) if isinstance(name, str) else ""
    if short in installed:
        return short
    from difflib import get_close_matches  # only where something is wrong

    near = get_close_matches(short, installed, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(installed) or 'none'}"
    raise ConfigurationError(f"activate(instrument=…): no instrumentor {name!r} is installed; {hint}")


def _short(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("spanrelay-")
