"""The boundary of the provider's tools that run here: shells, patches, custom tools and computers, under policy.

Policy may refuse a call or answer for it, and never change it: the SDK holds a call to what the model asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline import typed
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.function import ToolExecution
from spanrelay.records import ToolRequest
from spanrelay.tracing import Tracing

_ASKED = ("action", "actions", "operation", "input", "arguments")
"""Where a call says what it asks for, by kind of tool."""


def _shell(text: str, *, failed: bool) -> dict[str, Any]:
    """A shell's output: what policy refuses is an error of the command."""
    said = {"stdout": "" if failed else text, "stderr": text if failed else ""}
    outcome = {"type": "exit", "exit_code": int(failed)}
    return {"type": "shell_call_output", "output": [{**said, "outcome": outcome}]}


def _patch(text: str, *, failed: bool) -> dict[str, Any]:
    return {"type": "apply_patch_call_output", "output": text, "status": "failed" if failed else "completed"}


def _local_shell(text: str, *, failed: bool) -> dict[str, Any]:
    return {"type": "local_shell_call_output", "output": text}


def _custom(text: str, *, failed: bool) -> dict[str, Any]:
    return {"type": "custom_tool_call_output", "output": text}


Output = Callable[..., dict[str, Any]]


class LocalBoundary:
    """The real call: the SDK's execution of one such tool, its approval included.

    Args:
        wrapped: That method.
        options: What it was called with, by name.
        output: Makes the item that a model is given for a text; None where a text is no answer.
    """

    __slots__ = ("_options", "_output", "_wrapped")

    def __init__(self, wrapped: Any, options: Mapping[str, Any], output: Output | None) -> None:
        self._wrapped = wrapped
        self._options = options
        self._output = output

    async def send(self, call: ToolExecution) -> Any:
        """Execute the call."""
        if call.outgoing() is not call.given:
            raise MiddlewareError(
                f"policy cannot change what the model asked of the tool {call.request.name!r}: the SDK takes that for "
                "another call; refuse it, or answer for it"
            )
        item = await self._wrapped(**self._options)
        # A call that waits for approval has not run.
        if item.type != "tool_approval_item":
            call.gave(item.output)
        return item

    async def answer(self, call: ToolExecution, body: Any) -> Any:
        """An answer of policy is a text, in the form that this tool's output has."""
        if self._output is None:
            raise MiddlewareError(
                f"policy cannot answer for the tool {call.request.name!r}: its output is a screenshot"
            )
        from agents.items import ToolCallOutputItem

        text = body if isinstance(body, str) else str(body)
        raw = {**self._output(text, failed=call._is_error), "call_id": call.request.call_id}
        call.gave(text)
        return ToolCallOutputItem(agent=self._options["agent"], output=text, raw_item=cast("Any", raw))


def _where(tool_call: Any) -> str:
    return next((name for name in _ASKED if _field(tool_call, name) is not None), _ASKED[0])


def _field(target: Any, name: str) -> Any:
    return cast("Mapping[str, Any]", target).get(name) if isinstance(target, Mapping) else getattr(target, name, None)


class LocalTools:
    """Wraps the execution of one kind of tool; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing, tool: str, name: str, output: Output | None) -> None:
        self._tracing = tracing
        self._tool = tool
        self._name = name
        self._output = output

    async def execute(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Execute a tool."""
        asked = kwargs[self._name]
        tool, tool_call = getattr(asked, self._tool), asked.tool_call
        call_id = _field(tool_call, "call_id") or _field(tool_call, "id")
        request = ToolRequest(
            tool.name,
            typed.as_json(_field(tool_call, _where(tool_call))),
            call_id,
            getattr(tool, "description", None) or None,
            _field(tool_call, "type"),
        )
        boundary = LocalBoundary(wrapped, kwargs, self._output)
        return await arun(ToolExecution(request, boundary, self._tracing))


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """What executes each kind of tool."""
    return tuple(
        Patch(
            "agents.run_internal.tool_actions",
            f"{action}.execute",
            LocalTools(tracing, tool, name, output).execute,
        )
        for action, tool, name, output in (
            ("ShellAction", "shell_tool", "call", _shell),
            ("LocalShellAction", "local_shell_tool", "call", _local_shell),
            ("ApplyPatchAction", "apply_patch_tool", "call", _patch),
            ("CustomToolAction", "custom_tool", "call", _custom),
            ("ComputerAction", "computer_tool", "action", None),
        )
    )
