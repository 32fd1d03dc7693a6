"""Actions: what rails ask is part of a guardrail, what a dialog asks of the application is a tool under policy.

What the toolkit injects (models, events, context) is no argument: it is not recorded and not shown to policy.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from opentelemetry.context import attach, detach

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import Response
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.function import ToolExecution
from spanrelay.records import JSON, ErrorInfo, Kind, SpanRecord, ToolRequest
from spanrelay.scopes import Scope, current_scope, place_now
from spanrelay.semconv import names
from spanrelay.tracing import Tracing
from spanrelay_nemo_guardrails.rails import SIDE_BY_SIDE, Part, Rail, RailsScope

ACTION_NAME = "action.name"
"""As the toolkit's own spans say it."""

_FAILED = "failed"
_INJECTED = frozenset({"config", "context", "events", "kb", "llm", "llm_task_manager", "state"})
_PLAIN = (str, int, float, bool, list, dict, type(None))


def shown(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an action without what the toolkit injects."""
    return {name: value for name, value in params.items() if name not in _INJECTED and isinstance(value, _PLAIN)}


def value_of(result: Any) -> Any:
    """Return what an action gave: an `ActionResult` carries events beside it."""
    return getattr(result, "return_value", result)


def note_failure(record: SpanRecord) -> None:
    """Say that an action failed: the toolkit logs what it raised, and hands on that it failed."""
    record.error = ErrorInfo("action_failed", "the action failed; what it raised is in the log of nemoguardrails")


class ActionExecution(ToolExecution):
    """One execution of an action that the application wrote."""

    __slots__ = ()

    def gave(self, value: object) -> None:
        """Keep what the action gave, without its status."""
        result, status = cast("tuple[Any, str]", value)
        if status == _FAILED:
            self._is_error = True
            note_failure(self.record)
        super().gave(value_of(result))

    def _given_back(self, response: Response) -> JSON:
        return _json.loads(_json.dumps(value_of(response.native[0])))


class ActionBoundary:
    """The real call: the dispatcher's execution of an action, which catches what the action raises."""

    __slots__ = ("_name", "_params", "_wrapped")

    def __init__(self, wrapped: Any, name: str, params: dict[str, Any]) -> None:
        self._wrapped = wrapped
        self._name = name
        self._params = params

    async def send(self, call: ActionExecution) -> Any:
        """Execute the action with what policy left of its arguments."""
        given, params = call.outgoing(), self._params
        if call.observed:
            call.sent = _json.dumps(given)
        if given is not call.given:
            injected = {name: value for name, value in params.items() if name not in call.given}
            params = {**given, **injected}
        result = await self._wrapped(self._name, params)
        call.gave(result)
        return result

    async def answer(self, call: ActionExecution, body: Any) -> Any:
        """An answer of policy is the action's value; an error of policy's is told like any other value."""
        answer = body, "success"
        call.gave(answer)
        return answer


class Actions:
    """Wraps the execution of actions; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def execute(self, wrapped: Any, dispatcher: Any, args: Any, kwargs: Any) -> Any:
        """Execute an action."""
        name, params = _executed(*args, **kwargs)
        scope = current_scope()
        run = scope if isinstance(scope, RailsScope) else None
        if name == "create_event":
            return await _create_event(wrapped, run, name, params)
        if run is not None and name in SIDE_BY_SIDE:
            return await _side_by_side(wrapped, run, name, params)
        outer = place_now()
        token = attach(outer if run is None else run.context(outer))
        try:
            kind = _kind_of(dispatcher.get_action(name), current_scope())
            if kind == "tool":
                request = ToolRequest(name, shown(params))
                return await arun(ActionExecution(request, ActionBoundary(wrapped, name, params), self._tracing))
            return await self._part(wrapped, kind, name, params)
        finally:
            detach(token)

    async def _part(self, wrapped: Any, kind: Kind, name: str, params: dict[str, Any]) -> Any:
        known = {ACTION_NAME: name}
        if kind == "guardrail":
            known[names.GUARDRAIL_COMPONENT_NAME] = name
        part = Part(name, kind, known, current_scope())
        token = attach(part.open(self._tracing, place_now()))
        try:
            result, status = await wrapped(name, params)
        except BaseException as error:
            part.close(error)
            raise
        finally:
            detach(token)
        with guarded("reading what an action gave"):
            _keep(part, params, result, status)
        part.close()
        return result, status


def _executed(action_name: str, params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return action_name, params


def _kind_of(action: Any, scope: Scope | None) -> Kind:
    """Return what an action is: part of the toolkit, of a rail, or a tool of the application."""
    kind = _kind_of_file(_file_of(action))
    return "guardrail" if kind == "tool" and isinstance(scope, Rail) else kind


def _file_of(action: Any) -> str:
    code = getattr(inspect.unwrap(action), "__code__", None)
    if code is not None:
        return code.co_filename
    module = sys.modules.get((action if isinstance(action, type) else type(action)).__module__)
    return getattr(module, "__file__", None) or ""


@lru_cache(maxsize=256)
def _kind_of_file(file: str) -> Kind:
    # Modules of actions are loaded by their path: their names do not say where they come from.
    toolkit = Path(cast("str", sys.modules["nemoguardrails"].__file__)).parent
    if toolkit not in Path(file).parents:
        return "tool"
    return "guardrail" if toolkit / "library" in Path(file).parents else "chain"


def _keep(part: Part, params: dict[str, Any], result: Any, status: str) -> None:
    record, value = part.record, value_of(result)
    if status == _FAILED:
        note_failure(record)
    record.input, record.output = _json.loads(_json.dumps(shown(params))), _json.loads(_json.dumps(value))
    blocked = getattr(value, "is_blocked", None)
    if record.kind == "guardrail" and isinstance(blocked, bool):
        part.judged(allowed=not blocked, reason=getattr(value, "reason", None))


async def _create_event(wrapped: Any, run: RailsScope | None, name: str, params: dict[str, Any]) -> Any:
    """Create an event: some say that a rail begins or has finished."""
    result, status = await wrapped(name, params)
    if run is not None:
        with guarded("reading an event"):
            for event in getattr(result, "events", None) or ():
                run.note(event)
    return result, status


async def _side_by_side(wrapped: Any, run: RailsScope, name: str, params: dict[str, Any]) -> Any:
    """Run rails at once: the flows that begin now are rails of this run."""
    run.side = SIDE_BY_SIDE[name]
    try:
        return await wrapped(name, params)
    finally:
        run.side = None


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The one method that executes actions, whichever Colang asks for them."""
    module = "nemoguardrails.actions.action_dispatcher"
    return (Patch(module, "ActionDispatcher.execute_action", Actions(tracing).execute),)
