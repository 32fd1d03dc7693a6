"""The application's own guardrails, each run of one a GUARDRAIL span with its verdict.

They are the application's policy and not ours: nothing here changes what they decide.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context, attach, detach

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.records import SpanRecord
from spanrelay.scopes import Scope, current_scope, inherit, place_now
from spanrelay.semconv import names
from spanrelay.tracing import Start, Tracing, recording

GUARDRAIL_ON = "openai_agents.guardrail.on"
"""What a guardrail judges: `input`, `output`, `tool_input` or `tool_output`."""


class GuardrailScope(Scope):
    """One run of a guardrail."""

    __slots__ = ("_on",)

    def __init__(self, name: str, on: str, parent: Scope | None) -> None:
        operation = names.OPERATION_OF_KIND["guardrail"]
        record = inherit(SpanRecord(0, 0, name=names.span_name("guardrail", operation, name), kind="guardrail"), parent)
        record.operation = operation
        super().__init__(record, parent, name)
        self._on = on

    def open(self, tracing: Tracing, outer: Context, time: int | None = None) -> Context:
        """Start the span with what is known of the guardrail."""
        self._tracing = tracing
        start = Start(self.record)
        known = {names.GUARDRAIL_COMPONENT_NAME: self.name, GUARDRAIL_ON: self._on}
        start.attributes = {**start.attributes, **known}
        self.span = tracing.begin(start, outer, time)
        return self.within(outer)

    def judged(self, result: Any) -> None:
        """Say on the span what the guardrail decided: pass, refuse, or another answer in the tool's place."""
        if self.span is None or not self.span.is_recording():
            return
        with guarded("reading a guardrail's verdict"):
            allowed, info = _verdict(result)
            self.span.set_attribute(names.GUARDRAIL_VERDICT_TYPE, "allow" if allowed else "deny")
            self.span.set_attribute(names.GUARDRAIL_ACTION_TYPE, "allow" if allowed else "block")
            if info is not None and recording.content:
                text = info if isinstance(info, str) else _json.dumps_text(info)
                self.span.set_attribute(names.GUARDRAIL_VERDICT_REASON, text)


def _verdict(result: Any) -> tuple[bool, Any]:
    """Return whether a guardrail lets pass, and what it says of that."""
    behaviour = getattr(result, "behavior", None)
    if behaviour is not None:
        return behaviour["type"] == "allow", behaviour.get("message") or result.output_info
    return not result.output.tripwire_triggered, result.output.output_info


class Guardrails:
    """Wraps the guardrails of one kind; `tracing` opens the spans."""

    def __init__(self, on: str, tracing: Tracing) -> None:
        self._on = on
        self._tracing = tracing

    async def run(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Run a guardrail."""
        outer = place_now()
        scope = GuardrailScope(instance.get_name(), self._on, current_scope(outer))
        token = attach(scope.open(self._tracing, outer))
        try:
            result = await wrapped(*args, **kwargs)
        except BaseException as error:
            scope.close(error)
            raise
        finally:
            detach(token)
        scope.judged(result)
        scope.close()
        return result


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The four kinds of guardrails."""
    return tuple(
        Patch(module, f"{kind}.run", Guardrails(on, tracing).run, required=False)
        for module, kind, on in (
            ("agents.guardrail", "InputGuardrail", "input"),
            ("agents.guardrail", "OutputGuardrail", "output"),
            ("agents.tool_guardrails", "ToolInputGuardrail", "tool_input"),
            ("agents.tool_guardrails", "ToolOutputGuardrail", "tool_output"),
        )
    )
