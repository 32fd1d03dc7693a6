"""Documents and what they name are objects of a bucket, in a server of object storage that speaks S3's own protocol."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import httpx
import pytest
from tests.collecting.test_collecting import (
    REQUESTS,
    attribute,
    command,
    converted,
    documents_in,
    port_of,
    post,
    request_of,
    until,
)

pytest.importorskip("boto3")
import boto3

from spanrelay._guard import losses
from spanrelay.collecting.delivery.addresses import targets_of
from spanrelay.collecting.delivery.outlet import PLACE
from spanrelay.collecting.delivery.storing import Bucket
from spanrelay.collecting.delivery.targets import Parcel
from spanrelay.collecting.serving import Options, start
from spanrelay.errors import ConfigurationError
from spanrelay.exporters.outbox import Outcome
from spanrelay_testkit.kafka_broker import free_port


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """The address of a server, in a process of its own."""
    port = free_port()
    serving = [sys.executable, "-c", f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"]
    with subprocess.Popen(serving, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: _listens(port))
        yield f"http://127.0.0.1:{port}"
        process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(autouse=True)
def access(storage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": storage,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(storage: str, request: pytest.FixtureRequest) -> str:
    name = f"bucket-{abs(hash(request.node.name))}"
    where = {"LocationConstraint": "eu-west-1"}
    boto3.client("s3", endpoint_url=storage).create_bucket(Bucket=name, CreateBucketConfiguration=where)
    return name


class Objects:
    """What is in a bucket."""

    def __init__(self, storage: str, bucket: str) -> None:
        self._client, self._bucket = boto3.client("s3", endpoint_url=storage), bucket

    @property
    def keys(self) -> set[str]:
        return {each["Key"] for each in self._client.list_objects_v2(Bucket=self._bucket).get("Contents", ())}

    def get(self, key: str) -> tuple[bytes, str]:
        found = self._client.get_object(Bucket=self._bucket, Key=key)
        return found["Body"].read(), found["ContentType"]

    def documents(self, prefix: str = "") -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for key in self.keys:
            with suppress(self._client.exceptions.NoSuchKey):  # deleted since it was listed
                found[key.removeprefix(prefix)] = self.get(key)[0]
        return found


def test_documents_are_put_replaced_and_deleted_as_in_the_folder(storage: str, bucket: str, tmp_path: Path) -> None:
    objects = Objects(storage, bucket)
    nameless, named = request_of(1, None), request_of(1, "session-1")
    named.resource_spans[0].scope_spans[0].spans[0].span_id = (99).to_bytes(8, "big")
    targets = tuple(targets_of([f"s3://{bucket}/agents/prod/"]))
    collector = start(Options(tmp_path / "runs", ("127.0.0.1", 0), None, to=targets, silence=0.01))
    post(collector, nameless.SerializeToString())
    before = until(lambda: objects.keys)
    for request in (named, *REQUESTS[1:]):
        post(collector, request.SerializeToString())
    wanted = converted([nameless, named, *REQUESTS[1:]], tmp_path / "wanted")
    until(lambda: objects.documents("agents/prod/") == wanted)
    collector.stop()
    assert not before & objects.keys
    assert objects.get("agents/prod/session-1.json")[1] == "application/json"


def test_an_image_is_put_where_its_document_names_it(storage: str, bucket: str, tmp_path: Path) -> None:
    objects, request = Objects(storage, bucket), request_of(1, "seen")
    image = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
    )
    shown = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": base64.b64encode(image).decode()}
    said = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "what is it?"}, shown]}])
    [span] = request.resource_spans[0].scope_spans[0].spans
    kept = [each for each in span.attributes if each.key != "gen_ai.input.messages"]
    del span.attributes[:]
    span.attributes.extend([*kept, attribute("gen_ai.input.messages", said)])
    collector = start(Options(tmp_path / "runs", ("127.0.0.1", 0), None, to=(Bucket(bucket),), silence=0.01))
    post(collector, request.SerializeToString())
    until(lambda: len(objects.keys) == 2)
    collector.stop()
    [key] = objects.keys - {"seen.json"}
    assert key.encode() in objects.get("seen.json")[0]
    assert objects.get(key) == ((tmp_path / "runs" / key).read_bytes(), "image/png")


def test_a_bucket_that_is_not_there_refuses_for_good(tmp_path: Path) -> None:
    collector = start(Options(tmp_path / "runs", ("127.0.0.1", 0), None, to=(Bucket("no-such"),), silence=0.01))
    post(collector, REQUESTS[0].SerializeToString())
    reasons = until(lambda: list((tmp_path / "runs" / PLACE).glob("*/*/dead-letters/*.reason.json")))
    collector.stop()
    told = json.loads(reasons[0].read_bytes())
    assert (told["document"], told["to"]) == ("session-1.json", "s3://no-such")
    assert told["reason"].startswith("s3://no-such answered 404 NoSuchBucket: ")
    losses.take()


def test_storage_that_is_away_gets_all_when_it_is_back_though_the_collector_was_killed(
    storage: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    for is_last in (False, True):
        process = command(tmp_path / "runs", "--to", f"s3://{bucket}/all")
        listening = port_of(process)
        half = REQUESTS[6:] if is_last else REQUESTS[:6]
        for request in half:
            httpx.post(f"http://127.0.0.1:{listening}/v1/traces", content=request.SerializeToString())
        seen = converted(REQUESTS if is_last else half, tmp_path / f"wanted-{is_last}")
        until(lambda seen=seen: documents_in(tmp_path / "runs") == seen)
        metrics = f"http://127.0.0.1:{listening}/metrics"
        until(
            lambda metrics=metrics: (
                f'waiting{{to="s3://{bucket}/all"}} {len(documents_in(tmp_path / "runs"))}\n' in httpx.get(metrics).text
            )
        )
        if not is_last:
            process.kill()
            process.communicate()
    with forwarded(port, int(storage.rpartition(":")[2])):
        objects = Objects(storage, bucket)
        until(lambda: objects.documents("all/") == documents_in(tmp_path / "runs"))
    process.kill()
    process.communicate()


@contextmanager
def forwarded(port: int, to: int) -> Iterator[None]:
    """Lead what comes to a port to another."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", to)) as other:
                back = threading.Thread(target=_copy, args=(other, self.request))
                back.start()
                _copy(self.request, other)
                back.join()

    with ThreadingTCPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (503, "SlowDown", Outcome.RETRY),
        (500, "InternalError", Outcome.RETRY),
        (400, "RequestTimeout", Outcome.RETRY),
        (403, "RequestTimeTooSkewed", Outcome.RETRY),
        (400, "ExpiredToken", Outcome.RETRY),
        (403, "AccessDenied", Outcome.REFUSED),
        (400, "BadDigest", Outcome.REFUSED),
    ],
)
def test_an_error_says_whether_to_send_again(
    status: int, code: str, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing(status, code) as (address, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        answer = Bucket("bucket").send(Parcel("a.json", b"{}", 1))
    assert (answer.outcome, answer.retry_after) == (outcome, 17.0)
    assert answer.reason == f"s3://bucket answered {status} {code}: because"
    assert asked == ["PUT /bucket/a.json"]  # once, whatever the SDK would do by itself


@contextmanager
def refusing(status: int, code: str) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            asked.append(f"PUT {self.path}")
            self.rfile.read(int(self.headers["content-length"]))
            body = f"<Error><Code>{code}</Code><Message>because</Message></Error>".encode()
            self.send_response(status)
            for name, value in {"retry-after": "17", "content-length": len(body)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


def test_storage_that_nobody_listens_for_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    assert Bucket("bucket").send(Parcel("a.json", None, 1)).outcome is Outcome.RETRY


def test_a_missing_object_is_deleted_already(bucket: str) -> None:
    assert Bucket(bucket, "a").send(Parcel("never.json", None, 1)).outcome is Outcome.DELIVERED


def test_credentials_that_are_not_there_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match="'s3://bucket': no credentials are found"):
        targets_of(["s3://bucket"])
