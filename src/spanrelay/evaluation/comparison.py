"""How two trajectories differ: step by step and field by field, sub-agents beneath the steps that they belong to.

Pure. Ids and times never count: two runs of the same program have others. A call is known by its place in its step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import zip_longest
from typing import Any, Final, cast

from spanrelay import _json
from spanrelay.assembly.atif import Step, Trajectory
from spanrelay.evaluation.alignment import aligned
from spanrelay.records import JSON


class Absent:
    """Stands for a value that only the other document has."""


ABSENT: Final = Absent()

IDS_AND_TIMES = frozenset(
    {
        *("otel", "invocation", "ancestry", "original_tool_call_id", "system_fingerprint"),
        *("duration_sec", "time_to_first_token_ms", "latency_ms"),
    }
)
"""Members of an `extra` that are others in every run: of our documents, and of the NeMo Agent Toolkit's."""


@dataclass(slots=True)
class Difference:
    """A field of a step or of a head, and what each of the two has there."""

    path: str
    left: JSON | Absent
    right: JSON | Absent


@dataclass(slots=True)
class StepDifference:
    """Two steps that belong together, or one that only one document has; `children` are their sub-agents."""

    left: Step | None
    right: Step | None
    fields: list[Difference] = field(default_factory=list[Difference])
    children: list[Comparison] = field(default_factory=list["Comparison"])

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return self.left is None or self.right is None or bool(self.fields) or any(self.children)


@dataclass(slots=True)
class Comparison:
    """Two documents, or one that only one side has: what differs in their heads, and in which steps.

    `unplaced` are sub-agents that no step refers to.
    """

    left: Trajectory | None
    right: Trajectory | None
    head: list[Difference] = field(default_factory=list[Difference])
    steps: list[StepDifference] = field(default_factory=list[StepDifference])
    unplaced: list[Comparison] = field(default_factory=list["Comparison"])

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return self.left is None or self.right is None or bool(self.head or self.steps or self.unplaced)


def compare(left: Trajectory, right: Trajectory, *, everything: bool = False) -> Comparison:
    """Return how two documents differ.

    With `everything` also in the agent's version, in how tools are described, and in what stands in an `extra`.
    """
    found = Comparison(left, right, list(_differences(_head(left, everything), _head(right, everything))))
    ours, yours = _Children(left), _Children(right)
    keys = (partial(_fingerprint, everything=everything), _shape, _source)
    for mine, other in aligned(left.steps, right.steps, keys):
        told = StepDifference(mine, other)
        if mine is not None and other is not None:
            told.fields += _differences(_plain(mine, everything), _plain(other, everything))
        told.children += _compared(ours.of(mine), yours.of(other), everything)
        if told:
            found.steps.append(told)
    found.unplaced += _compared(ours.rest(), yours.rest(), everything)
    return found


def _compared(left: list[Trajectory], right: list[Trajectory], everything: bool) -> list[Comparison]:
    found = [_both(mine, other, everything) for mine, other in zip_longest(left, right)]
    return [told for told in found if told]


def _both(left: Trajectory | None, right: Trajectory | None, everything: bool) -> Comparison:
    if left is None or right is None:
        return Comparison(left, right)
    return compare(left, right, everything=everything)


class _Children:
    """The documents that one embeds, by the steps whose results refer to them; each is given out once."""

    def __init__(self, document: Trajectory) -> None:
        self._left = {child.trajectory_id: child for child in document.subagent_trajectories or []}

    def of(self, step: Step | None) -> list[Trajectory]:
        results = step.observation.results if step is not None and step.observation else []
        names = [ref.trajectory_id for result in results for ref in result.subagent_trajectory_ref or []]
        return [self._left.pop(name) for name in names if name in self._left]

    def rest(self) -> list[Trajectory]:
        return list(self._left.values())


# ── what counts of a document


