"""A mark on the span of an agent that has found its skills: their names, and how many folders could not be read."""

from __future__ import annotations

from typing import Any

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.scopes import nearest_scope

MARK = "deepagents.skills"
NAMES = "deepagents.skills.names"
ERRORS = "deepagents.skills.errors"


def patches() -> tuple[Patch, ...]:
    """Where an agent finds its skills, in both colours."""
    skills = "deepagents.middleware.skills"
    return (
        Patch(skills, "SkillsMiddleware.before_agent", _found, required=False),
        Patch(skills, "SkillsMiddleware.abefore_agent", _afound, required=False),
    )


def _found(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    update = wrapped(*args, **kwargs)
    _mark(update)
    return update


async def _afound(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    update = await wrapped(*args, **kwargs)
    _mark(update)
    return update


def _mark(update: Any) -> None:
    """Mark what was found; nothing is looked for where an earlier run of the thread has."""
    with guarded("marking skills"):
        scope = nearest_scope("agent")
        if scope is not None and update:
            attributes: dict[str, Any] = {NAMES: [skill["name"] for skill in update["skills_metadata"]]}
            if update.get("skills_load_errors"):
                attributes[ERRORS] = len(update["skills_load_errors"])
            scope.mark(MARK, attributes)
