"""SpanRelay: OpenTelemetry-native instrumentation for AI agents.

What is exported here is the public API; nothing inside the package imports it from here. Names load on first
use, because every Python process under `opentelemetry-instrument` imports this package at boot.
"""

from typing import TYPE_CHECKING, Any

from spanrelay import _exit as _exit

if TYPE_CHECKING:
    from spanrelay.config import Settings
    from spanrelay.errors import (
        CodecError,
        ConfigurationError,
        GuardrailRejected,
        MiddlewareError,
        SpanRelayError,
        TrajectoryUnavailable,
    )
    from spanrelay.notebook import show
    from spanrelay.observation.declarations import metadata_injector, sanitizer, subscribe, subscriber
    from spanrelay.observation.events import Event, MarkEvent, ScopeEvent
    from spanrelay.observation.observers import Field
    from spanrelay.pipeline.decorators import agent, tool
    from spanrelay.pipeline.managed import arun_model, arun_tool, astream_model, run_model, run_tool, stream_model
    from spanrelay.pipeline.middleware import (
        execution_intercept,
        gate,
        guardrail,
        request_intercept,
        stream_intercept,
        use,
    )
    from spanrelay.pipeline.omission import without
    from spanrelay.pipeline.started import start_model, start_scope, start_tool
    from spanrelay.runtime import Runtime, activate, flush, trajectories, trajectory
    from spanrelay.scopes import Scope, current_scope, mark, scope, scoped

__all__ = [
    "CodecError",
    "ConfigurationError",
    "Event",
    "Field",
    "GuardrailRejected",
    "MarkEvent",
    "MiddlewareError",
    "Runtime",
    "Scope",
    "ScopeEvent",
    "Settings",
    "SpanRelayError",
    "TrajectoryUnavailable",
    "activate",
    "agent",
    "arun_model",
    "arun_tool",
    "astream_model",
    "current_scope",
    "execution_intercept",
    "flush",
    "gate",
    "guardrail",
    "mark",
    "metadata_injector",
    "request_intercept",
    "run_model",
    "run_tool",
    "sanitizer",
    "scope",
    "scoped",
    "show",
    "start_model",
    "start_scope",
    "start_tool",
    "stream_intercept",
    "stream_model",
    "subscribe",
    "subscriber",
    "tool",
    "trajectories",
    "trajectory",
    "use",
    "without",
]
__version__ = "0.1.0"

_HOMES = {
    "CodecError": "errors",
    "ConfigurationError": "errors",
    "Event": "observation.events",
    "Field": "observation.observers",
    "GuardrailRejected": "errors",
    "MarkEvent": "observation.events",
    "MiddlewareError": "errors",
    "Runtime": "runtime",
    "Scope": "scopes",
    "ScopeEvent": "observation.events",
    "Settings": "config",
    "SpanRelayError": "errors",
    "TrajectoryUnavailable": "errors",
    "activate": "runtime",
    "agent": "pipeline.decorators",
    "arun_model": "pipeline.managed",
    "arun_tool": "pipeline.managed",
    "astream_model": "pipeline.managed",
    "current_scope": "scopes",
    "execution_intercept": "pipeline.middleware",
    "flush": "runtime",
    "gate": "pipeline.middleware",
    "guardrail": "pipeline.middleware",
    "mark": "scopes",
    "metadata_injector": "observation.declarations",
    "request_intercept": "pipeline.middleware",
    "run_model": "pipeline.managed",
    "run_tool": "pipeline.managed",
    "sanitizer": "observation.declarations",
    "scope": "scopes",
    "scoped": "scopes",
    "show": "notebook",
    "start_model": "pipeline.started",
    "start_scope": "pipeline.started",
    "start_tool": "pipeline.started",
    "stream_intercept": "pipeline.middleware",
    "stream_model": "pipeline.managed",
    "subscribe": "observation.declarations",
    "subscriber": "observation.declarations",
    "tool": "pipeline.decorators",
    "trajectories": "runtime",
    "trajectory": "runtime",
    "use": "pipeline.middleware",
    "without": "pipeline.omission",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'spanrelay' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"spanrelay.{home}")
    if name == "flush" and not hasattr(module, name):
        return _flush_nothing
    value = getattr(module, name)
    globals()[name] = value
    return value


def _flush_nothing(timeout: float | None = 30.0) -> bool:
    """Stand in for `flush` where a signal handler calls it in the middle of its import: nothing has ended by then."""
    return False


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
