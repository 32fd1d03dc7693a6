"""Sessions of any number of processes become the trajectories that `spanrelay convert` makes of the same spans."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
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
from spanrelay.collecting.intake import Request, numbers_in, read_again
from spanrelay.collecting.serving import PLACE, Collector, Options, start
from spanrelay.collecting.sessions import Sessions
from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder
from spanrelay.errors import ConfigurationError
from spanrelay.observation.masking import mask_bytes

Standing = Callable[..., Collector]


@pytest.fixture
def standing(tmp_path: Path) -> Iterator[Standing]:
    running: list[Collector] = []

    def begin(**options: Any) -> Collector:
        collector = start(Options(**{"folder": tmp_path / "runs", "http": ("127.0.0.1", 0), "grpc": None, **options}))
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


def converted(requests: list[ExportTraceServiceRequest], folder: Path) -> dict[str, bytes]:
    source = folder.with_suffix(".otlp")
    framed = [data for each in requests for data in [each.SerializeToString()]]
    source.write_bytes(b"".join(len(data).to_bytes(4, "big") + data for data in framed))
    work.convert([source], Folder(folder, mask=mask_bytes))
    return documents_in(folder)


def until(ready: Callable[[], Any]) -> Any:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 60
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
    said = told.json() if "content_type" in headers else MessageToDict(status_pb2.Status.FromString(told.content))
    assert said["message"]
    assert losses.take() == {f"requests that were not taken ({status})": 1}


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
    kept = [request.data for request in read_again(tmp_path / "runs" / PLACE)]
    assert kept == [first, third]
    assert losses.take() == {"requests that were not taken (503)": 1}


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


def test_what_is_old_is_let_go_of_with_its_files(tmp_path: Path) -> None:
    now = [0.0]
    kept, scratch = tmp_path / "kept", tmp_path / "scratch"
    for folder in (kept, scratch, tmp_path / "runs"):
        folder.mkdir()
    folder = Folder(tmp_path / "runs", overwrite=True, mask=mask_bytes)
    sessions = Sessions(folder, kept, scratch, form="1.7", silence=1, keep=100, clock=lambda: now[0])
    for number in (1, 2, 3):
        (kept / f"{number:08}.otlp").touch()
    sessions._gather([Request(REQUESTS[0].SerializeToString(), False, 1)])
    now[0] = 50
    sessions.write_due()
    sessions._gather([Request(REQUESTS[1].SerializeToString(), False, 2)])
    now[0] = 110
    sessions.write_due()
    assert numbers_in(kept) == [2, 3]
    assert not (scratch / "1").exists()
    sessions._gather([Request(REQUESTS[4].SerializeToString(), False, 2)])
    sessions.write_due(everything=True)
    assert set(documents_in(tmp_path / "runs")) == {"session-1.json", "session-2.json"}
    sessions._thread.start()
    sessions.close()


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


def test_nothing_that_was_accepted_is_lost_by_kills(tmp_path: Path) -> None:
    generator, accepted = random.Random(7), 0
    requests = [request_of(number, f"session-{number % 5}") for number in range(1, 61)]
    for _ in range(4):
        process = command(tmp_path / "runs")
        port = port_of(process)
        with httpx.Client() as client:
            for request in requests[accepted : accepted + generator.randrange(5, 15)]:
                told = client.post(f"http://127.0.0.1:{port}/v1/traces", content=request.SerializeToString())
                assert told.status_code == 200
                accepted += 1
        process.kill()
        process.communicate()
    process = command(tmp_path / "runs")
    port_of(process)
    wanted = converted(requests[:accepted], tmp_path / "wanted")
    until(lambda: documents_in(tmp_path / "runs") == wanted)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert documents_in(tmp_path / "runs") == wanted


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
