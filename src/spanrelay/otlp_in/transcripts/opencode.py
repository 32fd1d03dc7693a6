"""Sessions of opencode: rows of its database, a JSON object each, or what `opencode export` writes of one.

A message has parts: texts, thoughts, runs of tools, and between them where a model call begins and what it used. A
sub-agent is a session of its own, which names the one that began it; the run of the tool that did names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.otlp_in.accounts import MAIN, Account, Call, Prompt, Run, Thread
from spanrelay.otlp_in.telemetry import TranscriptLine
from spanrelay.otlp_in.transcripts.lines import in_order
from spanrelay.records import ErrorInfo, Part, Reasoning, Text, ToolCall, ToolResult, Usage

NAME = "opencode"
AGENT = "opencode"
"""How the program is called in documents."""

MARKS = (b'"id":"ses_', b'"id": "ses_')

TABLES = ("session", "message", "part")
"""The tables of its database that tell of sessions."""

_Row = Mapping[str, Any]


def line_of(value: dict[str, Any], _file: str) -> TranscriptLine | None:
    """Return the line that a row or an export is, or None; those of a session belong together, in whatever file."""
    if value.keys() == {"table", "row"} and value["table"] in TABLES:
        row, is_session = as_mapping(value["row"]), value["table"] == "session"
        session = as_str(row.get("id" if is_session else "session_id"))
        above, time = as_str(row.get("parent_id")) if is_session else None, row.get("time_created")
    else:
        row = as_mapping(value.get("info") if isinstance(value.get("messages"), list) else None)
        session, above = as_str(row.get("id")), as_str(row.get("parentID"))
        time = as_mapping(row.get("time")).get("created")
    if session is None or not session.startswith("ses_"):
        return None
    return TranscriptLine(NAME, session, (session, above) if above else (session,), _time(time), value)


def accounts_of(lines: Iterable[TranscriptLine]) -> list[Account]:
    """Return what lines tell of each session, those that it began beneath it."""
    sessions: dict[str, _Session] = {}
    for line in in_order(lines, lambda line: (line.time,)):
        sessions.setdefault(line.file, _Session(line.file)).add(line.line)
    accounts: dict[str, Account] = {}
    for session in sessions.values():
        root = _root_of(session, sessions)
        account = accounts.setdefault(root, Account(root, AGENT))
        account.version = account.version or session.version
        session.tell(account.thread(MAIN if session.id == root else session.id))
    for account in accounts.values():
        _link(account, sessions)
    return list(accounts.values())


def _root_of(session: _Session, sessions: Mapping[str, _Session]) -> str:
    seen = {session.id}
    while session.parent is not None and session.parent not in seen:
        seen.add(session.parent)
        above = sessions.get(session.parent)
        if above is None:
            return session.parent
        session = above
    return session.id


def _link(account: Account, sessions: Mapping[str, _Session]) -> None:
    """Say which runs began the threads of sub-agents, and what these are called."""
    for session in sessions.values():
        for key, began in session.began.items():
            thread = account.threads.get(began)
            if thread is not None and thread.key != MAIN:
                thread.begun_by, thread.name = key, session.asked.get(key)


def _time(value: object) -> int:
    """Return a time in milliseconds in nanoseconds; 0 where it is none."""
    return (as_int(value) or 0) * 1_000_000


class _Session:
    """The messages of one session, and their parts."""

    def __init__(self, session: str) -> None:
        self.id = session
        self.parent: str | None = None
        self.version: str | None = None
        self.began: dict[str, str] = {}
        """The sessions that runs of tools began, by the keys of these."""
        self.asked: dict[str, str | None] = {}
        """What kind of agent they asked for."""
        self._messages: dict[str, _Row] = {}
        self._parts: dict[str, dict[str, _Row]] = {}
        self._reverted: str | None = None

    def add(self, value: _Row) -> None:
        """Take in a row or an export."""
        if "info" in value:
            self._describe(as_mapping(value["info"]), "parentID")
            for message in map(as_mapping, as_list(value["messages"])):
                told = as_mapping(message.get("info"))
                self._messages[str(told.get("id"))] = told
                for part in map(as_mapping, as_list(message.get("parts"))):
                    self._parts.setdefault(str(told.get("id")), {})[str(part.get("id"))] = part
            return
        row = as_mapping(value["row"])
        match value["table"]:
            case "session":
                self._describe(row, "parent_id")
            case "message":
                self._messages[str(row.get("id"))] = as_mapping(row.get("data"))
            case _:
                parts = self._parts.setdefault(str(row.get("message_id")), {})
                parts[str(row.get("id"))] = as_mapping(row.get("data"))

    def _describe(self, told: _Row, parent: str) -> None:
        self.parent, self.version = as_str(told.get(parent)), as_str(told.get("version"))
        self._reverted = as_str(as_mapping(told.get("revert")).get("messageID"))

    def tell(self, thread: Thread) -> None:
        """Add what the session tells to its thread; what was taken back is left out, as its agent does."""
        for key, message in sorted(self._messages.items()):
            if self._reverted is not None and key >= self._reverted:
                break
            parts = [part for _, part in sorted(self._parts.get(key, {}).items())]
            if message.get("role") == "user":
                _add_prompt(thread, key, message, parts)
            elif message.get("role") == "assistant":
                self._add_answer(thread, key, message, parts)

    def _add_answer(self, thread: Thread, key: str, message: _Row, parts: list[_Row]) -> None:
        failed, steps = as_mapping(message.get("error")), list(_steps_of(parts))
        for number, step in enumerate(steps, 1):
            own = key if len(steps) == 1 else f"{key} {number}"
            call = thread.calls[own] = self._call_of(thread, own, message, step)
            if failed and number == len(steps):
                said = as_str(as_mapping(failed.get("data")).get("message")) or ""
                call.error = ErrorInfo(as_str(failed.get("name")) or "error", said)

    def _call_of(self, thread: Thread, key: str, message: _Row, parts: list[_Row]) -> Call:
        begun = _time(as_mapping(message.get("time")).get("created"))
        call = Call(key, begun, begun, as_str(message.get("modelID")), [])
        said: list[Part] = []
        tokens, cost, reason = message.get("tokens"), message.get("cost"), message.get("finish")
        for part in parts:
            match part.get("type"):
                case "text" if text := as_str(part.get("text")):
                    said.append(Text(text))
                case "reasoning" if text := as_str(part.get("text")):
                    said.append(Reasoning(text))
                case "tool":
                    run = _run_of(part, key)
                    if run.key in thread.runs:  # models of one's own machine count from 0 in each answer
                        run.key = f"{run.key} of {key}"
                    said.append(ToolCall(run.key, run.name, run.arguments))
                    thread.runs[run.key] = run
                    self._note_child(run, part)
                    call.end = max(call.end, run.start)
                case "step-finish":
                    tokens, cost, reason = part.get("tokens"), part.get("cost"), part.get("reason")
                case _:
                    pass
            call.end = max(call.end, _time(as_mapping(part.get("time")).get("end")))
        call.parts, call.usage = said, _usage_of(as_mapping(tokens), cost)
        call.finish_reason = as_str(reason)
        return call

    def _note_child(self, run: Run, part: _Row) -> None:
        child = as_str(as_mapping(as_mapping(part.get("state")).get("metadata")).get("sessionId"))
        if child is not None:
            self.began[run.key] = child
            self.asked[run.key] = as_str(as_mapping(run.arguments).get("subagent_type"))


def _steps_of(parts: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Yield the parts of each model call of a message: earlier versions have several in one."""
    step: list[_Row] = []
    for part in parts:
        if part.get("type") == "step-start" and step:
            yield step
            step = []
        step.append(part)
    yield step


