"""Lists of the SDK's own kind, whose length a span's limits bound.

Touches the one private name that it takes to say something else than what was put there.
"""

from __future__ import annotations

import copy
from typing import Any


def bounded(before: Any, items: list[Any]) -> Any:
    """Return `items` as the SDK's own list, with its count of what was dropped."""
    made = copy.copy(before)
    if not hasattr(made, "_dq"):
        return items
    made._dq = type(before._dq)(items, before._dq.maxlen)
    return made
