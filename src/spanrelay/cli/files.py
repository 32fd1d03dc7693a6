"""Where trajectories are: a file, the newest one of a folder, or the one that goes by a name.

Only reads; what a file holds is the `assembly` package's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from spanrelay import config
from spanrelay.assembly import newer
from spanrelay.assembly.atif import AtifError, Trajectory, moment_of
from spanrelay.errors import SpanRelayError
from spanrelay.view.entries import Entry, entry_of
from spanrelay.view.index import Index, state_of


class NoTrajectory(SpanRelayError, OSError):
    """There is no trajectory where one was expected."""


def default_directory() -> Path:
    """The folder that the settings of this environment name."""
    return Path(config.load()[0].trajectory_directory)


def find(place: str) -> Path:
    """Return the file meant by `place`.

    `place` is a file, a folder whose newest trajectory is meant, `latest`, or, where neither file nor folder has that
    name, one in the folder of the settings: by its number in `spanrelay list`, by its file's name or session, whole or
    as far as only one begins so.

    Raises:
        NoTrajectory: nothing is there, or several are; the message says what to do.
    """
    path = default_directory() if place == "latest" else Path(place)
    if path.is_file():
        return path
    if path.is_dir() or place == "latest":
        return newest_first(path)[0]
    return _named(place, _found_in(default_directory()))


def each(places: Iterable[str]) -> Iterator[Path]:
    """Yield every trajectory meant, once: all of a folder and of those in it, oldest first, else as `find` says.

    JSON in a folder that has nothing of a trajectory is no business of ours. What cannot be read is yielded, so that
    its reader says so.

    Raises:
        NoTrajectory: nothing is there; the message says what to do.
    """
    seen: set[Path] = set()
    for place in places:
        path = Path(place)
        for found in oldest_first(path) if path.is_dir() else [find(place)]:
            if (resolved := found.resolve()) not in seen:
                seen.add(resolved)
                yield found


def oldest_first(folder: Path) -> list[Path]:
    """Return what looks like trajectories in a folder. Raises `NoTrajectory` where there are none."""
    index = index_of(folder)
    newest = newest_first(folder)
    found = [path for path in reversed(newest) if index.begun(path) is not None or looks_like_one(path)]
    if not found:
        raise NoTrajectory(f"no trajectory in {str(folder)!r}; {_what_to_do(folder)}")
    return found


def looks_like_one(path: Path) -> bool:
    """Whether a file has what documents of any producer have, or cannot be read at all."""
    try:
        with path.open("rb") as file:
            if _HEAD.match(file.read(4096)):
                return True
        content = read(path)
    except (OSError, NoTrajectory):
        return True
    version = content.get("schema_version") if isinstance(content, dict) else None
    return isinstance(content, dict) and ("steps" in content or str(version).startswith("ATIF"))


def newest_first(folder: Path) -> list[Path]:
    """Return the trajectories in a folder.

    Raises:
        NoTrajectory: there are none; the message says what to do.
    """
    found = _found_in(folder)
    if not found:
        there = f"no trajectory in {str(folder)!r}" if folder.is_dir() else f"there is no folder {str(folder)!r}"
        raise NoTrajectory(f"{there}; {_what_to_do(folder)}")
    return found


def _what_to_do(folder: Path) -> str:
    begun = len(list(folder.glob("*.atif.part")))
    if begun:
        return (
            f"{begun} not finished; `spanrelay.flush()` writes those of a program that runs, "
            "`spanrelay recover` those of programs that have ended"
        )
    return (
        "run a program under opentelemetry-instrument, or with spanrelay.activate(), first, "
        "or name the folder that it wrote to"
    )


def runs_of(session: str, folder: Path) -> list[Path]:
    """Return the trajectories of a session in a folder, the newest first."""
    return [path for path in _found_in(folder) if session and session_of(path) == session]


def _found_in(folder: Path) -> list[Path]:
    # By when they began: what is finished, or written anew, later than others is not newer. Two that are the same
    # stand in the order of their names, which never changes.
    index = index_of(folder)
    found = [(-_begun(file, index), -_written(file), file.name, file) for file in folder.rglob("*.json")]
    return [file for *_, file in sorted(found)]


_FIRST_STEP = re.compile(rb'"steps"\s*:\s*\[\s*\{\s*"step_id"\s*:\s*1\s*,\s*"timestamp"\s*:\s*"([^"]*)"')
"""How the first step of our documents begins, before which only the agent and its tools stand."""


def _begun(file: Path, index: Index) -> float:
    """When the first step of a document was that has a time, in seconds; else when the file was written."""
    if (known := index.begun(file)) is not None:
        return known
    try:
        with file.open("rb") as opened:
            first = _FIRST_STEP.search(opened.read(1 << 16))
        if first and (moment := moment_of(first[1].decode("ascii", "replace"))):
            return moment.timestamp()
        moments = (moment_of(step["timestamp"]) for step in read(file)["steps"] if step.get("timestamp"))
        return next(moment.timestamp() for moment in moments if moment is not None)
    except (OSError, LookupError, TypeError, AttributeError, StopIteration, OverflowError):  # it is none, or gone
        return _written(file) / 1e9


def _written(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # removed a moment ago, to make room
        return 0


def _named(name: str, found: list[Path]) -> Path:
    """Return the newest of those whose name or session is `name`, else the only one whose begins so."""
    if name.isdecimal() and len(name) <= len(str(len(found))) and 0 < int(name) <= len(found):
        return found[int(name) - 1]
    sessions = {path: session_of(path) for path in found}
    whole = [path for path in found if name in (path.stem, sessions[path])]
    if whole:
        return whole[0]
    begun = [path for path in found if path.stem.startswith(name) or sessions[path].startswith(name)]
    runs = {sessions[path] or path.stem for path in begun}
    if len(runs) == 1:
        return begun[0]
    if begun:
        several = ", ".join(path.stem for path in begun[:5]) + (", …" if len(begun) > 5 else "")
        raise NoTrajectory(f"{len(begun)} trajectories begin with {name!r}: {several}; write more of it")
    raise NoTrajectory(
        f"there is no file {name!r}, and in {str(default_directory())!r} no trajectory of that name, session or "
        "number; see `spanrelay list`"
    )


_HEAD = re.compile(rb'\s*\{\s*"schema_version"\s*:\s*"[^"]*"\s*,\s*"session_id"\s*:\s*("(?:[^"\\]|\\.)*")')
"""How our documents begin: their sessions are told without reading the rest."""


def session_of(path: Path) -> str:
    """Return the session that a document names; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = _HEAD.match(file.read(4096))
        session = orjson.loads(head[1]) if head else read(path).get("session_id")
    except (OSError, ValueError, AttributeError):
        return ""
    return session if isinstance(session, str) else ""


