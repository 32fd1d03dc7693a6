"""Which session a span is of, from its first span to the time when nothing of it can grow any more.

Every table has a bound; what `closing` and `forgetting` are told of is still whole while they run.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from spanrelay._guard import losses
from spanrelay.assembly import tree
from spanrelay.assembly.document import Document, Journal
from spanrelay.assembly.tree import Key, Left, Node, Session
from spanrelay.records import SpanRecord

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


class Sessions:
    """The sessions that spans are of.

    `closing(session)` is called when one can no longer grow, and `forgetting(session)` when nothing of a closed one is
    kept but where its documents are.
    """

    def __init__(self, closing: Callable[[Session], None], forgetting: Callable[[Session], None]) -> None:
        self._closing, self._forgetting = closing, forgetting
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._retired: OrderedDict[int, Session] = OrderedDict()
        self._unended: OrderedDict[int, Session] = OrderedDict()
        self._past: deque[Session] = deque(maxlen=MAX_PAST)
        self._by_trace: OrderedDict[int, Session] = OrderedDict()

    # ── which

    def of(self, record: SpanRecord, parent: Node | None) -> Session:
        """Return the session of a span that begins beneath `parent`."""
        if parent is not None:
            return self._beneath(parent, record)
        known = self._by_trace.get(record.trace_id)
        if known is not None and tree.resolve(known).closed:
            known = None
        name = tree.session_name(record)
        if known is not None and (known.id is not None or name is None):
            return tree.resolve(known)
        key = name or f"{record.trace_id:032x}"
        session = self._open.get(key)
        if session is None:
            session = Session(key, name, record.trace_id)
            self._open[key] = session
        if known is not None:
            self._merge(known, session)
        self._use(session, record.trace_id)
        return session

    def _beneath(self, parent: Node, record: SpanRecord) -> Session:
        """Return the session around a span; its own where it names one, and nothing above it does."""
        around, name = tree.resolve(parent.session), tree.session_name(record)
        if name is None or name == around.id or any(each.record.session_id for each in tree.lineage(parent)):
            return around
        if around.id is None:
            return self._name(around, name)
        session = self._open.get(name)
        if session is None:
            session = self._open[name] = Session(name, name, record.trace_id)
        self._touch(session)
        return session

    def _use(self, session: Session, trace_id: int) -> None:
        self._by_trace[trace_id] = session
        if len(self._by_trace) > MAX_TRACES:
            self._by_trace.popitem(last=False)
        self._touch(session)

    def _touch(self, session: Session) -> None:
        self._open.move_to_end(session.key)
        if len(self._open) > MAX_SESSIONS:
            self._close_oldest(session)

    def learn(self, node: Node) -> None:
        """Take over a session that a span names only as it ends."""
        node.session = tree.resolve(node.session)
        name = tree.session_name(node.record)
        if name is not None and node.session.id is None:
            node.session = self._name(node.session, name)

    def _name(self, session: Session, name: str) -> Session:
        """Give a session the name that has become known; return it, or the one that has the name already."""
        known = self._open.get(name)
        if known is not None:
            self._merge(session, known)
            return tree.resolve(session)
        self._leave(session)
        session.key = session.id = name
        session.closed = False
        self._open[name] = session
        for document in session.documents:
            document.name_session(name)
        return session

    def _merge(self, old: Session, new: Session) -> None:
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
        if self._open.get(session.key) is session:
            del self._open[session.key]
        self._retired.pop(id(session), None)
        self._unended.pop(id(session), None)

    def _close_oldest(self, used: Session) -> None:
        """Close the session that was quiet for longest, not the one in use; one with open spans only if all have them.

        Spans that are open may still end in it.
        """
        idle = (session for session in self._open.values() if not session.open and session is not used)
        session = next(idle, None) or next(iter(self._open.values()))
        del self._open[session.key]
        session.closed = True
        if session.open:
            losses.add("sessions closed before their end")
        self._closing(session)
        if session.documents or session.open:
            self._past.append(session)
        self._retire(session)

    def _retire(self, session: Session) -> None:
        """Keep a closed session for a while, and forget the one that has been kept for longest."""
        kept, other = (self._unended, self._retired) if session.open else (self._retired, self._unended)
        other.pop(id(session), None)
        kept[id(session)] = session
        if len(kept) > (MAX_UNENDED if session.open else MAX_CLOSED):
            self._forgetting(kept.popitem(last=False)[1])

    # ── spans

    def begin(self, session: Session, key: Key) -> None:
        """Count a span that has started."""
        session.spans[key] = None
        session.open += 1
        if session.closed:
            self._retire(session)

    def finish(self, node: Node) -> None:
        """Count a span that is written from now on: nothing of it waits."""
        session = tree.resolve(node.session)
        session.open -= 1
        if session.closed:
            self._retire(session)

    def lose(self, node: Node) -> None:
        """Count a span that has not ended and is given up."""
        tree.resolve(node.session).open -= 1

    def go_on(self, node: Node, document: Document) -> None:
        """Count a call that no session is known of to that in whose document it goes on: it is not quiet."""
        home, own = self._by_trace.get(document.line.trace_id), tree.resolve(node.session)
        if home is not None and not tree.resolve(home).closed and not own.documents:
            self._merge(own, tree.resolve(home))
            self._use(tree.resolve(home), node.record.trace_id)

    # ── what there is

    def names(self) -> list[str]:
        """Return the sessions that have documents, the latest last; where none is known the trace's id."""
        open_now = [name for name, session in self._open.items() if session.documents]
        return [
            *dict.fromkeys(past.key for past in self._past if past.known and past.key not in self._open),
            *open_now,
        ]

    def known(self) -> list[Left]:
        """Return where all documents are."""
        return [each for session in (*self._past, *self._open.values()) for each in session.known]

    def known_by(self, name: str) -> list[Left]:
        """Return where the documents of a session are."""
        # Where no session is known a document calls itself by the id of its trace in the form of a UUID.
        found: list[Left] = []
        for key in (name, name.replace("-", "")):
            found = found or [each for past in self._past if past.key == key for each in past.known]
            session = self._open.get(key)
            found += session.known if session is not None else []
        return found

    def known_around(self, span: Key, node: Node | None) -> list[Left]:
        """Return the document that a span is told of in, its `node` if known; of several those of its trace."""
        session = node.session if node is not None else self._by_trace.get(span[0])
        if session is None:
            return []
        session = tree.resolve(session)
        above = [each.document for each in tree.lineage(node)] if node is not None else []
        own = [tree.left_of(each) for each in above if each is not None and each in session.documents]
        of_trace = [each for each in session.known if span[0] in each.traces]
        return (own or of_trace or session.known)[:1]

    def complete(self, journal: Journal) -> bool:
        """Whether all spans of the session that `journal` stores have ended."""
        for session in self._open.values():
            if any(document.journal is journal for document in session.documents):
                return session.open == 0
        return True
