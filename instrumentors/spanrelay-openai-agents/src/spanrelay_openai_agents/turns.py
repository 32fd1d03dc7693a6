"""The turns of a run, each in the scope of the agent whose turn it is, and the handoffs between them.

A turn changes nothing of a run: it says which agent acts.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import attach, detach

from spanrelay.instrumentation.patching import Patch
from spanrelay.scopes import current_scope
from spanrelay_openai_agents.marks import mark_handoff
from spanrelay_openai_agents.runs import current_run


async def _turn(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Run one turn, or what is left of one that waited for approval."""
    run = current_run()
    # The SDK passes them by name, but to a streamed turn.
    bindings = kwargs.get("bindings") or next((each for each in args if hasattr(each, "public_agent")), None)
    if run is None or bindings is None:
        return await wrapped(*args, **kwargs)
    token = attach(run.within(bindings.public_agent))
    try:
        return await wrapped(*args, **kwargs)
    finally:
        detach(token)


async def _hand_over(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Let another agent take over."""
    step = await wrapped(*args, **kwargs)
    scope, target = current_scope(), getattr(step.next_step, "new_agent", None)
    if scope is not None and target is not None:
        call = kwargs["run_handoffs"][0].tool_call
        mark_handoff(scope, kwargs["public_agent"], target, getattr(call, "call_id", None))
    return step


def patches() -> tuple[Patch, ...]:
    """The turns where each way of a run calls them, and what executes handoffs."""
    loop = "agents.run_internal.run_loop"
    return (
        Patch("agents.run", "run_single_turn", _turn, required=False),
        Patch("agents.run", "resolve_interrupted_turn", _turn, required=False),
        Patch(loop, "run_single_turn_streamed", _turn, required=False),
        Patch(loop, "resolve_interrupted_turn", _turn, required=False),
        Patch("agents.run_internal.turn_resolution", "execute_handoffs", _hand_over, required=False),
    )
