"""An account of a session as records: an agent for each prompt, its model calls, its tools, sub-agents beneath theirs.

Ids that no span gave are made of what they stand for, so that the same account gives the same records.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from spanrelay.otlp_in.accounts import MAIN, Account, Call, Place, Prompt, Run, Thread
from spanrelay.records import (
    JSON,
    AgentInfo,
    Kind,
    Mark,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    SpanRecord,
    ToolCall,
    ToolRequest,
)
from spanrelay.semconv.names import REFUSED_TOOL_CALL
from spanrelay.semconv.spans import describe_resource

_LATEST = (1 << 63) - 1
"""The last moment that a time can be, in nanoseconds; one reckoned from nonsense is none."""


def records_of(accounts: Iterable[Account]) -> list[SpanRecord]:
    """Return the records of sessions; a trace that goes through several is the first's, and others have their own."""
    traces: dict[int, str | None] = {}
    return [record for account in accounts for record in _Telling(account, traces).records]


@dataclass(slots=True)
class _Turn:
    """What an agent did after a prompt, or before there was any."""

    prompts: list[Prompt]
    calls: list[Call] = field(default_factory=list[Call])
    runs: list[Run] = field(default_factory=list[Run])

    def place(self) -> Place | None:
        """The span of the turn itself."""
        return next((prompt.place for prompt in self.prompts if prompt.place is not None), None)

    def trace(self) -> int | None:
        """The trace that its spans are of, where it has any."""
        told = (each.place for each in (*self.prompts, *self.calls, *self.runs))
        return next((place.trace_id for place in told if place is not None), None)

    def times(self) -> list[int]:
        """When something began or ended in it."""
        times = [time for each in (*self.calls, *self.runs) for time in (each.start, each.end)]
        return times + [prompt.time for prompt in self.prompts]


class _Telling:
    def __init__(self, account: Account, traces: dict[int, str | None]) -> None:
        self._account, self._traces = account, traces
        self.records: list[SpanRecord] = []
        self._runs: dict[str, SpanRecord] = {}
        self._turns: list[SpanRecord] = []
        self._taken: set[tuple[int, int]] = set()
        self._line: list[Message] = []
        """What was said in the thread that is being told, without what was taken back."""
        self._reach: dict[str, int] = {}
        """How far that goes with each answer, by the keys of the calls."""
        self._beginnings = {thread.begun_by for thread in account.threads.values()}
        threads = [account.threads[key] for key in sorted(account.threads)]
        for thread in threads:
            if thread.key == MAIN:
                self._tell_main(thread)
        left = [thread for thread in threads if thread.key != MAIN]
        while left:  # those whose tool is known first: its run may be of another of them
            thread = next((each for each in left if each.begun_by in self._runs), left[0])
            left.remove(thread)
            self._tell_thread(thread)

    # ── threads

    def _tell_main(self, thread: Thread) -> None:
        last: str | None = None
        self._line, self._reach = [], {}
        for number, turn in enumerate(_turns(thread)):
            trace = self._own(turn.trace())
            record = self._record("agent", turn.place(), trace, f"turn {number}", turn.times(), None)
            record.agent = AgentInfo(self._account.agent, version=self._account.version)
            self._turns.append(record)
            last = self._tell_turn(thread, turn, record, last)

    def _tell_thread(self, thread: Thread) -> None:
        turns = _turns(thread)
        if not turns:
            return
        times = [time for turn in turns for time in turn.times()]
        above = self._runs.get(thread.begun_by or "") or self._turn_at(min(times))
        told = (turn.trace() for turn in turns)
        trace = above.trace_id if above is not None else self._own(next(filter(None, told), None))
        record = self._record("agent", None, trace, f"thread {thread.key}", times, above)
        record.agent = AgentInfo(thread.name or "sub-agent", thread.id, self._account.version)
        last: str | None = None
        self._line, self._reach = [], {}
        for turn in turns:
            last = self._tell_turn(thread, turn, record, last)

    def _turn_at(self, time: int) -> SpanRecord | None:
        """Return the turn that was going on at a time; the first where that was before all."""
        before = [turn for turn in self._turns if turn.start <= time]
        return before[-1] if before else next(iter(self._turns), None)

    def _tell_turn(self, thread: Thread, turn: _Turn, above: SpanRecord, last: str | None) -> str | None:
        """Tell the calls and tools of a turn, which goes on from the answer `last`; return the last answer of it."""
        asked: dict[str, list[Run]] = {}
        for run in turn.runs:
            asked.setdefault(run.call or "", []).append(run)
        for number, call in enumerate(turn.calls):
            prompts = turn.prompts if number == 0 else []
            self._tell_call(call, prompts, asked.get(call.key, []), above, last)
            last = call.key
        for run in turn.runs:
            if run.end or run.place is not None or run.key in self._beginnings:
                self._tell_run(run, above)
        return last

    # ── calls and runs

    def _tell_call(
        self, call: Call, prompts: list[Prompt], runs: list[Run], above: SpanRecord, last: str | None
    ) -> None:
        record = self._record("llm", call.place, above.trace_id, f"call {call.key}", [call.start, call.end], above)
        record.operation = "chat"
        messages = [Message(prompt.role, prompt.parts) for prompt in prompts if prompt.parts]
        kept = next((self._reach[prompt.after] for prompt in prompts if prompt.after in self._reach), None)
        if kept is not None:  # a request with all that is still said tells what was taken back
            del self._line[kept:]
        before, parameters = list(self._line) if kept is not None else [], dict[str, JSON]()
        if kept is None and last is not None:
            parameters["previous_response_id"] = last
        record.request = ModelRequest(call.model, [*before, *messages], parameters=parameters)
        record.response = ModelResponse(call.key, call.model, usage=call.usage)
        record.time_to_first_chunk, record.error = call.first_chunk, call.error
        if call.finish_reason:
            record.response.finish_reasons = [call.finish_reason]
        parts = _answer(call, runs)
        if parts or call.parts is not None:
            record.response.messages = [Message("assistant", parts, finish_reason=call.finish_reason)]
        self._line += [*messages, *record.response.messages]
        self._reach[call.key] = len(self._line)
        if call.parts is None and call.error is None:
            record.content = False
            self._ask(above, messages)
        record.marks = [_refusal(run) for run in runs if run.refused is not None]
        for number, failure in enumerate(call.failures):
            time = min(max(failure.time, call.start + 1), call.end)  # after it, whose attempt it was
            attempt = self._record("llm", None, above.trace_id, f"attempt {number} of {call.key}", [time], record)
            attempt.error, attempt.content = failure.error, False

    def _ask(self, above: SpanRecord, messages: list[Message]) -> None:
        """Let the agent's span tell what a call cannot whose own words are not told."""
        asked = [message for message in messages if message.role == "user"]
        if asked and above.request is None:
            above.request = ModelRequest(messages=asked[-1:])

    def _tell_run(self, run: Run, above: SpanRecord) -> None:
        record = self._record(
            "tool", run.place, above.trace_id, f"run {run.key}", [run.start, max(run.start, run.end)], above
        )
        record.operation = "execute_tool"
        record.tool = ToolRequest(run.name, run.arguments, run.key)
        record.result, record.error = run.result, run.error
        self._runs[run.key] = record

    def _record(
        self, kind: Kind, place: Place | None, trace: int, what: str, times: list[int], above: SpanRecord | None
    ) -> SpanRecord:
        own = (self._own(place.trace_id), place.span_id) if place is not None else None
        record = SpanRecord(*(own if own is not None and own not in self._taken else (trace, self._id(8, what))))
        self._taken.add((record.trace_id, record.span_id))
        record.kind, record.name = kind, what
        record.start, record.end = min(times, default=0), max(times, default=0)
        if place is not None:
            record.start, record.end = min(record.start, place.start), max(record.end, place.end)
        record.start, record.end = (min(max(time, 0), _LATEST) for time in (record.start, record.end))
        if above is not None:
            record.parent_id = above.span_id
            record.parent_trace_id = above.trace_id if above.trace_id != record.trace_id else None
        elif place is not None and place.remote:
            record.parent_id, record.remote_parent = place.parent_id, True
        record.session_id = self._account.session
        record.dialect = self._account.agent if place is not None else f"{self._account.agent}, without a span"
        describe_resource(self._account.resource, record)
        self.records.append(record)
        return record

    def _own(self, trace: int | None) -> int:
        """Return a trace, or, where it is another session's or there is none, one that is this session's alone."""
        if trace is None or self._traces.setdefault(trace, self._account.session) != self._account.session:
            return self._id(16, "trace")
        return trace

    def _id(self, size: int, what: str) -> int:
        digest = hashlib.sha256(f"{self._account.agent}\0{self._account.session}\0{what}".encode()).digest()
        return int.from_bytes(digest[:size], "big") or 1


