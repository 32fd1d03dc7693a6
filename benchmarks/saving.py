"""What marks of prompt caches save: workloads of agents against a provider that caches by its published rules.

Nothing is measured here but tokens, so the figures are the same on every machine.
"""

from __future__ import annotations

import heapq
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.trace import INVALID_SPAN, Span

from benchmarks.environments import ROOT, Environment
from benchmarks.prompts import Body, Session, langgraph, recorded, workloads
from spanrelay.codecs import anthropic_messages
from spanrelay.plugins.prompt_cache.governor import Governor
from spanrelay.records import ModelResponse, SpanRecord, Usage
from spanrelay_testkit.prompt_caching import Answered, CachingProvider, Prices

FIRST_BYTE_S, ANSWER_S = 1.5, 4.0
"""Seconds from a request to the first byte of its answer, and to the last one."""
READ_PER_S = 10_000
"""Tokens of a prompt that a provider reads in a second, where it has none of them in its cache; an assumption."""
MODELS: dict[str, Prices] = {
    "claude-sonnet-5": Prices(1024, 0.1),
    "claude-sonnet-5-5": Prices(512, 0.05),
}


# --- strategies --------------------------------------------------------------------------------------------------


class Asked:
    """A request on its way: what the pipeline has of a call, as far as a governor looks at it.

    Attributes:
        is_last: Whether its session ends with it; only NeMo Relay's governor learns of that.
    """

    def __init__(self, body: Body, *, is_last: bool = False) -> None:
        self.is_last = is_last
        self.codec = anthropic_messages
        self.record = SpanRecord(0, 0)
        self.span: Span = INVALID_SPAN
        self.scope = None
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


def last_message(call: Asked) -> Iterator[Any]:
    """Mark the last block of the last message, as programs do that follow a simple rule."""
    body = call.outgoing()
    *before, last = body["messages"]
    content = last["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    blocks[-1] = {**blocks[-1], "cache_control": {"type": "ephemeral"}}
    call.mark({**body, "messages": [*before, {**last, "content": blocks}]})
    yield call


def relay_rules(minimum: int) -> Strategy:
    """Return NeMo Relay's rules for a model that it knows: a mark at the last tool, once three calls are behind it.

    A call counts when its run has ended, for its model, tools and system prompt. `report_of_relay` has the package
    itself beside this.
    """
    seen: Counter[str] = Counter()

    def ask(call: Asked) -> Iterator[Any]:
        body = call.outgoing()
        tools = body.get("tools")
        scaffold = json.dumps([tools, body.get("system")])
        if tools and seen[scaffold] >= 3 and len(json.dumps(tools)) // 4 >= minimum:
            marked = [*tools[:-1], {**tools[-1], "cache_control": {"type": "ephemeral"}}]
            call.mark({**body, "tools": marked})
        yield call
        running[scaffold] += 1
        if call.is_last:
            seen.update(running)
            running.clear()

    running: Counter[str] = Counter()
    return ask


class Clock:
    """What time it is in a workload."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds since it began."""
        return self.now


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the input of a workload came to, in percent of what it does where nothing is cached.

    Attributes:
        cost: What it costs.
        time: The time to the first token, as far as reading the prompt and waiting for other calls makes it.
    """

    cost: float
    time: float


def outcome(
    sessions: list[Session],
    prices: Prices,
    strategy: Strategy,
    clock: Clock,
    provides: Callable[[Prices, float], CachingProvider] = CachingProvider,
) -> Outcome:
    """Send all requests, each when it is due."""
    provider = provides(prices, FIRST_BYTE_S)
    numbers = itertools.count()
    events: list[tuple[float, int, Callable[[], None]]] = []
    answers: list[Answered] = []
    waited = 0.0

    def at(time: float, do: Callable[[], None]) -> None:
        heapq.heappush(events, (time, next(numbers), do))

    def start(session: Session, index: int) -> None:
        call = Asked(session.bodies[index], is_last=index + 1 == len(session.bodies))
        go_on(session, index, call, strategy(call), None)

    def go_on(session: Session, index: int, call: Asked, steps: Any, value: Any) -> None:
        nonlocal waited
        try:
            effect = steps.send(value)
        except StopIteration:
            if index + 1 < len(session.bodies):
                at(clock.now + session.gaps[index], lambda: start(session, index + 1))
            return
        if effect is not call:  # it waits for the first byte of another
            effect.close()
            waited += FIRST_BYTE_S
            at(clock.now + FIRST_BYTE_S, lambda: go_on(session, index, call, steps, None))
            return
        answered = provider.ask(call.outgoing(), clock.now)
        answers.append(answered)
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
    total = sum(answered.total for answered in answers)
    new = total - sum(answered.read for answered in answers) + waited * READ_PER_S
    return Outcome(100 * sum(answered.cost(prices) for answered in answers) / total, 100 * new / total)


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
        costs = [outcome(sessions, prices, relay(sessions, model), Clock()).cost for model, prices in models.items()]
        lines.append(f"| {name} | {' | '.join(f'{cost:.1f}' for cost in costs)} |")
    return "\n".join(lines)


STRATEGIES: dict[str, Callable[[Clock, Prices], Strategy]] = {
    "automatic": lambda *_: automatic("5m"),
    "automatic, 1h": lambda *_: automatic("1h"),
    "last message": lambda *_: last_message,
    "NeMo Relay": lambda _, prices: relay_rules(prices.minimum),
    "prompt_cache": lambda clock, _: Governor(applies=True, clock=clock).govern,
}


def outcomes(sessions: list[Session], prices: Prices) -> dict[str, Outcome]:
    """Return what each strategy makes of a workload."""
    found: dict[str, Outcome] = {}
    for name, make in STRATEGIES.items():
        clock = Clock()
        found[name] = outcome(sessions, prices, make(clock, prices), clock)
    return found


def report(model: str, prices: Prices, of: dict[str, list[Session]]) -> str:
    """Return a table as it stands in `docs/adaptive.md`: each cell has the cost and the time to the first token."""
    lines = [f"| {model} | {' | '.join(STRATEGIES)} |", f"|---|{'---:|' * len(STRATEGIES)}"]
    for name, sessions in of.items():
        cells = (f"{each.cost:.1f} · {each.time:.0f}" for each in outcomes(sessions, prices).values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def replayed(model: str) -> dict[str, list[Session]]:
    """Return the workloads that are no formula: an agent that is run, and sessions that were recorded."""
    return {"agent of LangGraph, 6 runs of 13 to 18 calls": langgraph(model), **recorded(model, ROOT.parent / "shared")}


def reports() -> str:
    """Return all tables."""
    return "\n\n".join(
        report(model, prices, {**workloads(model), **replayed(model)}) for model, prices in MODELS.items()
    )
