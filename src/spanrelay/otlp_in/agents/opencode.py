"""opencode: the spans of Vercel's AI SDK among very many of its own, all of a prompt in one trace.

The run of a tool has two spans: one of the SDK, which tells what it was given and gave, and its own, beneath which a
sub-agent works. A sub-agent is a session of its own. The last spans of a process are often lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from spanrelay.codecs.narrowing import as_int, as_mapping, as_str
from spanrelay.otlp_in import attempts, hooks
from spanrelay.otlp_in.accounts import MAIN, Account, recorded, telling
from spanrelay.otlp_in.accounts.joining import all_joined
from spanrelay.otlp_in.records import record_of
from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span, TranscriptLine
from spanrelay.otlp_in.transcripts import opencode as transcript
from spanrelay.records import JSON, AgentInfo, SpanRecord, Text, ToolRequest

_RUN, _TITLE = "Tool.execute", "SessionPrompt.ensureTitle"
_PARENT = "ai.request.headers.x-parent-session-id"

_Records = dict[tuple[int, int], SpanRecord]


def is_from(origin: Origin) -> bool:
    """Whether opencode recorded something."""
    return "opencode" in (origin.scope, origin.resource.get("service.name"))


def records_of(spans: list[Span], _logs: list[LogRecord], lines: Sequence[TranscriptLine] = ()) -> list[SpanRecord]:
    """Return the records of sessions, of which their telemetry tells, their transcripts, or their hooks."""
    lines, asked = hooks.parted(lines)
    records = _records_of(spans)
    if not lines and not asked:
        return records
    written = {account.session: account for account in transcript.accounts_of(lines)}
    told = _accounts_of(records, {key: root for root, each in written.items() for key in each.threads if key})
    for account in told:
        if account.session in written:
            recorded.give_failures(account, written[account.session])
    accounts = all_joined(written.values(), told)
    return telling.records_of(hooks.with_hooks(accounts, asked, transcript.AGENT, _no_exit_code, written.keys()))


def _no_exit_code(_result: JSON) -> None:
    """Hooks tell of no results."""


def _accounts_of(records: list[SpanRecord], roots: Mapping[str, str | None]) -> list[Account]:
    """Return what telemetry tells of each session; those of sub-agents, of which `roots` are above, are threads."""
    sessions: dict[str | None, list[SpanRecord]] = {}
    for record in records:
        sessions.setdefault(record.session_id, []).append(record)
    accounts: dict[str | None, Account] = {}
    for session, own in sessions.items():
        root = roots.get(session or "", session)
        account = accounts.setdefault(root, Account(root, transcript.AGENT))
        for key, thread in recorded.account_of(own, transcript.AGENT).threads.items():
            thread.key = session if key == MAIN and session is not None and session != root else key
            account.threads.setdefault(thread.key, thread)
    return list(accounts.values())


def _records_of(spans: list[Span]) -> list[SpanRecord]:
    """Return the records of a session, and of the sessions of its sub-agents."""
    records = {(span.trace_id, span.span_id): _record_of(span) for span in spans}
    _unite_runs(records, spans)
    for span in spans:
        record = records[span.trace_id, span.span_id]
        if record.kind in ("llm", "agent"):
            _place(record, as_str(span.attributes.get(_PARENT)), list(_above(record, records)))
    calls = [record for record in records.values() if record.kind == "llm"]
    others = [record for record in records.values() if record.kind != "llm"]
    return [*others, *(call for line in _lines(calls) for call in attempts.united(line))]


def _record_of(span: Span) -> SpanRecord:
    record = record_of(span)
    record.kind = record.kind or "custom"
    if span.name == _RUN:
        record.kind, told = "tool", span.attributes
        record.tool = ToolRequest(as_str(told.get("tool.name")) or span.name, None, as_str(told.get("tool.call_id")))
        record.content = False
        record.session_id = record.session_id or as_str(told.get("session.id"))  # the SDK's span of it may be lost
    if record.result is not None:
        result = as_mapping(record.result.content)
        if "output" in result:  # beside what is shown to people
            record.result.content = result["output"]
            record.result.exit_code = as_int(as_mapping(result.get("metadata")).get("exit"))
    return record


def _unite_runs(records: _Records, spans: list[Span]) -> None:
    """Let opencode's span of a tool's run tell what the SDK's does, which then is no other run."""
    own: dict[str, SpanRecord] = {}
    told: list[SpanRecord] = []
    for record, span in zip(records.values(), spans, strict=True):
        if record.tool is not None and record.tool.call_id:
            if span.name == _RUN:
                own[record.tool.call_id] = record
            else:
                told.append(record)
    for record in told:
        run = own.get(record.tool.call_id or "") if record.tool is not None else None
        if run is not None:
            run.tool, run.result, run.content = record.tool, record.result, record.content
            run.error, run.session_id = run.error or record.error, record.session_id or run.session_id
            if run.parent_key not in records:
                run.parent_id = record.parent_id
            record.kind = "custom"


def _above(record: SpanRecord, records: _Records) -> Iterator[SpanRecord]:
    """Yield what stands above a record, nearest first."""
    key = record.parent_key
    for _ in range(len(records)):
        above = records.get(key) if key is not None else None
        if above is None:
            return
        yield above
        key = above.parent_key


def _place(record: SpanRecord, parent: str | None, above: list[SpanRecord]) -> None:
    """Say whose a model call is, or the SDK's span around it: the session's, a sub-agent's, or nobody's."""
    if any(each.name == _TITLE for each in above):
        record.kind = "custom"  # what gives a session its title is no step of it
        return
    run = next((each for each in above if each.kind == "tool"), None)
    if parent is None:
        _unquote(record)
    elif record.kind == "agent" and run is not None and run.tool is not None:
        name = as_str(as_mapping(run.tool.arguments).get("subagent_type"))
        record.agent, record.session_id = AgentInfo(name, record.session_id), parent
    if record.kind == "agent" and (parent is None or run is None):
        record.kind, record.agent = "custom", None  # it is one of many around the calls of one session


def _unquote(record: SpanRecord) -> None:
    """Show the question as it was given to the command."""
    asked = next((m for m in record.request.messages if m.role == "user"), None) if record.request is not None else None
    for part in asked.parts if asked is not None else ():
        if isinstance(part, Text):
            part.text = transcript.unquoted(part.text)


def _lines(calls: list[SpanRecord]) -> Iterable[list[SpanRecord]]:
    """Return the model calls of each session, in order."""
    lines: dict[str | None, list[SpanRecord]] = {}
    for call in sorted(calls, key=lambda call: (call.start, call.span_id)):
        lines.setdefault(call.session_id, []).append(call)
    return lines.values()
