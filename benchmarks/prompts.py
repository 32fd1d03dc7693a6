"""Prompts of agents at work: generated workloads, an agent of LangGraph that is run, and recorded sessions.

All are requests of the Messages API without any mark, and when each is sent.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

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


def drawn(seed: int, model: str) -> list[Session]:
    """Return a workload of 10 to 1 200 calls that is drawn by lot: a number each of many shapes of agents."""
    chance = random.Random(seed)
    pick = chance.choice
    number, calls = pick([1, 2, 3, 5, 10, 30, 60]), pick([1, 2, 3, 5, 10, 20])
    tools, system = pick([0, 300, 1500, 4000]), pick([200, 1000, 3000, 8000])
    mean = pick([5, 20, 60, 200, 280, 330, 600, 1500, 4000])
    least, most = mean * chance.uniform(0.3, 1), mean * chance.uniform(1, 1.7)
    every, is_shared = pick([0, 5, 30, 120, 290, 400, 1500, 4000]), pick([False, True, True])
    tokens, uses_tools, blocks = pick([50, 300, 1000]), pick([True, False]), pick([1, 3, 14])

    def bodies(chance: random.Random, at: int) -> list[Body]:
        scaffold = _scaffold(model, tools, system, "s" if is_shared else f"s{at}")
        if uses_tools:
            return _by_tools(scaffold, calls, tokens, (1, blocks))(chance, at)
        return _by_words(scaffold, calls, tokens)(chance, at)

    return _sessions(max(number, -(-10 // calls)), every, lambda chance: chance.uniform(least, most), bodies)


# --- an agent that is run ----------------------------------------------------------------------------------------


def langgraph(model: str, sessions: int = 6, rounds: int = 12) -> list[Session]:
    """Return what an agent of LangGraph asks its model, with a question and more rounds of tools each time."""
    from langchain.agents import create_agent
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult
    from langchain_core.tools import tool

    asked: list[Body] = []
    chance = random.Random(7)
    scaffold = _scaffold(model, 1000, 5000, "look_up")

    class Recorded(BaseChatModel):
        """Notes what it is asked, and asks for a tool until there were enough."""

        wanted: int = rounds

        @property
        def _llm_type(self) -> str:
            return "recorded"

        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return self

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
            said = [_as_anthropic(message) for message in messages]
            asked.append({**scaffold, "messages": said})
            done = sum(message.type == "tool" for message in messages)
            call = {"name": "look_up", "args": {"what": _text(40, chance)}, "id": f"call_{done}"}
            more = done < self.wanted
            answer = AIMessage(_text(60, chance), tool_calls=[call] if more else [])
            return ChatResult(generations=[ChatGeneration(message=answer)])

    @tool
    def look_up(what: str) -> str:
        """Look something up."""
        return _text(len(what) * 4, chance)

    made: list[Session] = []
    for at in range(sessions):
        asked.clear()
        agent: Any = create_agent(Recorded(wanted=rounds + at), [look_up])
        agent.invoke({"messages": [("user", _text(100, chance))]}, {"recursion_limit": 100})
        made.append(Session(at * 200.0, list(asked), [chance.uniform(4, 20) for _ in asked[1:]]))
    return made


def _as_anthropic(message: Any) -> Body:
    """A message of LangChain as the Messages API takes it."""
    if message.type == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}
        return {"role": "user", "content": [result]}
    calls = getattr(message, "tool_calls", ())
    uses = [{"type": "tool_use", "id": call["id"], "name": call["name"], "input": call["args"]} for call in calls]
    return {
        "role": "assistant" if message.type == "ai" else "user",
        "content": [{"type": "text", "text": message.content}, *uses],
    }


# --- what was recorded -------------------------------------------------------------------------------------------

_LEFT_OUT = re.compile(r"<vendor [a-z ]*, ([\d,]+) chars>")
"""What stands in a capture for a vendor's text of so many characters."""


def recorded(model: str, shared: Path) -> dict[str, list[Session]]:
    """Return sessions that were recorded, of those that are there, without the marks that their programs set."""
    found = {
        "recorded runs of agents, small": list(_groups(shared / "traffic", model)),
        "recorded coding agent, 12 k scaffold": list(_captured(shared / "cli-captures", model)),
    }
    apart = {
        name: [Session(at * 180.0, one.bodies, one.gaps) for at, one in enumerate(sessions)]
        for name, sessions in found.items()
    }
    return {name: sessions for name, sessions in apart.items() if sessions}


def _groups(traffic: Path, model: str) -> Iterator[Session]:
    """The recorded runs of more than one exchange."""
    groups: dict[str, list[Body]] = {}
    for file in sorted(traffic.glob("anthropic_messages.jsonl")):
        for line in file.read_text().splitlines():
            exchange = json.loads(line)
            groups.setdefault(exchange["group"], []).append(exchange["request"]["body"])
    for bodies in groups.values():
        if len(bodies) > 1:
            yield Session(0, [{**_without_marks(body), "model": model} for body in bodies], [5.0] * (len(bodies) - 1))


def _captured(captures: Path, model: str) -> Iterator[Session]:
    """The sessions of the coding agents that speak this API; what was left out of them is as long as it was."""
    for file in sorted(captures.glob("claude/**/gateway.jsonl")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        asked = [line for line in lines if isinstance(line["body"], dict) and "_same" not in json.dumps(line["body"])]
        asked = [line for line in asked if line["body"].get("messages")]
        if not asked:
            continue
        first: Body = asked[0]["body"]
        bodies: list[Body] = []
        for line in asked:
            body = {
                key: first[key] if str(value).startswith("<as in") else value for key, value in line["body"].items()
            }
            bodies.append({**_filled(_without_marks(body)), "model": model})
        times = [line["t"] for line in asked]
        yield Session(0, bodies, [max(then - now, 0.1) for now, then in pairwise(times)])


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        members = cast("Body", value)
        return {key: _without_marks(item) for key, item in members.items() if key != "cache_control"}
    return [_without_marks(item) for item in cast("Iterable[Any]", value)] if isinstance(value, list) else value


def _filled(value: Any) -> Any:
    """The same with a text of its length for each that was left out."""
    if isinstance(value, str):
        return _LEFT_OUT.sub(lambda left: "v" * int(left[1].replace(",", "")), value)
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in cast("Body", value).items()}
    return [_filled(item) for item in cast("Iterable[Any]", value)] if isinstance(value, list) else value
