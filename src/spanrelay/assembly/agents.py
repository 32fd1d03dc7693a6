"""Runs of agents: where each begins, and what it was asked.

What an agent was asked is written only where no model call beneath it has told that.
"""

from __future__ import annotations

from collections.abc import Callable

from spanrelay.assembly import steps, tree
from spanrelay.assembly.document import Document
from spanrelay.assembly.request import add_question
from spanrelay.assembly.tree import AgentRun, Node
from spanrelay.records import SpanRecord


def run_of(node: Node, document: Document) -> AgentRun | None:
    """Note that what follows in `document` is of the run of the agent that stands outermost around a span."""
    agent = tree.outermost_of(node, document, root=document in tree.resolve(node.session).documents)
    if agent is None:
        return None
    if agent.run is None:
        agent.run = AgentRun(document, document.line, document.count + 1)
        for around in tree.agents_around(agent):
            around.within = around.within or agent.run
            agent.run.shared = agent.run.shared or around.within is agent.run
    return agent.run


class Questions:
    """Agents that have ended and were asked something."""

    def __init__(self) -> None:
        self._asked: list[tuple[Node, SpanRecord]] = []

    def note(self, agent: Node, record: SpanRecord) -> None:
        """Keep what an ended agent's span says it was asked, if it says so."""
        if steps.asked_of(record):
            self._asked.append((agent, record))

    def write(self, held: list[Node], is_gone: Callable[[Document], bool]) -> None:
        """Write what agents were asked that have ended, where no model call beneath them has told that."""
        if not self._asked:
            return
        waiting = [each for each in self._asked if any(tree.beneath(call, each[0]) for call in held)]
        for node, record in self._asked:
            run = node.run or node.within
            if run is None or is_gone(run.document) or any(node is each for each, _ in waiting):
                continue
            before = run.before if run.document.line is run.line else 1
            heard = add_question(run.document, record, steps.asked_of(record), before, run.heard, resumed=run.resumed)
            run.heard = heard if run.shared else ""
        self._asked = waiting
