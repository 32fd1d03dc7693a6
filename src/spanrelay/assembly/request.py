"""What a request reveals that nobody has told of: turns, answers of tools, other system prompts, a history rewritten.

What stands in the document already is never written twice.
"""

from __future__ import annotations

import re

from spanrelay.assembly import atif, steps
from spanrelay.assembly.calls import MAX_CALLS
from spanrelay.assembly.document import MAX_HEARD, Copied, Document, Heard, system_key, system_turns
from spanrelay.assembly.transcript import Alignment, Turn, canonical, key_of, result_key, split_system
from spanrelay.records import JSON, Part, SpanRecord, Text, ToolCallResponse
from spanrelay.semconv.histories import agreement

MAX_SYSTEM = 65_536
"""Characters of a system prompt that are kept to tell what changed in the next one."""


def tell_request(document: Document, record: SpanRecord, found: Alignment) -> None:
    """Write what is new in a request: changed context, and turns."""
    if document.line.calls:
        _tell_aliases(document, found)
    if found.kind in ("compaction", "pruning", "truncation") and not record.truncated:
        _tell_change(document, record, found)
    _tell_system(document, record)
    _add_turns(document, record, found)


def _tell_aliases(document: Document, found: Alignment) -> None:
    """Take over the ids by which a request repeats the last answer's calls; tools' answers will use them."""
    calls = document.line.calls
    echoed = [call for turn in found.echo for call in turn.calls]
    if len(echoed) != len(calls):
        return
    for known, echo in zip(calls, echoed, strict=True):
        if not echo.id or echo.id == known.wire_id or echo.name != known.name:
            continue
        new = document.calls.own_id(echo.id)
        change: dict[str, JSON] = {"op": "rename", "doc": document.id, "step": known.step}
        document.journal.write({**change, "call": known.id, "to": new})
        document.calls.by_id.pop(known.id, None)
        known.id, known.wire_id = new, echo.id
        document.calls.know(known)


def _tell_change(document: Document, record: SpanRecord, found: Alignment) -> None:
    """Write that the history a model is sent has been rewritten, and what stands there now."""
    boundary = "truncate" if found.kind == "truncation" else "replace"
    kind = "compaction" if found.kind == "compaction" else "pruning"
    management: dict[str, JSON] = {"type": kind, "boundary": boundary}
    management.update(kept_turns=found.kept, dropped_turns=found.dropped)
    gone = "1 earlier turn is" if found.dropped == 1 else f"{found.dropped} earlier turns are"
    step = atif.Step(0, "system", f"Context {kind}: {gone} no longer sent.")
    step.extra = {"context_management": management, "otel": steps.reference_of(record, document.trace_id)}
    if found.changed:
        text = "\n\n".join(_described(turn) for turn in found.changed)
        result = atif.ObservationResult(content=steps.cut(text))
        step.observation = atif.Observation([result])
    document.add(step, record.start)
    document.note("context_changed")


def _tell_system(document: Document, record: SpanRecord) -> None:
    """Write the system prompts of a request, the first time and where they change."""
    request, line = record.request, document.line
    if request is None or not record.content:
        return
    head, _ = split_system(request.messages)
    key = system_key(request, head)
    if key == line.system or not key:
        return
    first = line.system is None and not line.count
    for each, turn in zip(key, system_turns(request, head), strict=True):
        if line.system is None or each not in line.system:
            _add_system(document, record, each, turn, first)
    line.system = key


def _add_system(document: Document, record: SpanRecord, key: int, turn: Turn, first: bool) -> None:
    line = document.line
    content = steps.content_of(turn.parts, document.media)
    extra: dict[str, JSON] = {"otel": steps.reference_of(record, document.trace_id)}
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
    number = document.add(step, record.start)
    line.systems.setdefault(key, number)


def _add_turns(document: Document, record: SpanRecord, found: Alignment) -> None:
    """Write the turns that nobody has told of, and keep in mind which answers are copies."""
    copied = document.line.copied
    if found.kind not in ("extension", "retry", "fork"):
        copied.clear()  # what stands behind has other places now
    filled = _fillable(document, found) if document.line.blank else {}
    for at, turn in enumerate(found.new):
        if at in filled:
            _fill(document, record, turn, filled[at])
            continue
        before = next((step for later, step in filled.items() if later > at), None) if filled else None
        _add_turn(document, record, turn, before)
        if turn.role == "assistant" and len(copied) < MAX_CALLS:
            copied[found.known + at] = Copied(document.count, key_of(turn), record.start)


def _fillable(document: Document, found: Alignment) -> dict[int, int]:
    """Return which of the new turns are what blank steps have left out, in order."""
    said = [at for at, turn in enumerate(found.new) if turn.role == "assistant"]
    if not said:
        return {}
    blank, document.line.blank = document.line.blank, []
    known = found.kind == "extension" and len(said) <= len(blank)
    return dict(zip(said, blank[-len(said) :], strict=True)) if known else {}


