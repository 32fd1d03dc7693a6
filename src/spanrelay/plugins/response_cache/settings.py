"""What the tables of caches have in common: where answers are kept, for whom and for how long a call waits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spanrelay.errors import ConfigurationError
from spanrelay.plugins.keeping import REDIS
from spanrelay.plugins.plugin import Diagnostic, Secret
from spanrelay.plugins.response_cache.sealing import Sealed, key_in
from spanrelay.plugins.response_cache.stores import MemoryStore, Store


@dataclass(slots=True)
class CacheConfig:
    """The keys that `[plugins.response_cache]` and `[plugins.tool_cache]` have in common.

    Attributes:
        namespace: Answers that were kept under another are never given.
        mode: `observe` makes every call and says on each span what would have been answered; `apply` answers.
        max_bytes: How much is kept.
        max_wait_seconds: How long a call waits at most for another that asks the same.
        path: An SQLite file that keeps answers for other processes and later ones; in this process without it.
        url: A Redis server that keeps them.
        encryption_key: 32 bytes in base64, by which what is kept there is encrypted.
    """

    namespace: str
    mode: Literal["observe", "apply"] = "observe"
    max_bytes: int = 256 * 1024 * 1024
    max_wait_seconds: float = 60.0
    path: Path | None = None
    url: Secret | None = None
    encryption_key: Secret | None = None


def doubts_about_numbers(config: Any, *keys: str) -> list[Diagnostic]:
    """Find figures that are not above 0."""
    doubted = [key for key in keys if not (math.isfinite(value := getattr(config, key)) and value > 0)]
    return [Diagnostic("is out of its range", "write a number above 0", key) for key in doubted]


def doubts_about(config: CacheConfig) -> list[Diagnostic]:
    """Find a namespace that is none, and what cannot be a place for answers."""
    found = doubts_about_numbers(config, "max_bytes", "max_wait_seconds")
    if not config.namespace.strip():
        found.append(Diagnostic("is empty", "write a name for those who may share answers", "namespace"))
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


def open_store(config: CacheConfig, clock: Callable[[], float], *, applies: bool) -> Store:
    """Return the store that a configuration asks for; what only observes keeps no answers, and needs none.

    Raises:
        ConfigurationError: the package or the file for it is missing.
    """
    secret = None if config.encryption_key is None else config.encryption_key.reveal()
    if applies and config.path is not None:
        from spanrelay.plugins.response_cache.sqlite_store import SqliteStore  # only where it is asked for

        return Sealed(SqliteStore(config.path, config.max_bytes, clock), secret)
    if applies and config.url is not None:
        from spanrelay.plugins.response_cache.redis_store import RedisStore  # as above

        return Sealed(RedisStore(config.url.reveal()), secret)
    return MemoryStore(config.max_bytes)
