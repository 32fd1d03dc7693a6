"""The plugin `hints`: what is known of an agent goes with its requests to servers that schedule by it.

A model never sees it, and only hosts that the file names get it. What the caller has put there stays.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.pipeline.middleware import Place, execution_intercept
from spanrelay.plugins.hints.habits import Habits, Shared, aged, answer, ask, expected
from spanrelay.plugins.places import doubts_about_place, place_of
from spanrelay.plugins.plugin import Context, Diagnostic, Secret
from spanrelay.plugins.prompt_cache.memory import Bounded, free_in_children

SENSITIVITY = "latency_sensitivity"
"""The key of a scope's metadata that says how much its calls matter to somebody who waits, from 1 to 10."""
STRICT = ("openai.com", "anthropic.com", "googleapis.com", "amazonaws.com", "mistral.ai", "cohere.com")
"""Whose servers refuse a request with a field that they do not know."""


@dataclass(slots=True)
class HintsConfig:
    """The keys of `[plugins.hints]`.

    Attributes:
        hosts: Who gets hints: `name` or `name:port`, as the client's base URL has it.
        body: Where in the request's JSON; empty for nowhere. NVIDIA Dynamo reads `nvext.agent_hints`.
        header: A header that has them too, as JSON.
        agent: What calls outside of all agents are called.
        sensitivity: How much calls matter to somebody who waits, from 1 to 10, where no scope says it.
        path: An SQLite file in which what is learned is kept for other processes and later ones.
        url: A Redis server that keeps it.
    """

    hosts: list[str]
    body: str = "nvext.agent_hints"
    header: str | None = None
    agent: str = "app"
    sensitivity: int | None = None
    path: Path | None = None
    url: Secret | None = None


class HintsPlugin:
    """Tells servers that schedule requests what is known of an agent's.

    Args:
        clock: Seconds that only grow.
    """

    name = "hints"
    config_model = HintsConfig

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def validate(self, config: HintsConfig) -> list[Diagnostic]:
        """Find hosts that take no hints, and hints that would stand nowhere."""
        found: list[Diagnostic] = []
        if not config.hosts:
            found.append(Diagnostic("is an empty list", "name the servers that are to get hints", "hosts"))
        for host in config.hosts:
            name = host.partition(":")[0].lower()
            if not re.fullmatch(r"[\w.-]+(:\d+)?", host):
                found.append(Diagnostic("is not a host", 'write "name" or "name:port"', "hosts"))
            elif config.body and name.endswith(STRICT):
                remedy = 'name servers that schedule by hints, such as your own; or write body = "" and a header'
                found.append(Diagnostic("names a provider that refuses fields it does not know", remedy, "hosts"))
        if not config.body and config.header is None:
            found.append(Diagnostic("is empty, and there is no header", "name a place for hints", "body"))
        if config.body and not re.fullmatch(r"\w+(\.\w+)*", config.body):
            found.append(Diagnostic("is not a path of fields", 'write names with dots, as "nvext.agent_hints"', "body"))
        if config.header is not None and not re.fullmatch(r"[A-Za-z0-9-]+", config.header):
            found.append(Diagnostic("is not the name of a header", 'write one, as "x-agent-hints"', "header"))
        if config.sensitivity is not None and not 1 <= config.sensitivity <= 10:
            found.append(Diagnostic("is out of its range", "write a number from 1 to 10", "sensitivity"))
        return found + doubts_about_place(config.path, config.url)

    def register(self, context: Context) -> None:
        """Stand around the sending of model calls."""
        config: HintsConfig = context.config
        place = place_of(config.path, config.url, self.name)
        hinting = Hinting(config, self._clock, applies=context.mode == "enforce")
        if place is not None:
            hinting.shared = Shared(hinting.habits, place)
            hinting.shared.begin()
            context.on_close(hinting.shared.close)
        # Not on trial with its file: then it is shown a copy, and would not learn what comes of it.
        declared = execution_intercept(name="hints", kinds=["llm"], mode="enforce")
        context.use(declared(hinting.send).standing(Place.MARKS))


