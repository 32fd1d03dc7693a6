"""One growing document: model calls, tool runs and what lies between them become steps, in the order they came.

A step is written once, as soon as it is known; what later spans add to it is written as a change. Nothing here
keeps a text that has been written.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from spanrelay import _json
from spanrelay.assembly import atif, steps
from spanrelay.assembly.steps import MediaStore
from spanrelay.assembly.transcript import (
    Alignment,
    Transcript,
    Turn,
    canonical,
    key_of,
    result_key,
    split_system,
    turns_of,
)
from spanrelay.records import JSON, Message, ModelRequest, Part, SpanRecord, Text, ToolCallResponse
from spanrelay.semconv.histories import agreement

MAX_STEPS = 100_000
"""Steps that one document may have; later ones are counted as lost."""

MAX_CALLS = 2048
"""Tool calls whose later results are still recognised."""

MAX_SYSTEM = 65_536
"""Characters of a system prompt that are kept to tell what changed in the next one."""


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
class Call:
    """One tool call of a document: where it stands, and what is known of its result.

    `executed` and `told` say whether its own span and a later request have given the result; `shown` is the
    key of the content that stands in the document.
    """

    step: int
    id: str
    name: str
    arguments: str
    wire_id: str | None
    executed: bool = False
    told: bool = False
    shown: str | None = None


Run: TypeAlias = tuple[SpanRecord, Call]
"""A tool's span and the call that it ran."""


@dataclass(slots=True)
class Copied:
    """An answer that stands in a document since a request repeated it: its step, its key, and when that call began."""

    step: int
    key: int
    since: int


