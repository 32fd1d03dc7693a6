"""Whose policy a call stands under: that of its own scopes and of the process, whatever others do meanwhile."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from spanrelay import (
    GuardrailRejected,
    arun_tool,
    current_scope,
    execution_intercept,
    guardrail,
    mark,
    run_tool,
    sanitizer,
    scope,
    tracing,
    use,
)
from spanrelay.registry import Handle
from spanrelay.scopes import Scope
from spanrelay.telemetry.front import put_in_front
from spanrelay.telemetry.processor import RelaySpanProcessor
from spanrelay.tracing import default_tracing
from spanrelay_testkit.capture import Capture, captured

CYCLES = int(os.environ.get("SPANRELAY_TEST_CYCLES", "100000"))
"""How often a scope is entered and left; a million takes a minute."""

# --- any interleaving ---

Entries = dict[str, int]
"""Priorities by name."""


@dataclass
class Place:
    """What is known of one scope: where it stands, and what it owns."""

    scope: Scope
    above: Place | None
    own: Entries = field(default_factory=dict[str, int])

    def chain(self) -> list[Entries]:
        """The entries of each scope from the outermost on."""
        return [*(self.above.chain() if self.above else ()), self.own]


class Actors:
    """Concurrent tasks that do as they are told, one step at a time, and a model of what each must see."""

    def __init__(self) -> None:
        self.everywhere: Entries = {}
        self.handles: list[tuple[Handle, Entries, str]] = []
        self.actors: list[Actor] = []
        self.numbers = count()

    async def tell(self, number: int, order: str, priority: int) -> None:
        """Let one actor do one thing, and wait until it has or is in the middle of a call."""
        actor = self.actors[number % len(self.actors)]
        actor.idle.clear()
        if actor.gate is not None:
            # It is in the middle of a call, which is all that it can end.
            gate, actor.gate = actor.gate, None
            gate.set()
        else:
            actor.inbox.put_nowait((order, priority))
        await actor.idle.wait()
        if actor.task.done():
            actor.task.result()

    async def finish(self) -> None:
        """Let everybody end its calls and leave its scopes, the youngest first."""
        for actor in reversed(self.actors):
            if actor.gate is not None:
                actor.gate.set()
            actor.inbox.put_nowait(("stop", 0))
            await actor.task
        for handle, _, _ in self.handles:
            handle.remove()


class Actor:
    """A task with scopes of its own, begun within whatever scope its maker was in."""

    def __init__(self, all_: Actors, place: Place | None) -> None:
        self.all = all_
        self.place = place
        self.entered: list[tuple[scope, Place]] = []
        self.inbox: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self.idle = asyncio.Event()
        self.gate: asyncio.Event | None = None
        all_.actors.append(self)
        self.task = asyncio.ensure_future(self._live())

    async def _live(self) -> None:
        try:
            while True:
                order, priority = await self.inbox.get()
                if order == "stop":
                    break
                await getattr(self, order)(priority)
                assert current_scope() is (self.place.scope if self.place else None)
                self.idle.set()
            while self.entered:
                await self.leave(0)
        finally:
            self.idle.set()

    async def enter(self, priority: int) -> None:
        manager = scope(f"scope {next(self.all.numbers)}", "chain")
        self.place = Place(manager.__enter__(), self.place)
        self.entered.append((manager, self.place))

    async def leave(self, priority: int) -> None:
        if self.entered:
            manager, left = self.entered.pop()
            manager.__exit__(None, None, None)
            left.own.clear()
            self.place = left.above

    async def register(self, priority: int) -> None:
        if self.place is not None:
            self._register(self.place.scope, self.place.own, priority)

    async def register_above(self, priority: int) -> None:
        if self.place is not None and self.place.above is not None:
            self._register(self.place.above.scope, self.place.above.own, priority)

    async def register_everywhere(self, priority: int) -> None:
        self._register(None, self.all.everywhere, priority)

    def _register(self, owner: Scope | None, entries: Entries, priority: int) -> None:
        name = f"step {next(self.all.numbers)}"

        @execution_intercept(name=name, priority=priority)
        def step(call: Any) -> Iterator[Any]:
            call.request.arguments["seen"].append(name)
            yield call

        self.all.handles.append((use(step, scope=owner), entries, name))
        entries[name] = priority

    async def remove(self, priority: int) -> None:
        if self.all.handles:
            handle, entries, name = self.all.handles.pop(priority % len(self.all.handles))
            handle.remove()
            entries.pop(name, None)

    async def spawn(self, priority: int) -> None:
        if len(self.all.actors) < 6:
            Actor(self.all, self.place)

    async def call(self, priority: int) -> None:
        expected = self._expected()
        assert run_tool("t", lambda seen: seen, {"seen": []}) == expected

    async def begin_call(self, priority: int) -> None:
        expected, self.gate = self._expected(), asyncio.Event()

        async def work(seen: list[str]) -> list[str]:
            self.idle.set()
            await gate.wait()
            return seen

        gate = self.gate
        assert await arun_tool("t", work, {"seen": []}) == expected

    def _expected(self) -> list[str]:
        """The names of what must run around a call made now, in order."""
        levels = [self.all.everywhere, *(self.place.chain() if self.place else ())]
        ranked = [(priority, depth, name) for depth, entries in enumerate(levels) for name, priority in entries.items()]
        return [name for _, _, name in sorted(ranked)]


ORDERS = [
    *("enter", "enter", "leave", "spawn"),
    *("register", "register", "register_above", "register_everywhere", "remove"),
    *("call", "call", "call", "begin_call"),
]
steps = st.tuples(st.integers(0, 5), st.sampled_from(ORDERS), st.integers(0, 3))


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, min_size=20, max_size=60))
def test_each_call_sees_exactly_its_own_chain(orders: list[tuple[int, str, int]]) -> None:
    async def go() -> None:
        actors = Actors()
        Actor(actors, None)
        Actor(actors, None)
        try:
            for number, order, priority in orders:
                await actors.tell(number, order, priority)
        finally:
            await actors.finish()

    with captured():
        asyncio.run(go())


def test_what_an_outer_scope_registers_later_holds_in_the_scopes_that_are_open_below_it(capture: Capture) -> None:
    @guardrail
    def never(call: Any) -> str:
        return "no"

    @sanitizer
    def hide(field: Any) -> Any:
        return "hidden" if field.name == "result" else field.value

    with scope("outer") as outer, scope("middle"), scope("inner", "chain"):
        assert run_tool("t", lambda: "seen") == "seen"
        use(hide, scope=outer)
        assert run_tool("t", lambda: "unseen") == "unseen"
        use(never, scope=outer)
        with pytest.raises(GuardrailRejected):
            run_tool("t", lambda: "unheard of")
    results = [(span.attributes or {}).get("gen_ai.tool.call.result") for span in capture.of("TOOL")]
    assert results == ["seen", "hidden", None]


def test_threads_that_register_in_one_scope_at_once_all_count(capture: Capture) -> None:
    def registering(number: int) -> None:
        ready.wait()
        use(execution_intercept(name=f"step {number}")(step), scope=place)

    def step(call: Any) -> Iterator[Any]:
        call.request.arguments["seen"].append("step")
        yield call

    for _ in range(20):
        with scope("shared") as place:
            ready = threading.Barrier(8)
            threads = [threading.Thread(target=registering, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert run_tool("t", lambda seen: seen, {"seen": []}) == ["step"] * 8


# --- memory ---


@guardrail
def fine(call: Any) -> None:
    """Let everything pass."""


@sanitizer
def as_it_is(field: Any) -> Any:
    """Leave everything as it is."""
    return field.value


def bare() -> None:
    with scope("outer", session="s", metadata={"a": 1}), scope("inner", "chain"):
        pass


def owning() -> None:
    with scope("outer") as outer, scope("inner", "chain") as inner:
        use(fine, scope=outer)
        use(as_it_is, scope=inner)
        mark("halfway")


def calling() -> None:
    with scope("outer") as outer, scope("inner", "chain"):
        use(fine, scope=outer)
        run_tool("t", lambda: None)


@pytest.mark.parametrize(("cycle", "share"), [(bare, 1), (owning, 4), (calling, 20)])
def test_scopes_leave_nothing_behind(cycle: Callable[[], None], share: int) -> None:
    with recording_provider():
        run_cycles(cycle, 300)
        before = settled()
        run_cycles(cycle, CYCLES // share // 2)
        # Two scopes a cycle. A single object of 100 bytes left by each would be 100 000 blocks.
        assert settled() - before < 500


async def test_scopes_of_many_tasks_leave_nothing_behind() -> None:
    async def one() -> None:
        with scope("outer") as outer:
            use(fine, scope=outer)
            await asyncio.sleep(0)
            await arun_tool("t", asyncio.sleep, 0)

    async def many(count: int) -> None:
        for _ in range(count // 100):
            await asyncio.gather(*(one() for _ in range(100)))

    with recording_provider():
        await many(300)
        before = settled()
        await many(CYCLES // 50)
        assert settled() - before < 500


@contextmanager
def recording_provider() -> Iterator[None]:
    """Spans are recorded, adopted and read by nobody."""
    provider = TracerProvider(shutdown_on_exit=False)
    take_away = put_in_front(RelaySpanProcessor(), provider)
    assert take_away is not None
    own = default_tracing()
    before = own._provider
    tracing.adopt(provider)
    own.use(provider)
    try:
        yield
    finally:
        own.use(before)
        tracing.abandon(provider)
        take_away()


def run_cycles(cycle: Callable[[], None], count: int) -> None:
    for _ in range(count):
        cycle()


def settled() -> int:
    """Blocks of memory in use, once garbage is gone."""
    gc.collect()
    return sys.getallocatedblocks()
