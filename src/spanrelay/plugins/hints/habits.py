"""What is known of agents: how many requests their runs make, how far apart, and how long the answers are.

It holds digests and counts of no more than so many agents, never names and never what was said.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Any, cast

from spanrelay import _json
from spanrelay.plugins.exchanging import Exchange, Place

POSITIONS = 32
"""Requests of a run that are told apart; all later ones are one sort."""
_PER_OCTAVE = 4
_LENGTHS = 17 * _PER_OCTAVE
"""Sorts of answers by length, up to 2 ** 17 tokens."""
_GAP, _GAPS, _REACHED, _ANSWERS = 0, 1, 2, 2 + POSITIONS
_SIZE = _ANSWERS + _LENGTHS
_REMEMBERED = 256
"""Runs after which what was counted counts for half, so that an agent may change its ways."""
KEPT = 512
"""Agents, of which those that were asked longest ago are forgotten."""
VERSION = 1
Counts = list[float]
"""Of one agent: the sum of gaps in ms, their number, runs that reached each position, and answers of each length."""


class Habits:
    """What is known of each agent, by its digest. Not thread-safe: whoever asks holds `lock`."""

    def __init__(self) -> None:
        self.counts: OrderedDict[str, Counts] = OrderedDict()
        self.free()

    def free(self) -> None:
        """Take a lock that nobody holds: a forked child has none of its parent's threads."""
        self.lock = threading.Lock()

    def of(self, agent: str) -> Counts:
        """Return what is counted of an agent."""
        counts = self.counts.get(agent)
        if counts is None:
            counts = self.counts[agent] = [0.0] * _SIZE
            if len(self.counts) > KEPT:
                self.counts.popitem(last=False)
        self.counts.move_to_end(agent)
        return counts


def ask(counts: Counts, position: int, gap_ms: float | None) -> None:
    """Count a request at a position of its run, the first of which is 0, so long after the one before."""
    counts[_REACHED + min(position, POSITIONS - 1)] += 1
    if gap_ms is not None:
        counts[_GAP] += gap_ms
        counts[_GAPS] += 1


def answer(counts: Counts, tokens: int) -> None:
    """Count an answer."""
    counts[_ANSWERS + min(round(_PER_OCTAVE * math.log2(max(tokens, 1))), _LENGTHS - 1)] += 1


def expected(counts: Counts, position: int) -> dict[str, int]:
    """Return what is to be expected of a run that is at `position` now; what nothing is known of is left out.

    `osl` is the 90th percentile of tokens of an answer, `iat` the mean gap between requests in ms, and
    `total_requests` how many the run makes.
    """
    found: dict[str, int] = {}
    lengths, reached = counts[_ANSWERS:], counts[_REACHED : _REACHED + POSITIONS]
    if (length := _percentile(lengths, 0.9)) is not None:
        found["osl"] = round(2 ** (length / _PER_OCTAVE))
    if counts[_GAPS] > 0:
        found["iat"] = round(counts[_GAP] / counts[_GAPS])
    if position < POSITIONS - 1 and reached[position] > 0:
        found["total_requests"] = position + 1 + round(sum(reached[position + 1 :]) / reached[position])
    return found


def _percentile(numbers: list[float], share: float) -> int | None:
    left = share * sum(numbers)
    for at, number in enumerate(numbers):
        left -= number
        if number and left <= 1e-9:
            return at
    return None


def aged(counts: Counts) -> Counts:
    """Return counts in which what is long ago counts for less."""
    while counts[_REACHED] >= _REMEMBERED:
        counts = [each / 2 for each in counts]
    return counts


class Shared(Exchange):
    """Habits that processes share: each adds what it has counted since it last did."""

    def __init__(self, habits: Habits, place: Place) -> None:
        super().__init__(place, "hints")
        self._habits = habits
        self._base: dict[str, Counts] = {}

    def _take_over(self, data: bytes | None) -> None:
        self._take(agents_in(data), {})

    def _swap(self) -> None:
        made: list[tuple[dict[str, Counts], dict[str, Counts]]] = []

        def change(data: bytes | None) -> bytes:  # may be asked again, where others were faster
            with self._habits.lock:
                here = {agent: list(counts) for agent, counts in self._habits.counts.items()}
            told = agents_in(data)
            for agent, counts in here.items():
                told[agent] = aged(_sum(told.pop(agent, None), counts, self._base.get(agent)))
            made[:] = [(dict(list(told.items())[-KEPT:]), here)]
            return _json.dumps({"version": VERSION, "agents": made[0][0]})

        self._place.change(change)
        self._take(*made[0])

    def _take(self, told: dict[str, Counts], since: dict[str, Counts]) -> None:
        """Know what others know too, and what was counted here `since`."""
        habits = self._habits
        with habits.lock:
            for agent, counts in told.items():
                here = habits.of(agent)
                here[:] = _sum(counts, here, since.get(agent, here))
        self._base = told


def _sum(told: Counts | None, here: Counts, base: Counts | None) -> Counts:
    none = [0.0] * _SIZE
    return [max(0.0, one + mine - before) for one, mine, before in zip(told or none, here, base or none, strict=True)]


def agents_in(data: bytes | None) -> dict[str, Counts]:
    """Return the agents in a document; none where it holds nothing that this version has written."""
    try:
        told: Any = _json.loads(data) if data else None
    except ValueError:
        return {}
    agents = cast("dict[str, Any]", told).get("agents") if isinstance(told, dict) else None
    if not isinstance(agents, dict) or cast("Any", told).get("version") != VERSION:
        return {}
    return {agent: counts for agent, counts in cast("dict[str, Any]", agents).items() if _are_counts(counts)}


def _are_counts(told: Any) -> bool:
    if not isinstance(told, list) or len(cast("list[Any]", told)) != _SIZE:
        return False
    return all(type(each) in (int, float) and 0 <= each < math.inf for each in cast("list[Any]", told))
