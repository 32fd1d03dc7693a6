"""Spans, as they start and end, to documents: which session, which agent, which call, in which order.

Fed by one thread in real order. Every table has a bound, and everything dropped is counted in `losses`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from spanrelay._guard import losses
from spanrelay.assembly import atif, steps, tree
from spanrelay.assembly.conversations import Conversations, Question, RecordedHistory, question_of
from spanrelay.assembly.document import MAX_STEPS, Call, Document, Fan, Journal, Place, Run
from spanrelay.assembly.duplicates import Sighting, contains, merged, relate, sighting_of
from spanrelay.assembly.steps import MediaStore
from spanrelay.assembly.tree import AgentRun, Key, Left, Node, Session
from spanrelay.records import JSON, AgentInfo, SpanRecord, ToolRequest
from spanrelay.semconv.histories import histories

_NAMESPACE = UUID("6f1d7c52-5b0e-4c0b-9c0a-0c5b8a0f6a77")

MAX_NODES = 32_768
"""Spans that are remembered, open ones included; the oldest ended one is forgotten first."""

MAX_SESSIONS = 512
"""Sessions that can still grow; the one that was quiet for longest is closed first."""

MAX_CLOSED = 128
"""Closed sessions that stay whole, so that late spans find their place in them; those that ended first go first."""

MAX_UNENDED = 2048
"""Closed sessions that stay whole beside those since spans of theirs have not ended."""

MAX_PAST = 4096
"""Sessions that can grow no more and can still be asked for."""

MAX_TRACES = 4096
"""Traces whose session is remembered, to find it for a span without a known parent."""

MAX_HELD = 256
"""Ended model calls that wait for earlier ones to end."""

MAX_RECENT = 4096
"""Answers whose ids are remembered, to recognise a second span of the same call."""

MAX_LATELY = 32
"""Model calls that are compared with one that encloses them and ends later."""

MAX_HELPERS = 32
"""Side conversations of one document that may still go on."""

MAX_LOOSE = 16
"""Documents of programs without any root span in which a call may wait for a tool that names none."""

GRACE = 5_000_000_000
"""Nanoseconds that a call without parent waits, at most, for a framework's span of the same call to end."""


