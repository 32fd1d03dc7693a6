"""The executions of tools by the CLI, and policy around each: from the hook before it to the hook after it.

A refusal reaches the CLI as a denial; what cannot be refused any more ends the run.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any, cast

from opentelemetry.context import Context, attach, detach

from spanrelay import _json
from spanrelay.errors import MiddlewareError
from spanrelay.pipeline.call import Opened
from spanrelay.pipeline.driver import ajudge
from spanrelay.pipeline.function import FunctionCall, ToolExecution
from spanrelay.pipeline.middleware import registered
from spanrelay.records import ErrorInfo, ToolRequest
from spanrelay.scopes import Scope
from spanrelay.tracing import Start, Tracing, recording
from spanrelay_claude_agent_sdk import content
from spanrelay_claude_agent_sdk.actors import Actor
from spanrelay_claude_agent_sdk.errands import Errand

FAILED = "tool_error"
"""`error.type` of a tool that says it failed: the CLI tells what it said, and no exception."""


class ToolRun(ToolExecution):
    """One execution. Its span ends when the tool has, and is handed over when the model is told what came of it."""

    __slots__ = ("_ended", "_waits", "actor", "errand")

    def __init__(self, request: ToolRequest, actor: Actor, tracing: Tracing) -> None:
        self.errand = Errand()
        super().__init__(request, self.errand, tracing)
        self.actor = actor
        self._waits = True
        self._ended: int | None = None

    def finish(self, end: int | None = None) -> None:
        """End the span, once the model has been told."""
        if self._waits:
            self._ended = time.time_ns()
        else:
            super().finish(self._ended)

    def begin_again(self, given: Any) -> None:
        """Keep what it really was given: hooks and permissions may have changed that since."""
        if self.observed and given is not None:
            self.sent = _json.dumps(given)

    def told(self, value: Any, *, is_error: bool) -> None:
        """The model is told `value`: the tool's result as it reads it."""
        self._waits = False
        self._is_error = is_error
        if is_error and self.record.error is None:
            self.record.error = _failure(value)
        if not self.errand.over:  # no hook told what came of it
            self.errand.tell(value)
            return
        self.gave(value)
        super().finish(self._ended)

    def given_up(self, error: BaseException) -> None:
        """Nobody will say what became of it."""
        self._waits = False
        if self.errand.over:
            super().finish(self._ended)
        else:
            self.errand.tell(None, error)

    def failed(self, error: str, *, interrupted: bool) -> None:
        """The tool says that it failed."""
        self._is_error = True
        self.record.error = _failure(error)
        if interrupted:
            self.record.incomplete = "cancelled"


def _failure(said: Any) -> ErrorInfo:
    """Return the error of a tool that says it failed: what it says is its result, and so message content."""
    return ErrorInfo(FAILED, said if recording.content and isinstance(said, str) else "")


def governed(scope: Scope | None) -> bool:
    """Whether there is policy for tools in `scope`."""
    registries = (registered, *(scope.registries if scope is not None else ()))
    return any(entry.kinds is None or "tool" in entry.kinds for each in registries for entry in each.entries)


async def judge(call: FunctionCall, given: Any) -> Any:
    """Let policy judge `given` in the place of what `call` was given, and return it as policy leaves it.

    Raises:
        BaseException: what policy raised.
    """
    again = copy.copy(call)
    again.given, again._request, again._judged = given, None, None
    await ajudge(again)
    return again.outgoing()


def denial(reason: str) -> dict[str, Any]:
    """Return what tells the CLI not to run a tool, and the model why."""
    return {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": reason,
        }
    }


def decision(tool: ToolRun) -> dict[str, Any]:
    """Return what tells the CLI what policy decided before a tool runs."""
    errand = tool.errand
    if errand.error is not None:
        return denial(str(errand.error))
    if not errand.sent:
        return denial(content.text_of(errand.result) or str(errand.result))
    if errand.outgoing is tool.given:
        return {}
    return {"hookSpecificOutput": {"hookEventName": "PreToolUse", "updatedInput": arguments(errand.outgoing)}}


def arguments(value: Any) -> dict[str, Any]:
    """Return what policy made of a tool's arguments, if it can be that.

    Raises:
        MiddlewareError: it is no object.
    """
    if not isinstance(value, dict):
        raise MiddlewareError(f"the arguments of a tool of Claude Code must be a dict, not {type(value).__name__!r}")
    return cast("dict[str, Any]", value)


def outcome(tool: ToolRun, response: Any) -> dict[str, Any]:
    """Return what tells the CLI what policy made of what a tool gave."""
    errand = tool.errand
    if errand.error is not None:
        return ending(str(errand.error))
    if errand.result is response or errand.result == response:
        return {}
    try:
        shaped = _shaped(errand.result, response)
    except MiddlewareError as error:
        return ending(str(error))
    return {"hookSpecificOutput": {"hookEventName": "PostToolUse", "updatedToolOutput": shaped}}


def ending(reason: str) -> dict[str, Any]:
    """Return what ends the run before the model reads what a tool gave."""
    return {"continue_": False, "stopReason": reason}


def _shaped(answer: Any, response: Any) -> Any:
    """Return `answer` in the form of `response`; the CLI ignores any other and lets the tool's own pass."""
    if isinstance(answer, str):
        if isinstance(response, list):
            return [{"type": "text", "text": answer}]
        if isinstance(response, dict) and isinstance(response.get("stdout"), str):
            return {**response, "stdout": answer, "stderr": ""}
    if type(answer) is type(response) and (not isinstance(answer, Mapping) or answer.keys() == response.keys()):
        return answer
    raise MiddlewareError(
        f"an answer of policy must have the form of what the tool gave, here {type(response).__name__!r}, so that the "
        "CLI takes it; the run ends instead"
    )


def record_unseen(request: ToolRequest, actor: Actor, tracing: Tracing, started: int, block: Mapping[str, Any]) -> None:
    """Record an execution that no hook told of: an unknown tool, arguments that do not fit its schema."""
    token = attach(actor.context)
    try:
        call = ToolExecution(request, Errand(), tracing)
        call.open(Opened(tracing, Start(call.record), started))
    finally:
        detach(token)
    value = content.result_of(block.get("content"))
    if block.get("is_error"):
        call._is_error = True
        call.record.error = _failure(value)
    call.begin(request.arguments)
    call.gave(value)
    call.finish()


def context_of(tool: ToolRun | None, otherwise: Context) -> Context:
    """Return the context of what is done for a tool, if there is one."""
    return tool.context if tool is not None and tool.context else otherwise