def _add_prompt(thread: Thread, key: str, message: _Row, parts: list[_Row]) -> None:
    """Add what a user said; what the program says in a user's place says so."""
    texts = [(unquoted(text), part.get("synthetic") is True) for part in parts if (text := as_str(part.get("text")))]
    own = bool(texts) and all(synthetic for _, synthetic in texts)
    said: list[Part] = [Text(text) for text, _ in texts]
    if said:
        time = _time(as_mapping(message.get("time")).get("created"))
        thread.prompts[key] = Prompt(key, time, "system" if own else "user", said)


_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def unquoted(text: str) -> str:
    """Take off the quote marks that `opencode run` puts around what it was given."""
    found = _QUOTED.fullmatch(text)
    return found[1].replace('\\"', '"') if found is not None else text


def _run_of(part: _Row, call: str) -> Run:
    state = as_mapping(part.get("state"))
    times, failed = as_mapping(state.get("time")), state.get("status") == "error"
    run = Run(as_str(part.get("callID")) or "", as_str(part.get("tool")) or "", _time(times.get("start")), 0, call)
    run.arguments = state.get("input")
    if failed or state.get("status") == "completed":
        run.end = max(run.start, _time(times.get("end")))
        exit_code = as_int(as_mapping(state.get("metadata")).get("exit"))
        run.result = ToolResult(state.get("error" if failed else "output"), failed, exit_code=exit_code)
    return run


def _usage_of(tokens: Mapping[str, Any], cost: object) -> Usage | None:
    """Return what a call used; here what came from the cache, and thoughts, are counted apart.

    A call of a model whose prices are not known is told to cost 0.
    """
    if not tokens:
        return None
    cache = as_mapping(tokens.get("cache"))
    given, made, thought = (as_int(tokens.get(name)) or 0 for name in ("input", "output", "reasoning"))
    read, written = as_int(cache.get("read")) or 0, as_int(cache.get("write")) or 0
    usage = Usage(given + read + written, made + thought, None, read, written, thought)
    usage.cost_usd = cost if isinstance(cost, (int, float)) and cost > 0 else None
    return usage
