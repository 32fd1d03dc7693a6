"""Gemini CLI: spans with conversations in the shape of Gemini's API, and log records that tell more of them.

Each call of a model, and each batch of tools, is a trace of its own; what a sub-agent does stands beneath the tool
that began it. Content is on spans only where that was asked for; log records have it by default. A record of an answer
names no span: it is of the call of the same prompt that was under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spanrelay._json import loads_or_text
from spanrelay.codecs.gemini_generate_content import decode_request
from spanrelay.codecs.gemini_shapes import decode_usage
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.otlp_in import attempts, refusals
from spanrelay.otlp_in.accounts import recorded, telling
from spanrelay.otlp_in.accounts.joining import joined
from spanrelay.otlp_in.contents import (
    Histories,
    answer_of,
    own_id,
    pieces_of,
    results_of,
    set_context_apart,
    without_repeats,
)
from spanrelay.otlp_in.records import bare_record_of, record_of
from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span, TranscriptLine
from spanrelay.otlp_in.transcripts import gemini_cli as transcript
from spanrelay.records import (
    AgentInfo,
    ErrorInfo,
    ModelRequest,
    ModelResponse,
    SpanRecord,
    ToolRequest,
    ToolResult,
    Usage,
)
from spanrelay.semconv import names
from spanrelay.semconv.values import decode

_ASKED, _ANSWERED, _FAILED = "gemini_cli.api_request", "gemini_cli.api_response", "gemini_cli.api_error"
_RUN = "gemini_cli.tool_call"
_BATCH = "schedule_tool_calls"
_REFUSED = ("policy_violation",)
_PROMPT = "gen_ai.prompt.name"


def is_from(origin: Origin) -> bool:
    """Whether Gemini CLI recorded something."""
    return "gemini-cli" in (origin.scope, origin.resource.get("service.name"))


def records_of(spans: list[Span], logs: list[LogRecord], lines: Sequence[TranscriptLine] = ()) -> list[SpanRecord]:
    """Return the records of a session, of which its telemetry tells, its transcript, or both."""
    records = _records_of(spans, logs)
    if not lines:
        return records
    written, account = transcript.account_of(lines), recorded.account_of(records, transcript.AGENT)
    recorded.take_keys(account, written)
    return telling.records_of([joined(written, account)])


def _records_of(spans: list[Span], logs: list[LogRecord]) -> list[SpanRecord]:
    by_prompt: dict[str, list[SpanRecord]] = {}
    histories = Histories()
    for call in _calls_of(spans, logs):
        by_prompt.setdefault(call.prompt, []).append(call.record(histories))
    agent_ids = {
        (record.trace_id, record.parent_id): prompt.rpartition("#")[0]
        for prompt, records in by_prompt.items()
        for record in records
    }
    own = [span for span in spans if is_from(span.origin)]
    records = [_record_of(span, agent_ids) for span in own if span.name != "llm_call"]
    _join_runs(records, [record for record in logs if _name_of(record) == _RUN])
    asked = [record for calls in by_prompt.values() for record in attempts.united(calls)]
    refusals.note(asked, _refused(own))
    return [*records, *asked, *(record_of(span) for span in spans if not is_from(span.origin))]


# --- model calls


@dataclass(slots=True)
class _Call:
    """A call of a model: its span, and what log records say of it. `prompt` is the id of what it answers."""

    span: Span
    prompt: str
    asked: dict[str, Any]
    answered: dict[str, Any] | None = None

    def record(self, histories: Histories) -> SpanRecord:
        """Return the record of the call."""
        record = _bare_record_of(self.span)
        record.kind, record.operation = "llm", "generate_content"
        record.request, record.response = self._request(histories), self._response()
        if record.error is not None:
            _read_status(record.error, self.answered or {})
        elif not record.response.messages:
            record.content = bool(record.request.messages)
        return record

    def _request(self, histories: Histories) -> ModelRequest:
        told = self.span.attributes
        request = decode_request(
            {
                "model": told.get(names.REQUEST_MODEL) or self.asked.get("model"),
                "systemInstruction": _json_of(told.get(names.SYSTEM_INSTRUCTIONS)),
                "tools": decode(told.get(names.TOOL_DEFINITIONS)),
            }
        )
        agent = self.prompt.rpartition("#")[0] if self.span.parent_id is not None else ""
        contents = told.get(names.INPUT_MESSAGES) or self.asked.get("request_text")
        request.messages = set_context_apart(without_repeats(histories.messages_of(agent, contents)))
        return request

    def _response(self) -> ModelResponse:
        told, answered = self.span.attributes, self.answered or {}
        chunks = as_list(decode(answered.get("response_text"))) or pieces_of(told.get(names.OUTPUT_MESSAGES))
        response = answer_of(chunks, "" if self.span.parent_id is None else self.prompt)
        response.model = response.model or as_str(answered.get("model"))
        counts = {name: answered[key] for key, name in _COUNTS.items() if key in answered}
        response.usage = decode_usage(counts) or response.usage or _usage_of(told)
        return response


_COUNTS = {
    "input_token_count": "promptTokenCount",
    "output_token_count": "candidatesTokenCount",
    "cached_content_token_count": "cachedContentTokenCount",
    "thoughts_token_count": "thoughtsTokenCount",
    "tool_token_count": "toolUsePromptTokenCount",
    "total_token_count": "totalTokenCount",
}


def _usage_of(told: dict[str, Any]) -> Usage | None:
    """Return what a span says of tokens: thoughts, and what came from the cache, are not in it."""
    given, made = (as_int(told.get(f"gen_ai.usage.{side}_tokens")) for side in ("input", "output"))
    return None if given is made is None else Usage(given, made)


def _calls_of(spans: list[Span], logs: list[LogRecord]) -> list[_Call]:
    """Return the calls of models, in order, each with its log records; one may have no span."""
    asked = {
        (record.trace_id, record.span_id): record
        for record in logs
        if _name_of(record) == _ASKED and record.trace_id and record.span_id
    }
    own = [span for span in spans if span.name == "llm_call" and is_from(span.origin)]
    calls = [_call_of(span, asked.pop((span.trace_id, span.span_id), None)) for span in own]
    calls += [_call_of(_span_of(record), record) for record in asked.values()]
    calls.sort(key=lambda call: (call.span.start, call.span.span_id))
    _join_answers(calls, [record for record in logs if _name_of(record) in (_ANSWERED, _FAILED)])
    return calls


def _call_of(span: Span, asked: LogRecord | None) -> _Call:
    told = asked.attributes if asked is not None else {}
    return _Call(span, as_str(span.attributes.get(_PROMPT)) or as_str(told.get("prompt_id")) or "", told)


def _span_of(asked: LogRecord) -> Span:
    """Return the span of a call that only a log record tells of."""
    told = {names.CONVERSATION_ID: asked.attributes.get("session.id")}
    at = asked.time
    return Span(asked.trace_id or 0, asked.span_id or 0, None, False, "llm_call", at, at, told, [], None, asked.origin)


def _join_answers(calls: list[_Call], answers: Iterable[LogRecord]) -> None:
    """Give each answer to the call of its prompt that began last before it."""
    waiting: dict[str, list[_Call]] = {}
    for call in calls:
        waiting.setdefault(call.prompt, []).append(call)
    for answer in sorted(answers, key=lambda record: record.time):
        asked = waiting.get(as_str(answer.attributes.get("prompt_id")) or "", [])
        begun = [call for call in asked if call.span.start <= answer.time]
        if begun:
            begun[-1].answered = answer.attributes
            begun[-1].span.end = max(begun[-1].span.end, answer.time)
            del asked[: len(begun)]


def _read_status(error: ErrorInfo, answered: dict[str, Any]) -> None:
    """Find the HTTP status of a failure: in its record, or in the provider's words."""
    told = as_mapping(as_mapping(decode(error.message)).get("error"))
    error.status_code = as_int(answered.get("status_code")) or as_int(told.get("code"))


