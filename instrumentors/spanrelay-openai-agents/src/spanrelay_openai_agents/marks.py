"""What happens to a run and is no error: handoffs, approvals that it waits for, and its resumption.

A mark says that something happened and to whom; arguments of tools are message content and stand elsewhere.
"""

from __future__ import annotations

from typing import Any

from spanrelay._guard import guarded
from spanrelay.scopes import Scope

HANDOFF = "openai_agents.handoff"
INTERRUPT = "openai_agents.interrupt"
RESUME = "openai_agents.resume"

FROM_AGENT = "openai_agents.handoff.from"
TO_AGENT = "openai_agents.handoff.to"
HANDOFF_CALL = "openai_agents.handoff.call_id"
TOOLS = "openai_agents.approval.tools"
CALLS = "openai_agents.approval.call_ids"
APPROVED = "openai_agents.approval.approved"


def mark_handoff(scope: Scope, source: Any, target: Any, call_id: str | None) -> None:
    """Say on `scope` that the conversation goes on with another agent."""
    with guarded("marking a handoff"):
        attributes = {FROM_AGENT: source.name, TO_AGENT: target.name}
        scope.mark(HANDOFF, attributes if call_id is None else {**attributes, HANDOFF_CALL: call_id})


def mark_interrupt(scope: Scope, result: Any) -> None:
    """Say on `scope` which calls of tools the run waits for, if it does."""
    with guarded("marking an interrupt"):
        waiting: list[Any] = list(getattr(result, "interruptions", None) or ())
        if waiting:
            scope.mark(INTERRUPT, {TOOLS: [_tool(item) for item in waiting], CALLS: [_call(item) for item in waiting]})


def mark_resume(scope: Scope, state: Any) -> None:
    """Say on `scope` that its run goes on where an earlier one waited, and which calls were approved."""
    with guarded("marking a resume"):
        waiting: list[Any] = list(state.get_interruptions())
        approved = [bool(state._context.is_tool_approved(_tool(item), _call(item))) for item in waiting]
        calls = [_call(item) for item in waiting]
        scope.mark(RESUME, {TOOLS: [_tool(item) for item in waiting], CALLS: calls, APPROVED: approved})


def _tool(item: Any) -> str:
    return str(item.name or "")


def _call(item: Any) -> str:
    return str(item.call_id or "")
