"""The boundary of a model call: the base client's method that is given a body as it goes over the wire.

The SDK makes spans of its own, unless it is told not to. Where ours records a call, its span of the same call is left
out, and what it would have told the server of that is told of ours.
"""

from __future__ import annotations

import sys
from typing import Any

from spanrelay.instrumentation.apis.anthropic import ROUTES
from spanrelay.instrumentation.foreign import stands_aside
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.stainless import StainlessAPI
from spanrelay.providers import provider_of_host
from spanrelay.tracing import Tracing

_MODULE = "anthropic._base_client"

_CLOUDS = (("Bedrock", "aws.bedrock"), ("Vertex", "gcp.vertex_ai"))
"""Clients of SDKs that do not say yet who answers them."""
_RECORDED = frozenset(f"anthropic.messages.{what}" for what in ("create", "count_tokens", "batches.create"))
"""What the SDK calls its own spans of calls that ours records."""


def provider_of(client: Any, host: str) -> str:
    """Return the `gen_ai.provider.name` of a client: by its host, else by what it says, or its class."""
    found = provider_of_host(host) or getattr(client, "_gen_ai_provider_name", None)
    if found is not None:
        return found
    kind = type(client).__name__
    return next((name for cloud, name in _CLOUDS if cloud in kind), "anthropic")


def _propagates(client: Any, options: Any) -> bool:
    """Whether the server would be told of the SDK's own span of a call, which is left out."""
    told = getattr(client, "_open_telemetry", None)
    if told is None or getattr(options, "span_name", None) not in _RECORDED or not stands_aside("anthropic"):
        return False
    return bool(told["propagation"] and told["traces"]["enabled"])


def _reads_aws(client: Any) -> bool:
    """Whether a client asks Bedrock's own routes, whose streams AWS frames; of the class, or of one that derives."""
    return any(kind.__name__.endswith("AnthropicBedrock") for kind in type(client).__mro__)


def _start_own_span(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Start none where ours records the call: the SDK then goes on without."""
    options = args[2] if len(args) > 2 else kwargs.get("options")
    if getattr(options, "span_name", None) in _RECORDED and stands_aside("anthropic"):
        return None
    return wrapped(*args, **kwargs)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both colours of the method, and the start of the SDK's own spans; older SDKs have neither."""
    client = getattr(sys.modules.get(_MODULE), "SyncAPIClient", None)
    # There `request` may be given iterators and placeholders, and prepares them before it calls `_request`.
    method = "_request" if hasattr(client, "_copy_and_prepare") else "request"
    api = StainlessAPI(ROUTES, provider_of, tracing, propagates=_propagates, reads_aws=_reads_aws)
    table = api.patches(_MODULE, method)
    return (*table, Patch(_MODULE, "start_api_call_span", _start_own_span, required=False, newer=True))
