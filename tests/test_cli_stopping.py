"""A command that goes on until it is stopped stops, whatever the signal interrupts."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from spanrelay.cli.stopping import Stop, stop_on_signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupting(line: int) -> tuple[Callable[[FrameType, str, Any], Any], Callable[[], bool]]:
    """A tracer that raises SIGINT before a line of all that `Stop.wait` runs, and whether it has."""
    left = line

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                signal.raise_signal(signal.SIGINT)
        return trace

    return trace, lambda: left <= 0


def test_a_signal_ends_the_wait_at_whichever_line_it_comes() -> None:
    line, came, before = 1, True, sys.gettrace()
    while came:
        stop = stop_on_signals()
        trace, has_come = interrupting(line)
        sys.settrace(trace)
        try:
            ended = stop.wait(0)
        finally:
            sys.settrace(before)
        came = has_come()
        assert ended is stop.is_set() is came
        line += 1
    assert line > 4


def test_all_who_wait_are_told_and_how_often_is_counted() -> None:
    stop = Stop()
    waiting = [threading.Thread(target=stop.wait_until_set) for _ in range(3)]
    for thread in waiting:
        thread.start()
    stop.set()
    stop.set()
    for thread in waiting:
        thread.join()
    assert stop.times == 2


def test_nobody_who_has_not_been_asked_stops() -> None:
    assert not Stop().wait(0)
