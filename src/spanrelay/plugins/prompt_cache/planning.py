"""Where marks pay: behind the scaffold, behind the last block, and where an earlier request left off.

Nothing is written without a reason to expect that it is read, see `expected_reads`, nor where more might be lost by it
than is to be: see `Planner._is_covered`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from spanrelay.plugins.prompt_cache.marking import TTL, Mark
from spanrelay.plugins.prompt_cache.memory import Account, Entry, Memory, Odds, expected_reads
from spanrelay.plugins.prompt_cache.outline import Outline
from spanrelay.plugins.prompt_cache.rules import LATER_S, SOON_S, Rules

Sorts: TypeAlias = tuple[Odds, ...]
"""Of what sorts a prefix is, from the most general to its own."""
_STAKE = 2.0
"""Requests of the size of the one at hand whose input may be lost for a start, beyond `max_write_premium`."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms something is written.

    Attributes:
        ttl: For how long; None chooses.
        min_reuse: Reads that a write needs at the least, whatever it costs.
        max_write_premium: The share of the input's cost that may be lost by writing what nobody reads.
    """

    ttl: TTL | None = None
    min_reuse: float = 0.28
    max_write_premium: float = 0.01


@dataclass(frozen=True, slots=True)
class Plan:
    """Where marks are to stand, in order.

    Attributes:
        marks: At most as many as the provider takes.
        read: The last block of what is expected to be read from the cache; -1 where nothing is.
        writes_scaffold: Whether this request is the one to write the scaffold.
        short: Whether the whole request is too short to be cached.
        stake: What is paid for writing, in tokens of plain input.
        uncovered: Whether something would pay, and is not written because too much would be lost if it did not.
    """

    marks: tuple[Mark, ...] = ()
    read: int = -1
    writes_scaffold: bool = False
    short: bool = False
    stake: float = 0.0
    uncovered: bool = False


class Planner:
    """Plans the marks of one request: all that is asked of memory, at one time."""

    def __init__(
        self, outline: Outline, rules: Rules, terms: Terms, memory: Memory, account: Account, now: float
    ) -> None:
        self._outline, self._rules, self._terms = outline, rules, terms
        self._memory, self._account, self._now = memory, account, now
        self._uncovered = False

    def plan(self, bases: Sequence[Sorts], sorts: Sorts, onward: Sorts) -> Plan:
        """Return where marks are to stand.

        Args:
            bases: Of what sorts the tools, and what the system prompt ends, are; those of them that there are.
            sorts: Of what sorts the request is.
            onward: Of what sorts those that go on from it are.
        """
        outline, memory, rules = self._outline, self._memory, self._rules
        live, tail = self._live(outline.scaffold), self._tail()
        read = live if live >= 0 else self._live(0)
        ttls: dict[int, TTL] = {}
        if tail > live and (ttl := self._pays(tail, read, sorts, onward)):
            ttls[tail] = ttl
        if live >= 0 and (tail not in ttls or outline.numbers[tail] - outline.numbers[live] >= rules.look_back - 1):
            ttls[live] = memory.entries[outline.digests[live]].ttl
        for at in reversed(range(outline.scaffold)):
            if self._may_end(at) and (ttl := self._base_ttl(at, bases[at], read, beside=bool(ttls))):
                ttls[at] = ttl
        marks = self._in_order(ttls)
        last = marks[-1] if marks else None
        return Plan(
            marks,
            read,
            writes_scaffold=any(read < mark.index < outline.scaffold for mark in marks),
            short=tail < 0 and not any(map(self._may_end, range(outline.scaffold))),
            stake=self._stake(last.index, read, last.ttl) if last is not None and last.index > read else 0.0,
            uncovered=self._uncovered,
        )

    def _live(self, first: int) -> int:
        """Return the last stop, from `first` on, up to which the provider holds the request; -1 where it holds none."""
        digests, entries = self._outline.digests, self._memory.entries
        for at in range(len(digests) - 1, first - 1, -1):
            entry = entries.get(digests[at])
            if entry is not None and self._now < entry.expires and self._may_stand(at):
                return at
        return -1

    def _may_stand(self, at: int) -> bool:
        place = self._outline.places[at]
        return place is not None and (place[0] != "tools" or self._rules.tools)

    def _tail(self) -> int:
        """Return the last message that a mark may stand in, -1 where there is none."""
        places, scaffold = self._outline.places, self._outline.scaffold
        last = next((at for at in range(len(places) - 1, scaffold - 1, -1) if places[at] is not None), -1)
        return last if last >= 0 and self._may_end(last) else -1

    def _may_end(self, at: int) -> bool:
        return self._tokens(at) >= self._rules.minimum and self._may_stand(at)

    def _tokens(self, at: int) -> float:
        return self._outline.sizes[at] * self._account.tokens_per_character if at >= 0 else 0.0

    def _stake(self, at: int, read: int, ttl: TTL) -> float:
        """Return what writing from behind `read` up to `at` costs beyond plain input, in tokens of that."""
        price = self._rules.write_1h if ttl == "1h" else None
        return ((price or self._rules.write_5m) - 1) * max(self._tokens(at) - self._tokens(read), 0.0)

    def _is_covered(self, stake: float) -> bool:
        """Whether so much may be lost: by what was saved, by a share of what was sent, and a little for a start."""
        account = self._account
        most = self._terms.max_write_premium * account.sent + _STAKE * self._tokens(len(self._outline.sizes) - 1)
        return stake + account.staked - account.net <= most

    def _pays(self, at: int, read: int, sorts: Sorts, onward: Sorts) -> TTL | None:
        """Return for how long writing all up to `at` pays most; None where it does not."""
        covered: list[TTL] = [ttl for ttl in TTLS if self._is_covered(self._stake(at, read, ttl))]
        best = best_ttl(self._rules, self._terms, sorts, onward, covered)
        if best is None and not self._uncovered and len(covered) < len(TTLS):
            self._uncovered = best_ttl(self._rules, self._terms, sorts, onward) is not None
        return best

    def _base_ttl(self, at: int, sorts: Sorts, read: int, *, beside: bool) -> TTL | None:
        """Return for how long tools or system prompt are marked: `beside` another mark that costs nothing."""
        memory, digest = self._memory, self._outline.digests[at]
        if memory.is_live(digest, self._now):
            return memory.entries[digest].ttl
        return self._pays(at, read, sorts, sorts) or ("5m" if beside else None)

    def _in_order(self, ttls: dict[int, TTL]) -> tuple[Mark, ...]:
        """Return marks in order: one for an hour stands before those for minutes."""
        marks: list[Mark] = []
        for at in sorted(ttls, reverse=True)[: self._rules.marks]:
            place = self._outline.places[at]
            assert place is not None
            ttl: TTL = "1h" if marks and marks[-1].ttl == "1h" else ttls[at]
            marks.append(Mark(at, place, ttl))
        return tuple(reversed(marks))


TTLS: tuple[TTL, ...] = ("5m", "1h")


def best_ttl(rules: Rules, terms: Terms, sorts: Sorts, onward: Sorts, among: Sequence[TTL] = TTLS) -> TTL | None:
    """Return for how long writing a prefix of `sorts` saves most; None where it costs more than it saves."""
    best: tuple[float, TTL] | None = None
    for ttl in among:
        price = rules.write_5m if ttl == "5m" else rules.write_1h
        if price is None or terms.ttl not in (None, ttl):
            continue
        reads = expected_reads(sorts, onward, ttl)
        value = reads * (1 - rules.read) - (price - 1)
        if value > 0 and reads >= terms.min_reuse and (best is None or value > best[0]):
            best = value, ttl
    return None if best is None else best[1]


def kept(plan: Plan, outline: Outline, memory: Memory, now: float) -> None:
    """Note what the provider holds once the answer to a request that was sent at `now` has begun."""
    digests: dict[int, TTL] = {outline.digests[mark.index]: mark.ttl for mark in plan.marks}
    if plan.read >= 0:
        digests.setdefault(outline.digests[plan.read], "5m")
    for digest, ttl in digests.items():
        entry = memory.entries.get(digest)
        if entry is not None and now < entry.expires:
            ttl = entry.ttl
        memory.entries.put(digest, _entry(ttl, now))


def _entry(ttl: TTL, now: float) -> Entry:
    return Entry(now + (SOON_S if ttl == "5m" else LATER_S), ttl)
