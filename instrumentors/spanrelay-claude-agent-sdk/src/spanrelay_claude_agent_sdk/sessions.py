"""One session with the CLI, as its messages tell it: the run in progress, its agents, model calls and tools.

What arrives is only looked at. Whatever a newer CLI may say, looking at it never raises.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, cast

import anyio
from opentelemetry import context as otel_context
from opentelemetry.context import Context, attach, detach, get_current

from spanrelay.errors import MiddlewareError
from spanrelay.records import ToolRequest
from spanrelay.scopes import Scope, current_scope, place_now
from spanrelay.tracing import Tracing
from spanrelay_claude_agent_sdk import content, tools
from spanrelay_claude_agent_sdk.actors import Actor, SubAgent, system_of, system_of_agent
from spanrelay_claude_agent_sdk.errands import Errand
from spanrelay_claude_agent_sdk.marks import mark_compaction, mark_interrupt
from spanrelay_claude_agent_sdk.run import RunCall
from spanrelay_claude_agent_sdk.tools import ToolRun

_SESSION_KEY = otel_context.create_key("spanrelay.claude_agent_sdk.session")

_PROMPTS = 256
"""How many prompts that were sent are waited for: the CLI need not repeat each word for word."""
_PATIENCE = 5.0
"""Seconds that a hook waits for another one, and the end of a session for policy."""


class Asked(NamedTuple):
    """A tool that the model asked for and that has not begun."""

    request: ToolRequest
    actor: Actor
    time: int


class Session:
    """What is known of one CLI.

    Args:
        options: The application's options.
        tracing: Opens the spans.
        whole: Whether all that happens is one run; else each turn is one.
    """

    def __init__(self, options: Any, tracing: Tracing, *, whole: bool) -> None:
        self.tracing = tracing
        self.options = options
        self.outer = place_now()
        self.main = Actor(system_of(options), tracing)
        self.run: RunCall | None = None
        self.tools: dict[str, ToolRun] = {}
        self.hides_partials = False
        """Whether the CLI says more than the application asked for."""
        self.hooked = False
        """Whether the CLI has called one of our hooks: it does so before it first asks the model."""
        self.refusal: BaseException | None = None
        """What policy raised where the SDK would only have logged it."""
        self._whole = whole
        self._id: str | None = None
        self._agents: dict[str, SubAgent] = {}
        self._asked: dict[str, Asked] = {}
        self._queued: list[Any] = []
        self._submitted: deque[str] = deque(maxlen=_PROMPTS)
        self._tool_came = anyio.Event()
        self._cost = 0.0
        self._interrupted = False

    def within(self, context: Context) -> Context:
        """Return `context` as one in which the SDK connects to this session's CLI."""
        return otel_context.set_value(_SESSION_KEY, self, context)

    @property
    def context(self) -> Context:
        """The context of the run in progress, or the one in which the session was made."""
        return self.outer if self.run is None else self.main.context

    @property
    def scope(self) -> Scope | None:
        """The scope of the main agent, or the one in which the session was made."""
        return self.main.scope or current_scope(self.outer)

    # --- runs ---

    async def begin(self, given: Any) -> Errand:
        """Begin a run with what the application says; policy has decided when this returns."""
        errand = Errand()
        run = RunCall(given, errand, self._id, self.main.system, self.tracing)
        # Of a stream of prompts each is judged when it comes.
        run.exempt = given is None
        await errand.begin(run, get_current())
        if errand.sent:
            self._enter(run)
            self._hears(errand.outgoing)
        return errand

    def _enter(self, run: RunCall) -> None:
        self.run = run
        self._interrupted = False
        run.spent = self._cost
        if run.scope is not None:
            self.main.enter(run.scope, run.context)

    def _hears(self, said: Any) -> None:
        if said is not None:
            self._submitted.append(_squeezed(content.text_of(said)))
            self.main.heard(said)

    async def submit(self, said: Any) -> Any:
        """Return what the CLI is to be told where the application says `said`, as policy leaves it.

        Raises:
            BaseException: what policy raised.
        """
        if self.run is not None:
            said = await tools.judge(self.run, said)
            if self._whole:
                self.run.is_told(said)
                self._hears(said)
            else:
                self._queued.append(said)
            return said
        errand = await self.begin(said)
        if errand.error is not None:
            raise errand.error
        if not errand.sent:
            raise MiddlewareError("policy cannot answer for a turn of ClaudeSDKClient, only refuse it or change it")
        return errand.outgoing

    def prompted(self, said: str) -> None:
        """Take what the CLI was prompted with: by the application, or by itself when a background task is done."""
        known = _squeezed(said)
        if known in self._submitted:
            self._submitted.remove(known)
            return
        for queued in [queued for queued in self._queued if _squeezed(content.text_of(queued)) == known][:1]:
            self._queued.remove(queued)
        if self.run is None:
            self._go_on(said)
        else:
            self.main.heard(said)

    def _go_on(self, said: Any = None) -> None:
        """Begin a turn that the CLI takes up without being asked just now."""
        if said is None and self._queued:
            said = self._queued.pop(0)
        token = attach(self.outer)
        try:
            run = RunCall(said, None, self._id, self.main.system, self.tracing)
            run.open()
        finally:
            detach(token)
        run.begin(said)
        self._enter(run)
        if said is not None:
            self.main.heard(said)

    def failed(self, error: BaseException) -> None:
        """The run in progress raised `error`."""
        run, self.run = self.run, None
        if run is not None:
            self.main.rest("error")
            run.ends(error=error)

    def interrupted(self) -> None:
        """The application interrupts the run."""
        if self.run is not None:
            self._interrupted = True
            mark_interrupt(self.run.scope)

    # --- what the CLI says ---

    def saw(self, message: Any) -> bool:
        """Look at a message; return whether the application is to see it."""
        if not isinstance(message, Mapping):
            return True
        seen = cast("Mapping[str, Any]", message)
        self._learn_id(seen.get("session_id"))
        look = self._LOOKS.get(str(seen.get("type")))
        if look is not None:
            look(self, seen)
        return not (self.hides_partials and _is_partial(seen))

    @staticmethod
    def asks_model(message: Any) -> bool:
        """Whether a message says that the CLI asks the model now, or has done so."""
        if not isinstance(message, Mapping):
            return False
        return message.get("type") in ("assistant", "stream_event") or message.get("status") == "requesting"

    def _learn_id(self, session_id: Any) -> None:
        if isinstance(session_id, str) and session_id:
            self._id = session_id
            if self.run is not None:
                self.run.belongs_to(session_id)

    def _actor(self, message: Mapping[str, Any]) -> Actor:
        """Return the agent that a message is of."""
        tool_use_id = message.get("parent_tool_use_id")
        if not isinstance(tool_use_id, str):
            if self.run is None and not self._whole:
                self._go_on()
            return self.main
        return self._delegated(tool_use_id) or self.main

    def _system(self, message: Mapping[str, Any]) -> None:
        subtype = message.get("subtype")
        if message.get("status") == "requesting":
            self.main.asks()
        elif subtype == "init":
            self.main.ready()
            model = message.get("model")
            if isinstance(model, str):
                self.main.model = model
                if self.run is not None:
                    self.run.runs_on(model)
        elif subtype == "compact_boundary":
            mark_compaction(self.main.scope, message.get("compact_metadata"))
        elif subtype == "task_started" and message.get("task_type") == "local_agent":
            self._delegated(str(message.get("tool_use_id")), message)
        elif subtype == "task_notification":
            self._reported(message)
        elif subtype == "task_updated":
            patch = message.get("patch")
            if isinstance(patch, Mapping) and patch.get("status") == "killed":
                for key in [key for key, agent in self._agents.items() if agent.task_id == message.get("task_id")]:
                    self._leave(self._agents.pop(key), incomplete="cancelled")

    def _assistant(self, message: Mapping[str, Any]) -> None:
        said = message.get("message")
        if not isinstance(said, Mapping):
            return
        actor = self._actor(message)
        actor.says(cast("Mapping[str, Any]", said), message.get("error"))
        for block in content.blocks_of(cast("Mapping[str, Any]", said).get("content")):
            call_id = block.get("id")
            if block.get("type") == "tool_use" and isinstance(call_id, str):
                request = ToolRequest(str(block.get("name")), block.get("input"), call_id)
                self._asked[call_id] = Asked(request, actor, time.time_ns())

    def _stream_event(self, message: Mapping[str, Any]) -> None:
        event = message.get("event")
        if isinstance(event, Mapping):
            self._actor(message).streams(cast("Mapping[str, Any]", event))

    def _user(self, message: Mapping[str, Any]) -> None:
        said = message.get("message")
        if not isinstance(said, Mapping) or message.get("isReplay"):
            return
        told = cast("Mapping[str, Any]", said).get("content")
        actor = self._actor(message)
        if not (isinstance(actor, SubAgent) and actor.given(content.text_of(told))):
            actor.heard(told)
        for block in content.blocks_of(told):
            if block.get("type") == "tool_result":
                self._told(block, message.get("tool_use_result"))

    def _result(self, message: Mapping[str, Any]) -> None:
        run = self.run
        self.main.rest("cancelled" if self._interrupted else None)
        cost = message.get("total_cost_usd")
        if isinstance(cost, int | float):
            self._cost = float(cost)
        if run is None:
            return
        run.results(message, self._cost, interrupted=self._interrupted)
        if not self._whole:
            self._give_up_tools(self.main)
            self.run = None
            run.ends()

    _LOOKS: ClassVar[dict[str, Callable[[Session, Mapping[str, Any]], None]]] = {
        "system": _system,
        "assistant": _assistant,
        "stream_event": _stream_event,
        "user": _user,
        "result": _result,
    }

    # --- tools and sub-agents ---

    async def tool_begins(self, request: ToolRequest, agent_id: str | None) -> ToolRun:
        """Begin a tool that the CLI is about to run; policy has decided when this returns."""
        asked = self._asked.pop(request.call_id or "", None)
        actor = asked.actor if asked is not None else self._agent_with(agent_id)
        if agent_id is not None and isinstance(actor, SubAgent):
            actor.task_id = agent_id
        tool = ToolRun(request, actor, self.tracing)
        self.tools[request.call_id or ""] = tool
        self._tool_came.set()
        self._tool_came = anyio.Event()
        await tool.errand.begin(tool, actor.context)
        return tool

    async def tool_with(self, call_id: str | None) -> ToolRun | None:
        """Return the tool that is about to run, when policy has decided on it: the CLI asks its hooks side by side."""
        with anyio.move_on_after(_PATIENCE):
            while call_id is not None and call_id not in self.tools:
                await self._tool_came.wait()
        tool = self.tools.get(call_id or "")
        if tool is not None:
            await tool.errand.decided()
        return tool

    def context_of(self, agent_id: str | None) -> Context:
        """Return the context of an agent by the CLI's id of it; of the main one where it has none."""
        return self.context if agent_id is None else self._agent_with(agent_id).context

    def _agent_with(self, agent_id: str | None) -> Actor:
        return next((agent for agent in self._agents.values() if agent_id and agent.task_id == agent_id), self.main)

    def _told(self, block: Mapping[str, Any], more: Any) -> None:
        """The model is told what a tool gave."""
        call_id = str(block.get("tool_use_id"))
        tool, asked = self.tools.pop(call_id, None), self._asked.pop(call_id, None)
        value, is_error = content.result_of(block.get("content")), bool(block.get("is_error"))
        agent = self._agents.get(call_id)
        if agent is not None and not (isinstance(more, Mapping) and more.get("isAsync")):
            del self._agents[call_id]
            self._leave(agent, _report(more))
        if tool is not None:
            tool.told(value, is_error=is_error)
        elif asked is not None:
            tools.record_unseen(asked.request, asked.actor, self.tracing, asked.time, block)

    def _delegated(self, call_id: str, started: Mapping[str, Any] | None = None) -> SubAgent | None:
        """Return the agent that a tool began, opening its span when it is first heard of."""
        agent = self._agents.get(call_id)
        tool = self.tools.get(call_id)
        if agent is None and tool is not None:
            asked = cast("Mapping[str, Any]", tool.given) if isinstance(tool.given, Mapping) else {}
            said = {**asked, **(started or {})}
            name = str(said.get("subagent_type") or "general-purpose")
            agent = SubAgent(name, system_of_agent(self.options, name), tool.scope, tool.context, self.tracing)
            agent.model = self.main.model
            self._agents[call_id] = agent
            prompt = said.get("prompt")
            if isinstance(prompt, str):
                agent.given(prompt)
        if agent is not None and started is not None:
            agent.task_id = started.get("task_id")
        return agent

    def concluded(self, agent_id: Any, said: Any) -> None:
        """Take the last words of a sub-agent: the CLI does not pass on the messages of all."""
        agent = self._agent_with(agent_id)
        if isinstance(agent, SubAgent) and isinstance(said, str):
            agent.concluded(said)

    def _reported(self, message: Mapping[str, Any]) -> None:
        """An agent says that it is done."""
        agent = self._agents.pop(str(message.get("tool_use_id")), None)
        if agent is not None:
            agent.used(message.get("usage"))
            done = message.get("status") == "completed"
            summary = message.get("summary")
            said = summary if done and isinstance(summary, str) else None
            self._leave(agent, said, None if done else "cancelled")

    # --- the end ---

    def _leave(self, agent: SubAgent, said: str | None = None, incomplete: str | None = None) -> None:
        """A sub-agent is done; of the tools of some the CLI says nothing but through its hooks."""
        self._give_up_tools(agent)
        agent.close(said, incomplete)

    def _give_up_tools(self, actor: Actor) -> None:
        for call_id in [call_id for call_id, tool in self.tools.items() if tool.actor is actor]:
            self.tools.pop(call_id).given_up(asyncio.CancelledError())
        self._asked = {call_id: asked for call_id, asked in self._asked.items() if asked.actor is not actor}

    async def close(self) -> None:
        """The session is over: nothing of it stays open, but for a run that its reader ends."""
        open_tools = list(self.tools.values())
        self.tools.clear()
        self._asked.clear()
        for tool in open_tools:
            tool.given_up(asyncio.CancelledError())
        while self._agents:
            self._leave(self._agents.popitem()[1], incomplete="cancelled")
        self.main.rest("closed")
        with anyio.move_on_after(_PATIENCE, shield=True):
            for tool in open_tools:
                await tool.errand.ended()
            if not self._whole and self.run is not None:
                run, self.run = self.run, None
                run.ends(error=asyncio.CancelledError())
                await run.settled()


def session_in(context: Context | None = None) -> Session | None:
    """Return the session to whose CLI the SDK connects in `context`, or in the current one."""
    return cast("Session | None", otel_context.get_value(_SESSION_KEY, context))


def outside(context: Context) -> Context:
    """Return `context` as one in which the SDK connects to no session's CLI."""
    return otel_context.set_value(_SESSION_KEY, None, context)


def _squeezed(said: str) -> str:
    """Return a prompt as it is known by: the CLI may tell it with other white space."""
    return "".join(said.split())


def _is_partial(message: Mapping[str, Any]) -> bool:
    """Whether the CLI says a message only because it was asked for partial ones."""
    kind = message.get("type")
    return kind == "stream_event" or (kind == "system" and message.get("status") == "requesting")


def _report(more: Any) -> str | None:
    """Return the last words of an agent, out of what its tool gave."""
    said = more.get("content") if isinstance(more, Mapping) else None
    return content.text_of(said) or None
