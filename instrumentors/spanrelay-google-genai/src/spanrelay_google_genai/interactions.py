"""Interactions, which the SDK sends in another way than the rest: by a client that Speakeasy generates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay.codecs import gemini_interactions, plain
from spanrelay.instrumentation.operations import aoperate, operate
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.speakeasy import SpeakeasyRequests
from spanrelay.instrumentation.targets import PLAIN, Route
from spanrelay.tracing import Tracing

_PACKAGE = "google.genai._gaos"
_INTERACTIONS = Route(gemini_interactions)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both colours of `do_request`, and the methods that ask by it; older SDKs have neither."""
    requests = SpeakeasyRequests(tracing, "google", "gcp.gemini", _route_of, _keeps_model)
    return (
        *requests.patches(f"{_PACKAGE}.basesdk", "AsyncBaseSDK", newer=True),
        Patch(f"{_PACKAGE}.interactions", "Interactions.create", operate, required=False, newer=True),
        Patch(f"{_PACKAGE}.interactions", "AsyncInteractions.create", aoperate, required=False, newer=True),
    )


def _route_of(path: str) -> Route:
    return _INTERACTIONS if path.endswith("/interactions") else PLAIN


def _keeps_model(route: Route, wire: Mapping[str, Any]) -> bool:
    return route.codec is plain or wire.get("agent") is not None  # an agent has one
