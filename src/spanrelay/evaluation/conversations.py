"""A trajectory as the conversations that a model had in it, for rows of training files.

Nothing is made up: where a document does not say all that a model was sent or answered, `Conversation.faults` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from spanrelay.assembly.atif import ContentPart, ObservationResult, Step, ToolCall, Trajectory
from spanrelay.records import JSON

Role = Literal["system", "user", "assistant", "tool"]
Content = str | list[ContentPart]

FAULTS = {
    "content_captured": "content was not captured",
    "truncated": "texts were cut",
    "missing_messages": "messages are missing",
}
"""What a member of a step's `extra` says is missing of a conversation."""

FORKED = "it goes on from an earlier turn of another"
UNASKED = "what its first answer answers is not in it"


@dataclass(slots=True)
class Turn:
    """One message, and the step that tells of it. A tool's has the call that it answers."""

    role: Role
    content: Content
    step: Step
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    answers: ToolCall | None = None


@dataclass(slots=True)
class Conversation:
    """What one model was told and answered, from where its context began.

    `name` is that of its document, with a number where a context was rewritten in between, and `parent` that of the
    document that embeds it. `faults` keep it from being trained on; `failure` says why it did not succeed.
    """

    document: Trajectory
    name: str
    session: str
    parent: str | None = None
    turns: list[Turn] = field(default_factory=list[Turn])
    faults: dict[str, None] = field(default_factory=dict[str, None])
    failure: str | None = None

    @property
    def answers(self) -> list[Step]:
        """The steps of a model's answers in it that no earlier document has."""
        return [turn.step for turn in self.turns if turn.role == "assistant" and not turn.step.is_copied_context]

    @property
    def tokens(self) -> int | None:
        """How many tokens it has, as its longest call was counted; None where none was."""
        found = [
            step.metrics.prompt_tokens + (step.metrics.completion_tokens or 0)
            for step in self.answers
            if step.metrics is not None and step.metrics.prompt_tokens is not None
        ]
        return max(found, default=None)

    @property
    def unanswered(self) -> bool:
        """Whether a call, but for those of the last answer, has no result."""
        answered = {id(turn.answers) for turn in self.turns}
        return any(id(call) not in answered for turn in self.turns[:-1] for call in turn.calls)

    @property
    def tools(self) -> list[dict[str, JSON]]:
        """The definitions of functions that the model was offered."""
        offered = self.document.agent.tool_definitions or []
        return [tool for tool in offered if tool.get("type") == "function" and isinstance(tool.get("function"), dict)]


def conversations(document: Trajectory, session: str = "", parent: str | None = None) -> Iterator[Conversation]:
    """Yield the conversations of a document and of those it embeds, its own first."""
    session = document.session_id or session
    name = document.trajectory_id or session or document.agent.name
    own = list(_Reader(document, name, session, parent).parts())
    for number, part in enumerate(own, 1):
        if number > 1:
            part.name = f"{name}#{number}"
        yield part
    for child in document.subagent_trajectories or []:
        yield from conversations(child, session, name)


