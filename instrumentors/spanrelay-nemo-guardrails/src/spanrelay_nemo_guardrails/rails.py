"""The rails of a run, one after the other or side by side: each a GUARDRAIL span with its verdict.

They are the application's policy and not ours: nothing here changes what they decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from opentelemetry.context import Context, attach, detach

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.records import Kind, SpanRecord
from spanrelay.scopes import Scope, current_scope, inherit, place_now
from spanrelay.semconv import names
from spanrelay.tracing import Start, Tracing, recording

RAIL_NAME = "rail.name"
RAIL_TYPE = "rail.type"
RAIL_STOP = "rail.stop"
"""As the toolkit's own spans say it: the flow, its type (`input`, `output` …), and whether it stops the run."""

_BEGINS = {
    "StartInputRail": "input",
    "StartOutputRail": "output",
    "StartToolInputRail": "tool_input",
    "StartToolOutputRail": "tool_output",
}
_ENDS = ("InputRailFinished", "OutputRailFinished", "ToolInputRailFinished", "ToolOutputRailFinished")

SIDE_BY_SIDE = {"run_input_rails_in_parallel": "input", "run_output_rails_in_parallel": "output"}
"""The actions that run all rails of one type at once."""


class Part(Scope):
    """A part of a run. `known` are attributes that its span starts with."""

    __slots__ = ("known",)

    def __init__(self, name: str, kind: Kind, known: Mapping[str, str], parent: Scope | None) -> None:
        operation = names.OPERATION_OF_KIND.get(kind)
        record = inherit(SpanRecord(0, 0, name=names.span_name(kind, operation, name), kind=kind), parent)
        record.operation = operation
        super().__init__(record, parent, name)
        self.known = known

    def open(self, tracing: Tracing, outer: Context, time: int | None = None) -> Context:
        """Start the span with what is known of the part."""
        self._tracing = tracing
        start = Start(self.record)
        start.attributes = {**start.attributes, **self.known}
        self.span = tracing.begin(start, outer, time)
        return self.within(outer)

    def judged(self, *, allowed: bool, reason: str | None = None) -> None:
        """Say on the span what was decided."""
        if self.span is None or not self.span.is_recording():
            return
        self.span.set_attribute(names.GUARDRAIL_VERDICT_TYPE, "allow" if allowed else "deny")
        self.span.set_attribute(names.GUARDRAIL_ACTION_TYPE, "allow" if allowed else "block")
        if reason and recording.content:
            self.span.set_attribute(names.GUARDRAIL_VERDICT_REASON, reason)


class Rail(Part):
    """One rail. It stops the run unless it is told to have finished."""

    __slots__ = ()

    def __init__(self, flow: str, side: str, parent: Scope | None) -> None:
        known = {names.GUARDRAIL_COMPONENT_NAME: flow, RAIL_NAME: flow, RAIL_TYPE: side}
        super().__init__(flow, "guardrail", known, parent)

    def end(self, *, stopped: bool, error: BaseException | None = None) -> None:
        """End the span with the verdict, or with what went wrong."""
        if error is None:
            self.judged(allowed=not stopped)
            if self.span is not None:
                self.span.set_attribute(RAIL_STOP, stopped)
        if isinstance(error, asyncio.CancelledError):
            # Another rail stopped the run first.
            self.record.incomplete, error = "cancelled", None
        self.close(error)


class RailsScope(Scope):
    """The scope of a run, which knows the rail that is at work."""

    __slots__ = ("_rail", "side")

    def __init__(self, record: SpanRecord, parent: Scope | None, name: str) -> None:
        super().__init__(record, parent, name)
        self._rail: Rail | None = None
        self.side: str | None = None
        """The type of the rails that run side by side."""

    def context(self, outer: Context) -> Context:
        """Return the context for what runs now: below the rail that is at work, if one is."""
        return outer if self._rail is None else self._rail.within(outer)

    def note(self, event: Mapping[str, Any]) -> None:
        """Begin or end a rail where the toolkit says that one begins or has finished."""
        kind = event.get("type")
        if kind in _ENDS:
            self.leave(stopped=False)
        elif kind in _BEGINS:
            self.leave()
            self._rail = Rail(str(event.get("flow_id")), _BEGINS[kind], self)
            self._rail.open(self._tracing, place_now())

    def leave(self, *, stopped: bool = True, error: BaseException | None = None) -> None:
        """End the rail at work, if any: one of which nobody said that it has finished has stopped the run."""
        rail, self._rail = self._rail, None
        if rail is not None:
            rail.end(stopped=stopped, error=error)


class Flows:
    """Wraps what runs one flow to its end; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def run(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Run a flow: one of those that are side by side is a rail."""
        scope, outer = current_scope(), place_now()
        events = cast("list[dict[str, Any]]", args[0] if args else kwargs["events"])
        if not isinstance(scope, RailsScope) or scope.side is None or events[-1]["type"] != "start_flow":
            return await wrapped(*args, **kwargs)
        rail = Rail(events[-1]["flow_id"], scope.side, scope)
        token = attach(rail.open(self._tracing, outer))
        try:
            new_events = await wrapped(*args, **kwargs)
        except BaseException as error:
            rail.end(stopped=False, error=error)
            raise
        finally:
            detach(token)
        with guarded("reading a rail's verdict"):
            rail.end(stopped=any(map(_stops, new_events)))
        return new_events


def _stops(event: Mapping[str, Any]) -> bool:
    return event["type"].endswith("Exception") or (event["type"] == "BotIntent" and event["intent"] == "stop")


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """What runs a flow to its end: the flow of a whole run, and each of those side by side."""
    module = "nemoguardrails.colang.v1_0.runtime.runtime"
    return (Patch(module, "RuntimeV1_0.generate_events", Flows(tracing).run, required=False),)
