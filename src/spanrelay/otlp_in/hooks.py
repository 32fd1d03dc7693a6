"""Hooks of coding agents, as `spanrelay run` keeps them: what each told, when, and what was answered.

They say which tools ran with what, and what came of it; of model calls only some agents tell by them. What else is
known of a session has the word, and hooks fill its gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from spanrelay import _json
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.otlp_in.accounts import MAIN, Account, Call, Failure, Prompt, Run, Thread
from spanrelay.otlp_in.accounts.joining import all_joined
from spanrelay.otlp_in.telemetry import TranscriptLine
from spanrelay.otlp_in.transcripts.lines import in_order
from spanrelay.records import JSON, ErrorInfo, Text, ToolCall, ToolResult, Usage

KEY = "_spanrelay_hook"
"""The one key of a line that holds a hook; those of agents whose hooks tell nothing more are passed over."""

MARKS = (b'"_spanrelay_hook"',)

_AGENTS = {"claude": "claude_code", "codex": "codex", "opencode": "opencode"}
"""What agents are called where hooks are kept, and in `agents`."""

_NOTICE = "<task-notification>"
"""How a prompt begins that no user wrote."""


def line_of(value: JSON, place: str) -> TranscriptLine | None:
    """Return the line that a JSON value is, or None; `place` is its file, and its line there."""
    if not isinstance(value, dict) or value.keys() != {KEY}:
        return None
    kept = as_mapping(value.get(KEY))
    agent, session = _AGENTS.get(str(kept.get("agent"))), as_str(as_mapping(kept.get("hook")).get("session_id"))
    if agent is None:
        return None
    return TranscriptLine(
        agent, f"hooks of {session}", (session,) if session else (), as_int(kept.get("time")) or 0, value
    )


def parted(lines: Iterable[TranscriptLine]) -> tuple[list[TranscriptLine], list[TranscriptLine]]:
    """Return the lines of transcripts, and those of hooks."""
    transcripts: list[TranscriptLine] = []
    hooks: list[TranscriptLine] = []
    for line in lines:
        (hooks if KEY in line.line else transcripts).append(line)
    return transcripts, hooks


def with_hooks(
    accounts: list[Account],
    lines: list[TranscriptLine],
    agent: str,
    exit_code_in: Callable[[JSON], int | None],
    transcribed: Collection[str | None],
) -> list[Account]:
    """Return accounts with what hooks add: all of it where nothing else tells of their session.

    Args:
        accounts: What is known without them.
        lines: The hooks, of any sessions.
        agent: How their program is called in documents.
        exit_code_in: Returns the exit code that a result tells.
        transcribed: The sessions of which there is a transcript, which knows best what a model was shown.
    """
    readings: dict[str, _Reading] = {}
    for line in in_order(lines, lambda line: (line.time,)):
        for session in line.sessions:
            readings.setdefault(session, _Reading(session, agent, exit_code_in)).add(line)
    joined = all_joined(accounts, [reading.account for reading in readings.values()])
    for account in joined:
        reading = readings.get(account.session or "")
        if reading is not None:
            reading.complete(account, whole=account.session in transcribed)
    return joined


class _Reading:
    """Takes in the hooks of a session, in order."""

    def __init__(self, session: str, agent: str, exit_code_in: Callable[[JSON], int | None]) -> None:
        self._exit_code_in = exit_code_in
        self.account = Account(session, agent)
        self._last: dict[str, int] = {}
        """When something came last by which the next model call may have been made, by thread."""
        self._said: list[tuple[str, int, str]] = []
        """What agents said last in a turn: by which thread, when, and the words."""
        self._batches: dict[str, list[list[Run]]] = {}
        """Runs of tools that one answer asked for, by thread."""
        self._shown: dict[str, ToolResult] = {}
        """Results as the model was shown them."""

    def add(self, line: TranscriptLine) -> None:
        kept = as_mapping(line.line[KEY])
        hook = as_mapping(kept.get("hook"))
        key = as_str(hook.get("agent_id")) or MAIN
        thread = self.account.thread(key)
        thread.name = thread.name or as_str(hook.get("agent_type"))
        match hook.get("hook_event_name"):
            case "UserPromptSubmit":
                self._add_prompt(thread, line.time, hook)
            case "PreToolUse":
                self._add_run(thread, line.time, hook, as_str(kept.get("answer")))
            case "PostToolUse" | "PostToolUseFailure":
                self._add_result(thread, line.time, hook)
            case "PostToolBatch":
                for call in map(as_mapping, as_list(hook.get("tool_calls"))):
                    self._add_result(thread, line.time, call)
                    self._add_shown(thread, call)
                self._batches.setdefault(key, []).append([])
            case "PostModelRequest":
                self._add_call(thread, line.time, hook)
            case "Stop" | "SubagentStop":
                self._add_end(thread, line.time, hook)
            case _:
                pass

    def _add_prompt(self, thread: Thread, time: int, hook: Mapping[str, Any]) -> None:
        words = as_str(hook.get("prompt")) or ""
        key = as_str(hook.get("prompt_id")) or as_str(hook.get("turn_id")) or f"{time}"
        role = "system" if words.startswith(_NOTICE) else "user"
        thread.prompts.setdefault(key, Prompt(key, time, role, [Text(words)] if words else []))
        self._last[thread.key] = time

    def _add_run(self, thread: Thread, time: int, hook: Mapping[str, Any], answer: str | None) -> None:
        key = as_str(hook.get("tool_use_id")) or f"{time}"
        run = Run(key, as_str(hook.get("tool_name")) or "", time, 0, arguments=hook.get("tool_input"))
        decided = as_mapping(as_mapping(_json.loads_or_text(answer or "")).get("hookSpecificOutput"))
        if decided.get("permissionDecision") == "deny":
            run.refused = as_str(decided.get("permissionDecisionReason")) or "policy"
            run.result = ToolResult(run.refused, is_error=True)
        thread.runs.setdefault(key, run)
        batches = self._batches.setdefault(thread.key, [])
        if not batches:
            batches.append([])
        batches[-1].append(run)

    def _add_result(self, thread: Thread, time: int, told: Mapping[str, Any]) -> None:
        run = thread.runs.get(as_str(told.get("tool_use_id")) or "")
        if run is None:
            return
        failure = as_str(told.get("error"))
        content: JSON = failure if failure is not None else _plain(told.get("tool_response"))
        failed = failure is not None or (run.result is not None and run.result.is_error)
        run.end = time
        run.result = ToolResult(content, is_error=failed, exit_code=self._exit_code_in(content))
        self._last[thread.key] = time

    def _add_shown(self, thread: Thread, told: Mapping[str, Any]) -> None:
        run = thread.runs.get(as_str(told.get("tool_use_id")) or "")
        if run is not None and run.result is not None:
            self._shown[run.key] = run.result

    def _add_call(self, thread: Thread, time: int, hook: Mapping[str, Any]) -> None:
        """Add a model call, or what came of a request of it that failed: those that are sent again have one id."""
        request = as_str(hook.get("request_id")) or ""
        key = as_str(hook.get("response_id")) or request
        if not key:
            return
        before = thread.calls.pop(request, None)
        call = Call(key, min(self._last.get(thread.key, time), time), time, as_str(hook.get("model")))
        said = as_mapping(hook.get("token_usage"))
        names = ("input_tokens", "output_tokens", "total_tokens", "cached_input_tokens", "cache_write_input_tokens")
        counts = [as_int(said.get(name)) for name in (*names, "reasoning_output_tokens")]
        call.usage = Usage(*counts) if said else None
        if before is not None:
            call.start, call.failures = before.start, [*before.failures]
            if before.error is not None:
                call.failures.append(Failure(before.end, before.error))
        if hook.get("status") == "failed":
            call.error = ErrorInfo("error", as_str(hook.get("error")) or "")
        thread.calls[key] = call
        self._last[thread.key] = time

    def _add_end(self, thread: Thread, time: int, hook: Mapping[str, Any]) -> None:
        words = as_str(hook.get("last_assistant_message"))
        if words:
            self._said.append((thread.key, time, words))
        if thread.key != MAIN:
            self._link(thread, time)

    def _link(self, thread: Thread, time: int) -> None:
        """Find the one tool that was running in another thread when a sub-agent ended, and that began one."""
        taken = {each.begun_by for each in self.account.threads.values()}
        above = (each for each in self.account.threads.values() if each is not thread)
        running = [run for each in above for run in each.runs.values() if run.start <= time and not run.end]
        found = [run for run in running if run.key not in taken and "prompt" in as_mapping(run.arguments)]
        if thread.begun_by is None and len(found) == 1:
            thread.begun_by = found[0].key

    # ── what is told only where nothing else tells it

    def complete(self, account: Account, *, whole: bool) -> None:
        """Add what can be added only once all is known of the session; `whole` where its transcript is there."""
        runs = {run.key: run for run in account.runs()}
        for key, shown in self._shown.items() if not whole else ():
            known = runs[key].result
            failed = shown.is_error or (known is not None and known.is_error) or runs[key].error is not None
            runs[key].result = replace(shown, is_error=failed)
        for thread in account.threads.values():
            begun = runs.get(thread.begun_by or "")
            asked = as_str(as_mapping(begun.arguments).get("prompt")) if begun is not None else None
            if begun is not None and asked is not None and not thread.prompts:
                thread.prompts[begun.key] = Prompt(begun.key, begun.start, "user", [Text(asked)])
        for key, thread in account.threads.items():
            if not thread.calls:
                self._make_calls(thread, self._batches.get(key, []))
        for key, time, words in self._said:
            thread = account.thread(key)
            before = [call for call in thread.in_order() if call.start <= time]
            last = before[-1] if before else None
            if last is None or any(run.start >= last.end for run in thread.runs.values() if run.call == last.key):
                if last is None or last.usage is None:
                    made = f"said {time}"
                    thread.calls[made] = Call(made, time, time, parts=[Text(words)])
            elif last.parts is None:
                last.parts = [Text(words)]

    def _make_calls(self, thread: Thread, batches: list[list[Run]]) -> None:
        """Let each batch of tools have been asked for by a model call of which nothing else is known."""
        for runs in filter(None, batches):
            time = min(run.start for run in runs)
            made = f"asked {time}"
            thread.calls[made] = Call(
                made, time, time, parts=[ToolCall(run.key, run.name, run.arguments) for run in runs]
            )
            for run in runs:
                thread.runs[run.key].call = made


def _plain(content: JSON) -> JSON:
    """Return a result as text where it is told as pieces of text."""
    pieces = [as_str(as_mapping(part).get("text")) for part in as_list(content)]
    return "".join(filter(None, pieces)) if pieces and all(piece is not None for piece in pieces) else content
