"""What a place is that documents are delivered to, and what is said to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from spanrelay.exporters.outbox import Answer, Outcome

_ASKED_AGAIN = (408, 429)
"""Of the statuses 4xx, those that say that the same may be sent later: RFC 9110, 15.5.9, and RFC 6585, 4."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A document, or what it names, as it is sent.

    Attributes:
        name: Its path in the folder, which does not change when it is written again.
        data: Its bytes; None where it was removed, since its spans are in another document.
        time: When it was written or removed, in nanoseconds since the epoch.
    """

    name: str
    data: bytes | None
    time: int


class Target(Protocol):
    """A place that takes documents; used from several threads.

    Attributes:
        name: Its address as it may be shown, without credentials.
        takes_media: Whether it takes the media that documents name, too.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - as above

    @property
    def takes_media(self) -> bool: ...  # noqa: D102 - as above

    def send(self, parcel: Parcel) -> Answer:
        """Send a parcel and return what became of it."""
        ...


def outcome_of(status: int) -> Outcome:
    """Return what an HTTP status says of what was sent: refused for good by any 4xx but 408 and 429."""
    if 200 <= status < 300:
        return Outcome.DELIVERED
    return Outcome.REFUSED if 400 <= status < 500 and status not in _ASKED_AGAIN else Outcome.RETRY
