"""Threads and pools run in the context they were started in, and keep nobody's context for long."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from spanrelay import GuardrailRejected, current_scope, guardrail, run_tool, scope
from spanrelay.instrumentation.threads import carry_context_into_threads
from spanrelay_testkit.capture import Capture


@pytest.fixture(autouse=True)
def carried() -> None:
    carry_context_into_threads()


def in_thread(work: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def in_subclass(work: Callable[[], Any]) -> Any:
    found: list[Any] = []

    class Worker(threading.Thread):
        def run(self) -> None:
            found.append(work())

    worker = Worker()
    worker.start()
    worker.join()
    return found[0]


def in_timer(work: Callable[[], Any]) -> Any:
    found: list[Any] = []
    timer = threading.Timer(0, lambda: found.append(work()))
    timer.start()
    timer.join()
    return found[0]


def in_pool(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def in_map(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return next(iter(pool.map(lambda _: work(), [1])))


WAYS = [in_thread, in_subclass, in_timer, in_pool, in_map]


@pytest.mark.parametrize("way", WAYS)
def test_a_scope_reaches_what_is_started_in_it(capture: Capture, way: Callable[..., Any]) -> None:
    with scope("outer") as outer:
        assert way(current_scope) is outer
    assert way(current_scope) is None


@pytest.mark.parametrize("way", WAYS)
def test_a_scopes_guardrail_holds_in_threads_and_pools(capture: Capture, way: Callable[..., Any]) -> None:
    @guardrail
    def never(call: Any) -> str:
        return "no"

    def call() -> Any:
        try:
            return run_tool("t", lambda: 1)
        except GuardrailRejected as refusal:
            return refusal

    with scope("guarded") as guarded:
        guarded.use(never)
        assert isinstance(way(call), GuardrailRejected)
    assert way(call) == 1


def test_a_pools_thread_belongs_to_no_call(capture: Capture) -> None:
    with ThreadPoolExecutor(1) as pool:
        with scope("first"):
            pool.submit(int).result()
        assert pool.submit(current_scope).result() is None


def test_a_pools_thread_does_not_keep_the_context_that_started_it(capture: Capture) -> None:
    class Payload:
        pass

    with ThreadPoolExecutor(1) as pool:
        payload = Payload()
        gone = weakref.ref(payload)
        with scope("first", metadata={"payload": payload}):
            pool.submit(int).result()
            pool.submit(int).result()
        del payload
        capture.clear()
        gc.collect()
        assert gone() is None
