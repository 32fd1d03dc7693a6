"""Codex's telemetry: log records of each conversation, and spans of everything that Codex does.

A record of a model's answer has no id: it is joined to the span of the sampling within which it was written, and to
the rollout by what was counted. `call_id` joins what is told of a tool. Of what the model says, the last words alone
are told.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from spanrelay import _json
from spanrelay.otlp_in import attempts, hooks
from spanrelay.otlp_in.accounts import MAIN, Account, Call, Failure, Place, Prompt, Run, Thread
from spanrelay.otlp_in.accounts.joining import all_joined
from spanrelay.otlp_in.accounts.telling import records_of as records_of_accounts
from spanrelay.otlp_in.agents.durations import took
from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span, TranscriptLine
from spanrelay.otlp_in.transcripts import codex as transcript
from spanrelay.otlp_in.transcripts.lines import time_of
from spanrelay.records import ErrorInfo, SpanRecord, Text, Usage
from spanrelay.semconv.values import count, text

CONVERSATION = "conversation.id"
_REDACTED = "[REDACTED]"


def is_from(origin: Origin) -> bool:
    """Whether Codex recorded something."""
    service = origin.resource.get("service.name")
    named = isinstance(service, str) and service.startswith(("codex_", "codex-"))
    return named or (origin.scope or "").startswith("codex_")


def records_of(spans: list[Span], logs: list[LogRecord], lines: Sequence[TranscriptLine] = ()) -> list[SpanRecord]:
    """Return the records of a session, of which its telemetry tells, its rollouts, or its hooks."""
    lines, told = hooks.parted(lines)
    written = transcript.accounts_of(lines)
    accounts = all_joined(written, accounts_of(spans, logs))
    sessions = {account.session for account in written}
    known = hooks.with_hooks(accounts, told, transcript.AGENT, transcript.exit_code_in, sessions)
    for account in known:
        transcript.link(account)
    return records_of_accounts(known)


def accounts_of(spans: list[Span], logs: list[LogRecord]) -> list[Account]:
    """Return what telemetry tells of each session: of the user's conversation, and of those of sub-agents."""
    told: dict[str, _Conversation] = {}
    for item in (*spans, *logs):
        key = text(item.attributes.get(CONVERSATION))
        if key is not None:
            told.setdefault(key, _Conversation()).add(item)
    parents = {child: key for key, each in told.items() for child in each.children()}
    parents |= {key: each.parent for key, each in told.items() if each.parent is not None}
    accounts: dict[str | None, Account] = {}
    for key, conversation in sorted(told.items()):
        root = transcript.root_of(key, parents)
        account = accounts.setdefault(root, Account(root, transcript.AGENT))
        conversation.tell(account.thread(MAIN if key == root else key))
        account.resource = account.resource or conversation.resource
        account.version = text(account.resource.get("service.version"))
    for account in accounts.values():
        transcript.link(account)
    return list(accounts.values())


