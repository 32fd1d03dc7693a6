"""The plugin `policy`, put together from what each table of its configuration asks for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from spanrelay.errors import ConfigurationError
from spanrelay.pipeline.middleware import guardrail
from spanrelay.plugins.plugin import Context, Diagnostic
from spanrelay.plugins.policy.approval import Approvals
from spanrelay.plugins.policy.counts import Counts
from spanrelay.plugins.policy.loops import Calls
from spanrelay.plugins.policy.meter import use_limits
from spanrelay.plugins.policy.names import MODELS, Judge, doubts_about_names
from spanrelay.plugins.policy.parameters import use_parameters
from spanrelay.plugins.policy.rules import doubts_about_rules
from spanrelay.plugins.policy.sessions import Sessions
from spanrelay.plugins.policy.settings import PolicyConfig, doubts_about
from spanrelay.plugins.policy.storage import Storage, open_store
from spanrelay.plugins.policy.tools import use_rules, use_tools


class PolicyPlugin:
    """Refuses models and tools by allow and deny lists, rules, budgets and rates.

    Args:
        clock: Seconds that only grow.
        wall_clock: Seconds since the epoch, for counts that processes share.
    """

    name = "policy"
    config_model = PolicyConfig

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock, self._wall_clock = clock, wall_clock
        self._counts: dict[tuple[Any, ...], Counts] = {}
        self._places: dict[tuple[Any, ...], str] = {}
        self._holders: Counter[tuple[Any, ...]] = Counter()
        self._sessions: dict[str, Sessions] = {}
        self._calls = Calls()

    def validate(self, config: PolicyConfig) -> list[Diagnostic]:
        """Find limits that limit nothing sensible, patterns that match nothing, and costs without prices."""
        return [*doubts_about(config), *doubts_about_names(config), *doubts_about_rules(config.tools.rules)]

    def register(self, context: Context) -> None:
        """Put in force what the config says, and nothing for what it does not say."""
        config: PolicyConfig = context.config
        context.stops_unguarded = config.on_unguarded == "stop"
        tools, models = Judge("tool", config.tools), Judge("model", config.models)
        approvals = Approvals(context, config)
        if tools.judges:
            use_tools(context, tools, config.tools, approvals, self._calls)
        use_rules(context, config.tools, approvals, self._calls)
        if models.judges:
            judged = guardrail(name="models", kinds=MODELS, mode=config.models.mode, timeout=approvals.patience)
            asks = approvals.around(models.model_refusal, "models", config.models.on_refusal, config.models.mode)
            context.use(judged(asks))
        if config.parameters:
            use_parameters(context, config.parameters)
        if any(limits.are_set() for limits in config.limits()):
            sessions = self._sessions.setdefault(context.file, Sessions())
            counts = self._counts_for(context)
            use_limits(context, config, counts, sessions, approvals)
            context.on_close(counts.store.close)

    def _counts_for(self, context: Context) -> Counts:
        """One count for each file, whatever its limits become when it is read again: a reload forgives nothing."""
        storage: Storage = context.config.counts
        name = _name_of(context, storage)
        if storage.shared:
            self._claim((storage.path, storage.url, name), context)
        key = (context.file, storage.path, storage.url, storage.keep_hours, name)
        if key not in self._counts:
            store = open_store(storage, name)
            self._counts[key] = Counts(self._wall_clock if store.shared else self._clock, store)
        return self._counts[key]

    def _claim(self, place: tuple[Any, ...], context: Context) -> None:
        """Let one file alone count in a place, by one name: each of two would count what the other has counted."""
        other = self._places.get(place, context.file)
        if other != context.file:
            raise ConfigurationError(f"{other!r} keeps its counts there by the same name; write another counts.name")
        self._places[place] = context.file

        def leave() -> None:
            self._holders[place] -= 1
            if not self._holders[place]:
                del self._holders[place], self._places[place]

        self._holders[place] += 1
        context.on_close(leave)


def _name_of(context: Context, storage: Storage) -> str:
    """Return what keys begin with: the same wherever the file is read, whichever others are read beside it."""
    if storage.name is not None:
        return f"{PolicyPlugin.name}.{storage.name}"
    return f"{PolicyPlugin.name}/{context.place}" if context.place else PolicyPlugin.name
