"""Add up what trajectories cost: calls, tokens, time and failures by agent, model and tool."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from spanrelay._voice import say
from spanrelay.cli import files
from spanrelay.cli.printing import NARROWEST_COLUMN, columns, print_table
from spanrelay.errors import SpanRelayError
from spanrelay.evaluation.figures import Figures, Tally, ranked
from spanrelay.view.facts import dollars, plural, visible

_BAR = 12
"""Columns of the longest bar."""

EXAMPLES = (
    "spanrelay stats",
    "spanrelay stats runs/ --csv > calls.csv",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `stats` takes."""
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="WHICH",
        help="trajectories, as `spanrelay show` takes them, and folders: all in them (default: where a program started "
        "here would write)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print all figures as JSON")
    form.add_argument("--csv", action="store_true", help="print a line for each agent, model and tool")


def run(options: argparse.Namespace) -> int:
    """Print what the documents add up to; returns 1 where one cannot be read."""
    tally, unreadable = Tally(), 0
    places = options.paths or [str(files.default_directory())]
    paths = files.each(places) if options.paths else files.oldest_first(files.default_directory())
    with files.Entries(places) as entries:
        for path in paths:
            try:
                tally.merge(entries.of(path).tally)
            except SpanRelayError as error:
                say(str(error))
                unreadable += 1
    if options.json:
        print(json.dumps(tally.to_json(), indent=2, ensure_ascii=False))
    elif options.csv:
        _print_csv(tally)
    elif tally.documents:
        _print_tables(tally)
    return 1 if unreadable else 0


def _print_csv(tally: Tally) -> None:
    fields = ["kind", "name", *Figures().to_json()]
    writer = csv.DictWriter(sys.stdout, fields, lineterminator="\n")
    writer.writeheader()
    for kind, rows in (("agent", tally.agents), ("model", tally.models), ("tool", tally.tools)):
        writer.writerows({"kind": kind, "name": name, **figures.to_json()} for name, figures in ranked(rows))


@dataclass(frozen=True)
class _Column:
    """A column of figures: its heading, and how a row's figure is written."""

    heading: str
    written: Callable[[Figures], str]


def _optional(value: float | None, written: Callable[[float], str]) -> str:
    return "" if value is None else written(value)


def _seconds(value: float) -> str:
    return f"{value:,.1f} s" if value >= 9.95 else f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.3g} ms"


_TOKENS: list[_Column] = [
    _Column("in", lambda row: _optional(row.prompt_tokens, "{:,}".format)),
    _Column("out", lambda row: _optional(row.completion_tokens, "{:,}".format)),
    _Column("cached", lambda row: _optional(row.cached_share, "{:.0%}".format)),
    _Column("cost", lambda row: _optional(row.cost_usd, dollars)),
]
_TIMES: list[_Column] = [
    _Column("p50", lambda row: _optional(row.durations.at(0.5), _seconds)),
    _Column("p95", lambda row: _optional(row.durations.at(0.95), _seconds)),
]
_ERRORS: list[_Column] = [
    _Column("errors", lambda row: f"{row.error_rate:.1%}" if row.errors and row.error_rate else "")
]
_RUNS: list[_Column] = [
    _Column("runs", lambda row: f"{row.runs:,}"),
    _Column("calls", lambda row: f"{row.calls:,}"),
    _Column("tool calls", lambda row: f"{row.tool_calls:,}"),
]
_CALLS = _RUNS[1:2]
_TABLES: dict[str, list[_Column]] = {
    "agent": [*_RUNS, *_TOKENS, *(_Column(f"run {time.heading}", time.written) for time in _TIMES), *_ERRORS],
    "model": [*_CALLS, *_TOKENS, *_TIMES, *_ERRORS],
    "tool": [*_CALLS, *_TIMES, *_ERRORS],
}


