"""The tool calls of one document: their ids, which of them a result or a tool's run belongs to.

An id that a document has is never given to another call of it, whatever id that has on the wire.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from spanrelay import _json
from spanrelay.assembly.transcript import canonical
from spanrelay.records import SpanRecord

MAX_CALLS = 2048
"""Tool calls whose later results are still recognised."""


@dataclass(slots=True)
class Call:
    """One tool call of a document: where it stands, and what is known of its result.

    `executed` and `told` say whether its own span and a later request have given the result; `shown` is the
    key of the content that stands in the document.
    """

    step: int
    id: str
    name: str
    arguments: str
    wire_id: str | None
    executed: bool = False
    told: bool = False
    shown: str | None = None


class Calls:
    """The calls of a document that are still recognised, in order, by the ids that they have there: `by_id`."""

    def __init__(self) -> None:
        self.by_id: OrderedDict[str, Call] = OrderedDict()
        self._by_wire: dict[str, Call] = {}
        self._used: set[int] = set()

    def own_id(self, given: str) -> str:
        """Return an id that no other call of the document has: `given`, or one made of it."""
        own, number = given, 1
        while hash(own) in self._used:
            number += 1
            own = f"{given}#{number}"
        self._used.add(hash(own))
        return own

    def know(self, call: Call) -> None:
        """Recognise a call from now on."""
        self.by_id[call.id] = call
        if call.wire_id:
            self._by_wire[call.wire_id] = call
        if len(self.by_id) > MAX_CALLS:
            _, old = self.by_id.popitem(last=False)
            if old.wire_id and self._by_wire.get(old.wire_id) is old:
                del self._by_wire[old.wire_id]

    def of(self, wire_id: str) -> Call | None:
        """Return the call of that id; of those of one answer that share it the first that no result was told of."""
        found = self._by_wire.get(wire_id)
        if found is not None and not found.told:
            for call in reversed(self.by_id.values()):
                if call.step != found.step:
                    break
                if call.wire_id == wire_id and not call.told:
                    found = call
        return found

    def next(self, name: str | None) -> Call | None:
        """Return the first call that no request has told the result of, for providers without ids."""
        for call in self.by_id.values():
            if not call.told and (name is None or call.name == name):
                return call
        return None

    def fitting(self, record: SpanRecord) -> list[Call]:
        """Return the calls that a tool's run may be of; none where it fits none."""
        tool = record.tool
        if tool is None:
            return []
        name = tool.name or record.name
        pending = [c for c in self.by_id.values() if not c.executed and not c.told and c.name == name]
        if tool.call_id:
            call_id = str(tool.call_id)
            call = self._by_wire.get(call_id) or self.by_id.get(call_id)
            if call is not None:
                return [call]
            # Of an API whose calls have no ids, as Gemini's, a framework runs them under ids of its own.
            pending = [c for c in pending if not c.wire_id]
            if tool.arguments is None:
                return pending
        arguments = canonical(tool.arguments)
        return [c for c in pending if _same_arguments(c.arguments, arguments)] or (pending if len(pending) == 1 else [])


def _same_arguments(known: str, given: str) -> bool:
    """Whether two canonical arguments agree; some tools record a lone argument without its name."""
    if known == given:
        return True
    parsed = _json.loads_or_text(known) if known.startswith("{") else None
    if not isinstance(parsed, dict) or len(parsed) != 1:
        return False
    return canonical(next(iter(parsed.values()))) == given
