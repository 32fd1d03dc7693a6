"""GitHub Copilot CLI: its model calls tell only what is new since the call before, and sub-agents not their tasks.

Without content, what an answer calls is to be seen in the runs of tools that follow it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from spanrelay.codecs.narrowing import as_mapping, as_str
from spanrelay.otlp_in import attempts, refusals
from spanrelay.otlp_in.accounts import Account, recorded, telling
from spanrelay.otlp_in.accounts.joining import all_joined
from spanrelay.otlp_in.records import record_of
from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span, TranscriptLine
from spanrelay.otlp_in.transcripts import copilot as transcript
from spanrelay.records import AgentInfo, Message, ModelResponse, SpanRecord, Text, ToolCall

_SCOPE = "github.copilot"
_REFUSED = frozenset(("denied",))
_TIME = re.compile(r"<current_datetime>[^<]*</current_datetime>\s*")
"""What the program puts before a question."""


def is_from(origin: Origin) -> bool:
    """Whether Copilot CLI recorded something."""
    return origin.scope == _SCOPE


def records_of(spans: list[Span], _logs: list[LogRecord], lines: Sequence[TranscriptLine] = ()) -> list[SpanRecord]:
    """Return the records of sessions, of which their telemetry tells, their transcripts, or both."""
    traces: defaultdict[int, list[SpanRecord]] = defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(record_of(span))
    for records in traces.values():
        _name_session(records)
        _repair(records)
    if not lines:
        return [record for records in traces.values() for record in records]
    written = transcript.accounts_of(lines)
    return telling.records_of(all_joined(written, _accounts_of(traces.values(), written)))


def _name_session(records: list[SpanRecord]) -> None:
    names = {record.session_id for record in records if record.session_id}
    for record in records if len(names) == 1 else ():
        record.session_id = record.session_id or next(iter(names))


def _accounts_of(traces: Iterable[list[SpanRecord]], written: list[Account]) -> list[Account]:
    """Return what telemetry tells of each session, with sub-agents under the ids that transcripts have for them."""
    begun = {thread.begun_by: key for each in written for key, thread in each.threads.items() if thread.begun_by}
    sessions: defaultdict[str | None, list[SpanRecord]] = defaultdict(list)
    for records in traces:
        by_id = {record.span_id: record for record in records}
        for record in records:
            above = by_id.get(record.parent_id or 0)
            if record.agent is not None and above is not None and above.tool is not None:
                record.agent.id = record.agent.id or begun.get(above.tool.call_id or "")
            sessions[record.session_id].append(record)
    return [recorded.account_of(records, transcript.AGENT) for records in sessions.values()]


def _repair(records: list[SpanRecord]) -> None:
    """Give the model calls of a trace what was said before them, and agents their names and tasks."""
    own = [record for record in records if record.scope_name == _SCOPE]
    by_id = {record.span_id: record for record in own}
    lines: defaultdict[int | None, list[SpanRecord]] = defaultdict(list)
    for record in sorted(own, key=lambda record: (record.start, record.span_id)):
        lines[record.parent_id].append(record)
        for message in record.request.messages if record.request is not None else ():
            _drop_time(message)
        if record.kind == "agent":
            _repair_agent(record, by_id.get(record.parent_id or 0))
    for agent, line in lines.items():
        _repair_line(line, by_id.get(agent or 0))
    refusals.note(own, refusals.of_runs(own, _REFUSED))


def _drop_time(message: Message) -> None:
    first = message.parts[0] if message.role == "user" and message.parts else None
    if isinstance(first, Text):
        first.text = first.text[found.end() :] if (found := _TIME.match(first.text)) else first.text


def _repair_agent(record: SpanRecord, above: SpanRecord | None) -> None:
    if record.agent is None and above is None:
        record.agent = AgentInfo(transcript.AGENT)
    if above is not None and above.tool is not None:
        record.input = record.input or as_str(as_mapping(above.tool.arguments).get("prompt"))


def _repair_line(line: list[SpanRecord], agent: SpanRecord | None) -> None:
    """Repair what one agent did, in order."""
    calls = [record for record in line if record.kind == "llm"]
    kept = attempts.united(calls)
    _chain(kept, agent.input if agent is not None else None)
    for number, record in enumerate(line):
        if record.kind == "llm" and not record.content:
            _read_runs(record, line[number + 1 :])
    left = {id(call) for call in calls} - {id(call) for call in kept}
    for call in calls:
        if id(call) in left:
            call.kind = "custom"


def _chain(calls: list[SpanRecord], task: object) -> None:
    """Let each request say which answer it goes on from, and the first what the agent was asked to do."""
    answered: SpanRecord | None = None
    for call in calls:
        if call.request is None or not call.content:
            continue
        if answered is not None and answered.response is not None:
            answered.response.id = answered.response.id or f"{answered.span_id:016x}"
            call.request.parameters["previous_response_id"] = answered.response.id
        elif isinstance(task, str):
            call.request.messages = [Message("user", [Text(task)]), *call.request.messages]
        answered = call if call.response is not None else answered


def _read_runs(call: SpanRecord, later: list[SpanRecord]) -> None:
    """Give an answer that was not recorded the calls of tools that were run before the next one."""
    runs: list[ToolCall] = []
    for record in later:
        if record.kind == "llm":
            break
        if record.tool is not None:
            runs.append(ToolCall(record.tool.call_id, record.tool.name))
    if runs and call.error is None:
        call.response = call.response or ModelResponse()
        call.response.messages = [Message("assistant", [*runs])]
