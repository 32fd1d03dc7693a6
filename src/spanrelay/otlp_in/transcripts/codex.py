"""The rollout of Codex: a line for each item that a model was sent or gave, and what each answer used.

A sub-agent has a file of its own, whose first line says what thread began it; the call that did gave its id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from spanrelay import _json
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.codecs.openai_responses.messages import read_item
from spanrelay.otlp_in.accounts import MAIN, Account, Call, Prompt, Run, Thread
from spanrelay.otlp_in.telemetry import TranscriptLine
from spanrelay.otlp_in.transcripts.lines import in_order, time_of
from spanrelay.records import JSON, Message, ToolCall, ToolCallResponse, ToolResult, Usage

NAME = "codex"
AGENT = "codex"
"""How the program is called in documents."""

MARKS = (b'"session_meta"', b'"response_item"')


def line_of(value: dict[str, Any], file: str) -> TranscriptLine | None:
    """Return the line that a JSON object is, or None."""
    payload = value.get("payload")
    if not isinstance(value.get("type"), str) or not isinstance(payload, dict) or "timestamp" not in value:
        return None
    sessions = _sessions_of(value["type"], as_mapping(payload))
    return TranscriptLine(NAME, file, sessions, time_of(value.get("timestamp")), value)


def _sessions_of(kind: str, payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the threads that a line names: its own, and for a sub-agent those above it."""
    keys = ("thread_id", "session_id", "parent_thread_id")
    named = [as_str(payload.get(key)) for key in (("id", *keys) if kind == "session_meta" else keys)]
    return tuple(dict.fromkeys(name for name in (*named, _parent_of(payload)) if name))


def _parent_of(meta: Mapping[str, Any]) -> str | None:
    source = as_mapping(as_mapping(meta.get("source")).get("subagent"))
    return as_str(as_mapping(source.get("thread_spawn")).get("parent_thread_id")) or as_str(
        meta.get("parent_thread_id")
    )


def accounts_of(lines: Iterable[TranscriptLine]) -> list[Account]:
    """Return what rollouts tell of each session: of the user's thread, and of those that it began."""
    files: dict[str, list[TranscriptLine]] = {}
    for line in lines:
        files.setdefault(line.file, []).append(line)
    rollouts = [_Rollout(in_order(own, _order)) for _, own in sorted(files.items())]
    parents = {rollout.id: rollout.parent for rollout in rollouts if rollout.id and rollout.parent}
    accounts: dict[str | None, Account] = {}
    for rollout in rollouts:
        root = root_of(rollout.id, parents)
        account = accounts.setdefault(root, Account(root, AGENT))
        account.version = account.version or rollout.version
        rollout.tell(account.thread(MAIN if rollout.id == root else rollout.id or MAIN))
    for account in accounts.values():
        link(account)
    return list(accounts.values())


def root_of(thread: str | None, parents: Mapping[str, str]) -> str | None:
    """Return the thread that stands above all others of a thread."""
    seen: set[str] = set()
    while thread is not None and thread in parents and thread not in seen:
        seen.add(thread)
        thread = parents[thread]
    return thread


def link(account: Account) -> None:
    """Find out which calls began the threads of sub-agents: they gave their ids."""
    for run in account.runs():
        content = run.result.content if run.result is not None else None
        given = _json.loads_or_text(content) if isinstance(content, str) else None
        child = account.threads.get(as_str(as_mapping(given).get("agent_id")) or MAIN)
        if child is not None and child.key != MAIN:
            child.begun_by = child.begun_by or run.key
            child.name = child.name or as_str(as_mapping(given).get("nickname"))


def _order(line: TranscriptLine) -> tuple[Any, ...]:
    ordinal = as_int(line.line.get("ordinal"))
    return (ordinal if ordinal is not None else -1, line.time)


