"""Claude Code's telemetry: a trace for each prompt, and log records that say what its spans do not.

`request_id` joins a model call's span, its log records and its lines in the transcript; `tool_use_id` does so for a
tool. What the model thought, and what it was shown of a tool that failed, is in the transcript alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from spanrelay import _json
from spanrelay.codecs.anthropic_messages.messages import read_content
from spanrelay.otlp_in import hooks
from spanrelay.otlp_in.accounts import MAIN, Account, Call, Failure, Place, Prompt, Run, Thread
from spanrelay.otlp_in.accounts.joining import all_joined
from spanrelay.otlp_in.accounts.telling import records_of as records_of_accounts
from spanrelay.otlp_in.agents.durations import milliseconds, took
from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span, TranscriptLine
from spanrelay.otlp_in.transcripts import claude_code as transcript
from spanrelay.records import JSON, ErrorInfo, Part, SpanRecord, Text, ToolResult, Usage
from spanrelay.semconv.values import as_object, count, number, text

SCOPES = ("com.anthropic.claude_code.tracing", "com.anthropic.claude_code.events")
_REDACTED = "<REDACTED>"
_NOTICE = "<task-notification>"
"""How a prompt begins that no user wrote."""


def is_from(origin: Origin) -> bool:
    """Whether Claude Code recorded something."""
    return origin.scope in SCOPES


def records_of(spans: list[Span], logs: list[LogRecord], lines: Sequence[TranscriptLine] = ()) -> list[SpanRecord]:
    """Return the records of a session, of which its telemetry tells, its transcript, or its hooks."""
    lines, told = hooks.parted(lines)
    written = transcript.accounts_of(lines)
    accounts = all_joined(written, accounts_of(spans, logs))
    sessions = {account.session for account in written}
    known = hooks.with_hooks(accounts, told, transcript.AGENT, transcript.exit_code_in, sessions)
    return records_of_accounts(known)


def accounts_of(spans: list[Span], logs: list[LogRecord]) -> list[Account]:
    """Return what telemetry tells of each session: every span and log record names its own."""
    readings: dict[str, _Reading] = {}
    for item in (*spans, *logs):
        session = text(item.attributes.get("session.id"))
        if session is not None:
            reading = readings.get(session) or readings.setdefault(session, _Reading(session, spans))
            reading.add_span(item) if isinstance(item, Span) else reading.add_log(item)
    return [reading.whole() for reading in readings.values()]


class _Reading:
    """Takes in the spans of a session, then its log records."""

    def __init__(self, session: str, spans: list[Span]) -> None:
        self.account = Account(session, transcript.AGENT)
        self._bodies: dict[str, list[Part]] = {}
        self._shown: dict[str, str] = {}
        """Results as a model was shown them, which detailed tracing alone tells."""
        self._spans = {(span.trace_id, span.span_id): span for span in spans}
        self._beneath: dict[tuple[int, int], list[Span]] = {}
        for span in spans:
            self._beneath.setdefault((span.trace_id, span.parent_id or 0), []).append(span)

    def whole(self) -> Account:
        """Return what has been taken in, with what can be told only of all of it."""
        runs = {run.key: run for run in self.account.runs()}
        for key, shown in self._shown.items():
            if (run := runs.get(key)) is not None:
                run.result = replace(
                    run.result or ToolResult(), content=shown, exit_code=transcript.exit_code_in(shown)
                )
        for thread in self.account.threads.values():
            for key in thread.calls.keys() & self._bodies.keys():
                thread.calls[key].parts = self._bodies[key]
            begun = runs.get(thread.begun_by or "")
            asked = text(as_object(begun.arguments).get("prompt")) if begun is not None else None
            if begun is not None and asked is not None and not thread.prompts:
                thread.prompts[begun.key] = Prompt(begun.key, begun.start, "user", [Text(asked)])
        return self.account

    def _whose(self, attributes: Mapping[str, Any], origin: Origin) -> Thread:
        account = self.account
        account.resource = account.resource or origin.resource
        account.version = account.version or text(origin.resource.get("service.version"))
        thread = account.thread(text(attributes.get("agent_id")) or MAIN)
        thread.name = thread.name or text(attributes.get("agent.name")) or text(attributes.get("agent_type"))
        return thread

    # ── spans

    def add_span(self, span: Span) -> None:
        """Take in a span of any kind; others tell nothing by themselves."""
        said = span.attributes
        match said.get("span.type"):
            case "llm_request":
                self._add_call(self._whose(said, span.origin), span)
            case "tool":
                self._add_tool(self._whose(said, span.origin), span)
            case "interaction":
                self._add_turn(self._whose(said, span.origin), span)
            case _:
                pass

    def _place(self, span: Span) -> Place:
        remote = span.parent_id is not None and (span.trace_id, span.parent_id) not in self._spans
        return Place(span.trace_id, span.span_id, span.parent_id, remote, span.start, span.end)

    def _add_turn(self, thread: Thread, span: Span) -> None:
        prompt = _prompt(f"{span.span_id:016x}", span.start, span.attributes.get("user_prompt"))
        prompt.place = self._place(span)
        thread.prompts[prompt.key] = prompt

    def _add_call(self, thread: Thread, span: Span) -> None:
        said = span.attributes
        key = text(said.get("request_id")) or f"{span.span_id:016x}"
        call = Call(key, span.start, span.end, text(said.get("model")), place=self._place(span))
        call.usage = _usage_of(said)
        call.finish_reason = text(said.get("stop_reason"))
        if (first := milliseconds(said.get("ttft_ms"))) is not None:
            call.first_chunk = first / 1000
        if (words := text(said.get("response.model_output"))) is not None:
            call.parts = [Text(words)]
        attempts = sorted(event.time for event in span.events if event.name == "gen_ai.request.attempt")
        call.failures = [Failure(time, ErrorInfo("error", "The request was sent again.")) for time in attempts[:-1]]
        if said.get("success") is False or span.error is not None:
            call.error = _error_of(said, span.error)
        thread.calls[key] = call
        self._shown |= _results_in(text(said.get("new_context")) or "")
        self._link(thread, span)

    def _link(self, thread: Thread, span: Span) -> None:
        """Find the tool beneath whose run a sub-agent's call stands."""
        above: Span | None = span
        while thread.key != MAIN and above is not None and thread.begun_by is None:
            above = self._spans.get((above.trace_id, above.parent_id or 0))
            if above is not None and above.attributes.get("agent_id") != thread.key:
                thread.begun_by = text(above.attributes.get("tool_use_id"))
                thread.name = thread.name or text(above.attributes.get("subagent_type"))

    def _add_tool(self, thread: Thread, span: Span) -> None:
        said = span.attributes
        key, name = text(said.get("tool_use_id")), text(said.get("tool_name"))
        if key is None or name is None:
            return
        run = thread.runs[key] = Run(key, name, span.start, span.end, place=self._place(span))
        run.arguments = _told_arguments(said.get("tool_input")) or _arguments_of(said)
        output = next((event.attributes for event in span.events if event.name == "tool.output"), None)
        if output is not None:
            run.result = ToolResult(next((output[name] for name in _OUTPUTS if name in output), None))
        for beneath in self._beneath.get((span.trace_id, span.span_id), ()):
            self._add_beneath(run, beneath)

    def _add_beneath(self, run: Run, span: Span) -> None:
        """Take in what a span beneath a tool's says: whether it might run, and whether it succeeded."""
        said = span.attributes
        if said.get("decision") == "reject":
            _refuse(run, text(said.get("source")))
        if said.get("success") is False:
            _fail(run, text(said.get("error")), text(said.get("error_class")))

    # ── log records

    def add_log(self, log: LogRecord) -> None:
        """Take in a log record."""
        said = log.attributes
        match said.get("event.name"):
            case "user_prompt":
                self._add_prompt(self._whose(said, log.origin), log)
            case "api_request" | "api_error":
                self._add_request(self._whose(said, log.origin), log)
            case "assistant_response":
                self._add_words(self._whose(said, log.origin), log)
            case "api_response_body":
                self._add_body(self._whose(said, log.origin), log)
            case "tool_decision" | "tool_result":
                self._add_run(self._whose(said, log.origin), log)
            case "subagent_completed":
                self._whose(said, log.origin)
            case _:
                pass

    def _add_prompt(self, thread: Thread, log: LogRecord) -> None:
        """Take in a prompt, which the span around it may have told: its id is here alone."""
        key = text(log.attributes.get("prompt.id")) or text(log.attributes.get("message.uuid")) or f"{log.time}"
        told = thread.prompts.pop(f"{log.span_id or 0:016x}", None)
        prompt = _prompt(key, log.time, log.attributes.get("prompt"))
        prompt.place = told.place if told is not None else None
        prompt.parts = prompt.parts or (told.parts if told is not None else [])
        thread.prompts[key] = prompt

    def _call(self, thread: Thread, log: LogRecord) -> Call:
        key = text(log.attributes.get("request_id")) or _nameless_at(thread, log.time) or f"{log.time}"
        return thread.calls.setdefault(key, Call(key, log.time - took(log.attributes), log.time))

    def _add_request(self, thread: Thread, log: LogRecord) -> None:
        said, call = log.attributes, self._call(thread, log)
        call.model = call.model or text(said.get("model"))
        call.usage = call.usage or _usage_of(said)
        if call.usage is not None:
            call.usage.cost_usd = number(said.get("cost_usd"))
        if call.first_chunk is None and (first := milliseconds(said.get("ttft_ms"))) is not None:
            call.first_chunk = first / 1000
        if said.get("event.name") == "api_error":
            call.error = call.error or _error_of(said, None)

    def _add_words(self, thread: Thread, log: LogRecord) -> None:
        said, call = log.attributes, self._call(thread, log)
        call.model = call.model or text(said.get("model"))
        words = text(said.get("response"))
        if words is not None and words != _REDACTED:
            call.parts = [Text(words)]

    def _add_body(self, thread: Thread, log: LogRecord) -> None:
        """Take in an answer as it came, which is logged only where that was asked for; a cut one is no JSON."""
        body = as_object(_json.loads_or_text(text(log.attributes.get("body")) or ""))
        if body:
            self._bodies[self._call(thread, log).key] = read_content(body.get("content"))

    def _add_run(self, thread: Thread, log: LogRecord) -> None:
        said = log.attributes
        key, name = text(said.get("tool_use_id")), text(said.get("tool_name"))
        if key is None or name is None:
            return
        begun = log.time - took(said)
        run = thread.runs.setdefault(key, Run(key, name, begun, log.time))
        run.call = run.call or text(said.get("request_id"))
        if run.place is None:
            run.start, run.end = min(run.start, begun), max(run.end, log.time)
        self._add_arguments(run, said)
        if said.get("decision") == "reject":
            _refuse(run, text(said.get("source")))
        if said.get("success") == "false":
            _fail(run, text(said.get("error")), text(said.get("error_type")))

    def _add_arguments(self, run: Run, said: Mapping[str, Any]) -> None:
        """Take in arguments: those that the tool had; a span knows what the model had given, of a few of them."""
        whole = _told_arguments(said.get("tool_input"))
        part = _arguments_of(_told_arguments(said.get("tool_parameters")) or {})
        known = run.arguments if isinstance(run.arguments, dict) else {}
        run.arguments = {**(whole or part or {}), **known} or None


