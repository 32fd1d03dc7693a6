"""Calls of one answer that an instrumentor of streams has run together, as the calls that they were.

`get_weatherget_weather` with `{…}{…}` are two calls. Each is told only where the parts are as many in all of it.
"""

from __future__ import annotations

from json import JSONDecoder

from spanrelay._guard import pass_on
from spanrelay.records import JSON, Message, Part, ToolCall, ToolDefinition

_MOST = 32
"""Calls that one may be."""

_DECODER = JSONDecoder()


def parted(messages: list[Message], tools: list[ToolDefinition]) -> list[Message]:
    """Return answers whose calls are each one call; `tools` are those on offer."""
    names = [tool.name for tool in tools]
    for message in messages:
        if any(_is_run_together(part) for part in message.parts):
            message.parts = [each for part in message.parts for each in _parted(part, names)]
    return messages


def _is_run_together(part: Part) -> bool:
    return isinstance(part, ToolCall) and isinstance(part.arguments, str) and part.arguments.startswith("{")


def _parted(part: Part, tools: list[str]) -> list[Part]:
    if not isinstance(part, ToolCall) or not _is_run_together(part):
        return [part]
    given = _objects(part.arguments)
    names = _names(part.name, len(given), tools) if 1 < len(given) <= _MOST else None
    if names is None:
        return [part]
    ids = _ids(part.id or "", len(given))
    return [ToolCall(*each) for each in zip(ids, names, given, strict=True)]


def _objects(written: str) -> list[JSON]:
    """Return the JSON objects that stand behind each other in a text; none where anything else does."""
    found: list[JSON] = []
    at = 0
    try:
        while at < len(written) and len(found) <= _MOST:
            value, at = _DECODER.raw_decode(written, at)
            found.append(value)
            at += len(written[at:]) - len(written[at:].lstrip())
    except (ValueError, RecursionError) as error:
        pass_on(error)
        return []
    return found


def _names(name: str, count: int, tools: list[str]) -> list[str] | None:
    """Return the `count` names that were run together: of tools on offer, else all the same."""
    known = _split(name, count, tools)
    if known is not None:
        return known
    one = name[: len(name) // count]
    return [one] * count if one and one * count == name else None


def _split(name: str, count: int, tools: list[str]) -> list[str] | None:
    if not count:
        return None if name else []
    for tool in tools:
        rest = _split(name[len(tool) :], count - 1, tools) if tool and name.startswith(tool) else None
        if rest is not None:
            return [tool, *rest]
    return None


def _ids(written: str, count: int) -> list[str | None]:
    """Return the ids that were run together, by what each begins with; a later request tells them else."""
    prefix = written[: written.find("_") + 1]
    if prefix and written.count(prefix) == count:
        return [prefix + rest for rest in written.split(prefix)[1:]]
    return [None] * count
