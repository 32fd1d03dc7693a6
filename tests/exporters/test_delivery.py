"""A real OTLP exporter against a real server that is late, busy, hung, gone or picky."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode
from tests.exporters.otlp_server import OtlpServer, Script, free_port

from spanrelay._guard import losses
from spanrelay.exporters.delivery import ReliableMetricExporter, ReliableSpanExporter, _size_of_span
from spanrelay.exporters.grace import Grace
from spanrelay.exporters.outbox import Answer, Limits, Outbox, Outcome, Pace

LOST = "spans not delivered to the collector"
BRISK = Pace(first=0.005, longest=0.02, patience=0.02)
SCOPE = InstrumentationScope("test", "1", attributes={})
RESOURCE = Resource({"service.name": "test"})

MakeServer = Callable[..., OtlpServer]
MakeExporter = Callable[..., ReliableSpanExporter]


def span(name: str, **attributes: str) -> ReadableSpan:
    context = SpanContext(1, hash(name) & 0xFFFF | 1, is_remote=False)
    return ReadableSpan(
        name,
        context,
        attributes=attributes,
        resource=RESOURCE,
        instrumentation_scope=SCOPE,
        start_time=1,
        end_time=2,
    )


def spans(count: int, prefix: str = "span") -> list[ReadableSpan]:
    return [span(f"{prefix} {number}") for number in range(count)]


def names(batch: list[ReadableSpan]) -> list[str]:
    return [each.name for each in batch]


@pytest.fixture
def serve() -> Iterator[MakeServer]:
    servers: list[OtlpServer] = []

    def make(script: Script = lambda body: 200, port: int = 0) -> OtlpServer:
        servers.append(OtlpServer(script, port))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def reliable() -> Iterator[MakeExporter]:
    exporters: list[ReliableSpanExporter] = []

    def make(port: int, *, timeout: float = 0.5, **options: object) -> ReliableSpanExporter:
        def build() -> OTLPSpanExporter:
            return OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces", timeout=timeout)

        options = {"pace": BRISK, "grace": Grace(0.2), **options}
        exporters.append(ReliableSpanExporter(build, **options))  # pyright: ignore[reportArgumentType]
        return exporters[-1]

    yield make
    for exporter in exporters:
        exporter.shutdown()


def await_failure(exporter: ReliableSpanExporter) -> None:
    outbox = exporter._delivery.outbox
    with outbox._changed:
        assert outbox._changed.wait_for(lambda: outbox.failing, 30)


class Answers:
    """Gives the statuses listed, one per request, then 200 for ever."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)

    def __call__(self, body: bytes) -> int:
        return self._statuses.pop(0) if self._statuses else 200


