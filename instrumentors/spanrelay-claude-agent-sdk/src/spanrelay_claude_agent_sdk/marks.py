"""What happens to a run and is no error: permissions that were asked for, interrupts, and what the CLI forgot.

A mark says that something happened and to whom; arguments of tools are message content and stand elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay._guard import guarded
from spanrelay.scopes import Scope

PERMISSION = "claude_agent_sdk.permission"
INTERRUPT = "claude_agent_sdk.interrupt"
COMPACTION = "claude_agent_sdk.compaction"

TOOL = "claude_agent_sdk.permission.tool"
CALL = "claude_agent_sdk.permission.call_id"
DECISION = "claude_agent_sdk.permission.decision"
TRIGGER = "claude_agent_sdk.compaction.trigger"
TOKENS = "claude_agent_sdk.compaction.tokens"


def mark_permission(scope: Scope | None, tool: str, call_id: str | None, decision: str) -> None:
    """Say on the agent's span what the application answered when it was asked for permission."""
    if scope is not None:
        with guarded("marking a permission"):
            known = {TOOL: tool, DECISION: decision}
            scope.mark(PERMISSION, known if call_id is None else {**known, CALL: call_id})


def mark_interrupt(scope: Scope | None) -> None:
    """Say on the agent's span that the application interrupted it."""
    if scope is not None:
        with guarded("marking an interrupt"):
            scope.mark(INTERRUPT)


def mark_compaction(scope: Scope | None, said: Any) -> None:
    """Say on the agent's span that the CLI put a summary in place of the conversation."""
    if scope is not None and isinstance(said, Mapping):
        with guarded("marking a compaction"):
            known = {TRIGGER: said.get("trigger"), TOKENS: said.get("pre_tokens")}
            scope.mark(COMPACTION, {name: value for name, value in known.items() if value is not None})
