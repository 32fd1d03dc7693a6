"""Runs of tools: which documents they are written to, and which documents of what they did they are linked with.

A run whose model call may not have ended waits.
"""

from __future__ import annotations

from collections.abc import Mapping

from spanrelay._guard import losses
from spanrelay.assembly import runs, tree
from spanrelay.assembly.agents import run_of
from spanrelay.assembly.calls import Call
from spanrelay.assembly.document import MAX_STEPS, Document, Journal
from spanrelay.assembly.order import Order
from spanrelay.assembly.placing import Placing
from spanrelay.assembly.runs import Run
from spanrelay.assembly.tree import Key, Node


class Tools:
    """The runs of tools that have ended, those included that wait for others like them."""

    def __init__(self, nodes: Mapping[Key, Node], order: Order, placing: Placing) -> None:
        self._nodes, self._order, self._placing = nodes, order, placing
        self._unsettled: dict[int, Document] = {}

    def end(self, node: Node) -> None:
        """Write the run of a tool that has ended, or keep it until its call is known."""
        record = node.record
        above = tree.tool_above(node)
        if tree.repeats(node, above):
            return  # a client of the same tool beneath its own span, as MCP has it
        self._placing.leave_gone(node)
        document = self._placing.tool_document(node)
        if document.count >= MAX_STEPS or document.journal.full:
            losses.add("tool calls beyond the size of a trajectory")
            return
        run = run_of(node, document)
        settled = runs.add_run(document, record, may_wait=self._order.busy(node))
        if run is not None and any(call.step < run.before for _, call in settled):
            run.resumed = True
        self._link_all(document, settled)
        self._note(document)
        if node.orphaned:
            document.note("missing_parent")

    def _link(self, node: Node, document: Document, call: Call) -> None:
        node.call = (document, call)
        for child in (node.document, *(node.beside or ())):
            if child is not None and child is not document:
                document.link(child, call)

    def settle(self, document: Document, *, final: bool) -> None:
        """Write what waits in a document, as far as its calls are known by now; with `final` all of it."""
        if document.waiting:
            self._link_all(document, runs.settle(document, final=final))
        self._note(document)

    def _note(self, document: Document) -> None:
        """Remember a document in which something waits, and no other."""
        if document.waiting:
            self._unsettled[id(document)] = document
        else:
            self._unsettled.pop(id(document), None)

    def _link_all(self, document: Document, settled: list[Run]) -> None:
        for record, call in settled:
            node = self._nodes.get((record.trace_id, record.span_id))
            if node is not None:
                self._link(node, document, call)

    def leave_open(self, node: Node) -> None:
        """Mark a tool, or a model call, that has not ended and will not."""
        documents = node.session.documents
        if node.kind == "llm":
            if documents:
                documents[0].mark_partial()
            return
        document = self._placing.document_of(node)
        self.settle(document, final=True)
        runs.add_unfinished(document, node.record)

    def settle_before_call(self, document: Document) -> None:
        """Write what fits several calls of a document: no more runs come once a model goes on."""
        if document.waiting:
            self._link_all(document, runs.settle_ambiguous(document))
        self._note(document)

    def settle_all(self, journal: Journal | None = None) -> None:
        """Write all that still waits, or all that `journal` stores of it."""
        for document in list(self._unsettled.values()):
            if journal is None or document.journal is journal:
                self.settle(document, final=True)
