"""An account of a session from the records that its telemetry has become, to be joined with that of a transcript."""

from __future__ import annotations

from spanrelay.otlp_in.accounts import MAIN, Account, Call, Failure, Place, Run
from spanrelay.records import ErrorInfo, SpanRecord

_Records = dict[tuple[int, int], SpanRecord]


def account_of(records: list[SpanRecord], agent: str) -> Account:
    """Return what the records of a session of `agent` tell: of what was said its answers alone."""
    known = {(record.trace_id, record.span_id): record for record in records}
    account = Account(None, agent)
    for record in sorted(records, key=lambda record: (record.start, record.span_id)):
        account.session = account.session or record.session_id
        account.version = account.version or record.service_version
        if record.kind == "llm":
            call = _call_of(record)
            account.thread(_agent_above(record, known)).calls[call.key] = call
        elif record.kind == "tool" and record.tool is not None and record.tool.call_id:
            account.thread(_agent_above(record, known)).runs[record.tool.call_id] = _run_of(record)
    return account


GRACE = 1_000_000_000
"""Nanoseconds after a model call in which a transcript tells of it."""


def take_keys(account: Account, transcript: Account) -> None:
    """Give the model calls of `account` the keys under which a transcript tells of them, once each has ended."""
    for key, thread in account.threads.items():
        theirs = transcript.threads.get(key)
        left = theirs.in_order() if theirs is not None else []
        for call in thread.in_order():
            same = next((each for each in left if call.start <= each.end <= call.end + GRACE), None)
            if same is not None and call.error is None:
                call.key = same.key
                left.remove(same)
        thread.calls = {call.key: call for call in thread.calls.values()}


def give_failures(account: Account, transcript: Account) -> None:
    """Let calls of a transcript tell of the requests that failed while they were under way."""
    for key, thread in account.threads.items():
        theirs = transcript.threads.get(key)
        calls = theirs.in_order() if theirs is not None else []
        for failed in [call for call in thread.in_order() if call.error is not None and not call.parts]:
            call = next((each for each in calls if each.start <= failed.start <= each.end), None)
            if call is not None and failed.error is not None:
                call.failures.append(Failure(failed.start, failed.error))
                del thread.calls[failed.key]


def _agent_above(record: SpanRecord, known: _Records) -> str:
    """Return the id of the sub-agent that did something, or the key of the user's agent."""
    key = record.parent_key
    for _ in known:
        above = known.get(key) if key is not None else None
        if above is None or above.kind == "tool":
            break
        if above.agent is not None and above.agent.id is not None:
            return above.agent.id
        key = above.parent_key
    return MAIN


def _call_of(record: SpanRecord) -> Call:
    response = record.response
    answer = response.messages[0] if response is not None and response.messages else None
    call = Call(f"{record.span_id:016x}", record.start, _end_of(record), place=_place_of(record))
    if response is not None:
        call.model, call.usage, call.names = response.model, response.usage, {response.id} if response.id else set()
    call.model = call.model or (record.request.model if record.request is not None else None)
    call.parts = answer.parts if answer is not None else None
    call.first_chunk, call.error = record.time_to_first_chunk, record.error
    call.failures = [Failure(each.start, each.error or ErrorInfo("error")) for each in record.attempts]
    return call


def _run_of(record: SpanRecord) -> Run:
    tool = record.tool
    assert tool is not None
    run = Run(tool.call_id or "", tool.name, record.start, _end_of(record), arguments=tool.arguments)
    run.result, run.error, run.place = record.result, record.error, _place_of(record)
    return run


def _place_of(record: SpanRecord) -> Place:
    place = record.trace_id, record.span_id, record.parent_id, record.remote_parent
    return Place(*place, record.start, _end_of(record))


def _end_of(record: SpanRecord) -> int:
    return record.end or record.start
