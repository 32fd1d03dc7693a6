"""Whatever the gateway need not change passes byte for byte, and what it must refuse is refused as a provider would."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import httpx
import pytest
import zstandard

from spanrelay._guard import losses
from spanrelay.errors import ConfigurationError
from spanrelay.gateway import Gateway, Limits, new_secret, start
from spanrelay.gateway.listening import listening_at
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import error, error_body, raw, reply
from spanrelay_testkit.model_server import EVENT_STREAM, ModelServer

Standing = Callable[..., Gateway]
ASKED = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}, indent=3).encode()
STREAMED = json.dumps({"model": "gpt-5", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
JSON = {"content-type": "application/json"}
PATH = "/chat/completions"


def exchanged(url: str, content: bytes = ASKED, path: str = PATH, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """What comes back, as the bytes that came, whether they came to their end or not."""
    with (
        httpx.Client(timeout=30) as client,
        client.stream("POST", url + path, content=content, headers={**JSON, **headers}) as response,
    ):
        found = b""
        with contextlib.suppress(httpx.RemoteProtocolError):
            for chunk in response.iter_raw():
                found += chunk
        told = {name: value for name, value in response.headers.items() if name not in ("date", "connection")}
        return response.status_code, told, found


ANSWERS: dict[str, tuple[bytes, Any]] = {
    "json": (ASKED, reply("Hello there.", headers={"x-request-id": "req_1", "openai-version": "2020-10-01"})),
    "compressed": (ASKED, reply("Hello there.", gzip=True)),
    "stream": (STREAMED, reply("Hello there, you.")),
    "compressed stream": (STREAMED, reply("Hello there, you.", gzip=True)),
    "cut json": (ASKED, reply("Hello there.", cut_after=20)),
    "cut stream": (STREAMED, reply("Hello there, you all.", cut_after=3)),
    "error in a stream": (STREAMED, reply("Hello", in_stream_error=error_body("it broke")["error"])),
    "429": (ASKED, error(429, headers={"retry-after": "7"})),
    "500 of html": (ASKED, error(500, "<html>down</html>")),
    "error on a stream": (STREAMED, error(503, b"\x00\xff no text")),
    "no json at all": (ASKED, raw(b"{not json", "application/json")),
    "no events at all": (STREAMED, raw(b"data: {cut\n\n: what\r\ndata", EVENT_STREAM)),
    "sound": (ASKED, raw(bytes(range(256)) * 40, "audio/mpeg")),
    "no content type": (ASKED, raw(b"hm", "")),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_passes_byte_for_byte_with_its_status_and_headers(
    case: str, capture: Capture, standing: Standing
) -> None:
    content, answer = ANSWERS[case]
    with ModelServer(lambda request: answer) as server:
        direct = exchanged(server.url, content)
    with ModelServer(lambda request: answer) as server:
        gateway = standing(server)
        assert exchanged(gateway.base_url("openai"), content) == direct
        [request] = server.requests
        gateway.stop()
    assert request.raw == content  # to the last blank
    assert len(capture.spans) == 1


def test_a_failure_is_on_the_span_with_its_status_and_what_the_provider_said(
    capture: Capture, standing: Standing
) -> None:
    with ModelServer([error(429, error_body("slow down")), reply("Hello", cut_after=2)]) as server:
        gateway = standing(server)
        exchanged(gateway.base_url("openai"))
        exchanged(gateway.base_url("openai"), STREAMED)
        gateway.stop()
    declined, cut = (capture.record(span) for span in capture.spans)
    assert declined.error is not None
    assert (declined.error.type, declined.error.status_code, declined.error.message) == ("429", 429, "slow down")
    assert cut.incomplete == "error"


ENCODED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_a_compressed_request_passes_as_it_is_and_is_read(encoding: str, capture: Capture, standing: Standing) -> None:
    content = ENCODED[encoding](ASKED)
    with ModelServer(lambda request: reply("Hello")) as server:
        gateway = standing(server)
        exchanged(gateway.base_url("openai"), content, **{"content-encoding": encoding})
        [request] = server.requests
        gateway.stop()
    assert (request.raw, request.headers["content-encoding"]) == (content, encoding)
    assert (capture.span.attributes or {})[names.REQUEST_MODEL] == "gpt-5"


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/models", b""),
        ("GET", "/models/none", b""),
        ("HEAD", "/models", b""),
        ("OPTIONS", "/models", b""),
        ("DELETE", "/files/1", b""),
        ("POST", "/files", b"\x00\xff" * 100_000),
        ("POST", "/files", [b"\x00\xff" * 1_000, b"end"]),
    ],
)
def test_what_asks_no_model_passes_unread(
    method: str, path: str, content: Any, capture: Capture, standing: Standing
) -> None:
    def asked(url: str) -> tuple[int, bytes]:
        told = httpx.request(method, url + path, content=content, headers={"content-type": "application/x-any"})
        return told.status_code, told.content

    with ModelServer() as server:
        assert asked(standing(server).base_url("openai")) == asked(server.url)
        if server.requests:
            through, direct = server.requests
            assert (through.method, through.path, through.raw) == (direct.method, direct.path, direct.raw)
    assert capture.spans == ()


def test_a_body_above_the_limit_is_refused_and_counted(capture: Capture, standing: Standing) -> None:
    bodies = {
        "counted": b" " * 5_001,
        "in pieces": (piece for piece in (b" " * 3_000, b" " * 3_000)),
        "a bomb": gzip.compress(b" " * 50_000_000),
    }
    losses.take()
    with ModelServer() as server:
        url = standing(server, limits=Limits(body_bytes=5_000 + 50_000)).base_url("openai")
        url_small = standing(server, limits=Limits(body_bytes=5_000)).base_url("openai")
        for name, content in bodies.items():
            headers = {**JSON, **({"content-encoding": "gzip"} if name == "a bomb" else {})}
            told = httpx.post((url if name == "a bomb" else url_small) + PATH, content=content, headers=headers)
            assert (told.status_code, told.json()["error"]["code"]) == (413, "too_large"), name
        uploaded = httpx.post(f"{url_small}/files", content=(b" " * 3_000 for _ in range(3)))
        assert uploaded.status_code == 413
        assert server.requests == []
    assert losses.take() == {"requests that were too large for the gateway": 4}
    assert capture.spans == ()


def test_only_who_knows_the_secret_is_answered(capture: Capture, standing: Standing) -> None:
    secret = new_secret()
    with ModelServer(lambda request: reply("Hello")) as server:
        gateway = standing(server, secret=secret)
        assert exchanged(gateway.base_url("openai"))[0] == 200
        assert exchanged(f"{gateway.address}/openai", **{"x-spanrelay-token": secret})[0] == 200
        refused = [
            exchanged(f"{gateway.address}/openai"),
            exchanged(f"{gateway.address}/r/{secret}x/openai"),
            exchanged(f"{gateway.address}/r//openai"),
            exchanged(f"{gateway.address}/openai", **{"x-spanrelay-token": secret[:-1]}),
        ]
        assert [status for status, _, _ in refused] == [401] * 4
        assert all("token" not in request.headers for request in server.requests)
        assert [request.path for request in server.requests] == ["/v1/chat/completions"] * 2
    gateway.stop()
    assert secret not in json.dumps([dict(span.attributes or {}) for span in capture.spans])


def test_an_address_that_others_reach_needs_a_secret() -> None:
    with pytest.raises(ConfigurationError, match="give it a token"):
        start(host="0.0.0.0")


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match="another port"):
        start(port=taken.getsockname()[1])


def test_a_number_that_is_no_port_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:70000: expected a port from 0 to 65535"):
        start(port=70000)


def test_an_upstream_that_nobody_answers_at_is_told_as_its_provider_would(capture: Capture, standing: Standing) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with ModelServer() as server:
        gateway = standing(server, upstreams={"openai": url, "anthropic": url})
        status, _, body = exchanged(gateway.base_url("openai"))
        assert (status, json.loads(body)["error"]["code"]) == (502, "upstream_unreachable")
        status, _, body = exchanged(gateway.base_url("anthropic"), path="/v1/messages")
        assert (status, json.loads(body)["error"]["type"]) == (502, "api_error")
        gateway.stop()
    assert [capture.record(span).error.status_code for span in capture.spans] == [502, 502]  # type: ignore[union-attr]


def test_a_websocket_is_refused_at_once(standing: Standing) -> None:
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "aa==",
    }
    with ModelServer() as server:
        told = httpx.get(f"{standing(server).base_url('openai')}/responses", headers=upgrade)
        assert (told.status_code, told.json()["error"]["code"]) == (404, "no_websocket")
        assert server.requests == []


OFFER = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABk"}
"""What Java's client says with its first request to a server that it knows nothing of."""


