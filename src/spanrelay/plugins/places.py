"""Where what was learned is kept: an SQLite file of one machine, or a Redis server."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spanrelay.errors import ConfigurationError
from spanrelay.plugins.exchanging import Place
from spanrelay.plugins.keeping import REDIS, SqliteFile, StoreError, without_secrets
from spanrelay.plugins.plugin import Diagnostic, Secret

PATIENCE_S = 2.0
"""Seconds that an exchange waits for others; no call waits for it."""
_SCHEMA = "CREATE TABLE IF NOT EXISTS learned (name TEXT PRIMARY KEY, document BLOB NOT NULL)"


def doubts_about_place(path: Path | None, url: Secret | None) -> list[Diagnostic]:
    """Find what cannot be a place."""
    found: list[Diagnostic] = []
    if path is not None and url is not None:
        found.append(Diagnostic("is there beside path", "remove one", "url"))
    if path is not None and not path.parent.is_dir():
        found.append(Diagnostic("is in a folder that does not exist", "create the folder", "path"))
    if url is not None and not REDIS.match(url.reveal()):
        found.append(Diagnostic("is not the URL of a Redis server", "write redis://host:6379/0", "url"))
    return found


def place_of(path: Path | None, url: Secret | None, plugin: str) -> Place | None:
    """Return where a configuration keeps what `plugin` learns; None for in this process alone.

    Raises:
        ConfigurationError: the package for it is missing, or the file is something else.
    """
    name = f"spanrelay:{plugin}:learned"
    if path is not None:
        return FilePlace(path, name)
    return None if url is None else RedisPlace(url.reveal(), name)


class FilePlace:
    """A document in an SQLite file, readable by its owner alone.

    Raises:
        ConfigurationError: the file cannot be opened or is something else.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        self._file = SqliteFile(path, _SCHEMA, PATIENCE_S)
        try:
            self.read()
        except StoreError as error:
            raise ConfigurationError(
                f"path {str(path)!r} cannot be used: {error}; name a file on a local disk"
            ) from None

    def change(self, change: Callable[[bytes | None], bytes]) -> None:
        """Put what `change` makes of the document there, in one transaction."""
        try:
            with self._file.changing() as db:
                db.execute("INSERT OR REPLACE INTO learned VALUES (?, ?)", (self._name, change(self._told(db))))
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def read(self) -> bytes | None:
        """Return the document."""
        try:
            with self._file.reading() as db:
                return self._told(db)
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def forget(self) -> None:
        """Remove it."""
        try:
            with self._file.changing() as db:
                db.execute("DELETE FROM learned WHERE name = ?", (self._name,))
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Close the connection; it is opened again if it is needed."""
        self._file.close()

    def _told(self, db: sqlite3.Connection) -> bytes | None:
        row = db.execute("SELECT document FROM learned WHERE name = ?", (self._name,)).fetchone()
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def _failure(self, error: Exception) -> StoreError:
        return StoreError(f"what was learned in {str(self._file.path)!r} cannot be read or written: {error}")


class RedisPlace:
    """A document in the Redis server at `url`.

    Raises:
        ConfigurationError: the package `redis` is not installed, or the URL is none.
    """

    def __init__(self, url: str, name: str) -> None:
        self._name = name
        try:
            import redis  # an extra: only who names a server needs it
        except ImportError:
            raise ConfigurationError("url needs the package redis; pip install 'spanrelay[redis]'") from None
        self._errors = (redis.RedisError, OSError)
        self._place = without_secrets(url)
        try:
            self._client: Any = redis.Redis.from_url(url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S)
        except ValueError:
            raise ConfigurationError(f"url {self._place!r} is not the URL of a Redis server") from None

    def change(self, change: Callable[[bytes | None], bytes]) -> None:
        """Put what `change` makes of the document there; again, where somebody else was faster."""

        def put(pipe: Any) -> None:
            made = change(pipe.get(self._name))
            pipe.multi()
            pipe.set(self._name, made)

        self._asked(lambda: self._client.transaction(put, self._name))

    def read(self) -> bytes | None:
        """Return the document."""
        return self._asked(lambda: self._client.get(self._name))

    def forget(self) -> None:
        """Remove it."""
        self._asked(lambda: self._client.delete(self._name))

    def close(self) -> None:
        """Close the connections; they are opened again if they are needed."""
        self._client.close()

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._errors as error:
            told = f"what was learned in {self._place!r} cannot be read or written: {type(error).__name__}"
            raise StoreError(told) from error