def _turns(thread: Thread) -> list[_Turn]:
    """Return the turns of a thread: each begins with a prompt, and the first with whatever was first."""
    prompts = sorted(thread.prompts.values(), key=_when)
    turns = _Turns([_Turn([]), *(_Turn([prompt]) for prompt in prompts)])
    for call in thread.in_order():
        turns.at(call.start).calls.append(call)
    callers = thread.callers()
    for run in sorted(thread.runs.values(), key=_order):
        caller = callers.get(run.key)
        turn = turns.at(caller.start if caller is not None else run.start)
        turn.runs.append(replace(run, call=caller.key if caller is not None else None))
    return _without_idle([turn for turn in turns.all if turn.times()])


class _Turns:
    """Turns in order, the first of which has no prompt."""

    def __init__(self, turns: list[_Turn]) -> None:
        self.all = turns
        self._begun = [turn.prompts[0].time for turn in turns[1:]]

    def at(self, time: int) -> _Turn:
        """Return the turn that was going on at a time."""
        return self.all[bisect_right(self._begun, time)]


def _without_idle(turns: list[_Turn]) -> list[_Turn]:
    """Return the turns; what was said where no model was asked before the next prompt was said with that one."""
    found: list[_Turn] = []
    waiting: list[Prompt] = []
    for turn in turns:
        if not turn.calls and not turn.runs and turn is not turns[-1]:
            waiting += turn.prompts
            continue
        turn.prompts, waiting = waiting + turn.prompts, []
        found.append(turn)
    return found


def _answer(call: Call, runs: list[Run]) -> list[Part]:
    """Return the answer of a model call, with the tools that it must have asked for since they ran."""
    known = {tool.id for tool in call.tools}
    parts: list[Part] = list(call.parts or [])
    return parts + [ToolCall(run.key, run.name, run.arguments) for run in runs if run.key not in known]


def _refusal(run: Run) -> Mark:
    said = {"call_id": run.key, "tool_name": run.name, "reason": run.refused}
    return Mark(REFUSED_TOOL_CALL, run.start, said)


def _when(prompt: Prompt) -> tuple[int, str]:
    return prompt.time, prompt.key


def _order(run: Run) -> tuple[int, int, str]:
    return run.start, run.end, run.key
