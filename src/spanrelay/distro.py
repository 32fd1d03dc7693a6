"""The front door: what `opentelemetry-instrument` finds, under our distro, somebody else's, or a config file.

Sets defaults with `setdefault` only, and does the real work in `activate()`, which is idempotent.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.util._importlib_metadata import EntryPoint

from spanrelay import config
from spanrelay._guard import guarded
from spanrelay.config import Settings
from spanrelay.sdk import SpanRelayConfigurator
from spanrelay.telemetry.front import Latch

__all__ = ["SpanRelayConfigurator", "SpanRelayDistro", "pre_instrument"]

_log = logging.getLogger("spanrelay")


class SpanRelayDistro(BaseDistro):
    """Entry point `opentelemetry_distro`: sets defaults, and loads instrumentors so that none harms the others."""

    def _configure(self, **kwargs: Any) -> None:
        os.environ.setdefault("OTEL_PYTHON_CONFIGURATOR", "spanrelay")
        os.environ.setdefault("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load one instrumentor; a foreign one that fails does not stop the ones after it."""
        try:
            super().load_instrumentor(entry_point, **kwargs)
        except (ModuleNotFoundError, ImportError):
            raise
        except Exception:
            _log.warning("instrumentor %r failed and is left out", entry_point.name, exc_info=True)


def pre_instrument() -> None:
    """Entry point `opentelemetry_pre_instrument`: run after the provider exists, whichever distro built it."""
    settings, problems = config.load()
    for problem in problems:
        _log.error("%s; that part is off", problem)
    if not settings.disabled:
        with guarded("standing in front of the tracer provider"):
            Latch(lambda: _open(settings)).wait(trace.get_tracer_provider())


def _open(settings: Settings) -> SpanProcessor | None:
    from spanrelay.runtime import activate  # with the first span: most processes that boot with us make none

    with guarded("activating"):
        runtime = activate(settings)
        return runtime.processor if runtime is not None else None
    return None
