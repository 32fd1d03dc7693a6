"""However a request is said, policy judges the model that a server may read in it, or refuses what it cannot read."""

from __future__ import annotations

import gzip
import json
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import brotli
import httpx
import pytest
import zstandard

from spanrelay._guard import losses
from spanrelay.gateway import Gateway, Limits
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

Standing = Callable[..., Gateway]


DENY = '[plugins.policy]\nmodels.deny = ["secret-*"]\ntools.deny = ["web_*"]\n'
ASKED = json.dumps({"model": "secret-1", "messages": []}).encode()
ALLOWED = json.dumps({"model": "gpt-5", "messages": []}).encode()
FORM = {"content-type": "multipart/form-data; boundary=b"}
FIELD = b'Content-Disposition: form-data; name="model"'
SOUND = (b'Content-Disposition: form-data; name="file"; filename="a.wav"', b"RIFF")
CHAT, OTHER, SPEECH, FILES = "/chat/completions", "/api/chat", "/audio/transcriptions", "/files"
PURPOSE = (b'Content-Disposition: form-data; name="purpose"', b"batch")
LINES = b'Content-Disposition: form-data; name="file"; filename="a.jsonl"'


WITH_TOOL = b'{"body": {"model": "gpt-5", "tools": [{"type": "web_search"}]}}\n'


def lines(*models: str) -> bytes:
    return b"".join(
        b'{"custom_id": "1", "url": "/v1/chat/completions", "body": {"model": "%s"}}\n' % each.encode()
        for each in models
    )


def form(*parts: tuple[bytes, bytes], end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + head + b"\r\n\r\n" + value + b"\r\n" for head, value in parts) + end


def kind(*kinds: str) -> list[tuple[str, str]]:
    return [("content-type", each) for each in kinds]


WAYS: dict[str, tuple[str, str, object, bytes]] = {
    **{
        f"{path} as {each}": ("POST", path, kind(each), ASKED)
        for path in (CHAT, OTHER)
        for each in ("text/plain", "application/x-www-form-urlencoded", "audio/wav", "multipart/form-data; boundary=b")
    },
    "two types": ("POST", CHAT, kind("application/json", "audio/wav"), ASKED),
    "GET with a body": ("GET", CHAT, kind("application/json"), ASKED),
    "DELETE with a body": ("DELETE", OTHER, kind("application/json"), ASKED),
    "an encoding nobody knows": ("POST", OTHER, {"content-encoding": "lzma"}, ASKED),
    "two encodings": ("POST", OTHER, [("content-encoding", "gzip"), ("content-encoding", "identity")], ASKED),
    "two members of gzip": (
        "POST", SPEECH, [("content-type", "application/x-www-form-urlencoded"), ("content-encoding", "gzip")],
        gzip.compress(b"prompt=x") + gzip.compress(b"&model=secret-1"),
    ),
    "gzip that is cut": ("POST", OTHER, {"content-encoding": "gzip"}, gzip.compress(ASKED)[:-9]),
    "a key twice": ("POST", OTHER, {}, b'{"model": "gpt-5", "model": "secret-1"}'),
    "two objects": ("POST", OTHER, {}, ALLOWED + ASKED),
    "sound for a chat": ("POST", CHAT, kind("audio/wav"), b"RIFF"),
    "a form": ("POST", SPEECH, FORM, form((FIELD, b"secret-1"), SOUND)),
    "a form in capitals": ("POST", SPEECH, kind('Multipart/Form-Data; Boundary="b"'), form((FIELD, b"secret-1"))),
    "a form without its end": ("POST", SPEECH, FORM, form(SOUND, (FIELD, b"secret-1"), end=b"")),
    "a form of two boundaries": (
        "POST", SPEECH, kind("multipart/form-data; boundary=a; boundary=b"), form((FIELD, b"secret-1")),
    ),
    "a form of bare line ends": ("POST", SPEECH, FORM, form((FIELD, b"secret-1")).replace(b"\r\n", b"\n")),
    "a field as a file": ("POST", SPEECH, FORM, form((FIELD + b'; filename=""', b"secret-1"))),
    "a field with a charset": (
        "POST", SPEECH, FORM, form((b"Content-Disposition: form-data; name*=utf-8''model", b"secret-1")),
    ),
    "a field in base64": (
        "POST", SPEECH, FORM, form((FIELD + b"\r\nContent-Transfer-Encoding: base64", b"c2VjcmV0LTE=")),
    ),
    "fields of a URL": ("POST", SPEECH, kind("application/x-www-form-urlencoded"), b"model=secret-1&prompt=x"),
    "fields of a URL for readers of old": (
        "POST", SPEECH, kind("application/x-www-form-urlencoded"), b"prompt=x;model=secret-1",
    ),
    "a line of a batch": ("POST", FILES, FORM, form((LINES, lines("gpt-5", "secret-1")), PURPOSE)),
    "a tool in a line of a batch": ("POST", FILES, FORM, form(PURPOSE, (LINES, WITH_TOOL))),
    "a line of a batch that is none": ("POST", FILES, FORM, form(PURPOSE, (LINES, lines("gpt-5") + b"{"))),
    "a batch whose file goes elsewhere": ("POST", FILES, FORM, form(PURPOSE)),
    "a batch in parts": ("POST", "/uploads", {}, b'{"purpose": "batch", "bytes": 1, "filename": "a.jsonl"}'),
}  # fmt: skip
FREE: dict[str, tuple[str, str, object, bytes]] = {
    "JSON": ("POST", CHAT, kind("application/json"), ALLOWED),
    "JSON of another name": ("POST", OTHER, kind("application/x-www-form-urlencoded"), ALLOWED),
    "a form": ("POST", SPEECH, FORM, form((FIELD, b"gpt-4o-transcribe"), SOUND)),
    "fields of a URL": ("POST", SPEECH, kind("application/x-www-form-urlencoded"), b"model=gpt-5&prompt=x"),
    "the lines of a batch": ("POST", FILES, FORM, form(PURPOSE, (LINES, lines("gpt-5", "gpt-4")))),
    "a file of another kind": ("POST", FILES, FORM, form((PURPOSE[0], b"assistants"), (LINES, lines("secret-1")))),
    "an upload": ("PUT", "/files/1", kind("audio/wav"), b"\x00\xff" * 1_000),
    "nothing": ("POST", "/batches/1/cancel", kind("application/json"), b""),
    "no body": ("GET", "/models", {}, b""),
}


