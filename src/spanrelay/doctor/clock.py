"""Whether this machine's clock goes with that of the collector, which stores spans by it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from datetime import timezone
from email.utils import parsedate_to_datetime

from spanrelay import config
from spanrelay.doctor.answers import PATIENCE_S, Place, unchecked
from spanrelay.doctor.endpoint import senders
from spanrelay.doctor.findings import Case, Finding

_TOLERATED_S = 5.0
"""Seconds that clocks may differ: a `Date` is told in whole seconds, and an answer takes a while."""


def clock(case: Case) -> Iterator[Finding]:
    """Compare this machine's clock with the `Date` that the endpoint answers."""
    places = [] if case.offline else [sender.place for sender in senders(case, "traces")]
    place = next((each for each in places if each is not None and each.protocol == config.PROTOCOLS[0]), None)
    if place is None or config.proxy_of(place.url) is not None:
        yield Finding("pass", "not compared: no endpoint of OTLP over HTTP is asked directly")
        return
    ahead = _seconds_ahead(place)
    if ahead is None:
        yield Finding("pass", "not compared: the endpoint does not say what time it is")
    elif abs(ahead) <= _TOLERATED_S:
        yield Finding("pass", "this clock and the endpoint's agree to the second or so")
    else:
        yield Finding(
            "warn",
            f"this clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the endpoint's",
            "spans stand at the wrong time: a query for the last minutes does not find them, and those of two machines "
            "do not line up",
            "set the clock, by NTP for instance; of a container, the host's",
        )


def _seconds_ahead(place: Place) -> float | None:
    """Return how far this clock is ahead of the endpoint's; None where that is not said."""
    secure = http.client.HTTPSConnection(place.host, place.port, timeout=PATIENCE_S, context=unchecked())
    plain = http.client.HTTPConnection(place.host, place.port, timeout=PATIENCE_S)
    connection = secure if place.secure else plain
    try:
        begun = time.time()
        connection.request("HEAD", "/")
        told = connection.getresponse().getheader("Date")
        moment = parsedate_to_datetime(told) if told else None
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        return None
    finally:
        connection.close()
    if moment is None:
        return None
    theirs = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    return (begun + time.time()) / 2 - theirs
