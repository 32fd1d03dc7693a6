"""Calls, tokens, cost, time and failures by agent, model and tool, added up document by document.

Nothing is estimated: what no document says is None, and what a document says in several ways counts once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar, cast

from spanrelay.assembly.atif import Metrics, ObservationResult, Step, ToolCall, Trajectory, family, moment_of
from spanrelay.evaluation.caches import CacheFigures, told_of
from spanrelay.evaluation.durations import Durations
from spanrelay.records import JSON

UNKNOWN = "unknown"
"""The name of a model that no document names."""

FAILED = ("is_error", "tool_result_is_error", "error")
"""What marks a tool's result as failed in an `extra`: ours, and those of Harbor's converters."""


@dataclass(slots=True)
class Figures:
    """What is known of an agent, a model or a tool. `calls` are the model's or the tool's; an agent has both."""

    runs: int = 0
    calls: int = 0
    tool_calls: int = 0
    errors: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    priced_calls: int = 0
    durations: Durations = field(default_factory=Durations)

    @property
    def cached_share(self) -> float | None:
        """The share of the prompt's tokens that came from a cache; None where no document says."""
        return (
            self.cached_tokens / self.prompt_tokens if self.cached_tokens is not None and self.prompt_tokens else None
        )

    @property
    def error_rate(self) -> float | None:
        """The share of calls that failed; None where there was none."""
        calls = self.calls + self.tool_calls
        return self.errors / calls if calls else None

    def spend(self, metrics: Metrics | None, calls: int = 1) -> None:
        """Add tokens and cost, as far as they are known."""
        if metrics is None:
            return
        self.prompt_tokens = _added(self.prompt_tokens, metrics.prompt_tokens)
        self.completion_tokens = _added(self.completion_tokens, metrics.completion_tokens)
        self.cached_tokens = _added(self.cached_tokens, metrics.cached_tokens)
        if metrics.cost_usd is not None and math.isfinite(metrics.cost_usd):
            self.cost_usd = (self.cost_usd or 0) + metrics.cost_usd
            self.priced_calls += calls

    def merge(self, other: Figures) -> None:
        """Add what others come to."""
        self.runs += other.runs
        self.calls += other.calls
        self.tool_calls += other.tool_calls
        self.errors += other.errors
        self.prompt_tokens = _added(self.prompt_tokens, other.prompt_tokens)
        self.completion_tokens = _added(self.completion_tokens, other.completion_tokens)
        self.cached_tokens = _added(self.cached_tokens, other.cached_tokens)
        self.cost_usd = _added(self.cost_usd, other.cost_usd)
        self.priced_calls += other.priced_calls
        for seconds, times in other.durations.items():
            self.durations.add(seconds, times)

    def to_json(self) -> dict[str, JSON]:
        """Return every figure under its name; times in seconds."""
        return {
            "runs": self.runs,
            "calls": self.calls,
            "tool_calls": self.tool_calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cached_tokens": self.cached_tokens,
            "cached_share": self.cached_share,
            "cost_usd": self.cost_usd,
            "priced_calls": self.priced_calls,
            "latency_p50_sec": self.durations.at(0.5),
            "latency_p95_sec": self.durations.at(0.95),
            "timed": self.durations.count,
            "errors": self.errors,
            "error_rate": self.error_rate,
        }


N = TypeVar("N", int, float)


def _added(total: N | None, more: N | None) -> N | None:
    return total if more is None else more if total is None else total + more