@dataclass(slots=True)
class Conversation:
    """What a document remembers of its conversation beside the transcript.

    `systems` are the system prompts it has had, by key, with their steps; `heard` is what models were asked since an
    agent's question was last looked for, and `past` what was told before. `copied` are answers whose calls have not
    been told, by their places among the turns, and `blank` the last calls' steps of which nothing was recorded.
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
    heard: str = ""
    past: str = ""


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
class Place:
    """How a model call goes on in a document; `sent_id` where it sent only what is new since that answer.

    `copied` where a later call has been told already, and has repeated this one's answer.
    """

    alignment: Alignment
    sent_id: str | None = None
    copied: Copied | None = None


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
        self._about: dict[str, Any] = parent._about if parent is not None else dict(head.get("extra", {}))
        self._parameters: dict[str, JSON] = {}
        self.id: str = head["trajectory_id"]
        self.name: str = head["agent"]["name"]
        self.line = Conversation()
        self.helpers: list[Document] = []
        self.opening: Opening | None = None
        self.fan: Fan | None = None
        self.waiting: list[tuple[SpanRecord, list[Call]]] = []
        self.count = 0
        self._media = media
        self._last_time = 0
        self._used: set[int] = set()
        self._calls: OrderedDict[str, Call] = OrderedDict()
        self._wire: dict[str, Call] = {}
        self._tools: set[str] = set()
        self._tool_sets: set[int] = set()
        self._model: str | None = None
        journal.write({"op": "open", "doc": self.id, "head": head, "parent": parent.id if parent else None})

    @property
    def call_id(self) -> str:
        """The id of the call that begins this document where no tool's call does."""
        return f"{atif.DISPATCH_ID}{self.id}"

    # ── whether a call goes on here

    def find(self, record: SpanRecord) -> Place | None:
        """Return how a model call goes on here, or None where it continues nothing that is known."""
        request = record.request or ModelRequest()
        if not request.messages or not record.content:
            return Place(Alignment("extension")) if self.line.count or not self.count else None
        if self.fan is not None and not self.line.count and shape_of(record) == self.fan.shape:
            return None
        head, start = split_system(request.messages)
        sent_id = request.parameters.get("previous_response_id")
        if sent_id in self.line.response_ids:
            return Place(self._built_upon(request, start, sent_id), sent_id)
        found = self.line.transcript.align(request.messages, start)
        if self._belongs(found, _system_key(request, head)):
            copied = self._copied(found, record)
            if copied is not None or not self._forks(found, record):
                return Place(found, copied=copied)
        conversation = request.parameters.get("conversation_id")
        if conversation and conversation == self.line.id:
            return Place(self.line.transcript.delta(request.messages, start))
        return None

    def _copied(self, found: Alignment, record: SpanRecord) -> Copied | None:
        """Return the answer of a call that is told behind a later one, if that is known from there."""
        copied = self.line.copied.get(found.kept) if found.kind == "fork" else None
        if copied is None or (record.end or record.start) > copied.since:
            return None
        answer = steps.answer_of(record)
        return copied if answer is not None and key_of(answer) == copied.key else None

    def _built_upon(self, request: ModelRequest, start: int, sent_id: str) -> Alignment:
        """Align a request that names the answer it builds upon: only what is new, or all the same."""
        whole = self.line.transcript.align(request.messages, start)
        if whole.kind == "extension" and len(self.line.transcript):
            return whole
        return self.line.transcript.delta(request.messages, start, sent_id)

    def _belongs(self, found: Alignment, system: tuple[int, ...]) -> bool:
        """Whether enough is shared: other instructions over the same question are another conversation."""
        if found.kind == "extension":
            return True
        same = system == (self.line.system or ())
        if found.kind in ("compaction", "pruning"):
            return same or found.kept > 1
        return found.kind != "unrelated" and same

    def _forks(self, found: Alignment, record: SpanRecord) -> bool:
        """Whether a call leaves the known path while another call on it still runs."""
        return found.kind in ("truncation", "fork") and record.start < self.line.last_end

    def extends(self, record: SpanRecord) -> bool:
        """Whether a model call goes on from the last answer here: sure, and cheap where it does not."""
        request = record.request
        if request is None or not record.content:
            return False
        if request.parameters.get("previous_response_id") in self.line.response_ids:
            return True
        return self.line.transcript.extends(request.messages, split_system(request.messages)[1])

    def fans_out(self, record: SpanRecord) -> bool:
        """Whether a call that continues nothing is one of several alike: the first ran here, at the same time."""
        first = self.opening
        if first is None or self.fan is not None or self.line.count != 1 or self.waiting or not record.content:
            return False
        alone = self.count == first.count and record.start < self.line.last_end
        return alone and shape_of(record) == first.shape

    def is_of_fan(self, record: SpanRecord) -> bool:
        """Whether a call that continues nothing is another of those that were begun here beside each other."""
        return self.fan is not None and record.content and shape_of(record) == self.fan.shape

    def resume(self, record: SpanRecord) -> Place | None:
        """Take a request that repeats nothing as the next turn, where it may be: same system, one message.

        So it is where a program keeps the history to itself.
        """
        request = record.request
        if request is None or record.start < self.line.last_end:
            return None
        head, start = split_system(request.messages)
        if len(request.messages) - start != 1 or _system_key(request, head) != (self.line.system or ()):
            return None
        return Place(self.line.transcript.delta(request.messages, start))

    # ── model calls

    def add_call(
        self, record: SpanRecord, place: Place, origin: dict[str, JSON] | None = None, agent: str | None = None
    ) -> int:
        """Write what a model call adds: changed context, new turns, and the answer; return the answer's step.

        `origin` is merged into the step's `extra.otel`; `agent` is who made the call.
        """
        found = place.alignment
        if place.copied is not None:
            return self._add_late(record, found.kept, place.copied, origin or {}, agent)
        self._tell_aliases(found)
        self._tell_change(record, found)
        self._tell_system(record)
        self._add_turns(record, found)
        answer = steps.answer_of(record)
        number = self._add_answer(record, found, answer, origin or {}, agent)
        self._remember(record, place, answer, number)
        if self.opening is None and self.line.count == 1:
            self.opening = Opening(record, shape_of(record), self.count)
        return number

    def _add_turns(self, record: SpanRecord, found: Alignment) -> None:
        """Write the turns that nobody has told of, and keep in mind which answers are copies."""
        copied = self.line.copied
        if found.kind not in ("extension", "retry", "fork"):
            copied.clear()  # what stands behind has other places now
        filled = self._fillable(found)
        for at, turn in enumerate(found.new):
            if at in filled:
                self._fill(record, turn, filled[at])
                continue
            self._add_turn(record, turn, next((step for later, step in filled.items() if later > at), None))
            if turn.role == "assistant" and len(copied) < MAX_CALLS:
                copied[found.known + at] = Copied(self.count, key_of(turn), record.start)

    def _fillable(self, found: Alignment) -> dict[int, int]:
        """Return which of the new turns are what blank steps have left out, in order."""
        said = [at for at, turn in enumerate(found.new) if turn.role == "assistant"]
        if not said:
            return {}
        blank, self.line.blank = self.line.blank, []
        known = found.kind == "extension" and len(said) <= len(blank)
        return dict(zip(said, blank[-len(said) :], strict=True)) if known else {}

    def _fill(self, record: SpanRecord, turn: Turn, number: int) -> None:
        """Write into a blank step what a later request says that the model answered there."""
        step = atif.Step(number, "agent", steps.content_of(turn.parts, self._media, glue=""))
        self._add_calls(record, turn, step, number)
        told = step.to_json()
        extra: dict[str, JSON] = {"content_captured": None, "message_source": steps.NEXT_REQUEST}
        self.patch(number, {name: told[name] for name in ("message", "tool_calls") if name in told} | {"extra": extra})

    def _add_late(
        self, record: SpanRecord, place: int, copied: Copied, origin: dict[str, JSON], agent: str | None
    ) -> int:
        """Make the step of an answer that was only a copy that of its call, which is told late."""
        del self.line.copied[place]
        step = steps.agent_step(record, steps.answer_of(record), self._media, self.trace_id)
        extra = self._extra_of(record, step, origin, agent)
        self._tell_agent(record, step, extra)
        extra["otel"].setdefault("trace_id", None)
        step.step_id, step.message = copied.step, ""
        told = step.to_json() | {"extra": extra, "is_copied_context": None}
        self.patch(copied.step, {name: told[name] for name in told if name not in ("step_id", "source", "message")})
        self.note("copied_context", -1)
        self._remember_answer(record)
        self.line.last_end = max(self.line.last_end, record.end or 0)
        return copied.step

    def _remember_answer(self, record: SpanRecord) -> None:
        ids = self.line.response_ids
        if record.response is not None and record.response.id:
            ids[record.response.id] = None
            if len(ids) > MAX_CALLS:
                ids.popitem(last=False)

    def _remember(self, record: SpanRecord, place: Place, answer: Turn | None, number: int) -> None:
        line, request, response = self.line, record.request, record.response
        response_id = response.id if response else None
        if record.content and request is not None and request.messages:
            line.transcript.accept(place.alignment, answer, response_id, place.sent_id)
        self._remember_answer(record)
        sent_to = request.parameters.get("conversation_id") if request else None
        line.id = sent_to or (response and response.parameters.get("conversation_id")) or None
        line.last_step, line.count = number, line.count + 1
        if not (record.content or answer or record.error or record.incomplete) and len(line.blank) < MAX_CALLS:
            line.blank.append(number)
        # An answer that nobody waits for any more is nothing that a later call would leave behind.
        line.last_end = max(line.last_end, (record.start if record.incomplete else record.end) or 0)
        line.trace_id = record.trace_id
        line.tools = line.tools or bool(request and request.tools) or bool(line.calls)

    def _add_answer(
        self,
        record: SpanRecord,
        found: Alignment,
        answer: Turn | None,
        origin: dict[str, JSON],
        agent: str | None,
    ) -> int:
        line = self.line
        step = steps.agent_step(record, answer, self._media, self.trace_id)
        extra = self._extra_of(record, step, origin, agent)
        if found.kind == "retry" and line.last_step:
            extra["retry_of_step"] = line.last_step
        elif found.kind == "fork":
            extra["forked_after_turns"] = found.kept
        self._tell_parameters(record, extra)
        self._tell_agent(record, step, extra)
        step.extra = extra
        line.calls = self._add_calls(record, answer, step)
        number = self._add(step, record.start)
        for part in answer.parts if answer else []:
            if isinstance(part, ToolCallResponse):
                self._tell_result(part, {"server_side": True})
        return number

    def _extra_of(
        self, record: SpanRecord, step: atif.Step, origin: dict[str, JSON], agent: str | None
    ) -> dict[str, Any]:
        """Return the `extra` of a model call's step, with what its document says of it."""
        extra: dict[str, Any] = step.extra or {}
        extra["otel"].update(origin)
        if agent and agent != self.name:
            extra["agent_name"] = agent
        extra.update(self._differing(record))
        return extra

    def describe(self, record: SpanRecord) -> None:
        """Write whom and what the document is for, where only the end of its outermost span says so."""
        known = self._about
        news = {name: value for name, value in steps.about(record).items() if name not in known}
        if news:
            known.update(news)
            self._patch_head({"extra": news})

    def _differing(self, record: SpanRecord) -> dict[str, JSON]:
        """Return whom and what a span is for, as far as that is not what its document says."""
        if not record.metadata and not record.user_id:
            return {}
        told = steps.about(record)
        if told.get("user") == self._about.get("user"):
            told.pop("user", None)
        known = self._about.get("metadata", {})
        told["metadata"] = {n: v for n, v in record.metadata.items() if n not in known or known[n] != v}
        return _kept(told)

    def _tell_parameters(self, record: SpanRecord, extra: dict[str, JSON]) -> None:
        """Write a call's parameters, the first time and where they change."""
        given = steps.parameters_of(record)
        if given != self._parameters:
            extra["parameters"] = self._parameters = given

    def _tell_agent(self, record: SpanRecord, step: atif.Step, extra: dict[str, Any]) -> None:
        """Put into the header what the first model call that knows it says: the model, and new tools."""
        if self._model is None and step.model_name:
            self._model = step.model_name
            self._patch_head({"agent": {"model_name": step.model_name}})
        tools = record.request.tools if record.request else []
        if not tools:
            return
        names = hash(tuple(tool.name for tool in tools))
        if names in self._tool_sets:
            return
        definitions = [steps.definition_of(tool) for tool in tools]
        new = [d for d in definitions if _json.dumps_text(d) not in self._tools]
        self._tools.update(_json.dumps_text(d) for d in new)
        if self._tool_sets:
            extra["tools_changed_to"] = [tool.name for tool in tools]
        self._tool_sets.add(names)
        if new:
            self.journal.write({"op": "tools", "doc": self.id, "tools": new})

    def _add_calls(
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
            own = self._own_id(given)
            if own != given:
                extra["original_tool_call_id"] = given
            written.append(atif.ToolCall(own, name, arguments, extra or None))
            calls.append(Call(number or self.count + 1, own, name, canonical(call.arguments), call.id))
        step.tool_calls = written or None
        for call in calls:
            self._know(call)
        return calls

    def _own_id(self, given: str) -> str:
        own, number = given, 1
        while hash(own) in self._used:
            number += 1
            own = f"{given}#{number}"
        self._used.add(hash(own))
        return own

    def _know(self, call: Call) -> None:
        self._calls[call.id] = call
        if call.wire_id:
            self._wire[call.wire_id] = call
        if len(self._calls) > MAX_CALLS:
            _, old = self._calls.popitem(last=False)
            if old.wire_id and self._wire.get(old.wire_id) is old:
                del self._wire[old.wire_id]

    def _tell_aliases(self, found: Alignment) -> None:
        """Take over the ids by which a request repeats the last answer's calls; tools' answers will use them."""
        echoed = [call for turn in found.echo for call in turn.calls]
        if len(echoed) != len(self.line.calls):
            return
        for known, echo in zip(self.line.calls, echoed, strict=True):
            if not echo.id or echo.id == known.wire_id or echo.name != known.name:
                continue
            new = self._own_id(echo.id)
            change: dict[str, JSON] = {"op": "rename", "doc": self.id, "step": known.step}
            self.journal.write({**change, "call": known.id, "to": new})
            self._calls.pop(known.id, None)
            known.id, known.wire_id = new, echo.id
            self._know(known)

    # ── what a request says that is new

    def _tell_change(self, record: SpanRecord, found: Alignment) -> None:
        """Write that the history a model is sent has been rewritten, and what stands there now."""
        if found.kind not in ("compaction", "pruning", "truncation") or record.truncated:
            return
        boundary = "truncate" if found.kind == "truncation" else "replace"
        kind = "compaction" if found.kind == "compaction" else "pruning"
        management: dict[str, JSON] = {"type": kind, "boundary": boundary}
        management.update(kept_turns=found.kept, dropped_turns=found.dropped)
        gone = "1 earlier turn is" if found.dropped == 1 else f"{found.dropped} earlier turns are"
        step = atif.Step(0, "system", f"Context {kind}: {gone} no longer sent.")
        step.extra = {"context_management": management, "otel": steps.reference_of(record, self.trace_id)}
        if found.changed:
            text = "\n\n".join(_described(turn) for turn in found.changed)
            result = atif.ObservationResult(content=steps.cut(text))
            step.observation = atif.Observation([result])
        self._add(step, record.start)
        self.note("context_changed")

    def _tell_system(self, record: SpanRecord) -> None:
        """Write the system prompts of a request, the first time and where they change."""
        request, line = record.request, self.line
        if request is None or not record.content:
            return
        head, _ = split_system(request.messages)
        key = _system_key(request, head)
        if key == line.system or not key:
            return
        first = line.system is None and not line.count
        for each, turn in zip(key, _system_turns(request, head), strict=True):
            if line.system is None or each not in line.system:
                self._add_system(record, each, turn, first)
        line.system = key

    def _add_system(self, record: SpanRecord, key: int, turn: Turn, first: bool) -> None:
        line = self.line
        content = steps.content_of(turn.parts, self._media)
        extra: dict[str, JSON] = {"otel": steps.reference_of(record, self.trace_id)}
        if not first:
            extra["context_management"] = {"type": "injection", "boundary": "append"}
        known = line.systems.get(key)
        if known is not None:
            step = atif.Step(0, "system", atif.same_again(known))
            extra["same_as_step"] = known
        else:
            step = atif.Step(0, "system", content)
            if isinstance(content, str):
                step.message, change = _changed(line.system_text, content)
                extra.update(change)
                line.system_text = content[:MAX_SYSTEM]
        step.extra = extra
        number = self._add(step, record.start)
        line.systems.setdefault(key, number)

    def _add_turn(self, record: SpanRecord, turn: Turn, before: int | None = None) -> None:
        """Write a turn as the next step, or, if it is no tool's nor a model's, before one that stands already."""
        if turn.role == "tool":
            self._add_tool_turn(record, turn)
            return
        extra: dict[str, JSON] = {"otel": steps.reference_of(record, self.trace_id)}
        if turn.role == "assistant":
            self._add_copied(record, turn, extra)
            return
        source = "system" if turn.role == "system" else "user"
        step = atif.Step(0, source, steps.content_of(turn.parts, self._media), extra=extra)
        if before is None:
            self._add(step, record.start)
        else:
            extra["message_source"] = steps.NEXT_REQUEST
            self._insert(step, record.start, before)
        self.line.heard = f"{self.line.heard}\n{_ends(turn.text)}"[-MAX_HEARD:]

    def add_question(
        self, record: SpanRecord, parts: list[Part], before: int, heard: str = "", *, resumed: bool
    ) -> str:
        """Write what an agent was asked, as its span says, before the first step of its run; once, if a model was.

        `heard` is what else was asked in the run; returns all that was, the agent's own question included. A run that
        is `resumed` was asked before.
        """
        line, text = self.line, _ends(Turn("user", parts).text)
        heard = f"{heard}\n{line.heard}"[-MAX_HEARD:]
        told = f"{line.past}\n{heard}" if resumed else heard
        line.past, line.heard = line.heard or line.past, ""
        if " ".join(text.split()) in " ".join(told.split()):
            return heard
        line.past = text
        extra: dict[str, JSON] = {"message_source": steps.AGENT_SPAN, "otel": steps.origin_of(record, self.trace_id)}
        self._insert(atif.Step(0, "user", steps.content_of(parts, self._media), extra=extra), record.start, before)
        return f"{heard}\n{text}"

    def _add_copied(self, record: SpanRecord, turn: Turn, extra: dict[str, JSON]) -> None:
        """Write an assistant's turn that nobody saw being generated: it came with the history."""
        step = atif.Step(0, "agent", steps.content_of(turn.parts, self._media, glue=""), extra=extra)
        step.is_copied_context = True
        self._add_calls(record, turn, step)
        self._add(step, record.start)
        self.note("copied_context")

    def _add_tool_turn(self, record: SpanRecord, turn: Turn) -> None:
        part = turn.parts[0] if turn.parts else None
        if not isinstance(part, ToolCallResponse):
            texts = [each.text for each in turn.parts if isinstance(each, Text)]
            part = ToolCallResponse(None, "".join(texts) if texts else None, turn.name)
        if not self._tell_result(part, {}):
            name, given = part.name or turn.name or "unknown", part.id or f"{record.span_id:016x}:result"
            step = self._dispatch_step(given, name, None, record)
            step.is_copied_context = True
            call = self._own_call(step, given)
            self._add(step, record.start)
            self._write_result(call, steps.result_content(part.content, self._media), steps.answer_extra(part))

    def _tell_result(self, part: ToolCallResponse, extra: dict[str, JSON]) -> bool:
        """Write a tool's answer as the model saw it, beside its call; False where no call is known."""
        call = self._call_of(part.id) if part.id else self._next_call(part.name)
        if call is None:
            return False
        if call.told:
            return True
        call.told = True
        key = result_key(part.content)
        marks = {**extra, **steps.answer_extra(part)}
        if call.executed and call.shown == key:
            if marks:
                self._write_result(call, None, marks)
            return True
        source = {"span_result_differs": True} if call.executed else {"result_source": "next_request"}
        marks["otel"] = {} if extra else source
        self._write_result(call, steps.result_content(part.content, self._media), _kept(marks))
        call.shown = key
        return True

    def _call_of(self, wire_id: str) -> Call | None:
        """Return the call of that id; of those of one answer that share it the first that no result was told of."""
        found = self._wire.get(wire_id)
        if found is not None and not found.told:
            for call in reversed(self._calls.values()):
                if call.step != found.step:
                    break
                if call.wire_id == wire_id and not call.told:
                    found = call
        return found

    def _next_call(self, name: str | None) -> Call | None:
        """Return the first call that no request has told the result of, for providers without ids."""
        for call in self._calls.values():
            if not call.told and (name is None or call.name == name):
                return call
        return None

    # ── tool runs

    def add_run(self, record: SpanRecord, *, may_wait: bool) -> list[Run]:
        """Write what a tool's span says beside its call; return the runs that have found their calls by it.

        Never guesses: a run that fits several calls waits until as many runs as calls have come. A run that
        fits none becomes a step of its own, but waits where `may_wait` (its model call may not have ended).
        """
        found = self._candidates(record)
        if len(found) == 1:
            self._write_run(found[0], record)
            return [(record, found[0])]
        if len(found) > 1:
            return self._pair(record, found)
        if may_wait:
            self.waiting.append((record, []))
            return []
        return [(record, self._add_orphan(record))]

    def settle(self, *, final: bool) -> list[Run]:
        """Try the waiting runs again; with `final`, those that still fit nothing get steps of their own."""
        waiting, self.waiting = self.waiting, []
        settled: list[Run] = []
        for record, _ in waiting:
            settled += self.add_run(record, may_wait=not final)
        return settled + self.settle_ambiguous() if final else settled

    def settle_ambiguous(self) -> list[Run]:
        """Give steps of their own to runs that fit several calls: no more runs come once a model goes on."""
        ambiguous = [record for record, candidates in self.waiting if candidates]
        self.waiting = [entry for entry in self.waiting if not entry[1]]
        return [(record, self._add_orphan(record)) for record in ambiguous]

    def _candidates(self, record: SpanRecord) -> list[Call]:
        tool = record.tool
        if tool is None:
            return []
        if tool.call_id:
            call_id = str(tool.call_id)
            call = self._wire.get(call_id) or self._calls.get(call_id)
            return [call] if call else []
        name = tool.name or record.name
        pending = [c for c in self._calls.values() if not c.executed and not c.told and c.name == name]
        arguments = canonical(tool.arguments)
        return [c for c in pending if _same_arguments(c.arguments, arguments)] or (pending if len(pending) == 1 else [])

    def _pair(self, record: SpanRecord, candidates: list[Call]) -> list[Run]:
        """Hold back a run that fits several calls; pair all in order once there are as many runs as calls."""
        ids = [call.id for call in candidates]
        alike = [run for run, others in self.waiting if [call.id for call in others] == ids] + [record]
        if len(alike) < len(candidates):
            self.waiting.append((record, candidates))
            return []
        self.waiting = [entry for entry in self.waiting if not any(entry[0] is run for run in alike)]
        paired = list(zip(sorted(alike, key=_start), candidates, strict=True))
        for run, call in paired:
            self._write_run(call, run)
        return paired

    def _write_run(self, call: Call, record: SpanRecord) -> None:
        extra: dict[str, JSON] = {
            **steps.duration_of(record),
            "otel": {**steps.origin_of(record, self.trace_id), "start": steps.timestamp(record.start)},
            **self._differing(record),
            **steps.tool_error(record),
            **steps.annotation_of(record),
            **steps.trial_of(record),
        }
        if record.incomplete:
            extra["incomplete"] = record.incomplete
        if record.answered_by is not None:
            extra["answered_by"] = str(record.answered_by)
        content = steps.executed_content(record, self._media)
        key = result_key(record.result.content if record.result else content)
        if call.told and call.shown != key:
            content = None
            extra["otel"]["span_result_differs"] = True
        elif content is not None:
            call.shown = key
        call.executed = True
        self._write_result(call, content, extra)

    def _add_orphan(self, record: SpanRecord) -> Call:
        """Write a tool that ran without a model asking for it."""
        tool = record.tool
        given = str((tool and tool.call_id) or f"{record.span_id:016x}")
        step = self._dispatch_step(given, (tool and tool.name) or record.name, tool and tool.arguments, record)
        call = self._own_call(step, given)
        self._add(step, record.start)
        self._write_run(call, record)
        self.note("tool_span_without_llm_call")
        return call

    def add_dispatch(self, record: SpanRecord, child: Document, begins: atif.Dispatch, *, fan: bool = False) -> Call:
        """Write a step that starts another conversation without a tool call of a model; `fan`: one of several alike."""
        step = self._dispatch_step(child.call_id, child.name, {}, record, begins)
        if fan and self.fan is not None:
            self._join(self.fan, record, step)
        call = self._own_call(step, child.call_id)
        self._add(step, record.start)
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
        step = self._dispatch_step(child.call_id, child.name, {}, record, begins)
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
        self.name, self._model = agent["name"], None
        self.line, self.helpers, self.waiting = Conversation(trace_id=self.line.trace_id), [], []
        self._used, self._calls, self._wire = set(), OrderedDict(), {}
        self._tools, self._tool_sets = set(), set()
        self._parameters, self.opening = {}, None

    def add_unfinished(self, record: SpanRecord) -> None:
        """Write that a tool had not ended when the document was closed."""
        found = self._candidates(record)
        extra: dict[str, JSON] = {"incomplete": "unfinished", "otel": steps.origin_of(record, self.trace_id)}
        if len(found) == 1 and not found[0].executed:
            self._write_result(found[0], None, extra)
        elif not found and record.tool is not None:
            step = self._dispatch_step(f"{record.span_id:016x}", record.tool.name, record.tool.arguments, record)
            call = self._own_call(step, f"{record.span_id:016x}")
            self._add(step, record.start)
            self._write_result(call, None, extra)
        self.note("tool_unfinished")
        self._patch_head({"extra": {"status": "partial"}})

    def mark_partial(self) -> None:
        """Write that a model call had not ended when the document was closed."""
        self.note("llm_unfinished")
        self._patch_head({"extra": {"status": "partial"}})

    def _dispatch_step(
        self, given: str, name: str, arguments: JSON, record: SpanRecord, begins: atif.Dispatch | None = None
    ) -> atif.Step:
        step = atif.Step(0, "agent", "", llm_call_count=0, extra={"otel": steps.origin_of(record, self.trace_id)})
        own = self._own_id(given)
        shown, extra = steps.arguments_of(arguments)
        if begins is not None:
            extra["dispatch"] = begins
        step.tool_calls = [atif.ToolCall(own, str(name or "unknown"), shown, extra or None)]
        return step

    def _own_call(self, step: atif.Step, given: str) -> Call:
        """Return the known form of a dispatch step's only call; no request will tell its result."""
        written = (step.tool_calls or [])[0]
        return Call(self.count + 1, written.tool_call_id, written.function_name, "", given, told=False)

    # ── writing

    def _add(self, step: atif.Step, nanoseconds: int) -> int:
        """Write a step; its time is never before the step before it."""
        self.count += 1
        step.step_id = self.count
        self._last_time = max(self._last_time, nanoseconds)
        step.timestamp = steps.timestamp(self._last_time)
        self.journal.write({"op": "step", "doc": self.id, "step": step.to_json()})
        return self.count

    def _insert(self, step: atif.Step, nanoseconds: int, before: int) -> None:
        """Write a step that has its place before one that stands already, and no number of its own."""
        step.timestamp = steps.timestamp(nanoseconds)
        self.journal.write({"op": "question", "doc": self.id, "before": before, "step": step.to_json()})

    def _write_result(self, call: Call, content: str | list[atif.ContentPart] | None, extra: dict[str, JSON]) -> None:
        result = atif.ObservationResult(call.id, content, extra=extra or None)
        written = {"op": "result", "doc": self.id, "step": call.step, "result": result.to_json()}
        self.journal.write(written)

    def knows(self, record: SpanRecord) -> bool:
        """Whether a tool's run fits a call of this document that has not run yet."""
        return any(not call.executed for call in self._candidates(record))

    def name_session(self, session_id: str) -> None:
        """Write the session of the document, where it became known only later."""
        self._patch_head({"session_id": session_id})

    def patch(self, number: int, change: dict[str, JSON]) -> None:
        """Write a change of a step."""
        self.journal.write({"op": "patch", "doc": self.id, "step": number, "set": change})

    def _patch_head(self, change: dict[str, JSON]) -> None:
        self.journal.write({"op": "patch", "doc": self.id, "set": change})

    def note(self, code: str, count: int = 1) -> None:
        """Count something that the document's notes will say."""
        counted: dict[str, JSON] = {} if count == 1 else {"count": count}
        self.journal.write({"op": "note", "doc": self.id, "code": code, **counted})

    def link(self, child: Document, call: Call) -> None:
        """Write which call started a child document, unless that was begun in a file that is not this one's."""
        if child.journal is not self.journal:
            return
        operation: dict[str, JSON] = {"op": "link", "doc": child.id, "parent": self.id}
        self.journal.write({**operation, "step": call.step, "call": call.id})


def shape_of(record: SpanRecord) -> Shape:
    """Return what a call has in common with others that a program makes beside it."""
    request = record.request or ModelRequest()
    head, _ = split_system(request.messages)
    return _system_key(request, head), tuple(tool.name for tool in request.tools), request.model


def _ends(text: str) -> str:
    """Return a text, or both its ends where it is long: what is asked stands at one of them."""
    half = MAX_HEARD // 2
    return text if len(text) < MAX_HEARD else f"{text[:half]}\n{text[-half + 1 :]}"


def _system_turns(request: ModelRequest, head: list[Message]) -> list[Turn]:
    apart = [Turn("system", request.system)] if request.system else []
    return apart + turns_of(head)


def _system_key(request: ModelRequest, head: list[Message]) -> tuple[int, ...]:
    return tuple(key_of(turn) for turn in _system_turns(request, head))


_WORDS_BEFORE = 4
_BLANK = re.compile(r"\s")


def _changed(before: str, now: str) -> tuple[str, dict[str, JSON]]:
    """Return a system prompt, or only its changed words where little of a long one changed since `before`.

    With a few words before them: a part of a key, or one without its `Bearer`, would not be known for one.
    """
    start = agreement(before, now)
    shorter = min(len(before), len(now)) - start
    end = min(shorter, agreement(before[::-1], now[::-1]))
    words = now[:start].rsplit(maxsplit=_WORDS_BEFORE)
    start = len(words[0]) if len(words) > _WORDS_BEFORE else 0
    after = _BLANK.search(now, len(now) - end)
    end = len(now) - after.start() if after is not None else 0
    middle = now[start : len(now) - end]
    if len(now) < 1000 or len(middle) > len(now) // 4 or "PRIVATE KEY" in now:
        return now, {}
    replaced = {"start": start, "removed": len(before) - start - end, "inserted": len(middle)}
    return f"[system prompt changed at character {start}] {middle}", {"system_prompt_change": replaced}


def _described(turn: Turn) -> str:
    """Return a turn as text for readers."""
    words = [steps.content_of(turn.parts, None)]
    for part in turn.parts:
        if isinstance(part, ToolCallResponse):
            words.append(steps.result_content(part.content, None) or "")
    for call in turn.calls:
        words.append(f"[calls {call.name}({canonical(call.arguments)})]")
    texts = [word if isinstance(word, str) else f"[{len(word)} parts]" for word in words if word]
    return f"{turn.role}: {' '.join(texts)}"


def _same_arguments(known: str, given: str) -> bool:
    """Whether two canonical arguments agree; some tools record a lone argument without its name."""
    if known == given:
        return True
    parsed = _json.loads_or_text(known) if known.startswith("{") else None
    if not isinstance(parsed, dict) or len(parsed) != 1:
        return False
    return canonical(next(iter(parsed.values()))) == given


def _start(record: SpanRecord) -> int:
    return record.start


def _kept(marks: dict[str, JSON]) -> dict[str, JSON]:
    return {name: value for name, value in marks.items() if value != {}}


def keys_of(record: SpanRecord) -> tuple[int | None, int | None]:
    """Return the keys of the last turn a model call sent and of its answer, None where there is none.

    Two spans of one physical call agree in both.
    """
    messages = record.request.messages if record.request else []
    turns = next((turns for message in reversed(messages) if (turns := turns_of([message]))), [])
    answer = steps.answer_of(record)
    return key_of(turns[-1]) if turns else None, key_of(answer) if answer else None
