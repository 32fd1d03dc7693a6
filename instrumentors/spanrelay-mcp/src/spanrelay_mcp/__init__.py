"""SpanRelay instrumentor for the MCP Python SDK: each call of a tool, at its client and at its server.

A patch table for both generations of the SDK. What a call of a tool is stands in `calls`, its two sides in `clients`
and `servers`, and how the SDK's own spans of the same calls stand down in `native`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanrelay.instrumentation.instrumentor import Instrumentor

if TYPE_CHECKING:
    from spanrelay.instrumentation.patching import Patch
    from spanrelay.tracing import Tracing

__all__ = ["MCPInstrumentor"]
__version__ = "0.1.0"


class MCPInstrumentor(Instrumentor):
    """Instruments `mcp`: `MCPInstrumentor().instrument(tracer_provider=None)`, and `uninstrument()`."""

    package = "mcp"
    requires = ("mcp >= 1.14",)
    modules = (
        "mcp.client.session",
        "mcp.server.fastmcp.tools.base",
        "mcp.server.lowlevel.server",
        "mcp.server.mcpserver.tools.base",
        "mcp.server.runner",
        "mcp.server._otel",
        "mcp.shared.jsonrpc_dispatcher",
        "mcp.shared.session",
    )
    name = "spanrelay_mcp"
    version = __version__

    def patches(self, tracing: Tracing) -> tuple[Patch, ...]:
        """The sending of requests, the handling of those that come, and the SDK's own spans."""
        from spanrelay_mcp import clients, native, servers

        return (*clients.patches(tracing), *servers.patches(tracing), *native.patches())
