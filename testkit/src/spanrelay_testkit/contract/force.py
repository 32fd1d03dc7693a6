# ruff: noqa: D102 - the name of a test is its sentence
"""In force and out of force: instrumenting and uninstrumenting leave each call recorded once, or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from spanrelay.instrumentation.instrumentor import Instrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.contract.subject import ANSWER, CallSubject
from spanrelay_testkit.half import Half


class ForceContract(CallSubject):
    """Instrumenting is undone whole, and done twice is done once."""

    async def test_instrumenting_twice_records_each_call_once(self, half: Half, instrumented: Capture) -> None:
        self.instrumentor().instrument(tracer_provider=instrumented.provider)
        async with self.talking(half) as (_, client):
            await half.settle(self.call(client, self.question("hi")))
        assert self.said(self.call_of(instrumented)) == ANSWER

    def test_uninstrumenting_puts_every_patch_point_back(self, capture: Capture) -> None:
        with self.instrumenting(capture):
            pass
        before = self.patch_points()
        with self.instrumenting(capture):
            assert all(now is not then for now, then in zip(self.patch_points(), before, strict=True))
        assert all(now is then for now, then in zip(self.patch_points(), before, strict=True))

    def patch_points(self) -> list[Any]:
        """What stands at each patch point now."""
        return [vars(owner_of(patch))[patch.attribute.rpartition(".")[2]] for patch in table_of(self.instrumentor())]

    async def test_a_bound_method_kept_from_before_stops_recording(self, half: Half, capture: Capture) -> None:
        async with self.talking(half) as (_, client):
            with self.instrumenting(capture):
                ask = self.bound_call(client)
                await half.settle(ask(self.question("hi")))
            assert len(self.calls_of(capture)) == 1
            await half.settle(ask(self.question("hi")))
        assert len(self.calls_of(capture)) == 1

    async def test_instrumenting_again_records_again_and_once(self, half: Half, capture: Capture) -> None:
        async with self.talking(half) as (_, client):
            with self.instrumenting(capture):
                ask = self.bound_call(client)
            with self.instrumenting(capture):
                await half.settle(ask(self.question("hi")))
                assert len(self.calls_of(capture)) == 1
                await half.settle(self.call(client, self.question("hi")))
        assert len(self.calls_of(capture)) == 2

    async def test_a_wrapper_of_somebody_else_on_top_does_not_make_two_spans_of_one_call(
        self, half: Half, capture: Capture
    ) -> None:
        with self.instrumenting(capture):
            undo = wrap_on_top(self.instrumentor())
        try:
            with self.instrumenting(capture):
                async with self.talking(half) as (_, client):
                    await half.settle(self.call(client, self.question("hi")))
        finally:
            undo()
        assert len(self.calls_of(capture)) == 1

    async def test_a_client_from_before_is_recorded(self, half: Half, capture: Capture) -> None:
        async with self.talking(half) as (_, client):
            with self.instrumenting(capture):
                await half.settle(self.call(client, self.question("hi")))
        assert len(self.calls_of(capture)) == 1


def owner_of(patch: Any) -> Any:
    """The class or module that a patch point stands in."""
    owner: Any = sys.modules[patch.module]
    for name in patch.attribute.split(".")[:-1]:
        owner = getattr(owner, name)
    return owner


def table_of(instrumentor: Instrumentor) -> list[Any]:
    """The patches in force, but for those of modules that not every version of the SDK has."""
    patches = instrumentor._patches
    assert patches is not None and patches._table
    return [patch for patch in patches._table if not patch.newer]


def wrap_on_top(instrumentor: Instrumentor) -> Callable[[], None]:
    """Wrap the first patch point as another instrumentation would; returns what takes everything off again."""
    import wrapt

    undo: list[Callable[[], None]] = []
    for patch in table_of(instrumentor):
        owner, name = owner_of(patch), patch.attribute.rpartition(".")[2]
        present = vars(owner)[name]
        original = getattr(present, "__wrapped__", present)
        setattr(owner, name, wrapt.FunctionWrapper(present, _pass_on))
        undo.append(partial(setattr, owner, name, original))

    def take_off() -> None:
        for step in undo:
            step()

    return take_off


def _pass_on(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)
