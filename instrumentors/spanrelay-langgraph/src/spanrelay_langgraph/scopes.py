"""The scopes of runs and nodes: what is current in the code of a graph, and what their spans start with.

Whatever starts a node's span is made once for its run where it is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.errors import GraphBubbleUp
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from spanrelay import semconv
from spanrelay._guard import failed
from spanrelay.pipeline.stream import is_cancellation
from spanrelay.records import SpanRecord
from spanrelay.scopes import Scope, inherit
from spanrelay.semconv.names import AttributeValue
from spanrelay.tracing import Start, Tracing, recording
from spanrelay_langgraph.marks import mark_signal

NODE = "langgraph.node"
STEP = "langgraph.step"
TRIGGERS = "langgraph.triggers"
INDEX = "langgraph.index"
"""Which of its like an execution is, where a `Send` or a call of the functional API asked for it."""
ATTEMPTS = "langgraph.attempts"

_PUSHED = "__pregel_push"
"""How the path of a task begins that a node asked for, and not the state of the graph."""

NOT_YET: Any = object()


class RunScope(Scope):
    """A run of a graph. `output` is the state that it left, once it has."""

    __slots__ = ("_of_nodes", "output")

    def __init__(self, record: SpanRecord, parent: Scope | None, name: str) -> None:
        super().__init__(record, parent, name)
        self.output: Any = NOT_YET
        self._of_nodes: Mapping[str, AttributeValue] | None = None

    @property
    def of_nodes(self) -> Mapping[str, AttributeValue]:
        """What the span of every node of this run starts with."""
        if self._of_nodes is None:
            self._of_nodes = _of_nodes(self)
        return self._of_nodes


def _of_nodes(scope: Scope | None) -> Mapping[str, AttributeValue]:
    return semconv.write_start(inherit(SpanRecord(0, 0, kind="chain"), scope), recording.dialect)


class NodeScope(Scope):
    """One execution of a node. `attempts` counts how often its code was begun."""

    __slots__ = ("_task", "attempts")

    def __init__(self, task: Any, parent: Scope | None) -> None:
        super().__init__(inherit(SpanRecord(0, 0, name=task.name, kind="chain"), parent), parent, task.name)
        self._task = task
        self.attempts = 1

    def open(self, tracing: Tracing, outer: Context, time: int | None = None) -> Context:
        """Start the span with what LangGraph knows of the node."""
        self._tracing = tracing
        above = self.parent
        attributes = above.of_nodes if isinstance(above, RunScope) else _of_nodes(above)
        if above is None or above.span is None or above.span.is_recording():
            try:
                attributes = {**attributes, **_facts(self._task)}
            except Exception as failure:
                failed("reading what a node is", failure)
        self._task = None
        self.span = tracing.begin(Start.of(self.name, SpanKind.INTERNAL, attributes), outer, time)
        return self.within(outer)

    def close(self, error: BaseException | None = None, time: int | None = None) -> None:
        """End the span; what LangGraph raises to steer the graph is a mark and no error."""
        if error is not None:
            error = self._failure(error)
        if self.attempts > 1 and self.span is not None:
            self.span.set_attribute(ATTEMPTS, self.attempts)
        super().close(error, time)

    def _failure(self, error: BaseException) -> BaseException | None:
        if isinstance(error, GraphBubbleUp):
            mark_signal(self, error)
            return None
        if is_cancellation(error):
            self.record.incomplete = "cancelled"
        return error


def _facts(task: Any) -> dict[str, Any]:
    # One text for the triggers: the SDK checks a list item by item, which costs more than all the rest here.
    facts: dict[str, Any] = {NODE: task.name, TRIGGERS: ", ".join(task.triggers)}
    step = task.config.get("metadata", {}).get("langgraph_step")
    if step is not None:
        facts[STEP] = step
    path = task.path
    if path[0] == _PUSHED:
        # A call of the functional API names the task that makes it first.
        facts[INDEX] = path[2] if isinstance(path[1], tuple) else path[1]
    return facts
