"""Why a model did not answer, as the errors of SDKs tell it, and for how long it wants to be left alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from spanrelay._retrying import retry_after_in
from spanrelay.errors import GuardrailRejected

_BY_STATUS = {429: "rate_limit", 529: "overload", 503: "overload", 408: "timeout", 504: "timeout"}
_BY_CODE = {
    "ThrottlingException": "rate_limit",
    "TooManyRequestsException": "rate_limit",
    "ServiceUnavailableException": "overload",
    "ModelTimeoutException": "timeout",
}
"""How AWS calls them, whose status alone does not say it."""
LIMITS = "policy.limits"
"""What the guardrail of budgets and rates is called, with a number behind it where there are several."""
MOST_S = 3600.0
"""Seconds for which a model is left alone at the most, whatever it asks for."""


def reason_of(error: BaseException, budgets: Collection[str] = ()) -> str | None:
    """Return `budget`, `rate_limit`, `overload` or `timeout`; None for any other error.

    Args:
        error: What a call raised.
        budgets: Names of guardrails that refuse a call for what it costs, beside the one of `[plugins.policy]`.
    """
    if isinstance(error, GuardrailRejected):
        return "budget" if error.name.startswith(LIMITS) or error.name in budgets else None
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # of botocore
        code = _within(response, "Error", "Code")
        if code in _BY_CODE:
            return _BY_CODE[code]
    if (reason := _BY_STATUS.get(_status_of(error, response))) is not None:
        return reason
    is_late = isinstance(error, TimeoutError) or any("Timeout" in kind.__name__ for kind in type(error).__mro__)
    return "timeout" if is_late else None


def rest_of(error: BaseException) -> float | None:
    """Return the seconds of `Retry-After`; None where the provider said nothing of it."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        headers: Any = _within(response, "ResponseMetadata", "HTTPHeaders")
    else:
        headers = getattr(response if response is not None else error, "headers", None)
    if not isinstance(headers, Mapping):
        return None
    lowered = {str(name).lower(): value for name, value in cast("Mapping[Any, Any]", headers).items()}
    seconds = retry_after_in(lowered.get("retry-after"))
    return None if seconds is None else min(max(seconds, 0.0), MOST_S)


def _status_of(error: BaseException, response: Any) -> Any:
    if isinstance(response, Mapping):
        return _within(cast("Mapping[str, Any]", response), "ResponseMetadata", "HTTPStatusCode")
    for name in ("status_code", "code", "status"):
        status = getattr(error, name, None)
        if isinstance(status, int):
            return status
    return getattr(response, "status_code", None)


def _within(told: Any, *path: str) -> Any:
    for key in path:
        told = cast("Mapping[str, Any]", told).get(key) if isinstance(told, Mapping) else None
    return told
