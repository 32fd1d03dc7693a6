"""Where a session of the CLI is joined: the SDK's `Query`, through which hooks, permissions, tools and messages pass.

The application's options and hooks are not touched: what is added is added to what the SDK made of them.
"""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any, cast

import wrapt
from opentelemetry.context import Context, attach, detach, get_current

from spanrelay._guard import guarded, swallow
from spanrelay.errors import MiddlewareError, SpanRelayError
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.middleware import registered
from spanrelay.records import ToolRequest
from spanrelay.tracing import Tracing
from spanrelay_claude_agent_sdk import tools
from spanrelay_claude_agent_sdk.marks import mark_permission
from spanrelay_claude_agent_sdk.sessions import Session, outside, session_in

_log = logging.getLogger("spanrelay")

PARTIAL = "--include-partial-messages"
PATIENCE = 600
"""Seconds that the CLI waits for policy before it gives a tool up; each middleware has a limit of its own."""

_sessions: weakref.WeakKeyDictionary[Any, Session] = weakref.WeakKeyDictionary()


def session_of(query: Any) -> Session | None:
    """Return the session that the SDK's `Query` has joined."""
    return None if query is None else _sessions.get(query)


class Seen(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument] - wrapt has no types here
    """A transport, whose messages a session looks at as they arrive."""

    def __init__(self, transport: Any, session: Session) -> None:
        super().__init__(transport)
        self._self_session = session

    async def read_messages(self) -> AsyncGenerator[Any, None]:
        """Pass on what the application is to see."""
        async for message in self.__wrapped__.read_messages():
            self._self_check(message)
            passes = True
            with guarded("looking at a message of Claude Code"):
                passes = self._self_session.saw(message)
            if passes:
                yield message

    def _self_check(self, message: Any) -> None:
        """Let no model be asked in a session whose CLI calls no hooks, where there is policy for tools.

        Raises:
            MiddlewareError: it is so, and the CLI has been ended before it could run a tool.
        """
        session = self._self_session
        if session.hooked or not session.asks_model(message) or not tools.governed(session.scope):
            return
        process = getattr(self.__wrapped__, "_process", None)
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
        raise MiddlewareError(
            "Claude Code calls no hooks in this session (--bare and CLAUDE_CODE_SIMPLE switch them off), so that "
            "policy for tools would not hold; run it with hooks, or without that policy"
        )


