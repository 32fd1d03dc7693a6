"""Databases in which a coding agent keeps its sessions: opencode's, of SQLite, row by row as JSON.

Read only, also while the agent writes to it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from urllib.parse import quote

from spanrelay import _json
from spanrelay.otlp_in.transcripts.opencode import TABLES

_HEAD = b"SQLite format 3\0"


def is_database(head: bytes) -> bool:
    """Whether a file that begins so is a database."""
    return head.startswith(_HEAD)


def has_sessions(path: Path) -> bool:
    """Whether a database has the tables of sessions."""
    try:
        with closing(_opened(path)) as database:
            found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return False
    return found.issuperset(TABLES)


def rows_of(path: Path, sessions: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield the rows of the tables of sessions: where each is, and its line as a transcript has it.

    Args:
        path: The database.
        sessions: Those that are wanted, with those that they began; None for all.

    Raises:
        ValueError: the database cannot be read, or is of somebody else.
    """
    if not has_sessions(path):
        raise ValueError(f"no database of opencode, which has the tables {', '.join(map(repr, TABLES))}")
    try:
        with closing(_opened(path)) as database:
            wanted = [None] if sessions is None else _with_begun(database, sessions)
            for table, session in product(TABLES, wanted):
                # Each is one of ours, and no value.
                column = "id" if table == "session" else "session_id"
                only = "" if session is None else f"WHERE {column} = ?"
                values = () if session is None else (session,)
                cursor = database.execute(f"SELECT * FROM {table} {only} ORDER BY id", values)
                names = [column[0] for column in cursor.description]
                for row in cursor:
                    told = {name: _value(name, each) for name, each in zip(names, row, strict=True)}
                    yield f"{table} {told.get('id')}", _json.dumps({"table": table, "row": told})
    except sqlite3.Error as error:
        raise ValueError(f"the database ends here, or is damaged: {error}") from error


def _with_begun(database: sqlite3.Connection, sessions: Collection[str]) -> list[str]:
    """Return sessions, and those that any of them began."""
    found = dict.fromkeys(sorted(sessions))
    left = list(found)
    while left:
        begun = database.execute("SELECT id FROM session WHERE parent_id = ?", (left.pop(),))
        new = [key for (key,) in begun if key not in found]
        found |= dict.fromkeys(new)
        left += new
    return list(found)


_OBJECTS = ("data", "revert")
"""Columns whose texts are JSON that is read."""


def _value(name: str, value: object) -> object:
    if name in _OBJECTS and isinstance(value, str):
        return _json.loads_or_text(value)
    return value if isinstance(value, (str, int, float)) else None


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
