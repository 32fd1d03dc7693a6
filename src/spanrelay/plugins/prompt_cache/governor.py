"""Decides for each model call, marks what is sent, and learns from what the provider reports.

A request is never lost by it: whatever goes wrong here, the request is sent as the application wrote it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, cast

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import anthropic_messages, bedrock_converse
from spanrelay.pipeline import loops
from spanrelay.plugins.exchanging import Place
from spanrelay.plugins.prompt_cache.keys import GOOGLE, OPENAI, Keys
from spanrelay.plugins.prompt_cache.learned import Learned
from spanrelay.plugins.prompt_cache.marking import marked
from spanrelay.plugins.prompt_cache.memory import Account, Memory, Odds, Scaffold, free_in_children
from spanrelay.plugins.prompt_cache.news import Decision, News, decided, tell, tell_of_waiting
from spanrelay.plugins.prompt_cache.outline import Outline, Unreadable, outline_of
from spanrelay.plugins.prompt_cache.planning import Plan, Planner, Terms, kept
from spanrelay.plugins.prompt_cache.rules import API, Rules, rules_of
from spanrelay.records import PromptCache, Usage

_APIS: dict[Any, API] = {
    anthropic_messages.decode_request: "anthropic",
    bedrock_converse.decode_request: "bedrock",
}
"""By how a codec reads requests, which it has in common with those that are made around it."""
_TOGETHER_S = 2.0
"""Seconds within which calls of one scaffold count as started together."""


@dataclass(slots=True)
class _Case:
    """One request that can be marked: what it is made of, and what is known of its like."""

    api: API
    wire: Mapping[str, Any]
    outline: Outline
    rules: Rules
    account: Account
    scaffold: Scaffold
    key: int
    now: float
    plan: Plan = field(default_factory=Plan)
    stake: float = 0.0
    told: PromptCache = field(default_factory=PromptCache)
    news: Decision | None = None
    """What is decided, where that is otherwise than before."""


@dataclass(slots=True)
class _Flight:
    """A request that is about to write a scaffold, for which others wait."""

    at: float
    begun: Future[None] = field(default_factory=lambda: Future[None]())

    def end(self) -> None:
        """Let those that wait go on."""
        if not self.begun.done():
            self.begun.set_result(None)


class Governor:
    """Stands around the sending of each model call.

    Args:
        applies: Whether requests are marked; else it is only told what would have been.
        providers: The APIs whose requests it looks at.
        terms: On what terms something is written.
        max_wait_s: Seconds that a call waits at most for the one that writes what both begin with.
        clock: Seconds that only grow.
        place: Where what is learned is kept for others.
    """

    def __init__(
        self,
        *,
        applies: bool = False,
        providers: frozenset[str] = frozenset(("anthropic", "bedrock")),
        terms: Terms | None = None,
        max_wait_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        place: Place | None = None,
    ) -> None:
        self.applies = applies
        self._terms = terms or Terms()
        self._max_wait_s = max_wait_s
        self._apis: dict[Any, API] = {reads: api for reads, api in _APIS.items() if api in providers}
        self._by_themselves = {
            reads for api, reads in (*(("openai", each) for each in OPENAI), ("google", GOOGLE)) if api in providers
        }
        self._keys = Keys(applies=applies, clock=clock)
        self._clock = clock
        self._memory = Memory()
        self._news = News()
        self.free()
        free_in_children(self)
        self.learned = None if place is None else Learned(self._memory, place, lambda: self._lock)

    def free(self) -> None:
        """Take a lock that nobody holds, and wait for nobody: a forked child has none of its parent's threads."""
        self._flights: dict[int, _Flight] = {}
        self._lock = threading.Lock()

    def govern(self, call: Any) -> Generator[Any, Any, None]:
        """Send `call`, marked where that pays; an execution intercept."""
        reads = getattr(getattr(call, "codec", None), "decode_request", None)
        api = self._apis.get(reads)
        if api is None:
            if reads in self._by_themselves:
                yield from self._keys.govern(call)
            else:
                yield call
            return
        began = self._clock()
        case, flight = self._decide(call, api, may_wait=self.applies)
        if case is None and flight is not None:
            yield self._waited(flight)
            tell_of_waiting(call, self._clock() - began)
            case, flight = self._decide(call, api, may_wait=False)
        if case is None:
            yield call
            return
        try:
            yield from self._send(call, case, flight)
        finally:
            call.begun = None
            with self._lock:
                case.account.staked -= case.stake
            if flight is not None:
                self._land(case.key, flight)

    def _send(self, call: Any, case: _Case, flight: _Flight | None) -> Generator[Any, Any, None]:
        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True
            with guarded("noting what a prompt cache holds"), self._lock:
                kept(case.plan, case.outline, self._memory, case.now)
            if flight is not None:
                self._land(case.key, flight)

        call.begun = begin
        try:
            response = yield call
        except Exception as error:
            if begun or case.told.decision != "marked" or not _refuses(error):
                raise
            case.account.refuses = True
            case.told = call.root.record.prompt_cache = PromptCache(scaffold=case.told.scaffold, skipped="refused")
            case.plan = Plan()
            self._tell_of_skipping(call, case.told, case.key)
            call.mark(case.wire)
            response = yield call
        with guarded("learning from what a prompt cache did"):
            usage = response.record.usage
            if usage is not None and usage.input_tokens:
                self._learn(case, usage)
            if self.learned is not None:
                self.learned.change()

    # --- before a call is sent ---

    def _decide(self, call: Any, api: API, *, may_wait: bool) -> tuple[_Case | None, _Flight | None]:
        """Return what a request is to be sent with, and the flight that waits for it.

        Without the one, the other is what it has to wait for.
        """
        case: _Case | None = None
        flight: _Flight | None = None
        wire: Mapping[str, Any] = {}
        try:
            wire = call.outgoing()
            case = self._case_of(wire, api)
            with self._lock:
                found = self._flight_ahead(case) if may_wait else None
                if found is not None:
                    return None, found
                flight = self._settle(case)
            told = case.told
            if told.decision == "marked":
                call.mark(marked(case.api, case.wire, case.plan.marks))
            if case.news is not None:
                tell(call, told, case.news)
        except Unreadable as reason:
            told = PromptCache(skipped=str(reason))
            self._tell_of_skipping(call, told, hash((api, wire.get("model"))))
        except Exception as error:
            if case is not None and flight is not None:
                self._land(case.key, flight)
            case, flight, told = None, None, PromptCache(skipped=type(error).__name__)
            with guarded("planning the marks of a prompt"):
                raise
        call.root.record.prompt_cache = told
        return case, flight

    def _case_of(self, wire: Mapping[str, Any], api: API) -> _Case:
        """Look at a request.

        Raises:
            Unreadable: why nothing can be said of it.
        """
        model = wire.get("model")
        rules = rules_of(api, model) if isinstance(model, str) else None
        if rules is None:
            raise Unreadable("unknown_model")
        outline = outline_of(api, wire)
        if not outline.digests:
            raise Unreadable("empty")
        at = outline.scaffold
        key = outline.digests[at - 1] if at else hash((api, model))
        with self._lock:
            scaffold = self._memory.scaffolds.get(key)
            account = self._memory.account(api, cast("str", model))
        if account.refuses:
            raise Unreadable("refused")
        if scaffold is None:
            digest = _digest_of(wire)
            with self._lock:
                scaffold = self._memory.recalled.pop(digest, None) or Scaffold(digest, api, cast("str", model))
                self._memory.scaffolds.put(key, scaffold)
        return _Case(api, wire, outline, rules, account, scaffold, key, self._clock())

    def _tell_of_skipping(self, call: Any, told: PromptCache, key: int) -> None:
        """Mark on a span why requests of its kind are left alone from now on."""
        decision = Decision("skipped", told.skipped or "")
        with self._lock:
            news = self._news.has(key, decision)
        if news:
            tell(call, told, decision)

    def _flight_ahead(self, case: _Case) -> _Flight | None:
        """Return the flight that a request has to wait for; under the lock."""
        flight = self._flights.get(case.key)
        if flight is None or flight.begun.done() or case.now - flight.at > _TOGETHER_S:
            return None
        return flight

    def _settle(self, case: _Case) -> _Flight | None:
        """Plan, and note what is used; under the lock. Returns the flight of a request that writes a scaffold."""
        memory, now, outline = self._memory, case.now, case.outline
        sent = outline.digests[outline.scaffold :]
        before = next((use for digest in reversed(sent) if (use := memory.used_before(digest))), None)
        if before is not None:
            memory.again(before, now, in_turn=True)
        known = memory.used_before(case.key)
        depth = 0 if before is None else before.depth + 1
        sorts = memory.sorts(case.scaffold, depth)
        planner = Planner(outline, case.rules, self._terms, memory, case.account, now)
        plan = case.plan = planner.plan(self._use_bases(case), sorts, (memory.further, case.scaffold.further))
        memory.use(outline.digests[-1], now, *sorts, depth=depth)
        case.stake = plan.stake
        case.account.staked += plan.stake
        told = case.told = PromptCache(scaffold=case.scaffold.name, marks=tuple(map(str, plan.marks)))
        told.decision = ("marked" if self.applies else "would_mark") if plan.marks else "unmarked"
        told.expected_read_tokens = self._tokens(case, plan.read)
        if plan.read < 0:
            flying = case.key in self._flights
            missed = "parallel_first" if flying else "expired" if before or known else "first_use"
            told.missed = "below_minimum" if plan.short else missed
        decision = decided(told, plan)
        case.news = decision if self._news.has(case.key, decision) else None
        if not (plan.writes_scaffold and self.applies):
            return None
        return self._flights.setdefault(case.key, _Flight(now))

    def _use_bases(self, case: _Case) -> list[tuple[Odds, Odds]]:
        """Note that the tools and the system prompt are used; return of what sorts they are."""
        memory, outline, found = self._memory, case.outline, list[tuple[Odds, Odds]]()
        for digest in outline.digests[: outline.scaffold]:
            if (use := memory.used_before(digest)) is not None:
                memory.again(use, case.now, in_turn=False)
            odds, of_all = case.scaffold.reuse, memory.reuse
            if digest != case.key:
                odds, of_all = memory.tools.get(digest) or Odds(), memory.of_tools
                memory.tools.put(digest, odds)
            memory.use(digest, case.now, odds, of_all)
            found.append((of_all, odds))
        return found

    def _tokens(self, case: _Case, at: int) -> int:
        return round(case.outline.sizes[at] * case.account.tokens_per_character) if at >= 0 else 0

    def _land(self, key: int, flight: _Flight) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
        flight.end()

    async def _waited(self, flight: _Flight) -> None:
        """Wait until what others write can be read, or it has taken too long."""
        await loops.settled(flight.begun, self._max_wait_s)

    # --- behind an answer ---

    def _learn(self, case: _Case, usage: Usage) -> None:
        """Count what an answer cost, and correct what was expected of it."""
        given, read = usage.input_tokens or 0, usage.cache_read_tokens or 0
        rules, told, account = case.rules, case.told, case.account
        told.hit_ratio = round(read / given, 4)
        with self._lock:
            ratio = given / max(case.outline.size, 1)
            account.tokens_per_character += (ratio - account.tokens_per_character) * (0.3 if account.answers else 1.0)
            account.answers += 1
            account.sent += given
            if told.decision == "would_mark":
                told.saved_tokens = self._would_save(case)
                account.net += told.saved_tokens
                return
            hour = usage.cache_write_1h_tokens or 0
            minutes = max((usage.cache_write_tokens or 0) - hour, 0)
            paid = (rules.write_5m - 1) * minutes + ((rules.write_1h or 1) - 1) * hour
            saved = (1 - rules.read) * read - paid
            account.net += saved
            told.saved_tokens = round(saved)
            if case.plan.read >= 0 and not read:
                told.missed = "not_found"
                for digest in case.outline.digests[: case.plan.read + 1]:
                    self._memory.entries.pop(digest, None)

    def _would_save(self, case: _Case) -> int:
        """Return what the marks would have saved of an answer, in tokens of plain input."""
        rules, plan, last = case.rules, case.plan, plan_end(case.plan)
        read = self._tokens(case, plan.read)
        hour = any(mark.ttl == "1h" and mark.index > plan.read for mark in plan.marks)
        price = (rules.write_1h if hour else None) or rules.write_5m
        return round((1 - rules.read) * read - (price - 1) * max(self._tokens(case, last) - read, 0))


def plan_end(plan: Plan) -> int:
    """Return the last block that a plan marks, -1 where it marks none."""
    return plan.marks[-1].index if plan.marks else -1


def _digest_of(wire: Mapping[str, Any]) -> str:
    """Return digits that stand for a scaffold in every process."""
    told = _json.dumps([wire.get("model"), wire.get("tools") or wire.get("toolConfig"), wire.get("system")])
    return blake2b(told, digest_size=16).hexdigest()


def _refuses(error: Exception) -> bool:
    """Whether a provider, or its SDK, takes no marks."""
    status = getattr(error, "status_code", None)
    told = str(error).lower()
    return status in (None, 400, 422) and ("cache_control" in told or "cachepoint" in told or "cache point" in told)