# --- tools and sub-agents


def _record_of(span: Span, agent_ids: dict[tuple[int, int | None], str]) -> SpanRecord:
    record = _bare_record_of(span)
    record.kind = "custom"
    read = _READERS.get(span.name)
    if read is not None:
        read(span.attributes, record)
    if record.agent is not None:
        record.agent.id = agent_ids.get((span.trace_id, span.span_id)) or None
    return record


def _read_tool(told: dict[str, Any], record: SpanRecord) -> None:
    name, call_id = as_str(told.get(names.TOOL_NAME)) or record.name, as_str(told.get("gen_ai.tool.call_id"))
    record.kind = "tool"
    record.tool = ToolRequest(name, None, own_id(call_id, name), as_str(told.get(names.TOOL_DESCRIPTION)))
    record.content = names.OUTPUT_MESSAGES in told
    _read_run(as_mapping(decode(told.get(names.OUTPUT_MESSAGES))), record)
    asked = as_mapping(decode(told.get(names.INPUT_MESSAGES)))
    if "args" in asked:
        record.tool.arguments = asked["args"]


def _read_run(run: Any, record: SpanRecord) -> None:
    """Read what became of a call of a tool. Its span says that all is well, whatever that was."""
    response = as_mapping(run.get("response"))
    for result in results_of(response.get("responseParts"))[:1]:
        code = as_int(as_mapping(response.get("data")).get("exitCode"))
        record.result = ToolResult(result.content, result.is_error, exit_code=code)
    kind = as_str(response.get("errorType"))
    if kind is not None:
        record.error = ErrorInfo(kind, as_str(response.get("resultDisplay")) or "")


