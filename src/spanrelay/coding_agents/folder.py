"""The folder of one run: everything that came, as it came, so that nothing is lost with a process that is killed.

`run.json` says what was run, `telemetry.otlp` and `telemetry.jsonl` hold export requests of spans and log records,
`hooks.jsonl` a hook a line, `transcripts` names the agents' own files, and `sessions.jsonl` what is in a database with
others. `spanrelay convert` reads all of it.
"""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spanrelay import _json
from spanrelay._guard import swallow
from spanrelay.assembly import spool
from spanrelay.otlp_in import databases, hooks

PLACE = ".runs"
"""Where, in the folder of trajectories, those of runs are until their trajectories are written."""

DESCRIPTION = "run.json"

_SESSIONS, _TAKEN_OUT = "sessions.jsonl", "database.jsonl"

LARGEST = (1 << 24) - 1
"""Bytes of an export request that are kept: its length is written before it such that the first byte is 0."""


@dataclass(frozen=True, slots=True)
class Belongs:
    """What the trajectories of a run belong to, where that was said, and what else is told of them."""

    session: str | None = None
    user: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Description:
    """What was run: under which id, the program and its version, the command, when, and what it belongs to."""

    run: str
    program: str
    command: list[str]
    started: float
    belongs: Belongs
    version: str | None = None


class RunFolder:
    """Appends what comes, each whole, from any thread.

    Args:
        path: The folder, which is made, for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        self._linked: set[str] = set()
        self._held: io.FileIO | None = None

    def describe(self, description: Description) -> None:
        """Write down what is run, in a file that is locked as long as this process lives. Raises `OSError`."""
        said = asdict(description)
        self._held = spool.create(self.path / DESCRIPTION)
        self._held.write(_json.dumps(said) + b"\n")

    def add_telemetry(self, request: bytes, *, is_json: bool) -> None:
        """Keep an export request of spans or log records."""
        if is_json:
            # A line each: what an exporter laid out over several is written anew.
            line = request.strip() if b"\n" not in request.strip() else _json.dumps(_json.loads(request))
            self._append("telemetry.jsonl", line + b"\n")
        else:
            self._append("telemetry.otlp", len(request).to_bytes(4, "big") + request)

    def add_hook(self, agent: str, hook: dict[str, Any], answer: bytes) -> None:
        """Keep a hook and what was answered."""
        kept: dict[str, Any] = {"agent": agent, "time": time.time_ns(), "hook": hook}
        if answer:
            kept["answer"] = answer.decode("utf-8", "replace")
        self._append("hooks.jsonl", _json.dumps({hooks.KEY: kept}) + b"\n")

    def add_transcript(self, path: str) -> None:
        """Name a file that the agent keeps of a session, whether it is there already or not.

        Where links cannot be made, its path stands in a file.
        """
        with self._lock:
            if path in self._linked:
                return
            self._linked.add(path)
        try:
            folder = self.path / "transcripts"
            folder.mkdir(exist_ok=True)
            name = folder / os.path.basename(path)
            if os.path.lexists(name):  # the files of some agents are all called the same
                name = folder / f"{os.path.basename(os.path.dirname(path))}-{name.name}"
            if not os.path.lexists(name):
                os.symlink(path, name)
        except OSError as error:
            swallow("linking a transcript", error)

    def add_session(self, database: str, session: str) -> None:
        """Name a session that the agent keeps in a database with others."""
        with self._lock:
            if (named := f"{database}\0{session}") in self._linked:
                return
            self._linked.add(named)
        self._append(_SESSIONS, _json.dumps({"database": database, "session": session}) + b"\n")

    def transcripts(self) -> list[Path]:
        """Return the agents' own files that are there."""
        folder = self.path / "transcripts"
        return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []

    def sources(self) -> list[Path]:
        """Return the files that trajectories are made of."""
        self._take_out()
        own = [self.path / name for name in ("telemetry.otlp", "telemetry.jsonl", "hooks.jsonl", _TAKEN_OUT)]
        return [path for path in own if path.is_file() and path.stat().st_size] + self.transcripts()

    def _take_out(self) -> None:
        """Write down what databases have of the sessions that were named."""
        try:
            named = [_json.loads(line) for line in (self.path / _SESSIONS).read_bytes().splitlines()]
        except (OSError, ValueError):
            return
        wanted: dict[str, set[str]] = {}
        for each in named:
            wanted.setdefault(each["database"], set()).add(each["session"])
        (self.path / _TAKEN_OUT).unlink(missing_ok=True)
        for database, sessions in wanted.items():
            try:
                for _, row in databases.rows_of(Path(database), sessions):
                    self._append(_TAKEN_OUT, row + b"\n")
            except (OSError, ValueError) as error:
                swallow("reading the database of an agent", error)

    def description(self) -> Description | None:
        """Return what was run; None where nothing says."""
        try:
            said = _json.loads((self.path / DESCRIPTION).read_bytes())
            return Description(belongs=Belongs(**said.pop("belongs")), **said)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove(self) -> None:
        """Remove all of it; transcripts are linked, and stay."""
        if self._held is not None:
            self._held.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def _append(self, name: str, data: bytes) -> None:
        """Append to a file; what cannot be kept whole is counted, and leaves what was there before."""
        try:
            with self._lock, open(self.path / name, "ab", buffering=0, opener=_for_owner) as file:
                before = os.fstat(file.fileno()).st_size
                try:
                    left = memoryview(data)
                    while left:
                        left = left[file.write(left) :]
                except OSError:
                    file.truncate(before)  # what follows would be read from its middle
                    raise
        except OSError as error:
            swallow(f"keeping {name} of a run", error)


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def folder_of(trajectories: Path, run: str) -> Path:
    """Return the folder of a run."""
    return trajectories / PLACE / run


def left_behind(trajectories: Path) -> Iterator[RunFolder]:
    """Yield the folders of runs whose process is gone, the oldest first; each is held until the next is asked for."""
    try:
        found = sorted((path for path in (trajectories / PLACE).iterdir() if path.is_dir()), key=_begun)
    except OSError:
        return
    for path in found:
        for _ in spool.orphans(path, DESCRIPTION):
            yield RunFolder(path)


def _begun(path: Path) -> float:
    try:
        return (path / DESCRIPTION).stat().st_mtime
    except OSError:
        return 0.0
