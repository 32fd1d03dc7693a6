"""Budgets and rates: what is sent is counted, and what is too much refused."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Generator
from dataclasses import fields, replace
from typing import Any, TypeAlias

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.call import Response
from spanrelay.pipeline.middleware import Mode, execution_intercept, guardrail
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy.approval import Approvals
from spanrelay.plugins.policy.counts import Counts, Share
from spanrelay.plugins.policy.limits import Limits, OnRefusal
from spanrelay.plugins.policy.names import MODELS, model_of, normal, pattern_of, plain_text
from spanrelay.plugins.policy.order import INNERMOST
from spanrelay.plugins.policy.sessions import Sessions
from spanrelay.plugins.policy.settings import PolicyConfig
from spanrelay.plugins.policy.stores import StoreError
from spanrelay.records import Kind, ModelResponse, Usage

Tables: TypeAlias = dict[str, Limits]
"""Limits by whose they are, one of `WHOSE`."""
WHOSE = ("session", "user", "process")
USER_FIELDS = ("safety_identifier", "user")
"""Where a request names the user to the provider; the first that is there counts."""
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
        context.use(judges(self._ask if self._asks else self._judge))
        counts = execution_intercept(
            name=f"counts{self._suffix}", kinds=kinds, priority=INNERMOST, mode=self._mode, timeout=patience
        )
        context.use(counts(self._count))

    def _judge(self, call: Any) -> str | None:
        if _is_paid(call, self):
            return None
        try:
            return self._counts.refusal(self._shares(call), tool=call.kind == "tool")
        except StoreError as error:
            raise self._refused(str(error)) from error

    def _ask(self, call: Any) -> Awaitable[str | None] | None:
        reason = self._judge(call)
        return None if reason is None else self._decide(call, reason)

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
        estimate = _tokens(_json.dumps(call.outgoing())) if reads else 0
        reason = self._admit(call, shares, estimate)
        if reason is not None and self._asks:
            reason = yield self._decide(call, reason)
            if reason is None:
                reason = self._admit(call, shares, estimate)
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
            self._correct_failed(call, shares, estimate, error, before)
            raise
        self._correct(call, shares, response.record, estimate)

    def _admit(self, call: Any, shares: tuple[Share, ...], estimate: int) -> str | None:
        allowed = call.root in self._allowed
        self._allowed.discard(call.root)
        try:
            return self._counts.admit(shares, tool=call.kind == "tool", tokens=estimate, allowed=allowed)
        except StoreError as error:
            raise self._refused(str(error)) from error

    def _correct_failed(
        self, call: Any, shares: tuple[Share, ...], estimate: int, error: BaseException, before: tuple[Any, Any]
    ) -> None:
        """Count what a call that failed has cost: the provider may have answered all the same, if only in part."""
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and status >= 400:  # it does not charge for errors
            self._counts.correct(shares, -estimate, 0.0, "")
        elif (call.body is not before[0] and call.body is not None) or (
            call.arrived is not before[1] and call.arrived is not None
        ):
            with guarded("reading what a failed call has used"):
                self._correct(call, shares, Response(call, None).record, estimate)

    def _correct(self, call: Any, shares: tuple[Share, ...], answer: ModelResponse, estimate: int) -> None:
        usage = _sensible(answer.usage or Usage())
        if usage.input_tokens is None:
            usage = replace(usage, input_tokens=estimate)
        if usage.output_tokens is None and call.kind == "llm":
            usage = replace(usage, output_tokens=_tokens(_said(answer)))
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        model = plain_text(model_of(call)) or ""
        self._counts.correct(shares, tokens - estimate, self._cost(model, usage), model)

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


def _tokens(data: bytes) -> int:
    return -(-len(data) // BYTES_PER_TOKEN)
