"""Counts in an SQLite file on a local disk, for the processes of one machine: read and changed in one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from spanrelay import _json
from spanrelay.errors import ConfigurationError
from spanrelay.plugins.keeping import SqliteFile, StoreError
from spanrelay.plugins.policy.limits import Count

PATIENCE_S = 5.0
"""Seconds that a change waits for the changes of others."""
_SWEEP_S = 60.0
_SCHEMA = "CREATE TABLE IF NOT EXISTS counts (key TEXT PRIMARY KEY, count TEXT NOT NULL, used REAL NOT NULL)"
_PUT = (
    "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET count = excluded.count, used = excluded.used"
)


class SqliteStore:
    """Keeps counts in the SQLite file `path`, which is made readable by its owner alone.

    Raises:
        ConfigurationError: the file cannot be opened or is something else.
    """

    shared = True

    def __init__(self, path: Path, name: str, keep_s: float, clock: Callable[[], float] = time.time) -> None:
        self._file = SqliteFile(path, _SCHEMA, PATIENCE_S)
        self._name, self._keep_s, self._clock = name, keep_s, clock
        self._swept = 0.0
        try:
            self._change([], lambda _: False)
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(
                f"counts.path {str(path)!r} cannot be used: {error}; name a file on a local disk that is writable"
            ) from None

    def close(self) -> None:
        """Close the connection; it is opened again if it is needed."""
        self._file.close()

    def read(self, keys: Sequence[str]) -> list[Count]:
        """Return the counts of `keys`."""
        try:
            with self._file.reading() as db:
                return [self._count(db, key) for key in keys]
        except (sqlite3.Error, OSError, ValueError, TypeError, KeyError) as error:
            raise self._failure(error) from error

    def update(self, keys: Sequence[str], change: Callable[[list[Count]], bool], once: str) -> None:
        """Let `change` change the counts of `keys`, in one transaction: where it fails nothing is changed."""
        try:
            self._change(keys, change)
        except (sqlite3.Error, OSError, ValueError, TypeError, KeyError) as error:
            raise self._failure(error) from error

    def _change(self, keys: Sequence[str], change: Callable[[list[Count]], bool]) -> None:
        with self._file.changing() as db:
            counts = [self._count(db, key) for key in keys]
            if change(counts):
                now = self._clock()
                db.executemany(_PUT, [self._row(key, count, now) for key, count in zip(keys, counts, strict=True)])
                self._sweep(db, now)

    def _count(self, db: sqlite3.Connection, key: str) -> Count:
        row = db.execute("SELECT count, used FROM counts WHERE key = ?", (self._key(key),)).fetchone()
        if row is None or row[1] + self._keep_s <= self._clock():
            return Count()
        return Count.from_json(_json.loads(row[0]))

    def _row(self, key: str, count: Count, now: float) -> tuple[str, str, float]:
        return self._key(key), _json.dumps_text(count.to_json()), now

    def _key(self, key: str) -> str:
        return f"{self._name} {key}"

    def _sweep(self, db: sqlite3.Connection, now: float) -> None:
        """Delete what nothing has used for long, now and then."""
        if now - self._swept >= _SWEEP_S:
            self._swept = now
            db.execute("DELETE FROM counts WHERE used <= ?", (now - self._keep_s,))

    def _failure(self, error: Exception) -> StoreError:
        return StoreError(f"the counts in {str(self._file.path)!r} cannot be read or written: {error}")
