"""`[plugins.policy.counts]`: which store a configuration asks for."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from spanrelay.plugins.keeping import REDIS
from spanrelay.plugins.plugin import Diagnostic, Secret
from spanrelay.plugins.policy.stores import MemoryStore, Store

_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(slots=True)
class Storage:
    """`[plugins.policy.counts]`: where counts are kept; in this process unless one of `path` and `url` is set.

    `name` keeps counts in one place apart, and joins those of files that say the same.
    `path` is an SQLite file on a local disk, `url` a Redis server (`redis://`, `rediss://`, `unix://`). Counts that
    nothing has used for `keep_hours`, 24 by default, are forgotten there.
    """

    path: Path | None = None
    url: Secret | None = None
    keep_hours: float | None = None
    name: str | None = None

    @property
    def shared(self) -> bool:
        """Whether other processes may use the same counts."""
        return self.path is not None or self.url is not None


def doubts_about_storage(storage: Storage) -> list[Diagnostic]:
    """Find what cannot be a place for counts."""
    found: list[Diagnostic] = []
    if storage.path is not None and storage.url is not None:
        found.append(Diagnostic("has both path and url", "remove one", "counts"))
    if storage.path is not None and not storage.path.parent.is_dir():
        found.append(Diagnostic("is in a folder that does not exist", "create the folder", "counts.path"))
    if storage.url is not None and not REDIS.match(storage.url.reveal()):
        found.append(Diagnostic("is not the URL of a Redis server", "write redis://host:6379/0", "counts.url"))
    if storage.name is not None and not _NAME.fullmatch(storage.name):
        found.append(Diagnostic("is not a valid name", "write letters, digits, '.', '_' and '-'", "counts.name"))
    if not (math.isfinite(hours := _keep_hours(storage)) and hours > 0):
        found.append(Diagnostic("is not a number above 0", "write hours, such as 24.0", "counts.keep_hours"))
    return found


def _keep_hours(storage: Storage) -> float:
    return 24.0 if storage.keep_hours is None else storage.keep_hours


def open_store(storage: Storage, name: str) -> Store:
    """Return the store that a configuration asks for; `name` keeps the keys of several files in one place apart.

    Raises:
        ConfigurationError: the package or the file for it is missing.
    """
    keep_s = _keep_hours(storage) * 3600
    if storage.path is not None:
        from spanrelay.plugins.policy.sqlite_store import SqliteStore  # only where it is asked for

        return SqliteStore(storage.path, name, keep_s)
    if storage.url is not None:
        from spanrelay.plugins.policy.redis_store import RedisStore  # as above

        return RedisStore(storage.url.reveal(), name, keep_s)
    return MemoryStore()
