"""Qwen Code: spans by OpenTelemetry's GenAI conventions, and log records with what those leave out by default.

A sub-agent is a trace of its own, which names the call that began it. A request that failed and was sent again is to be
seen only in the spans of HTTP beneath the model call. Before a question stands what the program tells of the project.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, takewhile
from typing import Any

from spanrelay.codecs.narrowing import as_int, as_mapping, as_str
from spanrelay.otlp_in import refusals
from spanrelay.otlp_in.accounts import recorded, telling
from spanrelay.otlp_in.accounts.joining import joined
from spanrelay.otlp_in.contents import Histories, exit_code_in, message_of
from spanrelay.otlp_in.records import record_of
from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span, TranscriptLine
from spanrelay.otlp_in.transcripts import qwen_code as transcript
from spanrelay.records import (
    ErrorInfo,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    Reasoning,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolResult,
)
from spanrelay.semconv import names
from spanrelay.semconv.values import decode

_ASKED, _ANSWERED, _RUN = "qwen-code.api_request", "qwen-code.api_response", "qwen-code.tool_call"
_CALL, _TOOL, _AGENT = "qwen-code.llm_request", "qwen-code.tool", "qwen-code.subagent"
_PROMPT = "qwen-code.user_prompt"
_REFUSED = frozenset(("pre_hook_blocked",))


def is_from(origin: Origin) -> bool:
    """Whether Qwen Code recorded something."""
    return "qwen-code" in (origin.scope, origin.resource.get("service.name"))


def records_of(spans: list[Span], logs: list[LogRecord], lines: Sequence[TranscriptLine] = ()) -> list[SpanRecord]:
    """Return the records of a session, of which its telemetry tells, its transcript, or both."""
    records = _records_of(spans, logs)
    if not lines:
        return records
    return telling.records_of([joined(transcript.account_of(lines), recorded.account_of(records, transcript.AGENT))])


def _records_of(spans: list[Span], logs: list[LogRecord]) -> list[SpanRecord]:
    records = [_record_of(span) for span in spans]
    calls = [(record, span) for record, span in zip(records, spans, strict=True) if record.kind == "llm"]
    tools = {str(record.tool.call_id): record for record in records if record.tool is not None and record.tool.call_id}
    _read_logs([record for record, _ in calls], logs)
    _set_apart([record for record, _ in calls], _asked(records, logs))
    for record, span in calls:
        if record.response is not None and record.response.usage is not None:
            record.response.usage.reasoning_tokens = as_int(span.attributes.get("thoughts_token_count"))
    _read_shown(tools, (record for record, _ in calls))
    _note_attempts(records, spans)
    for record, span in zip(records, spans, strict=True):
        if span.name == _AGENT:
            _place_agent(record, span, tools)
    refusals.note(records, refusals.of_runs(records, _REFUSED))
    return records


def _record_of(span: Span) -> SpanRecord:
    record = record_of(span)
    record.kind = record.kind or "custom"
    if span.name == _TOOL and record.result is not None:
        record.result.content = _unwrapped(record.result.content)
    return record


def _unwrapped(content: Any) -> Any:
    """Return what a result is in the object that Gemini's API wants it to be."""
    told = as_mapping(content)
    return next(iter(told.values())) if len(told) == 1 and told.keys() <= {"output", "error"} else content


# --- what only log records tell


def _read_logs(calls: list[SpanRecord], logs: list[LogRecord]) -> None:
    """Give model calls without content what log records have of it; an answer stands whole in the next request only."""
    told = {(log.trace_id, log.span_id, _name_of(log)): log.attributes for log in logs}
    runs: dict[str, list[ToolCall]] = {}
    for log in logs:
        if _name_of(log) == _RUN:
            runs.setdefault(str(log.attributes.get("response_id")), []).append(_call_of(log.attributes))
    bare = [call for call in calls if not call.content]
    histories = Histories(_message_of)
    for call in bare:
        asked = told.get((call.trace_id, call.span_id, _ASKED), {})
        call.request = call.request or ModelRequest()
        call.request.messages = histories.messages_of(str(asked.get("subagent_name")), asked.get("request_text"))
        call.content = bool(call.request.messages)
    for number, call in enumerate(bare):
        if call.content and call.error is None:
            call.response = call.response or ModelResponse()
            answer = _repeated(call, islice(bare, number + 1, None))
            if answer is None:
                answered = told.get((call.trace_id, call.span_id, _ANSWERED), {})
                text = as_str(answered.get("response_text"))
                parts: list[Part] = [*([Text(text)] if text else []), *runs.get(str(call.response.id), ())]
                answer = Message("assistant", parts)
            call.response.messages = [answer]