@dataclass(slots=True)
class _Run:
    """A run of an agent: how many requests it has made, and when the last was."""

    requests: int = 0
    last: float = 0.0


class Hinting:
    """Stands around the sending of each model call.

    Args:
        config: What the file says.
        clock: Seconds that only grow.
        applies: Whether requests get hints; else it only learns.
    """

    def __init__(self, config: HintsConfig, clock: Callable[[], float], *, applies: bool = True) -> None:
        self._config, self._clock, self._applies = config, clock, applies
        self._hosts = frozenset(host.lower() for host in config.hosts)
        self._runs: Bounded[_Run] = Bounded()
        self.habits = Habits()
        free_in_children(self.habits)
        self.shared: Shared | None = None

    def send(self, call: Any) -> Generator[Any, Any, None]:
        """Send `call`, with hints where its server takes them; an execution intercept."""
        if not self._is_named(call.record):
            yield call
            return
        agent = ""
        with guarded("giving a server hints"):
            agent, hints = self._look_at(call)
            if self._applies:
                self._give(call, hints)
        response = yield call
        with guarded("learning what an agent's answers are like"):
            usage = response.record.usage
            if agent and usage is not None and usage.output_tokens:
                with self.habits.lock:
                    answer(self.habits.of(agent), usage.output_tokens)
                if self.shared is not None:
                    self.shared.change()

    def _is_named(self, record: Any) -> bool:
        host = (record.server_address or "").lower()
        return host in self._hosts or f"{host}:{record.server_port}" in self._hosts

    def _look_at(self, call: Any) -> tuple[str, dict[str, Any]]:
        """Return which agent asks, and what is known of it; count the request."""
        name, depth, run = self._place_of(call)
        agent = blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
        now = self._clock()
        with self.habits.lock:
            counts = self.habits.of(agent)
            known = self._runs.get(run)
            known = _Run() if known is None else known
            self._runs.put(run, known)
            told = expected(counts, known.requests)
            ask(counts, known.requests, (now - known.last) * 1000 if known.requests else None)
            known.requests += 1
            known.last = now
            if self.shared is None:
                counts[:] = aged(counts)
        hints: dict[str, Any] = {**told, "prefix_id": f"{agent[:8]}-d{depth}"}
        sensitivity = _sensitivity_of(call.record.metadata) or self._config.sensitivity
        if sensitivity is not None:
            hints |= {SENSITIVITY: float(sensitivity), "priority": max(0, round(5 - sensitivity))}
        return agent, hints

    def _place_of(self, call: Any) -> tuple[str, int, int]:
        """Return the agent that asks, how many agents it is within, itself among them, and which run of it asks."""
        agents: list[Any] = []
        scope = call.scope
        while scope is not None:
            if scope.record.kind == "agent":
                agents.append(scope)
            scope = scope.parent
        if agents:
            return agents[0].agent_name, len(agents), hash(("agent", id(agents[0]), agents[0].started))
        return self._config.agent, 0, hash(("trace", call.root.span.get_span_context().trace_id))

    def _give(self, call: Any, hints: dict[str, Any]) -> None:
        """Put hints where the file says, unless the caller has put something there."""
        if self._config.header is not None:
            call.carried = {self._config.header: _json.dumps_text(hints)}
        if self._config.body:
            wire = call.outgoing()
            given = _with(wire, self._config.body.split("."), hints)
            if given is not None and "model" in wire:
                call.mark(given)


def _with(wire: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any] | None:
    """Return `wire` with `value` at `path`; None where something is there, or in the way."""
    name, *rest = path
    inner = wire.get(name)
    if not rest:
        return {**wire, name: value} if inner is None else None
    if inner is not None and not isinstance(inner, Mapping):
        return None
    made = _with(cast("Mapping[str, Any]", inner or {}), rest, value)
    return None if made is None else {**wire, name: made}


def _sensitivity_of(metadata: Mapping[str, Any] | None) -> float | None:
    said = (metadata or {}).get(SENSITIVITY)
    if isinstance(said, bool) or not isinstance(said, (int, float)):
        return None
    return min(max(float(said), 1.0), 10.0)
