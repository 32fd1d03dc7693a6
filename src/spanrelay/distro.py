"""The front door: what `opentelemetry-instrument` finds, under our distro, somebody else's, or a config file.

Sets defaults with `setdefault` only, and does the real work in `activate()`, which is idempotent.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.util._importlib_metadata import EntryPoint

from spanrelay import config, termination
from spanrelay._exit import at_exit
from spanrelay._guard import guarded, losses, traced
from spanrelay.config import Settings
from spanrelay.errors import ConfigurationError
from spanrelay.plugins import unguarded
from spanrelay.plugins.configured import install_configured
from spanrelay.plugins.demand import demand, end_boot
from spanrelay.sdk import SpanRelayConfigurator
from spanrelay.telemetry.front import Latch
from spanrelay.telemetry.signals import signals
from spanrelay.telemetry.succession import succession

__all__ = ["SpanRelayConfigurator", "SpanRelayDistro", "pre_instrument"]

_log = logging.getLogger("spanrelay")


class SpanRelayDistro(BaseDistro):
    """Entry point `opentelemetry_distro`: sets defaults, and loads instrumentors so that none harms the others."""

    def _configure(self, **kwargs: Any) -> None:
        os.environ.setdefault("OTEL_PYTHON_CONFIGURATOR", "spanrelay")
        os.environ.setdefault("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        # Before anything that can fail: what fails later is swallowed, and the program runs.
        _install_policy(config.load()[0])

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load one instrumentor; a foreign one that fails does not stop the ones after it."""
        demand.others_load = not entry_point.value.startswith("spanrelay_")
        try:
            super().load_instrumentor(entry_point, **kwargs)
        except (ModuleNotFoundError, ImportError):
            raise
        except Exception as error:
            _log.warning("instrumentor %r failed and is left out\n%s", entry_point.name, traced(error))
        finally:
            demand.others_load = False


def pre_instrument() -> None:
    """Entry point `opentelemetry_pre_instrument`: run after the provider exists, whichever distro built it.

    Raises:
        SystemExit: policy that a configuration file asks for cannot be put in force.
    """
    settings, problems = config.load()
    for problem in problems:
        config.tell(problem)
    config.warn_of_unknown_names()
    _install_policy(settings)
    if not (demand.policy or settings.disabled or settings.quiet):
        unguarded.watch()
    if losses.counted() or demand.policy:  # what a file cannot have, or has on trial, is told at the end
        at_exit(_report_losses, last=True)
    carrier = config.trace_of_environment()
    if carrier and not settings.disabled:
        from spanrelay.propagation import join  # few processes are started with a trace to continue

        join(carrier)
    if settings.disabled and not termination.is_worker():
        # When an SDK is imported: most processes that boot with us have nothing to record.
        Latch(lambda: config.tell_that_nothing_is_recorded(settings)).wait(None)
    if not settings.disabled:
        with guarded("wrapping log and metric exporters"):
            signals.cover()
        if settings.sigterm != "off":
            termination.handle()
        atexit.register(_finish_children, settings)
        with guarded("wrapping the tracer provider"):
            Latch(lambda: _open(settings)).wait(trace.get_tracer_provider())
            succession.expect()


def _install_policy(settings: Settings) -> None:
    """Put in force what configuration files ask for, or end the program before its first line."""
    try:
        install_configured(settings.config_file)
        if demand.policy:
            from spanrelay.plugins.coverage import watch

            watch()
    except ConfigurationError as error:
        end_boot(str(error))
    except Exception as error:
        # An error of ours is no reason to run without the policy that was asked for.
        end_boot(f"the configuration cannot be put in force: {type(error).__name__}: {error}")


def _report_losses() -> None:
    from spanrelay.report import report_losses  # a process that made no span has not imported it

    report_losses()


def _finish_children(settings: Settings) -> None:
    """Finish what killed children of multiprocessing left, where this process has recorded nothing itself."""
    if "multiprocessing.process" in sys.modules and "spanrelay.runtime" not in sys.modules:
        termination.finish_children(settings)


def _open(settings: Settings) -> SpanProcessor | None:
    from spanrelay.runtime import adopt  # with the first span: most processes that boot with us make none

    with guarded("activating"):
        runtime = adopt(settings)
        return runtime.processor if runtime is not None else None
    return None