@dataclass(slots=True)
class _Told:
    """A model call that stands in a document already."""

    document: Document
    step: int
    node: Node
    sighting: Sighting
    metrics: bool


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
        self._journal_for = journal_for
        self._media = media
        self._closed = closed
        self._version, self._name = version, name
        self._nodes: OrderedDict[Key, Node] = OrderedDict()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._retired: OrderedDict[int, Session] = OrderedDict()
        self._unended: OrderedDict[int, Session] = OrderedDict()
        self._past: deque[Session] = deque(maxlen=MAX_PAST)
        self._by_trace: OrderedDict[int, Session] = OrderedDict()
        self._calling: dict[Key, Node] = {}
        self._held: list[Node] = []
        self._unknown: dict[Key, Node] = {}
        self._told: OrderedDict[str, _Told] = OrderedDict()
        self._lately: deque[_Told] = deque(maxlen=MAX_LATELY)
        self._conversations: Conversations[Document] = Conversations(MAX_SESSIONS)
        self._unsettled: dict[int, Document] = {}
        self._asked: list[tuple[Node, SpanRecord]] = []

    # ── input

    def start(self, record: SpanRecord) -> None:
        """Take in the start of a span: ids, parent, kind, name, time, agent, session."""
        key = (record.trace_id, record.span_id)
        if key in self._nodes:
            return
        parent = self._nodes.get((record.trace_id, record.parent_id)) if record.parent_id else None
        session = self._session_of(record, parent)
        node = self._nodes[key] = Node(record, record.kind, parent, session)
        node.orphaned = parent is None and record.parent_id is not None and not record.remote_parent
        if parent is not None:
            parent.bears = True
        self._begin(session, key)
        if record.kind == "llm":
            self._pass(node)
            self._calling[key] = node
        elif record.kind is None:
            self._unknown[key] = node
        if len(self._nodes) > MAX_NODES:
            self._forget()

    def end(self, record: SpanRecord) -> None:
        """Take in a complete span; its start need not have been told."""
        key = (record.trace_id, record.span_id)
        node = self._nodes.get(key)
        if node is None:
            self.start(record)
            node = self._nodes[key]
        if not node.open:
            return
        node.open, node.record = False, record
        node.kind = record.kind or node.kind
        self._calling.pop(key, None)
        self._unknown.pop(key, None)
        self._learn_session(node)
        if node.kind == "llm":
            self._held.append(node)
        else:
            self._finish(node)
            if node.kind == "tool":
                self._end_tool(node)
            node.record = _without_content(record)
        self._release()
        if node.kind == "agent" and steps.asked_of(record):
            self._asked.append((node, record))
        self._ask()
        if record.incomplete is not None:
            self._give_up(node)
        if node.parent is None:
            self._describe(node, record)

    def _describe(self, node: Node, record: SpanRecord) -> None:
        """Write whom and what a run was for where its outermost span says so only as it ends."""
        if record.user_id or record.metadata:
            for document in node.session.documents:
                if document.line.trace_id == record.trace_id:
                    document.describe(record)

    def _ask(self) -> None:
        """Write what agents were asked that have ended, where no model call beneath them has told that."""
        waiting = [each for each in self._asked if any(tree.beneath(held, each[0]) for held in self._held)]
        for node, record in self._asked:
            run = node.run or node.within
            if run is None or self._is_gone(run.document) or any(node is each for each, _ in waiting):
                continue
            before = run.before if run.document.line is run.line else 1
            heard = run.document.add_question(record, steps.asked_of(record), before, run.heard, resumed=run.resumed)
            run.heard = heard if run.shared else ""
        self._asked = waiting

    def _run(self, node: Node, document: Document) -> AgentRun | None:
        """Note that what follows in `document` is of the run of the agent that stands outermost around a span."""
        agent = tree.outermost_of(node, document, root=document in tree.resolve(node.session).documents)
        if agent is None:
            return None
        if agent.run is None:
            agent.run = AgentRun(document, document.line, document.count + 1)
            for around in tree.agents_around(agent):
                around.within = around.within or agent.run
                agent.run.shared = agent.run.shared or around.within is agent.run
        return agent.run

    def _give_up(self, node: Node) -> None:
        """A run that was left is in nobody's way: what comes next need not wait for its calls to have ended."""
        for document in node.session.documents:
            if document.line.trace_id == node.record.trace_id:
                document.line.last_end = min(document.line.last_end, node.start)

    def close(self) -> None:
        """Write what still waits, and mark what has not ended; nothing comes after."""
        self._release(everything=True)
        self._ask()
        for document in list(self._unsettled.values()):
            self._settle(document, final=True)
        for node in [n for n in self._nodes.values() if n.open and n.kind in ("tool", "llm")]:
            self._leave_open(node)

    def complete(self, journal: Journal) -> bool:
        """Whether all spans of the session that `journal` stores have ended."""
        for session in self._sessions.values():
            if any(document.journal is journal for document in session.documents):
                return session.open == 0
        return True

    def settle(self, journal: Journal) -> None:
        """Write the tool runs of a complete session that still wait for others like them."""
        for document in [each for each in self._unsettled.values() if each.journal is journal]:
            self._settle(document, final=True)

    # ── what there is

    def sessions(self) -> list[str]:
        """Return the sessions that have documents, the latest last; where none is known the trace's id."""
        open_now = [name for name, session in self._sessions.items() if session.documents]
        return [
            *dict.fromkeys(past.key for past in self._past if past.known and past.key not in self._sessions),
            *open_now,
        ]

    def journals(self, name: str | None, span: Key | None) -> list[Journal]:
        """Return where the documents of a session are, given its name or one of its spans; of all given neither."""
        if name is None and span is None:
            found = [each for session in (*self._past, *self._sessions.values()) for each in session.known]
        else:
            found = self._known_around(span) if span is not None else []
            found = found or (self._known_by(name) if name is not None else [])
        return list({id(each.journal): each.journal for each in found}.values())

    def _known_by(self, name: str) -> list[Left]:
        # Where no session is known a document calls itself by the id of its trace in the form of a UUID.
        found: list[Left] = []
        for key in (name, name.replace("-", "")):
            found = found or [each for past in self._past if past.key == key for each in past.known]
            session = self._sessions.get(key)
            found += session.known if session is not None else []
        return found

    def _known_around(self, span: Key) -> list[Left]:
        """Return the document that a span is told of in; of several of its session those of its trace."""
        node = self._nodes.get(span)
        session = node.session if node is not None else self._by_trace.get(span[0])
        if session is None:
            return []
        session = tree.resolve(session)
        above = [each.document for each in tree.lineage(node)] if node is not None else []
        own = [tree.left_of(each) for each in above if each is not None and each in session.documents]
        of_trace = [each for each in session.known if span[0] in each.traces]
        return (own or of_trace or session.known)[:1]

    # ── sessions

    def _session_of(self, record: SpanRecord, parent: Node | None) -> Session:
        if parent is not None:
            return self._session_beneath(parent, record)
        known = self._by_trace.get(record.trace_id)
        if known is not None and tree.resolve(known).closed:
            known = None
        name = tree.session_name(record)
        if known is not None and (known.id is not None or name is None):
            return tree.resolve(known)
        key = name or f"{record.trace_id:032x}"
        session = self._sessions.get(key)
        if session is None:
            session = Session(key, name, record.trace_id)
            self._sessions[key] = session
        if known is not None:
            self._merge_sessions(known, session)
        self._use(session, record.trace_id)
        return session

    def _session_beneath(self, parent: Node, record: SpanRecord) -> Session:
        """Return the session around a span; its own where it names one, and nothing above it does."""
        around, name = tree.resolve(parent.session), tree.session_name(record)
        if name is None or name == around.id or any(tree.session_name(each.record) for each in tree.lineage(parent)):
            return around
        if around.id is None:
            return self._name_session(around, name)
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = Session(name, name, record.trace_id)
        self._touch(session)
        return session

    def _use(self, session: Session, trace_id: int) -> None:
        self._by_trace[trace_id] = session
        if len(self._by_trace) > MAX_TRACES:
            self._by_trace.popitem(last=False)
        self._touch(session)

    def _touch(self, session: Session) -> None:
        self._sessions.move_to_end(session.key)
        if len(self._sessions) > MAX_SESSIONS:
            self._close_oldest(session)

    def _learn_session(self, node: Node) -> None:
        """Take over a session that a span names only as it ends."""
        node.session = tree.resolve(node.session)
        name = tree.session_name(node.record)
        if name is not None and node.session.id is None:
            node.session = self._name_session(node.session, name)

    def _name_session(self, session: Session, name: str) -> Session:
        """Give a session the name that has become known; return it, or the one that has the name already."""
        known = self._sessions.get(name)
        if known is not None:
            self._merge_sessions(session, known)
            return tree.resolve(session)
        self._leave(session)
        session.key = session.id = name
        session.closed = False
        self._sessions[name] = session
        for document in session.documents:
            document.name_session(name)
        return session

    def _merge_sessions(self, old: Session, new: Session) -> None:
        """Let what comes go to `new`; documents that stand already stay."""
        if old is new:
            return
        self._leave(old)
        old.merged_into = new
        new.open += old.open
        for document in old.documents:
            document.name_session(new.id or "")
        new.documents.extend(old.documents)
        new.spans.update(old.spans)
        old.documents, old.spans = [], {}

    def _leave(self, session: Session) -> None:
        """Take a session from where it is found, under the key that it has so far."""
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]
        self._retired.pop(id(session), None)
        self._unended.pop(id(session), None)

    def _close_oldest(self, used: Session) -> None:
        """Close the session that was quiet for longest, not the one in use; one with open spans only if all have them.

        Spans that are open may still end in it.
        """
        idle = (session for session in self._sessions.values() if not session.open and session is not used)
        session = next(idle, None) or next(iter(self._sessions.values()))
        del self._sessions[session.key]
        session.closed = True
        if session.open:
            losses.add("sessions closed before their end")
        for document in session.documents:
            self.settle(document.journal)
            if self._closed is not None:
                self._closed(document.journal)
        self._part_from(session)
        if session.documents or session.open:
            self._past.append(session)
        self._retire(session)

    def _part_from(self, session: Session) -> None:
        """Let no request go on in a session's conversations any more, nor anything be held of what they were sent."""
        histories.forget(session.id, *{trace for trace, _ in session.spans})
        journals = [document.journal for document in session.documents]
        for document in self._conversations.latest(MAX_SESSIONS) if journals else ():
            if document.journal in journals:
                self._conversations.forget(document)

    def _retire(self, session: Session) -> None:
        """Keep a closed session for a while, and forget the one that has been kept for longest."""
        kept, other = (self._unended, self._retired) if session.open else (self._retired, self._unended)
        other.pop(id(session), None)
        kept[id(session)] = session
        if len(kept) > (MAX_UNENDED if session.open else MAX_CLOSED):
            self._forget_session(kept.popitem(last=False)[1])

    def _forget_session(self, session: Session) -> None:
        """Let go of a closed session's spans and documents, and remember only where those are."""
        for node in [held for held in self._held if tree.resolve(held.session) is session]:
            self._held.remove(node)
            self._write_call(node)
        session.left = tuple(session.known)
        for key, answer in session.spans.items():
            node = self._nodes.pop(key, None)
            if node is not None and node.open:
                self._lose(key, node)
            told = self._told.get(answer) if answer is not None else None
            if told is not None and told.node is node:
                del self._told[told.sighting.response_id or ""]
        session.documents, session.spans = [], {}

    # ── spans

    def _begin(self, session: Session, key: Key) -> None:
        """Count a span that has started."""
        session.spans[key] = None
        session.open += 1
        if session.closed:
            self._retire(session)

    def _finish(self, node: Node) -> None:
        """Count a span that is written from now on: nothing of it waits."""
        session = tree.resolve(node.session)
        session.open -= 1
        if session.closed:
            self._retire(session)

    def _lose(self, key: Key, node: Node) -> None:
        """Give up a span that has not ended."""
        node.open = False
        tree.resolve(node.session).open -= 1
        self._calling.pop(key, None)
        self._unknown.pop(key, None)
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

    # ── the order of model calls

    def _release(self, *, everything: bool = False) -> None:
        """Write ended model calls in the order of their starts, once all that began earlier have ended."""
        self._held.sort(key=tree.by_start)
        index = 0
        while index < len(self._held):
            node = self._held[index]
            full = len(self._held) > MAX_HELD
            if everything or full or not self._must_wait(node):
                self._held.pop(index)
                self._write_call(node)
                index = 0
            else:
                index += 1

    def _must_wait(self, node: Node) -> bool:
        """Whether a model call that began earlier, or a span that may be one, may tell of the same call."""
        if any(tree.precedes(other, node) for other in self._calling.values()):
            return True
        return node.loose and any(tree.precedes(other, node) for other in self._unknown.values())

    def pass_time(self, now: int) -> None:
        """Let calls go that have waited for `GRACE` at the time `now`, in nanoseconds since the epoch."""
        for held in self._held:
            held.passed = held.passed or (held.record.end or 0) + GRACE <= now
        self._release()

    @property
    def waiting(self) -> bool:
        """Whether ended model calls wait."""
        return bool(self._held)

    def _pass(self, node: Node) -> None:
        """Let ended calls go that wait beside a call which runs on while work has gone on without it."""
        if not self._held:
            return
        around = tree.boundary(node)
        for held in self._held:
            ended = held.record.end or 0
            aside = ended <= node.start and tree.boundary(held) is around
            held.passed = held.passed or aside or ended + GRACE <= node.start
        self._release()

    def _write_call(self, node: Node) -> None:
        self._finish(node)
        record, origin, sighting = self._unite(node)
        known = self._told_before(node, sighting)
        if known is not None:
            self._add_duplicate(known, record)
        else:
            self._add_call(node, record, sighting, origin)
        node.record = _without_content(record)

    def _add_call(self, node: Node, record: SpanRecord, sighting: Sighting, origin: dict[str, JSON]) -> None:
        node.record = record
        document, place = self._place(node)
        if document.count >= MAX_STEPS or document.journal.full:
            losses.add("model calls beyond the size of a trajectory")
            return
        self._link_all(document, document.settle_ambiguous())
        run = self._run(node, document)
        if run is not None and not run.asked:
            run.asked, run.resumed = True, run.resumed or _is_answered(record)
        step = document.add_call(record, place, origin, tree.caller(node))
        if document.opening is not None and document.opening.record is record:
            document.opening.record = _without_content(record)
        if node.orphaned:
            document.note("missing_parent")
        answered = record.answered_by is not None
        metrics = answered or (record.response is not None and record.response.usage is not None)
        self._remember(_Told(document, step, node, sighting, metrics))
        self._settle(document, final=not self._busy(node))

    def _unite(self, node: Node) -> tuple[SpanRecord, dict[str, JSON], Sighting]:
        """Return the call's record with what other spans of the same call know, which they are, and what tells it."""
        record, duplicates, attempts = node.record, list[str](), list[JSON]()
        sighting = sighting_of(record)
        for other in [held for held in self._held if contains(node.record, held.record)]:
            nested = tree.beneath(other, node)
            if not nested and not (other.loose or tree.siblings(other, node)):
                continue
            relation = relate(sighting, sighting_of(other.record), nested=nested)
            if relation == "other":
                continue
            self._held.remove(other)
            self._finish(other)
            if relation == "same":
                record = merged(record, other.record)
                duplicates.append(f"{other.record.span_id:016x}")
            else:
                attempts.append(_attempt(other.record))
            other.record = _without_content(other.record)
        origin: dict[str, JSON] = {}
        if duplicates:
            origin["duplicates"] = duplicates
        if attempts:
            origin["attempts"] = attempts
        return record, origin, sighting if record is node.record else sighting_of(record)

    def _told_before(self, node: Node, sighting: Sighting) -> _Told | None:
        """Return where this physical call stands already, if another span of it has been written.

        So it is with frameworks that say only as a span ends that it is a model call.
        """
        known = self._told.get(sighting.response_id) if sighting.response_id else None
        if (
            known is not None
            and known.node is not node
            and (node.loose or not known.node.loose)
            and known.sighting.start <= sighting.end
            and sighting.start <= known.sighting.end
            and relate(sighting, known.sighting, nested=_stand_within(node, known.node)) == "same"
        ):
            return known
        for told in self._lately if node.bears else ():
            if tree.beneath(told.node, node) and relate(sighting, told.sighting, nested=True) == "same":
                return told
        return None

    def _add_duplicate(self, known: _Told, record: SpanRecord) -> None:
        change: dict[str, Any] = {"extra": {"otel": {"duplicates": [f"{record.span_id:016x}"]}}}
        metrics = steps.metrics_of(record)
        if metrics is not None and not known.metrics:
            change["metrics"] = metrics.to_json()
            known.metrics = True
        known.document.patch(known.step, change)
        known.document.note("duplicate_call")

    def _remember(self, told: _Told) -> None:
        self._lately.append(told)
        if told.sighting.response_id:
            self._told[told.sighting.response_id] = told
            record = told.node.record
            tree.resolve(told.node.session).spans[record.trace_id, record.span_id] = told.sighting.response_id
            if len(self._told) > MAX_RECENT:
                self._told.popitem(last=False)

    # ── which document

    def _place(self, node: Node) -> tuple[Document, Place]:
        """Return the document of a model call, and how the call goes on in it."""
        self._leave_gone(node)
        record = node.record
        question = _question(record) if node.loose else None
        going_on = self._conversations.find(question) if question is not None else None
        if going_on is not None and self._is_gone(going_on):
            going_on = None
        document = going_on or self._document_of(node)
        agent = tree.agent_of(node)
        if agent is None or agent.document is not None:
            found = self._search(document, record)
        elif document.count == 0:
            agent.document, found = document, (document, document.find(record))
        else:
            found = self._search(document, record)
            if found is not None:
                agent.document = found[0]
        if found is None or found[1] is None:
            found = self._branch(node, agent, document)
        if question is not None:
            self._conversations.tell(found[0], question, record.response)
        if going_on is not None:
            self._go_on(node, going_on)
        return found[0], found[1] or Place(found[0].line.transcript.align([]))

    def _go_on(self, node: Node, document: Document) -> None:
        """Count a call that no session is known of to that in whose document it goes on: it is not quiet."""
        home, own = self._by_trace.get(document.line.trace_id), tree.resolve(node.session)
        if home is not None and not tree.resolve(home).closed and not own.documents:
            self._merge_sessions(own, tree.resolve(home))
            self._use(tree.resolve(home), node.record.trace_id)

    def _leave_gone(self, node: Node) -> None:
        """Let go of documents that somebody has removed, so that what goes on begins anew."""
        documents = tree.resolve(node.session).documents
        documents[:] = [document for document in documents if not self._is_gone(document)]
        each: Node | None = node
        while each is not None:
            if each.document is not None and each.document.journal.gone:
                each.document = None
            each = each.parent

    def _is_gone(self, document: Document) -> bool:
        if document.journal.gone:
            self._conversations.forget(document)
        return document.journal.gone

    def _search(self, document: Document, record: SpanRecord) -> tuple[Document, Place] | None:
        """Return which of a document and its side conversations a call goes on from: surely, else likely."""
        family = [document, *reversed(document.helpers)]
        sure = [each for each in family if each.extends(record)] if document.helpers else []
        for each in sure or family:
            place = each.find(record)
            if place is not None:
                return each, place
        return None

    def _branch(self, node: Node, agent: Node | None, document: Document) -> tuple[Document, Place | None]:
        """Find a home for a call that continues nothing: another document, the next turn, a side document."""
        record, top = node.record, tree.top(node)
        owner = agent if agent is not None and agent.document is None else None
        in_root = document in node.session.documents
        if in_root and top.record.trace_id != document.line.trace_id:
            for other in node.session.documents:
                found = self._search(other, record) if other is not document else None
                if found is not None:
                    top.document = found[0]
                    return found
            if top.start < document.line.last_end:
                return self._branch_apart(node, owner or top)
            place = document.resume(record) if node.session.id is not None else None
            if place is not None:
                if owner is not None:
                    owner.document = document
                return document, place
        if in_root and _is_preliminary(document, record):
            document.demote(self._child_head(document.name, node), self._agent_head(node), record)
            return self._own(owner, document, record)
        tool = tree.tool_above(node)
        if owner is not None and tool is not None and tool.document is document and tool.lead is not None:
            outermost = tree.outermost_agent(node, tool)
            if outermost is not None and outermost is not tool.lead:
                return self._branch_beside(node, owner, outermost, tool)
        if document.fans_out(record):
            self._found_fan(document, node)
        return self._branch_child(node, owner, document, fan=document.is_of_fan(record))

    def _found_fan(self, document: Document, node: Node) -> None:
        """Put the conversation that happened to begin first beside those that were begun with it."""
        opening = document.opening
        assert opening is not None
        first = self._nodes.get((opening.record.trace_id, opening.record.span_id)) or node
        agent = tree.agent_of(first)
        own = agent is not None and agent.parent is not None and tree.agent_of(node) is not agent
        name = tree.agent_name(agent) if own and agent is not None else tree.helper_name(first)
        head = self._child_head(name, first) | {"trajectory_id": _identity(opening.record, name)}
        begins: atif.Dispatch = "sub-agent" if own else "side conversation"
        fan = Fan(opening.shape, opening.record.end or 0)
        child = document.demote(head, self._agent_head(tree.top(first)), opening.record, begins, fan)
        caller = tree.caller(first)  # said where it is not who the document is of
        child.patch(opening.count, {"extra": {"agent_name": caller if caller != child.name else None}})
        for told in (*self._lately, *self._told.values()):
            if told.document is document:
                told.document = child

    def _branch_beside(self, node: Node, owner: Node, outermost: Node, tool: Node) -> tuple[Document, Place | None]:
        """Go on in, or begin, a document beside those of other agents that the same tool runs."""
        tool.beside = tool.beside or []
        for other in reversed(tool.beside):
            found = self._search(other, node.record)
            if found is not None:
                owner.document = found[0]
                return found
        parent = self._document_of(tool)
        child = Document(parent.journal, self._child_head(tree.agent_name(owner), node), parent, self._media)
        tool.beside.append(child)
        del tool.beside[:-MAX_HELPERS]
        outermost.document = outermost.document or child
        if tool.call is not None:
            tool.call[0].link(child, tool.call[1])
        return self._own(owner, child, node.record)

    def _branch_apart(self, node: Node, owner: Node) -> tuple[Document, Place | None]:
        """Begin a document beside the session's others: runs at the same time that share nothing."""
        document = self._new_root(node)
        owner.document = document
        return document, document.find(node.record)

    def _branch_child(
        self, node: Node, owner: Node | None, parent: Document, *, fan: bool = False
    ) -> tuple[Document, Place | None]:
        """Begin a side document, with a step in its parent that starts it."""
        record = node.record
        if owner is not None and owner.parent is None and owner.record.session_id is not None:
            owner = None  # another turn of the session's agent, and no other agent
        name = tree.agent_name(owner) if owner is not None else tree.helper_name(node)
        child = Document(parent.journal, self._child_head(name, node), parent, self._media)
        begins: atif.Dispatch = "sub-agent" if owner is not None else "side conversation"
        call = parent.add_dispatch(record, child, begins, fan=fan)
        parent.link(child, call)
        parent.helpers.append(child)
        del parent.helpers[:-MAX_HELPERS]
        return self._own(owner, child, record)

    def _own(self, owner: Node | None, document: Document, record: SpanRecord) -> tuple[Document, Place | None]:
        if owner is not None:
            owner.document = document
        return document, document.find(record)

    def _document_of(self, node: Node) -> Document:
        """Return the document beneath whose agent or tool a span lies, beginning it where there is none."""
        above, session = node.parent, tree.resolve(node.session)
        while above is not None and tree.resolve(above.session) is session:
            if above.document is not None:
                return above.document
            if above.kind == "tool" and not tree.repeats(above, tree.tool_above(above)):
                return self._beneath_tool(above, node)
            above = above.parent
        return session.documents[0] if session.documents else self._new_root(node)

    def _beneath_tool(self, tool: Node, node: Node) -> Document:
        """Begin the document of what a tool does beneath itself: a sub-agent, as a rule."""
        parent = self._document_of(tool)
        agent = tree.agent_of(node)
        name = tree.agent_name(agent) if agent is not None else tool.record.name
        tool.document = Document(parent.journal, self._child_head(name, node), parent, self._media)
        tool.lead = tree.outermost_agent(node, tool)
        if tool.call is not None:
            tool.call[0].link(tool.document, tool.call[1])
        return tool.document

    def _new_root(self, node: Node) -> Document:
        session = tree.resolve(node.session)
        agent, trace = self._agent_head(node), f"{session.trace_id:032x}"
        top = tree.top(node)
        service = _service(top.record) or _service(node.record) or ""
        journal = self._journal_for(
            self._name.format(session=session.id or trace, trace=trace, agent=agent["name"], service=service)
        )
        head: dict[str, Any] = {
            "schema_version": self._version,
            "session_id": session.id or trace,
            "trajectory_id": _identity(top.record),
            "agent": agent,
            "extra": {**tree.about(node), "otel": {"trace_id": f"{node.record.trace_id:032x}"}},
        }
        if top.record.remote_parent and top.record.parent_id:
            head["extra"]["otel"]["remote_parent_span_id"] = f"{top.record.parent_id:016x}"
        document = Document(journal, head, None, self._media, node.record.trace_id)
        session.documents.append(document)
        return document

    def _agent_head(self, node: Node) -> dict[str, Any]:
        """Return who acts: the outermost agent with a name, else the service."""
        named = [each.record.agent for each in tree.lineage(node) if each.record.agent and each.record.agent.name]
        info = named[-1] if named else AgentInfo()
        record = node.record
        name = info.name or _service(record) or "agent"
        return {"name": str(name), "version": str(info.version or record.service_version or "unknown")}

    def _child_head(self, name: str, node: Node) -> dict[str, Any]:
        record = node.record
        acting = [each.record.agent for each in tree.lineage(node) if each.record.agent is not None]
        own = next((agent.version for agent in acting if agent.version and agent.name in (name, None)), None)
        version = own or record.service_version or "unknown"
        head: dict[str, Any] = {
            "trajectory_id": _identity(record, name),
            "agent": {"name": name, "version": str(version)},
        }
        place = steps.place_of(record)
        return {**head, "extra": place} if place != steps.place_of(tree.top(node).record) else head

    # ── tools

    def _end_tool(self, node: Node) -> None:
        record = node.record
        above = tree.tool_above(node)
        if tree.repeats(node, above):
            return  # a client of the same tool beneath its own span, as MCP has it
        self._leave_gone(node)
        document = self._tool_document(node)
        if document.count >= MAX_STEPS or document.journal.full:
            losses.add("tool calls beyond the size of a trajectory")
            return
        run = self._run(node, document)
        settled = document.add_run(record, may_wait=self._busy(node))
        if run is not None and any(call.step < run.before for _, call in settled):
            run.resumed = True
        self._link_all(document, settled)
        if document.waiting:
            self._unsettled[id(document)] = document
        if node.orphaned:
            document.note("missing_parent")

    def _tool_document(self, node: Node) -> Document:
        """Return where a tool ran; one outside of every tree goes where a call waits for it."""
        if node.parent is None:
            documents = [*node.session.documents, *self._conversations.latest(MAX_LOOSE)]
            for document in documents:
                for each in (document, *document.helpers):
                    if each.knows(node.record):
                        return each
        return self._document_of(node)

    def _link(self, node: Node, document: Document, call: Call) -> None:
        node.call = (document, call)
        for child in (node.document, *(node.beside or ())):
            if child is not None and child is not document:
                document.link(child, call)

    def _settle(self, document: Document, *, final: bool) -> None:
        self._link_all(document, document.settle(final=final))
        if not document.waiting:
            self._unsettled.pop(id(document), None)

    def _link_all(self, document: Document, settled: list[Run]) -> None:
        for record, call in settled:
            node = self._nodes.get((record.trace_id, record.span_id))
            if node is not None:
                self._link(node, document, call)

    def _busy(self, node: Node) -> bool:
        """Whether a model call around `node` has not been written yet; a tool may run before its call ends."""
        around = tree.boundary(node)
        waiting = (*self._calling.values(), *self._held)
        return any(other is not node and tree.boundary(other) is around for other in waiting)

    def _leave_open(self, node: Node) -> None:
        documents = node.session.documents
        if node.kind == "llm":
            if documents:
                documents[0].mark_partial()
            return
        document = self._document_of(node)
        self._settle(document, final=True)
        document.add_unfinished(node.record)


