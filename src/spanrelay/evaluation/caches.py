"""What prompt caches came to, by scaffold: what the plugin `prompt_cache` told of each call, added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from spanrelay.assembly.atif import Metrics
from spanrelay.records import JSON


@dataclass(slots=True)
class CacheFigures:
    """What is known of the calls of one model with the same tools and system prompt.

    `saved_tokens` are in tokens of plain input, and may be less than 0. `observed` are calls without marks, of which
    it is told what these would have saved.
    """

    calls: int = 0
    observed: int = 0
    prompt_tokens: int = 0
    read_tokens: int = 0
    written_tokens: int = 0
    saved_tokens: int = 0
    saved_usd: float | None = None
    missed: Counter[str] = field(default_factory=Counter[str])

    def add(self, metrics: Metrics, told: Mapping[str, Any]) -> None:
        """Add a call, and what is told of it."""
        self.calls += 1
        self.observed += told.get("decision") == "would_mark"
        self.prompt_tokens += metrics.prompt_tokens or 0
        self.read_tokens += metrics.cached_tokens or 0
        self.written_tokens += _whole((metrics.extra or {}).get("cache_creation_input_tokens"))
        self.saved_tokens += _whole(told.get("saved_tokens"))
        usd = told.get("saved_usd")
        if isinstance(usd, (int, float)):
            self.saved_usd = (self.saved_usd or 0.0) + usd
        why = told.get("missed") or told.get("skipped")
        if isinstance(why, str):
            self.missed[why] += 1

    def merge(self, other: CacheFigures) -> None:
        """Add what others come to."""
        self.calls += other.calls
        self.observed += other.observed
        self.prompt_tokens += other.prompt_tokens
        self.read_tokens += other.read_tokens
        self.written_tokens += other.written_tokens
        self.saved_tokens += other.saved_tokens
        if other.saved_usd is not None:
            self.saved_usd = (self.saved_usd or 0.0) + other.saved_usd
        self.missed.update(other.missed)

    def share(self, tokens: int) -> float | None:
        """The share of the prompts that `tokens` are; None where there were none."""
        return tokens / self.prompt_tokens if self.prompt_tokens else None

    @property
    def top_miss(self) -> str | None:
        """Why nothing was read, most often."""
        return min(self.missed, key=lambda why: (-self.missed[why], why), default=None)

    def to_json(self) -> dict[str, JSON]:
        """Return every figure under its name."""
        return {
            "calls": self.calls,
            "observed": self.observed,
            "prompt_tokens": self.prompt_tokens,
            "read_share": self.share(self.read_tokens),
            "written_share": self.share(self.written_tokens),
            "saved_tokens": self.saved_tokens,
            "saved_usd": self.saved_usd,
            "missed": dict(self.missed.most_common()),
        }


def told_of(metrics: Metrics | None) -> Mapping[str, Any] | None:
    """Return what the plugin told of a call; None where it told nothing."""
    told = (metrics.extra or {}).get("prompt_cache") if metrics is not None else None
    return cast("Mapping[str, Any]", told) if isinstance(told, Mapping) else None


def _whole(value: object) -> int:
    return value if type(value) is int else 0
