"""Sessions of any number of processes become the trajectories that `spanrelay convert` makes of the same spans."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import brotli
import grpc
import httpx
import pytest
import zstandard
from google.protobuf.json_format import MessageToDict
from google.rpc import status_pb2
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from spanrelay._guard import losses
from spanrelay._masking import mask_bytes
from spanrelay.cli import main
from spanrelay.collecting import intake
from spanrelay.collecting.gatherer import Gatherer, Pace
from spanrelay.collecting.intake import Request, Shelf
from spanrelay.collecting.serving import PLACE, Collector, Options, start
from spanrelay.collecting.sessions import Sessions, Terms
from spanrelay.conversion import work
from spanrelay.conversion.crew import Worker
from spanrelay.conversion.documents import Folder
from spanrelay.conversion.ledger import NAME, Ledger
from spanrelay.errors import ConfigurationError
from spanrelay.gateway.bodies import unpacked
from spanrelay.semconv.fields import service_of

Standing = Callable[..., Collector]


@pytest.fixture
def standing(tmp_path: Path) -> Iterator[Standing]:
    running: list[Collector] = []

    def begin(**options: Any) -> Collector:
        chosen: dict[str, Any] = {"http": ("127.0.0.1", 0), "grpc": None, **options}
        collector = start(Options(tmp_path / "runs", **chosen))
        running.append(collector)
        return collector

    yield begin
    for collector in running:
        collector.stop()


def attribute(name: str, value: str) -> KeyValue:
    return KeyValue(key=name, value=AnyValue(string_value=value))


def request_of(number: int, session: str | None, *, call: int = 0, service: str = "agent") -> ExportTraceServiceRequest:
    """One model call, in a trace of its own."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(attribute("service.name", service))
    span = resource.scope_spans.add().spans.add(
        trace_id=number.to_bytes(16, "big"),
        span_id=(number * 7 + 1).to_bytes(8, "big"),
        name="chat gpt-5",
        start_time_unix_nano=1_700_000_000_000_000_000 + number * 1_000_000_000,
        end_time_unix_nano=1_700_000_000_500_000_000 + number * 1_000_000_000,
    )
    said = [{"role": "user", "parts": [{"type": "text", "content": f"question {number}"}]}]
    answer = [
        {"role": "assistant", "parts": [{"type": "text", "content": f"answer {number}"}], "finish_reason": "stop"}
    ]
    values = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.input.messages": json.dumps(said),
        "gen_ai.output.messages": json.dumps(answer),
        **({} if session is None else {"gen_ai.conversation.id": session}),
    }
    span.attributes.extend(attribute(name, value) for name, value in values.items())
    return request


