"""What marks of prompt caches save: workloads of agents against a provider that caches by its published rules.

Nothing is measured here but tokens, so the figures are the same on every machine.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import Environment
from spanrelay.codecs import anthropic_messages
from spanrelay.plugins.prompt_cache.governor import Governor
from spanrelay.records import ModelResponse, SpanRecord, Usage
from spanrelay_testkit.prompt_caching import CachingProvider, Prices

FIRST_BYTE_S, ANSWER_S = 1.5, 4.0
"""Seconds from a request to the first byte of its answer, and to the last one."""
MODELS: dict[str, Prices] = {
    "claude-sonnet-5": Prices(1024, 0.1),
    "claude-sonnet-5-5": Prices(512, 0.05),
}
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation: when it starts, what each of its requests is, and the seconds between them."""

    start: float
    bodies: list[Body]
    gaps: list[float]


# --- workloads ---------------------------------------------------------------------------------------------------


def _text(tokens: int, chance: random.Random) -> str:
    return f"{chance.random():.12f} ".ljust(tokens * 4, "x")


def _tool(tokens: int, name: str) -> Body:
    return {"name": name, "description": "d" * tokens * 4, "input_schema": {"type": "object"}}


def _said(text: str) -> Body:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def _scaffold(model: str, tools: int, system: int, name: str = "s") -> Body:
    parts = {"tools": [_tool(tools, name)]} if tools else {}
    return {"model": model, "max_tokens": 100, **parts, "system": f"{name} ".ljust(system * 4, "s")}


def _tools_turn(number: int, blocks: int, tokens: int, chance: random.Random) -> list[Body]:
    """An answer that asks for tools, and their results."""
    ids = [f"toolu_{number}_{at}" for at in range(blocks)]
    uses = [{"type": "tool_use", "id": each, "name": "run", "input": {"q": _text(20, chance)}} for each in ids]
    results = [{"type": "tool_result", "tool_use_id": each, "content": _text(tokens, chance)} for each in ids]
    return [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]