def _head(document: Trajectory, everything: bool) -> dict[str, Any]:
    agent: dict[str, Any] = document.agent.to_json()
    definitions = cast("list[dict[str, Any]]", agent.pop("tool_definitions", []))
    tools = {_tool_name(tool, place): tool for place, tool in enumerate(definitions)}
    if not everything:  # how a tool is described, and which build of an agent ran, are nothing that was said
        agent.pop("version", None)
        tools = dict.fromkeys(tools, "offered")
    agent["tool_definitions"] = tools
    final = document.final_metrics.to_json() if document.final_metrics else {}
    head = {"schema_version": document.schema_version, "agent": agent, "final_metrics": final}
    head.update(notes=document.notes or "", extra=document.extra or {})
    return _without_extra(head, everything)


def _tool_name(tool: dict[str, Any], place: int) -> str:
    function: dict[str, Any] = tool["function"] if isinstance(tool.get("function"), dict) else tool
    return str(function.get("name") or place)


def _plain(step: Step, everything: bool) -> dict[str, Any]:
    """A step as its content: without ids and times, the results of a call beside it."""
    found: dict[str, Any] = step.to_json()
    for name in ("step_id", "timestamp", "observation"):
        found.pop(name, None)
    calls: dict[str, dict[str, Any]] = {}
    for call in found.get("tool_calls", []):
        calls.setdefault(call.pop("tool_call_id"), call)
    for result in step.observation.results if step.observation else []:
        told: dict[str, Any] = result.to_json()
        call = calls.get(told.pop("source_call_id", None) or "", found)
        told.pop("subagent_trajectory_ref", None)
        call.setdefault("results", []).append(told)
    return _without_extra(found, everything)


def _without_extra(value: Any, everything: bool) -> Any:
    """An object of the schema and those in it without `extra`, or without its ids and times."""
    if isinstance(value, list):
        return [_without_extra(item, everything) for item in cast("list[Any]", value)]
    if not isinstance(value, Mapping):
        return value
    found: dict[str, Any] = {}
    for name, item in cast("Mapping[str, Any]", value).items():
        if name in ("arguments", "tool_definitions"):
            found[name] = item
        elif name != "extra":
            found[name] = _without_extra(item, everything)
        elif everything and isinstance(item, Mapping):
            kept = {key: each for key, each in cast("Mapping[str, Any]", item).items() if key not in IDS_AND_TIMES}
            found.update({name: kept} if kept else {})
    return found


def _fingerprint(step: Step, everything: bool) -> bytes:
    return blake2b(_json.dumps_sorted(_plain(step, everything)).encode(), digest_size=16).digest()


def _shape(step: Step) -> tuple[str, ...]:
    return (step.source, *(call.function_name for call in step.tool_calls or []))


def _source(step: Step) -> str:
    return step.source


# ── values


def _differences(left: Any, right: Any, path: str = "", depth: int = 0) -> Iterator[Difference]:
    if depth <= _json.MAX_DEPTH and isinstance(left, dict) and isinstance(right, dict):
        mine, yours = cast("dict[str, Any]", left), cast("dict[str, Any]", right)
        for name in {**mine, **yours}:
            where = f"{path}.{name}" if path else name
            yield from _differences(mine.get(name, ABSENT), yours.get(name, ABSENT), where, depth + 1)
    elif depth <= _json.MAX_DEPTH and isinstance(left, list) and isinstance(right, list):
        pairs = zip_longest(cast("list[Any]", left), cast("list[Any]", right), fillvalue=ABSENT)
        for place, (mine, other) in enumerate(pairs):
            yield from _differences(mine, other, f"{path}[{place}]", depth + 1)
    elif not _same(left, right):
        yield Difference(path, left, right)


def _same(left: Any, right: Any) -> bool:
    """Whether two values are the same: a sum of floats may be another in its last digit."""
    if isinstance(left, float) and isinstance(right, float):
        return left == right or math.isclose(left, right, rel_tol=1e-9)
    return isinstance(left, bool) == isinstance(right, bool) and left == right
