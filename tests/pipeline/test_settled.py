"""Waiting for what another thread may say, on the loops of asyncio and of trio, and no longer than is allowed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
import trio

from spanrelay.pipeline.loops import settled

runs = pytest.mark.parametrize("run", [lambda work: asyncio.run(work()), trio.run], ids=["asyncio", "trio"])


@runs
def test_it_goes_on_when_the_future_is_done(run: Callable[[Any], Any]) -> None:
    future: Future[None] = Future()
    threading.Timer(0.01, future.set_result, [None]).start()
    run(lambda: settled(future, 30))
    assert future.done()


@runs
def test_it_goes_on_when_it_has_taken_too_long_and_leaves_the_future(
    run: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    future: Future[None] = Future()
    run(lambda: settled(future, 0.001))
    assert not future.done()
    future.set_result(None)
    assert caplog.messages == []
