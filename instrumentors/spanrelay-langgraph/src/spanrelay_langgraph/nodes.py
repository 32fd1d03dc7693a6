"""The boundary of a node: one span for each execution of a node or a task of the functional API, retries included.

The node's scope is current in its code, on whatever thread or task LangGraph runs it, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.errors import GraphBubbleUp
from opentelemetry.context import Context, attach, detach, get_current

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import CANCELLATIONS
from spanrelay.records import SpanRecord
from spanrelay.scopes import Scope, current_scope, inherit
from spanrelay.tracing import Start, Tracing
from spanrelay_langgraph.marks import commands_in, mark_handoff, mark_retry, mark_signal

NODE = "langgraph.node"
STEP = "langgraph.step"
TRIGGERS = "langgraph.triggers"
INDEX = "langgraph.index"
"""Which of its like an execution is, where a `Send` or a call of the functional API asked for it."""
ATTEMPTS = "langgraph.attempts"

_HIDDEN = "langsmith:hidden"
"""LangGraph's tag for nodes that are its own."""
_PUSHED = "__pregel_push"
"""How the path of a task begins that a node asked for, and not the state of the graph."""


class NodeScope(Scope):
    """One execution of a node. `attempts` counts how often its code was begun."""

    __slots__ = ("attempts", "facts")

    def __init__(self, task: Any, parent: Scope | None) -> None:
        record = inherit(SpanRecord(0, 0, name=task.name, kind="chain"), parent)
        super().__init__(record, parent, task.name)
        self.attempts = 1
        self.facts: Mapping[str, Any] = {}
        with guarded("reading what a node is"):
            self.facts = _facts(task)

    def open(self, tracing: Tracing, outer: Context, time: int | None = None) -> Context:
        """Start the span with what LangGraph knows of the node."""
        self._tracing = tracing
        start = Start(self.record)
        start.attributes = {**start.attributes, **self.facts}
        self.span = tracing.begin(start, outer, time)
        return self.within(outer)

    def close(self, error: BaseException | None = None, time: int | None = None) -> None:
        """End the span; what LangGraph raises to steer the graph is a mark and no error."""
        if isinstance(error, GraphBubbleUp):
            mark_signal(self, error)
            error = None
        elif isinstance(error, CANCELLATIONS):
            self.record.incomplete = "cancelled"
        if self.attempts > 1 and self.span is not None:
            self.span.set_attribute(ATTEMPTS, self.attempts)
        super().close(error, time)


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


class Nodes:
    """Wraps the runner of nodes; `tracing` opens their spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def run(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Run a node."""
        if _is_hidden(args[0]):
            return wrapped(*args, **kwargs)
        outer = get_current()
        node = NodeScope(args[0], current_scope(outer))
        token = attach(node.open(self._tracing, outer))
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            node.close(error)
            raise
        finally:
            detach(token)
        node.close()
        return result

    async def arun(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Run a node as `run` does, awaiting it."""
        if _is_hidden(args[0]):
            return await wrapped(*args, **kwargs)
        outer = get_current()
        node = NodeScope(args[0], current_scope(outer))
        token = attach(node.open(self._tracing, outer))
        try:
            result = await wrapped(*args, **kwargs)
        except BaseException as error:
            node.close(error)
            raise
        finally:
            detach(token)
        node.close()
        return result


def _is_hidden(task: Any) -> bool:
    return _HIDDEN in task.config.get("tags", ())


def _judged(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """LangGraph asks a policy of retries whether what a node raised is worth another attempt."""
    retries = wrapped(*args, **kwargs)
    node = current_scope()
    if retries and isinstance(node, NodeScope):
        with guarded("marking a retry"):
            policy, error = args
            if node.attempts < policy.max_attempts:
                node.attempts += 1
                mark_retry(node, node.attempts, error)
    return retries


def _branched(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """LangGraph looks for commands in what a node gave."""
    targets = wrapped(*args, **kwargs)
    if targets:
        node = current_scope()
        if isinstance(node, NodeScope):
            with guarded("marking a handoff"):
                for command in commands_in(args[0]):
                    mark_handoff(node, command)
    return targets


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The runner of nodes where it is called, and where LangGraph decides on retries and commands."""
    nodes = Nodes(tracing)
    return (
        Patch("langgraph.pregel._runner", "run_with_retry", nodes.run),
        Patch("langgraph.pregel._runner", "arun_with_retry", nodes.arun),
        Patch("langgraph.pregel._retry", "_should_retry_on", _judged, required=False),
        Patch("langgraph.graph.state", "_control_branch", _branched, required=False),
    )
