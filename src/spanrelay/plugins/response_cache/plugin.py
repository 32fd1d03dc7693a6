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
from pathlib import Path
from typing import Literal

from spanrelay.errors import ConfigurationError
from spanrelay.pipeline.middleware import Place, execution_intercept
from spanrelay.plugins.keeping import REDIS, renewed
from spanrelay.plugins.plugin import Context, Diagnostic, Secret
from spanrelay.plugins.response_cache.cache import Cache
from spanrelay.plugins.response_cache.keys import Terms
from spanrelay.plugins.response_cache.sealing import Sealed, key_in
from spanrelay.plugins.response_cache.stores import MemoryStore, Store

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
        path: An SQLite file that keeps answers for other processes and later ones; in this process without it.
        url: A Redis server that keeps them.
        encryption_key: 32 bytes in base64, by which what is kept there is encrypted.
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
    path: Path | None = None
    url: Secret | None = None
    encryption_key: Secret | None = None


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
        if config.path is not None and config.url is not None:
            found.append(Diagnostic("is there beside path", "remove one", "url"))
        if config.path is not None and not config.path.parent.is_dir():
            found.append(Diagnostic("is in a folder that does not exist", "create the folder", "path"))
        if config.url is not None and not REDIS.match(config.url.reveal()):
            found.append(Diagnostic("is not the URL of a Redis server", "write redis://host:6379/0", "url"))
        if config.encryption_key is not None:
            try:
                key_in(config.encryption_key.reveal())
            except ConfigurationError as error:
                found.append(Diagnostic("is rejected", str(error), "encryption_key"))
        return found

    def register(self, context: Context) -> None:
        """Stand next to the sending of model calls, and around everything else."""
        config: ResponseCacheConfig = context.config
        applies = config.mode == "apply" and context.mode == "enforce"
        store = self._open(config) if applies else MemoryStore(config.max_bytes)
        context.on_close(store.close)
        cache = Cache(
            store,
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

    def _open(self, config: ResponseCacheConfig) -> Store:
        """Return the store that a configuration asks for.

        Raises:
            ConfigurationError: the package or the file for it is missing.
        """
        secret = None if config.encryption_key is None else config.encryption_key.reveal()
        if config.path is not None:
            from spanrelay.plugins.response_cache.sqlite_store import SqliteStore  # only where it is asked for

            return Sealed(SqliteStore(config.path, config.max_bytes, self._clock), secret)
        if config.url is not None:
            from spanrelay.plugins.response_cache.redis_store import RedisStore  # as above

            return Sealed(RedisStore(config.url.reveal()), secret)
        return MemoryStore(config.max_bytes)


def _pattern_of(models: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, models))) if models else None