def _words_turn(tokens: int, chance: random.Random) -> list[Body]:
    """An answer in words, and what is said to it."""
    answer = {"role": "assistant", "content": [{"type": "text", "text": _text(tokens, chance)}]}
    return [answer, _said(_text(tokens // 2, chance))]


def _grown(scaffold: Body, opening: int, turns: Iterator[list[Body]], chance: random.Random) -> list[Body]:
    """The requests of a conversation: an opening, and one more after each turn."""
    messages = [_said(_text(opening, chance))]
    bodies = [{**scaffold, "messages": list(messages)}]
    for turn in turns:
        messages += turn
        bodies.append({**scaffold, "messages": list(messages)})
    return bodies


def _sessions(
    number: int,
    every: float,
    gap: Callable[[random.Random], float],
    bodies: Callable[[random.Random, int], list[Body]],
) -> list[Session]:
    chance = random.Random(7)
    made: list[Session] = []
    for at in range(number):
        asked = bodies(chance, at)
        made.append(Session(at * every, asked, [gap(chance) for _ in asked[1:]]))
    return made


def _by_tools(scaffold: Body, calls: int, tokens: int, blocks: tuple[int, int] = (1, 1)) -> Any:
    """Conversations of an agent that runs tools."""

    def made(chance: random.Random, _at: int) -> list[Body]:
        turns = (_tools_turn(n, chance.randint(*blocks), tokens, chance) for n in range(calls - 1))
        return _grown(scaffold, 200, turns, chance)

    return made


def _by_words(scaffold: Body, calls: int, tokens: int) -> Any:
    """Conversations of people."""

    def made(chance: random.Random, _at: int) -> list[Body]:
        return _grown(scaffold, 200, (_words_turn(tokens, chance) for _ in range(calls - 1)), chance)

    return made


def _by_the_clock(model: str, calls: int) -> Any:
    """Conversations whose system prompt says the time, so that no request begins as the one before."""

    def made(chance: random.Random, at: int) -> list[Body]:
        bodies = _by_tools(_scaffold(model, 4000, 2000), calls, 600)(chance, at)
        return [{**body, "system": f"{at} {number} {body['system']}"} for number, body in enumerate(bodies)]

    return made


def workloads(model: str) -> dict[str, list[Session]]:
    """Return the workloads, the same each time."""
    quick: Callable[[random.Random], float] = lambda chance: chance.uniform(6, 30)  # noqa: E731 - as the next
    pause: Callable[[random.Random], float] = lambda chance: chance.uniform(360, 1200)  # noqa: E731 - one line each
    own = _scaffold
    fan = _sessions(100, 0, quick, _by_tools(own(model, 2000, 6000), 4, 600))
    return {
        "coding agent, 12 k scaffold, 8 sessions of 40 calls": _sessions(
            8, 1500, quick, _by_tools(own(model, 4000, 8000), 40, 700)
        ),
        "support bot, 6 k scaffold, 200 sessions of 3 calls": _sessions(
            200, 45, quick, _by_words(own(model, 1500, 4500), 3, 300)
        ),
        "fan-out, 10 sub-agents at once, 8 k scaffold": [
            Session((at // 10) * 400.0, each.bodies, each.gaps) for at, each in enumerate(fan)
        ],
        "parallel tools, 24 to 40 blocks a turn": _sessions(
            12, 400, quick, _by_tools(own(model, 1000, 1000), 12, 60, (12, 20))
        ),
        "people answer after 6 to 20 minutes, 10 turns": _sessions(
            12, 500, pause, _by_words(own(model, 500, 2500), 10, 600)
        ),
        "one-shot calls, nothing shared, 800 tokens": _sessions(
            300, 5, quick, lambda chance, at: _grown(own(model, 0, 500, f"s{at}"), 300, iter(()), chance)
        ),
        "one-shot calls, nothing shared, 3 k tokens": _sessions(
            300, 5, quick, lambda chance, at: _grown(own(model, 0, 2000, f"s{at}"), 1000, iter(()), chance)
        ),
        "system prompt that says the time, 4 k of tools": _sessions(12, 400, quick, _by_the_clock(model, 12)),
        "one-shot questions on a 6 k system prompt": _sessions(300, 20, quick, _by_words(own(model, 150, 6000), 1, 0)),
    }


# --- strategies --------------------------------------------------------------------------------------------------


class Asked:
    """A request on its way: what the pipeline has of a call, as far as a governor looks at it."""

    def __init__(self, body: Body) -> None:
        self.codec = anthropic_messages
        self.record = SpanRecord(0, 0)
        self.begun: Callable[[], None] | None = None
        self._body: Mapping[str, Any] = body

    @property
    def root(self) -> Asked:
        """It is no branch."""
        return self

    def outgoing(self) -> Mapping[str, Any]:
        """What is to be sent."""
        return self._body

    def mark(self, wire: Mapping[str, Any]) -> None:
        """Send `wire`."""
        self._body = wire


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back."""

    record: ModelResponse


Strategy = Callable[[Any], Iterator[Any]]
"""An execution intercept."""


def unmarked(call: Asked) -> Iterator[Any]:
    """Send what the application wrote."""
    yield call


def automatic(ttl: str) -> Strategy:
    """Return the provider's automatic caching, which marks the last block of each request."""

    def ask(call: Asked) -> Iterator[Any]:
        call.mark({**call.outgoing(), "cache_control": {"type": "ephemeral", "ttl": ttl}})
        yield call

    return ask


class Clock:
    """What time it is in a workload."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds since it began."""
        return self.now


def input_cost(sessions: list[Session], prices: Prices, strategy: Strategy, clock: Clock) -> float:
    """Return what the input of all requests costs, in percent of what it costs where nothing is cached."""
    provider = CachingProvider(prices, FIRST_BYTE_S)
    numbers = itertools.count()
    events: list[tuple[float, int, Callable[[], None]]] = []
    costs: list[tuple[float, int]] = []

    def at(time: float, do: Callable[[], None]) -> None:
        heapq.heappush(events, (time, next(numbers), do))

    def start(session: Session, index: int) -> None:
        call = Asked(session.bodies[index])
        go_on(session, index, call, strategy(call), None)

    def go_on(session: Session, index: int, call: Asked, steps: Any, value: Any) -> None:
        try:
            effect = steps.send(value)
        except StopIteration:
            if index + 1 < len(session.bodies):
                at(clock.now + session.gaps[index], lambda: start(session, index + 1))
            return
        if effect is not call:  # it waits for the first byte of another
            effect.close()
            at(clock.now + FIRST_BYTE_S, lambda: go_on(session, index, call, steps, None))
            return
        answered = provider.ask(call.outgoing(), clock.now)
        costs.append((answered.cost(prices), answered.total))
        written = sum(answered.written.values())
        hour = answered.written.get("1h")
        usage = Usage(answered.total, 1, None, answered.read, written, cache_write_1h_tokens=hour)
        answer = Answer(ModelResponse(usage=usage))
        if call.begun is not None:
            at(clock.now + FIRST_BYTE_S, call.begun)
        at(clock.now + ANSWER_S, lambda: go_on(session, index, call, steps, answer))

    def begin(session: Session) -> None:
        at(session.start, lambda: start(session, 0))

    for session in sessions:
        begin(session)
    while events:
        clock.now, _, do = heapq.heappop(events)
        do()
    return 100 * sum(cost for cost, _ in costs) / sum(total for _, total in costs)


RELAY = Environment("nemo-relay-governor", ("nemo-relay==0.10.4",))
RELAY_KNOWS = "claude-sonnet-4-5"
"""A model of the rules and prices of `claude-sonnet-5`, whose name the package knows."""


def relay(sessions: list[Session], model: str) -> Strategy:
    """Return what NeMo Relay's own package makes of the requests; each session learns from those before it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sessions.json")
        file.write_text(json.dumps([[{**body, "model": model} for body in session.bodies] for session in sessions]))
        RELAY.run("benchmarks.relay_marks", str(file), timeout=600)
        found = json.loads(file.read_text())
    sent = {
        id(body): one
        for session, ones in zip(sessions, found, strict=True)
        for body, one in zip(session.bodies, ones, strict=True)
    }

    def ask(call: Asked) -> Iterator[Any]:
        body = call.outgoing()
        if (made := sent[id(body)]) is not None:
            call.mark({**made, "model": body["model"]})
        yield call

    return ask


def report_of_relay() -> str:
    """Return what the package's own marks cost, by the name that it is told of the model."""
    models = {RELAY_KNOWS: MODELS["claude-sonnet-5"], **MODELS}
    lines = [f"| NeMo Relay 0.10.4 | {' | '.join(models)} |", f"|---|{'---:|' * len(models)}"]
    for name, sessions in workloads("claude-sonnet-5").items():
        costs = [input_cost(sessions, prices, relay(sessions, model), Clock()) for model, prices in models.items()]
        lines.append(f"| {name} | {' | '.join(f'{cost:.1f}' for cost in costs)} |")
    return "\n".join(lines)


STRATEGIES: dict[str, Callable[[Clock], Strategy]] = {
    "automatic": lambda _: automatic("5m"),
    "automatic, 1h": lambda _: automatic("1h"),
    "prompt_cache": lambda clock: Governor(applies=True, clock=clock).govern,
}


def costs_of(model: str) -> dict[str, dict[str, float]]:
    """Return the input's cost by workload and strategy."""
    found: dict[str, dict[str, float]] = {}
    for name, sessions in workloads(model).items():
        found[name] = {}
        for strategy, make in STRATEGIES.items():
            clock = Clock()
            found[name][strategy] = input_cost(sessions, MODELS[model], make(clock), clock)
    return found


def report() -> str:
    """Return the tables, as they stand in `docs/adaptive.md`."""
    lines: list[str] = []
    for model in MODELS:
        lines += [f"| {model} | {' | '.join(STRATEGIES)} |", f"|---|{'---:|' * len(STRATEGIES)}"]
        for name, costs in costs_of(model).items():
            lines.append(f"| {name} | {' | '.join(f'{cost:.1f}' for cost in costs.values())} |")
        lines.append("")
    return "\n".join(lines)