class Hung:
    """Answers nobody until released."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def __call__(self, body: bytes) -> int:
        self.released.wait(60)
        return 200


def test_every_span_arrives_once(serve: MakeServer, reliable: MakeExporter) -> None:
    server = serve()
    exporter = reliable(server.port)
    assert exporter.export(spans(600)) is SpanExportResult.SUCCESS
    assert exporter.force_flush()
    assert server.span_names() == names(spans(600))
    assert losses.take() == {}


def test_a_flush_of_the_provider_means_delivered(serve: MakeServer, reliable: MakeExporter) -> None:
    server = serve()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(reliable(server.port, pace=Pace(patience=30))))
    provider.get_tracer("test").start_span("one").end()
    provider.force_flush()
    assert server.span_names() == ["one"]
    provider.shutdown()


def test_a_collector_that_starts_late_gets_everything(serve: MakeServer, reliable: MakeExporter) -> None:
    port = free_port()
    exporter = reliable(port)
    exporter.export(spans(3, "early"))
    await_failure(exporter)
    exporter.export(spans(3, "later"))
    server = serve(port=port)
    assert exporter.force_flush()
    assert sorted(server.span_names()) == sorted(names(spans(3, "early") + spans(3, "later")))
    assert losses.take() == {}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 401, 404])
def test_a_collector_that_refuses_for_a_while_gets_everything(
    serve: MakeServer, reliable: MakeExporter, status: int
) -> None:
    server = serve(Answers(*[status] * 8))
    exporter = reliable(server.port)
    exporter.export(spans(5))
    assert exporter.force_flush()
    assert server.span_names() == names(spans(5))
    assert losses.take() == {}


def test_export_does_not_wait_for_a_collector_that_does_not_answer(serve: MakeServer, reliable: MakeExporter) -> None:
    hung = Hung()
    server = serve(hung)
    exporter = reliable(server.port, timeout=60)
    for number in range(20):
        exporter.export([span(f"span {number}")])
    assert not hung.released.is_set()
    assert not exporter.force_flush(timeout_millis=10)
    hung.released.set()
    assert exporter.force_flush()
    assert server.span_names() == names(spans(20))


def test_batches_are_cut_by_encoded_size(serve: MakeServer, reliable: MakeExporter) -> None:
    server = serve()
    exporter = reliable(server.port, timeout=30)
    batch = [span(f"span {number}", text="x" * 80_000) for number in range(100)]
    exporter.export(batch)
    assert exporter.force_flush()
    assert server.span_names() == names(batch)
    assert len(server.bodies) == 3
    assert max(map(len, server.bodies)) <= 3_500_000


def test_a_span_above_the_limit_is_sent_alone(serve: MakeServer, reliable: MakeExporter) -> None:
    server = serve()
    exporter = reliable(server.port, timeout=30)
    exporter.export([span("before"), span("huge", text="x" * 4_000_000), span("after")])
    assert exporter.force_flush()
    assert server.span_names() == ["before", "huge", "after"]
    assert len(server.bodies) == 3


def test_only_the_span_that_is_too_large_for_the_collector_is_lost(serve: MakeServer, reliable: MakeExporter) -> None:
    server = serve(lambda body: 413 if len(body) > 10_000 else 200)
    exporter = reliable(server.port)
    batch = [*spans(20), span("huge", text="x" * 20_000), *spans(20, "more")]
    exporter.export(batch)
    assert exporter.force_flush()
    assert sorted(server.span_names()) == sorted(names(spans(20) + spans(20, "more")))
    assert losses.take() == {LOST: 1}


def test_a_collector_that_takes_nothing_is_not_asked_for_every_span(serve: MakeServer, reliable: MakeExporter) -> None:
    server = serve(lambda body: 400)
    exporter = reliable(server.port)
    exporter.export(spans(500))
    assert exporter.force_flush()
    assert losses.take() == {LOST: 500}
    assert len(server.bodies) < 60


def test_a_parcel_that_fails_while_others_are_taken_is_dropped_in_the_end(
    serve: MakeServer, reliable: MakeExporter
) -> None:
    server = serve(lambda body: 500 if b"poison" in body else 200)
    exporter = reliable(server.port, pace=Pace(0.005, 0.02, patience=0.02, hopeless_after=0.0))
    exporter.export([span("poison")])
    fed = 0
    while not exporter.force_flush(timeout_millis=5):
        exporter.export([span(f"span {fed}")])
        fed += 1
    assert sorted(server.span_names()) == sorted(names(spans(fed)))
    assert losses.take() == {LOST: 1}


def test_the_oldest_are_lost_first_when_too_many_wait(serve: MakeServer, reliable: MakeExporter) -> None:
    port = free_port()
    exporter = reliable(port, limits=Limits(queue_items=10), pace=Pace(first=3600, longest=3600))
    exporter.export([span("first")])
    await_failure(exporter)
    for each in spans(25):
        exporter.export([each])
    assert losses.take() == {LOST: 16}
    server = serve(port=port)
    assert exporter.force_flush()
    assert server.span_names() == names(spans(25))[15:]


def test_the_queue_is_bounded_in_bytes_too(reliable: MakeExporter) -> None:
    exporter = reliable(free_port(), limits=Limits(queue_bytes=100_000), pace=Pace(first=3600, longest=3600))
    exporter.export([span("first")])
    await_failure(exporter)
    exporter.export([span(f"span {number}", text="x" * 30_000) for number in range(10)])
    assert losses.take() == {LOST: 8}
    exporter.shutdown()
    assert losses.take() == {LOST: 3}


def test_the_log_says_once_that_it_fails_and_once_that_it_works_again(
    serve: MakeServer, reliable: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(Answers(*[503] * 6))
    exporter = reliable(server.port, timeout=3)
    with caplog.at_level(logging.WARNING):
        exporter.export(spans(2))
        assert exporter.force_flush()
        exporter.export(spans(2))
        assert exporter.force_flush()
    failing, working = [record.getMessage() for record in caplog.records]
    assert failing.startswith("the collector is not accepting spans, which wait in memory: ")
    assert "Service Unavailable" in failing
    assert working == "the collector accepts spans again"
    assert {record.name for record in caplog.records} == {"spanrelay"}


def test_the_exporter_of_another_thread_still_logs(reliable: MakeExporter, caplog: pytest.LogCaptureFixture) -> None:
    reliable(free_port())
    stock = OTLPSpanExporter(f"http://127.0.0.1:{free_port()}/v1/traces", timeout=0.2)
    stock.export(spans(1))
    stock.shutdown()
    assert "Failed to export" in caplog.text


@pytest.mark.swallows
def test_a_span_that_cannot_be_encoded_is_lost_alone(serve: MakeServer, reliable: MakeExporter) -> None:
    server = serve()
    exporter = reliable(server.port)
    broken = span("broken")
    broken._name = 3  # pyright: ignore[reportAttributeAccessIssue]
    exporter.export([span("before"), broken, span("after")])
    assert exporter.force_flush()
    assert sorted(server.span_names()) == ["after", "before"]
    assert losses.take()[LOST] == 1


def test_shutdown_does_not_wait_for_a_collector_that_does_not_answer(serve: MakeServer, reliable: MakeExporter) -> None:
    hung = Hung()
    exporter = reliable(serve(hung).port, timeout=60)
    exporter.export(spans(3))
    exporter.shutdown()
    assert not hung.released.is_set()
    assert losses.take() == {LOST: 3}
    hung.released.set()


def test_shutdown_ends_a_long_pause_of_the_stock_exporter(serve: MakeServer, reliable: MakeExporter) -> None:
    answered = threading.Event()

    def busy_once(body: bytes) -> int | tuple[int, dict[str, str]]:
        if answered.is_set():
            return 200
        answered.set()
        return 503, {"Retry-After": "3000"}

    server = serve(busy_once)
    exporter = reliable(server.port, timeout=6000, grace=Grace(20))
    exporter.export(spans(3))
    assert answered.wait(30)
    exporter.shutdown()
    assert server.span_names() == names(spans(3))
    assert losses.take() == {}


def test_what_comes_after_shutdown_is_counted(serve: MakeServer, reliable: MakeExporter) -> None:
    exporter = reliable(serve().port)
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.export(spans(2)) is SpanExportResult.FAILURE
    assert losses.take() == {LOST: 2}


def test_a_flush_on_the_thread_that_sends_does_not_wait_for_itself() -> None:
    flushed, done = list[bool](), threading.Event()

    def send(items: list[str]) -> Answer:
        flushed.append(outbox.flush(1e6))  # as what Python collects there may
        done.set()
        return Answer(Outcome.DELIVERED)

    outbox: Outbox[str] = Outbox(send, "spans", pace=BRISK)
    outbox.put([("one", 1)])
    assert done.wait(60)
    assert flushed == [False]
    assert outbox.flush(60)


def test_what_is_put_in_while_no_thread_can_be_started_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sent: list[str] = []

    def send(items: list[str]) -> Answer:
        sent.extend(items)
        return Answer(Outcome.DELIVERED)

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        outbox: Outbox[str] = Outbox(send, "spans", pace=BRISK)
        assert outbox.put([("one", 1)])
        assert not outbox.flush(0)
    assert outbox.put([("two", 1)])
    assert outbox.flush(60)
    assert sent == ["one", "two"]


def test_exporters_share_one_grace() -> None:
    now = [0.0]
    grace = Grace(4, clock=lambda: now[0])
    with grace.spend(30) as first:
        now[0] += 3
    with grace.spend(30) as second:
        now[0] += 2
    with grace.spend(30) as third:
        pass
    assert (first, second, third) == (4, 1, 0)


def test_a_program_that_has_gone_on_has_its_whole_grace_again() -> None:
    now = [0.0]
    grace = Grace(4, clock=lambda: now[0])
    with grace.spend(30):
        now[0] += 4
    now[0] += 3
    with grace.spend(30) as soon:
        pass
    now[0] += 5
    with grace.spend(30) as later:
        pass
    assert (soon, later) == (0, 4)


PROGRAM = """
import atexit, os, sys
from spanrelay._guard import losses
atexit.register(lambda: print(sorted(losses.take().items()), flush=True))
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from spanrelay.exporters.delivery import ReliableMetricExporter, ReliableSpanExporter
from spanrelay.exporters.grace import Grace
from spanrelay.exporters.outbox import Pace

