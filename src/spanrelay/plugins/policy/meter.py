"""Budgets and rates: what is sent is counted, and what is too much refused."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Generator
from dataclasses import fields, replace
from typing import Any, TypeAlias

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.call import Response
from spanrelay.pipeline.flow import Apart
from spanrelay.pipeline.middleware import Mode, Place, execution_intercept, guardrail
from spanrelay.plugins.keeping import StoreError
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy.approval import Approvals
from spanrelay.plugins.policy.counts import Counts, Share
from spanrelay.plugins.policy.limits import NOTHING, Limits, OnRefusal, Spent
from spanrelay.plugins.policy.names import MODELS, model_of, normal, pattern_of, plain_text
from spanrelay.plugins.policy.sessions import Sessions
from spanrelay.plugins.policy.settings import PolicyConfig
from spanrelay.records import Kind, ModelResponse, Usage

Tables: TypeAlias = dict[str, Limits]
"""Limits by whose they are, one of `WHOSE`."""
WHOSE = ("session", "user", "process")
USER_FIELDS = ("safety_identifier", "user")
"""Where a request names the user to the provider; the first that is there counts."""
_ENCODED = re.compile(rb"[A-Za-z0-9+/_=-]{1024,}")
"""Base64 in a request: no text has words so long."""
_MUCH = 16_384
"""Bytes of a request below which base64 is not looked for."""
BYTES_PER_TOKEN = 4
"""What a token is taken for where the provider reports no usage."""


def use_limits(
    context: Context, config: PolicyConfig, counts: Counts, sessions: Sessions, approvals: Approvals
) -> None:
    """Count against the tables of limits; those of one mode, and of one way to refuse, are counted as one."""
    if config.session.are_set():
        sessions.use(context)
    alike: dict[tuple[Mode | None, OnRefusal | None], Tables] = {}
    for whose, limits in zip(WHOSE, config.limits(), strict=True):
        if limits.are_set():
            alike.setdefault((limits.mode, limits.on_refusal), {})[whose] = limits
    for tables in alike.values():
        Meter(tables, config, counts, sessions, approvals, context.name).use(context)


class Meter:
    """Counts what is sent, and refuses what is too much."""

    def __init__(
        self,
        tables: Tables,
        config: PolicyConfig,
        counts: Counts,
        sessions: Sessions,
        approvals: Approvals,
        plugin: str,
    ) -> None:
        self._limits = list(tables.values())
        self._mode: Mode | None = self._limits[0].mode
        self._on_refusal: OnRefusal | None = self._limits[0].on_refusal
        self._session, self._user = tables.get("session"), tables.get("user")
        whose = "everything that shares these counts" if counts.store.shared else "this process"
        self._process: tuple[Share, ...] = tuple(
            ("process", limits, whose) for name, limits in tables.items() if name == "process"
        )
        self._prices = [(pattern_of([glob]), price) for glob, price in config.prices.items()]
        self._reads_usage = any(each.need_usage() for each in self._limits)
        self._sessions = sessions
        self._counts = counts
        self._approvals = approvals
        self._asks = approvals.asks(self._on_refusal, self._mode)
        self._allowed: weakref.WeakSet[Any] = weakref.WeakSet()
        """Calls that an approver has let pass, until they are sent."""
        self._suffix = "".join(f"_{way}" for way in (self._mode, self._on_refusal) if way)
        self._plugin = plugin
        self._name = f"limits{self._suffix}"

    def use(self, context: Context) -> None:
        """Register a guardrail, so that a refusal is seen as one, and within everything else what counts."""
        kinds: list[Kind] = [*MODELS] if any(each.limit_models() for each in self._limits) else []
        if any(each.max_tool_calls is not None for each in self._limits):
            kinds.append("tool")
        patience = self._approvals.patience
        judges = guardrail(name=self._name, kinds=kinds, mode=self._mode, timeout=patience)
        context.use(judges(self._judge))
        counts = execution_intercept(name=f"counts{self._suffix}", kinds=kinds, mode=self._mode, timeout=patience)
        context.use(counts(self._count).standing(Place.COUNTS))

    def _judge(self, call: Any) -> Any:
        if _is_paid(call, self):
            return None
        shares, tool = self._shares(call), call.kind == "tool"

        def judge() -> Any:
            reason = self._counts.refusal(shares, tool=tool)
            return self._decide(call, reason) if reason is not None and self._asks else reason

        return self._apart(judge) if self._counts.store.shared else judge()

    def _apart(self, work: Callable[[], Any]) -> Apart:
        """Return `work`, which asks a store that other processes may hold up, in a form that holds up no event loop."""

        def ask() -> Any:
            try:
                return work()
            except StoreError as error:
                raise self._refused(str(error)) from error

        return Apart(ask)

    def _stored(self, work: Callable[[], Any]) -> Generator[Any, Any, Any]:
        return (yield self._apart(work)) if self._counts.store.shared else work()

    async def _decide(self, call: Any, reason: str) -> str | None:
        """Ask whether a call may be sent all the same, and remember it until it is."""
        refusal = await self._approvals.decide(call, reason, self._name)
        if refusal is None:
            self._allowed.add(call.root)
        return refusal

    def _refused(self, reason: str) -> GuardrailRejected:
        return GuardrailRejected(reason, f"{self._plugin}.{self._name}")

    def _count(self, call: Any) -> Generator[Any, Any, None]:
        if _is_paid(call, self, take=True):
            yield call
            return
        shares, tool = self._shares(call), call.kind == "tool"
        reads = self._reads_usage and not tool
        estimate = self._estimate(call) if reads else NOTHING
        reason = yield from self._admit(call, shares, estimate)
        if reason is not None and self._asks:
            reason = yield self._decide(call, reason)
            if reason is None:
                reason = yield from self._admit(call, shares, estimate)
        if reason is not None:
            raise self._refused(reason)
        if not tool:
            call.pay(self)
        if not reads:
            yield call
            return
        before = call.body, call.arrived
        try:
            response = yield call
        except BaseException as error:
            correct = self._correction_of_failed(call, shares, estimate, error, before)
            if isinstance(error, GeneratorExit):  # nobody goes on with a stream that was left to the collector
                correct()
            elif correct is not _leave:
                yield from self._stored(correct)
            raise
        yield from self._stored(self._correction(call, shares, response.record, estimate))

    def _admit(self, call: Any, shares: tuple[Share, ...], estimate: Spent) -> Generator[Any, Any, str | None]:
        allowed, tool = call.root in self._allowed, call.kind == "tool"
        self._allowed.discard(call.root)
        return (
            yield from self._stored(lambda: self._counts.admit(shares, tool=tool, estimate=estimate, allowed=allowed))
        )

    def _correction_of_failed(
        self, call: Any, shares: tuple[Share, ...], estimate: Spent, error: BaseException, before: tuple[Any, Any]
    ) -> Callable[[], None]:
        """Return what counts a call that failed: the provider may have answered all the same, if only in part."""
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and status >= 400:  # it does not charge for errors
            return lambda: self._counts.correct(shares, estimate, NOTHING, "")
        if (call.body is not before[0] and call.body is not None) or (
            call.arrived is not before[1] and call.arrived is not None
        ):
            with guarded("reading what a failed call has used"):
                return self._correction(call, shares, Response(call, None).record, estimate)
        return _leave

    def _correction(
        self, call: Any, shares: tuple[Share, ...], answer: ModelResponse, estimate: Spent
    ) -> Callable[[], None]:
        """Return what counts an answer in the place of its estimate."""
        usage = _sensible(answer.usage or Usage())
        if usage.input_tokens is None:
            usage = replace(usage, input_tokens=estimate.tokens)
        if usage.output_tokens is None and call.record.kind == "llm":
            usage = replace(usage, output_tokens=_tokens(_said(answer)))
        model = plain_text(model_of(call)) or ""
        spent = Spent((usage.input_tokens or 0) + (usage.output_tokens or 0), self._cost(model, usage))
        return lambda: self._counts.correct(shares, estimate, spent, model)

    def _estimate(self, call: Any) -> Spent:
        """What a call takes at the least: its request, at the lowest price that there is for it."""
        asked = _json.dumps(call.outgoing())
        # Pictures and recordings are charged by their size in pixels or seconds, which are few tokens.
        tokens = _tokens(_ENCODED.sub(b"", asked) if len(asked) > _MUCH else asked)
        usage = Usage(input_tokens=tokens, cache_read_tokens=tokens)
        return Spent(tokens, self._cost(plain_text(model_of(call)) or "", usage) or 0.0)

    def _cost(self, model: str, usage: Usage) -> float | None:
        """What an answer has cost; None where neither the provider nor the configuration says."""
        if usage.cost_usd is not None:
            return usage.cost_usd
        name = normal(model)
        return next((price.of(usage) for glob, price in self._prices if glob.match(name)), None)

    def _shares(self, call: Any) -> tuple[Share, ...]:
        shares = self._process
        if self._user is not None:
            user = _user_of(call)
            whose = "this user" if user is not None else "the group of calls without a user"
            shares = ((f"user {user}" if user is not None else "nobody", self._user, whose), *shares)
        if self._session is not None:
            shares = ((self._sessions.of(call), self._session, "this session"), *shares)
        return shares


def _user_of(call: Any) -> str | None:
    """Whom a call is made for: the user of the scope, else the one that the request names to the provider."""
    if call.record.user_id:
        return str(call.record.user_id)
    named = [call.outgoing().get(key) for key in USER_FIELDS] if call.kind == "llm" else []
    return next((str(name) for name in named if name), None)


def _is_paid(call: Any, meter: Meter, *, take: bool = False) -> bool:
    """Whether this sending has been counted at a framework's call: one sending counts once."""
    return call.kind != "tool" and call.is_paid(meter, take=take)


def _sensible(usage: Usage) -> Usage:
    """Return what is reported without what no call can use: less than nothing, or no number at all."""
    odd = {
        each.name: None for each in fields(usage) if (used := getattr(usage, each.name)) is not None and not used >= 0
    }
    return replace(usage, **odd) if odd else usage


def _said(answer: ModelResponse) -> bytes:
    """The text and the tool calls of an answer."""
    parts: list[Any] = [message.text for message in answer.messages]
    parts += [call.arguments for message in answer.messages for call in message.tool_calls]
    return _json.dumps(parts)


def _leave() -> None:
    """Leave the estimate of a call of which nobody knows whether it was answered."""


def _tokens(data: bytes) -> int:
    return -(-len(data) // BYTES_PER_TOKEN)
