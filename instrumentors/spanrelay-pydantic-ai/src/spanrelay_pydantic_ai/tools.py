"""The boundary of a tool: each execution of one, of whichever toolset it is, under policy.

What the model asked for stays in the run's messages; a tool gets what policy left of it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.answered import note_answered
from spanrelay.pipeline.call import Response
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.function import ToolExecution
from spanrelay.records import JSON, ToolRequest
from spanrelay.tracing import Tracing


class ToolRun(ToolExecution):
    """One execution of a tool. One that waits for somebody has not failed."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        """End the span of a tool that raised `error`, with what the model is told of it."""
        from pydantic_ai.exceptions import ApprovalRequired, CallDeferred

        if isinstance(error, (ApprovalRequired, CallDeferred)):
            self.finish()
            return
        with guarded("reading what a model is told of an error"):
            told = getattr(error, "tool_retry", None) or getattr(error, "tool_failed", None)
            if told is not None:
                self._is_error = True
                self.gave(told.content)
                # What the tool itself raised is told by the exception behind this one.
                error = error.__cause__ or error
        super().fail(error)

    def _given_back(self, response: Response) -> JSON:
        return _json.loads(_json.dumps(_content_of(response.native)))


def _content_of(result: Any) -> Any:
    """Return what the model gets of a result: a `ToolReturn` carries more than that."""
    from pydantic_ai.messages import ToolReturn

    return result.return_value if isinstance(result, ToolReturn) else result


class ToolBoundary:
    """The real call: the toolset's, with the framework's handling of a tool that asks to be called again.

    Args:
        wrapped: `ToolManager._raw_execute`, bound.
        validated: The call, with arguments that fit the tool's schema.
        options: The method's other arguments.
    """

    __slots__ = ("_options", "_validated", "_wrapped")

    def __init__(self, wrapped: Any, validated: Any, options: dict[str, Any]) -> None:
        self._wrapped = wrapped
        self._validated = validated
        self._options = options

    async def send(self, call: ToolRun) -> Any:
        """Run the tool with what policy left of its arguments."""
        given, validated = call.outgoing(), self._validated
        if given is not call.given:
            validated = dataclasses.replace(validated, validated_args=given)
        call.begin(given)
        result = await self._wrapped(validated, **self._options)
        call.gave(_content_of(result))
        return result

    async def answer(self, call: ToolRun, body: Any) -> Any:
        """An answer of policy is what the tool returns."""
        call.gave(body)
        return body

    def given_again(self, result: Any) -> Any:
        """Return what `answer` makes the same result of; no plain value where it may depend on more than arguments.

        What gets the context of its run may look at for whom that is; only of a function is known that it does not.
        """
        tool = self._validated.tool
        while (source := getattr(tool, "source_tool", None)) is not None:  # of several toolsets put together
            tool = source
        schema = getattr(getattr(tool, "call_func", None), "__self__", None)
        return result if getattr(schema, "takes_ctx", True) is False else NotImplemented


class Tools:
    """Wraps the execution of tools; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def execute(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Execute a tool, after its arguments were validated and the hooks of capabilities have run."""
        options = dict(kwargs)
        validated = args[0] if args else options.pop("validated")
        tool = validated.tool.tool_def
        if tool.kind == "output":
            return await wrapped(*args, **kwargs)
        request = ToolRequest(
            validated.call.tool_name,
            validated.validated_args,
            validated.call.tool_call_id,
            tool.description or None,
            "function",
        )
        return await arun(ToolRun(request, ToolBoundary(wrapped, validated, options), self._tracing))


async def _validate(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Validate a call; of a tool that is not there, or with arguments that do not fit, the framework says so itself.

    That stands in the next request as the result of the call, and no tool has run for it.
    """
    validated = await wrapped(*args, **kwargs)
    if not validated.args_valid:
        note_answered(validated.call.tool_call_id, validated.call.tool_name)
    return validated


def _made(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Make what the model is told of a call; where people have denied that, no tool has run for it."""
    from pydantic_ai import ToolDenied

    with guarded("noting which call people have denied"):
        if isinstance(args[0], ToolDenied):
            note_answered(kwargs["call"].tool_call_id, kwargs["call"].tool_name)
    return wrapped(*args, **kwargs)


def _skipped(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Tell the model that a call was not made, since the run has its output already."""
    with guarded("noting which call was skipped"):
        call = args[0] if args else kwargs["call"]
        note_answered(call.tool_call_id, call.tool_name)
    return wrapped(*args, **kwargs)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """What every execution of a tool goes through, what every call does before, and what answers in place of a tool."""
    module, execution = "pydantic_ai.tool_manager", "pydantic_ai._tool_execution"
    return (
        Patch(module, "ToolManager._raw_execute", Tools(tracing).execute),
        Patch(module, "ToolManager.validate_tool_call", _validate),
        Patch(execution, "build_tool_return_part", _made, required=False),
        Patch("pydantic_ai.realtime._session", "build_tool_return_part", _made, required=False),
        Patch(execution, "_ToolCallProcessor._skip_function_call", _skipped, required=False),
    )
