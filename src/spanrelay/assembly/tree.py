"""The tree of spans that documents are made of: where each stands, in which session, beneath which agent and tool."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from spanrelay.assembly import steps
from spanrelay.assembly.document import Call, Conversation, Document, Journal
from spanrelay.codecs import mcp_tool
from spanrelay.records import JSON, Kind, SpanRecord

Key = tuple[int, int]


class Left(NamedTuple):
    """What is kept of a document that can grow no more: where it is, and of which traces."""

    traces: tuple[int, int]
    journal: Journal


@dataclass(slots=True)
class Session:
    """What belongs together: a conversation of a user, or one trace where no session is known.

    `open` counts the spans that have not been written, and `spans` names all that are remembered, with the ids of the
    answers they told. `left` stands in place of all that once the session is forgotten.
    """

    key: str
    id: str | None
    trace_id: int
    documents: list[Document] = field(default_factory=list[Document])
    spans: dict[Key, str | None] = field(default_factory=dict[Key, "str | None"])
    open: int = 0
    closed: bool = False
    merged_into: Session | None = None
    left: tuple[Left, ...] = ()

    @property
    def known(self) -> list[Left]:
        """Where the session's documents are."""
        return [*self.left, *(left_of(document) for document in self.documents)]


@dataclass(slots=True)
class AgentRun:
    """Where the steps of an agent's run begin; in the first of them where `line` is no more the document's.

    `resumed` says whether it goes on with what an earlier run left, as after a person was asked; `asked` whether it
    has asked a model. `shared` where it is also that of agents around it; `heard` is then what models and agents were
    asked in it so far.
    """

    document: Document
    line: Conversation
    before: int
    resumed: bool = False
    asked: bool = False
    shared: bool = False
    heard: str = ""


@dataclass(slots=True, eq=False)
class Node:
    """One span in its tree. `document` is where what happens beneath it goes, once that is decided.

    `bears` says whether spans have begun beneath it. `passed` is set on a model call that has ended once a later one
    has begun. `run` is where what an agent runs begins, and `within` that of the first agent beneath it, for one that
    does nothing itself. `lead` is the agent for which a tool's `document` was begun, and `beside` are the documents of
    other agents that the tool runs.
    """

    record: SpanRecord
    kind: Kind | None
    parent: Node | None
    session: Session
    open: bool = True
    document: Document | None = None
    call: tuple[Document, Call] | None = None
    orphaned: bool = False
    bears: bool = False
    passed: bool = False
    run: AgentRun | None = None
    within: AgentRun | None = None
    lead: Node | None = None
    beside: list[Document] | None = None

    @property
    def start(self) -> int:
        """Nanoseconds since the epoch."""
        return self.record.start

    @property
    def loose(self) -> bool:
        """Whether nothing ties the span to others: a root without a session."""
        return self.parent is None and self.record.parent_id is None and self.session.id is None


def resolve(session: Session) -> Session:
    """Return the session that one has become part of, or itself."""
    while session.merged_into is not None:
        session = session.merged_into
    return session


def session_name(record: SpanRecord) -> str | None:
    """Return the session of a record as text: programs name sessions by numbers too."""
    return str(record.session_id) if record.session_id else None


def by_start(node: Node) -> tuple[int, int, int]:
    """Return what orders model calls: by start, end and how much was asked."""
    request = node.record.request
    return (node.record.start, node.record.end or 0, len(request.messages) if request else 0)


def left_of(document: Document) -> Left:
    """Return what is kept of a document that can grow no more."""
    return Left((document.trace_id, document.line.trace_id), document.journal)


def lineage(node: Node) -> Iterator[Node]:
    """Yield a span and what stands above it, nearest first."""
    each: Node | None = node
    while each is not None:
        yield each
        each = each.parent


def top(node: Node) -> Node:
    """Return the outermost span above one, or itself."""
    *_, top = lineage(node)
    return top


def beneath(node: Node, above: Node) -> bool:
    """Whether a span stands beneath `above`."""
    each = node.parent
    while each is not None:
        if each is above:
            return True
        each = each.parent
    return False


def boundary(node: Node) -> Node | Session:
    """Return what keeps the calls around a span apart from others: the nearest tool above, else the session."""
    return tool_above(node) or resolve(node.session)


