"""A trajectory beside what the wire says a coding agent did: in which aspects the two differ, and where.

An aspect is one kind of fact (`ASPECTS`), so that a table can say which of them a source lacks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import dropwhile, zip_longest
from pathlib import Path
from typing import Any

ASPECTS = {
    "agent": "name, version and model of the agent",
    "order": "how many steps there are, and from whom each is",
    "questions": "what a user, or the system, said",
    "words": "what the model said",
    "reasoning": "what the model thought",
    "calls": "which tools the model called, by which ids",
    "arguments": "what it gave them",
    "results": "what the model was shown of their results",
    "failures": "which results are failures",
    "exit_codes": "the exit codes of commands, in the `extra` of a result",
    "tokens": "tokens of the prompt, of the answer and from the cache, of each call and in all",
    "token_details": "tokens written to the cache, and those of reasoning",
    "subagents": "which sub-agents there were, and which calls began them",
    "attempts": "the statuses of requests that were sent again, in `extra.otel.attempts` of the step",
}


def expected(folder: Path) -> dict[str, Any]:
    """Return what a scenario should become."""
    return json.loads((folder / "expected.json").read_bytes())


def differences(document: dict[str, Any], truth: dict[str, Any]) -> dict[str, list[str]]:
    """Return in which aspects a document is not what `expected.json` says, each with what differs, in words.

    A document of another run of the same script, which has a session of its own, has other ids in the same places.
    """
    if document.get("session_id") != truth["session_id"]:
        document, truth = _without_chance(document), _without_chance(_with_ids_of(document, truth))
    found: dict[str, list[str]] = {}
    for aspect, where, have, want in _compared(document, truth):
        assert aspect in ASPECTS
        if have != want and not (isinstance(have, str) and _LEFT_OUT.fullmatch(have)):
            found.setdefault(aspect, []).append(f"{where}: {have!r}, expected {want!r}")
    return found


def _with_ids_of(document: dict[str, Any], truth: dict[str, Any]) -> dict[str, Any]:
    """Return what is expected with the ids of another run."""
    changed = json.dumps(truth).replace(truth["session_id"], str(document.get("session_id")))
    for have, want in _paired_ids(document, truth):
        changed = changed.replace(want, have)
    return json.loads(changed)


def _paired_ids(document: dict[str, Any], truth: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the ids of calls and of sub-agents that stand in the same places."""
    for mine, its in zip(_by_agent(document["steps"]), _by_agent(truth["steps"]), strict=False):
        yield from zip(_calls(mine), _calls(its), strict=False)
    children = zip(document.get("subagent_trajectories") or [], truth.get("subagents") or [], strict=False)
    for mine, its in children:
        if agent := (mine["agent"].get("extra") or {}).get("id"):
            yield str(agent), its["agent_id"]
        yield from _paired_ids(mine, its)


