"""What the gateway answers itself: an error as the provider asked would put it, so that its SDK raises as usual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from spanrelay import _json
from spanrelay.codecs import sse
from spanrelay.gateway.routes import API


class Kind(NamedTuple):
    """How OpenAI, Anthropic and Google call an error of one status."""

    openai: str
    anthropic: str
    gemini: str


_KINDS = {
    401: Kind("authentication_error", "authentication_error", "UNAUTHENTICATED"),
    403: Kind("permission_error", "permission_error", "PERMISSION_DENIED"),
    404: Kind("not_found_error", "not_found_error", "NOT_FOUND"),
    413: Kind("invalid_request_error", "request_too_large", "INVALID_ARGUMENT"),
    502: Kind("server_error", "api_error", "UNAVAILABLE"),
    503: Kind("server_error", "overloaded_error", "UNAVAILABLE"),
    504: Kind("server_error", "timeout_error", "DEADLINE_EXCEEDED"),
}


BY_POLICY = "refused_by_policy"


def error_of(api: API, status: int, message: str, code: str) -> dict[str, Any]:
    """Return an error as the JSON of an API; `code` says for programs what `message` says for people."""
    kind = _KINDS[status]
    if api.name == "anthropic":
        return {"type": "error", "error": {"type": kind.anthropic, "message": message}}
    if api.name == "gemini":
        return {"error": {"code": status, "message": message, "status": kind.gemini}}
    return {"error": {"message": message, "type": kind.openai, "param": None, "code": code}}


def body_of(api: API, status: int, message: str, code: str) -> bytes:
    """Return the body of an error."""
    return _json.dumps(error_of(api, status, message, code))


def frame_of(api: API, message: str) -> bytes:
    """Return the event that ends a stream which policy refuses in its middle."""
    return sse.frame(error_of(api, 403, message, BY_POLICY))


def message_in(body: bytes) -> str | None:
    """Return the message in a provider's error, whatever its API; None where it is not told as any of them tells it."""
    try:
        found: Any = _json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list) and found:
        found = found[0]
    error: Any = found.get("error", found) if isinstance(found, Mapping) else None
    told: Any = error.get("message") if isinstance(error, Mapping) else error
    return told if isinstance(told, str) and told else None
