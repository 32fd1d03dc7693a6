"""The host of AGENT-HOOKS-0.1: asks its interceptors at each interception point, and does what the verdict says.

Nothing passes that a verdict does not permit. The points, contexts and verdicts are those of the package
`agent-hooks-sdk`, which also validates and composes them.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Generator, Iterable
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.context import attach, detach
from opentelemetry.trace import format_span_id, format_trace_id

from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.loops import on_own_loop, own_loop
from spanrelay.pipeline.middleware import Middleware, Place, execution_intercept, guardrail, leaving_out
from spanrelay.plugins.agent_hooks import targets
from spanrelay.records import AgentResult, Kind, ModelResponse, ToolResult
from spanrelay.scopes import mark_span
from spanrelay.semconv import names

PACKAGE = "agent_hooks"
SESSIONS = 4096
"""How many sessions have their numbers kept; the one that was asked about longest ago is forgotten first."""


class Host:
    """Stands around calls for one emitter.

    Args:
        emitter: The package's `InterceptionEmitter`, with its interceptors.
        points: The interception points that they are asked at.
        name: What refusals are named by before the dot.
        entries: The middleware of all hosts: none of it runs for calls that interceptors make.
        timeout: Seconds that one verdict may take, whatever the emitter waits for.
    """

    def __init__(
        self, emitter: Any, points: Iterable[str], name: str, entries: set[Middleware], timeout: float
    ) -> None:
        self._emitter, self._points, self._name = emitter, frozenset(points), name
        self._entries, self._timeout = entries, timeout
        self._builder: Any = import_module(PACKAGE).AgentContextBuilder
        self._sessions: OrderedDict[str, Any] = OrderedDict()
        self._alone = str(uuid.uuid4())
        self._passed: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        """What verdicts have made of a call's request: they need not judge their own work."""

    def middleware(self) -> list[Middleware]:
        """Return what asks at the points."""
        made: list[Middleware] = []
        if "pre_model_call" in self._points:
            declare = guardrail(name="pre_model_call", kinds=["llm"], timeout=self._timeout)
            made.append(declare(self.before_model))
        if "pre_tool_call" in self._points:
            declare = guardrail(name="pre_tool_call", kinds=["tool"], timeout=self._timeout)
            made.append(declare(self.before_tool))
        if "post_model_call" in self._points:
            made.append(self._around("post_model_call", "llm", self.after_model))
        if "post_tool_call" in self._points:
            made.append(self._around("post_tool_call", "tool", self.after_tool))
        if self._points & {"agent_startup", "input", "output", "agent_shutdown"}:
            made.append(self._around("agent", "agent", self.around_agent))
        return made

    def _around(self, name: str, kind: Kind, step: Any) -> Middleware:
        declare = execution_intercept(name=name, kinds=[kind], buffered=True, timeout=self._timeout)
        # Around every other intercept, so that verdicts are about what the application gets.
        return declare(step).standing(Place.AROUND)

    # --- the points ---

    async def before_model(self, call: Any) -> str | None:
        """Return why a request is refused, or put into it what the verdict leaves of its messages."""
        request = call.request
        messages = targets.messages_of(request)
        if self._passed.get(call.root) == messages:
            return None
        about = {"vendor": call.record.provider, "params": request.parameters}
        fields = {"model_id": request.model or "", "messages": messages, "tools": targets.tools_of(request)}
        fields |= {key: value for key, value in about.items() if value}
        refusal, wanted = await self._judge(call, "pre_model_call", fields)
        if refusal is None and wanted != messages:
            # Not by a request intercept: one verdict says both whether and what, and it is to be seen as a guardrail's.
            call.request = targets.with_messages(request, wanted)
            self._passed[call.root] = targets.messages_of(call.request)
        return refusal

    async def before_tool(self, call: Any) -> str | None:
        """Return why a tool may not run, or put into the request what the verdict leaves of its arguments."""
        request = call.request
        arguments = targets.arguments_of(request.arguments)
        if self._passed.get(call.root) == arguments:
            return None
        fields = {"call_id": _id_of(call), "name": request.name, "args": arguments}
        refusal, wanted = await self._judge(call, "pre_tool_call", fields)
        if refusal is None and wanted != arguments:
            call.request = replace(request, arguments=targets.with_arguments(request.arguments, wanted))
            self._passed[call.root] = wanted
        return refusal

    def after_model(self, call: Any) -> Generator[Any, Any, ModelResponse | None]:
        """Hand out what verdicts leave of each choice of the answer.

        Raises:
            GuardrailRejected: one denies it.
        """
        response = yield call
        answer: ModelResponse = response.record
        messages = list(answer.messages)
        fields = {"model_id": answer.model or call.request.model or "", "usage": targets.usage_of(answer)}
        for at, message in enumerate(answer.messages):
            choice = targets.answer_of(answer, message, at)
            wanted = yield self._permitted(call, "post_model_call", {**fields, **choice})
            messages[at] = targets.with_answer(message, choice, wanted)
        return None if messages == answer.messages else replace(answer, messages=messages)

    def after_tool(self, call: Any) -> Generator[Any, Any, ToolResult | None]:
        """Hand out what the verdict leaves of the result.

        Raises:
            GuardrailRejected: it denies it.
        """
        response = yield call
        request, result = call.request, response.record
        fields = {"call_id": _id_of(call), "name": request.name, "args": targets.arguments_of(request.arguments)}
        fields |= {"value": result.content, "is_error": result.is_error}
        wanted = yield self._permitted(call, "post_tool_call", fields)
        return None if wanted == result.content else replace(result, content=wanted)

    def around_agent(self, call: Any) -> Generator[Any, Any, AgentResult | None]:
        """Ask before a run, about what it is given and what it gives, and tell that it has ended.

        Raises:
            GuardrailRejected: a verdict denies it.
        """
        points = self._points
        told = "agent_shutdown" in points
        try:
            if "agent_startup" in points:
                yield self._permitted(call, "agent_startup", {"tools_registered": []})
            if "input" in points:
                yield from self._take_input(call)
            response = yield call
            given = (yield from self._give_output(call, response)) if "output" in points else None
        except Exception:
            if told:
                yield self._told(call, "agent_shutdown", {"reason": "error"})
            raise
        except BaseException:
            if told:  # whoever is cancelled does not wait
                own_loop().start(self._told(call, "agent_shutdown", {"reason": "cancelled"}))
            raise
        if told:
            yield self._told(call, "agent_shutdown", {"reason": "completed"})
        return given

    def _take_input(self, call: Any) -> Generator[Any, Any, None]:
        content = targets.content_of(call.request.input)
        wanted = (yield self._permitted(call, "input", {"content": content}))["content"]
        if wanted != content:
            call.request = replace(call.request, input=targets.with_content(call.request.input, wanted))

    def _give_output(self, call: Any, response: Any) -> Generator[Any, Any, AgentResult | None]:
        content = response.record.content
        wanted = (yield self._permitted(call, "output", {"content": content}))["content"]
        return None if wanted == content else AgentResult(wanted)

    # --- asking ---

    async def _permitted(self, call: Any, point: str, fields: dict[str, Any]) -> Any:
        """Return what a verdict leaves of the target.

        Raises:
            GuardrailRejected: it denies.
        """
        refusal, wanted = await self._judge(call, point, fields)
        if refusal is not None:
            raise GuardrailRejected(refusal, f"{self._name}.{point}")
        return wanted

    async def _judge(self, call: Any, point: str, fields: dict[str, Any]) -> tuple[str | None, Any]:
        """Return why a verdict denies, or None, and what it leaves of the target."""
        record, wanted = await self._told(call, point, fields)
        return (None if record.proceeds else record.verdict.reason or "denied"), wanted

    async def _told(self, call: Any, point: str, fields: dict[str, Any]) -> tuple[Any, Any]:
        """Return the record of a verdict, and what it leaves of the target; warnings are marked on the span."""
        token = attach(leaving_out(self._entries))
        try:
            record, wanted = await on_own_loop(self._emit(call, point, fields))
        finally:
            detach(token)
        for warning in record.verdict.warnings:
            about = {names.HOOKS_POINT: point, names.HOOKS_REASON: warning.reason or ""}
            mark_span(call.root.span, call.root.scope, names.HOOKS_WARNED, about)
        return record, wanted

    async def _emit(self, call: Any, point: str, fields: dict[str, Any]) -> tuple[Any, Any]:
        """Ask the interceptors; on one loop, since an emitter and its sessions are no threads' to share."""
        span, scope = call.root.span.get_span_context(), call.scope
        trace = format_trace_id(span.trace_id)
        context = getattr(self._session(call.record.session_id or (trace if span.is_valid else self._alone)), point)(
            # A transform is made in the context, which is not to be the caller's.
            **deepcopy(fields)
        )
        if span.is_valid:
            context["trace"] = {"trace_id": trace, "span_id": format_span_id(span.span_id)}
        if scope is not None and scope.agent_name:
            context["agent"] = {**context["agent"], "id": scope.agent_name, "name": scope.agent_name}
        if call.record.user_id:
            context["actor"] = {"id": call.record.user_id}
        return await self._emitter.emit_unchecked(context), context["target"]

    def _session(self, name: str) -> Any:
        """Return what makes the contexts of a session, each with the next number."""
        builder = self._sessions.pop(name, None)
        if builder is None:
            builder = self._builder(agent_id="app", framework="spanrelay", session_id=name)
            if len(self._sessions) >= SESSIONS:
                self._sessions.popitem(last=False)
        self._sessions[name] = builder
        return builder


def _id_of(call: Any) -> str:
    """Return the model's id of a tool call, or that of its span."""
    return call.request.call_id or format_span_id(call.root.span.get_span_context().span_id)
