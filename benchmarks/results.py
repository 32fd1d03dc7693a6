"""What a row found, and the table it is printed in.

A ratio within its error of the budget is called `near`: the machine was too noisy to say more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.measure import Cost, Figure, differences, median


@dataclass(frozen=True)
class Result:
    """One line of the table: `value` in `unit`, with the floor it is a multiple of, if it is one.

    `limit` is the budget, in multiples of the floor where there is one, else in `unit`. `more` says that the
    budget is a lower bound.
    """

    row: str
    figure: str
    unit: str
    value: float
    error: float = 0.0
    floor: float | None = None
    floor_error: float = 0.0
    limit: float | None = None
    more: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What was measured, without on what: that differs a little from build to build."""
        return self.row, self.figure.partition(", on ")[0]

    @property
    def ratio(self) -> float | None:
        """The value as a multiple of the floor."""
        return self.value / self.floor if self.floor else None

    @property
    def holds(self) -> str:
        """Whether the budget holds: yes, no, or near where the error does not allow to tell."""
        if self.limit is None:
            return ""
        scale = self.floor or 1.0
        value = self.value / scale
        error = (self.error + self.floor_error * value) / scale
        if abs(value - self.limit) < error:
            return "near"
        return "yes" if (value >= self.limit) is self.more or value == self.limit else "no"

    def to_json(self) -> dict[str, Any]:
        """The result as plain data, with its ratio and verdict."""
        return {**asdict(self), "ratio": self.ratio, "holds": self.holds}

    @staticmethod
    def from_json(found: dict[str, Any]) -> Result:
        """Read what `to_json` wrote."""
        return Result(**{key: value for key, value in found.items() if key not in ("ratio", "holds")})


_FIGURES = (("wall", "wall"), ("cpu", "CPU"))


def against_floor(
    row: str,
    ours: Sequence[Cost],
    bare: Sequence[Cost],
    floor: Sequence[Cost],
    limit: float | None,
    floor_bare: Sequence[Cost] | None = None,
) -> list[Result]:
    """Return both figures of a row: what `ours` adds to `bare`, in multiples of what `floor` adds to it.

    `floor_bare` is what the floor adds to, where it is not around the same call.
    """
    results: list[Result] = []
    added, least = differences(ours, bare), differences(floor, bare if floor_bare is None else floor_bare)
    for name, label in _FIGURES:
        value, base = _median(added, name), _median(least, name)
        results.append(
            Result(row, label, "µs", value.value, value.error, base.value, base.error, limit),
        )
    return results


def absolute(row: str, costs: Sequence[Cost], share: float, limit: float | None) -> list[Result]:
    """Return both figures of a row whose budget is in microseconds; `costs` are divided by `share`."""
    results: list[Result] = []
    for name, label in _FIGURES:
        value = _median(costs, name)
        results.append(Result(row, label, "µs", value.value / share, value.error / share, limit=limit))
    return results


def _median(costs: Sequence[Cost], name: str) -> Figure:
    return median([getattr(cost, name) for cost in costs])


_HEADER = ("work", "figure", "floor", "ours", "ratio", "budget", "holds")


def table(results: Sequence[Result]) -> str:
    """Return the results as a table in Markdown."""
    return "\n".join(aligned([_HEADER, *(_cells(result) for result in results)]))


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown; the first of `lines` is its header."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    printed = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    printed.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return printed


def _cells(result: Result) -> tuple[str, ...]:
    ratio = "" if result.ratio is None else f"{result.ratio:.2f}"
    return (
        result.row,
        result.figure,
        "" if result.floor is None else quantity(result.floor, result.unit),
        quantity(result.value, result.unit) + (f" ± {_error(result.error)}" if result.error else ""),
        ratio,
        _budget(result),
        result.holds,
    )


def _error(error: float) -> str:
    return f"{error:.2g}" if error < 100 else f"{error:.0f}"


def _budget(result: Result) -> str:
    if result.limit is None:
        return ""
    sign = "≥" if result.more else "≤"
    return f"{sign} {result.limit:g} x" if result.floor else f"{sign} {quantity(result.limit, result.unit)}"


def quantity(value: float, unit: str) -> str:
    """Return a figure with its unit, rounded to what can be read."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}".replace(",", " ").rstrip()
