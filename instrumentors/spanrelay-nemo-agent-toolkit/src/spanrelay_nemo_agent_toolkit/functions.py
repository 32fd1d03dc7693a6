"""The boundary of a function: agents are AGENT scopes, all others tools under policy, whoever calls them.

A function that a framework runs as its tool has its span and its policy there already, and the entry of a workflow
is the run itself.
"""

from __future__ import annotations

import sys
from typing import Any

from opentelemetry.context import get_current

from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import call_in_flight
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.function import FunctionCall, ToolExecution
from spanrelay.records import ToolRequest
from spanrelay.tracing import Tracing
from spanrelay_nemo_agent_toolkit.agents import CallBoundary, Run, StreamBoundary, agent_scope, passed
from spanrelay_nemo_agent_toolkit.runs import name_of


def _is_recorded(function: Any) -> bool:
    """Whether the call in flight is this very call of `function`."""
    above = call_in_flight()
    if isinstance(above, Run):
        awaited, above.awaits = above.awaits, None
        return awaited is function
    # An agent that is a tool is an agent below the tool.
    tool = None if above is None or above.kind != "tool" or _is_agent(function) else above.record.tool
    return tool is not None and tool.name in (function.instance_name, function.display_name)


def _is_agent(function: Any) -> bool:
    """Whether a function is configured as an agent."""
    agents = sys.modules.get("nat.data_models.agent")
    return agents is not None and isinstance(function.config, agents.AgentBaseConfig)


class Functions:
    """Wraps the two ways of calling a function; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def invoke(self, wrapped: Any, function: Any, args: Any, kwargs: Any) -> Any:
        """Call a function for its result."""
        if _is_recorded(function):
            return await wrapped(*args, **kwargs)
        return await arun(self._call(CallBoundary, wrapped, function, *args, **kwargs))

    def stream(self, wrapped: Any, function: Any, args: Any, kwargs: Any) -> Any:
        """Call a function for a stream."""
        if _is_recorded(function):
            return wrapped(*args, **kwargs)
        return passed(lambda: self._call(StreamBoundary, wrapped, function, *args, **kwargs), get_current())

    def _call(
        self, kind: type[CallBoundary], wrapped: Any, function: Any, value: Any, to_type: Any = None
    ) -> FunctionCall:
        def answer(body: Any) -> Any:
            return body if to_type is None or isinstance(body, to_type) else function.convert(body, to_type)

        boundary = kind(lambda given: wrapped(given, to_type), answer)
        name, about = name_of(function), function.description
        if _is_agent(function):
            return Run(agent_scope(name, about), value, boundary, self._tracing)
        return ToolExecution(ToolRequest(name, value, None, about), boundary, self._tracing)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The two ways of calling a function; the toolkit's own middleware stands within."""
    functions = Functions(tracing)
    return (
        Patch("nat.builder.function", "Function.ainvoke", functions.invoke),
        Patch("nat.builder.function", "Function.astream", functions.stream),
    )
