"""Marks on the span of an agent that waits for people: which tools they are to decide about, and what they decided.

Names of tools and kinds of decisions are marked; arguments and what people wrote are not. Which calls people or
LangChain answer in the place of a tool is noted for policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.answered import note_answered
from spanrelay.scopes import nearest_scope

INTERRUPT = "human_in_the_loop.interrupt"
RESUME = "human_in_the_loop.resume"

TOOLS = "human_in_the_loop.tools"
DECISIONS = "human_in_the_loop.decisions"


def patches() -> tuple[Patch, ...]:
    """Where `HumanInTheLoopMiddleware` asks people, and where they or LangChain answer in place of a tool."""
    module, classic = "langchain.agents.middleware.human_in_the_loop", "langchain_classic.agents.agent"
    return (
        Patch(module, "interrupt", _asked, required=False),
        Patch(module, "_answer_message", _answered, required=False, newer=True),
        Patch(
            "langchain.agents.middleware.tool_call_limit",
            "ToolCallLimitMiddleware.after_model",
            _limited,
            required=False,
        ),
        Patch(
            "langchain.agents.middleware.todo", "TodoListMiddleware.after_model", _limited, required=False, newer=True
        ),
        Patch(classic, "AgentExecutor._perform_agent_action", _performed, required=False),
        Patch(classic, "AgentExecutor._aperform_agent_action", _aperformed, required=False),
    )


def _limited(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """LangChain answers calls that it lets nobody execute; the method of the other colour asks this one."""
    update = wrapped(*args, **kwargs)
    with guarded("noting which calls LangChain has answered"):
        for message in (update or {}).get("messages", ()):
            note_answered(getattr(message, "tool_call_id", None), getattr(message, "name", None))
    return update


def _performed(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """An agent of the classic kind runs a tool, which is judged there, or says that there is none of that name."""
    step = wrapped(*args, **kwargs)
    _note(step)
    return step


async def _aperformed(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    step = await wrapped(*args, **kwargs)
    _note(step)
    return step


def _note(step: Any) -> None:
    with guarded("noting which call an agent has answered"):
        note_answered(getattr(step.action, "tool_call_id", None), step.action.tool)


def _answered(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    message = wrapped(*args, **kwargs)
    with guarded("noting which call people have answered"):
        note_answered(message.tool_call_id, message.name)
    return message


def _asked(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    from langgraph.errors import GraphInterrupt

    try:
        answer = wrapped(*args, **kwargs)
    except GraphInterrupt:
        _mark(INTERRUPT, TOOLS, args[0] if args else kwargs.get("value"), "action_requests", "name")
        raise
    _mark(RESUME, DECISIONS, answer, "decisions", "type")
    return answer


def _mark(name: str, attribute: str, told: Any, items: str, key: str) -> None:
    """Mark the agent whose node is at work."""
    with guarded("marking what people decide"):
        scope = nearest_scope("agent")
        if scope is not None:
            found = cast("Mapping[str, Any]", told).get(items, ()) if isinstance(told, Mapping) else ()
            scope.mark(name, {attribute: [str(item.get(key)) for item in found]})
