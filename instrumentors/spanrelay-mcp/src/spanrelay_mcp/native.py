"""The spans that the SDK makes by itself since 2.0: those of calls that ours record stand down, and no others.

The trace still goes with the request: the SDK puts the current span there, which is ours.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from opentelemetry.trace import INVALID_SPAN

from spanrelay.codecs.mcp_tool import METHOD
from spanrelay.installed import version_of
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import call_in_flight
from spanrelay.semconv import names
from spanrelay.tracing import recording
from spanrelay_mcp.calls import RemoteCall


def is_first_generation() -> bool:
    """Whether the SDK is 1.x, which has other sessions and makes no spans."""
    return (version_of("mcp") or "2").partition(".")[0] == "1"


def patches() -> tuple[Patch, ...]:
    """The function that opens the SDK's spans, by both its names."""
    if is_first_generation():
        return ()
    return tuple(
        Patch(module, "otel_span", _open, required=False)
        for module in ("mcp.shared.jsonrpc_dispatcher", "mcp.server._otel")
    )


def _open(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    call = call_in_flight()
    told: dict[str, str] = kwargs.get("attributes") or {}
    if (
        not isinstance(call, RemoteCall)
        or told.get(names.MCP_METHOD) != METHOD
        or call.side is not kwargs.get("kind")
        or recording.tells_again is not None  # the program asked for spans of others beside ours
    ):
        return wrapped(*args, **kwargs)
    if names.RPC_REQUEST_ID in told:
        call.facts[names.RPC_REQUEST_ID] = told[names.RPC_REQUEST_ID]
    return nullcontext(INVALID_SPAN)