@dataclass(slots=True)
class Tally:
    """The figures of all documents that were added: by agent, model and tool, and of everything.

    Those of prompt caches are by model and scaffold, where anything is told of them.
    """

    documents: int = 0
    agents: dict[str, Figures] = field(default_factory=dict[str, Figures])
    models: dict[str, Figures] = field(default_factory=dict[str, Figures])
    tools: dict[str, Figures] = field(default_factory=dict[str, Figures])
    caches: dict[str, CacheFigures] = field(default_factory=dict[str, CacheFigures])
    total: Figures = field(default_factory=Figures)

    def add(self, document: Trajectory) -> None:
        """Take in a document and all that it embeds; nothing of it is kept but sums."""
        self.documents += 1
        documents = list(family(document))
        for each in documents:
            self._add_run(each)
            for step in each.steps:
                if not step.is_copied_context:
                    self._add_step(step, each)
        self._add_rest(documents)

    def merge(self, other: Tally) -> None:
        """Take in all that another has taken in."""
        self.documents += other.documents
        self.total.merge(other.total)
        for rows, others in ((self.agents, other.agents), (self.models, other.models), (self.tools, other.tools)):
            for name, figures in others.items():
                _of(rows, name).merge(figures)
        for name, caches in other.caches.items():
            self.caches.setdefault(name, CacheFigures()).merge(caches)

    def _add_run(self, document: Trajectory) -> None:
        seconds = lasted(document)
        for figures in (_of(self.agents, document.agent.name), self.total):
            figures.runs += 1
            if seconds is not None:
                figures.durations.add(seconds)

    def _add_step(self, step: Step, document: Trajectory) -> None:
        agent = _of(self.agents, str((step.extra or {}).get("agent_name") or document.agent.name))
        if calls_model(step):
            model = model_of(step, document)
            self._add_call(step, agent, _of(self.models, model))
            if step.metrics is not None and (told := told_of(step.metrics)) is not None:
                name = f"{model} {told.get('scaffold') or ''}".rstrip()
                self.caches.setdefault(name, CacheFigures()).add(step.metrics, told)
        results = step.observation.results if step.observation else []
        for call in step.tool_calls or []:
            if not call.dispatch:
                self._add_tool(call, [each for each in results if each.source_call_id == call.tool_call_id], agent)

    def _add_call(self, step: Step, agent: Figures, model: Figures) -> None:
        calls, failed = step.llm_call_count or 1, "error" in (step.extra or {})
        for figures in (agent, model, self.total):
            figures.calls += calls
            figures.errors += failed
            figures.spend(step.metrics, calls)
        seconds = seconds_of(step)
        if seconds is not None:
            model.durations.add(seconds)

    def _add_tool(self, call: ToolCall, results: list[ObservationResult], agent: Figures) -> None:
        marks = [result.extra or {} for result in results]
        failed = "refused" in (call.extra or {}) or any(map(has_failed, marks))
        tool = _of(self.tools, call.function_name)
        tool.calls += 1
        tool.errors += failed
        for figures in (agent, self.total):
            figures.tool_calls += 1
            figures.errors += failed
        known = (measured(extra) for extra in (*marks, call.extra or {}))
        seconds = next((each for each in known if each is not None), None)
        if seconds is not None:
            tool.durations.add(seconds)

    def _add_rest(self, documents: list[Trajectory]) -> None:
        """Add the totals of a document none of whose steps says what they add up to.

        Where it refers to documents in other files, its totals may be theirs as well, which count by themselves.
        """
        root, final = documents[0], documents[0].final_metrics
        steps = [(step, each) for each in documents for step in each.steps]
        if final is None or any(_refers_elsewhere(step) for step, _ in steps):
            return
        rest = Metrics()
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd"):
            if not any(step.metrics and getattr(step.metrics, name) is not None for step, _ in steps):
                setattr(rest, name, getattr(final, f"total_{name}"))
        if rest != Metrics():
            asked = [(step, each) for step, each in steps if calls_model(step)]
            named = {model_of(step, each) for step, each in asked}
            model = named.pop() if len(named) == 1 else UNKNOWN
            for figures in (_of(self.agents, root.agent.name), _of(self.models, model), self.total):
                figures.spend(rest, sum(step.llm_call_count or 1 for step, _ in asked))

    def ranked_caches(self) -> list[tuple[str, CacheFigures]]:
        """Return the rows of prompt caches by what was saved; names break ties."""
        return sorted(self.caches.items(), key=lambda row: (-row[1].saved_tokens, row[0]))

    def to_json(self) -> dict[str, JSON]:
        """Return every figure, the most expensive first."""
        found: dict[str, JSON] = {"documents": self.documents, "total": self.total.to_json()}
        for kind, rows in (("agents", self.agents), ("models", self.models), ("tools", self.tools)):
            found[kind] = [{"name": name, **figures.to_json()} for name, figures in ranked(rows)]
        if self.caches:
            found["prompt_caches"] = [{"name": name, **figures.to_json()} for name, figures in self.ranked_caches()]
        return found


def ranked(rows: dict[str, Figures]) -> list[tuple[str, Figures]]:
    """Return rows by what they cost, else by their tokens, else by their calls; names break ties."""
    return sorted(rows.items(), key=lambda row: (*(-figure for figure in _weights(row[1])), row[0]))


def _weights(figures: Figures) -> tuple[float, int, int]:
    return figures.cost_usd or 0, (figures.prompt_tokens or 0) + (figures.completion_tokens or 0), figures.calls


def _of(rows: dict[str, Figures], name: str) -> Figures:
    return rows.setdefault(name, Figures())


def has_failed(extra: Mapping[str, Any]) -> bool:
    """Whether the `extra` of a tool's result says that it failed."""
    return any(extra.get(name) for name in FAILED)


def calls_model(step: Step) -> bool:
    """Whether a model was asked in a step, and in this document."""
    return step.source == "agent" and step.llm_call_count != 0 and not step.is_copied_context


def model_of(step: Step, document: Trajectory) -> str:
    """Which model a step is from."""
    return step.model_name or document.agent.model_name or UNKNOWN


def _refers_elsewhere(step: Step) -> bool:
    """Whether a result refers to a document in another file."""
    results = step.observation.results if step.observation else []
    refs = [ref for result in results for ref in result.subagent_trajectory_ref or []]
    return any(ref.trajectory_path or not ref.trajectory_id for ref in refs)


# ── time


def seconds_of(step: Step) -> float | None:
    """How long a step's model call took, as its producer measured it."""
    seconds = measured(step.extra or {})
    return seconds if seconds is not None else measured((step.metrics and step.metrics.extra) or {})


def measured(extra: Mapping[str, Any]) -> float | None:
    """A duration in an `extra`: `duration_sec` of ours, `invocation` of the NeMo Agent Toolkit, `latency_ms`."""
    if (seconds := _number(extra.get("duration_sec"))) is not None:
        return seconds
    timing = extra.get("invocation")
    if isinstance(timing, Mapping):
        told = cast("Mapping[str, Any]", timing)
        begun, ended = _number(told.get("start_timestamp")), _number(told.get("end_timestamp"))
        if begun is not None and ended is not None:
            return ended - begun
    latency = _number(extra.get("latency_ms"))
    return None if latency is None else latency / 1000


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def lasted(document: Trajectory) -> float | None:
    """Seconds from the first step of a document to the end of its last; None where it has no two times."""
    spans = [span for step in document.steps if (span := span_of(step)) is not None]
    if not spans:
        return None
    begun, ended = min(begun for begun, _ in spans), max(ended for _, ended in spans)
    return (ended - begun).total_seconds() if ended > begun or len(spans) > 1 else None


def span_of(step: Step) -> tuple[datetime, datetime] | None:
    """When a step began and ended, in UTC where it names no zone; None where it has no time."""
    moment = moment_of(step.timestamp) if step.timestamp else None
    if moment is None:
        return None
    begun = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    try:
        return begun, begun + timedelta(seconds=seconds_of(step) or 0)
    except (OverflowError, ValueError):
        return begun, begun
