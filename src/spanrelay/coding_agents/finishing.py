"""Trajectories of a run, from everything that its folder holds, and what they come to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spanrelay import _json
from spanrelay._masking import mask_bytes
from spanrelay.assembly.atif import AtifError, Trajectory
from spanrelay.assembly.sinks import write_whole
from spanrelay.coding_agents.folder import Belongs, Description, RunFolder, left_behind
from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder
from spanrelay.evaluation.figures import Tally
from spanrelay.observation.observers import watching
from spanrelay.observation.sanitizing import finished
from spanrelay.records import SpanRecord

_MADE = "trajectories"


@dataclass(slots=True)
class Outcome:
    """The documents of a run, what they come to, and what could not be read or written."""

    documents: list[Path] = field(default_factory=list[Path])
    tally: Tally = field(default_factory=Tally)
    faults: list[str] = field(default_factory=list[str])

    def add(self, path: Path) -> None:
        """Add up what a document says."""
        self.documents.append(path)
        try:
            self.tally.add(Trajectory.from_json(_json.loads(path.read_bytes())))
        except (AtifError, OSError, ValueError) as error:
            self.faults.append(f"{path}: {error}")

    def add_since(self, trajectories: Path, begun: float) -> None:
        """Add the documents that were written since a time, in seconds since the epoch, as the gateway does."""
        for path in sorted(trajectories.glob("*.json")):
            if path not in self.documents and path.stat().st_mtime >= begun:
                self.add(path)


def finish(folder: RunFolder, trajectories: Path, form: str) -> Outcome:
    """Write the trajectories of a run, and remove its folder where all of it went well.

    A session's document that is there already is replaced: the session went on.
    """
    outcome = Outcome()
    sources = folder.sources()
    if sources:
        made = folder.path / _MADE
        shutil.rmtree(made, ignore_errors=True)  # of an attempt that was broken off
        description = folder.description()
        telling = _Telling(description)
        summary = work.convert(sources, Folder(made, mask=mask_bytes, finish=telling), form=form)
        outcome.faults = [str(finding) for finding in summary.findings]
        for path in sorted(made.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                _hand_over(path, trajectories / path.relative_to(made), outcome)
    if not outcome.faults:
        folder.remove()
    return outcome


class _Telling:
    """Makes of each record what is told of it: with what the run belongs to, and what sanitizers leave."""

    def __init__(self, description: Description | None) -> None:
        self._belongs = description.belongs if description is not None else Belongs()
        self._version = description.version if description is not None else None
        self._watchers = watching(None)

    def __call__(self, record: SpanRecord) -> SpanRecord:
        belongs = self._belongs
        record.session_id = belongs.session or record.session_id
        record.user_id = belongs.user or record.user_id
        record.metadata = {**belongs.metadata, **record.metadata}
        record.service_version = record.service_version or self._version
        return record if self._watchers is None else finished(record, self._watchers)


def recover(trajectories: Path, form: str) -> Iterator[Outcome]:
    """Write the trajectories of runs that were killed, and yield what came of each."""
    for folder in left_behind(trajectories):
        yield finish(folder, trajectories, form)


def _hand_over(path: Path, target: Path, outcome: Outcome) -> None:
    """Put a document, or a medium of one, where trajectories are."""
    try:
        data = path.read_bytes()
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, data, sync=False)
    except OSError as error:
        outcome.faults.append(f"{target}: cannot be written: {error.strerror or error}")
        return
    if target.suffix == ".json":
        outcome.add(target)
