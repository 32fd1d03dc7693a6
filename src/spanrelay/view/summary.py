"""A document in a line: what lists of documents say of each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from spanrelay.assembly.atif import Step, Trajectory, moment_of
from spanrelay.view.facts import count_errors, text_of, total, visible

_KEPT = 200
"""Characters of what was said first that are kept."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a line has of a document; tokens and cost as the document states them, sub-agents included."""

    begun: datetime
    agent: str
    model: str
    session: str
    words: str
    steps: int
    tokens: int | None
    cost: float | None
    errors: int

    def first_words(self, width: int) -> str:
        """What was said first, in so many characters at most."""
        return self.words if len(self.words) <= width else f"{self.words[: width - 2]} …"


def summary(document: Trajectory, path: Path) -> Summary:
    """Return the line of a document; where no step has a time, its file's counts."""
    final = document.final_metrics
    return Summary(
        _begun(document.steps, path),
        document.agent.name,
        document.agent.model_name or "",
        document.session_id or "",
        _first_words(document),
        len(document.steps),
        total([final.total_prompt_tokens, final.total_completion_tokens]) if final else None,
        final.total_cost_usd if final else None,
        count_errors(document),
    )


def _begun(steps: list[Step], path: Path) -> datetime:
    """When the first step was, in the time of this place; else when the file was written."""
    moments = (moment_of(step.timestamp) for step in steps if step.timestamp)
    moment = next((each for each in moments if each is not None), None)
    with contextlib.suppress(OverflowError, ValueError):  # a year that this place's zone moves out of all calendars
        if moment is not None:
            return moment.astimezone()
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone()


def _first_words(document: Trajectory) -> str:
    """What the user said first, here or else in a conversation beneath, else what anybody did, on one line."""
    first: Step | None = None
    for step in _all_steps(document):
        if text_of(step.message).strip():
            if step.source == "user":
                first = step
                break
            first = first or step
    return "" if first is None else " ".join(visible(text_of(first.message)[: _KEPT * 4]).split())[:_KEPT]


def _all_steps(document: Trajectory) -> Iterator[Step]:
    yield from document.steps
    for child in document.subagent_trajectories or []:
        yield from _all_steps(child)
