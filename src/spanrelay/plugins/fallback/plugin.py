"""The plugin `fallback`: asks the next model of a declared order where a budget, a provider or its silence refuses one.

Policy judges each request as it would any other: this plugin stands around it, and only names the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.middleware import Place, execution_intercept
from spanrelay.plugins.fallback.reasons import reason_of, rest_of
from spanrelay.plugins.plugin import Context, Diagnostic
from spanrelay.scopes import mark_span
from spanrelay.semconv import names

Reason: TypeAlias = Literal["budget", "rate_limit", "overload", "timeout"]
_MOST_KNOWN = 1024
"""Models whose rest is remembered."""


@dataclass(slots=True)
class FallbackConfig:
    """The keys of `[plugins.fallback]`.

    Attributes:
        models: By the name of a model, what is asked in its place, in this order.
        agents: By the name of an agent, what is asked in the place of whichever model it names.
        on: What makes the next one be asked.
        guardrails: Guardrails of the program's own whose refusal is one of a budget, by name.
        rest_seconds: How long a model is left alone that has not said for how long; 0 for not at all.
    """

    models: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    agents: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    on: list[Reason] = field(default_factory=lambda: list[Reason](["budget", "rate_limit", "overload", "timeout"]))
    guardrails: list[str] = field(default_factory=list[str])
    rest_seconds: float = 0.0


class FallbackPlugin:
    """Asks other models.

    Args:
        clock: Seconds that only grow.
    """

    name = "fallback"
    config_model = FallbackConfig

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def validate(self, config: FallbackConfig) -> list[Diagnostic]:
        """Find a table that asks for nothing, and orders of no model."""
        found: list[Diagnostic] = []
        if not config.models and not config.agents:
            found.append(Diagnostic("is empty", 'name models, as models."gpt-5" = ["gpt-5-mini"]', "models"))
        for table, orders in (("models", config.models), ("agents", config.agents)):
            for name, order in orders.items():
                if not order or not all(each.strip() for each in order):
                    found.append(Diagnostic("is an order of no model", "name one", f"{table}.{name}"))
        if not config.on:
            found.append(Diagnostic("is an empty list", "remove the key for every reason", "on"))
        if not 0 <= config.rest_seconds < 86_400:
            found.append(Diagnostic("is out of its range", "write seconds, of at least 0", "rest_seconds"))
        return found

    def register(self, context: Context) -> None:
        """Stand around the sending of model calls."""
        order = Order(context.config, self._clock)
        declared = execution_intercept(name="models", kinds=["llm"])
        context.use(declared(order.ask).standing(Place.CHOOSES))


class Order:
    """Which model is asked next, and which are left alone for a while.

    Args:
        config: What the file says.
        clock: Seconds that only grow.
    """

    def __init__(self, config: FallbackConfig, clock: Callable[[], float]) -> None:
        self._models: Mapping[str, Sequence[str]] = config.models
        self._agents: Mapping[str, Sequence[str]] = config.agents
        self._on, self._rest_s, self._clock = frozenset(config.on), config.rest_seconds, clock
        self._budgets = frozenset(config.guardrails)
        self._rests: dict[tuple[str | None, str], float] = {}

    def ask(self, call: Any) -> Generator[Any, Any, Any]:
        """Send `call`, to the first model that answers; an execution intercept."""
        asked = call.request.model
        order = self._order_of(call, asked) if isinstance(asked, str) else []
        if not order:
            return (yield call)
        waiting = [asked, *(each for each in order if each != asked)]
        awake = [each for each in waiting if not self._is_resting(call, each)] or waiting[:1]
        if awake[0] != asked:
            _tell(call, asked, awake[0], "resting")
        for number, model in enumerate(awake):
            sending = call if model == asked else call.with_request(replace(call.request, model=model))
            try:
                return (yield sending)
            except Exception as error:
                reason = reason_of(error, self._budgets)
                if reason in ("rate_limit", "overload"):
                    self._let_rest(call, model, rest_of(error))
                goes_on = reason in self._on or (number > 0 and isinstance(error, GuardrailRejected))
                if not goes_on or number + 1 == len(awake):
                    raise
                _tell(call, model, awake[number + 1], reason or "refused")
        raise AssertionError("there is always a model to ask")

    def _order_of(self, call: Any, asked: str) -> Sequence[str]:
        scope = call.scope
        of_agent = self._agents.get(scope.agent_name) if scope is not None else None
        return of_agent or self._models.get(asked) or ()

    def _is_resting(self, call: Any, model: str) -> bool:
        return self._clock() < self._rests.get((call.record.provider, model), 0.0)

    def _let_rest(self, call: Any, model: str, seconds: float | None) -> None:
        if len(self._rests) >= _MOST_KNOWN:
            self._rests.clear()
        self._rests[call.record.provider, model] = self._clock() + (self._rest_s if seconds is None else seconds)


def _tell(call: Any, asked: str, instead: str, reason: str) -> None:
    """Say on the call's span which model is asked in the place of which, and why."""
    told = {names.FALLBACK_FROM: asked, names.FALLBACK_TO: instead, names.FALLBACK_REASON: reason}
    mark_span(call.root.span, call.root.scope, names.FALLBACK_EVENT, told)