class _Conversation:
    """What is told of one conversation."""

    def __init__(self) -> None:
        self.parent: str | None = None
        self.resource: dict[str, Any] = {}
        self._samplings: list[Span] = []
        self._dispatches: list[Span] = []
        self._logs: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}

    def add(self, item: Span | LogRecord) -> None:
        """Take in a span or a log record."""
        self.resource = self.resource or item.origin.resource
        said = item.attributes
        if isinstance(item, Span):
            if item.name == "codex.sampling":
                self._samplings.append(item)
            elif said.get("codex.tool.phase") == "dispatch":
                self._dispatches.append(item)
            return
        time = item.time or time_of(said.get("event.timestamp"))
        self.parent = self.parent or text(said.get("parent.conversation.id"))
        self._logs.setdefault(str(said.get("event.name")), []).append((time, said))

    def children(self) -> set[str]:
        """Return the conversations that tools of this one began."""
        outputs = (_json.loads_or_text(str(said.get("output"))) for _, said in self._told("tool_result"))
        return {str(given["agent_id"]) for given in outputs if isinstance(given, dict) and given.get("agent_id")}

    def _told(self, event: str) -> list[tuple[int, Mapping[str, Any]]]:
        return self._logs.get(f"codex.{event}", [])

    def tell(self, thread: Thread) -> None:
        """Add what is told to a thread."""
        for time, said in self._told("user_prompt"):
            words = text(said.get("prompt"))
            parts = [Text(words)] if words is not None and words != _REDACTED else []
            thread.prompts[f"{time}"] = Prompt(f"{time}", time, "user", list(parts))
        self._tell_calls(thread)
        self._tell_words(thread)
        for span in self._dispatches:
            key, name = text(span.attributes.get("call_id")), text(span.attributes.get("tool_name"))
            if key is not None and name is not None:
                thread.runs[key] = Run(key, name, span.start, span.end, place=_place(span))
        for time, said in (*self._told("tool_decision"), *self._told("tool_result")):
            _tell_run(thread, time, said)
        attempts.unite(thread)  # with its debug spans, each request of a call has one

    # ── model calls

    def _tell_calls(self, thread: Thread) -> None:
        """Tell the model calls: each begins with a request, perhaps sent again, and ends with what was counted."""
        self._samplings.sort(key=lambda span: (span.start, span.span_id))
        for span in self._samplings:
            key = f"{span.span_id:016x}"
            thread.calls[key] = Call(key, span.start, span.end, place=_place(span))
        requests = [(time, 0, said) for time, said in self._told("api_request")]
        counted = [(time, 1, said) for time, said in self._told("sse_event") if "input_token_count" in said]
        call: Call | None = None
        for time, ended, said in sorted(requests + counted, key=lambda event: event[:2]):
            sampled = self._sampled(thread, time)
            if sampled is not None:
                call = sampled
            elif call is None or self._is_other(call, time, ended, said):
                call = Call(f"{time}", time - took(said), time)
                thread.calls[call.key] = call
            call.model = call.model or text(said.get("model"))
            call.end = max(call.end, time)
            if ended:
                call.usage = _usage_of(said)
            elif (status := count(said.get("http.response.status_code"))) is not None and status >= 400:
                call.failures.append(Failure(time, _error_of(status, said)))
        for call in thread.calls.values():
            if call.failures and call.usage is None and call.parts is None:
                call.error = call.failures.pop().error

    def _is_other(self, call: Call, time: int, ended: int, said: Mapping[str, Any]) -> bool:
        """Whether what is told is of another call than the last: that has ended, or this is none that is sent again."""
        if call.place is not None or call.usage is not None:
            return True
        if ended:
            return False
        again = bool(count(said.get("attempt")) or call.failures)
        return not again or any(call.end < prompted <= time for prompted, _ in self._told("user_prompt"))

    def _sampled(self, thread: Thread, time: int) -> Call | None:
        """Return the call within whose span a time is."""
        before = bisect_right(self._samplings, time, key=lambda span: span.start)
        found = self._samplings[before - 1] if before else None
        return thread.calls[f"{found.span_id:016x}"] if found is not None and time <= found.end else None

    def _tell_words(self, thread: Thread) -> None:
        calls = thread.in_order()
        for time, said in self._told("agent_response"):
            before = bisect_right(calls, time, key=lambda call: call.start)
            words = text(said.get("response"))
            if before and words is not None:
                call = calls[before - 1]
                call.parts = [Text(words)]
                call.names.add(text(said.get("item.id")) or call.key)


def _tell_run(thread: Thread, time: int, said: Mapping[str, Any]) -> None:
    key, name = text(said.get("call_id")), text(said.get("tool_name"))
    if key is None or name is None:
        return
    run = thread.runs.setdefault(key, Run(key, name, time - took(said), time))
    if run.place is None:
        run.start, run.end = min(run.start, time - took(said)), max(run.end, time)
    if "output" in said:
        run.result = transcript.result_of(said["output"])
    if isinstance(said.get("arguments"), str):
        run.arguments = _json.loads_or_text(said["arguments"])
    if said.get("decision") in _REFUSALS:
        run.refused = text(said.get("source")) or "refused"


_REFUSALS = ("denied", "abort", "timed_out")


def _place(span: Span) -> Place:
    return Place(span.trace_id, span.span_id, span.parent_id, False, span.start, span.end)


def _usage_of(said: Mapping[str, Any]) -> Usage:
    told = {name: count(said.get(f"{counted}_token_count")) for name, counted in _COUNTS.items()}
    return Usage(**told)


_COUNTS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cached",
    "cache_write_tokens": "cache_write",
    "reasoning_tokens": "reasoning",
}
"""What was used, and what Codex calls the count of it."""


def _error_of(status: int, said: Mapping[str, Any]) -> ErrorInfo:
    words = text(said.get("error.message")) or ""
    # Nothing but the status in other words, unless the provider has said more; a hook tells what it said.
    return ErrorInfo(f"HTTP {status}", "" if words == f"http {status}" else words, status_code=status)
