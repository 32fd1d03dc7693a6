"""The steps of a thread as a page shows them, made one by one as they are written.

Roles and kinds are words of ours; everything else is text for the template to escape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from spanrelay import _json
from spanrelay.assembly.atif import ContentPart, Metrics, ObservationResult, Step, ToolCall, moment_of
from spanrelay.evaluation.figures import measured, model_of, seconds_of
from spanrelay.records import JSON
from spanrelay.view.beside import Beside, Medium
from spanrelay.view.facts import (
    agent_of,
    begun_by,
    dollars,
    duration,
    lacks_tokens,
    plural,
    since,
    uncaptured,
    visible,
    whom,
)
from spanrelay.view.marks import Mark, marks_of, marks_of_call, marks_of_result, marks_of_step
from spanrelay.view.texts import BRIEF, MESSAGE, TOOL, Fold, Text, signature
from spanrelay.view.threads import Thread, results_of

Role = Literal["system", "user", "agent"]


@dataclass(slots=True)
class ResultRow:
    """What one result gave, and the threads that it refers to."""

    parts: list[Text | Medium]
    threads: list[ThreadRow]
    marks: list[Mark] = field(default_factory=list[Mark])


@dataclass(slots=True)
class CallRow:
    """A tool call: how it was called, how long it took and what came of it."""

    signature: str
    arguments: Text | None
    facts: list[str]
    marks: list[Mark]
    results: list[ResultRow]


@dataclass(slots=True)
class StepRow:
    """One step."""

    anchor: str
    number: int
    role: Role
    title: str
    moment: str
    facts: list[str]
    marks: list[Mark]
    parts: list[Text | Medium]
    reasoning: Text | None
    calls: list[CallRow]
    results: list[ResultRow]
    """Of no call."""
    threads: list[ThreadRow]
    rest: str


@dataclass(slots=True)
class ThreadRow:
    """A thread: who acts in it, what is to be said of it, and its steps."""

    name: str
    kind: str
    facts: list[str]
    remarks: list[str]
    steps: Iterator[StepRow]
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Folds:
    """How much of each kind of text stands open."""

    message: Fold = MESSAGE
    tool: Fold = TOOL


MANY = 1000
"""Steps of a page above which less of each text stands open."""


class Rows:
    """Makes rows of the threads of one page."""

    def __init__(self, beside: Beside, folds: Folds) -> None:
        self._beside = beside
        self._folds = folds

    def thread(self, thread: Thread, kind: str = "") -> ThreadRow:
        """Return a thread; its steps are made as they are asked for."""
        document = thread.document
        count = len(document.steps)
        marks = {mark.kind for each in thread.family() for mark in marks_of(each.document)}
        return ThreadRow(
            visible(document.agent.name),
            kind,
            [*about(thread), plural(count, "step")],
            remarks(thread),
            self.steps(thread),
            is_open=bool(marks & {"error", "refused"}) and count <= MANY,
        )

    def steps(self, thread: Thread) -> Iterator[StepRow]:
        """Yield the steps of a thread."""
        document = thread.document
        begun = next((step.timestamp for step in document.steps if step.timestamp), None)
        acting = document.agent.name
        silent = not any(step.metrics for step in document.steps)
        for place, step in enumerate(document.steps):
            before, acting = acting, agent_of(step, document) if step.source == "agent" else acting
            facts = [acting if acting != before else None, *facts_of(step, thread)]
            if not silent and lacks_tokens(step):
                facts.append("tokens not reported")
            after = since(begun, step.timestamp)
            facts.append(f"+{duration(after)}" if after and after > 0 else None)
            yield self._step(thread, place, [visible(fact) for fact in facts if fact])

    def _step(self, thread: Thread, place: int, facts: list[str]) -> StepRow:
        step = thread.document.steps[place]
        results = results_of(thread, place)
        rows = [self._result(thread, place, index, result) for index, result in enumerate(results)]
        calls, threads = list[CallRow](), list[ThreadRow]()
        for call in step.tool_calls or []:
            own = [index for index, result in enumerate(results) if result.source_call_id == call.tool_call_id]
            begun = [each for index in own for each in rows[index].threads]
            if call.dispatch and begun:
                threads += [replace(each, kind=visible(call.dispatch)) for each in begun]
            else:
                calls.append(self._call(call, [results[index] for index in own], [rows[index] for index in own]))
        loose = [
            replace(row, marks=[_shown(mark) for mark in marks_of_result(result)])
            for row, result in zip(rows, results, strict=True)
            if result.source_call_id is None
        ]
        return StepRow(
            thread.anchor_of(place),
            place + 1,
            cast("Role", step.source),
            visible(begun_by(step) or step.source),
            _moment(step),
            facts,
            [_shown(mark) for mark in marks_of_step(step)],
            self._parts(thread.folder, step.message, self._fold_of(step)),
            BRIEF.text(thought) if (thought := (step.reasoning_content or "").strip()) else None,
            calls,
            loose,
            threads,
            _rest(step),
        )

    def _fold_of(self, step: Step) -> Fold:
        """What was said stands open for longer than the instructions, which one has mostly read before."""
        return self._folds.tool if step.source == "system" else self._folds.message

    def _call(self, call: ToolCall, own: list[ObservationResult], rows: list[ResultRow]) -> CallRow:
        head, arguments = signature(call.function_name, call.arguments)
        lasted = (measured(extra or {}) for extra in (*(result.extra for result in own), call.extra))
        seconds = next((each for each in lasted if each is not None), None)
        marks = [_shown(mark) for mark in marks_of_call(call, own)]
        if not own:
            marks.append(Mark("note", "no result"))
        facts = [] if seconds is None else [duration(seconds)]
        return CallRow(head, self._folds.tool.text(arguments) if arguments else None, facts, marks, rows)

    def _result(self, thread: Thread, place: int, index: int, result: ObservationResult) -> ResultRow:
        parts = self._parts(thread.folder, result.content, self._folds.tool)
        parts += [Text(visible(words)) for words in thread.missing.get((place, index), [])]
        threads = [self.thread(each, "sub-agent") for each in thread.begun.get((place, index), [])]
        if not parts and not threads and "incomplete" not in (result.extra or {}):
            parts.append(Text("(empty)" if result.content is not None else "(not recorded)"))
        return ResultRow(parts, threads)

    def _parts(self, folder: Path, content: str | list[ContentPart] | None, fold: Fold) -> list[Text | Medium]:
        if content is None or isinstance(content, str):
            return [fold.text(content)] if content and content.strip() else []
        found: list[Text | Medium] = []
        for part in content:
            if part.source is None:
                found.append(fold.text(part.text or ""))
            else:
                medium = self._beside.medium(part, folder)
                found.append(replace(medium, words=visible(medium.words)))
        return found


def _shown(mark: Mark) -> Mark:
    return Mark(mark.kind, visible(mark.word), visible(mark.said))


def about(thread: Thread) -> list[str]:
    """Which agent this is, of which session, for whom."""
    agent, document = thread.document.agent, thread.document
    facts = [
        agent.version if agent.version != "unknown" else None,
        agent.model_name,
        f"session {document.session_id}" if document.session_id and not thread.anchor else None,
        *(f"{name} {fact}" for name, fact in whom(document.extra or {}).items()),
    ]
    return [visible(fact) for fact in facts if fact]


def remarks(thread: Thread) -> list[str]:
    """Whether a document is whole, what its writer noted, and what was left out of it."""
    document = thread.document
    extra = document.extra or {}
    found = [f"status: {extra['status']}"] if "status" in extra else []
    found += ["recovered after a sudden end"] if extra.get("recovered") else []
    found += [document.notes] if document.notes else []
    found += [f"goes on in {document.continued_trajectory_ref}"] if document.continued_trajectory_ref else []
    return [visible(words) for words in (*found, *uncaptured(document))]


def facts_of(step: Step, thread: Thread) -> list[str | None]:
    """The model, the time, the tokens and the cost of a step, as far as they are known."""
    agent = thread.document.agent
    model = model_of(step, thread.document) if step.source == "agent" and step.model_name else None
    seconds = seconds_of(step)
    return [
        model if model != agent.model_name else None,
        duration(seconds) if seconds is not None else None,
        *(spent(step.metrics) if step.metrics else []),
    ]


def spent(metrics: Metrics) -> list[str]:
    """Tokens in with the share that came from a cache, tokens out, and cost."""
    prompt, cached = metrics.prompt_tokens, metrics.cached_tokens
    found: list[str] = []
    if prompt is not None:
        found.append(f"{prompt:,} in" + (f" ({cached / prompt:.0%} cached)" if cached and prompt else ""))
    if metrics.completion_tokens is not None:
        found.append(f"{metrics.completion_tokens:,} out")
    return found + ([dollars(metrics.cost_usd)] if metrics.cost_usd is not None else [])


def _moment(step: Step) -> str:
    """When a step was, in its own time zone."""
    moment = moment_of(step.timestamp) if step.timestamp else None
    return "" if moment is None else moment.isoformat(sep=" ", timespec="milliseconds")


_TOLD = frozenset({"error", "incomplete", "would_refuse", "would_change", "answered_by", "agent_name", "duration_sec"})
"""Members of an `extra` that stand in a step's own words."""


_ORIGIN = frozenset({"otel", "message_source"})


def _rest(step: Step) -> str:
    """What else is known of a step, as JSON."""
    known: dict[str, JSON] = {name: value for name, value in (step.extra or {}).items() if name not in _TOLD}
    if step.reasoning_effort is not None:
        known["reasoning_effort"] = step.reasoning_effort
    if step.metrics and step.metrics.extra:
        known["metrics"] = step.metrics.extra
    if step.source != "agent" and known.keys() <= _ORIGIN:  # whichever span told of it first
        return ""
    return visible(_json.dumps_text(known)) if known else ""