def _fill(document: Document, record: SpanRecord, turn: Turn, number: int) -> None:
    """Write into a blank step what a later request says that the model answered there."""
    step = atif.Step(number, "agent", steps.content_of(turn.parts, document.media, glue=""))
    document.add_calls(record, turn, step, number)
    told = step.to_json()
    extra: dict[str, JSON] = {"content_captured": None, "message_source": steps.NEXT_REQUEST}
    document.patch(number, {name: told[name] for name in ("message", "tool_calls") if name in told} | {"extra": extra})


def _add_turn(document: Document, record: SpanRecord, turn: Turn, before: int | None = None) -> None:
    """Write a turn as the next step, or, if it is no tool's nor a model's, before one that stands already."""
    if turn.role == "tool":
        _add_tool_turn(document, record, turn)
        return
    extra: dict[str, JSON] = {"otel": steps.reference_of(record, document.trace_id)}
    if turn.role == "assistant":
        _add_copied(document, record, turn, extra)
        return
    source = "system" if turn.role == "system" else "user"
    step = atif.Step(0, source, steps.content_of(turn.parts, document.media), extra=extra)
    if before is None:
        document.add(step, record.start)
    else:
        extra["message_source"] = steps.NEXT_REQUEST
        document.insert(step, record.start, before)
    document.line.heard.add(_ends(turn.text))


def add_question(
    document: Document, record: SpanRecord, parts: list[Part], before: int, heard: str = "", *, resumed: bool
) -> str:
    """Write what an agent was asked, as its span says, before the first step of its run; once, if a model was.

    `heard` is what else was asked in the run; returns all that was, the agent's own question included. A run that
    is `resumed` was asked before.
    """
    line, text = document.line, _ends(Turn("user", parts).text)
    lately = str(line.heard)
    heard = f"{heard}\n{lately}"[-MAX_HEARD:]
    told = f"{line.past}\n{heard}" if resumed else heard
    line.past, line.heard = lately or line.past, Heard()
    if " ".join(text.split()) in " ".join(told.split()):
        return heard
    line.past = text
    extra: dict[str, JSON] = {"message_source": steps.AGENT_SPAN, "otel": steps.origin_of(record, document.trace_id)}
    document.insert(atif.Step(0, "user", steps.content_of(parts, document.media), extra=extra), record.start, before)
    return f"{heard}\n{text}"


def _add_copied(document: Document, record: SpanRecord, turn: Turn, extra: dict[str, JSON]) -> None:
    """Write an assistant's turn that nobody saw being generated: it came with the history."""
    step = atif.Step(0, "agent", steps.content_of(turn.parts, document.media, glue=""), extra=extra)
    step.is_copied_context = True
    document.add_calls(record, turn, step)
    document.add(step, record.start)
    document.note("copied_context")


def _add_tool_turn(document: Document, record: SpanRecord, turn: Turn) -> None:
    part = turn.parts[0] if turn.parts else None
    if not isinstance(part, ToolCallResponse):
        texts = [each.text for each in turn.parts if isinstance(each, Text)]
        part = ToolCallResponse(None, steps.joined(texts) if texts else None, turn.name)
    if not tell_result(document, part, {}):
        name, given = part.name or turn.name or "unknown", part.id or f"{record.span_id:016x}:result"
        step = document.dispatch_step(given, name, None, record)
        step.is_copied_context = True
        call = document.own_call(step, given)
        document.add(step, record.start)
        document.write_result(call, steps.result_content(part.content, document.media), steps.answer_extra(part))


def tell_result(document: Document, part: ToolCallResponse, extra: dict[str, JSON]) -> bool:
    """Write a tool's answer as the model saw it, beside its call; False where no call is known."""
    call = document.calls.of(part.id) if part.id else document.calls.next(part.name)
    if call is None:
        return False
    if call.told:
        return True
    call.told = True
    key = result_key(part.content)
    marks = {**extra, **steps.answer_extra(part)}
    if call.executed and call.shown == key:
        if marks:
            document.write_result(call, None, marks)
        return True
    source = {"span_result_differs": True} if call.executed else {"result_source": "next_request"}
    marks["otel"] = {} if extra else source
    document.write_result(call, steps.result_content(part.content, document.media), _kept(marks))
    call.shown = key
    return True


def _ends(text: str) -> str:
    """Return a text, or both its ends where it is long: what is asked stands at one of them."""
    half = MAX_HEARD // 2
    return text if len(text) < MAX_HEARD else f"{text[:half]}\n{text[-half + 1 :]}"


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


def _kept(marks: dict[str, JSON]) -> dict[str, JSON]:
    return {name: value for name, value in marks.items() if value != {}}
