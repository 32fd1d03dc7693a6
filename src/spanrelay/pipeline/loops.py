"""The event loops that policy is awaited on: the caller's, of asyncio or of trio, and one of our own for sync calls.

trio is asked only where the application runs on it, so nothing here imports it. Nobody's coroutine is left behind
that was never awaited.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, cast

from opentelemetry.context import attach, detach

from spanrelay.errors import MiddlewareError
from spanrelay.pipeline.flow import Wait


def running_trio() -> Any:
    """Return the package trio where the caller is one of its tasks, else None."""
    trio, sniffio = sys.modules.get("trio"), sys.modules.get("sniffio")
    if trio is None or sniffio is None:  # trio brings sniffio, and tells it what runs
        return None
    try:
        return trio if sniffio.current_async_library() == "trio" else None
    except sniffio.AsyncLibraryNotFoundError:
        return None


async def wait_within(effect: Wait) -> Any:
    """Wait for what policy awaits, at most its time limit, on the loop of the caller.

    Raises:
        MiddlewareError: it took too long.
        BaseException: whatever it raised, unchanged.
    """
    trio = running_trio()
    return await (_wait_on_asyncio(effect) if trio is None else _wait_on_trio(effect, trio))


async def _wait_on_asyncio(effect: Wait) -> Any:
    token = attach(effect.context)
    try:
        task = asyncio.ensure_future(_as_coroutine(effect.awaitable))
    finally:
        detach(token)
    try:
        # Not `wait_for`: that waits without end for what will not be cancelled.
        await asyncio.wait({task}, timeout=effect.timeout)
    except BaseException:
        leave(task)
        raise
    if not task.done():
        leave(task)
        raise _late(effect)
    return task.result()


def leave(task: asyncio.Future[Any]) -> None:
    """Cancel what nobody waits for any more, and let no complaint come of what it still raises."""
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _wait_on_trio(effect: Wait, trio: Any) -> Any:
    """In a task of its own, as on asyncio, so that what it sets for itself ends with it."""
    token = attach(effect.context)
    try:
        with trio.move_on_after(effect.timeout) as limit:
            (result,) = await _all_on_trio([lambda: _as_coroutine(effect.awaitable)], trio)
            if not limit.cancel_called:
                return result
    finally:
        detach(token)
    raise _late(effect)


async def together(works: list[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
    """Run `works` at the same time and return their results, in order; the first that raises ends the others.

    Raises:
        BaseException: what that one raised, unchanged.
    """
    trio = running_trio()
    return await (_all_on_asyncio(works) if trio is None else _all_on_trio(works, trio))


async def _all_on_asyncio(works: list[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _all_on_trio(works: list[Callable[[], Coroutine[Any, Any, Any]]], trio: Any) -> list[Any]:
    results: list[Any] = [None] * len(works)
    failures: list[BaseException] = []

    async def run(index: int, nursery: Any) -> None:
        try:
            results[index] = await works[index]()
        except trio.Cancelled:
            raise
        except BaseException as error:
            # Kept apart: a nursery would hand it on in a group.
            failures.append(error)
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for index in range(len(works)):
                nursery.start_soon(run, index, nursery)
    except BaseException:
        await trio.lowlevel.checkpoint_if_cancelled()  # a cancellation as itself, and not in the nursery's group
        raise
    if failures:
        raise failures[0]
    return results


async def in_thread(work: Callable[[], Any]) -> Any:
    """Call `work`, which may block, in a thread of its own; it is done to its end, whoever is cancelled meanwhile.

    Raises:
        BaseException: what it raised, unchanged.
    """
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()  # from here on it is not cancelled
    # Not an executor's: the application's own work may hold up those, and a fork would be without them.
    threading.Thread(target=_settle, args=(future, work), name="spanrelay-apart").start()
    trio = running_trio()
    if trio is None:
        return await _result_of(future)
    with trio.CancelScope(shield=True):
        return await _result_of(future)


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


async def _as_coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class _Gate:
    """Lets what is awaited begin once somebody waits for it, who can then no longer be gone without a word.

    Told of by nothing that calls back: what a handler of a signal raises within a callback of a future goes to a log.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._opened, self._given_up = loop, asyncio.Event(), False

    def open(self) -> None:
        """Let it begin."""
        self._loop.call_soon_threadsafe(self._opened.set)

    def give_up(self) -> None:
        """Let it never begin, unless it has."""
        self._given_up = True
        self.open()

    async def passed(self, awaitable: Awaitable[Any]) -> Any:
        """Await `awaitable` once it may begin."""
        try:
            await self._opened.wait()
        except asyncio.CancelledError:
            self._given_up = True
            raise
        finally:
            if self._given_up and asyncio.iscoroutine(awaitable):
                awaitable.close()
        return None if self._given_up else await awaitable


