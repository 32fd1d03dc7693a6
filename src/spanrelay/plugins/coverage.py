"""Watches that no SDK of ours is used unpatched while policy is in force.

Under `opentelemetry-instrument` an instrumentor may be left out for many reasons: switched off, a version that is
not supported, another one that failed before it. A program whose policy would not hold ends when it imports the SDK.
"""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType
from typing import Any

import wrapt
from opentelemetry.util._importlib_metadata import EntryPoint, entry_points

from spanrelay.errors import ConfigurationError
from spanrelay.plugins.demand import demand, end_now

_watched: set[str] = set()


def watch() -> None:
    """Look at every SDK that an installed instrumentor of ours is for, when it is imported.

    Raises:
        ConfigurationError: an instrumentor cannot be imported, so that nobody knows what it is for.
    """
    for entry_point in entry_points(group="opentelemetry_instrumentor"):
        if entry_point.value.startswith("spanrelay_"):
            _watch(entry_point)


def _watch(entry_point: EntryPoint) -> None:
    try:
        instrumentor: Any = entry_point.load()()
    except Exception as error:
        raise ConfigurationError(
            f"instrumentor {entry_point.name!r} cannot be imported, so policy would not hold: "
            f"{type(error).__name__}: {error}; reinstall it, or uninstall it"
        ) from error
    for module in instrumentor.modules:
        if module not in _watched and module not in sys.modules:
            _watched.add(module)
            wrapt.register_post_import_hook(partial(_check, instrumentor), module)


def _check(instrumentor: Any, module: ModuleType) -> None:
    if demand.stops and not instrumentor.is_instrumented_by_opentelemetry:
        end_now(
            f"spanrelay: {instrumentor.package!r} is imported and not instrumented, so the configured policy does not "
            f"hold for it; install a supported version ({', '.join(instrumentor.requires)}), and do not switch it off "
            'in OTEL_PYTHON_DISABLED_INSTRUMENTATIONS; [policy] on_failure = "warn" lets the program run without'
        )
