"""SpanRelay: OpenTelemetry-native instrumentation for AI agents.

What is exported here is the public API; nothing inside the package imports it from here. Names load on first
use, because every Python process under `opentelemetry-instrument` imports this package at boot.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spanrelay.config import Settings
    from spanrelay.errors import (
        CodecError,
        ConfigurationError,
        GuardrailRejected,
        MiddlewareError,
        SpanRelayError,
    )
    from spanrelay.pipeline.managed import arun_tool, run_tool
    from spanrelay.pipeline.middleware import execution_intercept, guardrail, request_intercept, use
    from spanrelay.runtime import Runtime, activate
    from spanrelay.scopes import Scope, current_scope, mark, scope

__all__ = [
    "CodecError",
    "ConfigurationError",
    "GuardrailRejected",
    "MiddlewareError",
    "Runtime",
    "Scope",
    "Settings",
    "SpanRelayError",
    "activate",
    "arun_tool",
    "current_scope",
    "execution_intercept",
    "guardrail",
    "mark",
    "request_intercept",
    "run_tool",
    "scope",
    "use",
]
__version__ = "0.1.0"

_HOMES = {
    "CodecError": "errors",
    "ConfigurationError": "errors",
    "GuardrailRejected": "errors",
    "MiddlewareError": "errors",
    "Runtime": "runtime",
    "Scope": "scopes",
    "Settings": "config",
    "SpanRelayError": "errors",
    "activate": "runtime",
    "arun_tool": "pipeline.managed",
    "current_scope": "scopes",
    "execution_intercept": "pipeline.middleware",
    "guardrail": "pipeline.middleware",
    "mark": "scopes",
    "request_intercept": "pipeline.middleware",
    "run_tool": "pipeline.managed",
    "scope": "scopes",
    "use": "pipeline.middleware",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'spanrelay' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"spanrelay.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