async def on_own_loop(awaitable: Awaitable[Any]) -> Any:
    """Wait for `awaitable` on the runtime's own loop, whichever loop this is: for what may only ever see one."""
    future = own_loop().start(awaitable)
    try:
        return await _result_of(future)
    finally:
        future.cancel()


async def settled(future: Future[Any], timeout: float) -> None:
    """Wait on the loop of the caller until `future` is done, at most `timeout` seconds; it is left as it is."""
    own: Future[Any] = Future()  # of this caller alone, so that nothing comes of what it is told later
    future.add_done_callback(lambda _: own.set_running_or_notify_cancel() and own.set_result(None))
    trio = running_trio()
    try:
        if trio is None:
            await asyncio.wait({asyncio.wrap_future(own)}, timeout=timeout)
            return
        with trio.move_on_after(timeout):
            await _result_of(own)
    finally:
        own.cancel()


async def _result_of(future: Future[Any]) -> Any:
    """Wait on the loop of the caller for what another thread is to say."""
    trio = running_trio()
    if trio is None:
        return await asyncio.wrap_future(future)
    done, token = trio.Event(), trio.lowlevel.current_trio_token()
    future.add_done_callback(lambda _: token.run_sync_soon(done.set))
    await done.wait()
    return future.result()


def _late(effect: Wait) -> MiddlewareError:
    return MiddlewareError(
        f"middleware {effect.name!r} did not answer within {effect.timeout:g} s, so the call is refused; "
        "raise its timeout= or make it faster"
    )


class OwnLoop:
    """An event loop of our own, where a sync call waits for what policy awaits."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._inner: OwnLoop | None = None
        self._thread = threading.Thread(target=self._run, name="spanrelay-policy", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                return self._loop.run_forever()
            except BaseException:  # asyncio ends a loop by what ends a program, and gives it to who waits all the same
                continue

    def start(self, awaitable: Awaitable[Any]) -> Future[Any]:
        """Begin to wait for `awaitable` there, in the context of here."""
        work = cast("Coroutine[Any, Any, Any]", _as_coroutine(awaitable))
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, effect: Wait) -> Any:
        """Wait for what policy awaits, at most its time limit.

        Raises:
            MiddlewareError: it took too long.
            BaseException: whatever it raised, unchanged.
        """
        if threading.current_thread() is self._thread:
            # A sync call of policy that runs here: this loop is blocked until the call is over.
            self._inner = self._inner or OwnLoop()
            return self._inner.wait(effect)
        gate = _Gate(self._loop)
        future: Future[Any] | None = None
        is_open = False
        try:
            future = self.start(gate.passed(effect.awaitable))
            gate.open()
            is_open = True
            if not wait([future], effect.timeout).done:
                raise _late(effect)
            return future.result()
        finally:
            # Where it is not done: a signal of the application's may have ended the waiting, even as it began.
            if not is_open:
                gate.give_up()
            if future is not None:
                future.cancel()


_loops: dict[int, OwnLoop] = {}
_loops_lock = threading.Lock()


def _free() -> None:
    """Take a lock that nobody holds: a forked child has none of its parent's threads."""
    global _loops_lock
    _loops_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free)


def own_loop() -> OwnLoop:
    """The loop of this process; a forked child makes its own."""
    with _loops_lock:
        pid = os.getpid()
        if pid not in _loops:
            _loops.clear()
            _loops[pid] = OwnLoop()
        return _loops[pid]
