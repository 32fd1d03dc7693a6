"""What the toolkit says of a run that nobody else records: the application's own steps, and questions to people.

Steps of models, tools and functions are spans already; nothing of a step's data, which is content, goes into a mark.
"""

from __future__ import annotations

from typing import Any

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.scopes import mark

INTERRUPT = "nat.interrupt"
RESUME = "nat.resume"
STEP_NAME = "nat.step.name"
STEP_ID = "nat.step.id"
INPUT_TYPE = "nat.interrupt.input_type"

_ADOPTED = ("CUSTOM_", "TASK_", "TTC_")
"""Steps by the beginning of their type: the application's own, its tasks, and test-time compute."""


def _push(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Note a step."""
    result = wrapped(*args, **kwargs)
    with guarded("marking a step"):
        payload = args[0] if args else kwargs["payload"]
        kind = str(payload.event_type)
        if kind.startswith(_ADOPTED):
            mark(f"nat.{kind.lower()}", {STEP_NAME: payload.name or "", STEP_ID: payload.UUID})
    return result


async def _ask(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Wait for what a person says."""
    with guarded("marking a question"):
        asked = args[0] if args else kwargs["content"]
        mark(INTERRUPT, {INPUT_TYPE: str(asked.input_type)})
    answer = await wrapped(*args, **kwargs)
    with guarded("marking an answer"):
        mark(RESUME)
    return answer


def patches() -> tuple[Patch, ...]:
    """The toolkit's stream of steps, and its questions to people."""
    manager = "nat.builder.intermediate_step_manager"
    return (
        Patch(manager, "IntermediateStepManager.push_intermediate_step", _push, required=False),
        Patch("nat.builder.user_interaction_manager", "UserInteractionManager.prompt_user_input", _ask, required=False),
    )
