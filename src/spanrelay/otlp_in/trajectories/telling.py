"""Documents as records: an agent for each, its model calls with all that was said before, its tools, sub-agents there.

Ids are made of the document's id and the step's, so that the same document gives the same spans. A time that no step
says is made up in the order of the steps, and the record says so; nothing ends before what it began.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from spanrelay.assembly.atif import ObservationResult, Step, SubagentTrajectoryRef, ToolCall, Trajectory, moment_of
from spanrelay.codecs.functions import read_function
from spanrelay.codecs.narrowing import as_float, as_list, as_mapping, as_str
from spanrelay.otlp_in.trajectories import contents
from spanrelay.records import (
    AgentInfo,
    Kind,
    Mark,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    Role,
    SpanRecord,
    ToolCallResponse,
    ToolRequest,
)
from spanrelay.semconv.names import REFUSED_TOOL_CALL
from spanrelay.semconv.spans import describe_resource

_MOMENT = 1000
"""Nanoseconds that something takes of which no duration is told."""
_PAUSE = 1_000_000
"""Nanoseconds between steps without times."""
_OPERATIONS: dict[Kind, str] = {"agent": "invoke_agent", "llm": "chat", "tool": "execute_tool"}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def nanoseconds(moment: datetime) -> int:
    """Return a moment in nanoseconds since the epoch; one without a zone is of UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return max((aware - _EPOCH) // timedelta(microseconds=1) * 1000, 0)


@dataclass(slots=True, eq=False)
class Source:
    """A document: `key` is made of its ids and known to no other, `folder` is where it lies."""

    document: Trajectory
    key: str
    session: str
    folder: Path


def told(sources: list[Source]) -> list[SpanRecord]:
    """Return the records of documents; one that another refers to stands beneath the call that does."""
    return _Telling(sources).records


class _Telling:
    def __init__(self, sources: list[Source]) -> None:
        self.records: list[SpanRecord] = []
        self._left = {source.key: source for source in sources}
        self._named = {
            name: source
            for source in reversed(sources)
            for name in (source.session, source.document.session_id, source.document.trajectory_id)
            if name
        }
        meant = (self._meant(ref, source) for source in sources for ref in _refs(source))
        referred = {child.key for child in meant if child is not None}
        # Where all refer to each other, one is the first all the same.
        for source in sorted(sources, key=lambda source: source.key in referred):
            if self._left.pop(source.key, None) is not None:
                _Agent(self, source, source, None, 0).tell()

    def take(self, ref: SubagentTrajectoryRef, source: Source) -> Source | None:
        """Return the document that another refers to, if it is here and has not been told."""
        child = self._meant(ref, source)
        return self._left.pop(child.key, None) if child is not None else None

    def _meant(self, ref: SubagentTrajectoryRef, source: Source) -> Source | None:
        child = self._named.get(ref.trajectory_id or ref.session_id or "")
        return child if child is not source else None


class _Agent:
    """One document on its way: its span, what has been said, and when it is."""

    def __init__(self, telling: _Telling, source: Source, root: Source, above: SpanRecord | None, now: int) -> None:
        self._telling, self._source, self._root = telling, source, root
        self._folder = source.folder
        self._trace = above.trace_id if above is not None else _id(16, source.key)
        self._embedded = {child.trajectory_id: child for child in source.document.subagent_trajectories or []}
        self._history: list[Message] = []
        self._called = False
        self._parameters: dict[str, Any] = {}
        document = source.document
        self._resource = _resource_of(root.document)
        self._tools = [read_function(tool) for tool in document.agent.tool_definitions or []]
        self._clock = _Clock(document.steps, now)
        self._record = self._begin("agent", "agent", document.agent.name, above)
        self._describe(document)

    def _describe(self, document: Trajectory) -> None:
        extra, told = document.extra or {}, document.agent
        self._record.agent = AgentInfo(told.name, as_str((told.extra or {}).get("id")), told.version)
        self._record.user_id, self._record.metadata = as_str(extra.get("user")), dict(as_mapping(extra.get("metadata")))

    def tell(self) -> int:
        """Tell all steps; return when the last has ended."""
        for step in self._source.document.steps:
            self._clock.turn_to(step)
            if step.source != "agent":
                role: Role = "system" if step.source == "system" else "user"
                self._say(role, contents.parts_of(step.message, self._folder))
                self._hand_over(self._children_of(step.observation.results if step.observation else []))
            elif step.is_copied_context:
                self._hear(step)
            else:
                self._tell_step(step)
        self._hand_over(self._source_of(child) for child in list(self._embedded.values()))  # those nobody refers to
        self._ask()
        self._record.end = self._clock.now
        return self._clock.now

    def _ask(self) -> None:
        """Let the agent's span tell what was asked where no model call does."""
        asked = [message for message in self._history if message.role == "user"]
        if asked and not self._called:
            self._record.request = ModelRequest(messages=asked[-1:])

    def _say(self, role: Role, parts: list[Part]) -> None:
        self._history.append(Message(role, parts))

    def _hear(self, step: Step) -> None:
        """Take in an answer, and what came of it, that the history tells and no call of this document."""
        parts = contents.answer_of(step, self._folder)
        if step.llm_call_count != 0:
            self._say("assistant", parts)
        for call, results in _called(step):
            self._answer(call, results)

    def _answer(self, call: ToolCall, results: list[ObservationResult]) -> None:
        content = contents.content_of(results, self._folder)
        if content is not None:
            failed = contents.extra_of(results).get("is_error") is True
            self._say("tool", [ToolCallResponse(call.tool_call_id, content, call.function_name, failed)])

    # ── steps of the agent

    def _tell_step(self, step: Step) -> None:
        answered = "answered_by" in (step.extra or {})  # in place of a model
        by_itself = step.llm_call_count == 0 and not answered and not step.message and bool(step.tool_calls)
        if not by_itself:
            self._tell_call(step)
        begun = self._clock.now
        for call, results in _called(step):
            self._clock.now, ended = begun, self._clock.now
            if call.dispatch is None:
                self._tell_run(step, call, results, asked=not by_itself)
            else:
                self._tell_all(self._children_of(results), self._record)
            self._clock.now = max(self._clock.now, ended)
        self._hand_over(self._children_of(contents.results_of(step).get("", [])))

    def _tell_call(self, step: Step) -> None:
        self._called, extra = True, step.extra or {}
        record = self._begin("llm", f"call {step.step_id}", self._model(step) or "", self._record)
        record.request = ModelRequest(self._model(step), list(self._history), tools=self._tools)
        record.request.parameters = self._parameters_of(step)
        record.response = ModelResponse(model=self._model(step), usage=contents.usage_of(step.metrics))
        record.response.tokens = contents.tokens_of(step.metrics)
        record.time_to_first_chunk = contents.first_chunk_of(step.metrics)
        record.error, record.incomplete = contents.error_of(extra), as_str(extra.get("incomplete"))
        if step.llm_call_count == 0:
            record.answered_by = as_str(extra.get("answered_by")) or "agent"
        record.marks = [mark for call in step.tool_calls or [] for mark in _refusals(call, record.start)]
        self._tell_answer(step, record)
        record.end = self._clock.pass_by(extra, record.start)

    def _model(self, step: Step) -> str | None:
        return step.model_name or self._source.document.agent.model_name

    def _parameters_of(self, step: Step) -> dict[str, Any]:
        """Return the parameters of a call; our documents tell them where they change."""
        told = (step.extra or {}).get("parameters")
        if isinstance(told, dict):
            self._parameters = dict(as_mapping(told))
        effort = {} if step.reasoning_effort is None else {"reasoning_effort": step.reasoning_effort}
        return {**self._parameters, **effort}

    def _tell_answer(self, step: Step, record: SpanRecord) -> None:
        """Give a call its answer, which is then part of what was said; there is none where it failed or is unknown."""
        extra, parts = step.extra or {}, contents.answer_of(step, self._folder)
        unknown = record.error is not None or record.incomplete or extra.get("content_captured") is False
        if not parts and unknown:
            return
        parts += self._server_results(step)
        assert record.response is not None
        reasons = extra.get("finish_reason") or ("tool_call" if step.tool_calls else "stop")
        record.response.finish_reasons = [str(reason) for reason in as_list(reasons) or [reasons]]
        answer = Message("assistant", parts, finish_reason=record.response.finish_reasons[0])
        record.response.messages = [answer]
        self._history.append(replace(answer, finish_reason=None))

    def _server_results(self, step: Step) -> list[Part]:
        """Return the results of tools that the provider runs itself, which are part of its answer."""
        return [
            ToolCallResponse(call.tool_call_id, contents.content_of(results, self._folder), server=True)
            for call, results in _called(step)
            if results and _is_server(call)
        ]

    # ── tools and sub-agents

    def _tell_run(self, step: Step, call: ToolCall, results: list[ObservationResult], *, asked: bool) -> None:
        """Tell the run of a tool; of a call without a result nobody knows that it ran."""
        if not results or _is_server(call):
            return
        extra, answer = contents.extra_of(results), contents.asked_of(call)
        record = self._begin("tool", f"run {step.step_id} {call.tool_call_id}", call.function_name, self._record)
        record.tool = ToolRequest(call.function_name, answer.arguments, call.tool_call_id)
        record.result, record.error = contents.result_of(results, self._folder), contents.error_of(extra)
        self._tell_all(self._children_of(results), record)
        record.end = self._clock.pass_by(extra, record.start)
        if asked:
            self._answer(call, results)

    def _children_of(self, results: Iterable[ObservationResult]) -> Iterator[Source]:
        """Yield the documents that results refer to, each once: those embedded in this one, and those beside it."""
        for result in results:
            for ref in result.subagent_trajectory_ref or []:
                child = self._embedded.get(ref.trajectory_id)
                source = self._source_of(child) if child is not None else self._telling.take(ref, self._source)
                if source is not None:
                    yield source

    def _source_of(self, child: Trajectory) -> Source:
        del self._embedded[child.trajectory_id]
        return Source(child, f"{self._source.key}\0{child.trajectory_id}", self._root.session, self._folder)

    def _tell_all(self, children: Iterable[Source], above: SpanRecord) -> None:
        for child in children:
            self._clock.now = _Agent(self._telling, child, self._root, above, self._clock.now).tell()

    def _hand_over(self, children: Iterable[Source]) -> None:
        """Tell sub-agents that no call began: as if of a tool each, so that none is taken for the agent going on."""
        for child in children:
            name = child.document.agent.name
            record = self._begin("tool", f"sub-agent {child.key}", name, self._record)
            record.tool = ToolRequest(name)
            self._tell_all([child], record)
            record.end = self._clock.now

    # ── records

    def _begin(self, kind: Kind, what: str, name: str, above: SpanRecord | None) -> SpanRecord:
        record = SpanRecord(self._trace, _id(8, f"{self._source.key}\0{what}"))
        record.parent_id = above.span_id if above is not None else None
        record.kind, record.operation = kind, _OPERATIONS[kind]
        record.name = f"{record.operation} {name}".rstrip()
        record.start = self._clock.now
        record.session_id = self._root.session
        record.dialect = "atif, times made up" if self._clock.made_up else "atif"
        describe_resource(self._resource, record)
        self._telling.records.append(record)
        return record


class _Clock:
    """When it is, in nanoseconds; `made_up` where the steps do not say."""

    def __init__(self, steps: list[Step], now: int) -> None:
        times = [_time_of(step) for step in steps]
        known = next((place for place, time in enumerate(times) if time is not None), None)
        first = (times[known] or 0) - known * _PAUSE if known is not None else _PAUSE
        self.now = max(now, first, _PAUSE)
        self.made_up = known != 0
        self._begun = False

    def turn_to(self, step: Step) -> None:
        """Let it be when a step was, but never before what has been."""
        time = _time_of(step)
        self.made_up = time is None
        if time is not None:
            self.now = max(self.now, time)
        elif self._begun:
            self.now += _PAUSE
        self._begun = True

    def pass_by(self, extra: dict[str, Any], since: int) -> int:
        """Let it be when something has ended that began at a time and took as long as an `extra` says."""
        seconds = as_float(extra.get("duration_sec"))
        took = round(seconds * 1e9) if seconds is not None and 0 <= seconds < 1e9 else 0
        self.now = max(self.now + _MOMENT, since + took)
        return self.now


def _time_of(step: Step) -> int | None:
    moment = moment_of(step.timestamp) if step.timestamp else None
    return nanoseconds(moment) if moment is not None else None


def _called(step: Step) -> Iterator[tuple[ToolCall, list[ObservationResult]]]:
    """Yield the calls of a step with their results."""
    results = contents.results_of(step)
    for call in step.tool_calls or []:
        yield call, results.get(call.tool_call_id, [])


def _is_server(call: ToolCall) -> bool:
    return (call.extra or {}).get("server_side") is True


def _refusals(call: ToolCall, time: int) -> Iterator[Mark]:
    reason = as_str((call.extra or {}).get("refused"))
    if reason is not None:
        said = {"call_id": call.tool_call_id, "tool_name": call.function_name, "reason": reason}
        yield Mark(REFUSED_TOOL_CALL, time, said)


def _refs(source: Source) -> Iterator[SubagentTrajectoryRef]:
    for step in source.document.steps:
        for result in step.observation.results if step.observation else []:
            yield from result.subagent_trajectory_ref or []


def _resource_of(document: Trajectory) -> dict[str, Any]:
    """Return what ran, and where, as our documents tell it."""
    extra = document.extra or {}
    service = as_mapping(extra.get("service"))
    return {
        "service.name": service.get("name"),
        "service.version": service.get("version"),
        "deployment.environment.name": extra.get("environment"),
    }


def _id(size: int, what: str) -> int:
    return int.from_bytes(hashlib.sha256(what.encode("utf-8", "surrogatepass")).digest()[:size], "big") or 1
