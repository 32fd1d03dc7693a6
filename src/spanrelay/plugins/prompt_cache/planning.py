"""Where marks pay: behind the scaffold, behind the last block, and where an earlier request left off.

Nothing is written without a reason to expect that it is read: see `expected_reads`.
"""

from __future__ import annotations

from dataclasses import dataclass

from spanrelay.plugins.prompt_cache.marking import TTL, Mark
from spanrelay.plugins.prompt_cache.memory import Account, Entry, Memory, Odds, expected_reads
from spanrelay.plugins.prompt_cache.outline import Outline
from spanrelay.plugins.prompt_cache.rules import LATER_S, SOON_S, Rules

_UNPROVEN = 8
"""How many prefixes may wait for their first reader, and answers be paid for, before there has to be a success."""


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
    max_write_premium: float = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """Where marks are to stand, in order.

    Attributes:
        marks: At most as many as the provider takes.
        read: The last block of what is expected to be read from the cache; -1 where nothing is.
        bet: Whether it writes though nothing is read.
        writes_scaffold: Whether this request is the one to write the scaffold.
        short: Whether the whole request is too short to be cached.
    """

    marks: tuple[Mark, ...] = ()
    read: int = -1
    bet: bool = False
    writes_scaffold: bool = False
    short: bool = False


class Planner:
    """Plans the marks of one request: all that is asked of memory, at one time."""

    def __init__(
        self, outline: Outline, rules: Rules, terms: Terms, memory: Memory, account: Account, now: float
    ) -> None:
        self._outline, self._rules, self._terms = outline, rules, terms
        self._memory, self._account, self._now = memory, account, now

    def plan(self, bases: list[Odds], odds: Odds, all_odds: Odds) -> Plan:
        """Return where marks are to stand.

        Args:
            bases: How often the tools, and what the system prompt ends, are used again; those of them that there are.
            odds: How often a request of this sort is gone on from.
            all_odds: The same of all requests.
        """
        outline, memory, rules = self._outline, self._memory, self._rules
        live, tail = self._live(outline.scaffold), self._tail()
        read = live if live >= 0 else self._live(0)
        may_write = read >= 0 or self._may_bet(all_odds)
        ttls: dict[int, TTL] = {}
        if tail > live and may_write and (ttl := self._pays(odds, all_odds)):
            ttls[tail] = ttl
        if live >= 0 and (tail not in ttls or outline.numbers[tail] - outline.numbers[live] >= rules.look_back - 1):
            ttls[live] = memory.entries[outline.digests[live]].ttl
        for at in reversed(range(outline.scaffold)):
            if self._may_end(at) and (ttl := self._base_ttl(at, bases[at], may_write, beside=bool(ttls))):
                ttls[at] = ttl
        marks = self._in_order(ttls)
        writes = any(mark.index > read for mark in marks)
        return Plan(
            marks,
            read,
            bet=writes and read < 0,
            writes_scaffold=any(read < mark.index < outline.scaffold for mark in marks),
            short=tail < 0 and not any(map(self._may_end, range(outline.scaffold))),
        )

    def _live(self, first: int) -> int:
        """Return the last stop, from `first` on, up to which the provider holds the request; -1 where it holds none."""
        outline, memory = self._outline, self._memory
        for at in range(len(outline.digests) - 1, first - 1, -1):
            if memory.is_live(outline.digests[at], self._now) and self._may_stand(at):
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
        outline = self._outline
        tokens = outline.sizes[at] * self._account.tokens_per_character
        return tokens >= self._rules.minimum and self._may_stand(at)

    def _may_bet(self, all_odds: Odds) -> bool:
        """Whether something may be written that nobody is known to read."""
        account = self._account
        lost = account.net < -self._terms.max_write_premium * account.sent
        return self._memory.bets < _UNPROVEN + all_odds.later and not (lost and account.answers >= _UNPROVEN)

    def _pays(self, odds: Odds, all_odds: Odds) -> TTL | None:
        """Return for how long writing pays most; None where it does not."""
        rules, terms = self._rules, self._terms
        prices: dict[TTL, float | None] = {"5m": rules.write_5m, "1h": rules.write_1h}
        best: tuple[float, TTL] | None = None
        for ttl, price in prices.items():
            if price is None or terms.ttl not in (None, ttl):
                continue
            reads = expected_reads(odds, all_odds, ttl)
            value = reads * (1 - rules.read) - (price - 1)
            if value > 0 and reads >= terms.min_reuse and (best is None or value > best[0]):
                best = value, ttl
        return None if best is None else best[1]

    def _base_ttl(self, at: int, odds: Odds, may_write: bool, *, beside: bool) -> TTL | None:
        """Return for how long tools or system prompt are marked: `beside` another mark that costs nothing."""
        memory, digest = self._memory, self._outline.digests[at]
        if memory.is_live(digest, self._now):
            return memory.entries[digest].ttl
        all_odds = memory.reuse if at == self._outline.scaffold - 1 else memory.of_tools
        found = self._pays(odds, all_odds) if may_write else None
        return found or ("5m" if beside else None)

    def _in_order(self, ttls: dict[int, TTL]) -> tuple[Mark, ...]:
        """Return marks in order: one for an hour stands before those for minutes."""
        marks: list[Mark] = []
        for at in sorted(ttls, reverse=True)[: self._rules.marks]:
            place = self._outline.places[at]
            assert place is not None
            ttl: TTL = "1h" if marks and marks[-1].ttl == "1h" else ttls[at]
            marks.append(Mark(at, place, ttl))
        return tuple(reversed(marks))


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
