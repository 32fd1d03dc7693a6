"""Headers of documents: who acts, where, and by which id a document is known.

The same spans have the same header, whenever it is written.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from spanrelay.assembly import steps, tree
from spanrelay.assembly.tree import Node
from spanrelay.records import AgentInfo, SpanRecord

_NAMESPACE = UUID("6f1d7c52-5b0e-4c0b-9c0a-0c5b8a0f6a77")


def agent_head(node: Node) -> dict[str, Any]:
    """Return who acts: the outermost agent with a name, else the service."""
    named = [each.record.agent for each in tree.lineage(node) if each.record.agent and each.record.agent.name]
    info = named[-1] if named else AgentInfo()
    record = node.record
    name = info.name or service_of(record) or "agent"
    return {"name": str(name), "version": str(info.version or record.service_version or "unknown")}


def child_head(name: str, node: Node) -> dict[str, Any]:
    """Return the header of a document beneath another, whose agent, or conversation, is called `name`."""
    record = node.record
    acting = [each.record.agent for each in tree.lineage(node) if each.record.agent is not None]
    own = next((agent.version for agent in acting if agent.version and agent.name in (name, None)), None)
    version = own or record.service_version or "unknown"
    head: dict[str, Any] = {
        "trajectory_id": identity(record, name),
        "agent": {"name": name, "version": str(version)},
    }
    agent_id = next((agent.id for agent in acting if agent.id and agent.name in (name, None)), None)
    if agent_id is not None:
        head["agent"]["extra"] = {"id": agent_id}
    place = steps.place_of(record)
    return {**head, "extra": place} if place != steps.place_of(tree.top(node).record) else head


def root_head(node: Node, trace: str, version: str) -> dict[str, Any]:
    """Return the header of a session's own document, which begins with `node`; `version` is what it says it is."""
    session, top = tree.resolve(node.session), tree.top(node)
    head: dict[str, Any] = {
        "schema_version": version,
        "session_id": session.id or trace,
        "trajectory_id": identity(top.record),
        "agent": agent_head(node),
        "extra": {**tree.about(node), "otel": {"trace_id": f"{node.record.trace_id:032x}"}},
    }
    if top.record.remote_parent and top.record.parent_id:
        head["extra"]["otel"]["remote_parent_span_id"] = f"{top.record.parent_id:016x}"
    return head


def identity(record: SpanRecord, name: str = "") -> str:
    """Return a document's id: the same for the same spans, whenever it is written."""
    return str(uuid5(_NAMESPACE, f"{record.trace_id:032x}{record.span_id:016x}{name}"))


def service_of(record: SpanRecord) -> str | None:
    """Return the name of what ran, where somebody gave it one."""
    name = record.service_name
    return None if not name or name.startswith("unknown_service") else name
