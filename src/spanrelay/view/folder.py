"""The page of many documents: a line for each, and charts of what all of them add up to.

Documents are read one by one; what is kept of each is its line, so that memory grows with their number only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from operator import add

from spanrelay.evaluation.figures import Figures, Tally, ranked
from spanrelay.view.charts import TokenChart, Tokens, token_chart
from spanrelay.view.entries import Entry
from spanrelay.view.facts import dollars, duration, plural, visible
from spanrelay.view.figures import Figure, count, faults, spending
from spanrelay.view.summary import Summary

BARS = 12
"""Bars of one chart; what is less has no bar."""
_WORDS = 90


@dataclass(frozen=True, slots=True)
class Line:
    """A document as a line; `agent` and `model` are places in the lists of the page, -1 for none."""

    number: int
    file: str
    fault: str = ""
    begun: str = ""
    moment: float = 0
    agent: int = -1
    model: int = -1
    session: str = ""
    words: str = ""
    steps: int = 0
    tokens: int | None = None
    cost: float | None = None
    errors: int = 0
    page: str = ""
    """Where its own page is, as the index refers to it."""
    state: str = ""
    """How far it is, where it is not finished."""

    @property
    def counts(self) -> str:
        """Steps, tokens and cost, those that are known."""
        tokens = "" if self.tokens is None else f"{self.tokens:,} tokens"
        cost = "" if self.cost is None else dollars(self.cost)
        return " · ".join(each for each in (plural(self.steps, "step"), tokens, cost) if each)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart: what it is of, how long it is of 1000, where a second part begins, and what it says."""

    name: str
    width: float
    mark: float
    value: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of bars, and how many more there would be."""

    title: str
    bars: list[Bar]
    more: int = 0


@dataclass(slots=True)
class FolderPage:
    """Everything that the page of a folder shows."""

    name: str
    figures: list[Figure]
    charts: list[Chart]
    chart: TokenChart | None
    agents: list[str]
    models: list[str]
    lines: list[Line]


@dataclass(slots=True)
class Folder:
    """Takes in documents, the newest first."""

    lines: list[Line] = field(default_factory=list[Line])
    unreadable: int = 0
    _tally: Tally = field(default_factory=Tally)
    _agents: dict[str, int] = field(default_factory=dict[str, int])
    _models: dict[str, int] = field(default_factory=dict[str, int])
    _growth: list[list[int]] = field(default_factory=list[list[int]])

    def add(self, entry: Entry, file: str, page: str = "", state: str = "") -> None:
        """Take in a document: what it is called on the page, where its own page is, and how far it is, if not whole."""
        self._tally.merge(entry.tally)
        self._grow(entry.growth)
        self.lines.append(self._line(entry.line, file, page, state))

    def add_fault(self, file: str, words: str) -> None:
        """Take in a file that cannot be read."""
        self.unreadable += 1
        self.lines.append(Line(len(self.lines) + 1, visible(file), fault=visible(words)))

    def _line(self, found: Summary, file: str, page: str, state: str) -> Line:
        return Line(
            len(self.lines) + 1,
            visible(file),
            "",
            f"{found.begun:%Y-%m-%d %H:%M}",
            _seconds(found.begun),
            self._agents.setdefault(visible(found.agent), len(self._agents)),
            self._models.setdefault(visible(found.model), len(self._models)) if found.model else -1,
            visible(found.session),
            visible(found.first_words(_WORDS)),
            found.steps,
            found.tokens,
            found.cost,
            found.errors,
            page,
            state,
        )

    def _grow(self, growth: list[tuple[int, int, int]]) -> None:
        """Add the tokens of the model calls of a run, each to those of its number."""
        self._growth += [[0, 0, 0, 0] for _ in growth[len(self._growth) :]]
        for known, counts in zip(self._growth, growth, strict=False):
            known[:] = map(add, known, (1, *counts))

    def page(self, name: str) -> FolderPage:
        """Return what the page shows of all that was taken in."""
        tally = self._tally
        means = [
            Tokens(number, prompt / runs, cached / runs, completion / runs)
            for number, (runs, prompt, cached, completion) in enumerate(self._growth, 1)
        ]
        charts = [_costs(tally.models), _latencies(tally.models), _failures(tally.tools)]
        return FolderPage(
            visible(name),
            list(_figures(tally, self.unreadable)),
            [chart for chart in charts if chart.bars],
            token_chart(means),
            list(self._agents),
            list(self._models),
            self.lines,
        )


def _seconds(moment: datetime) -> float:
    try:
        return moment.timestamp()
    except (OverflowError, ValueError):
        return 0


def _figures(tally: Tally, unreadable: int) -> Iterator[Figure]:
    total = tally.total
    yield count("trajectories", tally.documents)
    yield count("model calls", total.calls)
    yield count("tool calls", total.tool_calls)
    yield from spending(total.prompt_tokens, total.cached_tokens, total.completion_tokens, total.cost_usd)
    yield from faults("errors", total.errors)
    yield from faults("not readable", unreadable)


def _costs(models: dict[str, Figures]) -> Chart:
    rows = [(name, row.cost_usd) for name, row in ranked(models) if row.cost_usd]
    highest = max((cost for _, cost in rows), default=1.0)
    return _cut("Cost by model", [Bar(visible(name), _share(cost, highest), 0, dollars(cost)) for name, cost in rows])


def _latencies(models: dict[str, Figures]) -> Chart:
    """How long calls of each model took: a bar up to the 95th percentile, marked at the median."""
    known = [(name, row.durations.at(0.5), row.durations.at(0.95)) for name, row in ranked(models)]
    rows = [(name, half, most) for name, half, most in known if half is not None and most is not None]
    highest = max((most for _, _, most in rows), default=1.0)
    bars = [
        Bar(
            visible(name),
            _share(most, highest),
            _share(half, highest),
            f"{duration(half)}, p95 {duration(most)}" if most > half else duration(half),
        )
        for name, half, most in rows
    ]
    return _cut("Latency by model, median and 95th percentile", bars)


def _failures(tools: dict[str, Figures]) -> Chart:
    """What share of the calls of each tool failed, the worst first."""
    rows = sorted(((row.errors / row.calls, row.calls, name) for name, row in tools.items() if row.calls), reverse=True)
    highest = max((rate for rate, _, _ in rows), default=0.0) or 1.0
    bars = [
        Bar(visible(name), _share(rate, highest), 0, f"{rate:.1%} of {calls:,}" if rate else f"none of {calls:,}")
        for rate, calls, name in rows
    ]
    return _cut("Failed calls by tool", bars)


def _share(value: float, highest: float) -> float:
    return round(1000 * value / highest, 1) if highest else 0.0


def _cut(title: str, bars: list[Bar]) -> Chart:
    return Chart(title, bars[:BARS], max(len(bars) - BARS, 0))