def _print_tables(tally: Tally) -> None:
    for heading, rows in zip(_TABLES, (tally.agents, tally.models, tally.tools), strict=True):
        if rows:
            _print_table(heading, ranked(rows), _TABLES[heading])
            print()
    if tally.caches:
        _print_caches(tally)
        print()
    total = tally.total
    spent = [f"{column.written(total)} {column.heading}" for column in _TOKENS if column.written(total)]
    counts = [plural(tally.documents, "trajectory").replace("ys", "ies")]
    counts += [plural(total.calls, "model call"), plural(total.tool_calls, "tool call"), plural(total.errors, "error")]
    print(", ".join([*counts, *spent]))
    for remark in _remarks(tally):
        print(remark)


def _print_caches(tally: Tally) -> None:
    """Print what marks of prompt caches saved, or would have, by model and scaffold."""
    lines: list[list[str]] = []
    for name, row in tally.ranked_caches():
        read, written = (
            _optional(row.share(tokens), "{:.0%}".format) for tokens in (row.read_tokens, row.written_tokens)
        )
        saved = [f"{row.saved_tokens:,}", _optional(row.saved_usd, dollars)]
        observed = f"{row.observed:,}" if row.observed else ""
        lines.append([visible(name), f"{row.calls:,}", observed, read, written, *saved, visible(row.top_miss or "")])
    headings = ["prompt cache", "calls", "observed", "read", "written", "saved tokens", "saved", "missed by"]
    print_table(headings, lines, sys.stdout, right=range(1, len(headings) - 1), elastic={0})


def _print_table(heading: str, rows: list[tuple[str, Figures]], described: list[_Column]) -> None:
    shown = [column for column in described if any(column.written(figures) for _, figures in rows)]
    bars = _bars([_weight(figures, rows) for _, figures in rows])
    lines = [
        [visible(name), *(column.written(figures) for column in shown), bar]
        for (name, figures), bar in zip(rows, bars, strict=True)
    ]
    headings = [heading, *(column.heading for column in shown), _measure(rows)]
    if sys.stdout.isatty() and not _fits([headings, *lines]):
        headings, lines = headings[:-1], [line[:-1] for line in lines]
    print_table(headings, lines, sys.stdout, right=range(1, len(shown) + 1), elastic={0})


def _fits(lines: list[list[str]]) -> bool:
    """Whether a table fits the terminal, its names cut as far as they can be."""
    widths = [max(columns(line[at]) for line in lines) for at in range(len(lines[0]))]
    return NARROWEST_COLUMN + sum(widths[1:]) + 2 * (len(widths) - 1) <= shutil.get_terminal_size().columns


def _measure(rows: Iterable[tuple[str, Figures]]) -> str:
    """What the bars of a table show: the first of these that is known."""
    if any(figures.cost_usd for _, figures in rows):
        return "of cost"
    return "of tokens" if any(figures.prompt_tokens or figures.completion_tokens for _, figures in rows) else "of calls"


def _weight(figures: Figures, rows: Iterable[tuple[str, Figures]]) -> float:
    measure = _measure(rows)
    if measure == "of cost":
        return figures.cost_usd or 0
    tokens = (figures.prompt_tokens or 0) + (figures.completion_tokens or 0)
    return tokens if measure == "of tokens" else figures.calls


def _bars(weights: list[float]) -> list[str]:
    """A bar for each, as long as its share of the longest, with its share of all behind it."""
    longest, total = max(weights, default=0), sum(weights)
    if not longest:
        return [""] * len(weights)
    return [f"{'█' * max(round(each / longest * _BAR), each > 0):{_BAR}} {each / total:4.0%}" for each in weights]


def _remarks(tally: Tally) -> list[str]:
    """What is not known of how many calls: sums are then too small."""
    total, found = tally.total, list[str]()
    timed = sum(figures.durations.count for figures in tally.models.values())
    if 0 < total.priced_calls < total.calls:
        found.append(f"cost is known of {total.priced_calls} of {total.calls} model calls")
    if 0 < timed < total.calls:
        found.append(f"latency is known of {timed} of {total.calls} model calls")
    if not timed and total.calls:
        found.append("no document says how long its model calls took")
    return found
