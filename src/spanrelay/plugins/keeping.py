"""What stores of plugins have in common: how threads take turns, what a fork leaves, and a private SQLite file."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit


class StoreError(Exception):
    """What is kept cannot be read or written; its text names the store, without what may be secret."""


@contextmanager
def turn(lock: Any, seconds: float) -> Generator[None]:
    """Hold `lock`, which threads of one process take one after another.

    It is a lock that its thread may take again: the collector of garbage may end an abandoned stream, whose tokens
    are then counted, within whatever is done with a store.

    Raises:
        TimeoutError: others have had it for longer than `seconds`.
    """
    if not lock.acquire(timeout=seconds):
        raise TimeoutError("other calls of this process wait for them too")
    try:
        yield
    finally:
        lock.release()


class Renewed(Protocol):
    """What has state that a forked child must not go on with."""

    def after_fork(self) -> None:
        """Begin anew."""
        ...


renewed: weakref.WeakSet[Renewed] = weakref.WeakSet()
"""What `after_fork` is called of in a forked child: a thread that does not live on there may have held a lock."""


def _renew() -> None:
    for each in list(renewed):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


# --- SQLite ---

_of_parents: list[sqlite3.Connection] = []
"""Connections that came with a fork. Closing one here would take away what the parent still works with."""


class SqliteFile:
    """An SQLite file on a local disk, readable by its owner alone, that processes of one machine share.

    A connection belongs to the process that opened it: a forked child opens its own, and leaves its parent's alone.

    Args:
        path: Of the file, which is made where it is not there.
        schema: What makes its table, unless it is there.
        patience_s: Seconds that something waits for what others do.
    """

    def __init__(self, path: Path, schema: str, patience_s: float) -> None:
        self.path = path
        self._schema, self._patience_s = schema, patience_s
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._lock = threading.RLock()
        renewed.add(self)

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

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """Give the connection to read by.

        Raises:
            TimeoutError: other threads have had it for too long.
            sqlite3.Error: the file cannot be used.
            OSError: it cannot be opened.
        """
        with turn(self._lock, self._patience_s):
            yield self._opened()

    @contextmanager
    def changing(self) -> Generator[sqlite3.Connection]:
        """Give the connection to change something by, in one transaction: where it fails nothing is changed.

        Raises:
            TimeoutError: as `reading`, and so are the others.
        """
        with self.reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None and self._file != _file_at(self.path):
            # It was deleted or replaced: other processes use what is there now.
            self.close()
        if self._db is None:
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            db = sqlite3.connect(self.path, timeout=self._patience_s, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(db)
            except BaseException:
                db.close()
                raise
            self._db, self._file = db, _file_at(self.path)
        return self._db

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Make the table. SQLite does not wait to change to a write-ahead log: of several processes one may."""
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute(self._schema)
                return
            except sqlite3.OperationalError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return which file is at `path`; None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


# --- servers ---

REDIS = re.compile(r"(redis|rediss|unix)://.")
"""How the URL of a Redis server begins."""


def without_secrets(url: str) -> str:
    """Return a URL without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
