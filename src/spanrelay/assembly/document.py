"""One growing document: its steps in the order they came, and what is remembered of the conversation it tells.

A step is written once, as soon as it is known; what later spans add to it is written as a change. Nothing here
keeps a text that has been written.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from spanrelay.assembly import atif, steps
from spanrelay.assembly.calls import Call, Calls
from spanrelay.assembly.steps import MediaStore
from spanrelay.assembly.transcript import Transcript, Turn, canonical, key_of, split_system, turns_of
from spanrelay.records import JSON, Message, ModelRequest, SpanRecord

MAX_STEPS = 100_000
"""Steps that one document may have; later ones are counted as lost."""

MAX_HEARD = 16_384
"""Characters of what models were last asked that are kept, to see whether an agent's question is among it."""


class Journal(Protocol):
    """Where a document's operations go.

    `full` where its bound is reached and no step should be added; `gone` where what was written has been removed.
    """

    full: bool

    @property
    def gone(self) -> bool:
        """Whether nothing can be added any more."""
        ...

    def write(self, operation: dict[str, JSON], /) -> None:
        """Append one operation."""
        ...

    def document(self) -> dict[str, JSON] | None:
        """The document so far; None while it has no step, or where nothing is left of it. May raise `OSError`."""
        ...


@dataclass(slots=True)
class Copied:
    """An answer that stands in a document since a request repeated it: its step, its key, and when that call began."""

    step: int
    key: int
    since: int


class Heard:
    """What models were last asked, its last `MAX_HEARD` characters; put together only once somebody reads it."""

    __slots__ = ("_size", "_texts")

    def __init__(self) -> None:
        self._texts, self._size = [""], 0

    def add(self, text: str) -> None:
        """Take in what a model was asked."""
        self._texts.append(text)
        self._size += len(text) + 1
        if self._size > 2 * MAX_HEARD:
            self._texts, self._size = [str(self)], MAX_HEARD

    def __str__(self) -> str:
        return "\n".join(self._texts)[-MAX_HEARD:]


@dataclass(slots=True)
class Conversation:
    """What a document remembers of its conversation beside the transcript.

    `systems` are the system prompts it has had, by key, with their steps; `heard` is what models were asked since an
    agent's question was last looked for, and `past` what was told before. `copied` are answers whose calls have not
    been told, by their places among the turns, and `blank` the last calls' steps of which nothing was recorded. `told`
    are the keys of what the last call was asked and answered, where they are known. `ran` is how the results begin of
    tools that have run since, though no answer asked for them.
    """

    transcript: Transcript = field(default_factory=Transcript)
    system: tuple[int, ...] | None = None
    system_text: str = ""
    systems: dict[int, int] = field(default_factory=dict[int, int])
    copied: dict[int, Copied] = field(default_factory=dict[int, Copied])
    blank: list[int] = field(default_factory=list[int])
    last_step: int = 0
    last_end: int = 0
    calls: list[Call] = field(default_factory=list[Call])
    response_ids: OrderedDict[str, None] = field(default_factory=OrderedDict[str, None])
    id: str | None = None
    trace_id: int = 0
    count: int = 0
    tools: bool = False
    heard: Heard = field(default_factory=Heard)
    past: str = ""
    told: tuple[int, int] | None = None
    ran: list[str] = field(default_factory=list[str])


Shape: TypeAlias = tuple[tuple[int, ...], tuple[str, ...], str | None]
"""What calls of one fan-out have in common: the system prompt, the tools on offer, and the model."""


@dataclass(slots=True)
class Opening:
    """The call that a document began with: its span, and how many steps stood there after it."""

    record: SpanRecord
    shape: Shape
    count: int


@dataclass(slots=True)
class Fan:
    """Conversations that one program began beside each other, none before the others.

    `group` counts those that ran at one time, whose order is nobody's choice; `last_end` is when the last ended.
    """

    shape: Shape
    last_end: int
    group: int = 1


@dataclass(slots=True)
class Said:
    """What the model calls of a document have told that stands in it once: parameters, model, definitions of tools."""

    parameters: dict[str, JSON] = field(default_factory=dict[str, JSON])
    model: str | None = None
    tools: set[str] = field(default_factory=set[str])
    tool_sets: set[int] = field(default_factory=set[int])


