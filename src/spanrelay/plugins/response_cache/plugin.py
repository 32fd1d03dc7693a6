"""The plugin `response_cache`: the very same request is answered as it was answered before, and nothing is sent.

Policy checks what is answered so as it checks what a provider answers.
"""

from __future__ import annotations

import fnmatch
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from spanrelay.pipeline.middleware import Place, execution_intercept
from spanrelay.plugins.plugin import Context, Diagnostic
from spanrelay.plugins.policy.stores import renewed
from spanrelay.plugins.response_cache.cache import Cache
from spanrelay.plugins.response_cache.keys import Terms
from spanrelay.plugins.response_cache.stores import MemoryStore

_OUTERMOST = -(2**31)


@dataclass(slots=True)
class ResponseCacheConfig:
    """The keys of `[plugins.response_cache]`.

    Attributes:
        namespace: Answers that were kept under another are never given.
        mode: `observe` sends every call and says on each span what would have been answered; `apply` answers.
        ttl_seconds: How old an answer may be.
        nondeterministic: Whether requests count that have neither `temperature = 0` nor a seed.
        models: Patterns of models of which all requests count, such as those that take no temperature.
        per_credential: Whether an answer is given only to who asks with the same credential.
        max_bytes: How much is kept.
        max_wait_seconds: How long a call waits at most for another that asks the same.
    """

    namespace: str
    mode: Literal["observe", "apply"] = "observe"
    ttl_seconds: float = 3600.0
    nondeterministic: bool = False
    models: list[str] = field(default_factory=list[str])
    per_credential: bool = True
    max_bytes: int = 256 * 1024 * 1024
    max_wait_seconds: float = 60.0


class ResponseCachePlugin:
    """Answers what was answered before.

    Args:
        clock: Seconds since the epoch.
    """

    name = "response_cache"
    config_model = ResponseCacheConfig

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def validate(self, config: ResponseCacheConfig) -> list[Diagnostic]:
        """Find a namespace that is none, and figures out of their range."""
        found: list[Diagnostic] = []
        if not config.namespace.strip():
            found.append(Diagnostic("is empty", "write a name for those who may share answers", "namespace"))
        for key in ("ttl_seconds", "max_wait_seconds", "max_bytes"):
            value = getattr(config, key)
            if not (math.isfinite(value) and value > 0):
                found.append(Diagnostic("is out of its range", "write a number above 0", key))
        return found

    def register(self, context: Context) -> None:
        """Stand next to the sending of model calls, and around everything else."""
        config: ResponseCacheConfig = context.config
        applies = config.mode == "apply" and context.mode == "enforce"
        cache = Cache(
            MemoryStore(config.max_bytes),
            Terms(config.namespace, config.nondeterministic, _pattern_of(config.models), config.per_credential),
            ttl_seconds=config.ttl_seconds,
            max_wait_seconds=config.max_wait_seconds,
            applies=applies,
            clock=self._clock,
        )
        renewed.add(cache)

        # Not on trial with its file, as `prompt_cache`.
        patience = config.max_wait_seconds + 30.0
        around = execution_intercept(name="remembers", kinds=["llm"], mode="enforce", priority=_OUTERMOST)
        within = execution_intercept(name="answers", kinds=["llm"], mode="enforce", timeout=patience)
        context.use(around(cache.remember).standing(Place.AROUND))
        context.use(within(cache.answer).standing(Place.ANSWERS))


def _pattern_of(models: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, models))) if models else None
