"""The plugin `policy`, put together from what each table of its configuration asks for."""

from __future__ import annotations

import time
from collections.abc import Callable

from spanrelay.pipeline.middleware import guardrail
from spanrelay.plugins.plugin import Context, Diagnostic
from spanrelay.plugins.policy.approval import Approvals
from spanrelay.plugins.policy.counts import Counts
from spanrelay.plugins.policy.meter import Meter
from spanrelay.plugins.policy.names import MODELS, Judge
from spanrelay.plugins.policy.parameters import use_parameters
from spanrelay.plugins.policy.rules import doubts_about_rules
from spanrelay.plugins.policy.settings import PolicyConfig, doubts_about
from spanrelay.plugins.policy.tools import use_rules, use_tools


class PolicyPlugin:
    """Entry point `spanrelay_plugin`: allow and deny lists, budgets and rates.

    Args:
        clock: Seconds that only grow.
    """

    name = "policy"
    config_model = PolicyConfig

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[str, Counts] = {}

    def validate(self, config: PolicyConfig) -> list[Diagnostic]:
        """Find limits that limit nothing sensible, patterns that match nothing, and costs without prices."""
        return [*doubts_about(config), *doubts_about_rules(config.tools.rules)]

    def register(self, context: Context) -> None:
        """Put in force what the config says, and nothing for what it does not say."""
        config: PolicyConfig = context.config
        context.stops_unguarded = config.on_unguarded == "stop"
        tools, models = Judge("tool", config.tools), Judge("model", config.models)
        approvals = Approvals(context, config)
        if tools.judges:
            use_tools(context, tools, config.tools, approvals)
        use_rules(context, config.tools, approvals)
        if models.judges:
            judged = guardrail(name="models", kinds=MODELS, mode=config.models.mode, timeout=approvals.patience)
            asks = approvals.around(models.model_refusal, "models", config.models.on_refusal, config.models.mode)
            context.use(judged(asks))
        if config.parameters:
            use_parameters(context, config.parameters)
        if config.session.are_set() or config.process.are_set():
            # One count for each file, whatever its limits become when it is read again: a reload forgives nothing.
            counts = self._counts.setdefault(context.file, Counts(self._clock))
            Meter(config, counts, f"{context.name}.limits").use(context)