def _question(record: SpanRecord) -> Question | None:
    """Return which conversation to look for; None where nothing was recorded of what was said."""
    if record.request is None or not record.content:
        return None
    return question_of(RecordedHistory(record.request.messages), record.request)


def _is_answered(record: SpanRecord) -> bool:
    """Whether the last word of a request is not a user's: what a run begins with that goes on."""
    messages = record.request.messages if record.request is not None else []
    return bool(messages) and messages[-1].role != "user"


def _stand_within(one: Node, other: Node) -> bool:
    return tree.beneath(one, other) or tree.beneath(other, one)


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


def _is_preliminary(document: Document, record: SpanRecord) -> bool:
    """Whether a document so far holds only what an agent asks before its work, such as a title."""
    tools = bool(record.request and record.request.tools)
    line = document.line
    return tools and not line.tools and 0 < line.count <= 2 and record.start >= line.last_end


def _attempt(record: SpanRecord) -> JSON:
    found: dict[str, JSON] = {"span_id": f"{record.span_id:016x}", "start": steps.timestamp(record.start)}
    if record.error is not None:
        found["error"] = steps.error_of(record.error)
    return found


def _identity(record: SpanRecord, name: str = "") -> str:
    """Return a document's id: the same for the same spans, whenever it is written."""
    return str(uuid5(_NAMESPACE, f"{record.trace_id:032x}{record.span_id:016x}{name}"))


def _service(record: SpanRecord) -> str | None:
    name = record.service_name
    return None if not name or name.startswith("unknown_service") else name