class _Rollout:
    """The lines of one file, in order."""

    def __init__(self, lines: list[TranscriptLine]) -> None:
        self._lines = lines
        heads = [as_mapping(line.line["payload"]) for line in lines if line.line["type"] == "session_meta"]
        meta = heads[0] if heads else as_mapping(None)  # further ones came with a history that was taken over
        told = {key: _first(lines, key) for key in ("thread_id", "session_id")}
        self.id = as_str(meta.get("id")) or told["thread_id"]
        above = told["session_id"] if told["session_id"] != self.id else None
        self.parent, self.version = _parent_of(meta) or above, as_str(meta.get("cli_version"))
        self._name = as_str(meta.get("agent_nickname"))
        self._call: Call | None = None
        self._model: str | None = None
        self._after: int = 0
        """How far the model had been told when it began the answer that is being read."""

    def tell(self, thread: Thread) -> None:
        """Add what the file tells to its thread."""
        thread.name = thread.name or self._name
        for line in self._lines:
            payload = as_mapping(line.line["payload"])
            match line.line["type"], payload.get("type"):
                case "turn_context", _:
                    self._model = as_str(payload.get("model")) or self._model
                case "response_item", _:
                    self._add_item(thread, line, payload)
                case "token_usage_record", _:
                    self._close(thread, line.time, payload.get("usage"), as_str(payload.get("response_id")))
                case "event_msg", "token_count":
                    self._close(thread, line.time, as_mapping(payload.get("info")).get("last_token_usage"), None)
                case _:
                    pass

    def _add_item(self, thread: Thread, line: TranscriptLine, item: Mapping[str, Any]) -> None:
        message = read_item(item)
        if message.role == "assistant":
            self._add_answer(thread, line, item, message)
        elif message.role == "tool":
            for part in message.parts:
                if isinstance(part, ToolCallResponse) and (run := thread.runs.get(part.id or "")) is not None:
                    run.end, run.result = line.time, result_of(part.content)
                    run.refused = refusal_in(part.content)
        elif message.role == "user" and _is_said(item, message):
            key = as_str(item.get("id")) or f"{line.time}"
            thread.prompts[key] = Prompt(key, line.time, "user", message.parts)
        if message.role != "assistant":
            self._after = line.time

    def _add_answer(self, thread: Thread, line: TranscriptLine, item: Mapping[str, Any], message: Message) -> None:
        call = self._call
        if call is None or (call.usage is None and self._after > call.start):
            key = as_str(item.get("id")) or as_str(item.get("call_id")) or f"{line.time}"
            # What it was asked it knew then; nothing says when it was sent.
            call = self._call = Call(key, line.time, line.time, self._model, [])
            thread.calls[key] = call
        call.end = line.time
        call.names |= {name for name in (as_str(item.get("id")), as_str(item.get("call_id"))) if name}
        call.parts = [*(call.parts or []), *message.parts]
        for part in message.parts:
            if isinstance(part, ToolCall) and part.id and not part.server:
                thread.runs[part.id] = Run(part.id, part.name, line.time, 0, call.key, part.arguments)

    def _close(self, thread: Thread, time: int, usage: JSON, response_id: str | None) -> None:
        """Take in what the answer used, with which it has ended."""
        call = self._call
        if call is None:
            return
        call.usage = _usage_of(as_mapping(usage))
        if response_id is not None:
            call.end = time
            del thread.calls[call.key]
            for tool in call.tools:
                if (run := thread.runs.get(tool.id or "")) is not None:
                    run.call = response_id
            call.key = response_id
            thread.calls[call.key] = call
        self._call = None


def _first(lines: list[TranscriptLine], key: str) -> str | None:
    """Return what the first line says that has `key`."""
    return next((said for line in lines if (said := as_str(as_mapping(line.line["payload"]).get(key)))), None)


def _is_said(item: Mapping[str, Any], message: Message) -> bool:
    """Whether a message is of a user: what Codex adds itself says so, or, in earlier versions, stands in a tag."""
    metadata = as_mapping(item.get("internal_chat_message_metadata_passthrough"))
    sources = [
        as_mapping(as_mapping(each).get("provenance")).get("type")
        for each in as_list(metadata.get("content_item_metadata"))
    ]
    if sources:
        return "user" in sources
    return not message.text.lstrip().startswith(_ADDED)


_ADDED = ("<environment_context>", "<user_instructions>", "# AGENTS.md instructions", "<subagent_notification>",
          "<turn_aborted>", "<skill>", "<permissions instructions>")  # fmt: skip


def _usage_of(usage: Mapping[str, Any]) -> Usage | None:
    names = (
        *("input_tokens", "output_tokens", "total_tokens"),
        *("cached_input_tokens", "cache_write_input_tokens", "reasoning_output_tokens"),
    )
    return Usage(*(as_int(usage.get(name)) for name in names)) if usage else None


_EXIT = re.compile(r"^Process exited with code (-?\d+)$", re.MULTILINE)
_BLOCKED = "Command blocked by PreToolUse hook: "


def result_of(content: JSON) -> ToolResult:
    """Return what a tool gave, with the exit code that the head of a command's result tells."""
    return ToolResult(content, exit_code=exit_code_in(content))


def exit_code_in(content: JSON) -> int | None:
    """Return the exit code that the head of a command's result tells."""
    head = content.partition("\nOutput:\n")[0] if isinstance(content, str) else ""
    found = _EXIT.search(head)
    return int(found[1]) if found else None


def refusal_in(content: JSON) -> str | None:
    """Return why a call was refused, if its result says that it was."""
    return content.removeprefix(_BLOCKED) if isinstance(content, str) and content.startswith(_BLOCKED) else None