def _repeated(call: SpanRecord, later: Iterable[SpanRecord]) -> Message | None:
    """Return the answer of a call as the next request repeats it."""
    asked = call.request.messages if call.request is not None else []
    at = len(asked)
    for other in later:
        messages = other.request.messages if other.request is not None else []
        # What stands between the first and the last is the same then, and long.
        if len(messages) > at and (messages[0], messages[at - 1]) == (asked[0], asked[-1]):
            return messages[at] if messages[at].role == "assistant" else None
    return None


def _call_of(told: dict[str, Any]) -> ToolCall:
    name = as_str(told.get("function_name")) or ""
    return ToolCall(as_str(told.get("call_id")), name, decode(told.get("function_args")))


_THOUGHT = "\n[Thought: true]"


def _message_of(content: object) -> Message:
    """Return a message with its thoughts as such: log records have them as texts with a mark."""
    message = message_of(content)
    message.parts = [
        Reasoning(part.text.removesuffix(_THOUGHT)) if isinstance(part, Text) and part.text.endswith(_THOUGHT) else part
        for part in message.parts
    ]
    return message


# --- what the program puts before a question


def _asked(records: list[SpanRecord], logs: list[LogRecord]) -> set[str]:
    """Return what users asked, and agents of others."""
    found: list[Any] = [log.attributes.get("prompt") for log in logs if _name_of(log) == _PROMPT]
    given: list[Any] = [decode(log.attributes.get("function_args")) for log in logs if _name_of(log) == _RUN]
    for record in records:
        if record.tool is not None:
            given.append(record.tool.arguments)
        elif record.kind == "agent" and record.request is not None:
            found += [message.text for message in record.request.messages]
    found += [as_mapping(arguments).get("prompt") for arguments in given]
    return {text for text in found if isinstance(text, str) and text}


def _set_apart(calls: list[SpanRecord], asked: set[str]) -> None:
    """Make what the program says among the user's words the program's own."""
    for call in calls:
        if call.request is not None:
            call.request.messages = [each for message in call.request.messages for each in _parted(message, asked)]


def _parted(message: Message, asked: set[str]) -> list[Message]:
    if message.role != "user":
        return [message]
    if message.text.startswith("<task-notification>"):
        return [Message("system", message.parts)]
    before = list(takewhile(lambda part: isinstance(part, Text) and part.text not in asked, message.parts))
    if not before or len(before) == len(message.parts):
        return [message]
    return [Message("system", before), Message("user", message.parts[len(before) :])]


# --- tools, attempts and sub-agents


def _read_shown(tools: dict[str, SpanRecord], calls: Iterable[SpanRecord]) -> None:
    """Give runs of tools that tell no result what the model was shown of it, and those of commands their exit codes."""
    for call in calls:
        for message in call.request.messages if call.request is not None else ():
            for part in message.parts:
                if isinstance(part, ToolCallResponse) and part.id in tools:
                    _show(part, tools[part.id])
    for run in tools.values():
        if run.result is not None and run.tool is not None:
            run.result.exit_code = exit_code_in(run.tool.name, run.result.content)


def _show(part: ToolCallResponse, run: SpanRecord) -> None:
    if run.result is None or run.result.content is None:
        run.result = ToolResult(part.content, run.error is not None or part.is_error)


def _note_attempts(records: list[SpanRecord], spans: list[Span]) -> None:
    """Let model calls tell of their requests that failed before the last."""
    calls = {(record.trace_id, record.span_id): record for record in records if record.kind == "llm"}
    for record, span in zip(records, spans, strict=True):
        status = as_int(span.attributes.get("http.response.status_code"))
        call = calls.get(record.parent_key or (0, 0))
        if call is not None and status is not None and status >= 400:
            record.error = ErrorInfo(str(span.attributes.get(names.ERROR_TYPE) or status), "", None, status)
            call.attempts = (*call.attempts, record)
    for call in calls.values():
        if call.error is not None:
            call.attempts = call.attempts[:-1]


def _place_agent(record: SpanRecord, span: Span, tools: dict[str, SpanRecord]) -> None:
    """Put a sub-agent beneath the run of the tool that began it."""
    told = span.attributes
    if record.agent is not None:
        record.agent.id = as_str(told.get("qwen-code.subagent.id"))
    run = tools.get(str(told.get("qwen-code.subagent.invoking_request_id")))
    if run is not None and record.parent_id is None:
        record.parent_id, record.parent_trace_id = run.span_id, run.trace_id


def _name_of(record: LogRecord) -> str | None:
    return record.name or as_str(record.attributes.get("event.name"))
