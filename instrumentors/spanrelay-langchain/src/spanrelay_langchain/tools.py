"""Tools: each run is one TOOL span under policy, whoever runs it: an agent, a chain or the application.

What LangChain injects (state, store, runtime) is no argument of the model's: it is neither recorded nor shown to
policy, and reaches the tool as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from spanrelay import _json
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import Response
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.function import ToolExecution
from spanrelay.records import JSON, ToolRequest
from spanrelay.tracing import Tracing

if TYPE_CHECKING:
    from langchain_core.messages import ToolMessage


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both colours of running a tool; `invoke`, agents and tool nodes all run through them."""
    tools = Tools(tracing)
    return (
        Patch("langchain_core.tools.base", "BaseTool.run", tools.run),
        Patch("langchain_core.tools.base", "BaseTool.arun", tools.arun),
    )


class Tools:
    """The wrappers around `BaseTool`."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def run(self, wrapped: Any, tool: Any, args: Any, kwargs: Any) -> Any:
        """Run a tool."""
        return run(self._call(ToolBoundary(wrapped, tool, args, kwargs)))

    async def arun(self, wrapped: Any, tool: Any, args: Any, kwargs: Any) -> Any:
        """Run a tool and await it."""
        return await arun(self._call(AsyncToolBoundary(wrapped, tool, args, kwargs)))

    def _call(self, boundary: ToolBoundary) -> ToolRun:
        tool = boundary.tool
        request = ToolRequest(tool.name, boundary.shown, boundary.call_id, tool.description)
        return ToolRun(request, boundary, self._tracing)


class ToolRun(ToolExecution):
    """One run of a tool. What it gave is the content that a model is shown, not LangChain's object around it."""

    __slots__ = ()

    def gave(self, value: object) -> None:
        """Keep the content of what the tool gave."""
        message = message_in(value, cast("ToolBoundary", self.boundary).call_id)
        if message is not None and message.status == "error":
            self._is_error = True
        super().gave(_content_of(value, message))

    def decode_answer(self, response: Response) -> Any:
        """Return what policy sees of the answer."""
        record = super().decode_answer(response)
        record.is_error = self._is_error
        return record

    def _given_back(self, response: Response) -> JSON:
        message = message_in(response.native, cast("ToolBoundary", self.boundary).call_id)
        return _json.loads(_json.dumps(_content_of(response.native, message)))

    def fail(self, error: BaseException) -> None:
        """End the span; what steers a graph is no failure of the tool through which it is raised."""
        if steers_a_graph(error):
            self.finish()
        else:
            super().fail(error)


def message_in(value: Any, call_id: str | None) -> ToolMessage | None:
    """Return the message that answers the call: the value itself, or the one among those of a command."""
    from langchain_core.messages import ToolMessage  # not sooner: this is loaded while LangChain is being imported

    if isinstance(value, ToolMessage):
        return value
    update = getattr(value, "update", None)
    found = cast("Mapping[str, Any]", update).get("messages") if isinstance(update, Mapping) else None
    for message in cast("list[Any]", found) if isinstance(found, list) else ():
        if isinstance(message, ToolMessage) and message.tool_call_id == call_id:
            return message
    return None


def _content_of(value: Any, message: ToolMessage | None) -> Any:
    if message is not None:
        return message.content
    goto = getattr(value, "goto", None)
    # A command carries the state of a graph, which is no answer.
    return {"goto": goto} if goto is not None and hasattr(value, "update") else value


_hidden: dict[tuple[Any, ...], frozenset[str]] = {}
"""Which of some arguments LangChain injects, by what a tool is made of: to find out costs as much as a span."""


def _shown(tool: Any, given: Any) -> Any:
    """Return the arguments that come from the model, of what a tool is given."""
    if not isinstance(given, dict):
        return given
    arguments = cast("dict[str, Any]", given)
    schema = tool.args_schema
    made_of = (getattr(tool, "func", None), getattr(tool, "coroutine", None))
    key = (type(tool), schema if isinstance(schema, type) else None, *made_of, *arguments)
    try:
        hidden = _hidden.get(key)
    except TypeError:  # a callable object need not be hashable
        return tool._filter_injected_args(arguments)
    if hidden is None:
        if len(_hidden) > 1000:
            _hidden.clear()
        hidden = _hidden[key] = frozenset(arguments.keys() - tool._filter_injected_args(arguments).keys())
    return {name: value for name, value in arguments.items() if name not in hidden} if hidden else arguments