def _without_chance(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without what programs draw, or measure, anew in each run and show their models."""
    return json.loads(_DRAWN.sub("", json.dumps(document)))


_DRAWN = re.compile(
    r"Chunk ID: \w+|Wall time: [0-9.]+ seconds|(?<=Process Group PGID: )\d+|(?<=duration_ms: )\d+"
    r'|(?<=nickname\\":\\")\w+'
)
_LEFT_OUT = re.compile(r"<vendor text, [^<>]*>")
"""What captures have in place of long texts that are not ours."""


def _after_preamble(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return steps without what the program says before the first question: the truth has no system prompts."""
    return list(dropwhile(lambda step: step["source"] == "system", steps))


Compared = Iterator[tuple[str, str, Any, Any]]
"""An aspect, where it is looked at, what is there, and what should be."""


def _compared(document: dict[str, Any], truth: dict[str, Any]) -> Compared:
    agent, known = document["agent"], truth["agent"]
    for name in ("name", "version", "model_name"):
        yield "agent", name, agent.get(name), known.get(name)
    yield from _compared_steps(document, truth, "")
    yield "attempts", "attempts", sorted(_attempts(document["steps"])), sorted(truth.get("failed_model_attempts") or [])
    yield from _compared_children(document, truth)


def _compared_steps(document: dict[str, Any], truth: dict[str, Any], place: str) -> Compared:
    have, want = _after_preamble(document["steps"]), truth["steps"]
    yield "order", f"{place}sources", [step["source"] for step in have], [step["source"] for step in want]
    for number, (mine, its) in enumerate(zip_longest(_others(have), _others(want)), 1):
        yield "questions", f"{place}question {number}", *_both(_said, mine, its)
    for number, (mine, its) in enumerate(zip_longest(_by_agent(have), _by_agent(want)), 1):
        yield from _compared_answers(mine or {}, its or {}, f"{place}answer {number}")
    yield "tokens", f"{place}totals", _own_totals(document), _totals(truth["final_metrics"])


def _compared_answers(mine: dict[str, Any], its: dict[str, Any], place: str) -> Compared:
    yield "words", place, *_both(_said, mine, its)
    yield "reasoning", place, mine.get("reasoning_content"), its.get("reasoning_content")
    have, want = _calls(mine), _calls(its)
    yield (
        "calls",
        place,
        *_both(lambda calls: [(key, call["function_name"]) for key, call in calls.items()], have, want),
    )
    results = {result.get("source_call_id"): result for result in (mine.get("observation") or {}).get("results") or []}
    for key in want:
        yield "arguments", f"{place}, {key}", have.get(key, {}).get("arguments"), want[key]["arguments"]
    for result in its.get("observation") or []:
        where, given = f"{place}, {result['source_call_id']}", results.get(result["source_call_id"]) or {}
        extra = given.get("extra") or {}
        yield "results", where, _words(given.get("content")), _words(result["content"])
        if "is_error" in result:
            yield "failures", where, extra.get("is_error") is True, result["is_error"]
        if "exit_code" in result:
            yield "exit_codes", where, extra.get("exit_code"), result["exit_code"]
    yield from _compared_metrics(mine.get("metrics") or {}, its.get("metrics") or {}, place)


def _compared_metrics(mine: dict[str, Any], its: dict[str, Any], place: str) -> Compared:
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        yield "tokens", f"{place}, {name}", mine.get(name), its.get(name)
    for name, value in (its.get("extra") or {}).items():
        yield "token_details", f"{place}, {name}", (mine.get("extra") or {}).get(name), value


def _compared_children(document: dict[str, Any], truth: dict[str, Any]) -> Compared:
    begun = _begun_by(document)
    children = {begun.get(child["trajectory_id"]): child for child in document.get("subagent_trajectories") or []}
    expected_children = {child["parent_tool_call_id"]: child for child in truth.get("subagents") or []}
    yield "subagents", "begun by", sorted(children, key=str), sorted(expected_children, key=str)
    for key, its in expected_children.items():
        mine = children.get(key)
        if mine is None:
            continue
        if its.get("agent_id"):
            yield "subagents", f"id of {key}", (mine["agent"].get("extra") or {}).get("id"), its["agent_id"]
        yield from _compared_steps(mine, its, f"sub-agent of {key}, ")


def _begun_by(document: dict[str, Any]) -> dict[str, str | None]:
    """Return the calls that began the sub-agents of a document, by the ids of these."""
    return {
        ref["trajectory_id"]: result.get("source_call_id")
        for step in document["steps"]
        for result in (step.get("observation") or {}).get("results") or []
        for ref in result.get("subagent_trajectory_ref") or []
    }


def _attempts(steps: list[dict[str, Any]]) -> Iterator[int]:
    for step in steps:
        for attempt in ((step.get("extra") or {}).get("otel") or {}).get("attempts") or []:
            yield attempt.get("error", {}).get("status_code")


def _both(of: Callable[[Any], Any], mine: Any, its: Any) -> tuple[Any, Any]:
    return of(mine), of(its)


def _by_agent(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [step for step in steps if step["source"] == "agent"]


def _others(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [step for step in steps if step["source"] != "agent"]


def _calls(step: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {call["tool_call_id"]: call for call in step.get("tool_calls") or []}


def _said(step: dict[str, Any] | None) -> Any:
    return _words(step.get("message")) if step else None


def _words(content: Any) -> Any:
    """Return content as text, blank space around it aside: the wire joins pieces with it that the agent adds."""
    if isinstance(content, list):
        content = "".join(part.get("text") or f"[{part.get('type')}]" for part in content)
    return content.strip() if isinstance(content, str) else content


_TOTALS = ("total_prompt_tokens", "total_completion_tokens", "total_cached_tokens")


def _totals(final: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(final.get(name) for name in _TOTALS)


def _own_totals(document: dict[str, Any]) -> tuple[Any, ...]:
    """Return the totals of a document's own steps: those of its sub-agents are in what it says in all."""
    final = document["final_metrics"]
    own = (final.get("extra") or {}).get("own")
    return _totals(final) if own is None else tuple(own.get(name.removeprefix("total_")) for name in _TOTALS)