def test_a_request_that_offers_another_protocol_passes_with_its_body(standing: Standing) -> None:
    with ModelServer([reply("Hello")] * 3) as server, httpx.Client() as client:
        url, kind = standing(server).base_url("openai") + PATH, {"content-type": "application/json"}
        for offered in (OFFER, {}, OFFER):
            assert client.post(url, content=ASKED, headers={**kind, **offered}).status_code == 200
    assert [request.raw for request in server.requests] == [ASKED] * 3


def test_an_upstream_that_hangs_holds_up_nobody_else(capture: Capture, standing: Standing) -> None:
    hold = threading.Event()
    with ModelServer(lambda request: reply("late", hold=hold) if b"slow" in request.raw else reply("soon")) as server:
        gateway = standing(server, limits=Limits(exchanges=40))
        url = gateway.base_url("openai") + PATH

        async def ask() -> list[int]:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(timeout=30, limits=limits) as client:
                slow = [
                    asyncio.ensure_future(client.post(url, content=ASKED.replace(b"hi", b"slow"), headers=JSON))
                    for _ in range(30)
                ]
                while gateway.exchanges < 30:
                    await asyncio.sleep(0.01)
                quick = [(await client.post(url, content=ASKED, headers=JSON)).status_code for _ in range(20)]
                assert not any(each.done() for each in slow)
                hold.set()
                return quick + [response.status_code for response in await asyncio.gather(*slow)]

        assert asyncio.run(ask()) == [200] * 50
        gateway.stop()
    assert len(capture.spans) == 50


