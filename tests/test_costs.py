"""What recording may cost, in calls of our functions: they can be counted, and time on a busy machine cannot.

Bounds are what stands there now, rounded up; Python 3.10 and 3.11 count comprehensions, later versions do not.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from benchmarks import workload
from benchmarks.floor import encoding_provider
from benchmarks.ours import recording
from benchmarks.workload import Exchange

import spanrelay

OURS = str(Path(spanrelay.__file__).parent)


def counted(work: Callable[[], object]) -> Counter[str]:
    """Return how often each of our functions was called for `work` on this thread."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            calls[frame.f_code.co_name] += 1

    gc.disable()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def costs(exchange: Exchange) -> tuple[Counter[str], Counter[str]]:
    """Return the calls that one exchange takes on the thread of the application, and those until it is flushed."""
    provider, _ = encoding_provider()
    with recording(provider) as patched:
        ask = workload.post(exchange)
        patched.on()
        for _ in range(3):  # what is made once is there
            ask()
        provider.force_flush()
        return counted(ask), counted(provider.force_flush)


@pytest.fixture(scope="module")
def longer_stream() -> tuple[Counter[str], Counter[str]]:
    """What a hundred chunks more take, on the application's thread and later."""
    short, long = costs(workload.stream(50)), costs(workload.stream(150))
    return long[0] - short[0], long[1] - short[1]


def test_a_call_of_a_model_keeps_the_application_waiting_for_few_of_our_functions() -> None:
    asking, _ = costs(workload.chat(1_000))
    assert asking.total() <= 80, asking.most_common(12)


def test_reading_a_call_of_a_model_later_takes_few_of_our_functions() -> None:
    _, reading = costs(workload.chat(1_000))
    assert reading.total() <= 145, reading.most_common(12)


def test_a_longer_text_takes_no_more_calls() -> None:
    assert costs(workload.chat(1_000)) == costs(workload.chat(10_000))


def test_each_message_of_a_conversation_is_read_and_written_with_a_call_each() -> None:
    asking, reading = costs(workload.history(50))
    more_asking, more_reading = costs(workload.history(150))
    assert more_asking == asking
    more = more_reading - reading
    assert more.total() <= 3 * 100, more.most_common(6)


def test_a_chunk_of_a_stream_takes_one_call_on_its_way_to_the_application(
    longer_stream: tuple[Counter[str], Counter[str]],
) -> None:
    assert longer_stream[0] == Counter({"__next__": 100})


def test_a_chunk_of_a_stream_takes_one_call_to_be_read(longer_stream: tuple[Counter[str], Counter[str]]) -> None:
    assert longer_stream[1] == Counter({"add": 100})


def test_the_sdk_cleans_no_attribute_that_a_call_of_ours_starts_with() -> None:
    provider, _ = encoding_provider()
    with recording(provider) as patched:
        ask = workload.post(workload.chat(1_000))
        patched.on()
        ask()
        cleaned = 0

        def count(frame: FrameType, event: str, _: Any) -> None:
            nonlocal cleaned
            cleaned += event == "call" and frame.f_code.co_name == "_clean_attribute_value"

        sys.setprofile(count)
        try:
            ask()
        finally:
            sys.setprofile(None)
    assert cleaned == 0
