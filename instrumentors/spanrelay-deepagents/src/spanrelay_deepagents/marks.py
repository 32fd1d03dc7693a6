"""Marks on the span of an agent: the skills that it has, what people are asked to decide, and what they decided.

Names of tools and skills and kinds of decisions are marked; arguments and what people wrote are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langgraph.errors import GraphInterrupt

from spanrelay import current_scope
from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.scopes import Scope

SKILLS = "deepagents.skills"
INTERRUPT = "human_in_the_loop.interrupt"
RESUME = "human_in_the_loop.resume"

SKILL_NAMES = "deepagents.skills.names"
SKILL_ERRORS = "deepagents.skills.errors"
TOOLS = "human_in_the_loop.tools"
DECISIONS = "human_in_the_loop.decisions"


def patches() -> tuple[Patch, ...]:
    """Where an agent finds its skills, in both colours, and where LangChain's middleware asks people."""
    skills = "deepagents.middleware.skills"
    return (
        Patch(skills, "SkillsMiddleware.before_agent", _found, required=False),
        Patch(skills, "SkillsMiddleware.abefore_agent", _afound, required=False),
        Patch("langchain.agents.middleware.human_in_the_loop", "interrupt", _asked, required=False),
    )


def _found(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    update = wrapped(*args, **kwargs)
    _mark_skills(update)
    return update


async def _afound(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    update = await wrapped(*args, **kwargs)
    _mark_skills(update)
    return update


def _mark_skills(update: Any) -> None:
    """Mark what was found; nothing is looked for where an earlier run of the thread has."""
    with guarded("marking skills"):
        scope = _agent()
        if scope is not None and update:
            attributes: dict[str, Any] = {SKILL_NAMES: [skill["name"] for skill in update["skills_metadata"]]}
            if update.get("skills_load_errors"):
                attributes[SKILL_ERRORS] = len(update["skills_load_errors"])
            scope.mark(SKILLS, attributes)


def _asked(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    try:
        answer = wrapped(*args, **kwargs)
    except GraphInterrupt:
        _mark(INTERRUPT, TOOLS, args[0] if args else kwargs.get("value"), "action_requests", "name")
        raise
    _mark(RESUME, DECISIONS, answer, "decisions", "type")
    return answer


def _mark(name: str, attribute: str, told: Any, items: str, key: str) -> None:
    with guarded("marking what people decide"):
        scope = _agent()
        if scope is not None:
            found = cast("Mapping[str, Any]", told).get(items, ()) if isinstance(told, Mapping) else ()
            scope.mark(name, {attribute: [str(item.get(key)) for item in found]})


def _agent() -> Scope | None:
    """Return the scope of the agent whose node is at work."""
    scope = current_scope()
    while scope is not None and scope.record.kind != "agent":
        scope = scope.parent
    return scope
