"""Lines of transcripts: none twice, in an order that does not depend on that of their arrival, and when each was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any

from spanrelay import _json
from spanrelay.otlp_in.telemetry import TranscriptLine
from spanrelay.records import JSON

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def in_order(
    lines: Iterable[TranscriptLine], order: Callable[[TranscriptLine], tuple[Any, ...]]
) -> list[TranscriptLine]:
    """Return lines by what `order` says of each; where that is the same, by what they say."""
    known = {_json.dumps_sorted(line.line): line for line in sorted(lines, key=lambda line: line.file, reverse=True)}
    return [line for _, line in sorted(known.items(), key=lambda item: (order(item[1]), item[0]))]


def time_of(value: JSON) -> int:
    """Return a time in RFC 3339 in nanoseconds since the epoch; 0 where it is none."""
    if not isinstance(value, str):
        return 0
    try:
        time = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return 0
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    since = time - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000
