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
from spanrelay.instrumentation.threads import carry_context_into_threads, leave_threads_alone
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


STARTS = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"


def test_a_thread_that_could_not_be_started_is_started_again(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(current_scope()))
    with scope("outer") as outer:
        with monkeypatch.context() as crowded:
            crowded.setattr(threading, STARTS, no_room)
            with pytest.raises(RuntimeError, match="new thread"):
                thread.start()
        thread.start()
        thread.join()
    assert found == [outer]


def test_a_thread_that_is_started_twice_keeps_nothing(capture: Capture) -> None:
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    with scope("outer"):
        thread.start()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        go_on.set()
        thread.join()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
    assert "run" not in vars(thread)


def test_a_thread_keeps_a_run_of_its_own(capture: Capture) -> None:
    found: list[Any] = []

    def run() -> None:
        found.append(current_scope())

    thread = threading.Thread()
    thread.run = run
    with scope("outer") as outer:
        thread.start()
        thread.join()
    assert (found, thread.run) == ([outer], run)


def test_a_thread_that_was_not_made_whole_fails_as_without_us(capture: Capture) -> None:
    class Worker(threading.Thread):
        def __init__(self) -> None:
            pass

    with scope("outer"), pytest.raises(RuntimeError, match="not called"):
        Worker().start()


def test_a_thread_that_was_given_nothing_to_run_keeps_that(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    thread: Any = threading.Thread()
    thread.run = None
    with scope("outer"):
        thread.start()
        thread.join()
    assert (thread.run, [each.exc_type for each in failures]) == (None, [TypeError])


def test_a_thread_whose_run_cannot_be_set_runs(capture: Capture) -> None:
    class Worker(threading.Thread):
        @property
        def run(self) -> Any:
            return lambda: found.append(1)

    found: list[Any] = []
    with scope("outer"):
        worker = Worker()
        worker.start()
        worker.join()
    assert found == [1]


def test_a_pools_and_a_threads_methods_can_be_held_weakly(capture: Capture) -> None:
    thread = threading.Thread(target=lambda: None)
    with ThreadPoolExecutor(1) as pool:
        submit, start = weakref.WeakMethod(pool.submit), weakref.WeakMethod(thread.start)
        held, starts = submit(), start()
        assert held is not None
        assert starts is not None
        starts()
        thread.join()
        assert held(abs, -1).result() == 1


def test_a_class_that_was_put_in_the_place_of_threads_is_carried_into(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_threads_alone()
    # As gevent does it.
    monkeypatch.setattr(threading, "Thread", type("Thread", (threading.Thread,), {}))
    carry_context_into_threads()
    try:
        with scope("outer") as outer:
            assert in_thread(current_scope) is outer
    finally:
        leave_threads_alone()
