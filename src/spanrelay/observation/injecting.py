"""Metadata that injectors add to a finished span.

Insert only and fail open: what is there stays, and an injector that breaks adds nothing.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any, cast

from spanrelay._guard import losses, pass_on, traced
from spanrelay.observation.observers import Observer, Watchers, closed
from spanrelay.records import JSON, SpanRecord

_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_log = logging.getLogger("spanrelay")
_reported: set[Observer] = set()


def injected(record: SpanRecord, watchers: Watchers) -> dict[str, JSON]:
    """Return what the injectors add to `record`, the first to name a key first."""
    added: dict[str, JSON] = {}
    for injector in watchers.injectors:
        if injector.sees(record.kind):
            try:
                entries = _checked(injector.function(record))
            except Exception as error:
                _report(injector, error)
                continue
            added = {**entries, **added}
    return added


def _checked(entries: Any) -> dict[str, JSON]:
    """Return an injector's entries.

    Raises:
        TypeError: something in them is not valid.
    """
    if closed(entries):
        raise TypeError("it returned a coroutine, which nothing awaits here: it must be a plain function")
    if not isinstance(entries, Mapping):
        raise TypeError(f"expected a mapping, got {type(entries).__name__!r}")
    for key, value in cast("Mapping[Any, Any]", entries).items():
        if not isinstance(key, str) or _KEY.fullmatch(key) is None:
            raise TypeError(f"{key!r} is not a key: use letters, digits, '_' and '-', with dots between")
        if not (_is_scalar(value) or _is_list_of_one_kind(value)):
            raise TypeError(f"the value of {key!r} must be a string, a number, a boolean or a list of one of these")
    return dict(cast("Mapping[str, JSON]", entries))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


def _is_list_of_one_kind(value: Any) -> bool:
    if not isinstance(value, (list, tuple)):
        return False
    items = cast("list[Any]", value)
    kinds = {float if type(item) is int else type(item) for item in items}
    return len(kinds) <= 1 and all(_is_scalar(item) for item in items)


def _report(injector: Observer, error: Exception) -> None:
    pass_on(error)
    losses.add(f"failures of the metadata injector {injector.name!r}")
    if injector not in _reported:
        _reported.add(injector)
        told = "metadata injector %r failed; it adds nothing to this span\n%s"
        _log.warning(told, injector.name, traced(error))