grace = Grace(float(os.environ["GRACE"]))
tracers = TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(ReliableSpanExporter(OTLPSpanExporter, grace=grace)))
meters = MeterProvider([PeriodicExportingMetricReader(ReliableMetricExporter(OTLPMetricExporter, grace=grace))])
tracer = tracers.get_tracer("test")
"""


def run(body: str, url: str, grace: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(body)],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": url, "GRACE": str(grace)},
        capture_output=True,
        text=True,
        timeout=120,
    )


SPANS_AND_A_METRIC = """
for number in range(1000):
    tracer.start_span(f"span {number}").end()
meters.get_meter("test").create_counter("calls").add(3)
"""


def test_a_program_that_ends_delivers_what_it_has(serve: MakeServer) -> None:
    server = serve()
    done = run(SPANS_AND_A_METRIC, server.url, grace=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    assert sorted(server.span_names()) == sorted(f"span {number}" for number in range(1000))
    assert server.sums() == [3]


@pytest.mark.parametrize("dead", [True, False], ids=["gone", "hung"])
def test_a_program_ends_without_its_collector_and_says_what_is_lost(serve: MakeServer, dead: bool) -> None:
    hung = Hung()
    url = f"http://127.0.0.1:{free_port()}" if dead else serve(hung).url
    done = run(SPANS_AND_A_METRIC, url, grace=0.5)
    hung.released.set()
    assert done.returncode == 0
    assert done.stdout == f"[('metric collections not delivered to the collector', 1), ('{LOST}', 1000)]\n"
    assert len(done.stderr.splitlines()) <= 2


def test_a_forked_child_sends_its_own_spans_and_not_its_parents(serve: MakeServer) -> None:
    server = serve(Answers(503, 503))
    done = run(
        """
        exporter = tracers._active_span_processor._span_processors[0].span_exporter
        tracer.start_span("parent, before").end()
        tracers.force_flush()
        child = os.fork()
        tracer.start_span("child" if not child else "parent, after").end()
        tracers.force_flush()
        exporter.force_flush()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        """,
        server.url,
        grace=60,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert sorted(server.span_names()) == ["child", "parent, after", "parent, before"]


# Sizes

texts = st.builds(str.__mul__, st.text(max_size=20), st.sampled_from([1, 100]))
values = st.one_of(
    texts,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.lists(texts, max_size=5),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.lists(st.booleans(), max_size=5),
)
attribute_sets = st.dictionaries(texts.filter(bool), values, max_size=6)


@settings(max_examples=150, deadline=None)
@given(name=texts, attributes=attribute_sets, event=attribute_sets, link=attribute_sets, why=texts)
def test_the_estimate_is_never_below_the_encoded_size(
    name: str, attributes: dict[str, object], event: dict[str, object], link: dict[str, object], why: str
) -> None:
    tracer = TracerProvider(resource=Resource.get_empty()).get_tracer("t")
    other = SpanContext(2**128 - 1, 2**64 - 1, is_remote=True)
    with tracer.start_as_current_span(name, attributes=attributes, links=[Link(other, link)]) as made:  # pyright: ignore[reportArgumentType]
        made.add_event(name, event)  # pyright: ignore[reportArgumentType]
        made.set_status(Status(StatusCode.ERROR, why))
    assert isinstance(made, ReadableSpan)
    assert _size_of_span(made) >= encode_spans([made]).ByteSize()


# gRPC


class GrpcCollector(TraceServiceServicer):
    def __init__(self, port: int = 0) -> None:
        self.names: list[str] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        received = [span for resource in request.resource_spans for span in resource.scope_spans[0].spans]
        if any(span.name == "malformed" for span in received):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "malformed")
        self.names += [span.name for span in received]
        return ExportTraceServiceResponse()

    def close(self) -> None:
        self._server.stop(None).wait()


def test_the_grpc_exporter_loses_only_what_the_collector_can_never_take() -> None:
    port = free_port()
    exporter = ReliableSpanExporter(
        lambda: GrpcSpanExporter(f"127.0.0.1:{port}", insecure=True, timeout=0.5), pace=BRISK, grace=Grace(0.2)
    )
    exporter.export([*spans(5), span("malformed"), span("huge", text="x" * 5_000_000), *spans(5, "more")])
    await_failure(exporter)
    collector = GrpcCollector(port)
    assert exporter.force_flush()
    assert sorted(collector.names) == sorted(names(spans(5) + spans(5, "more")))
    assert losses.take() == {LOST: 2}
    exporter.shutdown()
    collector.close()


# Metrics


@pytest.mark.parametrize(
    ("temporality", "sums"),
    [(AggregationTemporality.CUMULATIVE, [1, 3, 6]), (AggregationTemporality.DELTA, [1, 2, 3])],
)
def test_metrics_of_both_temporalities_survive_a_collector_that_is_away(
    serve: MakeServer, temporality: AggregationTemporality, sums: list[int]
) -> None:
    port = free_port()

    def build() -> OTLPMetricExporter:
        return OTLPMetricExporter(
            f"http://127.0.0.1:{port}/v1/metrics", timeout=0.5, preferred_temporality={Counter: temporality}
        )

    exporter = ReliableMetricExporter(build, pace=BRISK, grace=Grace(20))
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
    provider = MeterProvider([reader], shutdown_on_exit=False)
    counter = provider.get_meter("test").create_counter("calls")
    for amount in (1, 2, 3):
        counter.add(amount)
        reader.collect()
    server = serve(port=port)
    assert exporter.force_flush()
    assert sorted(server.sums()) == sums
    provider.shutdown()
    assert losses.take() == {}