class ToolBoundary:
    """The way of one run through `BaseTool.run`.

    Args:
        wrapped: The method, bound to `tool`.
        tool: The tool.
        args: What it was called with; the first is the tool's input.
        kwargs: The same by name.
    """

    __slots__ = ("_args", "_input", "_kwargs", "_last", "call_id", "shown", "tool", "wrapped")

    def __init__(self, wrapped: Any, tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.wrapped = wrapped
        self.tool = tool
        self._kwargs = kwargs
        self._args = args[1:]
        given = args[0] if args else kwargs.get("tool_input")
        # A copy: what is judged is what runs, whatever becomes of the application's own meanwhile.
        self._input = dict(cast("dict[str, Any]", given)) if type(given) is dict else given
        if not args:
            self._kwargs = {key: value for key, value in kwargs.items() if key != "tool_input"}
        self.call_id: str | None = kwargs.get("tool_call_id")
        self.shown = _shown(tool, self._input)
        self._last: Any = None

    @property
    def text_argument(self) -> str | None:
        """Which argument of the tool a text is for that is its whole input; None where LangChain knows of none."""
        schema = self.tool.args_schema
        fields = getattr(schema, "model_fields", None) or getattr(schema, "__fields__", None)
        return next(iter(fields), None) if fields else None

    def _run(self, call: ToolRun) -> Any:
        shown = call.outgoing()
        call.begin(shown)
        return self.wrapped(
            self._input if shown is self.shown else self._with_injected(shown), *self._args, **self._kwargs
        )

    def _with_injected(self, shown: Any) -> Any:
        if not isinstance(self._input, dict) or not isinstance(shown, dict):
            return shown
        given = cast("dict[str, Any]", self._input)
        injected = {key: value for key, value in given.items() if key not in cast("dict[str, Any]", self.shown)}
        return {**cast("dict[str, Any]", shown), **injected}

    def send(self, call: ToolRun) -> Any:
        """Run the tool with what policy left of its arguments."""
        result = self._last = self._run(call)
        call.gave(result)
        return result

    def answer(self, call: ToolRun, body: Any) -> Any:
        """An answer of policy is the message that LangChain would have made, with the artifact where there is one."""
        from langchain_core.tools.base import _format_output

        last = message_in(self._last, self.call_id)
        artifact = last.artifact if last is not None else None
        status = "error" if call._is_error else "success"
        answer = _format_output(body, artifact, self.call_id, self.tool.name, status)
        call.gave(answer)
        return answer

    def given_again(self, result: Any) -> Any:
        """Return what `answer` makes the same result of; an object of a class where it cannot, or might not."""
        from langchain_core.tools.base import _format_output

        if _is_injected(self.tool, self._input, self.shown):
            return NotImplemented
        message = message_in(result, self.call_id)
        if message is None:
            # Without the id of a call there is no message to say that this text is the tool's error, put into words.
            is_told = self.tool.handle_tool_error or self.tool.handle_validation_error
            return NotImplemented if is_told else result
        made = _format_output(message.content, None, self.call_id, self.tool.name, "success")
        return message.content if made == result else NotImplemented


def _is_injected(tool: Any, given: Any, shown: Any) -> bool:
    """Whether a tool gets more than its arguments, as the config of a run, which may say for whom it is."""
    try:
        from langchain_core.tools.base import (
            InjectedToolArg,
            _get_runnable_config_param,
            _is_injected_arg_type,
            get_all_basemodel_annotations,
        )
    except ImportError:  # a version that says it in another way
        return True
    if isinstance(given, dict) and given.keys() != shown.keys():
        return True
    functions = [each for each in (getattr(tool, "func", None), getattr(tool, "coroutine", None)) if each is not None]
    # LangChain's own `_run` around a function takes the config whether or not the function does.
    if any(map(_get_runnable_config_param, functions or [tool._run, tool._arun])) or getattr(
        tool, "_injected_args_keys", True
    ):
        return True
    schema = tool.args_schema
    fields = get_all_basemodel_annotations(schema).values() if isinstance(schema, type) else ()
    return any(_is_injected_arg_type(each, InjectedToolArg) for each in fields)


class AsyncToolBoundary(ToolBoundary):
    """The way of one run through `BaseTool.arun`."""

    __slots__ = ()

    async def send(self, call: ToolRun) -> Any:
        """Run the tool and await it."""
        result = self._last = await self._run(call)
        call.gave(result)
        return result

    async def answer(self, call: ToolRun, body: Any) -> Any:
        """As `ToolBoundary.answer`."""
        return super().answer(call, body)


def steers_a_graph(error: BaseException) -> bool:
    """Whether LangGraph raised `error` to interrupt or to hand over, which is no failure."""
    errors = sys.modules.get("langgraph.errors")
    return errors is not None and isinstance(error, errors.GraphBubbleUp)
