"""A document and the sub-agents within it, embedded or in files beside it, as threads with an anchor each.

An anchor is made of the numbers of steps and nothing else, so that no document can choose one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spanrelay.assembly.atif import ObservationResult, SubagentTrajectoryRef, Trajectory
from spanrelay.view.beside import Beside

DEEPEST = 24
"""Threads within one another that a page shows."""


@dataclass(slots=True)
class Thread:
    """A conversation: its document, the folder that its files are seen from, and how its anchors begin.

    `begun` are the threads of its steps, by the place of the step and of the result in it; `missing` says of results
    what else they refer to.
    """

    document: Trajectory
    folder: Path
    anchor: str = ""
    apart: bool = False
    """Whether it is in a file of its own, whose totals count by themselves."""
    begun: dict[tuple[int, int], list[Thread]] = field(default_factory=dict[tuple[int, int], "list[Thread]"])
    missing: dict[tuple[int, int], list[str]] = field(default_factory=dict[tuple[int, int], "list[str]"])

    def anchor_of(self, place: int) -> str:
        """The anchor of a step by its place, from 0: `step-3`; `step-3.1.2` is step 2 of the first thread of step 3."""
        return f"step-{self.anchor}{place + 1}"

    def begun_at(self, place: int) -> Iterator[Thread]:
        """Yield the threads of a step."""
        for index in range(len(results_of(self, place))):
            yield from self.begun.get((place, index), [])

    def family(self) -> Iterator[Thread]:
        """Yield this thread and all within it, itself first."""
        yield self
        for threads in self.begun.values():
            for thread in threads:
                yield from thread.family()


def grow(document: Trajectory, path: Path, beside: Beside) -> Thread:
    """Return a document of a file with all threads within it, each where it is referred to first."""
    thread = Thread(document, path.parent)
    _Growth(path, beside).grow(thread)
    return thread


class _Growth:
    """Finds what results refer to. What has been found is not found again: references may lead in a circle."""

    def __init__(self, path: Path, beside: Beside) -> None:
        self._beside = beside
        self._found: set[Path | int] = {path.resolve()}

    def grow(self, thread: Thread, depth: int = 1) -> None:
        """Find the threads within one."""
        embedded = {child.trajectory_id: child for child in thread.document.subagent_trajectories or []}
        for place in range(len(thread.document.steps)):
            count = 0
            for index, result in enumerate(results_of(thread, place)):
                for reference in result.subagent_trajectory_ref or []:
                    child = self._child(thread, reference, embedded)
                    if isinstance(child, Thread) and depth >= DEEPEST:
                        child = f"sub-agent: more than {DEEPEST} within one another are not shown"
                    if isinstance(child, str):
                        thread.missing.setdefault((place, index), []).append(child)
                        continue
                    count += 1
                    child.anchor = f"{thread.anchor}{place + 1}.{count}."
                    thread.begun.setdefault((place, index), []).append(child)
                    self.grow(child, depth + 1)

    def _child(
        self, thread: Thread, reference: SubagentTrajectoryRef, embedded: dict[str | None, Trajectory]
    ) -> Thread | str:
        """The thread that a reference names; else what to say in its place."""
        if reference.trajectory_id is not None and reference.trajectory_id in embedded:
            child = embedded[reference.trajectory_id]
            return Thread(child, thread.folder) if self._new(id(child)) else "sub-agent: shown above"
        name = reference.trajectory_path
        if not name:
            return f"sub-agent {reference.trajectory_id or reference.session_id}: not in this document"
        path = self._beside.find(name, thread.folder)
        if path is None:
            return f"sub-agent in {name}: not beside the document"
        document = self._beside.document(path)
        if isinstance(document, str):
            return f"sub-agent in {name}: {document}"
        if not self._new(path):
            return f"sub-agent in {name}: shown above"
        return Thread(document, path.parent, apart=True)

    def _new(self, what: Path | int) -> bool:
        new = what not in self._found
        self._found.add(what)
        return new


def results_of(thread: Thread, place: int) -> list[ObservationResult]:
    """The results of a step."""
    observation = thread.document.steps[place].observation
    return observation.results if observation else []
