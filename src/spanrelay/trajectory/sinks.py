"""A directory of trajectories: growing parts, finished documents, and the media they name.

Readable by its owner only; a document appears whole or not at all, and a file of another process is never
touched. What the file system refuses costs one warning and is counted; the application never notices.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from spanrelay import _guard, _json
from spanrelay._guard import losses
from spanrelay.records import JSON
from spanrelay.trajectory import spool
from spanrelay.trajectory.spool import Operation, Spool

_log = logging.getLogger("spanrelay")

MAX_PART = 512 * 1024 * 1024
"""Bytes that one growing document may have."""

MEDIA = ("images", "audio", "assets")
"""The folders of media."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
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

    def prepare(self) -> None:
        """Make the directory, and finish what processes that died have left in it. Raises `OSError`."""
        if self._ready:
            return
        # A directory that exists keeps its mode: its owner may share it on purpose.
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        self._ready = True
        recover(self.path)

    def claim(self, name: str) -> tuple[Spool, Path]:
        """Open a part under a name that nobody uses, near `name`; return it and its document's path.

        Raises:
            OSError: the directory cannot be written.
        """
        self.prepare()
        for stem in _stems(name):
            path = self.path / f"{stem}.json"
            if path.exists():
                continue
            try:
                part = self.open_part(path)
            except FileExistsError:
                continue
            return part, path
        raise AssertionError("unreachable: the names never end")

    def open_part(self, path: Path) -> Spool:
        """Open the part of the document at `path`. Raises `FileExistsError` where another process has it."""
        name = path.with_name(path.stem + spool.SUFFIX)
        part = Spool(name, self._mask) if self._mask is not None else Spool(name)
        self._growing.add(path)
        return part

    def put(self, data: bytes, folder: str, extension: str) -> str:
        """Write media under the name of its hash, once, and return its path within the directory."""
        name = f"{folder}/{hashlib.sha256(data).hexdigest()}{extension}"
        path = self.path / name
        try:
            self.prepare()
            if path.exists():
                os.utime(path)  # used again, so not old
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
            reason = "a file is in the way" if isinstance(error, FileExistsError) else error.strerror or str(error)
            _log.warning("trajectories cannot be written to %s: %s", self.path, reason)

    def write(self, path: Path, document: dict[str, JSON]) -> None:
        """Write a document in one piece, and make room for it. Raises `OSError`."""
        data = _json.dumps(document)
        write_whole(path, data)
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
        _remove_unwritten(self.path)
        files = [(entry.stat(), entry) for entry in self._files()]
        total = sum(stat.st_size for stat, _ in files)
        for stat, entry in sorted(files, key=lambda file: file[0].st_mtime_ns):
            if total <= self._max_bytes:
                return
            if entry not in self._growing:
                entry.unlink(missing_ok=True)
                total -= stat.st_size

    def _files(self) -> Iterator[Path]:
        yield from self.path.glob("*.json")
        for folder in MEDIA:
            yield from (self.path / folder).glob("[!.]*")


def _stems(name: str) -> Iterator[str]:
    """Yield file names for `name`: itself made safe, then with numbers."""
    safe = _UNSAFE.sub("_", name).strip("._")[:100]
    if safe != name or not safe:
        safe = f"{safe or 'session'}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
    yield safe
    number = 2
    while True:
        yield f"{safe}-{number}"
        number += 1


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that readers see it whole or not at all. Raises `OSError`.

    Until it is whole it is locked, so that others can tell whether its writer lives.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}{spool.TEMPORARY}")
    file = spool.create(temporary)
    try:
        with file:
            written = memoryview(data)
            while written:
                written = written[file.write(written) :]
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_unwritten(directory: Path) -> None:
    """Remove the files that processes were writing when they died."""
    for folder in (directory, *(directory / name for name in MEDIA)):
        for file in spool.orphans(folder, f".*{spool.TEMPORARY}"):
            file.unlink(missing_ok=True)


def recover(directory: Path) -> list[Path]:
    """Finish the documents whose writing process died: render each part, remove it, return the documents.

    What such a process was writing at that moment is removed: the part says the same.
    """
    _remove_unwritten(directory)
    finished: list[Path] = []
    for part in spool.orphans(directory):
        path = part.with_name(part.name.removesuffix(spool.SUFFIX) + ".json")
        with _guard.guarded("recovering a trajectory"):
            document = spool.render(part)
            if document is not None:
                _mark_recovered(document)
                write_whole(path, _json.dumps(document))
                finished.append(path)
            part.unlink()
    return finished


def _mark_recovered(document: dict[str, JSON]) -> None:
    document["extra"] = {**(document.get("extra") or {}), "status": "partial", "recovered": True}


class DirectoryJournal:
    """The storage of one document in a directory: nothing until its first step, then a part, then a document.

    After `finish`, a further operation takes the finished document up again. `changed` hears of the first
    operation after each time that the document was up to date.
    """

    def __init__(self, directory: TrajectoryDirectory, name: str, changed: Callable[[DirectoryJournal], None]) -> None:
        self.dirty = False
        self.full = False
        self.path: Path | None = None
        self._directory = directory
        self._name = name
        self._changed = changed
        self._early: list[Operation] = []
        self._part: Spool | None = None
        self._broken = False

    def write(self, operation: Operation) -> None:
        """Append one operation, or count it as lost where the directory cannot be written."""
        if self._broken:
            losses.add("trajectory operations not written")
            return
        if self._part is None and self.path is None and operation["op"] not in _BEGINS:
            self._early.append(operation)
            return
        try:
            part = self._part or self._begin()
            part.write(operation)
            if not self.dirty:
                self.dirty = True
                self._changed(self)
            self.full = part.size > MAX_PART
        except OSError as error:
            self._broken = True
            losses.add("trajectory operations not written")
            self._directory.refuse(error)

    def _begin(self) -> Spool:
        if self.path is None:
            self._part, self.path = self._directory.claim(self._name)
            early, self._early = self._early, []
        else:
            self._part = self._directory.open_part(self.path)
            early = [{"op": "base", "document": _json.loads(self.path.read_bytes())}]
        for operation in early:
            self._part.write(operation)
        return self._part

    def render(self) -> None:
        """Write the document as it is now."""
        if self._part is None or self.path is None or not self.dirty:
            return
        self.dirty = False
        try:
            document = self._part.render()
            if document is not None:
                self._directory.write(self.path, document)
        except OSError as error:
            losses.add("trajectories not rendered")
            self._directory.refuse(error)
            self._broken = True

    def finish(self) -> None:
        """Write the document; its part is then needed no more, unless the document could not be written."""
        self.render()
        if self._part is not None:
            self._part.close(remove=not self._broken)
            self._part = None
        if self.path is not None:
            self._directory.release(self.path)
