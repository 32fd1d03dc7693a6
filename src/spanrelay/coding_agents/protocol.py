"""The JSON of hooks as Claude Code has it; all agents here speak it, some with a few words of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay import _json
from spanrelay.codecs.narrowing import as_mapping, as_str
from spanrelay.coding_agents.judging import Verdict
from spanrelay.coding_agents.launching import HookEvent


def event_of(
    hook: Mapping[str, Any], *, before: str = "PreToolUse", ends: str = "Stop", call_id: str = "tool_use_id"
) -> HookEvent:
    """Return what a hook tells.

    Args:
        hook: Its JSON.
        before: The event before a tool.
        ends: The event at the end of a turn.
        call_id: The member that identifies a call of a tool.
    """
    name = as_str(hook.get("hook_event_name")) or ""
    paths = (as_str(hook.get("transcript_path")), as_str(hook.get("agent_transcript_path")))
    return HookEvent(
        name,
        as_str(hook.get("session_id")),
        tool=as_str(hook.get("tool_name")) if name == before else None,
        arguments=dict(as_mapping(hook.get("tool_input"))),
        call_id=as_str(hook.get(call_id)),
        paths=tuple(filter(None, paths)),
        ends=name == ends,
        database=as_str(hook.get("database")),
    )


def said(event: HookEvent, **output: Any) -> bytes:
    """Return what a hook prints that says something of its event."""
    return _json.dumps({"hookSpecificOutput": {"hookEventName": event.name, **output}})


def denied(event: HookEvent, reason: str) -> bytes:
    """Return what a hook prints that keeps a tool from running, with a reason for the model."""
    return said(event, permissionDecision="deny", permissionDecisionReason=reason)


def decided(event: HookEvent, verdict: Verdict) -> bytes:
    """Return what a hook prints once policy has judged its tool: nothing where that may run as it is."""
    if verdict.refusal is not None:
        return denied(event, verdict.refusal)
    # With a decision to allow, the user would not be asked either.
    return b"" if verdict.arguments is None else said(event, updatedInput=verdict.arguments)
