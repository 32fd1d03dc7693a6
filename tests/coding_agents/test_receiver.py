from __future__ import annotations

import gzip
import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from spanrelay._guard import losses
from spanrelay.coding_agents import receiver
from spanrelay.coding_agents.receiver import Receiver


@dataclass
class Heard:
    """What a receiver has handed over."""

    telemetry: list[tuple[str, bytes, str]] = field(default_factory=list[Any])
    hooks: list[tuple[str, bytes]] = field(default_factory=list[Any])

    def on_telemetry(self, signal: str, request: bytes, kind: str, headers: Mapping[str, str]) -> None:
        self.telemetry.append((signal, request, kind))

    def on_hook(self, agent: str, hook: bytes) -> bytes:
        self.hooks.append((agent, hook))
        return b"answered"


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def listening(heard: Heard) -> Iterator[Receiver]:
    made = Receiver(heard.on_telemetry, heard.on_hook)
    yield made
    made.close()


def asked(url: str, body: bytes | Iterator[bytes], **headers: str) -> tuple[int, bytes]:
    """Post to a URL; returns the status and the body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", parts.path, body, named, encode_chunked=not isinstance(body, bytes))
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        connection.close()


def test_telemetry_is_handed_over_as_it_was_before_it_was_compressed_or_cut(heard: Heard, listening: Receiver) -> None:
    assert asked(f"{listening.otlp}/v1/traces", b"one", Content_Type="application/x-protobuf") == (200, b"")
    assert asked(f"{listening.otlp}/v1/logs", b"{}", Content_Type="application/json; charset=utf-8") == (200, b"{}")
    packed = gzip.compress(b"two")
    asked(f"{listening.otlp}/v1/logs", packed, Content_Type="application/x-protobuf", Content_Encoding="gzip")
    asked(f"{listening.otlp}/v1/metrics", iter([b"thr", b"ee"]), Transfer_Encoding="chunked")
    assert [(signal, request) for signal, request, _ in heard.telemetry] == [
        *(("traces", b"one"), ("logs", b"{}"), ("logs", b"two"), ("metrics", b"three")),
    ]


def test_whoever_does_not_know_the_secret_is_refused(heard: Heard, listening: Receiver) -> None:
    port, otlp = urlsplit(listening.otlp).port, urlsplit(listening.otlp).path
    hooks = listening.hooks.partition("/")[2]
    wrong = ["/v1/traces", "/guess/v1/traces", f"{otlp}/hooks/claude", f"/{hooks}/v1/traces", f"{otlp}/v1/profiles"]
    for path in wrong:
        assert asked(f"http://127.0.0.1:{port}{path}", b"x")[0] == 404, path
    assert (heard.telemetry, heard.hooks) == ([], [])
    losses.take()


def test_hooks_are_answered(heard: Heard, listening: Receiver) -> None:
    port, _, secret = listening.hooks.partition("/")
    assert asked(f"http://127.0.0.1:{port}/{secret}/hooks/claude", b'{"a": 1}') == (200, b"answered")
    assert heard.hooks == [("claude", b'{"a": 1}')]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x" * 200, {}, 413),
        (gzip.compress(b"x" * 200, mtime=0), {"Content_Encoding": "gzip"}, 413),
        (b"no gzip", {"Content_Encoding": "gzip"}, 400),
        (gzip.compress(b"two", mtime=0)[:-1], {"Content_Encoding": "gzip"}, 400),
        (b"x", {"Content_Encoding": "br"}, 415),
    ],
)
def test_what_is_too_large_or_cannot_be_unpacked_is_refused_and_counted(
    body: bytes,
    headers: dict[str, str],
    status: int,
    heard: Heard,
    listening: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiver, "MAX_TELEMETRY", 100)
    assert asked(f"{listening.otlp}/v1/traces", body, **headers)[0] == status
    assert heard.telemetry == []
    assert losses.take() == {f"requests refused by the receiver ({status})": 1}


@pytest.mark.swallows
def test_what_breaks_here_is_an_error_there_and_the_next_request_is_taken(listening: Receiver, heard: Heard) -> None:
    heard.on_telemetry = None  # pyright: ignore[reportAttributeAccessIssue] - it is to break
    port, _, secret = listening.hooks.partition("/")
    broken = heard.hooks
    heard.hooks = None  # pyright: ignore[reportAttributeAccessIssue] - it is to break
    assert asked(f"http://127.0.0.1:{port}/{secret}/hooks/claude", b"{}")[0] == 500
    heard.hooks = broken
    assert asked(f"http://127.0.0.1:{port}/{secret}/hooks/claude", b"{}")[0] == 200
