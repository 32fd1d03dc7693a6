"""The plugin `prompt_cache`: marks in requests what their provider is to cache, where that saves money.

A caller's own marks are never touched, and a model never sees a difference.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spanrelay.pipeline.middleware import Place, execution_intercept
from spanrelay.plugins.places import doubts_about_place, place_of
from spanrelay.plugins.plugin import Context, Diagnostic, Secret
from spanrelay.plugins.prompt_cache.governor import Governor
from spanrelay.plugins.prompt_cache.planning import Terms
from spanrelay.plugins.prompt_cache.rules import API


@dataclass(slots=True)
class PromptCacheConfig:
    """The keys of `[plugins.prompt_cache]`.

    Attributes:
        mode: `observe` changes nothing and says on each span what would have been saved; `apply` marks requests.
        providers: The APIs whose requests are looked at; `bedrock` is Converse. Of `google` it is only told.
        ttl: For how long marks keep what they end; `auto` chooses by the gaps between calls.
        max_write_premium: The share of the input's cost that may be lost by writing what nobody reads.
        min_reuse: How often what is written has to be expected to be read.
        max_wait_ms: How long a call waits at most for another that writes what both begin with.
        path: An SQLite file in which what is learned is kept for other processes and later ones.
        url: A Redis server that keeps it.
    """

    mode: Literal["observe", "apply"] = "observe"
    providers: list[API] = field(default_factory=lambda: list[API](["anthropic", "bedrock", "openai", "google"]))
    ttl: Literal["auto", "5m", "1h"] = "auto"
    max_write_premium: float = 0.01
    min_reuse: float = 0.28
    max_wait_ms: int = 2000
    path: Path | None = None
    url: Secret | None = None


class PromptCachePlugin:
    """Marks what providers are to cache.

    Args:
        clock: Seconds that only grow.
    """

    name = "prompt_cache"
    config_model = PromptCacheConfig

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def validate(self, config: PromptCacheConfig) -> list[Diagnostic]:
        """Find figures that are none, a table that asks for nothing, and what cannot be a place."""
        found: list[Diagnostic] = []
        if not config.providers:
            found.append(Diagnostic("is an empty list", "name a provider, or remove the key for all", "providers"))
        for key, most in (("max_write_premium", 1.0), ("min_reuse", math.inf), ("max_wait_ms", 20_000)):
            value = getattr(config, key)
            if not (math.isfinite(value) and 0 <= value <= most):
                upper = f" and at most {most:g}" if math.isfinite(most) else ""
                found.append(Diagnostic("is out of its range", f"write a number of at least 0{upper}", key))
        return found + doubts_about_place(config.path, config.url)

    def register(self, context: Context) -> None:
        """Stand around the sending of model calls."""
        config: PromptCacheConfig = context.config
        governor = Governor(
            applies=config.mode == "apply" and context.mode == "enforce",
            providers=frozenset(config.providers),
            terms=terms_of(config),
            max_wait_s=config.max_wait_ms / 1000,
            clock=self._clock,
            place=place_of(config.path, config.url, self.name),
        )
        if governor.learned is not None:
            governor.learned.begin()
            context.on_close(governor.learned.close)

        # Not on trial with its file: then it is shown a copy, and would not know what comes of it.
        declared = execution_intercept(name="marks", kinds=["llm"], mode="enforce")
        context.use(declared(governor.govern).standing(Place.MARKS))


def terms_of(config: PromptCacheConfig) -> Terms:
    """Return on what terms something is written."""
    return Terms(None if config.ttl == "auto" else config.ttl, config.min_reuse, config.max_write_premium)
