"""What happens to a run and is no error: calls of tools that it waits for, and its resumption.

A mark says that something happened and to which call; arguments of tools are message content and stand elsewhere.
"""

from __future__ import annotations

from typing import Any

from spanrelay._guard import guarded
from spanrelay.scopes import Scope

INTERRUPT = "pydantic_ai.interrupt"
RESUME = "pydantic_ai.resume"

TOOLS = "pydantic_ai.deferred.tools"
CALLS = "pydantic_ai.deferred.call_ids"
KINDS = "pydantic_ai.deferred.kinds"
APPROVED = "pydantic_ai.deferred.approved"


def mark_interrupt(scope: Scope, requests: Any) -> None:
    """Say on `scope` which calls of tools its run waits for: to be approved, answered, or made elsewhere."""
    with guarded("marking an interrupt"):
        calls: list[Any] = [*requests.approvals, *requests.calls]
        ids = [call.tool_call_id for call in calls]
        kinds = [requests.kind(each) for each in ids]
        scope.mark(INTERRUPT, {TOOLS: [call.tool_name for call in calls], CALLS: ids, KINDS: kinds})


def mark_resume(scope: Scope, results: Any) -> None:
    """Say on `scope` that its run goes on where an earlier one waited, and which calls were approved."""
    with guarded("marking a resume"):
        approvals: dict[str, Any] = results.approvals
        approved = [_is_approved(answer) for answer in approvals.values()]
        scope.mark(RESUME, {CALLS: [*approvals, *results.calls], APPROVED: [*approved, *(True for _ in results.calls)]})


def _is_approved(answer: Any) -> bool:
    from pydantic_ai.tools import ToolApproved

    return answer is True or isinstance(answer, ToolApproved)
