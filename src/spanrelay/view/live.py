"""The runs of a folder as they are at a moment: its documents, and the journals of those that are not finished.

Only looks. No file of the folder is written, renamed or kept locked, so that whoever writes there never notices.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from spanrelay.assembly import spool
from spanrelay.assembly.atif import Trajectory
from spanrelay.errors import SpanRelayError
from spanrelay.view.entries import Entry, entry_of

_DOCUMENT = ".json"

Stamp = tuple[int, ...]
"""What is another whenever a file of a run is, or its program has gone: sizes and times."""

State: TypeAlias = Literal["", "growing", "left unfinished"]
"""How far a run is: finished, or not and written by a program, or by none, which was killed."""


@dataclass(slots=True)
class Run:
    """A run of a folder.

    Attributes:
        place: The file of its document, which may not be there yet.
        changed: When it last changed, in nanoseconds since the epoch.
        document: The size and the time of its document; None where there is none.
        journal: Those of the journal beside it in which it grows; None where there is none.
        left: Whether nobody writes that journal any more.
    """

    place: str
    changed: int = 0
    document: tuple[int, int] | None = None
    journal: tuple[int, int] | None = None
    left: bool = False

    @property
    def path(self) -> Path:
        """The file of its document."""
        return Path(self.place)

    @property
    def part(self) -> Path:
        """The file of its journal."""
        return Path(self.place.removesuffix(_DOCUMENT) + spool.SUFFIX)

    @property
    def stamp(self) -> Stamp:
        """What is another once anything of the run has changed."""
        return (*(self.document or (-1, -1)), *(self.journal or (-1, -1)), self.left)


def runs_in(folder: Path) -> list[Run]:
    """Return the runs of a folder and of those within it, the one that changed last first; none where it is gone."""
    found: dict[str, Run] = {}
    for place, size, changed in _files(str(folder)):
        is_journal = place.endswith(spool.SUFFIX)
        name = place.removesuffix(spool.SUFFIX) + _DOCUMENT if is_journal else place
        run = found.setdefault(name, Run(name))
        run.changed = max(run.changed, changed)
        if is_journal:
            run.journal, run.left = (size, changed), not spool.is_written(run.part)
        else:
            run.document = size, changed
    return sorted(found.values(), key=lambda run: (-run.changed, run.place))


def _files(folder: str) -> Iterator[tuple[str, int, int]]:
    """Yield documents and journals with their sizes and times; what is no file, or gone by now, is left out."""
    waiting = [folder]
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.name.endswith((_DOCUMENT, spool.SUFFIX)):
                        found = entry.stat()
                        if stat.S_ISREG(found.st_mode):
                            yield entry.path, found.st_size, found.st_mtime_ns


def _file(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
    return None


class Live:
    """Reads the runs of a folder, each again only where it has changed.

    Args:
        read: Returns the document in a file; raises `SpanRelayError`.
        is_one: Whether a file can be a document at all.
    """

    def __init__(self, folder: Path, read: Callable[[Path], Trajectory], is_one: Callable[[Path], bool]) -> None:
        self.folder = folder
        self.read = read
        self._is_one = is_one
        self._entries: dict[str, tuple[Stamp, Entry | str | None]] = {}
        self._last: tuple[str, Stamp, Trajectory | str] | None = None

    def document(self, run: Run) -> Trajectory | str:
        """Return a run as far as it has come; else why it cannot be shown."""
        if self._last is None or self._last[:2] != (run.place, run.stamp):
            self._last = run.place, run.stamp, self._document(run)
        return self._last[2]

    def newest(self, most: int) -> tuple[list[tuple[Run, Entry | str]], int]:
        """Return the runs that changed last, and how many there are in all.

        With each is what lists say of it, else why it cannot be shown.
        """
        runs = runs_in(self.folder)
        shown = runs[:most]
        found = [(run, entry) for run in shown if (entry := self._entry(run)) is not None]
        self._entries = {run.place: self._entries[run.place] for run in shown}
        return found, len(runs) - len(shown) + len(found)

    def run_at(self, place: str) -> Run:
        """Return a run by the place of its document, as its files are now."""
        run = Run(place)
        run.document, run.journal = _file(run.path), _file(run.part)
        run.left = run.journal is not None and not spool.is_written(run.part)
        return run

    def _entry(self, run: Run) -> Entry | str | None:
        """Return what lists say of a run; None where its file is no document, but other JSON."""
        known = self._entries.get(run.place)
        if known is None or known[0] != run.stamp:
            known = self._entries[run.place] = run.stamp, self._new_entry(run)
        return known[1]

    def _new_entry(self, run: Run) -> Entry | str | None:
        if run.journal is None and not self._is_one(run.path):
            return None
        document = self.document(run)
        try:
            return document if isinstance(document, str) else entry_of(document, _there(run))
        except OSError:  # it has no times, and is gone by now
            return _gone(run)

    def _document(self, run: Run) -> Trajectory | str:
        if state_of(run):
            try:
                content = spool.render(run.part, tell=False)
                if content is not None:
                    return Trajectory.from_json(content)
            except FileNotFoundError:
                pass  # it has just been finished
            except Exception as error:  # anybody may have written there: whatever is wrong with it
                return f"the journal {run.part.name!r} cannot be read: {error!r:.200}"
            if run.document is None and run.part.exists():
                ended = "had ended when its program was killed" if run.left else "has ended yet"
                return f"{run.path.name!r} begins: no step {ended}"
        try:
            return self.read(run.path)
        except SpanRelayError as error:
            return str(error) if run.path.exists() else _gone(run)


def state_of(run: Run) -> State:
    """Return whether a run has a journal that says more than its document, and somebody who writes it."""
    if run.journal is None:
        return ""
    try:
        if run.document is not None and spool.is_whole(run.part):
            return ""
    except OSError:
        return ""
    return "left unfinished" if run.left else "growing"


def counted(states: Iterable[State]) -> str:
    """Return how many runs grow and, where there are any, how many were left, and what to do of these."""
    count = Counter(states)
    left = count["left unfinished"]
    them = "it" if left == 1 else "them"
    return f"{count['growing']} growing" + (
        f", {left} left unfinished: `spanrelay recover` finishes {them}" if left else ""
    )


def _gone(run: Run) -> str:
    return f"{run.path.name!r} has been removed"


def _there(run: Run) -> Path:
    return run.path if run.document is not None else run.part
