"""What happens to a run or a node and is no error: interrupts, resumes, handoffs, retries.

A mark says that something happened and to whom; the values that people exchange are message content.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand
from langgraph.types import Command, Interrupt, Send

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.scopes import Scope
from spanrelay.semconv import names
from spanrelay.tracing import recording

INTERRUPT = "langgraph.interrupt"
RESUME = "langgraph.resume"
HANDOFF = "langgraph.handoff"
RETRY = "langgraph.retry"
DRAIN = "langgraph.drain"

INTERRUPT_IDS = "langgraph.interrupt.ids"
INTERRUPT_VALUES = "langgraph.interrupt.values"
RESUME_VALUE = "langgraph.resume.value"
GOTO = "langgraph.goto"
GOTO_GRAPH = "langgraph.goto.graph"
ATTEMPT = "langgraph.attempt"
REASON = "langgraph.reason"


def mark_signal(scope: Scope, signal: GraphBubbleUp) -> None:
    """Say on `scope` what LangGraph raised to steer a graph."""
    with guarded("marking what steers a graph"):
        if isinstance(signal, GraphInterrupt):
            mark_interrupts(scope, signal.args[0] if signal.args else ())
        elif isinstance(signal, ParentCommand):
            mark_handoff(scope, signal.args[0])
        else:
            scope.mark(DRAIN, {REASON: str(signal)})


def mark_interrupts(scope: Scope, interrupts: Iterable[Interrupt[Any]]) -> None:
    """Say on `scope` that the graph waits for somebody; nobody is asked where it stops before or after a node."""
    asked = list(interrupts)
    attributes: dict[str, Any] = {INTERRUPT_IDS: [one.id for one in asked]}
    if recording.content and asked:
        attributes[INTERRUPT_VALUES] = _json.dumps_text([one.value for one in asked])
    scope.mark(INTERRUPT, attributes)


def mark_resume(scope: Scope, given: Any) -> None:
    """Say on `scope` that its run goes on where an earlier one was interrupted, if `given` says so."""
    if not isinstance(given, Command) or given.resume is None:
        return
    with guarded("marking a resume"):
        scope.mark(RESUME, {RESUME_VALUE: _json.dumps_text(given.resume)} if recording.content else {})


def mark_handoff(scope: Scope, command: Command[Any]) -> None:
    """Say on `scope` where a command sends the graph, if it does."""
    goto: Any = command.goto
    targets = [goto] if isinstance(goto, (str, Send)) else list(goto)
    if targets:
        attributes: dict[str, Any] = {GOTO: [one.node if isinstance(one, Send) else str(one) for one in targets]}
        if command.graph is not None:
            # LangGraph has put the namespace of a task for "the graph above": names of nodes, each with an id.
            attributes[GOTO_GRAPH] = command.graph.rpartition("|")[2].partition(":")[0]
        scope.mark(HANDOFF, attributes)


def mark_retry(scope: Scope, attempt: int, error: BaseException) -> None:
    """Say on `scope` that its node is about to run for the `attempt`th time, because of `error`."""
    scope.mark(RETRY, {ATTEMPT: attempt, names.ERROR_TYPE: type(error).__qualname__})


def commands_in(value: Any) -> list[Command[Any]]:
    """Return the commands that a node gave."""
    if isinstance(value, Command):
        return [cast("Command[Any]", value)]
    if isinstance(value, (list, tuple)):
        return [one for one in cast("list[Any]", value) if isinstance(one, Command)]
    return []
