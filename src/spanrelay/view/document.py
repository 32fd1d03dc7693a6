"""What the page of one document shows beside its conversation: its head, its figures, its bars and its chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from spanrelay.assembly.atif import FinalMetrics, Trajectory
from spanrelay.evaluation.figures import Tally, calls_model, lasted
from spanrelay.records import JSON
from spanrelay.view.beside import Beside
from spanrelay.view.charts import TokenChart, Tokens, token_chart
from spanrelay.view.facts import duration, plural, visible
from spanrelay.view.figures import Figure, count, faults, spending
from spanrelay.view.marks import marks_of
from spanrelay.view.steps import MANY, Folds, Rows, ThreadRow, about, remarks
from spanrelay.view.texts import BRIEF, TOOL, Text
from spanrelay.view.threads import Thread, grow
from spanrelay.view.waterfall import Waterfall, waterfall


@dataclass(slots=True)
class DocumentPage:
    """Everything that the page of a document shows."""

    name: str
    about: list[str]
    path: str
    remarks: list[str]
    figures: list[Figure]
    tools: list[tuple[str, Text]]
    waterfall: Waterfall
    chart: TokenChart | None
    thread: ThreadRow
    short: bool
    """Whether it has so few steps that all of its charts stand open."""


def read(document: Trajectory, path: Path, beside: Beside) -> DocumentPage:
    """Return what the page of a document shows; its steps are made as they are written."""
    root = grow(document, path, beside)
    threads = list(root.family())
    steps = sum(len(thread.document.steps) for thread in threads)
    folds = Folds() if steps <= MANY else Folds(BRIEF, BRIEF)
    return DocumentPage(
        visible(document.agent.name),
        about(root),
        visible(str(path)),
        remarks(root),
        list(_figures(root, threads)),
        [_tool(each) for each in document.agent.tool_definitions or []],
        waterfall(root),
        token_chart(_tokens(root)),
        Rows(beside, folds).thread(root),
        steps <= MANY,
    )


def _figures(root: Thread, threads: list[Thread]) -> Iterator[Figure]:
    """Yield the numbers of a run, of sub-agents in files beside it too."""
    tally = Tally()
    for each in (thread for thread in threads if thread is root or thread.apart):
        tally.add(each.document)
    total, apart = tally.total, any(thread.apart for thread in threads)
    # What a document states may be more than its steps say; what stands in other files it may have counted or not.
    stated = (None if apart else root.document.final_metrics) or FinalMetrics()
    marks = Counter(mark.kind for thread in threads for mark in marks_of(thread.document))
    steps = sum(len(thread.document.steps) for thread in threads)
    yield count("steps", steps, plural(len(threads), "conversation") if len(threads) > 1 else "")
    yield count("model calls", total.calls)
    yield count("tool calls", total.tool_calls)
    yield from spending(
        _known(stated.total_prompt_tokens, total.prompt_tokens),
        _known(stated.total_cached_tokens, total.cached_tokens),
        _known(stated.total_completion_tokens, total.completion_tokens),
        _known(stated.total_cost_usd, total.cost_usd),
        _priced(total.priced_calls, total.calls),
    )
    seconds = lasted(root.document)
    if seconds is not None:
        yield Figure("time", duration(seconds))
    yield from faults("errors", marks["error"])
    yield from faults("refused by policy", marks["refused"], "refused")
    yield from faults("verdicts on trial", marks["trial"], "trial")


N = TypeVar("N", int, float)


def _known(stated: N | None, added: N | None) -> N | None:
    return added if stated is None else stated


def _priced(priced: int, calls: int) -> str:
    return f"known of {priced:,} of {calls:,} calls" if 0 < priced < calls else ""


def _tokens(root: Thread) -> list[Tokens]:
    """The tokens of the model calls of the main conversation."""
    found: list[Tokens] = []
    for place, step in enumerate(root.document.steps):
        metrics = step.metrics if calls_model(step) else None
        if metrics and (metrics.prompt_tokens is not None or metrics.completion_tokens is not None):
            counts = (metrics.prompt_tokens, metrics.cached_tokens, metrics.completion_tokens)
            found.append(Tokens(place + 1, *(max(count or 0, 0) for count in counts)))
    return found


def _tool(definition: dict[str, JSON]) -> tuple[str, Text]:
    """The name of a tool that a model was offered, and what was said of it."""
    function = definition.get("function")
    told: dict[str, JSON] = function if isinstance(function, dict) else definition
    name = told.get("name") or definition.get("type") or "a tool"
    description = told.get("description")
    return visible(str(name)), TOOL.text(str(description or ""))