class Document:
    """One ATIF document on its way into a journal; `head` is its header as ATIF writes it.

    `trace_id` is the trace that its spans are of where they name none; a child of `parent` has its parent's.
    """

    def __init__(
        self,
        journal: Journal,
        head: dict[str, Any],
        parent: Document | None,
        media: MediaStore | None,
        trace_id: int = 0,
    ):
        self.journal = journal
        self.trace_id: int = parent.trace_id if parent is not None else trace_id
        self.about: dict[str, Any] = parent.about if parent is not None else dict(head.get("extra", {}))
        self.id: str = head["trajectory_id"]
        self.name: str = head["agent"]["name"]
        self.line = Conversation()
        self.helpers: list[Document] = []
        self.opening: Opening | None = None
        self.fan: Fan | None = None
        self.waiting: list[tuple[SpanRecord, list[Call]]] = []
        self.count = 0
        self.media = media
        self.calls = Calls()
        self.said = Said()
        self._last_time = 0
        journal.write({"op": "open", "doc": self.id, "head": head, "parent": parent.id if parent else None})

    @property
    def call_id(self) -> str:
        """The id of the call that begins this document where no tool's call does."""
        return f"{atif.DISPATCH_ID}{self.id}"

    # ── what it is

    def describe(self, record: SpanRecord) -> None:
        """Write whom and what the document is for, where only the end of its outermost span says so."""
        known = self.about
        news = {name: value for name, value in steps.about(record).items() if name not in known}
        if news:
            known.update(news)
            self.patch_head({"extra": news})

    def differing(self, record: SpanRecord) -> dict[str, JSON]:
        """Return whom and what a span is for, as far as that is not what its document says."""
        if not record.metadata and not record.user_id:
            return {}
        told = steps.about(record)
        if told.get("user") == self.about.get("user"):
            told.pop("user", None)
        known = self.about.get("metadata", {})
        told["metadata"] = {n: v for n, v in record.metadata.items() if n not in known or known[n] != v}
        return {name: value for name, value in told.items() if value != {}}

    def rename(self, name: str) -> None:
        """Write whose the document is, where that became known only later."""
        self.name = name
        self.patch_head({"agent": {"name": name}})

    def name_session(self, session_id: str) -> None:
        """Write the session of the document, where it became known only later."""
        self.patch_head({"session_id": session_id})

    def mark_partial(self) -> None:
        """Write that a model call had not ended when the document was closed."""
        self.note("llm_unfinished")
        self.patch_head({"extra": {"status": "partial"}})

    def knows(self, record: SpanRecord) -> bool:
        """Whether a tool's run fits a call of this document that has not run yet."""
        return any(not call.executed for call in self.calls.fitting(record))

    # ── other conversations

    def add_dispatch(self, record: SpanRecord, child: Document, begins: atif.Dispatch, *, fan: bool = False) -> Call:
        """Write a step that starts another conversation without a tool call of a model; `fan`: one of several alike."""
        step = self.dispatch_step(child.call_id, child.name, {}, record, begins)
        if fan and self.fan is not None:
            self._join(self.fan, record, step)
        call = self.own_call(step, child.call_id)
        self.add(step, record.start)
        if begins == "side conversation":
            self.note("side_conversation")
        return call

    def _join(self, fan: Fan, record: SpanRecord, step: atif.Step) -> None:
        if record.start >= fan.last_end:
            fan.group += 1
        fan.last_end = max(fan.last_end, record.end or 0)
        for call in step.tool_calls or []:
            call.extra = {**(call.extra or {}), "fan_out": fan.group}

    def demote(
        self,
        head: dict[str, Any],
        agent: dict[str, Any],
        record: SpanRecord,
        begins: atif.Dispatch = "side conversation",
        fan: Fan | None = None,
    ) -> Document:
        """Turn what stands here into a child, and return the child.

        The main conversation begins only now, or, with `fan`, there is none: the child is the first of several alike.
        """
        child = Document.__new__(Document)
        child.__dict__.update(self.__dict__)
        child.id, child.name = head["trajectory_id"], head["agent"]["name"]
        self._clear(agent)
        step = self.dispatch_step(child.call_id, child.name, {}, record, begins)
        if fan is not None:
            self.fan = fan
            self._join(fan, record, step)
        self.count, step.step_id = 1, 1
        step.timestamp = steps.timestamp(self._last_time)
        change: dict[str, JSON] = {"op": "demote", "doc": self.id, "child": child.id, "head": head}
        change.update(agent=agent, step=step.to_json(), call=child.call_id)
        self.journal.write(change)
        if begins == "side conversation":
            self.note("side_conversation")
        self.helpers.append(child)
        return child

    def _clear(self, agent: dict[str, Any]) -> None:
        self.name = agent["name"]
        self.line, self.helpers, self.waiting = Conversation(trace_id=self.line.trace_id), [], []
        self.calls, self.said, self.opening = Calls(), Said(), None

    def link(self, child: Document, call: Call) -> None:
        """Write which call started a child document, unless that was begun in a file that is not this one's."""
        if child.journal is not self.journal:
            return
        operation: dict[str, JSON] = {"op": "link", "doc": child.id, "parent": self.id}
        self.journal.write({**operation, "step": call.step, "call": call.id})

    # ── writing

    def dispatch_step(
        self, given: str, name: str, arguments: JSON, record: SpanRecord, begins: atif.Dispatch | None = None
    ) -> atif.Step:
        """Return a step that only calls a tool, or begins another conversation."""
        step = atif.Step(0, "agent", "", llm_call_count=0, extra={"otel": steps.origin_of(record, self.trace_id)})
        own = self.calls.own_id(given)
        shown, extra = steps.arguments_of(arguments)
        if begins is not None:
            extra["dispatch"] = begins
        step.tool_calls = [atif.ToolCall(own, str(name or "unknown"), shown, extra or None)]
        return step

    def own_call(self, step: atif.Step, given: str) -> Call:
        """Return the known form of a dispatch step's only call; no request will tell its result."""
        written = (step.tool_calls or [])[0]
        return Call(self.count + 1, written.tool_call_id, written.function_name, "", given, told=False)

    def add_calls(
        self, record: SpanRecord, answer: Turn | None, step: atif.Step, number: int | None = None
    ) -> list[Call]:
        """Give a step, the next unless it has a number, the calls of an answer, each with an id of its own here."""
        calls: list[Call] = []
        written: list[atif.ToolCall] = []
        for index, call in enumerate(answer.calls if answer else []):
            given = call.id or f"{record.span_id:016x}:{index}"
            arguments, extra = steps.arguments_of(call.arguments)
            if call.server:
                extra["server_side"] = True
            if (refusal := steps.refusal_of(record, call)) is not None:
                extra["refused"] = refusal
            name = call.name or "unknown"
            own = self.calls.own_id(given)
            if own != given:
                extra["original_tool_call_id"] = given
            written.append(atif.ToolCall(own, name, arguments, extra or None))
            calls.append(Call(number or self.count + 1, own, name, canonical(call.arguments), call.id))
        step.tool_calls = written or None
        for call in calls:
            self.calls.know(call)
        return calls

    def add(self, step: atif.Step, nanoseconds: int) -> int:
        """Write a step; its time is never before the step before it."""
        self.count += 1
        step.step_id = self.count
        self._last_time = max(self._last_time, nanoseconds)
        step.timestamp = steps.timestamp(self._last_time)
        self.journal.write({"op": "step", "doc": self.id, "step": step.to_json()})
        return self.count

    def insert(self, step: atif.Step, nanoseconds: int, before: int) -> None:
        """Write a step that has its place before one that stands already, and no number of its own."""
        step.timestamp = steps.timestamp(nanoseconds)
        self.journal.write({"op": "question", "doc": self.id, "before": before, "step": step.to_json()})

    def write_result(self, call: Call, content: str | list[atif.ContentPart] | None, extra: dict[str, JSON]) -> None:
        """Write a tool's answer, or what is known of it, beside its call."""
        result = atif.ObservationResult(call.id, content, extra=extra or None)
        written = {"op": "result", "doc": self.id, "step": call.step, "result": result.to_json()}
        self.journal.write(written)

    def patch(self, number: int, change: dict[str, JSON]) -> None:
        """Write a change of a step."""
        self.journal.write({"op": "patch", "doc": self.id, "step": number, "set": change})

    def patch_head(self, change: dict[str, JSON]) -> None:
        """Write a change of the header."""
        self.journal.write({"op": "patch", "doc": self.id, "set": change})

    def note(self, code: str, count: int = 1) -> None:
        """Count something that the document's notes will say."""
        counted: dict[str, JSON] = {} if count == 1 else {"count": count}
        self.journal.write({"op": "note", "doc": self.id, "code": code, **counted})


def shape_of(record: SpanRecord) -> Shape:
    """Return what a call has in common with others that a program makes beside it."""
    request = record.request or ModelRequest()
    head, _ = split_system(request.messages)
    return system_key(request, head), tuple(tool.name for tool in request.tools), request.model


def system_turns(request: ModelRequest, head: list[Message]) -> list[Turn]:
    """Return the system prompts of a request, `head` being the messages among them; each once.

    Some instrumentors write the instructions apart and, as they were sent, among the messages.
    """
    told = turns_of(head)
    if request.system:
        apart, whole = Turn("system", request.system), Turn("system", [part for turn in told for part in turn.parts])
        told = [apart, *told] if not told or key_of(whole) != key_of(apart) else [apart]
    if len(told) < 2:
        return told
    found: dict[int, Turn] = {}
    for turn in told:
        found.setdefault(key_of(turn), turn)
    return list(found.values())


def system_key(request: ModelRequest, head: list[Message]) -> tuple[int, ...]:
    """Return what tells the system prompts of a request from others."""
    return tuple([key_of(turn) for turn in system_turns(request, head)]) if head or request.system else ()