async def _within(context: Context, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    token = attach(context)
    try:
        return await call(*args, **kwargs)
    finally:
        detach(token)


class Hooks:
    """What the CLI asks about tools, answered by policy; and the application's own answers, judged by it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def added_to(self, theirs: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the application's hooks with ours before them; the CLI runs those of one event side by side."""
        session = self._session
        # Not where nobody registered policy: an older CLI could not be connected to.
        strict = {"on_failure": "block"} if tools.governed(session.scope) else {}
        ours: dict[str, dict[str, Any]] = {
            "PreToolUse": {"hooks": [self.before], "timeout": PATIENCE, **strict},
            "PostToolUse": {"hooks": [self.after], "timeout": PATIENCE},
            "PostToolUseFailure": {"hooks": [self.failed], "timeout": PATIENCE},
            "UserPromptSubmit": {"hooks": [self.prompted]},
            "SubagentStop": {"hooks": [self.stopped]},
        }
        added = {event: list(matchers) for event, matchers in (theirs or {}).items()}
        for event, matchers in added.items():
            added[event] = [{**each, "hooks": [self._judged(one) for one in each["hooks"]]} for each in matchers]
        for event, matcher in ours.items():
            added[event] = [{"matcher": None, **matcher}, *added.get(event, [])]
        return added

    async def before(self, said: Any, tool_use_id: str | None, context: Any) -> dict[str, Any]:
        """A tool is about to run."""
        self._session.hooked = True
        try:
            request = ToolRequest(said["tool_name"], said.get("tool_input"), said.get("tool_use_id") or tool_use_id)
            return tools.decision(await self._session.tool_begins(request, said.get("agent_id")))
        except Exception as error:
            if not isinstance(error, SpanRelayError):
                swallow("asking policy about a tool of Claude Code", error)
            return tools.denial(str(error)) if tools.governed(self._session.scope) else {}

    async def after(self, said: Any, tool_use_id: str | None, context: Any) -> dict[str, Any]:
        """A tool has run."""
        tool = self._session.tools.get(said.get("tool_use_id") or tool_use_id or "")
        if tool is None or tool.errand.over:
            return {}
        response = said.get("tool_response")
        tool.begin_again(said.get("tool_input"))
        tool.errand.tell(response)
        await tool.errand.ended()
        tool.actor.ready()
        return tools.outcome(tool, response)

    async def failed(self, said: Any, tool_use_id: str | None, context: Any) -> dict[str, Any]:
        """A tool has run and says that it failed."""
        tool = self._session.tools.get(said.get("tool_use_id") or tool_use_id or "")
        if tool is None or tool.errand.over:
            return {}
        error = str(said.get("error") or "")
        tool.begin_again(said.get("tool_input"))
        tool.failed(error, interrupted=bool(said.get("is_interrupt")))
        tool.errand.tell(error)
        await tool.errand.ended()
        tool.actor.ready()
        if tool.errand.error is None and tool.errand.result == error:
            return {}
        return tools.ending(str(tool.errand.error or "policy cannot change what a tool of Claude Code failed with"))

    async def prompted(self, said: Any, tool_use_id: str | None, context: Any) -> dict[str, Any]:
        """The CLI takes up something to do."""
        self._session.hooked = True
        with guarded("looking at a prompt of Claude Code"):
            self._session.prompted(str(said.get("prompt") or ""))
        return {}

    async def stopped(self, said: Any, tool_use_id: str | None, context: Any) -> dict[str, Any]:
        """A sub-agent has said its last words."""
        with guarded("looking at a sub-agent of Claude Code"):
            self._session.concluded(said.get("agent_id"), said.get("last_assistant_message"))
        return {}

    def _judged(self, hook: Any) -> Any:
        """Return a hook of the application's, in the context of what it is about; policy judges what it rewrites."""

        async def judged(said: Any, tool_use_id: str | None, context: Any) -> Any:
            session = self._session
            tool = session.tools.get(tool_use_id or "")
            if _field(said, "hook_event_name") == "PreToolUse":
                tool = await session.tool_with(tool_use_id or _field(said, "tool_use_id"))
            around = tools.context_of(tool, session.context_of(_field(said, "agent_id")))
            given = await _within(around, hook, said, tool_use_id, context)
            specific = _field(given, "hookSpecificOutput")
            wanted = _field(specific, "updatedInput")
            if tool is None or not isinstance(wanted, dict):
                return given
            try:
                left = tools.arguments(await tools.judge(tool, wanted))
            except Exception as error:
                return tools.denial(str(error))
            return given if left is wanted else {**given, "hookSpecificOutput": {**specific, "updatedInput": left}}

        return judged

    def permitting(self, theirs: Any) -> Any:
        """Return the application's `can_use_tool`, in the context of the tool; policy judges what it rewrites."""

        async def permitted(name: str, given: Any, context: Any) -> Any:
            session = self._session
            tool = session.tools.get(getattr(context, "tool_use_id", None) or "")
            answer = await _within(tools.context_of(tool, session.context), theirs, name, given, context)
            actor = tool.actor if tool is not None else session.main
            decision = str(getattr(answer, "behavior", "none"))
            mark_permission(actor.scope, name, getattr(context, "tool_use_id", None), decision)
            wanted = getattr(answer, "updated_input", None)
            if tool is None or not isinstance(wanted, Mapping) or wanted == given:
                return answer
            return await _judged_answer(tool, wanted, answer)

        return permitted


def _field(value: Any, name: str) -> Any:
    return cast("Mapping[str, Any]", value).get(name) if isinstance(value, Mapping) else None


async def _judged_answer(tool: tools.ToolRun, wanted: Any, answer: Any) -> Any:
    from dataclasses import replace

    from claude_agent_sdk import PermissionResultDeny

    try:
        left = tools.arguments(await tools.judge(tool, wanted))
    except Exception as error:
        return PermissionResultDeny(message=str(error))
    return answer if left is wanted else replace(answer, updated_input=left)


_OF_TOOLS = ("offered_tools", "removed_tools", "unseen_tools")
"""What a policy file registers around models for the sake of tools; here each tool is refused when it is called."""

_warned: set[str] = set()


def _warn_of_models() -> None:
    """Say once which policy does not hold here: no call of a model passes through this process."""
    for entry in registered.entries:
        kinds = entry.kinds or frozenset()
        if entry.name in _warned or entry.name.endswith(_OF_TOOLS):
            continue
        if "llm" in kinds:
            _warned.add(entry.name)
            _log.warning(
                "policy %r is for model calls, and Claude Code makes those of the Claude Agent SDK itself, so it does "
                "not hold for them; refuse runs of the SDK, or its tools",
                entry.name,
            )


class Joining:
    """Wraps the SDK's `Query`; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def make(self, wrapped: Any, query: Any, args: Any, kwargs: Any) -> None:
        """Join a session: its hooks, its permissions and its messages."""
        bound = inspect.signature(wrapped).bind(*args, **kwargs)
        given = bound.arguments
        session = session_in() or Session(None, self._tracing, whole=False)
        _warn_of_models()
        hooks = Hooks(session)
        given["hooks"] = hooks.added_to(given.get("hooks"))
        given["transport"] = Seen(given["transport"], session)
        if callable(given.get("can_use_tool")):
            given["can_use_tool"] = hooks.permitting(given["can_use_tool"])
        wrapped(*bound.args, **bound.kwargs)
        _sessions[query] = session

    async def close(self, wrapped: Any, query: Any, args: Any, kwargs: Any) -> Any:
        """Leave the session."""
        try:
            return await wrapped(*args, **kwargs)
        finally:
            session = _sessions.pop(query, None)
            if session is not None:
                await session.close()

    async def message(self, wrapped: Any, query: Any, args: Any, kwargs: Any) -> Any:
        """Let a server of this process answer the CLI: a tool of it runs below its span."""
        session = session_of(query)
        message = args[1] if len(args) > 1 else kwargs.get("message")
        if session is None or not isinstance(message, Mapping):
            return await wrapped(*args, **kwargs)
        call_id = _field(_field(message.get("params"), "_meta"), "claudecode/toolUseId")
        tool = session.tools.get(str(call_id))
        return await _within(session.within(tools.context_of(tool, session.context)), wrapped, *args, **kwargs)

    def command(self, wrapped: Any, transport: Any, args: Any, kwargs: Any) -> Any:
        """Ask the CLI for partial messages: they alone say when the model was asked and how much it said."""
        command = wrapped(*args, **kwargs)
        session = session_in()
        if session is not None and PARTIAL not in command:
            session.hides_partials = True
            command = [*command, PARTIAL]
        return command


async def _served(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """A server of this process is asked by the CLI: the package `mcp` opens no span of what has one already."""
    if session_in() is None:
        return await wrapped(*args, **kwargs)
    context, call_next = (*args, *kwargs.values())
    return await _within(outside(get_current()), call_next, context)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The SDK's end of the control protocol, and the command line of the CLI."""
    joining = Joining(tracing)
    query = "claude_agent_sdk._internal.query"
    return (
        Patch(query, "Query.__init__", joining.make),
        Patch(query, "Query.close", joining.close),
        Patch(query, "Query._handle_sdk_mcp_request", joining.message, required=False),
        Patch(
            "claude_agent_sdk._internal.transport.subprocess_cli",
            "SubprocessCLITransport._build_command",
            joining.command,
            required=False,
        ),
        Patch("mcp.server._otel", "OpenTelemetryMiddleware.__call__", _served, required=False),
    )
