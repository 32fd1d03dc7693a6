"""Which of the attributes that are looked for a span has: worked out once for all spans that have the same names.

Pure: only names are looked at, never values.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from spanrelay.semconv import names

_MOST_NAMES = 64
"""Spans with more attributes have a conversation flattened among them, and are not alike."""

Pairs = tuple[tuple[str, str], ...]
"""Attributes and the fields that they fill, in the order in which they are looked at."""


def _aliases(table: dict[str, str], aliases: dict[str, str]) -> dict[str, str]:
    """Return attribute to parameter, the attributes that we write first."""
    return {**{key: name for name, key in table.items()}, **aliases}


def _by_name(table: names.UsageNames) -> Pairs:
    """Return (attribute, field of `Usage`), the attributes of one field in the order of preference."""
    return tuple((name, field) for field, aliases in table for name in aliases)


_REQUEST = tuple(_aliases(names.PARAMETER_NAMES, names.PARAMETER_ALIASES).items())
_RESPONSE = tuple(_aliases(names.RESPONSE_PARAMETER_NAMES, names.RESPONSE_PARAMETER_ALIASES).items())
_GENAI_USAGE, _OI_USAGE = _by_name(names.USAGE_NAMES), _by_name(names.OI_USAGE_NAMES)
_AGENT = frozenset(
    (names.AGENT_NAME, names.OI_AGENT_NAME, names.AGENT_ID, names.AGENT_VERSION, names.AGENT_DESCRIPTION)
)
_FAILURE = frozenset((names.ERROR_TYPE, names.TOOL_IS_ERROR, names.TOOL_OUTCOME))
_SELDOM = frozenset(
    (
        names.USER_ID,
        names.INCOMPLETE,
        names.ANSWERED_BY,
        names.WOULD_REFUSE,
        names.WOULD_CHANGE,
        names.PROMPT_CACHE_DECISION,
        names.RESPONSE_CACHE_DECISION,
        names.TIME_TO_FIRST_CHUNK,
        names.OI_METADATA,
    )
)


class Layout(NamedTuple):
    """What a span's attributes are about, by their names alone.

    `agent`, `failure` and `seldom` say whether there is any that names an agent, tells of a failure, or is one of those
    that few spans have; the others are the parameters and token counts that there are, by what they fill.
    """

    agent: bool
    failure: bool
    seldom: bool
    request: Pairs
    response: Pairs
    genai_usage: Pairs
    openinference_usage: Pairs


def layout_of(attributes: Mapping[str, Any]) -> Layout:
    """Return what there is among `attributes`."""
    given = tuple(attributes)
    return _layout(given) if len(given) <= _MOST_NAMES else _layout.__wrapped__(given)


@lru_cache(maxsize=256)
def _layout(given: tuple[str, ...]) -> Layout:
    found = frozenset(given)
    return Layout(
        not _AGENT.isdisjoint(found),
        not _FAILURE.isdisjoint(found),
        not _SELDOM.isdisjoint(found),
        *(_present(pairs, found) for pairs in (_REQUEST, _RESPONSE, _GENAI_USAGE, _OI_USAGE)),
    )


def _present(pairs: Pairs, found: Container[str]) -> Pairs:
    return tuple(pair for pair in pairs if pair[0] in found)
