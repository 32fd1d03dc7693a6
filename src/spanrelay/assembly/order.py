"""The order in which ended model calls are written: that of their starts.

A call waits for those that began earlier, since they may tell of the same call, though never for long.
"""

from __future__ import annotations

from collections.abc import Callable

from spanrelay.assembly import tree
from spanrelay.assembly.tree import Key, Node

MAX_HELD = 256
"""Ended model calls that wait for earlier ones to end."""

GRACE = 5_000_000_000
"""Nanoseconds that a call without parent waits, at most, for a framework's span of the same call to end."""


class Order:
    """Holds model calls that have ended, until `write(node)` may be called for them.

    `held` are those that wait, `calling` the model calls that have not ended, `unknown` the spans that may be one.
    """

    def __init__(self, write: Callable[[Node], None]) -> None:
        self._write = write
        self.held: list[Node] = []
        self._calling: dict[Key, Node] = {}
        self._unknown: dict[Key, Node] = {}

    def begin(self, key: Key, node: Node) -> None:
        """Take in that a span has begun."""
        if node.kind == "llm":
            self._pass(node)
            self._calling[key] = node
        elif node.kind is None:
            self._unknown[key] = node

    def drop(self, key: Key) -> None:
        """Wait no longer for a span: it has ended, or is given up."""
        self._calling.pop(key, None)
        self._unknown.pop(key, None)

    def release(self, *, everything: bool = False) -> None:
        """Write ended model calls in the order of their starts, once all that began earlier have ended."""
        if len(self.held) > 1:
            self.held.sort(key=tree.by_start)
        index = 0
        while index < len(self.held):
            node = self.held[index]
            full = len(self.held) > MAX_HELD
            if everything or full or not self._must_wait(node):
                self.held.pop(index)
                self._write(node)
                index = 0
            else:
                index += 1

    def _must_wait(self, node: Node) -> bool:
        """Whether a model call that began earlier, or a span that may be one, may tell of the same call."""
        if self._calling and any(tree.precedes(other, node) for other in self._calling.values()):
            return True
        return node.loose and any(tree.precedes(other, node) for other in self._unknown.values())

    def pass_time(self, now: int) -> None:
        """Let calls go that have waited for `GRACE` at the time `now`, in nanoseconds since the epoch."""
        for held in self.held:
            held.passed = held.passed or (held.record.end or 0) + GRACE <= now
        self.release()

    def _pass(self, node: Node) -> None:
        """Let ended calls go that wait beside a call which runs on while work has gone on without it."""
        if not self.held:
            return
        around = tree.boundary(node)
        for held in self.held:
            ended = held.record.end or 0
            aside = ended <= node.start and tree.boundary(held) is around
            held.passed = held.passed or aside or ended + GRACE <= node.start
        self.release()

    def busy(self, node: Node) -> bool:
        """Whether a model call around `node` has not been written yet; a tool may run before its call ends."""
        waiting = (*self._calling.values(), *self.held)
        if not waiting:
            return False
        around = tree.boundary(node)
        return any(other is not node and tree.boundary(other) is around for other in waiting)
