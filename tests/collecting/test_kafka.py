"""Sessions from a topic become the trajectories that `spanrelay convert` makes of the same spans, whoever is killed."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.collecting.receiver import Receiver
from tests.collecting.test_collecting import attribute, converted, documents_in, request_of, until

from spanrelay.collecting.kafka.assembling import PLACE
from spanrelay.collecting.kafka.clients import properties_of
from spanrelay.collecting.kafka.keying import Keyed, Keying, Part, parts_of
from spanrelay.collecting.kafka.segments import Segments
from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder
from spanrelay.conversion.traces import parted
from spanrelay.errors import ConfigurationError
from spanrelay.otlp_in import files
from spanrelay.otlp_in.files import Piece
from spanrelay_testkit.kafka_broker import Broker, free_port, is_possible, running

PARTITIONS = 4
SPANS = ("resourceSpans", "scopeSpans", "spans")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if not is_possible():
        pytest.skip("a broker takes Java, and Maven the first time")
    with running(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture
def topic(broker: Broker, request: pytest.FixtureRequest) -> str:
    name = f"spans-{request.node.name.partition('[')[0]}"
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(60)
    return name


def produce(broker: Broker, topic: str, *requests: ExportTraceServiceRequest) -> None:
    """Write requests of one trace each, keyed by it, as the collector's exporter does with `partition_traces_by_id`."""
    producer = Producer({"bootstrap.servers": broker.address})
    for request in requests:
        trace = request.resource_spans[0].scope_spans[0].spans[0].trace_id
        producer.produce(topic, request.SerializeToString(), key=trace.hex())
    assert producer.flush(60) == 0


@contextmanager
def assembler(broker: Broker, topic: str, folder: Path, *options: str) -> Generator[subprocess.Popen[str]]:
    """A member of the group, which is killed at the end if it has not ended by then."""
    properties = folder.with_name("kafka.properties")
    properties.write_text(
        "# so that a member that is killed is missed soon\nsession.timeout.ms=3000\nheartbeat.interval.ms=500\n"
    )
    arguments = ("collect", "--kafka", broker.address, "--topic", topic, "--group", topic, "--silence", "0.5")
    command = (sys.executable, "-m", "spanrelay", *arguments, "--kafka-properties", str(properties), *options)
    with subprocess.Popen(
        [*command, "-o", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "SPANRELAY_"))},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until_written(folder: Path, wanted: dict[str, bytes], *members: subprocess.Popen[str]) -> None:
    """Wait until a folder has the documents that are wanted; none of the members ends before."""

    def is_written() -> bool:
        assert [each.communicate()[1] for each in members if each.poll() is not None] == []
        return documents_in(folder) == wanted

    until(is_written)


def trace_of(number: int, session: str, service: str = "agent") -> list[ExportTraceServiceRequest]:
    """A trace in two records: a call that names no session, and the span above it, which does."""
    below, above = request_of(number, None, service=service), request_of(number, session, service=service)
    [call], [first] = (each.resource_spans[0].scope_spans[0].spans for each in (below, above))
    first.span_id = call.parent_span_id = (number * 7 + 2).to_bytes(8, "big")
    return [below, above]


