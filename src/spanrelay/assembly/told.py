"""The model calls that stand in documents already, to recognise another span of one of them.

So it is with frameworks that say only as a span ends that it is a model call.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from spanrelay.assembly import tree
from spanrelay.assembly.document import Document
from spanrelay.assembly.duplicates import Sighting, relate
from spanrelay.assembly.tree import Node

MAX_RECENT = 4096
"""Answers whose ids are remembered, to recognise a second span of the same call."""

MAX_LATELY = 32
"""Model calls that are compared with one that encloses them and ends later."""


@dataclass(slots=True)
class Told:
    """A model call that stands in a document already."""

    document: Document
    step: int
    node: Node
    sighting: Sighting
    metrics: bool


class ToldCalls:
    """The model calls told lately, and all whose answers have ids."""

    def __init__(self) -> None:
        self._by_answer: OrderedDict[str, Told] = OrderedDict()
        self._lately: deque[Told] = deque(maxlen=MAX_LATELY)

    def before(self, node: Node, sighting: Sighting) -> Told | None:
        """Return where this physical call stands already, if another span of it has been written."""
        known = self._by_answer.get(sighting.response_id) if sighting.response_id else None
        if (
            known is not None
            and known.node is not node
            and (node.loose or not known.node.loose)
            and known.sighting.start <= sighting.end
            and sighting.start <= known.sighting.end
            and relate(sighting, known.sighting, nested=_stand_within(node, known.node)) == "same"
        ):
            return known
        for told in self._lately if node.bears else ():
            if tree.beneath(told.node, node) and relate(sighting, told.sighting, nested=True) == "same":
                return told
        return None

    def remember(self, told: Told) -> None:
        """Recognise another span of a call from now on."""
        self._lately.append(told)
        if told.sighting.response_id:
            self._by_answer[told.sighting.response_id] = told
            record = told.node.record
            tree.resolve(told.node.session).spans[record.trace_id, record.span_id] = told.sighting.response_id
            if len(self._by_answer) > MAX_RECENT:
                self._by_answer.popitem(last=False)

    def forget(self, answer: str, node: Node) -> None:
        """Forget the call that told the answer of an id, if that was `node`'s."""
        told = self._by_answer.get(answer)
        if told is not None and told.node is node:
            del self._by_answer[answer]

    def move(self, document: Document, child: Document) -> None:
        """Note that what stood in a document stands in a child of it now."""
        for told in (*self._lately, *self._by_answer.values()):
            if told.document is document:
                told.document = child


def _stand_within(one: Node, other: Node) -> bool:
    return tree.beneath(one, other) or tree.beneath(other, one)
