"""What a model call adds to a document: what its request reveals, then the step of its answer.

The one way in for a model call; `request` writes what comes before the answer.
"""

from __future__ import annotations

from typing import Any

from spanrelay import _json
from spanrelay.assembly import atif, steps
from spanrelay.assembly.calls import MAX_CALLS
from spanrelay.assembly.continuation import Place
from spanrelay.assembly.document import Copied, Document, Opening, shape_of
from spanrelay.assembly.request import tell_request, tell_result
from spanrelay.assembly.transcript import Alignment, Turn
from spanrelay.records import JSON, SpanRecord, ToolCallResponse


def add_call(
    document: Document,
    record: SpanRecord,
    place: Place,
    origin: dict[str, JSON] | None = None,
    agent: str | None = None,
) -> int:
    """Write what a model call adds: changed context, new turns, and the answer; return the answer's step.

    `origin` is merged into the step's `extra.otel`; `agent` is who made the call.
    """
    found = place.alignment
    if place.copied is not None:
        return _add_late(document, record, found.kept, place.copied, origin or {}, agent)
    tell_request(document, record, found)
    answer = steps.answer_of(record)
    number = _add_answer(document, record, found, answer, origin or {}, agent)
    if record.missing:
        document.note("missing_history", record.missing)
    _remember(document, record, place, answer, number)
    if document.opening is None and document.line.count == 1:
        document.opening = Opening(record, shape_of(record), document.count)
    return number


def _add_late(
    document: Document, record: SpanRecord, place: int, copied: Copied, origin: dict[str, JSON], agent: str | None
) -> int:
    """Make the step of an answer that was only a copy that of its call, which is told late."""
    del document.line.copied[place]
    document.line.told = None
    step = steps.agent_step(record, steps.answer_of(record), document.media, document.trace_id)
    extra = _extra_of(document, record, step, origin, agent)
    _tell_agent(document, record, step, extra)
    extra["otel"].setdefault("trace_id", None)
    step.step_id, step.message = copied.step, ""
    told = step.to_json() | {"extra": extra, "is_copied_context": None}
    document.patch(copied.step, {name: told[name] for name in told if name not in ("step_id", "source", "message")})
    document.note("copied_context", -1)
    _remember_answer(document, record)
    document.line.last_end = max(document.line.last_end, record.end or 0)
    return copied.step


def _remember_answer(document: Document, record: SpanRecord) -> None:
    ids = document.line.response_ids
    if record.response is not None and record.response.id:
        ids[record.response.id] = None
        if len(ids) > MAX_CALLS:
            ids.popitem(last=False)


def _remember(document: Document, record: SpanRecord, place: Place, answer: Turn | None, number: int) -> None:
    line, request, response = document.line, record.request, record.response
    response_id = response.id if response else None
    line.told = None
    if record.content and (answer is not None or (request is not None and request.messages)):
        line.told = line.transcript.accept(place.alignment, answer, response_id, place.sent_id)
    _remember_answer(document, record)
    sent_to = request.parameters.get("conversation_id") if request else None
    line.id = sent_to or (response and response.parameters.get("conversation_id")) or None
    line.last_step, line.count = number, line.count + 1
    if not (record.content or answer or record.error or record.incomplete) and len(line.blank) < MAX_CALLS:
        line.blank.append(number)
    # An answer that nobody waits for any more is nothing that a later call would leave behind.
    line.ran.clear()
    line.last_end = max(line.last_end, (record.start if record.incomplete else record.end) or 0)
    line.trace_id = record.trace_id
    line.tools = line.tools or bool(request and request.tools) or bool(line.calls)


def _add_answer(
    document: Document,
    record: SpanRecord,
    found: Alignment,
    answer: Turn | None,
    origin: dict[str, JSON],
    agent: str | None,
) -> int:
    line = document.line
    step = steps.agent_step(record, answer, document.media, document.trace_id)
    extra = _extra_of(document, record, step, origin, agent)
    if found.kind == "retry" and line.last_step:
        extra["retry_of_step"] = line.last_step
    elif found.kind == "fork":
        extra["forked_after_turns"] = found.kept
    _tell_parameters(document, record, extra)
    _tell_agent(document, record, step, extra)
    step.extra = extra
    line.calls = document.add_calls(record, answer, step)
    number = document.add(step, record.start)
    for part in answer.parts if answer else []:
        if isinstance(part, ToolCallResponse):
            tell_result(document, part, {"server_side": True})
    return number


def _extra_of(
    document: Document, record: SpanRecord, step: atif.Step, origin: dict[str, JSON], agent: str | None
) -> dict[str, Any]:
    """Return the `extra` of a model call's step, with what its document says of it."""
    extra: dict[str, Any] = step.extra or {}
    extra["otel"].update(origin)
    if agent and agent != document.name:
        extra["agent_name"] = agent
    if record.metadata or record.user_id:
        extra.update(document.differing(record))
    return extra


def _tell_parameters(document: Document, record: SpanRecord, extra: dict[str, JSON]) -> None:
    """Write a call's parameters, the first time and where they change."""
    given = steps.parameters_of(record)
    if given != document.said.parameters:
        extra["parameters"] = document.said.parameters = given


def _tell_agent(document: Document, record: SpanRecord, step: atif.Step, extra: dict[str, Any]) -> None:
    """Put into the header what the first model call that knows it says: the model, and new tools."""
    if document.said.model is None and step.model_name:
        document.said.model = step.model_name
        document.patch_head({"agent": {"model_name": step.model_name}})
    tools = record.request.tools if record.request else []
    if not tools:
        return
    names = hash(tuple(tool.name for tool in tools))
    if names in document.said.tool_sets:
        return
    definitions = [steps.definition_of(tool) for tool in tools]
    new = [d for d in definitions if _json.dumps_text(d) not in document.said.tools]
    document.said.tools.update(_json.dumps_text(d) for d in new)
    if document.said.tool_sets:
        extra["tools_changed_to"] = [tool.name for tool in tools]
    document.said.tool_sets.add(names)
    if new:
        document.journal.write({"op": "tools", "doc": document.id, "tools": new})