def test_more_requests_than_may_be_answered_are_told_to_come_again(capture: Capture, standing: Standing) -> None:
    hold = threading.Event()
    losses.take()
    with ModelServer(lambda request: reply("late", hold=hold)) as server:
        gateway = standing(server, limits=Limits(exchanges=1))
        first = threading.Thread(target=exchanged, args=(gateway.base_url("openai"),))
        first.start()
        while gateway.exchanges < 1:
            first.join(0.01)
        status, _, body = exchanged(gateway.base_url("openai"))
        hold.set()
        first.join()
    assert (status, json.loads(body)["error"]["code"]) == (503, "gateway_busy")
    assert losses.take() == {"requests that the gateway was too busy for": 1}


def test_a_client_that_leaves_ends_the_call_and_the_request_upstream(capture: Capture, standing: Standing) -> None:
    hold = threading.Event()
    with ModelServer(lambda request: reply("one two three", hold=hold, hold_after=2)) as server:
        gateway = standing(server)
        with httpx.Client() as client:
            with client.stream("POST", gateway.base_url("openai") + PATH, content=STREAMED, headers=JSON) as response:
                next(response.iter_raw())
            waited = threading.Event()
            while gateway.exchanges and not waited.wait(0.01):
                pass
        hold.set()
    assert capture.record(capture.span).incomplete in ("closed", "cancelled")


def test_a_client_that_leaves_at_the_last_event_has_had_the_whole_answer(capture: Capture, standing: Standing) -> None:
    hold, end = threading.Event(), b"data: [DONE]\n\n"
    events = [b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n', end, b": still open\n\n"]
    with ModelServer(lambda request: raw(b"".join(events), EVENT_STREAM, hold=hold, hold_after=2)) as server:
        gateway = standing(server)
        with httpx.stream("POST", gateway.base_url("openai") + PATH, content=STREAMED, headers=JSON) as response:
            came = b""
            for chunk in response.iter_raw():
                came += chunk
                if came.endswith(end):
                    break
        waited = threading.Event()
        while gateway.exchanges and not waited.wait(0.01):
            pass
        hold.set()
    record = capture.record(capture.span)
    assert (record.incomplete, record.error) == (None, None)


def test_a_stop_waits_for_what_is_being_answered(capture: Capture, standing: Standing) -> None:
    hold = threading.Event()
    with ModelServer(lambda request: reply("late", hold=hold)) as server:
        gateway = standing(server)
        found: list[Any] = []
        client = threading.Thread(target=lambda: found.append(exchanged(gateway.base_url("openai"))))
        client.start()
        while gateway.exchanges < 1:
            client.join(0.01)
        stop = threading.Thread(target=gateway.stop)
        stop.start()
        hold.set()
        stop.join()
        client.join()
    assert found[0][0] == 200
    assert len(capture.spans) == 1


async def test_what_it_answers_is_sent_at_once_on_a_connection_that_is_kept() -> None:
    at_once: list[bool] = []

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        at_once.append(bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        writer.close()

    listening = listening_at("127.0.0.1", 0, what="gateway")
    async with await asyncio.start_server(answer, sock=listening):
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        assert await reader.read() == b""
        writer.close()
    assert at_once == [True]
