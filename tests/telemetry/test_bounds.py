"""What waits is bounded in bytes, what finds no room is counted in spans, and the end does not wait for a slow disk."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from spanrelay._guard import losses
from spanrelay.observation.mailbox import Mailbox
from spanrelay.records import SpanRecord
from spanrelay.telemetry import processor as processors
from spanrelay.telemetry.processor import RelaySpanProcessor
from spanrelay.telemetry.projection import ITEM_BYTES, LEAST_BYTES, Ended, Pending, Share
from spanrelay.telemetry.worker import Worker

ROOM = LEAST_BYTES // ITEM_BYTES


class Slow:
    """A sink that takes nothing in before it is let go."""

    dirty = False

    def __init__(self) -> None:
        self.busy, self.go = threading.Event(), threading.Event()
        self.open: set[int] = set()
        self.ended = 0

    def start(self, record: SpanRecord) -> None:
        self.busy.set()
        self.go.wait(60)
        self.open.add(record.span_id)

    def end(self, record: SpanRecord) -> None:
        self.open.remove(record.span_id)
        self.ended += 1

    def idle(self) -> None: ...

    def flush(self, timeout: float, /) -> bool:
        return True

    def shutdown(self) -> None: ...


def recorded(sink: Slow, count: int, **attributes: str) -> tuple[Worker, RelaySpanProcessor, InMemorySpanExporter]:
    """Make spans that a worker with little room is fed with while its sink is slow."""
    worker = Worker(lambda: sink, None, pending_limit=1)
    relay, exported = RelaySpanProcessor(worker), InMemorySpanExporter()
    relay.behind = (SimpleSpanProcessor(exported),)
    provider = TracerProvider()
    provider.add_span_processor(relay)
    tracer = provider.get_tracer("somebody")
    for _ in range(count):
        tracer.start_span("s", attributes=attributes).end()
    assert sink.busy.wait(60)
    return worker, relay, exported


@pytest.mark.parametrize(("text", "taken"), [("", ROOM // 2), ("x" * 2 * ITEM_BYTES, ROOM // 4)])
def test_spans_that_find_no_room_are_lost_as_a_whole_and_exported_all_the_same(text: str, taken: int) -> None:
    sink = Slow()
    worker, _, exported = recorded(sink, 5000, text=text)
    assert abs(worker.pending.size - LEAST_BYTES) <= 4 * ITEM_BYTES
    sink.go.set()
    worker.shutdown(60)
    lost = losses.take()["spans not recorded because too many were waiting"]
    assert (sink.ended + lost, sink.open) == (5000, set())
    assert abs(sink.ended - taken) <= 2
    assert worker.pending.size == 0
    assert len(exported.get_finished_spans()) == 5000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_room_of_its_own() -> None:
    sink = Slow()
    worker, _, _ = recorded(sink, 5000)
    child = os.fork()
    if not child:
        os._exit(0 if worker.pending.admit(LEAST_BYTES) else 1)
    assert os.waitpid(child, 0)[1] == 0
    sink.go.set()
    worker.shutdown(60)
    losses.take()


def test_what_is_not_written_before_the_end_is_counted_in_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "EXIT_SECONDS", 0.05)
    sink = Slow()
    _, relay, _ = recorded(sink, 100)
    relay.shutdown()
    assert losses.take() == {"spans not written before exit": 100}
    sink.go.set()


def test_room_is_there_again_once_something_has_been_read() -> None:
    pending = Pending(LEAST_BYTES * 4)
    most = LEAST_BYTES * 5
    assert pending.admit(most)
    assert not pending.admit(1)
    pending.give_back(1)
    assert pending.admit(1)


class Payload:
    """What a call with some bytes of content hands over."""

    scope = None
    size = 100

    def __init__(self) -> None:
        self.record = SpanRecord(0, 0)

    def show(self) -> None: ...

    def shorten(self) -> None: ...

    def elapsed(self) -> int:
        return 0

    def complete(self) -> None: ...

    def forget_content(self) -> None: ...


@pytest.mark.parametrize("read", [True, False])
def test_the_room_of_a_payload_is_there_again_once_it_is_read_or_dropped(read: bool) -> None:
    pending = Pending(1000)
    ended = Ended(ReadableSpan("s", SpanContext(1, 2, is_remote=False)), Payload(), pending)
    assert (pending.size, ended.payload) == (100, 100)
    if read:
        assert ended.record
        assert (pending.size, ended.payload) == (0, 0)
    del ended
    assert pending.size == 0


def test_no_code_of_ours_runs_when_a_span_that_was_read_is_collected() -> None:
    """What a signal handler raises while it does, such as KeyboardInterrupt, would be thrown away."""
    ended = Ended(ReadableSpan("s", SpanContext(1, 2, is_remote=False)), Payload(), Pending(1000))
    assert ended.record
    entered: list[str] = []
    sys.setprofile(lambda frame, event, _: entered.append(frame.f_code.co_name) if event == "call" else None)
    del ended
    sys.setprofile(None)
    assert entered == []


def test_a_share_whose_making_was_broken_off_goes_quietly() -> None:
    share = Share.__new__(Share)
    del share


class Heavy:
    """An occasion without events that takes some bytes."""

    weight = 100

    def events(self) -> list[Any]:
        return ["event"]


def test_a_slow_subscriber_loses_the_oldest_beyond_a_number_of_bytes() -> None:
    busy, go = threading.Event(), threading.Event()

    def hang(event: object) -> None:
        busy.set()
        go.wait(60)

    box = Mailbox("slow", hang, limit_bytes=1000)
    box.put(Heavy())
    assert busy.wait(60)
    for _ in range(15):
        box.put(Heavy())
    assert losses.take() == {"events that the subscriber 'slow' was too slow for": 5}
    go.set()
    assert box.flush(60)
    assert box._bytes == 0


class Unwritten(Slow):
    def flush(self, timeout: float, /) -> bool:
        return False


class Broken(Slow):
    def flush(self, timeout: float, /) -> bool:
        raise OSError("no disk")


@pytest.mark.swallows
@pytest.mark.parametrize(("make", "written"), [(Slow, True), (Unwritten, False), (Broken, False)])
def test_a_flush_says_whether_the_sink_has_written_everything(make: type[Slow], written: bool) -> None:
    sink = make()
    sink.go.set()
    worker, relay, _ = recorded(sink, 1)
    assert worker.flush(60) is written
    assert relay.force_flush() is written
    relay.shutdown()
    losses.take()


def test_threads_that_start_late_wait_in_the_way_that_threads_then_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    box, worker = Mailbox("late", heard.append), Worker(lambda: None, None)
    patched: Any = vars(queue)[
        "_PySimpleQueue"
    ]  # gevent changes queues and threads together, perhaps after we were imported
    monkeypatch.setattr(queue, "SimpleQueue", patched)
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")
    assert isinstance(span, Span)
    worker.started(span)
    box.put(Heavy())
    assert worker.flush(10)
    assert box.flush(10)
    assert [type(each) for each in (box._queue, worker._bell)] == [patched, patched]
    worker.shutdown(10)
