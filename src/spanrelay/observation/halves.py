"""Texts that the SDK's limits have cut: half a credential, or half of what a sanitizer looks for, is known by nobody.

Looks at texts that are exactly as long as the limit; without limits, which is the default, nothing here runs.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from opentelemetry.sdk.trace import Event, Span
from opentelemetry.trace import Link

from spanrelay.observation.bounds import bounded

T = TypeVar("T")
Mend = Callable[[str], str]
"""What makes of a text that was cut one that ends whole."""

_FARTHEST = 160
# With the groups of digits before it: those of a card, an account or a telephone belong together.
_LAST_WORD = re.compile(
    r"(?:[+(]?[A-Za-z]{0,2}[0-9][0-9A-Za-z]{0,7}\)?[ .\-/\u00a0\u2011\u202f]{1,3}){0,9}[^\s\"'<>\[\]{}(),;=&?]*$"
)
_DIGEST = re.compile(r"(?=.*[a-f])[0-9a-f]{16,}")


def without_last_word(text: str) -> str:
    """Return a text that was cut without its last word; a digest, which may just fit, stays."""
    match = _LAST_WORD.search(text, max(0, len(text) - _FARTHEST))
    return text if match is None or _DIGEST.fullmatch(text) else text[: match.start()]


def are_cut(span: Span) -> bool:
    """Whether the limits of `span` cut texts."""
    limits: Any = getattr(span, "_limits", None)  # what other libraries make of a span may have none
    return limits is not None and (limits.max_span_attribute_length, limits.max_attribute_length) != (None, None)


def mend_span(span: Span, mend: Mend) -> None:
    """Let what was cut of a span that is ending end whole, in place."""
    attributes: Any = span._attributes
    items: dict[str, Any] = attributes._dict
    whole = mended(attributes, items, mend)
    if whole is not items:
        items.update(whole)
    span._events = _mended(span._events, lambda event: _event(event, mend))
    span._links = _mended(span._links, lambda link: _link(link, mend))


def mended(attributes: Any, items: Mapping[str, Any], mend: Mend) -> Mapping[str, Any]:
    """Return `items`, which are those of the SDK's `attributes`, with what was cut ended whole."""
    limit: int | None = getattr(attributes, "max_value_len", None)
    return items if limit is None else cast("Mapping[str, Any]", _value(items, limit, mend))


def _value(value: Any, limit: int, mend: Mend) -> Any:
    if isinstance(value, str):
        return mend(value) if len(value) == limit else value
    if isinstance(value, (tuple, list)):
        given = cast("Sequence[Any]", value)
        items = [_value(item, limit, mend) for item in given]
        return value if all(map(operator.is_, items, given)) else tuple(items)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        whole = {name: _value(item, limit, mend) for name, item in members.items()}
        return value if all(map(operator.is_, whole.values(), members.values())) else whole
    return value


def _event(event: Event, mend: Mend) -> Event:
    attributes = event.attributes or {}
    whole = mended(attributes, attributes, mend)
    return event if whole is attributes else Event(event.name, whole, event.timestamp)


def _link(link: Link, mend: Mend) -> Link:
    attributes = link.attributes or {}
    whole = mended(attributes, attributes, mend)
    return link if whole is attributes else Link(link.context, whole)


def _mended(items: Any, mend: Callable[[T], T]) -> Any:
    whole = [mend(item) for item in items]
    return items if all(map(operator.is_, whole, items)) else bounded(items, whole)
