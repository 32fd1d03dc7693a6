"""What tells one request from another beside its JSON: where it goes, what its headers ask for, and who asks.

A credential is never kept or recorded: who reads an identity makes a digest of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_CREDENTIALS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key"})
_OF_THE_SENDING = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "connection", "content-encoding", "content-length"),
        *("content-type", "date", "expect", "host", "keep-alive", "te", "transfer-encoding", "user-agent", "via"),
        *("baggage", "traceparent", "tracestate", "x-request-id", "x-client-request-id", "x-amz-date"),
        *("forwarded", "x-real-ip", "idempotency-key", "x-datadog-trace-id", "x-datadog-parent-id"),
    }
)
"""Headers that say how a request was sent, and which of many it is."""
_OF_THE_SENDING_ALL = ("x-stainless-", "x-forwarded-", "x-datadog-", "x-b3-", "x-amzn-", "amz-sdk-", "sec-")


class Identity(NamedTuple):
    """Of one request: `place` is plain JSON; `credential` is None where it is not known who asks."""

    place: list[Any]
    credential: str | None


def identity_of(place: Iterable[Any], headers: Mapping[str, Any], *secrets: object) -> Identity:
    """Return the identity of a request.

    Args:
        place: The parts of its URL, and what else of it is in no body.
        headers: As they will be sent, in any case; those that are no text are left out.
        secrets: What else says who asks; what is no text, or empty, says nothing.
    """
    told = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    given = [told[name] for name in sorted(_CREDENTIALS & told.keys())]
    given += [each for each in secrets if isinstance(each, str)]
    beside = {name: value for name, value in told.items() if _matters(name)}
    return Identity([*place, beside], "\0".join(given) if any(map(str.strip, given)) else None)


def _matters(name: str) -> bool:
    return not (name in _OF_THE_SENDING or name in _CREDENTIALS or name.startswith(_OF_THE_SENDING_ALL))
