"""Budgets and rates: what is sent is counted, and what is too much refused."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from spanrelay import _json
from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.middleware import execution_intercept, guardrail
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy.counts import Counts, Share
from spanrelay.plugins.policy.limits import Limits
from spanrelay.plugins.policy.names import MODELS, model_of, normal, pattern_of, plain_text
from spanrelay.plugins.policy.order import INNERMOST
from spanrelay.plugins.policy.sessions import Sessions
from spanrelay.plugins.policy.settings import PolicyConfig
from spanrelay.records import Kind, ModelResponse, Usage

USER_FIELDS = ("safety_identifier", "user")
"""Where a request names the user to the provider; the first that is there counts."""
BYTES_PER_TOKEN = 4
"""What a token is taken for where the provider reports no usage."""


class Meter:
    """Counts what is sent, and refuses what is too much."""

    def __init__(self, config: PolicyConfig, counts: Counts, sessions: Sessions, name: str) -> None:
        self._limits = [each for each in (config.session, config.user, config.process) if each.are_set()]
        self._session = config.session if config.session.are_set() else None
        self._user = config.user if config.user.are_set() else None
        whose = "everything that shares these counts" if counts.store.shared else "this process"
        self._process: tuple[Share, ...] = (("process", config.process, whose),) if config.process.are_set() else ()
        self._prices = [(pattern_of([glob]), price) for glob, price in config.prices.items()]
        self._reads_usage = any(each.need_usage() for each in self._limits)
        self._sessions = sessions
        self._counts = counts
        self._name = name

    def use(self, context: Context) -> None:
        """Register a guardrail, so that a refusal is seen as one, and within everything else what counts."""
        kinds: list[Kind] = [*MODELS] if any(_limits_models(each) for each in self._limits) else []
        if any(each.max_tool_calls is not None for each in self._limits):
            kinds.append("tool")
        if self._session is not None:
            self._sessions.use(context)
        context.use(guardrail(name="limits", kinds=kinds)(self._judge))
        context.use(execution_intercept(name="counts", kinds=kinds, priority=INNERMOST)(self._count))

    def _judge(self, call: Any) -> str | None:
        if _is_paid(call, self):
            return None
        return self._counts.refusal(self._shares(call), tool=call.kind == "tool")

    def _count(self, call: Any) -> Generator[Any, Any, None]:
        if _is_paid(call, self, take=True):
            yield call
            return
        shares, tool = self._shares(call), call.kind == "tool"
        reads = self._reads_usage and not tool
        estimate = _tokens(_json.dumps(call.outgoing())) if reads else 0
        reason = self._counts.admit(shares, tool=tool, tokens=estimate)
        if reason is not None:
            raise GuardrailRejected(reason, self._name)
        if not tool:
            call.pay(self)
        if not reads:
            yield call
            return
        try:
            response = yield call
        except Exception as error:
            if hasattr(error, "status_code"):  # the provider has answered, and does not charge for errors
                self._counts.correct(shares, -estimate, 0.0, "")
            raise
        self._correct(call, shares, response.record, estimate)

    def _correct(self, call: Any, shares: tuple[Share, ...], answer: ModelResponse, estimate: int) -> None:
        usage = answer.usage or Usage()
        if usage.input_tokens is None and usage.output_tokens is None:
            usage = replace(usage, input_tokens=estimate, output_tokens=_tokens(_said(answer)))
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
            whose = "this user" if user is not None else "everybody whose calls name no user"
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


def _limits_models(limits: Limits) -> bool:
    return replace(limits, max_tool_calls=None).are_set()


def _said(answer: ModelResponse) -> bytes:
    """The text and the tool calls of an answer."""
    parts: list[Any] = [message.text for message in answer.messages]
    parts += [call.arguments for message in answer.messages for call in message.tool_calls]
    return _json.dumps(parts)


def _tokens(data: bytes) -> int:
    return -(-len(data) // BYTES_PER_TOKEN)
