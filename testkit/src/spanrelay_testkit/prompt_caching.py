"""A provider that caches prompts by Anthropic's published rules, and reports what it read and wrote.

Written from the provider's pages alone: it shares nothing with the plugin that it tests. Where sources differ it does
what costs more. Time is what the caller says it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

LIFE_S = {"5m": 300.0, "1h": 3600.0}
"""Seconds that an entry lives from its last use, counted from the start of the request."""


class TooManyMarks(Exception):
    """A request has a fifth mark, or one for an hour behind one for minutes: the provider answers 400."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model caches, and for how much, in tokens of plain input."""

    minimum: int = 1024
    read: float = 0.1
    write_5m: float = 1.25
    write_1h: float = 2.0
    marks: int = 4
    look_back: int = 20
    characters_per_token: float = 4.0

    def of_write(self, ttl: str) -> float:
        """What a token costs that is written."""
        return self.write_1h if ttl == "1h" else self.write_5m


@dataclass(slots=True)
class _Entry:
    ttl: str
    until: float
    visible: float


@dataclass(frozen=True, slots=True)
class Answered:
    """How the tokens of one prompt were charged."""

    plain: int
    read: int
    written: Mapping[str, int]

    @property
    def total(self) -> int:
        """All tokens of the prompt."""
        return self.plain + self.read + sum(self.written.values())

    def usage(self, output: int = 1) -> dict[str, Any]:
        """The usage as the Messages API reports it."""
        return {
            "input_tokens": self.plain,
            "cache_read_input_tokens": self.read,
            "cache_creation_input_tokens": sum(self.written.values()),
            "cache_creation": {f"ephemeral_{ttl}_input_tokens": self.written.get(ttl, 0) for ttl in LIFE_S},
            "output_tokens": output,
        }

    def converse_usage(self, output: int = 1) -> dict[str, Any]:
        """The usage as Converse reports it."""
        written = sum(self.written.values())
        return {
            "inputTokens": self.plain,
            "cacheReadInputTokens": self.read,
            "cacheWriteInputTokens": written,
            "outputTokens": output,
            "totalTokens": self.total + output,
        }

    def cost(self, prices: Prices) -> float:
        """What the prompt costs, in tokens of plain input."""
        return self.plain + self.read * prices.read + sum(prices.of_write(t) * n for t, n in self.written.items())


class CachingProvider:
    """One workspace of the provider.

    Args:
        prices: The rules of the model that is asked.
        first_byte_s: Seconds from a request to the first byte of its answer, from when on others can read its entries.
    """

    def __init__(self, prices: Prices | None = None, first_byte_s: float = 0.0) -> None:
        self.prices = prices or Prices()
        self._first_byte_s = first_byte_s
        self._entries: dict[bytes, _Entry] = {}

    def ask(self, body: Mapping[str, Any], now: float) -> Answered:
        """Answer a request that starts at `now`.

        Raises:
            TooManyMarks: it would be refused.
        """
        blocks = list(_blocks(body))
        digests, sizes, marks = _prefixes(body, blocks)
        if body.get("cache_control") and blocks:
            marks.setdefault(len(blocks) - 1, body["cache_control"].get("ttl", "5m"))
        self._check(marks)
        tokens = [round(size / self.prices.characters_per_token) for size in sizes]
        marks = {at: ttl for at, ttl in marks.items() if tokens[at] >= self.prices.minimum}
        read_to = max((self._found(digests, mark, now) for mark in marks), default=-1)
        read = tokens[read_to] if read_to >= 0 else 0
        if read_to >= 0:
            entry = self._entries[digests[read_to]]
            entry.until = now + LIFE_S[entry.ttl]
        written: dict[str, int] = {}
        upto = read
        for at in sorted(at for at in marks if at > read_to):
            written[marks[at]] = written.get(marks[at], 0) + tokens[at] - upto
            upto = tokens[at]
            self._write(digests[at], marks[at], now)
        return Answered((tokens[-1] if tokens else 0) - upto, read, written)

    def _check(self, marks: Mapping[int, str]) -> None:
        ttls = [marks[at] for at in sorted(marks)]
        if len(marks) > self.prices.marks:
            raise TooManyMarks(f"{len(marks)} blocks with cache_control, {self.prices.marks} at most")
        if any(first == "5m" and second == "1h" for first, second in pairwise(ttls)):
            raise TooManyMarks("a cache_control of 1h must not come after one of 5m")

    def _found(self, digests: list[bytes], mark: int, now: float) -> int:
        """The longest prefix that is there, of those that end at a mark or up to 19 blocks before it."""
        for at in range(mark, max(mark - self.prices.look_back, -1), -1):
            entry = self._entries.get(digests[at])
            if entry is not None and entry.visible <= now < entry.until:
                return at
        return -1

    def _write(self, digest: bytes, ttl: str, now: float) -> None:
        known = self._entries.get(digest)
        visible = now + self._first_byte_s
        if known is not None and now < known.until:
            visible = min(visible, known.visible)
        self._entries[digest] = _Entry(ttl, now + LIFE_S[ttl], visible)


def _blocks(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a prompt is made of, in the order of the prefix."""
    config = body.get("toolConfig") or {}
    yield from _joined("tool", body.get("tools") or config.get("tools") or [])
    yield from _joined("system", _listed(body.get("system") or []))
    for message in body.get("messages", []):
        yield from _joined(message["role"], _listed(message["content"]))


def _joined(role: str, blocks: list[Any]) -> Iterator[tuple[str, Any]]:
    """Blocks, each with the `cachePoint` behind it as a mark of its own."""
    for at, block in enumerate(blocks):
        if "cachePoint" in block:
            continue
        following = blocks[at + 1] if at + 1 < len(blocks) else {}
        point = following.get("cachePoint")
        yield role, block if point is None else {**block, "cache_control": point}


def _listed(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _prefixes(body: Mapping[str, Any], blocks: list[tuple[str, Any]]) -> tuple[list[bytes], list[int], dict[int, str]]:
    """The digest and the length of each prefix, and which of them end with a mark."""
    hasher, size = sha256(str(body.get("model")).encode()), 0
    digests: list[bytes] = []
    sizes: list[int] = []
    marks: dict[int, str] = {}
    for at, (role, block) in enumerate(blocks):
        control = block.get("cache_control")
        if control is not None:
            marks[at] = control.get("ttl", "5m")
        told = json.dumps({key: value for key, value in block.items() if key != "cache_control"}, sort_keys=True)
        hasher.update(f"{role}{told}".encode())
        size += len(told)
        digests.append(hasher.digest())
        sizes.append(size)
    return digests, sizes, marks
