"""The chat files of Qwen Code: a line for each prompt, answer and result of a tool, and some of its telemetry between.

A sub-agent has a file of its own, whose lines have its id, in which the call stands that began it; there an answer's
words and what it calls may be two lines, of which the first has the usage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spanrelay.codecs.gemini_shapes import decode_usage
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.otlp_in.accounts import MAIN, Account, Call, Prompt, Run, Thread
from spanrelay.otlp_in.contents import exit_code_in, message_of
from spanrelay.otlp_in.telemetry import TranscriptLine
from spanrelay.otlp_in.transcripts.lines import in_order, time_of
from spanrelay.records import Part, ToolCallResponse, ToolResult

NAME = "qwen_code"
AGENT = "qwen-code"
"""How the program is called in documents."""

MARKS = (b'"provenance"', b'"systemPayload"', b'"agentRunId"')

_TYPES = ("user", "assistant", "tool_result", "system")


def line_of(value: dict[str, Any], file: str) -> TranscriptLine | None:
    """Return the line that a JSON object is, or None."""
    session = as_str(value.get("sessionId"))
    if session is None or "uuid" not in value or value.get("type") not in _TYPES:
        return None
    if "parts" not in as_mapping(value.get("message")) and "systemPayload" not in value:
        return None
    return TranscriptLine(NAME, file, (session,), time_of(value.get("timestamp")), value)


def account_of(lines: Iterable[TranscriptLine]) -> Account:
    """Return what the lines of one session tell."""
    account = Account(None, AGENT)
    reading = _Reading(account)
    for line in in_order(lines, lambda line: (line.time, _TYPES.index(line.line["type"]))):
        account.session = account.session or line.sessions[0]
        account.version = account.version or as_str(line.line.get("version"))
        reading.add(line)
    reading.join()
    return account


class _Reading:
    """Takes in lines in order."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._calls: dict[str, Call] = {}
        """By the ids of the lines that tell of them."""
        self._events: dict[str, Mapping[str, Any]] = {}
        self._results: list[tuple[Thread, TranscriptLine]] = []

    def add(self, line: TranscriptLine) -> None:
        value = line.line
        thread = self._thread_of(value)
        match value["type"]:
            case "user":
                self._add_prompt(thread, line)
            case "assistant":
                self._add_answer(thread, line)
            case "tool_result":
                self._results.append((thread, line))
            case _:
                event = as_mapping(as_mapping(value.get("systemPayload")).get("uiEvent"))
                self._events[str(value["uuid"])] = event

    def join(self) -> None:
        """Give runs of tools their results."""
        for thread, line in self._results:
            for part in _parts_of(line.line):
                run = thread.runs.get(part.id or "") if isinstance(part, ToolCallResponse) else None
                if run is not None and isinstance(part, ToolCallResponse):
                    _read_result(run, part, line)

    def _thread_of(self, value: Mapping[str, Any]) -> Thread:
        key, name = as_str(value.get("agentId")), as_str(value.get("agentName"))
        thread = self._account.thread(key or MAIN)
        if key is not None and name is not None:
            thread.name, thread.begun_by = name, key.removeprefix(f"{name}-")
        return thread

    def _add_prompt(self, thread: Thread, line: TranscriptLine) -> None:
        own = line.line.get("provenance") == "system" or line.line.get("subtype") == "notification"
        key = str(line.line["uuid"])
        thread.prompts[key] = Prompt(key, line.time, "system" if own else "user", _parts_of(line.line))

    def _add_answer(self, thread: Thread, line: TranscriptLine) -> None:
        value = line.line
        key, before = str(value["uuid"]), str(value.get("parentUuid"))
        call = self._calls.get(before) if "usageMetadata" not in value else None
        if call is None:
            call = Call(key, line.time, line.time, as_str(value.get("model")), parts=[])
            call.usage = _usage_of(value.get("usageMetadata"))
            self._read_event(call, self._events.get(before, {}))
            thread.calls[key] = call
        self._calls[key] = call
        call.end = max(call.end, line.time)
        call.parts = [*(call.parts or []), *_parts_of(value)]
        for tool in call.tools:
            if tool.id and tool.id not in thread.runs:
                thread.runs[tool.id] = Run(tool.id, tool.name, line.time, 0, call.key, tool.arguments)

    def _read_event(self, call: Call, event: Mapping[str, Any]) -> None:
        """Read what the program's own telemetry, which is among the lines, says of a call."""
        took, first = as_int(event.get("duration_ms")), as_int(event.get("ttft_ms"))
        call.start -= (took or 0) * 1_000_000
        call.first_chunk = first / 1000 if first is not None else None
        if (name := as_str(event.get("response_id"))) is not None:
            call.names.add(name)


def _parts_of(value: Mapping[str, Any]) -> list[Part]:
    content = {"role": "user", "parts": as_list(as_mapping(value.get("message")).get("parts"))}
    return message_of(content).parts


def _usage_of(value: object) -> Any:
    """Return the usage of an answer: here thoughts are among the candidates, which Gemini counts beside them."""
    usage = decode_usage(value)
    if usage is not None and usage.output_tokens is not None:
        usage.output_tokens -= usage.reasoning_tokens or 0
    return usage


def _read_result(run: Run, part: ToolCallResponse, line: TranscriptLine) -> None:
    told = as_mapping(line.line.get("toolCallResult"))
    run.end = max(line.time, run.start)
    took = as_int(told.get("durationMs"))
    if took is not None:
        run.start = max(run.start, run.end - took * 1_000_000)
    run.result = ToolResult(part.content, part.is_error, exit_code=exit_code_in(run.name, part.content))
    if told.get("executionStatus") == "not_started":
        run.refused = as_str(told.get("errorType")) or "refused"
