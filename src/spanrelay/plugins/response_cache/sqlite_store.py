"""Answers in an SQLite file on a local disk, for the processes of one machine, and for later ones.

A store that others hold up is left alone soon: no call waits for it long.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from spanrelay.errors import ConfigurationError
from spanrelay.plugins.keeping import SqliteFile, StoreError

PATIENCE_S = 0.1
"""Seconds that a question waits for others."""
_SWEEP_S = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, data BLOB NOT NULL, put REAL NOT NULL, until REAL NOT NULL)
"""
_PUT = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)"
_LATEST = """
DELETE FROM answers WHERE key IN (
  SELECT key FROM (SELECT key, SUM(LENGTH(data)) OVER (ORDER BY put DESC, key) AS size FROM answers) WHERE size > ?
)
"""


class SqliteStore:
    """Keeps so many bytes in the SQLite file `path`; what was put there first is forgotten first.

    Raises:
        ConfigurationError: the file cannot be opened or is something else.
    """

    shared = True

    def __init__(self, path: Path, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._file = SqliteFile(path, _SCHEMA, PATIENCE_S)
        self._max_bytes, self._clock = max_bytes, clock
        self._put, self._swept = 0, 0.0
        try:
            self.get(b"")
        except StoreError as error:
            raise ConfigurationError(
                f"path {str(path)!r} cannot be used: {error}; name a file on a local disk"
            ) from None

    def get(self, key: bytes) -> bytes | None:
        """Return what is kept by a key."""
        try:
            with self._file.reading() as db:
                row = db.execute("SELECT data FROM answers WHERE key = ?", (key,)).fetchone()
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def put(self, key: bytes, data: bytes, ttl_seconds: float) -> None:
        """Keep `data`, and forget what is too old or too much, now and then."""
        now = self._clock()
        try:
            with self._file.changing() as db:
                db.execute(_PUT, (key, data, now, now + ttl_seconds))
                self._put += len(data)
                if self._put > self._max_bytes // 10 or not 0 <= now - self._swept < _SWEEP_S:
                    self._put, self._swept = 0, now
                    db.execute("DELETE FROM answers WHERE until <= ?", (now,))
                    db.execute(_LATEST, (self._max_bytes,))
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Close the connection; it is opened again if it is needed."""
        self._file.close()

    def _failure(self, error: Exception) -> StoreError:
        return StoreError(f"the answers in {str(self._file.path)!r} cannot be read or written: {error}")
