"""Builds the running whole from Settings: the composition root.

Idempotent: the same provider is never adopted twice. Observation that cannot be set up is left off, in one line.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection
from dataclasses import fields
from typing import cast

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import ProxyTracerProvider

from spanrelay import config, propagation, termination, tracing
from spanrelay.config import Settings
from spanrelay.instrumentation.choice import choose, switch_on
from spanrelay.instrumentation.threads import carry_context_into_threads
from spanrelay.plugins import unguarded
from spanrelay.plugins.configured import install_configured
from spanrelay.plugins.demand import demand
from spanrelay.runtime.asking import flush, trajectories, trajectory, trajectory_around
from spanrelay.runtime.ending import finish_at_exit
from spanrelay.runtime.recorder import Runtime, active, metrics_are_recorded, runtimes
from spanrelay.telemetry.front import hear_of, is_shut_down
from spanrelay.telemetry.metrics import CallMetrics
from spanrelay.telemetry.processor import EXIT_SECONDS
from spanrelay.telemetry.succession import sdk_provider, succession

__all__ = [
    "Runtime",
    "activate",
    "active",
    "adopt",
    "begin",
    "build_sdk",
    "flush",
    "trajectories",
    "trajectory",
]

_log = logging.getLogger("spanrelay")
_lock = threading.Lock()


def _free() -> None:
    """Take a lock that nobody holds: a forked child has none of its parent's threads."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free)


def activate(
    settings: Settings | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    instrument: bool | Collection[str] = True,
) -> Runtime | None:
    """Record the calls of this process: adopt the SDK's tracer provider, whoever built it, or build one.

    Every installed instrumentor of ours is switched on, for SDKs that are imported already and for those that will be.

    Args:
        settings: What to record and where; by default read from the environment.
        tracer_provider: The provider to adopt, which records from now on whatever was given no provider of its own:
            scopes, managed calls, instrumentors. By default the one that was named before, else the global one.
        instrument: The instrumentors to switch on: True for all that are installed, names as `["openai"]`, or False.
            Where a configuration file has put policy in force it is all, so that no SDK escapes it.

    Returns:
        The runtime, or None where recording is off (`OTEL_SDK_DISABLED`) or there is no SDK provider to adopt.

    Raises:
        TypeError: `settings` is not a `Settings`, or `instrument` is neither a bool nor names.
        ConfigurationError: a variable of the environment is not valid, a configuration file cannot be put in force,
            or no instrumentor of a name is installed; the message names it.
    """
    if settings is not None and not isinstance(settings, Settings):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass dicts
        raise TypeError(
            f"activate() takes a spanrelay.Settings, not a {type(settings).__name__!r}: "
            "activate(Settings(content='spans'))"
        )
    chosen = choose(instrument)
    given = settings
    if settings is None:
        config.warn_of_unknown_names()
        settings = config.load_strictly()
        if not termination.is_worker():
            config.tell_that_nothing_is_recorded(settings)
    _hold_policy(settings)
    provider = tracer_provider or tracing.named_provider()
    runtime = adopt(settings, provider)
    if runtime is not None and tracer_provider is not None:
        tracing.name_provider(tracer_provider)
    switch_on(chosen)  # whether anything is recorded or not: policy from code needs them too
    if given is not None:
        _warn_of_differences(settings, runtimes.get(id(sdk_provider(provider or trace.get_tracer_provider()))))
    return runtime


def _hold_policy(settings: Settings) -> None:
    install_configured(settings.config_file)
    if demand.policy:
        from spanrelay.plugins.coverage import cover  # looks through what is installed

        cover()
    elif not (settings.disabled or settings.quiet):
        unguarded.watch()


def _warn_of_differences(settings: Settings, runtime: Runtime | None) -> None:
    """Say which of `settings` are not used because what is active was activated with others."""
    used = settings if runtime is None else runtime.settings
    names = [field.name for field in fields(used) if getattr(used, field.name) != getattr(settings, field.name)]
    if names:
        _log.warning(
            "SpanRelay is already active with other settings, which stay in force; ignored: %s", ", ".join(names)
        )


