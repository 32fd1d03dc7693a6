"""Which document a model call or a tool's run belongs to, and which begin with it.

A call that surely goes on in a document goes there; only else the tree of spans decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spanrelay.assembly import atif, continuation, sessions, tree
from spanrelay.assembly.continuation import Place
from spanrelay.assembly.conversations import Conversations, Question, RecordedHistory, question_of
from spanrelay.assembly.document import Document, Fan, Journal
from spanrelay.assembly.heads import agent_head, child_head, identity, root_head, service_of
from spanrelay.assembly.sessions import Sessions
from spanrelay.assembly.steps import MediaStore
from spanrelay.assembly.told import ToldCalls
from spanrelay.assembly.tree import Key, Node, Session
from spanrelay.records import SpanRecord

MAX_HELPERS = 32
"""Side conversations of one document that may still go on."""

MAX_LOOSE = 16
"""Documents of programs without any root span in which a call may wait for a tool that names none."""


class Placing:
    """Finds the documents of spans.

    `journal_for(name)` opens the storage of a new document, `name` is the pattern of such names, and `version` what
    documents say they are.
    """

    def __init__(
        self,
        journal_for: Callable[[str], Journal],
        media: MediaStore | None,
        version: str,
        name: str,
        nodes: Mapping[Key, Node],
        sessions_: Sessions,
        told: ToldCalls,
    ) -> None:
        self._journal_for = journal_for
        self._media = media
        self._version, self._name = version, name
        self._nodes, self._sessions, self._told = nodes, sessions_, told
        self._conversations: Conversations[Document] = Conversations(sessions.MAX_SESSIONS)

    def place(self, node: Node) -> tuple[Document, Place]:
        """Return the document of a model call, and how the call goes on in it."""
        self.leave_gone(node)
        record = node.record
        question = _question(record) if tree.resolve(node.session).id is None else None
        going_on = self._going_on(node, question) if question is not None else None
        document = going_on or self.document_of(node)
        agent = tree.agent_of(node)
        if agent is None or agent.document is not None:
            found = self._search(document, record)
        elif document.count == 0:
            agent.document, found = document, (document, continuation.find(document, record))
        else:
            found = self._search(document, record)
            if found is not None:
                agent.document = found[0]
        if found is None or found[1] is None:
            found = self._branch(node, agent, document)
        if question is not None:
            self._conversations.tell(found[0], question, record.response)
        if going_on is not None:
            self._sessions.go_on(node, going_on)
            if node.parent is not None:
                tree.top(node).document = going_on
        return found[0], found[1] or Place(found[0].line.transcript.align([]))

    def _going_on(self, node: Node, question: Question) -> Document | None:
        """Return the document in which a call without a session goes on, if the trace has none of its own yet.

        Only one of the same service: what another was sent is no history of this one.
        """
        if not node.loose and tree.resolve(node.session).documents:
            return None
        found = self._conversations.find(question)
        if found is None or self.is_gone(found):
            return None
        return found if node.loose or _service_of(node) == found.about.get("service", {}).get("name") else None

    def part_from(self, session: Session) -> None:
        """Let no request go on in the conversations of a session any more."""
        journals = [document.journal for document in session.documents]
        for document in self._conversations.latest(sessions.MAX_SESSIONS) if journals else ():
            if document.journal in journals:
                self._conversations.forget(document)

    def leave_gone(self, node: Node) -> None:
        """Let go of documents that somebody has removed, so that what goes on begins anew."""
        documents = tree.resolve(node.session).documents
        for document in documents:
            if document.journal.gone:
                documents[:] = [each for each in documents if not self.is_gone(each)]
                break
        each: Node | None = node
        while each is not None:
            if each.document is not None and each.document.journal.gone:
                each.document = None
            each = each.parent

    def is_gone(self, document: Document) -> bool:
        """Whether somebody has removed a document; nothing goes on in it then."""
        if document.journal.gone:
            self._conversations.forget(document)
        return document.journal.gone

    def _search(self, document: Document, record: SpanRecord) -> tuple[Document, Place] | None:
        """Return which of a document and its side conversations a call goes on from: surely, else likely."""
        if not document.helpers:
            place = continuation.find(document, record)
            return None if place is None else (document, place)
        family = [document, *reversed(document.helpers)]
        for each in [each for each in family if continuation.extends(each, record)] or family:
            place = continuation.find(each, record)
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
            place = continuation.resume(document, record) if node.session.id is not None else None
            if place is not None:
                if owner is not None:
                    owner.document = document
                return document, place
        if in_root and _is_preliminary(document, record):
            document.demote(child_head(document.name, node), agent_head(node), record)
            return self._own(owner, document, record)
        tool = tree.tool_above(node)
        if owner is not None and tool is not None and tool.document is document and tool.lead is not None:
            outermost = tree.outermost_agent(node, tool)
            if outermost is not None and outermost is not tool.lead:
                return self._branch_beside(node, owner, outermost, tool)
        if continuation.fans_out(document, record):
            self._found_fan(document, node)
        return self._branch_child(node, owner, document, fan=continuation.is_of_fan(document, record))

    def _found_fan(self, document: Document, node: Node) -> None:
        """Put the conversation that happened to begin first beside those that were begun with it."""
        opening = document.opening
        assert opening is not None
        first = self._nodes.get((opening.record.trace_id, opening.record.span_id)) or node
        agent = tree.agent_of(first)
        own = agent is not None and agent.parent is not None and tree.agent_of(node) is not agent
        name = tree.agent_name(agent) if own and agent is not None else tree.helper_name(first)
        head = child_head(name, first) | {"trajectory_id": identity(opening.record, name)}
        begins: atif.Dispatch = "sub-agent" if own else "side conversation"
        fan = Fan(opening.shape, opening.record.end or 0)
        child = document.demote(head, agent_head(tree.top(first)), opening.record, begins, fan)
        caller = tree.caller(first)  # said where it is not who the document is of
        child.patch(opening.count, {"extra": {"agent_name": caller if caller != child.name else None}})
        self._told.move(document, child)

    def _branch_beside(self, node: Node, owner: Node, outermost: Node, tool: Node) -> tuple[Document, Place | None]:
        """Go on in, or begin, a document beside those of other agents that the same tool runs."""
        tool.beside = tool.beside or []
        for other in reversed(tool.beside):
            found = self._search(other, node.record)
            if found is not None:
                owner.document = found[0]
                return found
        parent = self.document_of(tool)
        child = Document(parent.journal, child_head(tree.agent_name(owner), node), parent, self._media)
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
        return document, continuation.find(document, node.record)

    def _branch_child(
        self, node: Node, owner: Node | None, parent: Document, *, fan: bool = False
    ) -> tuple[Document, Place | None]:
        """Begin a side document, with a step in its parent that starts it."""
        record = node.record
        if owner is not None and owner.parent is None and owner.record.session_id is not None:
            owner = None  # another turn of the session's agent, and no other agent
        name = tree.agent_name(owner) if owner is not None else tree.helper_name(node)
        child = Document(parent.journal, child_head(name, node), parent, self._media)
        begins: atif.Dispatch = "sub-agent" if owner is not None else "side conversation"
        call = parent.add_dispatch(record, child, begins, fan=fan)
        parent.link(child, call)
        parent.helpers.append(child)
        del parent.helpers[:-MAX_HELPERS]
        return self._own(owner, child, record)

    def _own(self, owner: Node | None, document: Document, record: SpanRecord) -> tuple[Document, Place | None]:
        if owner is not None:
            owner.document = document
        return document, continuation.find(document, record)

    def document_of(self, node: Node) -> Document:
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
        parent = self.document_of(tool)
        agent = tree.agent_of(node)
        name = tree.agent_name(agent) if agent is not None else tool.record.name
        tool.document = Document(parent.journal, child_head(name, node), parent, self._media)
        tool.lead = tree.outermost_agent(node, tool)
        if tool.call is not None:
            tool.call[0].link(tool.document, tool.call[1])
        return tool.document

    def _new_root(self, node: Node) -> Document:
        session = tree.resolve(node.session)
        trace = f"{session.trace_id:032x}"
        head = root_head(node, trace, self._version)
        service = _service_of(node) or ""
        journal = self._journal_for(
            self._name.format(session=head["session_id"], trace=trace, agent=head["agent"]["name"], service=service)
        )
        document = Document(journal, head, None, self._media, node.record.trace_id)
        session.documents.append(document)
        return document

    def tool_document(self, node: Node) -> Document:
        """Return where a tool ran; one outside of every tree goes where a call waits for it."""
        if node.parent is None:
            documents = [*node.session.documents, *self._conversations.latest(MAX_LOOSE)]
            for document in documents:
                for each in (document, *document.helpers):
                    if each.knows(node.record):
                        return each
        return self.document_of(node)


def _service_of(node: Node) -> str | None:
    return service_of(tree.top(node).record) or service_of(node.record)


def _question(record: SpanRecord) -> Question | None:
    """Return which conversation to look for; None where nothing was recorded of what was said."""
    if record.request is None or not record.content:
        return None
    return question_of(RecordedHistory(record.request.messages), record.request)


def _is_preliminary(document: Document, record: SpanRecord) -> bool:
    """Whether a document so far holds only what an agent asks before its work, such as a title."""
    tools = bool(record.request and record.request.tools)
    line = document.line
    return tools and not line.tools and 0 < line.count <= 2 and record.start >= line.last_end
