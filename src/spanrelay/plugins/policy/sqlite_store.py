"""Counts in an SQLite file on a local disk, for the processes of one machine.

A connection belongs to the process that opened it: a forked child opens its own, and leaves its parent's alone.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from spanrelay import _json
from spanrelay.errors import ConfigurationError
from spanrelay.plugins.policy.limits import Count
from spanrelay.plugins.policy.stores import StoreError, renewed, turn

PATIENCE_S = 5.0
"""Seconds that a change waits for the changes of others."""
_SWEEP_S = 60.0
_SCHEMA = "CREATE TABLE IF NOT EXISTS counts (key TEXT PRIMARY KEY, count TEXT NOT NULL, used REAL NOT NULL)"
_PUT = (
    "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET count = excluded.count, used = excluded.used"
)

_of_parents: list[sqlite3.Connection] = []
"""Connections that came with a fork. Closing one here would take away what the parent still works with."""


class SqliteStore:
    """Keeps counts in the SQLite file `path`, which is made readable by its owner alone.

    Raises:
        ConfigurationError: the file cannot be opened or is something else.
    """

    shared = True

    def __init__(self, path: Path, name: str, keep_s: float, clock: Callable[[], float] = time.time) -> None:
        self._path, self._name, self._keep_s, self._clock = path, name, keep_s, clock
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._swept = 0.0
        self._lock = threading.RLock()
        renewed.add(self)
        try:
            self._change([], lambda _: False)
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(
                f"counts.path {str(path)!r} cannot be used: {error}; name a file on a local disk that is writable"
            ) from None

    def after_fork(self) -> None:
        """Leave the parent's connection alone."""
        if self._db is not None:
            _of_parents.append(self._db)
        self._db = None
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the connection; it is opened again if it is needed."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def read(self, keys: Sequence[str]) -> list[Count]:
        """Return the counts of `keys`."""
        try:
            with turn(self._lock, PATIENCE_S):
                return [self._count(self._opened(), key) for key in keys]
        except (sqlite3.Error, OSError, ValueError, TypeError, KeyError) as error:
            raise self._failure(error) from error

    def update(self, keys: Sequence[str], change: Callable[[list[Count]], bool], once: str) -> None:
        """Let `change` change the counts of `keys`, in one transaction: where it fails nothing is changed."""
        try:
            self._change(keys, change)
        except (sqlite3.Error, OSError, ValueError, TypeError, KeyError) as error:
            raise self._failure(error) from error

    def _change(self, keys: Sequence[str], change: Callable[[list[Count]], bool]) -> None:
        with turn(self._lock, PATIENCE_S):
            db = self._opened()
            db.execute("BEGIN IMMEDIATE")
            try:
                counts = [self._count(db, key) for key in keys]
                if change(counts):
                    now = self._clock()
                    db.executemany(_PUT, [self._row(key, count, now) for key, count in zip(keys, counts, strict=True)])
                    self._sweep(db, now)
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

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

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None and self._file != _file_at(self._path):
            # It was deleted or replaced: other processes count in what is there now.
            self.close()
        if self._db is None:
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            db = sqlite3.connect(self._path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)
            try:
                _prepare(db)
            except BaseException:
                db.close()
                raise
            self._db, self._file = db, _file_at(self._path)
        return self._db

    def _failure(self, error: Exception) -> StoreError:
        return StoreError(f"the counts in {str(self._path)!r} cannot be read or written: {error}")


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return which file is at `path`; None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _prepare(db: sqlite3.Connection) -> None:
    """Make the table. SQLite does not wait to change to a write-ahead log: of several processes one may."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(_SCHEMA)
            return
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
