"""The plugin `response_cache`: the very same request is answered as it was answered before, and nothing is sent.

Policy checks what is answered so as it checks what a provider answers.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from spanrelay.pipeline.middleware import Place, execution_intercept
from spanrelay.plugins.plugin import Context, Diagnostic
from spanrelay.plugins.response_cache.cache import Cache
from spanrelay.plugins.response_cache.entries import Entry, entry_of
from spanrelay.plugins.response_cache.keys import Terms, key_of
from spanrelay.plugins.response_cache.settings import CacheConfig, doubts_about, doubts_about_numbers, open_store
from spanrelay.records import Kind

_OUTERMOST = -(2**31)


@dataclass(slots=True)
class ResponseCacheConfig(CacheConfig):
    """The keys of `[plugins.response_cache]`, beside those of `CacheConfig`.

    Attributes:
        ttl_seconds: How old an answer may be.
        nondeterministic: Whether requests count that have neither `temperature = 0` nor a seed.
        models: Patterns of models of which all requests count, such as those that take no temperature.
        per_credential: Whether an answer is given only to who asks with the same credential.
    """

    ttl_seconds: float = 3600.0
    nondeterministic: bool = False
    models: list[str] = field(default_factory=list[str])
    per_credential: bool = True


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
        """Find a namespace that is none, figures out of their range, and what cannot be a place for answers."""
        return [*doubts_about(config), *doubts_about_numbers(config, "ttl_seconds")]

    def register(self, context: Context) -> None:
        """Stand next to the sending of model calls, and around everything else."""
        config: ResponseCacheConfig = context.config
        applies = config.mode == "apply" and context.mode == "enforce"
        store = open_store(config, self._clock, applies=applies)
        context.on_close(store.close)
        terms = Terms(config.namespace, config.nondeterministic, _pattern_of(config.models), config.per_credential)
        cache = Cache(
            store,
            lambda call: key_of(call, terms),
            entry_of,
            _replayed,
            ttl_seconds=config.ttl_seconds,
            max_wait_seconds=config.max_wait_seconds,
            applies=applies,
            clock=self._clock,
        )
        stand(context, "llm", cache.remember, cache.answer, config.max_wait_seconds)


def stand(
    context: Context,
    kind: Kind,
    remember: Callable[[Any], Generator[Any, Any, Any]],
    answer: Callable[[Any], Generator[Any, Any, Any]],
    wait_seconds: float,
) -> None:
    """Register the two parts of a cache: around everything, and within all policy.

    Not on trial with its file: then it is shown a copy, and would not know what comes of it.
    """
    around = execution_intercept(name="remembers", kinds=[kind], mode="enforce", priority=_OUTERMOST)
    within = execution_intercept(name="answers", kinds=[kind], mode="enforce", timeout=wait_seconds + 30.0)
    context.use(around(remember).standing(Place.AROUND))
    context.use(within(answer).standing(Place.ANSWERS))


def _replayed(call: Any, entry: Entry) -> Any:
    """Return the provider's JSON, with the events that it came in."""
    call.replayed = None if entry.events is None else (entry.body, entry.events)
    return entry.body


def _pattern_of(models: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, models))) if models else None
