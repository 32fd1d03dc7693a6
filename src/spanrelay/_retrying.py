"""When a server says that it may be asked again."""

from __future__ import annotations

import math
import time
from datetime import timezone
from email.utils import parsedate_to_datetime


def retry_after_in(value: str | None) -> float | None:
    """Return the seconds of a `Retry-After`, given as such or as a date; None where there are none."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (TypeError, ValueError):
            return None
        seconds = (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp() - time.time()
    return max(0.0, seconds) if math.isfinite(seconds) else None
