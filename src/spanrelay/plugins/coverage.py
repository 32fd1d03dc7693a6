"""Sees to it that no SDK of ours is used unpatched while a file's policy is in force.

From code every installed instrumentor is applied, asked for or not: the file asked. Under `opentelemetry-instrument`
one may be left out for many reasons: switched off, a version that is not supported, another one that failed before it.
A program whose policy would not hold ends when it imports the SDK.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any

from opentelemetry.instrumentation.dependencies import DependencyConflictError

from spanrelay._guard import losses
from spanrelay.config import disabled_instrumentations
from spanrelay.errors import ConfigurationError
from spanrelay.imports import on_execution
from spanrelay.installed import instrumentors, version_of
from spanrelay.plugins import unguarded
from spanrelay.plugins.demand import demand, end_now

_log = logging.getLogger("spanrelay")
_watched: set[str] = set()


def watch() -> None:
    """Look at every SDK that an installed instrumentor of ours is for, when it is imported.

    What has been imported already can only be instrumented at once.

    Raises:
        ConfigurationError: an instrumentor cannot be imported, so that nobody knows what it is for, or an SDK that
            has been imported cannot be instrumented, or has no instrumentor where the files say that this stops.
    """
    for instrumentor in _installed():
        if _imported(instrumentor):
            _apply(instrumentor)
        _watch(instrumentor)
    unguarded.watch(http=True)
    demand.held = True


def cover() -> None:
    """Apply every installed instrumentor of ours, to what has been imported and to what will be.

    Raises:
        ConfigurationError: as `watch`.
    """
    for instrumentor in _installed():
        _apply(instrumentor)
        _watch(instrumentor)
    unguarded.watch(http=True)
    demand.held = True


def _installed() -> Iterator[Any]:
    for entry_point in instrumentors():
        try:
            yield entry_point.load()()
        except Exception as error:
            _refuse(
                f"instrumentor {entry_point.name!r} cannot be imported, so policy would not hold: "
                f"{type(error).__name__}: {error}; reinstall it, or uninstall it"
            )


def _imported(instrumentor: Any) -> bool:
    return any(module in sys.modules for module in _own(instrumentor))


def _own(instrumentor: Any) -> tuple[str, ...]:
    """Return its SDK's modules: others that it patches too are there without the SDK.

    Where the SDK is not installed, a module of a common name, as `agents`, may be the program's own.
    """
    first: str = instrumentor.modules[0]
    if version_of(instrumentor.package) is None:
        return (first,)
    top = first.partition(".")[0]
    return tuple(module for module in instrumentor.modules if module.partition(".")[0] == top)


def _apply(instrumentor: Any) -> None:
    try:
        instrumentor.hold()
    except DependencyConflictError:
        if _imported(instrumentor):  # else it is looked at when it is imported, if it ever is
            _refuse(_unpatched(instrumentor))


def _watch(instrumentor: Any) -> None:
    for module in _own(instrumentor):
        if module not in _watched:
            _watched.add(module)
            on_execution(module, partial(_check, instrumentor))


def _check(instrumentor: Any, module: ModuleType) -> None:
    if not demand.policy or instrumentor.is_instrumented_by_opentelemetry or _comes_early(instrumentor):
        return
    if demand.stops:
        end_now(_unpatched(instrumentor))
    _warn(_unpatched(instrumentor))


def _comes_early(instrumentor: Any) -> bool:
    """Whether the SDK was imported by other instrumentation before the turn of ours, which is in force now."""
    off = disabled_instrumentations()
    meant = "*" not in off and all(
        each.name not in off for each in instrumentors() if each.load() is type(instrumentor)
    )
    if demand.others_load and meant:
        with suppress(Exception):  # what is said then is that it is not instrumented
            instrumentor.hold()
            return True
    return False


def _refuse(message: str) -> None:
    """Raise, or warn where the files say that it is enough."""
    if demand.stops:
        raise ConfigurationError(message)
    _warn(message)


def _warn(message: str) -> None:
    losses.add("parts of the configured policy")
    _log.warning("%s", message)


def _unpatched(instrumentor: Any) -> str:
    return (
        f"{instrumentor.package!r} is imported and not instrumented, so the configured policy does not hold for it; "
        f"install a supported version ({', '.join(instrumentor.requires)}), and do not switch it off in "
        'OTEL_PYTHON_DISABLED_INSTRUMENTATIONS; [policy] on_failure = "warn" lets the program run without it'
    )
