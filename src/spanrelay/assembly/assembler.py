"""Spans, as they start and end, to documents: which session, which agent, which call, in which order.

Fed by one thread in real order. Every table has a bound, and everything dropped is counted in `losses`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from spanrelay._guard import losses
from spanrelay.assembly import atif, steps, tree
from spanrelay.assembly.agents import Questions, run_of
from spanrelay.assembly.answer import add_call
from spanrelay.assembly.document import MAX_STEPS, Journal
from spanrelay.assembly.duplicates import Sighting, contains, merged, relate
from spanrelay.assembly.heads import service_of
from spanrelay.assembly.omitted import Omitted
from spanrelay.assembly.order import Order
from spanrelay.assembly.placing import Placing
from spanrelay.assembly.sessions import Sessions
from spanrelay.assembly.steps import MediaStore
from spanrelay.assembly.told import Told, ToldCalls
from spanrelay.assembly.tools import Tools
from spanrelay.assembly.tree import Key, Node, Session
from spanrelay.records import JSON, SpanRecord, ToolRequest
from spanrelay.semconv.histories import histories

MAX_NODES = 32_768
"""Spans that are remembered, open ones included; the oldest ended one is forgotten first."""


class Assembler:
    """Builds documents out of spans.

    `journal_for(name)` opens the storage of a new document; `closed(journal)` hears of a session that can no
    longer grow; `version` is what documents say they are; `name` is the pattern of their storages' names. Not
    thread-safe: one thread calls everything.
    """

    def __init__(
        self,
        journal_for: Callable[[str], Journal],
        media: MediaStore | None = None,
        closed: Callable[[Journal], None] | None = None,
        version: str = atif.DEFAULT_VERSION,
        name: str = "{session}",
    ) -> None:
        self._closed = closed
        self._omitted = Omitted()
        self._nodes: OrderedDict[Key, Node] = OrderedDict()
        self._sessions = Sessions(self._close_session, self._forget_session)
        self._order = Order(self._write_call)
        self._told = ToldCalls()
        self._placing = Placing(journal_for, media, version, name, self._nodes, self._sessions, self._told)
        self._tools = Tools(self._nodes, self._order, self._placing)
        self._questions = Questions()

    # ── input

    def expect(self, record: SpanRecord) -> None:
        """Hear of a complete span that will be taken in later, so that others may leave out what it carries."""
        self._omitted.note(record)

    def start(self, record: SpanRecord) -> None:
        """Take in the start of a span: ids, parent, kind, name, time, agent, session."""
        key = (record.trace_id, record.span_id)
        if key in self._nodes:
            return
        above = record.parent_key
        parent = self._nodes.get(above) if above is not None else None
        session = self._sessions.of(record, parent)
        node = self._nodes[key] = Node(record, record.kind, parent, session)
        node.orphaned = parent is None and record.parent_id is not None and not record.remote_parent
        if parent is not None:
            parent.bears = True
        self._sessions.begin(session, key)
        self._order.begin(key, node)
        if len(self._nodes) > MAX_NODES:
            self._forget()

    def end(self, record: SpanRecord) -> None:
        """Take in a complete span; its start need not have been told."""
        if record.omitted is not None:
            self._omitted.restore(record)
        key = (record.trace_id, record.span_id)
        node = self._nodes.get(key)
        if node is None:
            self.start(record)
            node = self._nodes[key]
        if not node.open:
            return
        node.open, node.record = False, record
        node.kind = record.kind or node.kind
        self._order.drop(key)
        self._sessions.learn(node)
        if node.kind == "llm":
            self._order.held.append(node)
        else:
            self._sessions.finish(node)
            if node.kind == "tool":
                self._tools.end(node)
            node.record = _without_content(record)
        self._order.release()
        self._name(node, record)
        if node.kind == "agent":
            self._questions.note(node, record)
        self._questions.write(self._order.held, self._placing.is_gone)
        if record.incomplete is not None:
            self._give_up(node)
        if node.parent is None:
            self._describe(node, record)

    def _name(self, node: Node, record: SpanRecord) -> None:
        """Write the name of an agent whose span, or that of the tool around it, says it only as it ends."""
        name = record.agent.name if record.agent is not None else None
        run = node.run or node.within
        if node.kind == "tool":  # which may also say whose call it is
            document = node.document if node.parent is None or tree.caller(node.parent) != name else None
        else:
            document = run.document if run is not None else None
        if name and document is not None and document.name in (record.name, service_of(record) or "agent"):
            document.rename(str(name))

    def _describe(self, node: Node, record: SpanRecord) -> None:
        """Write whom and what a run was for where its outermost span says so only as it ends."""
        if record.user_id or record.metadata:
            for document in node.session.documents:
                if document.line.trace_id == record.trace_id:
                    document.describe(record)

    def _give_up(self, node: Node) -> None:
        """A run that was left is in nobody's way: what comes next need not wait for its calls to have ended."""
        for document in node.session.documents:
            if document.line.trace_id == node.record.trace_id:
                document.line.last_end = min(document.line.last_end, node.start)

    def close(self) -> None:
        """Write what still waits, and mark what has not ended; nothing comes after."""
        self._order.release(everything=True)
        self._questions.write(self._order.held, self._placing.is_gone)
        self._tools.settle_all()
        for node in [n for n in self._nodes.values() if n.open and n.kind in ("tool", "llm")]:
            self._tools.leave_open(node)

    def pass_time(self, now: int) -> None:
        """Let calls go that have waited for `GRACE` at the time `now`, in nanoseconds since the epoch."""
        self._order.pass_time(now)

    @property
    def waiting(self) -> bool:
        """Whether ended model calls wait."""
        return bool(self._order.held)

    def settle(self, journal: Journal) -> None:
        """Write the tool runs of a complete session that still wait for others like them."""
        self._tools.settle_all(journal)

    # ── what there is

    def complete(self, journal: Journal) -> bool:
        """Whether all spans of the session that `journal` stores have ended."""
        return self._sessions.complete(journal)

    def sessions(self) -> list[str]:
        """Return the sessions that have documents, the latest last; where none is known the trace's id."""
        return self._sessions.names()

    def journals(self, name: str | None, span: Key | None) -> list[Journal]:
        """Return where the documents of a session are, given its name or one of its spans; of all given neither."""
        if name is None and span is None:
            found = self._sessions.known()
        else:
            found = self._sessions.known_around(span, self._nodes.get(span)) if span is not None else []
            found = found or (self._sessions.known_by(name) if name is not None else [])
        return list({id(each.journal): each.journal for each in found}.values())

    # ── what is let go of

    def _close_session(self, session: Session) -> None:
        """Write what waits of a session, let nobody go on in it, and hold nothing of what its models were sent."""
        for document in session.documents:
            self.settle(document.journal)
            if self._closed is not None:
                self._closed(document.journal)
        histories.forget(session.id, *{trace for trace, _ in session.spans})
        self._placing.part_from(session)

    def _forget_session(self, session: Session) -> None:
        """Let go of a closed session's spans and documents, and remember only where those are."""
        for node in [held for held in self._order.held if tree.resolve(held.session) is session]:
            self._order.held.remove(node)
            self._write_call(node)
        session.left = tuple(session.known)
        for key, answer in session.spans.items():
            node = self._nodes.pop(key, None)
            if node is not None and node.open:
                self._lose(key, node)
            if answer is not None and node is not None:
                self._told.forget(answer, node)
        session.documents, session.spans = [], {}

    def _lose(self, key: Key, node: Node) -> None:
        """Give up a span that has not ended."""
        node.open = False
        self._sessions.lose(node)
        self._order.drop(key)
        losses.add("open spans forgotten")

    def _forget(self) -> None:
        """Forget the oldest ended span, or the oldest of all."""
        for _ in range(64):
            key, node = next(iter(self._nodes.items()))
            if not node.open:
                break
            self._nodes.move_to_end(key)
        key, node = self._nodes.popitem(last=False)
        tree.resolve(node.session).spans.pop(key, None)
        if node.open:
            self._lose(key, node)

    # ── model calls

    def _write_call(self, node: Node) -> None:
        self._sessions.finish(node)
        record, origin, sighting = self._unite(node)
        known = self._told.before(node, sighting)
        if known is not None:
            self._add_duplicate(known, record)
        else:
            self._add_call(node, record, sighting, origin)
        node.record = _without_content(record)

    def _add_call(self, node: Node, record: SpanRecord, sighting: Sighting, origin: dict[str, JSON]) -> None:
        node.record = record
        document, place = self._placing.place(node)
        if document.count >= MAX_STEPS or document.journal.full:
            losses.add("model calls beyond the size of a trajectory")
            return
        if document.waiting:
            self._tools.settle_before_call(document)
        run = run_of(node, document)
        if run is not None and not run.asked:
            run.asked, run.resumed = True, run.resumed or _is_answered(record)
        step = add_call(document, record, place, origin, tree.caller(node))
        if document.opening is not None and document.opening.record is record:
            document.opening.record = _without_content(record)
        if node.orphaned:
            document.note("missing_parent")
        answered = record.answered_by is not None
        metrics = answered or (record.response is not None and record.response.usage is not None)
        sighting.settle(document.line.told)
        self._told.remember(Told(document, step, node, sighting, metrics))
        if document.waiting:
            self._tools.settle(document, final=not self._order.busy(node))

    def _unite(self, node: Node) -> tuple[SpanRecord, dict[str, JSON], Sighting]:
        """Return the call's record with what other spans of the same call know, which they are, and what tells it."""
        record, duplicates = node.record, list[str]()
        sighting = Sighting(record)
        if not (self._order.held or record.attempts):
            return record, {}, sighting
        attempts = [_attempt(each, record.trace_id) for each in record.attempts]
        for other in [held for held in self._order.held if contains(node.record, held.record)]:
            nested = tree.beneath(other, node)
            if not nested and not (other.loose or tree.siblings(other, node)):
                continue
            relation = relate(sighting, Sighting(other.record), nested=nested)
            if relation == "other":
                continue
            self._order.held.remove(other)
            self._sessions.finish(other)
            if relation == "same":
                record = merged(record, other.record)
                duplicates.append(f"{other.record.span_id:016x}")
            else:
                attempts.append(_attempt(other.record, record.trace_id))
            other.record = _without_content(other.record)
        origin: dict[str, JSON] = {}
        if duplicates:
            origin["duplicates"] = duplicates
        if attempts:
            origin["attempts"] = attempts
        return record, origin, sighting if record is node.record else Sighting(record)

    def _add_duplicate(self, known: Told, record: SpanRecord) -> None:
        change: dict[str, Any] = {"extra": {"otel": {"duplicates": [f"{record.span_id:016x}"]}}}
        metrics = steps.metrics_of(record)
        if metrics is not None and not known.metrics:
            change["metrics"] = metrics.to_json()
            known.metrics = True
        known.document.patch(known.step, change)
        known.document.note("duplicate_call")


def _is_answered(record: SpanRecord) -> bool:
    """Whether the last word of a request is not a user's: what a run begins with that goes on."""
    messages = record.request.messages if record.request is not None else []
    return bool(messages) and messages[-1].role != "user"


def _without_content(record: SpanRecord) -> SpanRecord:
    """Return what the tree still needs of a span that has been written."""
    return SpanRecord(
        record.trace_id,
        record.span_id,
        record.parent_id,
        record.remote_parent,
        record.name,
        record.kind,
        record.start,
        record.end,
        session_id=record.session_id,
        agent=record.agent,
        tool=ToolRequest(record.tool.name) if record.tool is not None else None,
        scope_name=record.scope_name,
        service_name=record.service_name,
        service_version=record.service_version,
        environment=record.environment,
    )


def _attempt(record: SpanRecord, trace_id: int) -> JSON:
    found: dict[str, JSON] = {**steps.reference_of(record, trace_id), "start": steps.timestamp(record.start)}
    if record.error is not None:
        found["error"] = steps.error_of(record.error)
    return found