class _Reader:
    """Reads the steps of one document, in order."""

    def __init__(self, document: Trajectory, name: str, session: str, parent: str | None) -> None:
        self._document = document
        self._identity = (document, name, session, parent)
        self._part = Conversation(*self._identity)
        self._systems: dict[int, str] = {}
        self._system = ""

    def parts(self) -> Iterator[Conversation]:
        for step in self._document.steps:
            if _boundary(step) in ("replace", "truncate"):
                yield from self._ended()
                self._begin_anew(step)
            elif step.source == "agent":
                fault = self._fault_before(step)
                if fault is not None:
                    yield from self._ended()
                    self._part = Conversation(*self._identity, faults={fault: None})
                self._add_answer(step)
            else:
                content = self._system_of(step) if step.source == "system" else step.message
                self._add(Turn("system" if step.source == "system" else "user", content, step))
        yield from self._ended()

    def _add(self, turn: Turn) -> None:
        self._part.turns.append(turn)
        for name, fault in FAULTS.items():
            value = (turn.step.extra or {}).get(name)
            if value is False if name == "content_captured" else value:
                self._part.faults[fault] = None

    def _system_of(self, step: Step) -> Content:
        """A system prompt as it was sent, where the step only says what is new in it, or which it is again."""
        extra, content = step.extra or {}, step.message
        if isinstance(content, str):
            known = self._systems.get(cast("int", extra.get("same_as_step")))
            content = known if known is not None else _restored(self._system, content, extra)
            if known is None:
                self._system = content
            self._systems[step.step_id] = content
        return content

    def _fault_before(self, step: Step) -> str | None:
        """Why an answer cannot belong to what has been told so far; None where it does."""
        extra = step.extra or {}
        if "forked_after_turns" in extra:
            return FORKED
        last = self._part.turns[-1] if self._part.turns else None
        follows = last is not None and last.role == "assistant" and not last.calls
        said = step.message and step.llm_call_count != 0 and not step.is_copied_context
        return UNASKED if follows and said and "retry_of_step" not in extra else None

    def _add_answer(self, step: Step) -> None:
        """Add a model's answer, and the results of its calls. What no model said, or nobody got, is left out."""
        extra = step.extra or {}
        if step.llm_call_count == 0 or (not step.message and not step.tool_calls and not step.reasoning_content):
            if extra.get("content_captured") is False and step.llm_call_count != 0:
                self._part.faults[FAULTS["content_captured"]] = None
            return
        retried = extra.get("retry_of_step")
        if retried is not None:
            self._part.turns = [turn for turn in self._part.turns if turn.step.step_id != retried]
        calls = [call for call in step.tool_calls or [] if not call.dispatch]
        self._add(Turn("assistant", step.message, step, calls))
        if any((call.extra or {}).get("content_captured") is False for call in calls):
            self._part.faults[FAULTS["content_captured"]] = None
        self._add_results(step, calls)

    def _add_results(self, step: Step, calls: list[ToolCall]) -> None:
        """Add what tools answered, in the order of their calls; where results name no call, one by one."""
        results = step.observation.results if step.observation else []
        loose = [result for result in results if result.source_call_id is None]
        by_call = {result.source_call_id: result for result in results if result.source_call_id is not None}
        if not by_call and len(loose) == len(calls):
            by_call, loose = dict(zip((call.tool_call_id for call in calls), loose, strict=True)), []
        for call in calls:
            content = _told(by_call[call.tool_call_id]) if call.tool_call_id in by_call else None
            if content is not None:
                self._part.turns.append(Turn("tool", content, step, answers=call))
        self._part.turns += [Turn("user", result.content, step) for result in loose if result.content]

    def _begin_anew(self, step: Step) -> None:
        """Begin a conversation with what a model was sent after its context was rewritten."""
        heads = [turn for turn in self._part.turns if turn.role == "system"]
        results = step.observation.results if step.observation else []
        self._part = Conversation(*self._identity, turns=heads[:1])
        for result in results:
            if result.content:
                self._part.turns.append(Turn("user", result.content, step))

    def _ended(self) -> Iterator[Conversation]:
        part = self._part
        part.failure = _failure(part, self._document)
        last = max((at for at, turn in enumerate(part.turns) if turn.role == "assistant"), default=-1)
        del part.turns[last + 1 :]
        if not part.answers:
            part.faults["no model answers in it"] = None
        elif next(turn.role for turn in part.turns if turn.role != "system") == "assistant":
            part.faults[UNASKED] = None
        if part.turns or part.faults:
            yield part


def _boundary(step: Step) -> Any:
    management = (step.extra or {}).get("context_management")
    return management.get("boundary") if isinstance(management, dict) and step.source == "system" else None


def _restored(before: str, message: str, extra: dict[str, JSON]) -> str:
    """A system prompt of which only the changed words were written."""
    change: Any = extra.get("system_prompt_change")
    if not isinstance(change, dict):
        return message
    told = cast("dict[str, int]", change)
    middle = message[len(message) - told["inserted"] :] if told["inserted"] else ""
    return before[: told["start"]] + middle + before[told["start"] + told["removed"] :]


def _told(result: ObservationResult) -> Content | None:
    """What a tool answered; of one that failed, why."""
    error: Any = (result.extra or {}).get("error")
    if result.content is None and isinstance(error, dict):
        return str(cast("dict[str, Any]", error).get("message") or "") or None
    return result.content


# ── success

_CUT = ("length", "max_tokens", "MAX_TOKENS", "content_filter", "refusal", "SAFETY", "RECITATION", "PROHIBITED_CONTENT")
"""Why a model stopped before it had said what it would."""


def _failure(part: Conversation, document: Trajectory) -> str | None:
    """Why a run did not succeed, as far as its document says; None where it did."""
    asked = [step for step in document.steps if step.source == "agent" and step.llm_call_count != 0]
    last = (asked[-1].extra or {}) if asked else {}
    results = document.steps[-1].observation.results if document.steps[-1].observation else []
    if (document.extra or {}).get("status") == "partial":
        return "it is not whole"
    if "error" in last or "incomplete" in last:
        return "its last model call failed"
    if any(reason in _CUT for reason in _listed(last.get("finish_reason"))):
        return "its last answer was cut or refused"
    if any("refused" in (call.extra or {}) for turn in part.turns for call in turn.calls):
        return "policy refused a call"
    if any((result.extra or {}).get("is_error") for result in results):
        return "it ends with a tool that failed"
    reward = _reward(document)
    return f"its reward is {reward:g}" if reward is not None and reward <= 0 else None


def _listed(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _reward(document: Trajectory) -> float | None:
    """The reward that a document says its run got."""
    final = document.final_metrics.extra if document.final_metrics else None
    for extra in (document.extra or {}, final or {}):
        reward = extra.get("reward")
        if isinstance(reward, (int, float)):
            return reward
    return None
