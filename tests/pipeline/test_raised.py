"""What policy around a call leaves of the application's exceptions: the same object, and nobody who keeps it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import Any

import pytest

from spanrelay import arun_tool, execution_intercept, guardrail, run_tool, use
from spanrelay_testkit.capture import Capture


class Failure(Exception):
    """Can be referred to weakly."""


def passing(call: Any) -> None:
    return None


def around(call: Any) -> Any:
    return (yield call)


def again(call: Any) -> Any:
    try:
        return (yield call)
    except Failure:
        return (yield call)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    "policy",
    [
        guardrail(passing),
        execution_intercept(around),
        execution_intercept(again),
        execution_intercept(around, mode="observe"),
    ],
    ids=["guardrail", "intercept", "retry", "on trial"],
)
def test_an_exception_is_freed_when_the_application_lets_go_of_it(capture: Capture, policy: Any, colour: str) -> None:
    raised: list[weakref.ref[Failure]] = []

    def work() -> None:
        failure = Failure("no")
        raised.append(weakref.ref(failure))
        try:
            raise failure
        finally:
            del failure

    async def work_async() -> None:
        work()

    async def ask() -> None:
        with contextlib.suppress(Failure):
            await arun_tool("t", work_async)

    gc.collect()
    gc.disable()
    try:
        with use(policy), contextlib.suppress(Failure):
            run_tool("t", work) if colour == "sync" else asyncio.run(ask())
        assert [each() for each in raised] == [None] * len(raised)
    finally:
        gc.enable()
    assert raised


def test_a_stop_iteration_of_the_tool_keeps_its_context(capture: Capture) -> None:
    stop = StopIteration("mine")

    def work() -> None:
        raise stop

    with use(execution_intercept(around)), pytest.raises(StopIteration) as caught:
        run_tool("t", work)
    assert caught.value is stop
    assert (stop.__cause__, stop.__context__, stop.__suppress_context__) == (None, None, False)
