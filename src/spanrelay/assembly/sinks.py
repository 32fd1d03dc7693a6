"""A directory of trajectories: growing parts, finished documents, and the media they name.

Readable by its owner only; a document appears whole or not at all, and a file of another process is never
touched. What the file system refuses costs one warning and is counted; the application never notices.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from spanrelay import _guard, _json
from spanrelay._guard import losses
from spanrelay.assembly import spool
from spanrelay.assembly.spool import Operation, Spool
from spanrelay.records import JSON

_log = logging.getLogger("spanrelay")

MAX_PART = 512 * 1024 * 1024
"""Bytes that one growing document may have."""

MAX_BACKLOG = 8 * 1024 * 1024
"""Bytes of a document that wait while they cannot be written; beyond them no step is added."""

MAX_PAUSE = 256
"""Starts and ends of spans, at most, that are let pass before what failed is tried again."""

MEDIA = ("images", "audio", "assets")
"""The folders of media."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.IGNORECASE)
"""Names that Windows keeps for devices, whatever follows their first dot."""

_BEGINS = ("step", "demote")


class TrajectoryDirectory:
    """Where trajectories are kept: `<name>.json`, while growing `<name>.atif.part`, and folders for media.

    Beyond `max_bytes` in all, the oldest files are removed, but none that still grows. `mask` is applied to each
    line before it is written; `on_first` is called when the first document has been written.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int = 1 << 30,
        mask: Callable[[bytes], bytes] | None = None,
        on_first: Callable[[], None] | None = None,
    ) -> None:
        self.path = path
        self._on_first = on_first
        self._refused = False
        self._max_bytes = max_bytes
        self._mask = mask
        self._growing: set[Path] = set()
        self._unchecked = max_bytes
        """Bytes written since files were last counted; at first, whatever stands there counts as written."""
        self._ready = False
        self._lock = threading.RLock()
        """Documents are written by several threads; what they share is this directory's."""

    def prepare(self) -> None:
        """Make the directory, and finish what processes that died have left in it. Raises `OSError`."""
        with self._lock:
            if self._ready and self.path.is_dir():
                return
            # A directory that exists keeps its mode: its owner may share it on purpose.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _hide(self.path / ".gitignore")
            if not self._ready:
                recover(self.path)
            self._ready = True

    def claim(self, name: str) -> tuple[Spool, Path]:
        """Open a part under a name that nobody uses, near `name`; return it and its document's path.

        Raises:
            OSError: the directory cannot be written.
        """
        self.prepare()
        for stem in stems(self._masked(name.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")):
            path = self.path / f"{stem}.json"
            if path.exists():
                continue
            try:
                part = self.open_part(path)
            except FileExistsError:
                continue
            if not path.exists():
                return part, path
            # Another process has finished its document since: who has the part alone may write it, and only now has.
            part.close(remove=True)
            self.release(path)
        raise AssertionError("unreachable: the names never end")

    def open_part(self, path: Path) -> Spool:
        """Open the part of the document at `path`. Raises `FileExistsError` where another process has it."""
        self.prepare()
        part = Spool(path.with_name(path.stem + spool.SUFFIX))
        self._growing.add(path)
        return part

    def line_of(self, operation: Operation) -> bytes:
        """Return an operation as the line that is written of it."""
        return self._masked(spool.line_of(operation))

    def _masked(self, data: bytes) -> bytes:
        return data if self._mask is None else self._mask(data)

    def put(self, data: bytes, folder: str, extension: str) -> str:
        """Write media under the name of its hash, once, and return its path within the directory."""
        data = spool.masked_medium(data, self._mask)
        name = spool.path_of_media(data, folder, extension)
        path = self.path / name
        try:
            self.prepare()
            if path.exists():
                os.utime(path, follow_symlinks=False)  # used again, so not old
            else:
                path.parent.mkdir(mode=0o700, exist_ok=True)
                write_whole(path, data)
                self._unchecked += len(data)
        except OSError as error:
            losses.add("media files not written")
            self.refuse(error)
        return name

    def refuse(self, error: OSError) -> None:
        """Log why the directory cannot be written, once: nothing of ours has failed, so there is no traceback."""
        if not self._refused:
            self._refused = True
            reason = (
                "a file with this name already exists"
                if isinstance(error, FileExistsError)
                else error.strerror or str(error)
            )
            _log.warning("trajectories cannot be written to %s: %s", self.path, reason)

    def write(self, path: Path, document: dict[str, JSON]) -> None:
        """Write a document in one piece, and make room for it. Raises `OSError`."""
        self.prepare()
        data = _json.dumps(document)
        write_whole(path, data)
        with self._lock:
            if self._on_first is not None:
                tell, self._on_first = self._on_first, None
                tell()
            self._unchecked += len(data)
            if self._unchecked > self._max_bytes // 64:
                self._unchecked = 0
                self._trim()

    def release(self, path: Path) -> None:
        """Let the document at `path` grow old: it is finished."""
        self._growing.discard(path)

    def _trim(self) -> None:
        """Remove the oldest files while all together are too large, and what dead processes were writing."""
        remove_unwritten(self.path)
        files: list[tuple[int, int, Path]] = []
        for entry in self._files():
            with contextlib.suppress(FileNotFoundError):  # other processes make room too
                stat = entry.lstat()
                files.append((stat.st_mtime_ns, stat.st_size, entry))
        total = sum(size for _, size, _ in files)
        for _, size, entry in sorted(files):
            if total <= self._max_bytes:
                return
            if entry not in self._growing:
                with contextlib.suppress(OSError):  # not ours to remove, in a folder that others share
                    entry.unlink(missing_ok=True)
                    total -= size

    def _files(self) -> Iterator[Path]:
        yield from self.path.glob("*.json")
        for folder in MEDIA:
            yield from (self.path / folder).glob("[!.]*")


def stems(name: str) -> Iterator[str]:
    """Yield file names for `name`: itself made safe, then with numbers."""
    safe = _UNSAFE.sub("_", name).lstrip("-._").rstrip("._")[:100]
    if _RESERVED.match(safe):
        safe = f"session-{safe}"
    if safe != name or not safe:
        safe = f"{safe or 'session'}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
    yield safe
    number = 2
    while True:
        yield f"{safe}-{number}"
        number += 1


def _hide(path: Path) -> None:
    """Make the file that keeps a directory out of git, unless something of that name, be it a link, is there."""
    with contextlib.suppress(FileExistsError), os.fdopen(os.open(path, _ANEW, 0o644), "wb") as file:
        file.write(b"*\n")


_ANEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
"""Make a file, and never follow a link to do so."""


def write_whole(path: Path, data: bytes | Iterable[bytes], *, sync: bool = True) -> None:
    """Write a file, in one piece or in several, so that readers see it whole or not at all. Raises `OSError`.

    Until it is whole it is locked, so that others can tell whether its writer lives. With `sync` it is then on the
    disk, and outlives a loss of power.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}{spool.TEMPORARY}")
    file = spool.create(temporary)
    try:
        with file:
            for piece in (data,) if isinstance(data, bytes) else data:
                written = memoryview(piece)
                while written:
                    written = written[file.write(written) :]
            if sync:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_unwritten(directory: Path) -> None:
    """Remove the files, also those of media, that processes were writing in a directory when they died.

    What a live process writes is locked, and stays. Where machines share a folder without their locks, that of another
    may go as well: its writing fails then, as on a full disk, and is done once more.
    """
    for folder in (directory, *(directory / name for name in MEDIA)):
        for file in spool.orphans(folder, f".*{spool.TEMPORARY}"):
            file.unlink(missing_ok=True)


class Recovery(NamedTuple):
    """The documents of dead processes: those that were finished now, and those that nothing was missing from."""

    finished: list[Path]
    whole: list[Path]
    left: list[tuple[Path, OSError]]
    """Parts that stay for the next time, since there is no room for their documents, for instance."""


def recover(directory: Path) -> Recovery:
    """Finish the documents whose writing process died: render each part, and remove it.

    What such a process was writing at that moment is removed: the part says the same.
    """
    remove_unwritten(directory)
    found = Recovery([], [], [])
    for part in spool.orphans(directory):
        path = part.with_name(part.name.removesuffix(spool.SUFFIX) + ".json")
        with _guard.guarded("recovering a trajectory"):
            try:
                _recover(part, path, found)
            except OSError as error:
                found.left.append((part, error))
    return found


def _recover(part: Path, path: Path, found: Recovery) -> None:
    if path.exists() and spool.is_whole(part):
        found.whole.append(path)
    elif (document := spool.render(part)) is not None:
        _mark_recovered(document)
        write_whole(path, _json.dumps(document))
        found.finished.append(path)
    if spool.is_damaged(part):
        _keep_aside(part)
    else:
        part.unlink()


def _keep_aside(part: Path) -> None:
    """Leave what cannot be read as a whole to whoever can repair it."""
    kept = part.with_suffix(".damaged")
    if kept.exists():
        kept = part.with_suffix(f".{secrets.token_hex(4)}.damaged")
    part.rename(kept)
    _log.warning(
        "%s has lines that cannot be read, which are missing from its trajectory; it is kept as %s", part, kept
    )


def _mark_recovered(document: dict[str, JSON]) -> None:
    document["extra"] = {**(document.get("extra") or {}), "status": "partial", "recovered": True}


def _read(path: Path) -> JSON:
    try:
        return _json.loads(path.read_bytes())
    except ValueError as error:
        raise OSError(f"{path.name} is no longer JSON") from error


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """Return which file there is, and since when; None where there is none, but a folder for instance."""
    with contextlib.suppress(OSError):
        found = path.stat()
        return (found.st_ino, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
    return None


def _is_document(path: Path) -> bool:
    """Whether a file that somebody else has written is a document that one can go on with."""
    with contextlib.suppress(OSError):
        return spool.is_document(_read(path))
    return False


class DirectoryJournal:
    """The storage of one document in a directory: nothing until its first step, then a part, then a document.

    What cannot be written waits, and is tried again when two spans have started or ended, then four, then eight.
    After `finish`, a further operation takes the finished document up again. `changed` hears of the first
    operation after each `hand_over`.
    """

    __slots__ = (
        "_begun",
        "_changed",
        "_directory",
        "_failures",
        "_left",
        "_lines",
        "_name",
        "_part",
        "_pause",
        "_size",
        "_told",
        "dirty",
        "full",
        "path",
    )

    def __init__(self, directory: TrajectoryDirectory, name: str, changed: Callable[[DirectoryJournal], None]) -> None:
        self.dirty = False
        self.full = False
        self.path: Path | None = None
        self._directory = directory
        self._name = name
        self._changed = changed
        self._part: Spool | None = None
        self._begun = False
        self._told = False
        self._lines: list[bytes] = []
        self._size = 0
        self._failures = self._pause = 0
        self._left: tuple[int, int, int] | None = None

    @property
    def gone(self) -> bool:
        """Whether the finished document was removed, or is none any more, so that it cannot be taken up again."""
        if self._part is not None or self.path is None:
            return False
        state = _state_of(self.path)
        if state != self._left:  # somebody else has written there
            self._left = state if state is not None and _is_document(self.path) else None
        return self._left is None

    def write(self, operation: Operation) -> None:
        """Take in one operation; `hand_over` writes it."""
        line = self._directory.line_of(operation)
        self._lines.append(line)
        self._size += len(line)
        self.full = self.full or self._size > MAX_BACKLOG
        self._begun = self._begun or operation["op"] in _BEGINS
        if self._begun and not self._told:
            self.dirty = self._told = True
            self._changed(self)

    def hand_over(self) -> bool:
        """Write what has been taken in: it is the operating system's then, and outlives this process.

        False where it waits still; then this is to be called again with each span that comes.
        """
        self._told = self._rests() or not self._write_out()
        return not self._told

    def _rests(self) -> bool:
        self._pause -= self._pause > 0
        return self._pause > 0

    def _write_out(self) -> bool:
        if not self._begun or not self._lines:
            return True
        if self.gone:
            self._give_up()
            return True
        try:
            part = self._part or self._begin()
            part.write(b"".join(self._lines))
        except OSError as error:
            return self._put_off(error)
        self._lines.clear()
        self._size = self._failures = self._pause = 0
        self.full = part.size > MAX_PART
        return True

    def _put_off(self, error: OSError) -> bool:
        self._failures += 1
        self._pause = min(1 << self._failures, MAX_PAUSE)
        self._directory.refuse(error)
        return False

    def _begin(self) -> Spool:
        if self.path is None:
            self._part, self.path = self._directory.claim(self._name)
            return self._part
        base = self._directory.line_of({"op": "base", "document": _read(self.path)})
        part = self._directory.open_part(self.path)
        try:
            part.write(base)
        except OSError:
            part.close(remove=True)
            raise
        self._part = part
        return part

    def _give_up(self) -> None:
        if self._lines:
            losses.add("trajectory operations not written", len(self._lines))
        self._lines.clear()
        self._size, self.dirty = 0, False

    def bring_up_to_date(self, *, whole: bool) -> None:
        """Write the document as it is now, unless it is too early to try again."""
        if not self._rests():
            self.render(whole=whole)

    def render(self, *, whole: bool = False) -> bool:
        """Write the document as it is now, and in its part whether it is `whole`; False where that failed."""
        if not self._write_out():
            return False
        if self._part is None or self.path is None or not self.dirty:
            return True
        try:
            if self._part.gone:
                self._directory.prepare()
                self._part = self._part.again()
            document = self._part.render()
            if document is not None:
                self._directory.write(self.path, document)
            if whole:
                self._part.write(spool.WHOLE)
        except OSError as error:
            return self._put_off(error)
        self.dirty = False
        return True

    def document(self) -> dict[str, JSON] | None:
        """Return the document as it would be written now, or None while it has no step, or where it was removed.

        Raises:
            OSError: what has been written of it cannot be read.
        """
        if self._part is not None:
            return self._part.render(self._lines)
        if self.gone:
            return None
        if self.path is None:
            return spool.replayed(self._lines)
        if not self._lines:
            return _read(self.path)
        return spool.replayed([self._directory.line_of({"op": "base", "document": _read(self.path)}), *self._lines])

    def finish(self, *, last: bool = False) -> bool:
        """Write the document, and remove its part; False, and nothing is given up, where that failed.

        With `last` nothing is tried again: the part stays for `recover`, and what it does not hold is lost.
        """
        done = self.render()
        if not done and not last:
            return False
        if self._part is not None:
            self._part.close(remove=done or not self._part.size)
            self._part = None
        if not done:
            losses.add("trajectories not rendered")
            self._give_up()
        if self.path is not None:
            self._left = _state_of(self.path)
            self._directory.release(self.path)
        return True
