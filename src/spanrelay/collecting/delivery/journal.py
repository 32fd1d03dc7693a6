"""What is not delivered yet, in a file: a line when a document is about to be written or removed, one when it was sent.

The operating system has the line before it has the document, so that a kill in between leaves it to be delivered.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from pathlib import Path

from spanrelay import _json
from spanrelay.assembly.sinks import write_whole

_DONE = 0
_LONGEST = 20_000
"""Lines after which the file is written again with those that count."""


class Journal:
    """The file. Thread-safe.

    Args:
        path: Where it is; what an earlier process left there is `waiting`.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._file: int | None = None
        self.waiting: dict[str, int] = {}
        """The names of what is not delivered: when it was removed, in nanoseconds since the epoch, or 1."""
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError, TypeError):  # cut off by a kill, or empty
                    name, state = _json.loads(line)
                    self._take(str(name), int(state))
        self._open()

    def _take(self, name: str, state: int) -> None:
        self.waiting.pop(name, None)  # what waits longest is first
        if state != _DONE:
            self.waiting[name] = state

    def _open(self) -> None:
        """Begin the file with what waits, and leave what is done out."""
        self.close()
        write_whole(self._path, b"".join(map(_line, self.waiting.items())), sync=False)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._lines = len(self.waiting)

    def note(self, name: str, *, removed: bool) -> int:
        """Remember that something is about to be written or removed, and return how it waits.

        Raises:
            OSError: it cannot be written down.
        """
        state = time.time_ns() if removed else 1
        self._append(name, state)
        return state

    def done(self, name: str) -> None:
        """Remember that something has been delivered, or is put elsewhere; what was closed forgets it."""
        if self._file is not None:
            self._append(name, _DONE)

    def _append(self, name: str, state: int) -> None:
        with self._lock:
            if self._file is None:
                raise OSError("the journal of deliveries is closed")
            line = b"\n" + _line((name, state))  # behind what a full disk may have cut off
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._take(name, state)
            self._lines += 1
            if self._lines > _LONGEST + 10 * len(self.waiting):
                self._open()

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(entry: tuple[str, int]) -> bytes:
    return _json.dumps(entry) + b"\n"