def _read_agent(told: dict[str, Any], record: SpanRecord) -> None:
    asked = as_mapping(decode(told.get(names.INPUT_MESSAGES)))
    record.kind = "agent"
    record.agent = AgentInfo(as_str(asked.get("agent_name")))
    record.input = as_str(asked.get("prompt"))


_READERS: dict[str, Callable[[dict[str, Any], SpanRecord], None]] = {
    "tool_call": _read_tool,
    "agent_call": _read_agent,
}


def _refused(spans: list[Span]) -> dict[str, str]:
    """Return which calls of tools were refused, and why: they have no span, and their batch tells of them."""
    found: dict[str, str] = {}
    for span in spans:
        for run in as_list(decode(span.attributes.get(names.OUTPUT_MESSAGES))) if span.name == _BATCH else ():
            asked = as_mapping(as_mapping(run).get("request"))
            why = as_str(as_mapping(as_mapping(run).get("response")).get("errorType"))
            call_id = own_id(as_str(asked.get("callId")), as_str(asked.get("name")))
            if call_id is not None and why in _REFUSED:
                found[call_id] = why
    return found


def _join_runs(records: list[SpanRecord], logs: list[LogRecord]) -> None:
    """Read what became of tools that were run without content; a log record names the batch and the tool."""
    runs: dict[tuple[Any, ...], list[SpanRecord]] = {}
    told: dict[tuple[Any, ...], list[LogRecord]] = {}
    for record in records:
        if record.tool is not None and record.result is None:
            runs.setdefault((record.trace_id, record.parent_id, record.tool.name), []).append(record)
    for log in logs:
        told.setdefault((log.trace_id, log.span_id, as_str(log.attributes.get("function_name"))), []).append(log)
    for key, alike in runs.items():
        if len(alike) == len(told.get(key, ())) == 1:
            _read_outcome(told[key][0].attributes, alike[0])


def _read_outcome(told: dict[str, Any], record: SpanRecord) -> None:
    code = as_int(as_mapping(decode(told.get("metadata"))).get("exitCode"))
    record.result = ToolResult(None, told.get("success") is False, exit_code=code)
    if record.tool is not None:
        record.tool.arguments = decode(told.get("function_args"))


def _bare_record_of(span: Span) -> SpanRecord:
    record = bare_record_of(span)
    record.session_id = as_str(span.attributes.get(names.CONVERSATION_ID))
    record.service_version = None  # it is that of Node
    return record


def _json_of(value: object) -> Any:
    return loads_or_text(value) if isinstance(value, str) else value


def _name_of(record: LogRecord) -> str | None:
    return record.name or as_str(record.attributes.get("event.name"))