@pytest.mark.slow
def test_two_assemblers_leave_what_convert_makes_though_one_is_killed_at_random(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    generator, kills = random.Random(5), int(os.environ.get("SPANRELAY_TEST_KILLS", "3"))
    requests: list[ExportTraceServiceRequest] = []
    with ExitStack() as stack:
        steady, victim = (stack.enter_context(assembler(broker, topic, tmp_path / "runs")) for _ in range(2))
        for kill in range(kills):
            share = [each for number in range(200) for each in trace_of(1 + 200 * kill + number, f"s-{number % 40}")]
            generator.shuffle(share)
            produce(broker, topic, *share)
            requests += share
            written = generator.randrange(1, 40)
            until(lambda written=written: len(documents_in(tmp_path / "runs")) >= written)
            victim.kill()
            victim = stack.enter_context(assembler(broker, topic, tmp_path / "runs"))
        wanted = converted(requests, tmp_path / "wanted")
        until_written(tmp_path / "runs", wanted, steady, victim)
        for each in (steady, victim):
            each.send_signal(signal.SIGTERM)
            assert (each.communicate(timeout=60)[1], each.returncode) == ("", 0)
    assert documents_in(tmp_path / "runs") == wanted


@pytest.mark.slow
def test_what_cannot_be_read_is_set_aside_with_its_reason_and_the_partition_goes_on(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    producer = Producer({"bootstrap.servers": broker.address})
    good = request_of(1, "session-1")
    in_json = json.dumps(otlp_json(request_of(2, "session-1")))
    for record in (b"\xff no request", good.SerializeToString(), b'{"resourceSpans": 3}', in_json, b""):
        producer.produce(topic, record, partition=0)
    assert producer.flush(60) == 0
    with assembler(broker, topic, tmp_path / "runs") as process:
        wanted = converted([good, request_of(2, "session-1")], tmp_path / "wanted")
        until_written(tmp_path / "runs", wanted, process)
        process.send_signal(signal.SIGTERM)
        assert "2 findings in what was collected" in process.communicate(timeout=60)[1]
    [aside] = (tmp_path / "runs" / PLACE).glob("*.unreadable.jsonl")
    told = [json.loads(line) for line in aside.read_bytes().splitlines()]
    assert [base64.b64decode(each["data"]) for each in told] == [b"\xff no request", b'{"resourceSpans": 3}']
    assert "no OTLP protobuf" in told[0]["fault"]


@pytest.mark.slow
def test_a_broker_that_is_away_for_a_while_loses_nothing(broker: Broker, topic: str, tmp_path: Path) -> None:
    requests = [request_of(number, f"session-{number % 3}") for number in range(1, 13)]
    with assembler(broker, topic, tmp_path / "runs") as process:
        produce(broker, topic, *requests[:6])
        until(lambda: len(documents_in(tmp_path / "runs")) == 3)
        broker.stop()
        broker.start()
        produce(broker, topic, *requests[6:])
        wanted = converted(requests, tmp_path / "wanted")
        until_written(tmp_path / "runs", wanted, process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def continued(number: int, before: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """A call that names no session and sends what was said before, in a trace of its own."""
    request = request_of(number, None)
    [[said, answered], [asked, _]] = (
        [each.value for each in span.attributes if each.key in ("gen_ai.input.messages", "gen_ai.output.messages")]
        for span in (each.resource_spans[0].scope_spans[0].spans[0] for each in (before, request))
    )
    history = [*json.loads(said.string_value), *json.loads(answered.string_value), *json.loads(asked.string_value)]
    asked.string_value = json.dumps(history)
    return request


@pytest.mark.slow
def test_a_conversation_that_names_no_session_is_one_document(broker: Broker, topic: str, tmp_path: Path) -> None:
    requests = [request_of(1, None)]
    for number in range(2, 8):
        requests.append(continued(number, requests[-1]))
    with assembler(broker, topic, tmp_path / "runs") as process:
        produce(broker, topic, *requests)
        wanted = converted(requests, tmp_path / "wanted")
        assert len(wanted) == 1
        until_written(tmp_path / "runs", wanted, process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.mark.slow
def test_a_member_tells_that_it_lives_and_how_far_it_is(broker: Broker, topic: str, tmp_path: Path) -> None:
    requests = [request_of(number, f"session-{number % 3}") for number in range(1, 7)]
    with assembler(broker, topic, tmp_path / "runs", "--http", "127.0.0.1:0") as process:
        assert process.stdout is not None
        assert "reading" in process.stdout.readline()
        url = process.stdout.readline().split("/healthz")[0].strip()
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        assert httpx.post(f"{url}/v1/traces").status_code == 404
        produce(broker, topic, *requests)
        until(lambda: "\nspanrelay_documents_total 3\n" in httpx.get(f"{url}/metrics").text)
        told = httpx.get(f"{url}/metrics").text
        assert "\nspanrelay_spans_total 6\n" in told
        assert "\nspanrelay_records_behind 0\n" in told
        process.send_signal(signal.SIGTERM)
        assert (process.communicate(timeout=60)[1], process.returncode) == ("", 0)


@pytest.mark.slow
def test_what_a_killed_member_has_not_delivered_goes_out_from_whoever_has_its_partitions_next(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    requests = [request_of(number, f"session-{number % 9}") for number in range(1, 19)]
    with Receiver().running() as receiver:
        receiver.status = 503
        with assembler(broker, topic, tmp_path / "runs", "--to", receiver.url) as first:
            produce(broker, topic, *requests)
            wanted = converted(requests, tmp_path / "wanted")
            until_written(tmp_path / "runs", wanted, first)
            until(lambda: receiver.posts)
        receiver.status = 200
        with assembler(broker, topic, tmp_path / "runs", "--to", receiver.url):
            until(lambda: receiver.bodies == wanted)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--keyed",)])
def test_a_broker_that_is_not_reached_is_told_at_once_and_nothing_is_said_to_be_read(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    command = (sys.executable, "-m", "spanrelay", "collect", "--kafka", address, "-o", str(tmp_path / "runs"))
    told = subprocess.run([*command, *options], capture_output=True, text=True)
    assert f"no broker of '{address}' is reached within 5 seconds" in told.stderr
    assert (told.stdout, told.returncode) == ("", 1)


@pytest.mark.slow
def test_a_topic_that_is_not_there_is_told(broker: Broker, tmp_path: Path) -> None:
    with assembler(broker, "nowhere", tmp_path / "runs") as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"there is no topic 'nowhere' at '{broker.address}'" in said


def otlp_json(request: ExportTraceServiceRequest | ExportLogsServiceRequest) -> Any:
    """A request as OTLP has it in JSON, with ids in hexadecimal."""
    value = MessageToDict(request)
    of_logs = isinstance(request, ExportLogsServiceRequest)
    resources, scopes, items = ("resourceLogs", "scopeLogs", "logRecords") if of_logs else SPANS
    for resource in value[resources]:
        for item in (each for scope in resource[scopes] for each in scope[items]):
            item |= {name: base64.b64decode(item[name]).hex() for name in ("traceId", "spanId")}
    return value


def mixed() -> ExportTraceServiceRequest:
    """One request of three traces, of which two share a scope."""
    request = request_of(1, "a")
    request.resource_spans[0].schema_url = "https://opentelemetry.io/schemas/1.38.0"
    for each in (request_of(2, None), request_of(1, None)):
        request.resource_spans[0].scope_spans[0].spans.extend(each.resource_spans[0].scope_spans[0].spans)
    request.resource_spans.extend(request_of(3, "b", service="other").resource_spans)
    return request


@pytest.mark.parametrize("form", ["protobuf", "JSON"])
def test_a_record_of_several_traces_is_parted_and_nothing_of_it_is_lost(form: str, tmp_path: Path) -> None:
    request = mixed()
    data = request.SerializeToString() if form == "protobuf" else json.dumps(otlp_json(request)).encode()
    parts = parts_of(data, "t-0@7")
    assert [(int(part.trace, 16), part.session) for part in parts] == [(1, "a"), (2, None), (3, "b")]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    for folder, pieces in ((whole, [data]), (parted, [part.data for part in parts])):
        source = folder.with_suffix(".otlp" if form == "protobuf" else ".jsonl")
        framed = (len(each).to_bytes(4, "big") + each if form == "protobuf" else each + b"\n" for each in pieces)
        source.write_bytes(b"".join(framed))
        work.convert([source], Folder(folder))
    assert documents_in(whole) == documents_in(parted)
    assert len(documents_in(whole)) == 3


def test_a_record_of_one_trace_stays_as_it_is() -> None:
    data = request_of(1, "a").SerializeToString()
    assert parts_of(data, "t-0@7") == [Part(data, f"{1:032x}", "a", "agent", has_first=True)]
    assert parts_of(b"no request", "t-0@7") == [Part(b"no request", "", None)]


def test_log_records_go_with_the_trace_that_they_are_of() -> None:
    """Those with a body, which cannot be read as spans, in the collector's protobuf."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.append(attribute("service.name", "agent"))
    scope = resource.scope_logs.add()
    scope.scope.name = "app"
    record = scope.log_records.add(trace_id=(1).to_bytes(16, "big"), severity_number=9)
    record.body.kvlist_value.values.append(attribute("content", "Hello?"))
    record.attributes.append(attribute("event.name", "gen_ai.user.message"))
    data = request.SerializeToString()
    record.attributes.append(attribute("log.record.uid", "t-0@7.0"))
    marked = request.SerializeToString()
    assert parts_of(data, "t-0@7") == [Part(marked, f"{1:032x}", None, "agent")]
    keying = Keying("t-0", lambda _, __: None)
    named = request_of(1, "a").SerializeToString()
    went = [*keying.add(data, 7, 0), *keying.add(named, 8, 1)]
    assert went == [Keyed("a", marked), Keyed("a", named)]


@pytest.mark.parametrize("form", ["protobuf", "JSON"])
def test_a_log_record_that_is_passed_on_twice_counts_once_and_one_that_was_said_twice_counts_twice(
    form: str, tmp_path: Path
) -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for trace, answer in ((1, "Yes."), (1, "Yes."), (2, "No.")):
        record = records.add(trace_id=trace.to_bytes(16, "big"), span_id=bytes(7) + b"\1", time_unix_nano=5)
        record.event_name = "gen_ai.choice"
        record.body.kvlist_value.values.append(attribute("content", answer))
    records[1].attributes.append(attribute("log.record.uid", "its own"))
    data = request.SerializeToString() if form == "protobuf" else json.dumps(otlp_json(request)).encode()
    parts = parts_of(data, "t-0@7")
    assert parts == parts_of(data, "t-0@7")  # whoever reads it again says the same
    again = [*parts, *parts, *parts_of(data, "t-0@8")[:1]]
    read = [item for part in again for item in files.read(Piece("", part.data, form == "JSON"), print)]
    said = [(record.trace_id, record.uid, record.attributes) for record in parted(read)[1]]
    assert sorted(said) == [(1, "its own", {}), (1, "t-0@7.0", {}), (1, "t-0@8.0", {}), (2, "t-0@7.2", {})]


def test_a_trace_is_held_until_its_session_is_known_and_then_goes_with_it() -> None:
    learned: list[tuple[str, str]] = []
    keying = Keying("t-0", lambda trace, session: learned.append((trace, session)), patience=5)
    first, second = (each.SerializeToString() for each in trace_of(1, "a"))
    assert (list(keying.add(first, 7, 0)), keying.needed) == ([], 7)
    assert list(keying.add(second, 8, 1)) == [Keyed("a", first), Keyed("a", second)]
    assert (list(keying.add(first, 9, 2)), keying.needed) == ([Keyed("a", first)], None)
    assert learned == [(f"{1:032x}", "a")]
    assert list(Keying("t-0", lambda _, __: None, learned).add(first, 10, 3)) == [Keyed("a", first)]


def test_a_trace_that_names_no_session_goes_with_its_service_in_time() -> None:
    keying = Keying("t-0", lambda _, __: None, patience=5)
    nameless = request_of(1, None).SerializeToString()
    assert list(keying.add(nameless, 1, 0)) == list(keying.due(4)) == []
    assert list(keying.due(5)) == [Keyed("agent", nameless)]


def test_a_trace_whose_first_span_has_not_come_is_held_for_it() -> None:
    below, above = (each.SerializeToString() for each in trace_of(1, "a"))
    keying = Keying("t-0", lambda _, __: None, patience=5, longest=60)
    assert list(keying.add(below, 1, 0)) == list(keying.due(59)) == []
    assert list(keying.add(above, 2, 59)) == [Keyed("a", below), Keyed("a", above)]
    assert list(keying.add(trace_of(2, "b")[0].SerializeToString(), 3, 60)) == list(keying.due(119)) == []
    assert [keyed.key for keyed in keying.due(120)] == ["agent"]


def test_what_is_held_has_a_bound() -> None:
    nameless = [request_of(number, None).SerializeToString() for number in range(1, 4)]
    keying = Keying("t-0", lambda _, __: None, room=2 * len(nameless[0]))
    went = [keyed.data for offset, data in enumerate(nameless) for keyed in keying.add(data, offset, 0)]
    assert (went, keying.needed) == (nameless[:1], 1)


def test_an_offset_is_in_the_same_segment_whoever_reads_it(tmp_path: Path) -> None:
    first = Segments(tmp_path, "spans-0", 500)
    assert [first.number_of(offset) for offset in (500, 999, 1_000, 2_500)] == [1, 1, 2, 3]
    assert first.needed == 500
    first.forget({"trace": 2})
    first.remove(1)
    assert (first.needed, first.numbers()) == (1_000, [2, 3])
    second = Segments(tmp_path, "spans-0", first.needed)
    assert second.forgotten() == {"trace": second.number_of(1_500)}
    assert Segments(tmp_path, "spans-0", 2_000).forgotten() == {}


def test_a_line_of_the_properties_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text("# of TLS\n\nsecurity.protocol = SSL\nsasl.password=a=b\n")
    assert properties_of(file) == {"security.protocol": "SSL", "sasl.password": "a=b"}
    file.write_text("security.protocol SSL\n")
    with pytest.raises(ConfigurationError, match="line 1, must be NAME=VALUE"):
        properties_of(file)