def post(collector: Collector, data: bytes, path: str = "/v1/traces", **headers: str) -> httpx.Response:
    kind = {"content-type": "application/x-protobuf", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return httpx.post(f"http://127.0.0.1:{collector.http_port}{path}", content=data, headers=kind)


def documents_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.json")}


def converted(requests: list[ExportTraceServiceRequest], folder: Path, **options: Any) -> dict[str, bytes]:
    source = folder.with_suffix(".otlp")
    framed = [data for each in requests for data in [each.SerializeToString()]]
    source.write_bytes(b"".join(len(data).to_bytes(4, "big") + data for data in framed))
    work.convert([source], Folder(folder, mask=mask_bytes), **options)
    return documents_in(folder)


def until(ready: Callable[[], Any]) -> Any:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 120
    while not (found := ready()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
    return found


REQUESTS = [request_of(number, f"session-{number % 3}") for number in range(1, 13)] + [request_of(50, None)]


def test_what_is_collected_is_what_is_converted_of_the_same(standing: Standing, tmp_path: Path) -> None:
    collector = standing(silence=0.01)
    shuffled = random.Random(1).sample(REQUESTS, len(REQUESTS))
    for number, request in enumerate(shuffled):
        data = request.SerializeToString()
        if number % 3 == 0:
            assert post(collector, data).content == b""
        elif number % 3 == 1:
            assert post(collector, gzip.compress(data), content_encoding="gzip").status_code == 200
        else:
            text = json.dumps(MessageToDict(request), indent=1).encode()
            assert post(collector, text, content_type="application/json").json() == {}
    wanted = converted(REQUESTS, tmp_path / "wanted")
    assert len(wanted) == 4
    until(lambda: documents_in(tmp_path / "runs") == wanted)


def test_what_comes_late_or_twice_gives_the_same_document(standing: Standing, tmp_path: Path) -> None:
    collector = standing(silence=0.01)
    first, late, other = REQUESTS[0], REQUESTS[3], REQUESTS[1]
    post(collector, first.SerializeToString())
    until(lambda: "session-1.json" in documents_in(tmp_path / "runs"))
    for request in (late, other, first):
        post(collector, request.SerializeToString())
    wanted = converted([first, other, late], tmp_path / "wanted")
    until(lambda: documents_in(tmp_path / "runs") == wanted)


def test_a_trace_that_turns_out_to_be_of_a_session_leaves_no_document_of_its_own(
    standing: Standing, tmp_path: Path
) -> None:
    collector = standing(silence=0.01)
    nameless, named = request_of(1, None), request_of(1, "session-1")
    named.resource_spans[0].scope_spans[0].spans[0].span_id = (99).to_bytes(8, "big")
    post(collector, nameless.SerializeToString())
    [before] = until(lambda: documents_in(tmp_path / "runs"))
    post(collector, named.SerializeToString())
    until(lambda: set(documents_in(tmp_path / "runs")) == {"session-1.json"})
    assert before != "session-1.json"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_two_services_that_use_one_session_id_have_a_document_each_in_whatever_order_they_come(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    requests = [request_of(1, "s"), request_of(2, "s", service="billing"), request_of(3, "s")]
    wanted = converted(requests, tmp_path / "wanted")
    assert [name for name in wanted if name.startswith("s_of_billing-")] == [
        name for name in wanted if name != "s.json"
    ]
    told = {name: [step["message"] for step in json.loads(data)["steps"]] for name, data in wanted.items()}
    assert told.pop("s.json") == ["question 1", "answer 1", "question 3", "answer 3"]
    assert list(told.values()) == [["question 2", "answer 2"]]
    gathered = Gathered(tmp_path)
    documents = dict[str, bytes]()
    for number in order:
        gathered.take(requests[number])
        documents = gathered.settle()
    assert documents == gathered.close() == Gathered(tmp_path).close() == wanted


def test_a_session_is_one_across_services_where_that_is_asked_for(standing: Standing, tmp_path: Path) -> None:
    requests = [request_of(1, "s"), request_of(2, "s", service="billing")]
    wanted = converted(requests, tmp_path / "wanted", across_services=True)
    assert set(wanted) == {"s.json"}
    collector = standing(silence=0.01, across_services=True)
    for request in requests:
        post(collector, request.SerializeToString())
    until(lambda: documents_in(tmp_path / "runs") == wanted)


def test_services_of_one_name_in_two_namespaces_are_two() -> None:
    names = [service_of({"service.name": "agent", **more}) for more in ({}, {"service.namespace": "shop"})]
    assert names == ["agent", "shop/agent"]


def test_the_sdks_exporters_deliver_over_http_and_grpc(standing: Standing, tmp_path: Path) -> None:
    collector = standing(grpc=("127.0.0.1", 0), silence=0.01)
    exporters = [
        HttpExporter(f"http://127.0.0.1:{collector.http_port}/v1/traces"),
        GrpcExporter(f"http://127.0.0.1:{collector.grpc_port}", insecure=True),
    ]
    for number, exporter in enumerate(exporters):
        provider = TracerProvider(resource=Resource({"service.name": "agent"}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        values = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.conversation.id": f"s{number}"}
        provider.get_tracer("test").start_span("chat m", attributes=values).end()
        provider.shutdown()
    until(lambda: set(documents_in(tmp_path / "runs")) == {"s0.json", "s1.json"})


def test_nothing_is_taken_without_the_token(standing: Standing) -> None:
    collector = standing(token="t" * 16, grpc=("127.0.0.1", 0))
    data = REQUESTS[0].SerializeToString()
    refused = post(collector, data)
    assert refused.status_code == 401
    assert "token" in status_pb2.Status.FromString(refused.content).message
    assert post(collector, data, authorization=f"Bearer {'t' * 16}").status_code == 200
    with grpc.insecure_channel(f"127.0.0.1:{collector.grpc_port}") as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        with pytest.raises(grpc.RpcError) as raised:
            export(data)
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert export(data, metadata=(("authorization", f"Bearer {'t' * 16}"),)) == b""
    assert losses.take() == {
        "requests that were not taken (401)": 1,
        "requests that were not taken (UNAUTHENTICATED)": 1,
    }


@pytest.mark.parametrize(
    ("path", "data", "headers", "status"),
    [
        ("/v1/traces", b"\xff\xff", {}, 400),
        ("/v1/traces", b"[]", {"content_type": "application/json"}, 400),
        ("/v1/traces", b"{", {"content_type": "application/json"}, 400),
        ("/v1/traces", b"abc", {"content_encoding": "lzma"}, 415),
        ("/v1/traces", b"", {"content_type": "text/plain"}, 415),
        ("/v1/traces", b"{}", {"content_type": "application/x-www-form-urlencoded"}, 415),
        ("/v1/traces", b"abc", {"content_encoding": "gzip"}, 415),
        ("/v1/elsewhere", b"", {}, 404),
    ],
)
def test_what_is_no_request_is_refused_as_otlp_says(
    path: str, data: bytes, headers: dict[str, str], status: int, standing: Standing
) -> None:
    collector = standing()
    told = post(collector, data, path, **headers)
    assert told.status_code == status
    said = (
        told.json()
        if headers.get("content_type") == "application/json"
        else MessageToDict(status_pb2.Status.FromString(told.content))
    )
    assert said["message"]
    assert losses.take() == {f"requests that were not taken ({status})": 1}


def test_a_client_that_offers_another_protocol_loses_nothing(standing: Standing, tmp_path: Path) -> None:
    collector = standing(silence=0.01)
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAMAAABk"}
    assert post(collector, REQUESTS[0].SerializeToString(), **offer).status_code == 200
    kept = [request.data for request in Shelf(tmp_path / "runs" / PLACE).read_again()]
    assert kept == [REQUESTS[0].SerializeToString()]


@pytest.mark.parametrize("kind", ["", "application/protobuf", "Application/X-Protobuf; a=b"])
def test_protobuf_is_read_however_it_is_called(kind: str, standing: Standing) -> None:
    assert post(standing(), REQUESTS[0].SerializeToString(), content_type=kind).status_code == 200


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", brotli.compress), ("zstd", zstandard.compress)],
)
def test_a_body_that_is_cut_is_refused_whatever_packs_it(encoding: str, pack: Any, standing: Standing) -> None:
    collector, packed = standing(), pack(REQUESTS[0].SerializeToString())
    cuts = [packed[:4], packed[: len(packed) // 2], packed[:-1]]
    told = [post(collector, cut, content_encoding=encoding).status_code for cut in cuts]
    assert told == [415, 415, 415]
    assert post(collector, packed, content_encoding=encoding).status_code == 200
    losses.take()


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_all_members_of_a_body_are_read_however_many_there_are(encoding: str, pack: Any) -> None:
    packed = pack(b"a" * 9_000) + pack(b"") * 20_000 + pack(b"b")
    assert unpacked(packed, encoding, 1 << 20) == b"a" * 9_000 + b"b"


def test_a_disk_that_is_full_refuses_and_loses_nothing_accepted(
    standing: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = standing(silence=0.01)
    first, second, third = (request.SerializeToString() for request in REQUESTS[:3])
    assert post(collector, first).status_code == 200
    real = os.write

    def full(file: int, data: Any) -> int:
        real(file, bytes(data)[:10])  # a part of it is there before it is noticed
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    refused = post(collector, second)
    monkeypatch.undo()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert post(collector, third).status_code == 200
    kept = [request.data for request in Shelf(tmp_path / "runs" / PLACE).read_again()]
    assert kept == [first, third]
    assert losses.take() == {"requests that were not taken (503)": 1}


def test_a_disk_that_keeps_a_torn_end_loses_nothing_that_is_accepted_behind_it(
    standing: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = standing(silence=0.01)
    first, second, third = (request.SerializeToString() for request in REQUESTS[:3])
    assert post(collector, first).status_code == 200
    real = os.write

    def fail(*_given: Any) -> int:
        raise OSError(5, "Input/output error")

    def write_a_part(file: int, data: Any) -> int:
        real(file, bytes(data)[:10])
        return fail()

    monkeypatch.setattr(os, "write", write_a_part)
    monkeypatch.setattr(os, "ftruncate", fail)
    assert post(collector, second).status_code == 503
    monkeypatch.undo()
    assert post(collector, third).status_code == 200
    assert [request.data for request in Shelf(tmp_path / "runs" / PLACE).read_again()] == [first, third]
    losses.take()


def test_a_next_file_that_cannot_be_made_is_a_refusal_and_not_the_end(
    standing: Standing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = standing(silence=0.01)
    first, second = (request.SerializeToString() for request in REQUESTS[:2])
    assert post(collector, first).status_code == 200
    monkeypatch.setattr(intake, "_FULL", 1)

    def fail(_path: Path) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(intake, "_open", fail)
        assert post(collector, second).status_code == 503
    assert post(collector, second).status_code == 200
    assert [request.data for request in Shelf(tmp_path / "runs" / PLACE).read_again()] == [first, second]
    losses.take()


def test_a_second_collector_does_not_touch_what_the_first_keeps(standing: Standing, tmp_path: Path) -> None:
    collector = standing(silence=0.01)
    with pytest.raises(ConfigurationError, match="another collector writes into"):
        start(Options(tmp_path / "runs", http=("127.0.0.1", 0), grpc=None))
    assert post(collector, REQUESTS[0].SerializeToString()).status_code == 200


def test_health_and_figures_are_told(standing: Standing) -> None:
    collector = standing(silence=0.01)
    post(collector, REQUESTS[0].SerializeToString())
    until(lambda: collector.counts.documents)
    url = f"http://127.0.0.1:{collector.http_port}"
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    told = httpx.get(f"{url}/metrics").text
    assert "\nspanrelay_spans_total 1\n" in told
    assert "\nspanrelay_documents_total 1\n" in told


def test_where_others_can_connect_there_must_be_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="give it a token"):
        start(Options(tmp_path, http=("0.0.0.0", 0), grpc=None))


class Gathered:
    """Sessions without a thread, whose clock is turned by hand; numbered files of requests stand for those kept."""

    def __init__(self, place: Path, keep: float = 100) -> None:
        self.now, self.place = 0.0, place
        self._scratch = tempfile.TemporaryDirectory(dir=place)
        kept = place / "kept"
        kept.mkdir(exist_ok=True)
        (place / "runs").mkdir(exist_ok=True)
        folder = Folder(place / "runs", overwrite=True, mask=mask_bytes)
        scratch = Path(self._scratch.name)
        self.shelf = Shelf(kept)
        self.sessions = Sessions(folder, self.shelf, scratch, Terms(silence=1, keep=keep), clock=lambda: self.now)

    def take(self, *requests: ExportTraceServiceRequest, file: int = 1) -> None:
        for request in requests:
            data = request.SerializeToString()
            with (self.place / "kept" / f"{file:08}.otlp").open("ab") as kept:
                kept.write(len(data).to_bytes(4, "big") + data)
            self.sessions.gather([Request(data, False, file)])

    def settle(self, seconds: float = 2) -> dict[str, bytes]:
        """Let time pass, and return the documents that there are then."""
        self.now += seconds
        self.sessions.write_due()
        return documents_in(self.place / "runs")

    def close(self) -> dict[str, bytes]:
        """Read again what an earlier run kept, if nothing has been taken; end, and return the documents."""
        gatherer = Gatherer(self.sessions)
        if self.sessions.counts.requests:
            gatherer._thread.start()
        else:
            gatherer.start(self.shelf.read_again())
        gatherer.close()
        self._scratch.cleanup()
        return documents_in(self.place / "runs")


def around(request: ExportTraceServiceRequest, number: int, session: str) -> ExportTraceServiceRequest:
    """Another trace, of a session, within whose time lies that of a request."""
    other = request_of(number, session)
    [span], [inner] = (each.resource_spans[0].scope_spans[0].spans for each in (other, request))
    span.start_time_unix_nano, span.end_time_unix_nano = inner.start_time_unix_nano - 1, inner.end_time_unix_nano + 1
    return other


def test_what_is_old_is_let_go_of_with_its_files(tmp_path: Path) -> None:
    gathered = Gathered(tmp_path)
    (tmp_path / "kept" / "00000003.otlp").touch()
    gathered.take(REQUESTS[0], file=1)
    gathered.settle(50)
    gathered.take(REQUESTS[1], file=2)
    gathered.settle(60)
    assert Shelf(tmp_path / "kept").numbers() == [2, 3]
    assert set(gathered.close()) == {"session-1.json", "session-2.json"}


def test_no_file_is_held_open_for_each_file_of_requests(tmp_path: Path) -> None:
    gathered = Gathered(tmp_path)
    gathered.take(REQUESTS[0])
    gathered.settle()
    before = len(os.listdir("/dev/fd"))
    for number in range(2, 102):
        gathered.take(request_of(number, f"many-{number}"), file=number)
    assert len(gathered.settle()) == 101
    assert len(os.listdir("/dev/fd")) - before < 50
    gathered.close()


def test_what_comes_after_all_was_let_go_of_leaves_the_document_that_is_there(tmp_path: Path) -> None:
    gathered = Gathered(tmp_path)
    (tmp_path / "kept" / "00000003.otlp").touch()
    gathered.take(REQUESTS[0])
    before = gathered.settle()
    gathered.settle(200)
    gathered.take(REQUESTS[3], file=3)
    after = gathered.close()
    assert after["session-1.json"] == before["session-1.json"]
    assert set(after) == {"session-1.json", "session-1-2.json"}
    assert Gathered(tmp_path).close() == after


def test_a_session_of_which_one_file_was_let_go_of_is_not_written_anew_without_it(tmp_path: Path) -> None:
    gathered = Gathered(tmp_path)
    (tmp_path / "kept" / "00000003.otlp").touch()
    gathered.take(REQUESTS[0], file=1)
    gathered.take(REQUESTS[3], file=2)
    before = gathered.settle()
    gathered.now = 90
    gathered.take(REQUESTS[1], file=2)
    gathered.settle(20)
    assert Shelf(tmp_path / "kept").numbers() == [2, 3]
    gathered.close()
    after = Gathered(tmp_path).close()
    assert (after["session-1.json"], len(after)) == (before["session-1.json"], 2)


def test_a_trace_that_moves_to_a_session_takes_no_other_traces_document_with_it(tmp_path: Path) -> None:
    one, two = request_of(1, None), request_of(2, None)
    gathered = Gathered(tmp_path)
    gathered.take(one, two)
    gathered.settle()
    requests = [one, two]
    for number, session in (
        (31, "a"),
        (32, "b"),
    ):  # the first holds it; with the second it is no longer clear whose it is
        requests.append(around(one, number, session))
        gathered.take(requests[-1])
        assert gathered.settle() == converted(requests, tmp_path / f"wanted-{number}")
    gathered.close()


def test_a_document_of_an_earlier_run_goes_when_its_trace_turns_out_to_be_of_a_session(tmp_path: Path) -> None:
    nameless, named = request_of(1, None), request_of(1, "session-1")
    named.resource_spans[0].scope_spans[0].spans[0].span_id = (99).to_bytes(8, "big")
    gathered = Gathered(tmp_path)
    gathered.take(nameless)
    assert len(gathered.settle()) == 1
    gathered.take(named, file=2)
    gathered.sessions._changed.clear()  # killed before it was written
    gathered.sessions._groups.forget([f"{1:032x}"])
    gathered.close()
    assert set(Gathered(tmp_path).close()) == {"session-1.json"}


class Killed(BaseException):
    """Ends everything, as a kill does."""


@pytest.mark.parametrize("moment", ["before it is noted", "before the earlier one is removed"])
def test_a_kill_at_a_document_leaves_none_under_an_earlier_name(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    nameless, named = request_of(1, None), request_of(1, "session-1")
    named.resource_spans[0].scope_spans[0].spans[0].span_id = (99).to_bytes(8, "big")
    gathered = Gathered(tmp_path)
    gathered.take(nameless)
    if moment == "before it is noted":
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(Ledger, "note", killed)
            gathered.settle()
        gathered.take(named, file=2)
    else:
        gathered.settle()
        gathered.take(named, file=2)
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(Path, "unlink", killed)
            gathered.settle()
        assert len(documents_in(tmp_path / "runs")) == 2
    gathered.sessions.close()
    gathered._scratch.cleanup()
    assert Gathered(tmp_path).close() == converted([nameless, named], tmp_path / "wanted")


def test_what_is_noted_behind_a_line_that_was_cut_off_is_known(tmp_path: Path) -> None:
    gathered = Gathered(tmp_path)
    (tmp_path / "runs" / NAME).write_bytes(b'{"group":"a","docu')
    gathered.take(REQUESTS[0])
    gathered.settle()
    gathered.close()
    ledger = Ledger(tmp_path / "runs", "1.7")
    assert list(ledger.documents()) == ["session-1.json"]
    ledger.close()


def test_a_document_that_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    gathered = Gathered(tmp_path)
    (tmp_path / "runs" / "session-1.json").mkdir()
    gathered.take(REQUESTS[0])
    gathered.now = 2
    gathered.sessions.write_due()
    (tmp_path / "runs" / "session-1.json").rmdir()
    assert set(gathered.settle()) == {"session-1.json"}
    gathered.close()
    losses.take()


@pytest.mark.parametrize("failing", ["group", "groups_of"])
def test_a_look_that_fails_is_taken_up_by_the_next_one(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the disk has no room for a moment, and nothing comes to these sessions that has them looked at again."""
    gathered = Gathered(tmp_path)
    gathered.take(*REQUESTS)
    work = getattr(gathered.sessions._groups, failing)
    failures = iter([OSError(errno.ENOSPC, "full")])

    def full_at_first(given: Any) -> Any:
        for failure in failures:
            raise failure
        return work(given)

    monkeypatch.setattr(gathered.sessions._groups, failing, full_at_first)
    with pytest.raises(OSError, match="full"):
        gathered.settle(0)
        gathered.settle()
    assert gathered.settle() == converted(REQUESTS, tmp_path / "wanted")
    gathered.close()


def test_a_request_that_cannot_be_gathered_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = Gathered(tmp_path)
    real, first = Worker.read, REQUESTS[0].SerializeToString()

    def read(worker: Worker, pieces: Any) -> Any:
        if any(piece.data == first for piece in pieces):
            raise OSError(28, "No space left on device")
        return real(worker, pieces)

    monkeypatch.setattr(Worker, "read", read)
    requests = [Request(request.SerializeToString(), False, 1) for request in REQUESTS[:2]]
    gatherer = Gatherer(gathered.sessions)
    gatherer.take(requests)
    gatherer._thread.start()
    gatherer.close()
    gathered._scratch.cleanup()
    assert gatherer.behind == 0
    assert set(documents_in(tmp_path / "runs")) == {"session-2.json"}
    losses.take()


class Slow:
    """Sessions that take three seconds of a clock to look through, of which some may be due."""

    def __init__(self, *due: bool) -> None:
        self.now, self.looks, self._due = 0.0, 0, iter(due)

    def write_due(self) -> bool:
        self.now += 3
        self.looks += 1
        return next(self._due)


@pytest.mark.parametrize(("due", "looks"), [(True, 2), (False, 1)])
def test_looking_that_takes_long_is_left_alone_for_longer_only_where_nothing_was_due(due: bool, looks: int) -> None:
    sessions: Any = Slow(due, False)
    pace = Pace(lambda: sessions.now)
    for sessions.now in (1, 8):
        pace.look([sessions])
    assert sessions.looks == looks


# --- the command, and kills ---


def command(folder: Path, *options: str) -> subprocess.Popen[str]:
    arguments = ("collect", "--grpc", "off", "--http", "127.0.0.1:0", "--silence", "0.2", *options, "-o", str(folder))
    return subprocess.Popen(
        [sys.executable, "-m", "spanrelay", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "SPANRELAY_"))},
    )


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    assert process.stdout.readline() == "spanrelay collect: listening\n", process.communicate()[1]
    return int(process.stdout.readline().partition("127.0.0.1:")[2].split()[0])


def test_a_stop_writes_every_session(tmp_path: Path) -> None:
    process = command(tmp_path / "runs", "--silence", "3600")
    port = port_of(process)
    for request in REQUESTS:
        httpx.post(f"http://127.0.0.1:{port}/v1/traces", content=request.SerializeToString())
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert documents_in(tmp_path / "runs") == converted(REQUESTS, tmp_path / "wanted")


def test_nothing_that_was_accepted_is_lost_by_a_kill_between_any_two_requests(tmp_path: Path) -> None:
    number = int(os.environ.get("SPANRELAY_TEST_KILLS", "60"))
    requests = [request_of(each, f"session-{each % 7}") for each in range(1, number + 1)]
    killed = [sys.executable, "-m", "tests.collecting.killed", str(tmp_path / "runs")]
    with subprocess.Popen(killed, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for request in requests:
            process.stdin.write("\n")
            process.stdin.flush()
            url = f"http://127.0.0.1:{process.stdout.readline().strip()}/v1/traces"
            assert httpx.post(url, content=request.SerializeToString()).status_code == 200
        wanted = converted(requests, tmp_path / "wanted")
        until(lambda: documents_in(tmp_path / "runs") == wanted)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--http", "4318"), "--http '4318' must be HOST:PORT"),
        (("--http", "off"), "leave nothing to listen to"),
        (("--token-variable", "NO_SUCH"), "NO_SUCH must hold a token"),
    ],
)
def test_a_wrong_option_is_told_and_nothing_is_started(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    process = command(tmp_path / "runs", *options)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert said in err


def test_a_time_below_nothing_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["collect", "-o", "runs", "--silence", "-3"])
    assert "--silence: expected a number from 0, not '-3'" in capsys.readouterr().err