def read(path: Path) -> Any:
    """Return the JSON of a file.

    Raises:
        NoTrajectory: it cannot be read, or is not JSON.
    """
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise NoTrajectory(f"cannot read {str(path)!r}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise NoTrajectory(f"{str(path)!r} is not JSON: {error}") from error


@lru_cache(maxsize=4)
def index_of(folder: Path) -> Index:
    """Return the index of a folder, which is read once: what it says of a file that changes counts no more."""
    return Index(folder)


class Entries:
    """What is kept of the documents meant by `places`, from the indexes of the folders among them where they know."""

    def __init__(self, places: Iterable[str]) -> None:
        self._indexes = [index_of(path) for path in map(Path, places) if path.is_dir()]

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *_: object) -> None:
        """Write the indexes anew."""
        for index in self._indexes:
            index.save()

    def of(self, path: Path) -> Entry:
        """Return what is kept of a document, which is read where no index knows it.

        Raises:
            SpanRelayError: it cannot be read, or is not a trajectory.
        """
        index = next((each for each in self._indexes if each.folder in path.parents), None)
        if index is not None and (known := index.entry(path)) is not None:
            return known
        state = state_of(path)
        entry = entry_of(trajectory(path), path)
        if index is not None:
            index.keep(path, state, entry)
        return entry


def trajectory(path: Path) -> Trajectory:
    """Return what a file holds. Raises `SpanRelayError` where that is not a trajectory."""
    try:
        return newer.read(read(path))
    except AtifError as error:
        raise SpanRelayError(f"{str(path)!r} is not an ATIF trajectory: {error}; see `spanrelay validate`") from error
