"""The chat files of Gemini CLI: a line for each message, and another once the tools that it asks for have run.

A sub-agent has a file of its own; the run that began it names it. Older versions wrote one object with all messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spanrelay.codecs.gemini_generate_content.messages import read_content
from spanrelay.codecs.gemini_shapes import decode_usage
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.otlp_in.accounts import MAIN, Account, Call, Prompt, Run, Thread
from spanrelay.otlp_in.contents import exit_code_in, own_id, results_of
from spanrelay.otlp_in.telemetry import TranscriptLine
from spanrelay.otlp_in.transcripts.lines import in_order, time_of
from spanrelay.records import Part, Reasoning, ToolCall, ToolCallResponse, ToolResult

NAME = "gemini_cli"
AGENT = "gemini-cli"
"""How the program is called in documents."""

MARKS = (b'"projectHash"', b'"toolCalls"', b'"$set"')

_MESSAGES = ("user", "gemini", "info", "error", "warning")


def line_of(value: dict[str, Any], file: str) -> TranscriptLine | None:
    """Return the line that a JSON object is, or None."""
    if "projectHash" in value and (session := as_str(value.get("sessionId"))) is not None:
        return TranscriptLine(NAME, file, (session,), time_of(value.get("startTime")), value)
    if value.keys() == {"$set"}:
        return TranscriptLine(NAME, file, (), 0, value)
    if value.get("type") in _MESSAGES and "content" in value and "timestamp" in value and "id" in value:
        agents = (as_str(as_mapping(run).get("agentId")) for run in as_list(value.get("toolCalls")))
        named = tuple(sorted({agent for agent in agents if agent}))
        return TranscriptLine(NAME, file, named, time_of(value.get("timestamp")), value)
    return None


def account_of(lines: Iterable[TranscriptLine]) -> Account:
    """Return what the files of one session tell: that of the user's thread, and those of sub-agents."""
    files: dict[str, list[TranscriptLine]] = {}
    for line in in_order(lines, lambda line: (line.time,)):
        files.setdefault(line.file, []).append(line)
    heads = {file: _head_of(own) for file, own in files.items()}
    main = sorted(str(head["sessionId"]) for head in heads.values() if head and head.get("kind") != "subagent")
    account = Account(main[0] if main else None, AGENT)
    for file, own in sorted(files.items()):
        head = heads[file]
        session = as_str(head.get("sessionId"))
        account.session = account.session or session
        key = session if session is not None and head.get("kind") == "subagent" else MAIN
        _read_file(account, account.thread(key), own)
    return account


def _head_of(lines: list[TranscriptLine]) -> Mapping[str, Any]:
    return next((line.line for line in lines if "projectHash" in line.line), {})


def _read_file(account: Account, thread: Thread, lines: list[TranscriptLine]) -> None:
    """Read what one file tells. A message that stands there twice is whole where it has the runs of tools."""
    for line in lines:
        given = as_mapping(line.line.get("$set")).get("messages")
        for message in map(as_mapping, as_list(given)):
            _read_context(thread, message)
    messages = [line.line for line in lines if "content" in line.line]
    messages += [message for line in lines for message in map(as_mapping, as_list(line.line.get("messages")))]
    whole: dict[str, Mapping[str, Any]] = {}
    for message in messages:
        key = str(message.get("id"))
        if key not in whole or len(as_list(message.get("toolCalls"))) >= len(as_list(whole[key].get("toolCalls"))):
            whole[key] = message
    for key, message in whole.items():
        if message.get("type") == "gemini":
            _read_answer(account, thread, key, message)
        elif message.get("type") == "user":
            _read_user(thread, key, message)


def _read_context(thread: Thread, message: Mapping[str, Any]) -> None:
    """Read what the program has told the model before the first question."""
    key = str(message.get("id"))
    parts = _parts_of(message.get("content"))
    thread.prompts.setdefault(key, Prompt(key, time_of(message.get("timestamp")), "system", parts))


def _read_user(thread: Thread, key: str, message: Mapping[str, Any]) -> None:
    said = _parts_of(message.get("content"))
    parts: list[Part] = [part for part in said if not isinstance(part, ToolCallResponse)]
    if parts:
        thread.prompts.setdefault(key, Prompt(key, time_of(message.get("timestamp")), "user", parts))


def _read_answer(account: Account, thread: Thread, key: str, message: Mapping[str, Any]) -> None:
    time = time_of(message.get("timestamp"))
    call = Call(key, time, time, as_str(message.get("model")), parts=[])
    tokens = as_mapping(message.get("tokens"))
    call.usage = decode_usage({name: tokens[given] for given, name in _COUNTS.items() if given in tokens})
    parts: list[Part] = [
        Reasoning(thought) for thought in map(_thought_of, as_list(message.get("thoughts"))) if thought
    ]
    parts += _parts_of(message.get("content"))
    for told in map(as_mapping, as_list(message.get("toolCalls"))):
        run = _run_of(told, call)
        parts.append(ToolCall(run.key, run.name, run.arguments))
        thread.runs[run.key] = run
        if (agent := as_str(told.get("agentId"))) is not None:
            child = account.thread(agent)
            child.begun_by, child.name = run.key, as_str(as_mapping(run.arguments).get("agent_name"))
    call.parts = parts
    thread.calls[key] = call


_COUNTS = {
    "input": "promptTokenCount",
    "output": "candidatesTokenCount",
    "cached": "cachedContentTokenCount",
    "thoughts": "thoughtsTokenCount",
    "tool": "toolUsePromptTokenCount",
    "total": "totalTokenCount",
}


def _thought_of(thought: object) -> str:
    """Return a thought as the model had it: with its heading before it."""
    told = as_mapping(thought)
    subject, description = as_str(told.get("subject")), as_str(told.get("description"))
    return "\n\n".join(filter(None, (f"**{subject}**" if subject else None, description)))


_BLOCKED = "Tool execution blocked:"
"""How the result of a call begins that a hook refused."""


def _run_of(told: Mapping[str, Any], call: Call) -> Run:
    name = as_str(told.get("name")) or ""
    key = own_id(as_str(told.get("id")), name) or ""
    end = max(time_of(told.get("timestamp")), call.end)
    run = Run(key, name, call.end, end, call.key, told.get("args"))
    for result in results_of(told.get("result"))[:1]:
        run.result = ToolResult(result.content, result.is_error, exit_code=exit_code_in(name, result.content))
        if isinstance(result.content, str) and result.content.startswith(_BLOCKED):
            run.refused = "policy_violation"
    return run


def _parts_of(content: object) -> list[Part]:
    parts: list[Any] = [{"text": content}] if isinstance(content, str) else as_list(content)
    read = read_content({"role": "user", "parts": parts}).parts
    return [part for part in read if getattr(part, "text", True)]
