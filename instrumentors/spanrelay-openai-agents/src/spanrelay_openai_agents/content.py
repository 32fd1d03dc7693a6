"""What of a run's input and output is recorded: what the user said last, and what the run ended with.

Read once when a run begins and once when it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


def given(value: Any) -> Any:
    """Return what the user said last: the input itself, or the content of the last user message in it."""
    if not isinstance(value, list) or not value:
        return value
    items = cast("list[Any]", value)
    asked = next((item for item in reversed(items) if _field(item, "role") == "user"), items[-1])
    return _field(asked, "content") or asked


def gave(result: Any) -> Any:
    """Return what a run ended with; None where it waits for somebody."""
    return getattr(result, "final_output", None)


def _field(item: Any, name: str) -> Any:
    return cast("Mapping[str, Any]", item).get(name) if isinstance(item, Mapping) else getattr(item, name, None)
