"""How much one request, and all of them together, may take of the gateway."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a gateway.

    Attributes:
        body_bytes: The most bytes of a request's body, as it was sent and decompressed.
        exchanges: The most requests at a time; one more is answered with 503.
        connect_seconds: How long a connection to an upstream may take.
        silence_seconds: How long an upstream may say nothing while it answers.
    """

    body_bytes: int = 100 << 20
    exchanges: int = 2000
    connect_seconds: float = 30.0
    silence_seconds: float = 900.0


class TooLarge(Exception):
    """The body of a request has more bytes than the gateway takes."""
