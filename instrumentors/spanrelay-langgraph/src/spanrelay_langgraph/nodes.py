"""The boundary of a node: one span for each execution of a node or a task of the functional API, retries included.

The node's scope is current in its code, on whatever thread or task LangGraph runs it, and nowhere else.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import attach, detach

from spanrelay._guard import failed, guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.answered import note_answered
from spanrelay.scopes import current_scope, place_now
from spanrelay.tracing import Tracing, attach_within, detach_within
from spanrelay_langgraph.marks import commands_in, mark_handoff, mark_retry
from spanrelay_langgraph.scopes import NodeScope

_HIDDEN = "langsmith:hidden"
"""LangGraph's tag for nodes that are its own."""


class Nodes:
    """Wraps the runner of nodes; `tracing` opens their spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def run(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Run a node."""
        if _is_hidden(args[0]):
            return wrapped(*args, **kwargs)
        outer = place_now()
        node = NodeScope(args[0], current_scope(outer))
        token = attach_within(node.open(self._tracing, outer))
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            node.close(error)
            raise
        finally:
            detach_within(token)
        node.close()
        return result

    async def arun(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Run a node as `run` does, awaiting it."""
        if _is_hidden(args[0]):
            return await wrapped(*args, **kwargs)
        outer = place_now()
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


def _ran_one(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """A node of tools executes them where policy judges that, or answers in their place: that there is no such tool."""
    answer = wrapped(*args, **kwargs)
    _note(args, kwargs)
    return answer


async def _aran_one(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    answer = await wrapped(*args, **kwargs)
    _note(args, kwargs)
    return answer


def _note(args: Any, kwargs: Any) -> None:
    try:
        call = args[0] if args else kwargs["call"]
        note_answered(call.get("id"), call.get("name"))
    except Exception as error:
        failed("noting which call a node of tools has answered", error)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The runner of nodes where it is called, and where LangGraph decides on retries and commands."""
    nodes = Nodes(tracing)
    return (
        Patch("langgraph.pregel._runner", "run_with_retry", nodes.run),
        Patch("langgraph.pregel._runner", "arun_with_retry", nodes.arun),
        Patch("langgraph.pregel._retry", "_should_retry_on", _judged, required=False),
        Patch("langgraph.graph.state", "_control_branch", _branched, required=False),
        Patch("langgraph.prebuilt.tool_node", "ToolNode._run_one", _ran_one, required=False),
        Patch("langgraph.prebuilt.tool_node", "ToolNode._arun_one", _aran_one, required=False),
    )
