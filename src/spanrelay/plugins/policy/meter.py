"""Budgets and rates: what is sent is counted, and what is too much refused."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from spanrelay import _json
from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.middleware import execution_intercept, guardrail
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy.counts import Counts, Limits, Share
from spanrelay.plugins.policy.names import MODELS, model_of, normal, pattern_of, plain_text
from spanrelay.plugins.policy.order import INNERMOST
from spanrelay.plugins.policy.settings import PolicyConfig
from spanrelay.records import Kind, ModelResponse, Usage

BYTES_PER_TOKEN = 4
"""What a token is taken for where the provider reports no usage."""


class Meter:
    """Counts what is sent, and refuses what is too much."""

    def __init__(self, config: PolicyConfig, counts: Counts, name: str) -> None:
        self._limits = (config.session, config.process)
        self._session = config.session if config.session.are_set() else None
        self._process: tuple[Share, ...] = (("", config.process, "this process"),) if config.process.are_set() else ()
        self._prices = [(pattern_of([glob]), price) for glob, price in config.prices.items()]
        self._reads_usage = config.session.need_usage() or config.process.need_usage()
        self._counts = counts
        self._name = name

    def use(self, context: Context) -> None:
        """Register a guardrail, so that a refusal is seen as one, and within everything else what counts."""
        kinds: list[Kind] = [*MODELS] if any(_limits_models(each) for each in self._limits) else []
        if any(each.max_tool_calls is not None for each in self._limits):
            kinds.append("tool")
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
        """The session of a call is its conversation, else its trace."""
        if self._session is None:
            return self._process
        session = call.record.session_id or call.span.get_span_context().trace_id
        return ((session, self._session, "this session"), *self._process)


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
