"""A call of a tool over MCP, on either side of the connection, and the trace that it carries.

A framework's span of the very tool is that of its client too: one call of a tool, one span in a process that asks.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast

from opentelemetry import propagate
from opentelemetry.context import Context, get_current
from opentelemetry.trace import SpanContext, SpanKind, get_current_span

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs.mcp_tool import METHOD, decode_request, decode_result, is_shown_as
from spanrelay.pipeline.call import NO_CONTEXT, Boundary, Lent, Opened, Response, call_in_flight
from spanrelay.pipeline.function import ToolExecution
from spanrelay.pipeline.middleware import is_covered
from spanrelay.pipeline.typed import as_json
from spanrelay.records import JSON, ToolRequest
from spanrelay.scopes import current_scope
from spanrelay.semconv import names
from spanrelay.tracing import Start, Tracing


class RemoteCall(ToolExecution):
    """One request of `tools/call`.

    Args:
        params: The JSON of its parameters.
        boundary: The way to the server, or to the function there.
        tracing: Opens the span.
        side: `CLIENT` or `SERVER`.
        facts: Attributes of the span that the conventions have for MCP.
    """

    __slots__ = ("_lender", "_link", "facts", "side")

    def __init__(
        self,
        params: Mapping[str, Any],
        boundary: Boundary,
        tracing: Tracing,
        side: SpanKind,
        facts: Mapping[str, str | None],
        link: SpanContext | None = None,
    ) -> None:
        request = decode_request(params)
        super().__init__(request, boundary, tracing)
        self.record.name = f"{METHOD} {request.name}"
        self.side = side
        self.facts = {names.MCP_METHOD: METHOD, **{name: value for name, value in facts.items() if value is not None}}
        self._lender: ToolExecution | None = None
        self._link = link

    def open(self, opened: Opened | None = None) -> Context:
        """Open the span, or take that of the framework's call of the very tool."""
        above = call_in_flight()
        if isinstance(above, ToolExecution) and above.context and is_shown_as(name_of(self), name_of(above)):
            self.exempt = self._is_what_was_judged(above)
            if not isinstance(above, RemoteCall) and not above.answered_below:
                self._lender, opened = above, Lent(above)
        return super().open(opened or self._begun())

    def _begun(self) -> Opened:
        start = Start(self.record)
        opened = Opened(self.tracing, Start.of(start.name, self.side, {**start.attributes, **self.facts}))
        if self._link is not None:
            opened.span.add_link(self._link)
        return opened

    def _is_what_was_judged(self, above: ToolExecution) -> bool:
        """Whether policy has seen these arguments at the call above, and nothing was registered in between."""
        if current_scope() is not above.scope:
            return False
        if not is_covered(above.scope):
            return True
        try:
            return _json.dumps_sorted(above.outgoing()) == _json.dumps_sorted(self.given)
        except Exception:  # objects of the application's, compared by code of its own
            return False

    def take(self, result: Any) -> None:
        """Keep what the server answered; `result` is the SDK's object."""
        wire = wire_of(result)
        self._is_error = wire.get("isError") is True
        if self._lender is not None:
            self._lender.answered_below = is_final(wire)
            self._lender._is_error = self._is_error
        if self.observed:
            self.gave(decode_result(wire).content)

    def _given_back(self, response: Response) -> JSON:
        return decode_result(wire_of(response.native)).content

    def decode_answer(self, response: Response) -> Any:
        """Return what policy sees of the answer."""
        record = super().decode_answer(response)
        record.is_error = wire_of(response.native).get("isError") is True
        return record

    def fail(self, error: BaseException) -> None:
        """End the span of a call that raised; the other side's error has a number."""
        code = getattr(getattr(error, "error", None), "code", None)
        if type(code) is int:
            self.facts[names.RPC_STATUS] = str(code)
        super().fail(error)

    def finish(self, end: int | None = None) -> None:
        """End the span, unless it is a framework's, which ends it with what the framework makes of the answer."""
        if self.span.is_recording():
            self.span.set_attributes(self.facts)
        if self._lender is None:
            super().finish(end)
            return
        record = self._lender.record
        record.would_refuse += self.record.would_refuse
        record.would_change += self.record.would_change
        # Both would keep payloads until the garbage collector comes round.
        self.context = self._around = NO_CONTEXT
        self._lender = None


def name_of(call: ToolExecution) -> str:
    """Return the name of the tool that a call is of."""
    return cast("ToolRequest", call.record.tool).name


def wire_of(native: Any) -> Mapping[str, Any]:
    """Return the JSON of a result, which is an object of the SDK's or JSON already."""
    if isinstance(native, Mapping):
        return cast("Mapping[str, Any]", native)
    dump = getattr(native, "model_dump", None)
    found: Any = dump(by_alias=True, mode="json", exclude_none=True) if dump is not None else as_json(native)
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {"content": found}


def is_final(result: Mapping[str, Any]) -> bool:
    """Whether the server is done with the call, and does not wait for input to the next request."""
    return result.get("resultType") != "input_required"


def carried(meta: Any) -> tuple[Context, SpanContext | None]:
    """Return where a request belongs by its `_meta`, and the span that is current here where that is another trace's.

    What comes from this very process goes on as it is: nothing was between.
    """
    here = get_current()
    around = get_current_span(here).get_span_context()
    with guarded("reading the trace that a request of MCP carries"):
        carrier = {name: value for name, value in dict(meta or {}).items() if isinstance(value, str)}
        context = propagate.extract(carrier, here)
        found = get_current_span(context).get_span_context()
        if not found.is_valid or found.span_id == around.span_id:
            return here, None
        return context, around if around.is_valid and around.trace_id != found.trace_id else None
    return here, None


def module_of_types() -> Any:
    """Return the module that has the protocol's types: a distribution of its own since SDK 2."""
    return sys.modules.get("mcp_types") or sys.modules["mcp.types"]