def adopt(settings: Settings, tracer_provider: TracerProvider | None = None) -> Runtime | None:
    """Do what `activate` says, but in silence where something is active already, with whatever settings."""
    install_configured(settings.config_file)  # recording may be off; policy never is
    tracing.recording.trajectory = trajectory_around
    if settings.disabled:
        return None
    carrier = config.trace_of_environment()
    if carrier:
        propagation.join(carrier)
    with _lock:
        given = tracer_provider or _global_provider()
        provider = sdk_provider(given)
        if provider is None:
            _log.warning(
                "the tracer provider %r is not the SDK's; "
                "it is given the spans of calls, and no trajectories are written",
                type(given).__qualname__,
            )
            return None
        if id(provider) not in runtimes:
            if is_shut_down(provider):
                _log.warning(
                    "the tracer provider %r was shut down before activate(): its spans are not exported; make another",
                    type(provider).__qualname__,
                )
            begin(provider, settings)
            finish_at_exit()
            if settings.sigterm != "off":
                termination.spare()
            if settings.sigterm == "on" and not termination.handle():
                _log.warning("SIGTERM is not handled: activate() was not called on the main thread")
            carry_context_into_threads()
        _face(given, runtimes[id(provider)])
        return runtimes[id(provider)]


def begin(provider: TracerProvider, settings: Settings) -> Runtime:
    """Record what `provider` makes spans of, and do nothing else of what `activate` does for the process."""
    runtime = Runtime(provider, settings)
    tracing.recording.trajectory = trajectory_around
    runtimes[id(provider)] = runtime
    runtime.start()
    return runtime


def _face(provider: trace.TracerProvider, runtime: Runtime) -> None:
    """Know `provider`, another's, for one that hands on to the SDK's, also to others than now (Logfire's does)."""
    if provider is not runtime.provider and not tracing.is_adopted(provider):
        tracing.adopt(provider)
        hear_of(provider, "set_provider", lambda: _follow(provider, runtime.settings))


def _follow(provider: trace.TracerProvider, settings: Settings) -> None:
    if id(sdk_provider(provider)) in runtimes:
        return
    for runtime in active():
        if runtime.processor.closed:
            runtime.deactivate()
    tracing.turn_all()
    adopt(settings, cast("TracerProvider", provider))


def _succeed(built: object, own: TracerProvider) -> None:
    """Go on with `own`, which the program has set and which has become one with what was built for it."""
    with _lock:
        runtime = runtimes.pop(id(built), None)
        if runtime is not None and id(own) not in runtimes:
            runtimes[id(own)] = runtime
            runtime.move(own)
        elif runtime is not None and runtime.worker is not None:
            runtime.worker.shutdown(EXIT_SECONDS)  # `own` has a runtime already
        if id(own) in runtimes:
            _face(trace.get_tracer_provider(), runtimes[id(own)])
    tracing.turn_all()


def _measure() -> None:
    """Measure calls from now on, where the program has set a meter provider that somebody reads."""
    with _lock:
        for worker in [runtime.worker for runtime in runtimes.values() if runtime.settings.metrics]:
            if worker is not None and worker.measure is None and metrics_are_recorded():
                worker.measure = CallMetrics().record


succession.then = _succeed
succession.measured = _measure


def _global_provider() -> trace.TracerProvider:
    provider = trace.get_tracer_provider()
    if isinstance(provider, ProxyTracerProvider):
        build_sdk()
        succession.expect()
        provider = trace.get_tracer_provider()
    return provider


def build_sdk() -> None:
    """Build the SDK's providers from the environment, as `opentelemetry-instrument` would.

    Raises:
        ConfigurationError: a variable of OpenTelemetry's is not valid; the message names it.
    """
    from spanrelay.sdk import SpanRelayConfigurator  # imports the SDK's configurator, which is not small

    SpanRelayConfigurator().configure_strictly()