def test_a_model_that_policy_refuses_is_reached_by_no_way_of_saying_it(
    tmp_path: Path, capture: Capture, standing: Standing
) -> None:
    with in_force(tmp_path, DENY), ModelServer(lambda request: reply("Hello")) as server, httpx.Client() as client:
        url = standing(server).base_url("openai")
        for name, (method, path, headers, content) in WAYS.items():
            told = client.request(method, url + path, headers=headers, content=content)  # type: ignore[arg-type]  # one type of several
            assert (told.status_code, told.json()["error"]["code"]) == (403, "refused_by_policy"), name
            assert server.requests == [], name
        for name, (method, path, headers, content) in FREE.items():
            told = client.request(method, url + path, headers=headers, content=content)  # type: ignore[arg-type]  # one type of several
            assert told.status_code != 403, f"{name}: {told.text}"
            assert server.requests.pop().raw == content, name


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip"])
def test_a_body_that_grows_beyond_the_limit_takes_no_memory(
    encoding: str, capture: Capture, standing: Standing
) -> None:
    pack = {"br": brotli.compress, "zstd": zstandard.compress, "gzip": gzip.compress}[encoding]
    content = pack(bytes(50_000_000))
    with ModelServer() as server:
        url = standing(server, limits=Limits(body_bytes=1_000_000)).base_url("openai") + CHAT
        tracemalloc.start()
        try:
            told = httpx.post(url, content=content, headers={"content-encoding": encoding})
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert told.status_code == 413
    assert losses.take() == {"requests that were too large for the gateway": 1}
    assert peak < 10_000_000


@contextmanager
def answering(content: bytes) -> Iterator[tuple[str, list[bytes], Event]]:
    """A server that answers one request with bytes: its address, what it was asked, and whether it was left."""
    asked: list[bytes] = []
    left = Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                asked.append(connection.recv(1 << 16))
                connection.sendall(content)
                if content.endswith(b"..."):  # and says nothing more
                    while connection.recv(1 << 16):
                        pass
            left.set()

        thread = Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked, left
        thread.join()


def test_a_key_in_a_url_is_in_no_span_and_no_message(capture: Capture, standing: Standing) -> None:
    with answering(b"HTTP/9 nonsense\r\n\r\n") as (url, asked, _), ModelServer() as server:
        gateway = standing(server, upstreams={"gemini": url})
        path = "/v1beta/models/gemini-3:generateContent?key=SECRET"
        told = httpx.post(gateway.base_url("gemini") + path, json={"contents": []})
        gateway.stop()
    assert told.status_code == 502 and b"key=SECRET" in asked[0]
    assert "SECRET" not in told.text + capture.span.to_json()


def test_a_header_in_utf_8_passes_and_an_error_that_is_cut_keeps_its_status(
    capture: Capture, standing: Standing
) -> None:
    cut = b'HTTP/1.1 529 Overloaded\r\nretry-after: 3\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"'
    with answering(cut) as (url, asked, _), ModelServer() as server, httpx.Client() as client:
        headers = {"x-title": "café".encode(), "content-type": b"application/json"}
        gateway = standing(server, upstreams={"openai": url})
        with client.stream("POST", gateway.base_url("openai") + CHAT, content=ALLOWED, headers=headers) as told:
            assert (told.status_code, told.headers["retry-after"]) == (529, "3")
            with pytest.raises(httpx.RemoteProtocolError):
                told.read()
    assert b"x-title: caf\xc3\xa9\r\n" in asked[0]


@pytest.mark.parametrize(("method", "content"), [("GET", None), ("POST", b"RIFF")])
def test_who_leaves_what_is_passed_unread_ends_it_upstream_too(
    method: str, content: bytes | None, standing: Standing
) -> None:
    begun = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n..."
    with answering(begun) as (url, _, left), ModelServer() as server, httpx.Client() as client:
        gateway = standing(server, upstreams={"openai": url})
        with client.stream(
            method, gateway.base_url("openai") + "/x", content=content, headers=kind("audio/wav")
        ) as told:
            next(told.iter_raw())
        assert left.wait(10)
