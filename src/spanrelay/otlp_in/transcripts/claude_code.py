"""The transcript of Claude Code: a line for each block of an answer, each prompt and each result of a tool.

A sub-agent has a file of its own, whose lines have its id, and one beside it that names the call it was begun by. The
usage of an answer stands on each of its lines, the last of them whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from spanrelay.codecs.anthropic_messages import decode_response
from spanrelay.codecs.anthropic_messages.messages import read_content
from spanrelay.codecs.narrowing import as_int, as_mapping, as_str
from spanrelay.otlp_in.accounts import MAIN, Account, Call, Failure, Prompt, Run, Thread
from spanrelay.otlp_in.telemetry import TranscriptLine
from spanrelay.otlp_in.transcripts.lines import in_order, time_of
from spanrelay.records import JSON, ErrorInfo, Part, Text, ToolCall, ToolCallResponse, ToolResult, Usage

NAME = "claude_code"
AGENT = "claude-code"
"""How the program is called in documents."""

MARKS = (b'"isSidechain"', b'"toolUseId"', b'"leafUuid"')

_WITHOUT_SESSION = ("summary", "file-history-snapshot", "custom-title", "ai-title", "pr-link", "tag")
"""Types of lines that, in some versions, name no session."""


def line_of(value: dict[str, Any], file: str) -> TranscriptLine | None:
    """Return the line that a JSON object is, or None."""
    session, kind = as_str(value.get("sessionId")), as_str(value.get("type"))
    if kind is None:
        return _description(value, file) if "agentType" in value and "type" not in value else None
    if "parentUuid" in value and "isSidechain" not in value:
        return None  # Qwen Code's, which look like these
    if session is None and not (kind in _WITHOUT_SESSION and ("leafUuid" in value or "messageId" in value)):
        return None
    return TranscriptLine(NAME, file, (session,) if session else (), time_of(value.get("timestamp")), value)


def _description(value: dict[str, Any], file: str) -> TranscriptLine:
    """Return what stands beside the transcript of a sub-agent as a line of it."""
    return TranscriptLine(NAME, file, (), 0, value)


def accounts_of(lines: Iterable[TranscriptLine]) -> list[Account]:
    """Return what lines tell of each session; one that names none is of that which its file is of."""
    lines = in_order(lines, _order)
    of_file = {line.file: line.sessions[0] for line in reversed(lines) if line.sessions}
    readings: dict[str, _Reading] = {}
    for line in lines:
        session = line.sessions[0] if line.sessions else of_file.get(line.file)
        if session is not None:
            readings.setdefault(session, _Reading(session)).add(line)
    return [reading.account() for reading in readings.values()]


def _order(line: TranscriptLine) -> tuple[Any, ...]:
    return line.time, as_int(line.line.get("apiBlockIndex")) or 0


class _Reading:
    """Takes in lines in order."""

    def __init__(self, session: str) -> None:
        self._account = Account(session, AGENT)
        self._sent: dict[str, int] = {}
        self._failures: dict[str, list[Failure]] = {}
        self._descriptions: dict[str, Mapping[str, Any]] = {}
        self._files: dict[str, str] = {}
        self._sides: dict[str, str] = {}
        self._above: dict[str, str] = {}
        """The lines that lines go on from, by their ids."""
        self._answers: dict[str, str] = {}
        """The calls that lines are answers of, by the ids of the lines."""
        self._last: dict[str, str] = {}
        """The last calls of threads."""

    def account(self) -> Account:
        """Return what has been taken in."""
        for file, said in self._descriptions.items():
            if (key := self._files.get(file)) is not None:
                thread = self._account.thread(key)
                thread.begun_by = thread.begun_by or as_str(said.get("toolUseId"))
                thread.name = as_str(said.get("agentType")) or thread.name
        for thread in self._account.threads.values():
            if thread.key != MAIN and thread.begun_by is None:
                self._link(thread)
        return self._account

    def _link(self, thread: Thread) -> None:
        """Find the one call that gave a sub-agent what it was asked, where nothing names it."""
        asked = next(
            ("".join(str(getattr(part, "text", "")) for part in each.parts) for each in _prompts(thread)), None
        )
        found = [run for run in self._account.runs() if asked and as_mapping(run.arguments).get("prompt") == asked]
        if len(found) == 1:
            thread.begun_by = found[0].key
            thread.name = thread.name or as_str(as_mapping(found[0].arguments).get("subagent_type"))

    def add(self, line: TranscriptLine) -> None:
        value = line.line
        if "agentType" in value and "type" not in value:
            self._descriptions[line.file] = value
            return
        self._account.version = as_str(value.get("version")) or self._account.version
        if (uuid := as_str(value.get("uuid"))) is not None:
            self._above[uuid] = as_str(value.get("parentUuid")) or ""
        key = self._thread_of(value)
        if key != MAIN:
            self._files[line.file] = key
        thread = self._account.thread(key)
        thread.id = as_str(value.get("agentId"))
        message = as_mapping(value.get("message"))
        match value.get("type"):
            case "assistant":
                self._add_answer(thread, line, message)
            case "user" if not value.get("isMeta"):
                self._add_user(thread, line, message)
            case "system" if value.get("subtype") == "api_error":
                self._failures.setdefault(key, []).append(Failure(line.time, _error_of(value.get("error"))))
            case "api-request":
                self._sent[str(value.get("id"))] = line.time
            case _:
                pass

    def _thread_of(self, value: Mapping[str, Any]) -> str:
        """Return whose a line is: before sub-agents had files and ids, theirs hung together by those before them."""
        key = as_str(value.get("agentId"))
        if key is None and value.get("isSidechain") is True:
            key = self._sides.get(str(value.get("parentUuid"))) or f"sidechain {value.get('uuid')}"
            self._sides[str(value.get("uuid"))] = key
        return key or MAIN

    def _add_answer(self, thread: Thread, line: TranscriptLine, message: Mapping[str, Any]) -> None:
        value = line.line
        key = as_str(value.get("requestId")) or as_str(message.get("id")) or str(value.get("uuid"))
        begun = self._sent.get(str(value.get("requestRef")), line.time)
        call = thread.calls.setdefault(key, Call(key, min(begun, line.time), line.time, parts=[]))
        call.end = max(call.end, line.time)
        self._answers[str(value.get("uuid"))] = self._last[thread.key] = key
        call.failures += self._failures.pop(thread.key, [])
        call.start = min(call.start, *(failure.time for failure in call.failures), line.time)
        thread.name = thread.name or as_str(value.get("attributionAgent"))
        parts = read_content(message.get("content"))
        if value.get("isApiErrorMessage") or message.get("model") == "<synthetic>":
            call.parts, call.error = None, ErrorInfo("error", "".join(str(getattr(part, "text", "")) for part in parts))
            return
        answer = decode_response(message)
        call.model, call.usage = answer.model, _larger(call.usage, answer.usage)
        call.finish_reason = next(iter(answer.finish_reasons), None) or call.finish_reason
        call.parts = [*(call.parts or []), *parts]
        for part in parts:
            if isinstance(part, ToolCall) and part.id and not part.server:
                thread.runs.setdefault(part.id, Run(part.id, part.name, line.time, 0, key, part.arguments))

    def _add_user(self, thread: Thread, line: TranscriptLine, message: Mapping[str, Any]) -> None:
        said: list[Part] = []
        for part in read_content(message.get("content")):
            if isinstance(part, ToolCallResponse):
                self._add_result(thread, line, part)
            else:
                said.append(part)
        if said:
            value = line.line
            key = as_str(value.get("promptId")) or str(value.get("uuid"))
            key = key if key not in thread.prompts else str(value.get("uuid"))
            notice = as_mapping(value.get("origin")).get("kind") in _NOTICES or value.get("isCompactSummary")
            role = "system" if notice else "user"
            thread.prompts[key] = Prompt(key, line.time, role, said, after=self._gone_back_to(thread, value))

    def _gone_back_to(self, thread: Thread, value: Mapping[str, Any]) -> str | None:
        """Return the call whose answer a prompt goes on from, where the thread has had others since."""
        uuid = as_str(value.get("parentUuid"))
        for _ in self._above:
            if uuid is None or uuid in self._answers:
                break
            uuid = self._above.get(uuid)
        found = self._answers.get(uuid or "")
        return found if found in thread.calls and found != self._last.get(thread.key) else None

    def _add_result(self, thread: Thread, line: TranscriptLine, part: ToolCallResponse) -> None:
        run = thread.runs.get(part.id or "")
        if run is None:
            return
        told = as_mapping(line.line.get("toolUseResult"))
        run.end = line.time
        run.result = ToolResult(
            _plain(part.content), part.is_error, exit_code=exit_code_in(part.content) if part.is_error else None
        )
        decision = as_mapping(line.line.get("permissionDecision"))
        if decision.get("decision") == "reject" or line.line.get("toolDenialKind"):
            run.refused = as_str(decision.get("source")) or as_str(line.line.get("toolDenialKind")) or "refused"
        if (agent := as_str(told.get("agentId"))) is not None:
            child = self._account.thread(agent)
            child.begun_by, child.name = run.key, as_str(told.get("agentType")) or child.name


def _prompts(thread: Thread) -> list[Prompt]:
    return sorted(thread.prompts.values(), key=lambda prompt: (prompt.time, prompt.key))


_NOTICES = ("task-notification",)
"""What is not a user's, though it stands where a user's words do."""

_EXIT = re.compile(r"\AExit code (\d+)(?:\n|\Z)")


def _plain(content: JSON) -> JSON:
    """Return a result as text where it is told as pieces of text."""
    parts = cast("list[object]", content) if isinstance(content, list) else []
    texts = [part.text for part in parts if isinstance(part, Text)]
    return "".join(texts) if texts and len(texts) == len(parts) else content


def exit_code_in(content: JSON) -> int | None:
    """Return the exit code that a failed command's result begins with."""
    found = _EXIT.match(content) if isinstance(content, str) else None
    return int(found[1]) if found else None


def _error_of(error: JSON) -> ErrorInfo:
    said = as_mapping(error)
    status = as_int(said.get("status"))
    text = as_str(said.get("formatted")) or as_str(said.get("message")) or ""
    return ErrorInfo(f"HTTP {status}" if status is not None else "error", text, status_code=status)


def _larger(one: Usage | None, other: Usage | None) -> Usage | None:
    """Return the usage of the later state of an answer: the one with more output."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda usage: usage.output_tokens or 0)
