"""What is kept of a document that stands in a folder with others: its line, and what it adds to the charts.

Pure. An entry is small however long its document is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spanrelay.assembly.atif import Trajectory
from spanrelay.evaluation.figures import Tally, calls_model
from spanrelay.view.summary import Summary, summary

CALLS = 240
"""Model calls of a run that the chart of tokens tells apart."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A document in a folder.

    Attributes:
        line: What lists say of it.
        tally: What its calls come to, those of sub-agents within it too.
        growth: Of the first model calls of its main conversation the tokens in, of those cached, and out.
    """

    line: Summary
    tally: Tally
    growth: list[tuple[int, int, int]]


def entry_of(document: Trajectory, path: Path) -> Entry:
    """Return what is kept of a document; `path` is the file that its time is taken from where it has none."""
    tally = Tally()
    tally.add(document)
    return Entry(summary(document, path), tally, _growth(document))


def _growth(document: Trajectory) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for step in document.steps:
        metrics = step.metrics
        if metrics is None or metrics.prompt_tokens is None or not calls_model(step):
            continue
        if len(found) == CALLS:
            break
        prompt, cached, written = (
            max(count or 0, 0) for count in (metrics.prompt_tokens, metrics.cached_tokens, metrics.completion_tokens)
        )
        found.append((prompt, cached, written))
    return found
