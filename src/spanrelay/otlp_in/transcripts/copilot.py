"""The events of GitHub Copilot CLI: a line for each prompt, answer and run of a tool, and what each answer used.

Those of a sub-agent stand among those of its session, with its id; the event that begins it names the call. Requests
that failed are told by the hooks that were told of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spanrelay import _json
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.otlp_in.accounts import MAIN, Account, Call, Failure, Prompt, Run, Thread
from spanrelay.otlp_in.telemetry import TranscriptLine
from spanrelay.otlp_in.transcripts.lines import in_order, time_of
from spanrelay.records import ErrorInfo, Part, Reasoning, Text, ToolCall, ToolResult, Usage

NAME = "copilot"
AGENT = "copilot"
"""How the program is called in documents."""

MARKS = (b'"copilotVersion"', b'"interactionId"')

_REFUSED = "denied"


def line_of(value: dict[str, Any], file: str) -> TranscriptLine | None:
    """Return the line that a JSON object is, or None."""
    kind, data = as_str(value.get("type")), value.get("data")
    if kind is None or not isinstance(data, dict) or not {"id", "parentId", "timestamp"} <= value.keys():
        return None
    session = as_str(as_mapping(data).get("sessionId")) if kind in ("session.start", "session.resume") else None
    return TranscriptLine(NAME, file, (session,) if session else (), time_of(value["timestamp"]), value)


def accounts_of(lines: Iterable[TranscriptLine]) -> list[Account]:
    """Return what lines tell of each session; a file is of one."""
    lines = in_order(lines, lambda line: (line.time,))
    of_file = {line.file: line.sessions[0] for line in reversed(lines) if line.sessions}
    readings: dict[str, _Reading] = {}
    for line in lines:
        session = of_file.get(line.file, line.file)
        readings.setdefault(session, _Reading(of_file.get(line.file))).add(line)
    return [reading.account() for reading in readings.values()]


class _Reading:
    """Takes in the events of a session, in order."""

    def __init__(self, session: str | None) -> None:
        self._account = Account(session, AGENT)
        self._used: dict[str, TranscriptLine] = {}
        """What answers used, by the ids of these."""
        self._ended: list[tuple[Thread, TranscriptLine]] = []
        self._failed: dict[str, list[Failure]] = {}
        """Requests that came to nothing since the last answer, by thread."""

    def account(self) -> Account:
        """Return what has been taken in."""
        for thread in self._account.threads.values():
            for call in thread.calls.values():
                if (line := self._used.get(call.key)) is not None:
                    _read_usage(call, as_mapping(as_mapping(line.line["data"]).get("usage")), line.time)
        for thread, line in self._ended:
            data = as_mapping(line.line["data"])
            if (run := thread.runs.get(str(data.get("toolCallId")))) is not None:
                _read_end(run, data, line.time)
        for key, (*failures, last) in self._failed.items():  # which no answer followed
            call = Call(f"failed {last.time}", last.time, last.time, failures=failures, error=last.error)
            self._account.threads[key].calls[call.key] = call
        return self._account

    def add(self, line: TranscriptLine) -> None:
        data = as_mapping(line.line["data"])
        thread = self._account.thread(as_str(line.line.get("agentId")) or MAIN)
        match line.line["type"]:
            case "session.start":
                self._account.version = as_str(data.get("copilotVersion"))
            case "user.message" | "system.message":
                _add_prompt(thread, line, data)
            case "assistant.message":
                _add_answer(thread, line, data).failures += self._failed.pop(thread.key, [])
            case "hook.start" if data.get("hookType") == "errorOccurred":
                self._add_failure(thread, line, as_mapping(data.get("input")))
            case "session.usage_record":
                self._used[str(as_mapping(data.get("usage")).get("apiCallId"))] = line
            case "subagent.started":
                thread.begun_by = as_str(data.get("toolCallId"))
                thread.name = as_str(data.get("agentName"))
            case "tool.execution_start":
                key, name = as_str(data.get("toolCallId")), as_str(data.get("toolName"))
                run = thread.runs.setdefault(key or "", Run(key or "", name or "", line.time, 0))
                run.start, run.arguments = line.time, run.arguments or data.get("arguments")
            case "tool.execution_complete":
                self._ended.append((thread, line))
            case _:
                pass

    def _add_failure(self, thread: Thread, line: TranscriptLine, told: Mapping[str, Any]) -> None:
        if told.get("errorContext") == "model_call":
            error = as_mapping(told.get("error"))
            words = as_str(error.get("message")) or ""
            status = as_int(as_mapping(_json.loads_or_text(words)).get("code"))
            failure = Failure(line.time, ErrorInfo(as_str(error.get("name")) or "error", words, status_code=status))
            self._failed.setdefault(thread.key, []).append(failure)


def _add_prompt(thread: Thread, line: TranscriptLine, data: Mapping[str, Any]) -> None:
    """Add what was said; a system prompt, which is told behind the first question, stands before it."""
    text = as_str(data.get("content"))
    if not text:
        return
    key, time = str(line.line["id"]), line.time
    if line.line["type"] == "user.message":
        thread.prompts[key] = Prompt(key, time, "user", [Text(text)])
        return
    before = [prompt for prompt in thread.prompts.values() if prompt.role == "system"]
    if all(prompt.parts != [Text(text)] for prompt in before):
        first = min((prompt.time for prompt in thread.prompts.values()), default=time + 1)
        thread.prompts[key] = Prompt(key, time if before else min(time, first - 1), "system", [Text(text)])


def _add_answer(thread: Thread, line: TranscriptLine, data: Mapping[str, Any]) -> Call:
    key = as_str(data.get("apiCallId")) or str(line.line["id"])
    call = thread.calls.setdefault(key, Call(key, line.time, line.time, as_str(data.get("model")), [], names={key}))
    call.end = max(call.end, line.time)
    thought, text = as_str(data.get("reasoningText")), as_str(data.get("content"))
    parts: list[Part] = [*([Reasoning(thought)] if thought else []), *([Text(text)] if text else [])]
    for asked in map(as_mapping, as_list(data.get("toolRequests"))):
        tool = ToolCall(as_str(asked.get("toolCallId")), as_str(asked.get("name")) or "", asked.get("arguments"))
        parts.append(tool)
        run = thread.runs.setdefault(tool.id or "", Run(tool.id or "", tool.name, line.time, 0))
        run.call, run.arguments = key, tool.arguments
    call.parts = [*(call.parts or []), *parts]
    return call


def _read_usage(call: Call, usage: Mapping[str, Any], time: int) -> None:
    names = ("cacheReadTokens", "cacheWriteTokens", "reasoningTokens")
    given, made, *rest = (as_int(usage.get(name)) for name in ("inputTokens", "outputTokens", *names))
    call.usage = Usage(given, made, None, *rest)
    took, first = as_int(usage.get("duration")), usage.get("timeToFirstTokenMs")
    call.start = min(call.start, time - (took or 0) * 1_000_000)
    call.first_chunk = first / 1000 if isinstance(first, (int, float)) else None


def _read_end(run: Run, data: Mapping[str, Any], time: int) -> None:
    failed = data.get("success") is False
    error = as_mapping(data.get("error"))
    content = error.get("message") if failed else as_mapping(data.get("result")).get("content")
    exit_code = as_int(as_mapping(data.get("shellExecution")).get("exitCode"))
    run.end, run.result = max(time, run.start), ToolResult(content, failed, exit_code=exit_code)
    if error.get("code") == _REFUSED:
        run.refused = _REFUSED