def _nameless_at(thread: Thread, time: int) -> str | None:
    """Return the call of a time whose answer had no id of the request, as that of nobody, or of a proxy, has none."""
    nameless = [call for call in thread.calls.values() if call.place is not None and call.key == _own_key(call.place)]
    ended = [call for call in nameless if call.start <= time <= call.end + _LATE]
    return max(ended, key=lambda call: call.start).key if ended else None


def _own_key(place: Place) -> str:
    return f"{place.span_id:016x}"


_LATE = 100_000_000
"""Nanoseconds after the end of a span within which what it says is logged too."""

_OUTPUTS = ("output", "content")
"""In which attribute of its event a tool's result stands: of a command, of a file that was read."""

_ARGUMENTS = {"full_command": "command", "file_path": "file_path", "description": "description",
              "subagent_type": "subagent_type"}  # fmt: skip
"""Attributes that are arguments of a tool's, by the names they have there; no others are told of a refused call."""


def _arguments_of(said: Mapping[str, Any]) -> dict[str, JSON] | None:
    return {name: said[key] for key, name in _ARGUMENTS.items() if said.get(key) is not None} or None


def _told_arguments(value: Any) -> dict[str, JSON] | None:
    """Return arguments that are told as JSON, perhaps behind a line that says so."""
    if not isinstance(value, str):
        return None
    given = _json.loads_or_text(value[value.find("{") :]) if "{" in value else None
    return given if isinstance(given, dict) else None


