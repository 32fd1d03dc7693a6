"""This tree and an earlier revision at the same rows, turn by turn, and what the one costs as a multiple of the other.

Both run this tree's rows on the same packages of others, each with its own build of SpanRelay; a turn is a process of
its own, and who begins changes from turn to turn, so that neither a slow minute nor the layout of one process counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.builds import Build
from benchmarks.measure import Figure, median
from benchmarks.results import Result, aligned, quantity

_TURNS = 5
_LONG_S = 90.0
"""A row that takes longer than this for a few turns gets no more of them than `_FEWEST`."""
_FEWEST = 2
_TIMEOUT_S = 900

Key = tuple[str, str]


class Missing(Exception):
    """The build has not what a row measures."""


@dataclass(frozen=True)
class Compared:
    """One figure of a row: the results of both builds, one of each turn."""

    key: Key
    old: Sequence[Result]
    new: Sequence[Result]

    @property
    def ratio(self) -> Figure | None:
        """The new value as a multiple of the old, turn by turn; none where there is nothing to be a multiple of."""
        pairs = [(new.value, old.value) for new, old in zip(self.new, self.old, strict=True)]
        return median([new / old for new, old in pairs]) if all(old > 0 for _, old in pairs) else None

    def to_json(self) -> dict[str, Any]:
        """The figure as plain data: every turn, and the ratio."""
        sides = {name: [each.to_json() for each in side] for name, side in (("old", self.old), ("new", self.new))}
        ratio = self.ratio
        return {"row": self.key[0], "figure": self.key[1], **sides, "ratio": ratio and ratio.value}


@dataclass
class Comparison:
    """What was found: figures, and of each row that has none the reason, apart whether only the old build lacks it."""

    old: Build
    new: Build
    figures: list[Compared] = field(default_factory=list[Compared])
    missing: dict[str, str] = field(default_factory=dict[str, str])
    failures: dict[str, str] = field(default_factory=dict[str, str])

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        builds = {name: {"title": b.title, "commit": b.commit} for name, b in (("old", self.old), ("new", self.new))}
        figures = [figure.to_json() for figure in self.figures]
        return {**builds, "figures": figures, "missing": self.missing, "failures": self.failures}


def compare(old: Build, new: Build, rows: Sequence[str], *, quick: bool) -> Comparison:
    """Measure rows of both builds; whatever goes wrong with a row is in the comparison, and costs no other row."""
    found = Comparison(old, new)
    for row in rows:
        print(f"measuring {row} …", file=sys.stderr)
        try:
            found.figures += _row(old, new, row, quick=quick)
        except Missing as reason:
            found.missing[row] = str(reason)
        except (RuntimeError, OSError, ValueError, LookupError, subprocess.TimeoutExpired) as error:
            found.failures[row] = str(error)
    return found


def _row(old: Build, new: Build, row: str, *, quick: bool) -> list[Compared]:
    turns: dict[Build, list[dict[Key, Result]]] = {old: [], new: []}
    begun = time.monotonic()
    for turn in range(_FEWEST if quick else _TURNS):
        if turn >= _FEWEST and time.monotonic() - begun > _LONG_S:
            break
        for build in (old, new) if turn % 2 else (new, old):
            turns[build].append(_turn(build, row, of_old=build is old, quick=quick))
    shared = [key for key in turns[new][0] if key in turns[old][0]]
    return [Compared(key, *([each[key] for each in turns[build]] for build in (old, new))) for key in shared]


def _turn(build: Build, row: str, *, of_old: bool, quick: bool) -> dict[Key, Result]:
    options = ("--quick",) if quick else ()
    found = json.loads(build.environment.run("benchmarks.turn", row, *options, timeout=_TIMEOUT_S))
    if found["tree"] != str(build.environment.tree):
        raise RuntimeError(f"the environment of {build.title} has the packages of {found['tree']!r}; remove it")
    if "missing" in found:
        raise (Missing if of_old else RuntimeError)(found["missing"])
    return {result.key: result for result in map(Result.from_json, found["results"])}


def report(found: Comparison) -> str:
    """Return the table of ratios, what was compared, and every reason for a row without figures."""
    lines = [("work", "figure", "old", "new", "new / old", "old / floor", "new / floor")]
    lines += [_cells(figure) for figure in found.figures]
    notes = [f"old: {found.old.title}", f"new: {found.new.title}"]
    notes += [f"missing in {found.old.title}: {row}: {reason}" for row, reason in found.missing.items()]
    notes += [f"failed: {row}: {reason}" for row, reason in found.failures.items()]
    return "\n".join([*aligned(lines), "", *notes])


def _cells(figure: Compared) -> tuple[str, ...]:
    ratio, unit = figure.ratio, figure.new[0].unit
    sides = (figure.old, figure.new)
    return (
        *figure.key,
        *(quantity(median([each.value for each in side]).value, unit) for side in sides),
        "" if ratio is None else f"{ratio.value:.2f} ± {ratio.error:.2f}",
        *(_floors(side) for side in sides),
    )


def _floors(side: Sequence[Result]) -> str:
    ratios = [each.ratio for each in side if each.ratio is not None]
    return f"{median(ratios).value:.2f}" if ratios else ""
