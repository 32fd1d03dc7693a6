"""A provider's prompt cache once more, from the table of its rules alone: what two who read it apart agree on.

It keeps no entries but the history: whether a prefix is there is asked of all requests before. Tokens are characters of
JSON by four, as in the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SECONDS = {"5m": 300, "1h": 3600}
AT_MOST, LOOK_BACK = 4, 20
Prefix = tuple[str, tuple[tuple[str, str], ...]]


class Refused(Exception):
    """The provider answers 400."""


@dataclass
class Kept:
    """One time that a prefix was written, and when it was last used."""

    prefix: Prefix
    ttl: str
    readable_from: float
    used: float

    def is_there(self, now: float) -> bool:
        return self.readable_from <= now < self.used + SECONDS[self.ttl]


@dataclass
class History:
    """All that one workspace was asked."""

    minimum: int
    first_byte: float

    def __post_init__(self) -> None:
        self.kept: list[Kept] = []

    def ask(self, body: Mapping[str, Any], now: float) -> tuple[int, int, dict[str, int]]:
        """Return the tokens that are plain, read, and written by time to live."""
        said, marks = spelled(body)
        if len(marks) > AT_MOST or sorted(marks.values()) != [marks[at] for at in sorted(marks)]:
            raise Refused
        counts = [round(sum(len(text) for _, text in said[: end + 1]) / 4) for end in range(len(said))]
        marks = {end: ttl for end, ttl in marks.items() if counts[end] >= self.minimum}
        model = str(body.get("model"))

        def prefix(end: int) -> Prefix:
            return model, tuple(said[: end + 1])

        looked_at = {end for mark in marks for end in range(mark - LOOK_BACK + 1, mark + 1) if end >= 0}
        there = {each.prefix for each in self.kept if each.is_there(now)}
        begun = max((end for end in looked_at if prefix(end) in there), default=-1)
        for each in self.kept:
            if begun >= 0 and each.prefix == prefix(begun) and each.is_there(now):
                each.used = now
        written: dict[str, int] = {}
        reached = counts[begun] if begun >= 0 else 0
        read = reached
        for end in sorted(end for end in marks if end > begun):
            ttl = marks[end]
            written[ttl] = written.get(ttl, 0) + counts[end] - reached
            reached = counts[end]
            self._keep(Kept(prefix(end), ttl, now + self.first_byte, now), now)
        return (counts[-1] if counts else 0) - reached, read, written

    def _keep(self, new: Kept, now: float) -> None:
        """Write anew: what was there is there still, until then and from when it was."""
        for old in [each for each in self.kept if each.prefix == new.prefix]:
            if now < old.used + SECONDS[old.ttl]:
                new.readable_from = min(new.readable_from, old.readable_from)
            self.kept.remove(old)
        self.kept.append(new)


def spelled(body: Mapping[str, Any]) -> tuple[list[tuple[str, str]], dict[int, str]]:
    """Return what the prompt says, block by block, and which blocks end with a mark of what time to live."""
    said: list[tuple[str, str]] = []
    marks: dict[int, str] = {}
    parts: list[tuple[str, Any]] = [("tool", body.get("tools") or []), ("system", body.get("system") or [])]
    parts += [(message["role"], message["content"]) for message in body.get("messages", ())]
    for role, content in parts:
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            bare = dict(block)
            control = bare.pop("cache_control", None)
            if control is not None:
                marks[len(said)] = control.get("ttl", "5m")
            said.append((role, json.dumps(bare, sort_keys=True)))
    if body.get("cache_control") and said:
        marks.setdefault(len(said) - 1, body["cache_control"].get("ttl", "5m"))
    return said, marks