def _prompt(key: str, time: int, words: Any) -> Prompt:
    said = text(words)
    told = said is not None and said != _REDACTED
    role = "system" if told and said is not None and said.startswith(_NOTICE) else "user"
    return Prompt(key, time, role, [Text(said)] if told and said is not None else [])


def _usage_of(said: Mapping[str, Any]) -> Usage | None:
    """Return the tokens of a call: `input_tokens` are those that no cache had a part in."""
    fresh, made, read, written = (
        count(said.get(name))
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")
    )
    if fresh is None and made is None:
        return None
    given = None if fresh is None else fresh + (read or 0) + (written or 0)
    return Usage(given, made, None, read, written)


_SHOWN = re.compile(r"(?:\A|\n\n---\n\n)\[TOOL RESULT: (?P<key>[^\]\n]+)\]\n")
_REMINDER = re.compile(r"\s*<system-reminder>.*?</system-reminder>\s*\Z", re.DOTALL)


def _results_in(context: str) -> dict[str, str]:
    """Return the results of tools in what a model was newly sent, without what the program adds behind them."""
    _, *found = _SHOWN.split(context)
    return {key: _REMINDER.sub("", shown) for key, shown in zip(found[::2], found[1::2], strict=True)}


def _error_of(said: Mapping[str, Any], status: str | None) -> ErrorInfo:
    code = count(said.get("status_code"))
    kind = text(said.get("error.type")) or text(said.get("error_type")) or "error"
    return ErrorInfo(kind, text(said.get("error")) or status or "", status_code=code)


def _refuse(run: Run, source: str | None) -> None:
    run.refused = source or "refused"
    run.result = ToolResult(None, is_error=True)


def _fail(run: Run, message: str | None, kind: str | None) -> None:
    run.result = ToolResult(None, is_error=True, annotation={"error_type": kind} if kind else None)
    if message:
        run.error = ErrorInfo(kind or "error", message)
