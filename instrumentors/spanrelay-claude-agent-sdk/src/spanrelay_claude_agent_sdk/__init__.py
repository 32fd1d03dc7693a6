"""SpanRelay instrumentor for the Claude Agent SDK: runs and turns, model calls, tools, sub-agents, and policy.

A patch table; how a run begins and ends stands in `runs`, and what joins a session of the CLI in `joining`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["ClaudeAgentSDKInstrumentor"]
__version__ = "0.1.0"


class ClaudeAgentSDKInstrumentor(Instrumentor):
    """Instruments `claude_agent_sdk`: `ClaudeAgentSDKInstrumentor().instrument(tracer_provider=None)`, and back."""

    package = "claude-agent-sdk"
    requires = ("claude-agent-sdk >= 0.2.180",)
    modules = (
        "claude_agent_sdk._internal.client",
        "claude_agent_sdk._internal.query",
        "claude_agent_sdk._internal.transport.subprocess_cli",
        "claude_agent_sdk.client",
        "mcp.server._otel",
    )
    name = "spanrelay_claude_agent_sdk"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The two ways of a run, and the one object through which both talk to the CLI."""
        from spanrelay_claude_agent_sdk import joining, runs

        return (*runs.patches(tracing), *joining.patches(tracing))