def tool_above(node: Node) -> Node | None:
    """Return the nearest tool above a span."""
    each = node.parent
    while each is not None and each.kind != "tool":
        each = each.parent
    return each


def is_alike(one: Node, other: Node) -> bool:
    """Whether two spans are of tools of one name."""
    return tool_name(one) == tool_name(other)


def repeats(node: Node, above: Node | None) -> bool:
    """Whether a span tells of the same run as that of the tool above it: the other side of a connection, as MCP's."""
    if above is None or not (is_alike(above, node) or _is_other_side(node, above)):
        return False
    between = itertools.takewhile(lambda each: each is not above, lineage(node))
    return all(each.kind not in ("agent", "llm") for each in between)


def _is_other_side(node: Node, above: Node) -> bool:
    """Whether a request of MCP asks for the tool that a framework shows with the server's name before it."""
    asks = node.record.name.startswith(f"{mcp_tool.METHOD} ")
    return asks and mcp_tool.is_shown_as(tool_name(node), tool_name(above))


def agent_of(node: Node) -> Node | None:
    """Return the nearest agent above a span, as far as the nearest tool."""
    each: Node | None = node
    while each is not None and each.kind != "agent":
        each = each.parent
        if each is not None and each.kind == "tool":
            return None
    return each


def agents_around(agent: Node) -> list[Node]:
    """Return the agents above one, nearest first, as far as the nearest tool."""
    around = itertools.takewhile(lambda each: each.kind != "tool", lineage(agent))
    return [each for each in around if each.kind == "agent" and each is not agent]


def outermost_agent(node: Node, tool: Node) -> Node | None:
    """Return the agent that stands directly beneath a tool, above everything else of a span's lineage."""
    found: Node | None = None
    for each in itertools.takewhile(lambda each: each is not tool, lineage(node)):
        if each.kind == "agent":
            found = each
    return found


def outermost_of(node: Node, document: Document, *, root: bool) -> Node | None:
    """Return the agent that stands outermost around a span and works in `document`, as far as the nearest tool.

    One that no model call has given a document works in a session's own, its `root`, or in that of the tool around it.
    """
    tool = tool_above(node)
    while tool is not None and repeats(tool, tool_above(tool)):
        tool = tool_above(tool)
    outer = root or (tool is not None and tool.document is document)
    found: Node | None = None
    each: Node | None = node
    while each is not None and each is not tool:
        if each.kind == "agent" and (each.document is document or (outer and each.document is None)):
            found = each
        each = each.parent
    return found


def precedes(other: Node, node: Node) -> bool:
    """Whether `node` must wait for `other`, which has not ended: it may turn out to be the same call."""
    if other is node or other.start > node.start:
        return False
    if beneath(node, other):
        return True
    if boundary(other) is boundary(node):
        return not node.passed
    if not node.loose or node.passed:
        return False
    scopes = (other.record.scope_name, node.record.scope_name)
    return not all(scopes) or scopes[0] != scopes[1]


def siblings(one: Node, other: Node) -> bool:
    """Whether two spans stand directly beneath the same span."""
    return one.parent is other.parent and one.parent is not None


def about(node: Node) -> dict[str, JSON]:
    """Return whom and what a document is for, and what runs where: as the outermost span says that knows it."""
    about: dict[str, JSON] = {}
    for each in lineage(node):
        about.update(steps.about(each.record))
    return {**about, **(steps.place_of(top(node).record) or steps.place_of(node.record))}


def agent_name(node: Node) -> str:
    """Return the name of an agent, or of its span."""
    agent = node.record.agent
    return str((agent.name if agent else None) or node.record.name or "agent")


def caller(node: Node) -> str | None:
    """Return the name of the agent that made a call."""
    each: Node | None = node
    while each is not None:
        agent = each.record.agent
        if agent is not None and agent.name:
            return str(agent.name)
        each = each.parent
    return None


def helper_name(node: Node) -> str:
    """Return what to call a conversation without an agent: the span around it, unless that is the root."""
    above = node.parent
    return (above.record.name if above is not None and above.parent is not None else "") or "chat"


def tool_name(node: Node) -> str:
    """Return the name of a tool, or of its span."""
    return node.record.tool.name if node.record.tool else node.record.name
