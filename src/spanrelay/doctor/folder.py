"""The folder of trajectories: whether it can be written, what is in it, and what earlier programs left unfinished."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from spanrelay._json import loads
from spanrelay.assembly import spool
from spanrelay.coding_agents.folder import left_behind
from spanrelay.doctor.endpoint import senders
from spanrelay.doctor.findings import Case, Finding

_ROOM = 100 << 20
"""Bytes of a disk below which there is little room."""

_READ = 20
"""Documents, the newest ones, that are looked into."""

_LARGEST = 16 << 20
"""Bytes of a document that is looked into."""


def trajectories(case: Case) -> Iterator[Finding]:
    """Look at whether trajectories are written, and can be."""
    settings, folder = case.settings, Path(case.settings.trajectory_directory)
    if settings.trajectories == "off" and settings.content != "off" and senders(case, "traces"):
        has_content = settings.spans_have_content or settings.events_have_content
        said = "" if has_content else ", which have no message content"
        yield Finding("pass", f"no trajectories are written here: a collector may, from the spans it gets{said}")
        return
    if settings.trajectories == "off" or settings.content == "off":
        yield Finding(
            "warn",
            "no trajectories are written, as the settings say",
            "`spanrelay list` and `spanrelay show` have nothing of these runs",
            "SPANRELAY_TRAJECTORIES=on",
        )
        return
    if settings.trajectories == "memory":
        yield Finding("pass", "trajectories stay in memory: spanrelay.trajectories() has them")
        return
    why = _unwritable(folder)
    if why is not None:
        yield Finding(
            "fail",
            f"trajectories cannot be written to {folder}: {why}",
            "none is written, and each run says so once",
            "SPANRELAY_TRAJECTORY_DIR names another folder",
        )
        return
    yield Finding("pass", f"trajectories are written to {folder}{_contents(folder)}")
    yield from _room(folder)
    yield from _openness(folder)


def left(case: Case) -> Iterator[Finding]:
    """Look at what earlier programs lost or left."""
    folder = Path(case.settings.trajectory_directory)
    orphans, damaged = list(spool.orphans(folder)), list(folder.glob("*.damaged"))
    runs = sum(1 for _ in left_behind(folder))
    if orphans or runs:
        yield Finding(
            "warn",
            f"left by programs that were killed: trajectories: {len(orphans)}, runs of coding agents: {runs}",
            "their last steps may be missing, and their spans were not sent",
            "`spanrelay recover` finishes them; docs/delivery.md says which ends leave time",
        )
    if damaged:
        yield Finding(
            "warn",
            f"parts with lines that cannot be read: {len(damaged)}, such as {damaged[0].name}",
            "what was on these lines is missing from their trajectories",
            "look whether the disk was full",
        )
    partial = sum(1 for path in _newest(folder) if _is_partial(path))
    if partial:
        yield Finding(
            "warn",
            f"trajectories that say that they are not whole: {partial} of the newest {_READ}",
            "their programs were killed, or exporters left spans out",
            "`spanrelay show` says of each what is missing",
        )
    if not (orphans or runs or damaged or partial):
        yield Finding("pass", "no earlier program left anything unfinished")


def _unwritable(folder: Path) -> str | None:
    """Return why nothing can be written into a folder; None where it can. One that is not there is not made."""
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    try:
        if not there.is_dir():
            return f"{there} is a file" if there.exists() else f"{there} leads nowhere"
        if there == folder:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\n")
        elif not os.access(there, os.W_OK | os.X_OK):
            return f"there is no such folder, and none can be made in {there}"
    except OSError as error:
        return error.strerror or str(error)
    return None


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return ", which is made with the first"
    found = list(folder.glob("*.json"))
    growing = len(list(folder.glob(f"*{spool.SUFFIX}")))
    return f": {len(found)} are there" + (f", {growing} not finished" if growing else "")


def _room(folder: Path) -> Iterator[Finding]:
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if free < _ROOM:
        yield Finding(
            "warn",
            f"{free >> 20} MB are free on the disk of {folder}",
            "what cannot be written is lost",
            "make room, or set SPANRELAY_TRAJECTORY_DIR to another disk",
        )


def _openness(folder: Path) -> Iterator[Finding]:
    if os.name == "posix" and folder.is_dir() and folder.stat().st_mode & 0o077:
        yield Finding(
            "warn",
            f"{folder} can be read by others on this machine",
            "trajectories have what people and models said",
            f"chmod 700 {folder}",
        )


def _newest(folder: Path) -> list[Path]:
    def written(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except OSError:
            return 0.0

    return sorted(folder.glob("*.json"), key=written, reverse=True)[:_READ]


def _is_partial(path: Path) -> bool:
    try:
        document = loads(path.read_bytes()) if path.stat().st_size <= _LARGEST else None
    except (OSError, ValueError):
        return False
    extra = document.get("extra") if isinstance(document, dict) else None
    return isinstance(extra, dict) and (extra.get("status") == "partial" or bool(extra.get("recovered")))
