"""Figures as inline SVG: what is drawn is numbers alone, so that nothing of a document is in a drawing.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

COLUMNS = 240
"""Columns of a chart; of more values each column stands for the largest of some."""

_WIDEST = 40
"""Of 1000 that the chart is wide, what one column takes at most."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a chart of tokens: its step, where it stands and how high each part is, as shares of 100."""

    number: int
    x: float
    width: float
    prompt: float
    cached: float
    completion: float
    title: str


@dataclass(frozen=True, slots=True)
class TokenChart:
    """Tokens of each model call, one after the other; `highest` is what the full height stands for."""

    columns: list[Column]
    highest: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one model call, and the number of the step that it is of."""

    number: int
    prompt: float
    cached: float
    completion: float


def token_chart(calls: Sequence[Tokens]) -> TokenChart | None:
    """Return the chart of some calls; None where there are fewer than two."""
    if len(calls) < 2:
        return None
    size = math.ceil(len(calls) / COLUMNS)
    shown = [
        max(calls[at : at + size], key=lambda call: call.prompt + call.completion) for at in range(0, len(calls), size)
    ]
    highest = max(call.prompt + call.completion for call in shown)
    if not highest or not math.isfinite(highest):
        return None
    unit, width = 100 / highest, min(1000 / len(shown), _WIDEST)
    gap = min(width * 0.25, 6)
    columns = [
        Column(
            call.number,
            round(at * width + gap / 2, 2),
            round(width - gap, 2),
            round(call.prompt * unit, 2),
            round(min(call.cached, call.prompt) * unit, 2),
            round(call.completion * unit, 2),
            f"step {call.number}: {call.prompt:,.0f} in"
            + (f" ({call.cached:,.0f} cached)" if call.cached else "")
            + f", {call.completion:,.0f} out",
        )
        for at, call in enumerate(shown)
    ]
    return TokenChart(columns, f"{highest:,.0f}")
