"""What stands around tinyloop's methods: a scope around a run, the pipeline around a tool."""

from __future__ import annotations

from functools import partial
from typing import Any

import spanrelay
from spanrelay.instrumentation.patching import Patch
from spanrelay.tracing import Tracing


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The patch table: policy must not miss a tool, and a run that is not recorded refuses nothing."""
    return (
        Patch("tinyloop", "Agent.run", _run, required=False),
        Patch("tinyloop", "Tool.call", partial(_call, tracing)),
    )


def _run(wrapped: Any, agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Open a scope: what happens inside is beneath it, and a conversation is a session."""
    thread = kwargs.get("thread", args[1] if len(args) > 1 else None)
    with spanrelay.scope(agent.name, "agent", session=thread):
        return wrapped(*args, **kwargs)


def _call(tracing: Tracing, wrapped: Any, tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a tool under policy: what it refuses does not run, and what it rewrites runs rewritten."""
    call_id, arguments = _given(*args, **kwargs)

    def run(**left: Any) -> Any:
        return wrapped(call_id, left)

    return spanrelay.run_tool(tool.name, run, arguments, call_id=call_id, description=tool.description, tracing=tracing)


def _given(call_id: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return call_id, arguments
