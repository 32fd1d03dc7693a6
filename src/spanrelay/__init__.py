"""SpanRelay: OpenTelemetry-native instrumentation for AI agents.

What is exported here is the public API; nothing inside the package imports it from here.
"""

from spanrelay.activate import Runtime, activate
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
from spanrelay.scope import Scope, current_scope, mark, scope

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
