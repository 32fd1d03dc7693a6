"""Policy holds at the gateway whatever a client says of its body, and fails closed where nobody can read it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import spanrelay
from spanrelay.gateway import Gateway
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

Standing = Callable[..., Gateway]
DENIED = json.dumps({"model": "secret-1", "messages": [{"role": "user", "content": "hi"}]}).encode()
FORM = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nsecret-1\r\n--B--\r\n'
CHAT, FORMS = "/chat/completions", "/audio/transcriptions"
WAYS: dict[str, tuple[str, bytes, list[tuple[str, str]]]] = {
    "no content type": (CHAT, DENIED, []),
    "another content type": (CHAT, DENIED, [("content-type", "text/plain")]),
    "a form that is none": (CHAT, DENIED, [("content-type", "multipart/form-data; boundary=B")]),
    "a form": (FORMS, FORM, [("content-type", "multipart/form-data; boundary=B")]),
    "two content types": (CHAT, DENIED, [("content-type", "application/json"), ("content-type", "text/plain")]),
    "compressed": (CHAT, gzip.compress(DENIED), [("content-encoding", "gzip")]),
    "compressed twice": (
        CHAT,
        gzip.compress(gzip.compress(DENIED)),
        [("content-encoding", "gzip"), ("content-encoding", "gzip")],
    ),
    "an encoding that nobody knows": (CHAT, DENIED, [("content-encoding", "x-own")]),
    "an encoding that it is not in": (CHAT, DENIED, [("content-encoding", "gzip")]),
    "the same key twice": (CHAT, DENIED.replace(b"{", b'{"model": "gpt-5", ', 1), []),
    "no JSON": (CHAT, b"model=secret-1", []),
    "a path in another spelling": ("/%63hat//completions/", DENIED, [("content-type", "text/plain")]),
    "a query": (f"{CHAT}?model=secret-1", b'{"model": "gpt-5", "messages": []}', []),
    "a deployment": ("/deployments/secret-1/chat/completions", b'{"model": "gpt-5", "messages": []}', []),
    "a route that nobody knows": ("/any/new", DENIED, [("content-type", "application/json")]),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_denied_model_is_asked_in_no_way(way: str, capture: Capture, standing: Standing, tmp_path: Path) -> None:
    path, content, headers = WAYS[way]
    with (
        in_force(tmp_path, '[plugins.policy]\nmodels.deny = ["secret-*"]\n'),
        ModelServer(lambda request: reply("ok")) as server,
    ):
        gateway = standing(server)
        told = httpx.post(gateway.base_url("openai") + path, content=content, headers=headers)
        assert (told.status_code, told.json()["error"]["code"]) == (403, "refused_by_policy")
        assert server.requests == []
        gateway.stop()


@pytest.mark.swallows
def test_policy_that_fails_refuses_the_call(capture: Capture, standing: Standing, policy: Callable[..., None]) -> None:
    @spanrelay.guardrail
    def broken(call: object) -> None:
        raise ZeroDivisionError("oh")

    policy(broken)
    with ModelServer(lambda request: reply("ok")) as server:
        gateway = standing(server)
        told = httpx.post(gateway.base_url("openai") + CHAT, content=DENIED)
        assert (told.status_code, told.json()["error"]["code"]) == (403, "refused_by_policy")
        assert server.requests == []
        gateway.stop()


@pytest.mark.parametrize("kind", [spanrelay.GuardrailRejected, ZeroDivisionError])
def test_a_stream_that_policy_refuses_in_its_middle_ends_with_the_error_of_its_api(
    kind: type[Exception], capture: Capture, standing: Standing, policy: Callable[..., None]
) -> None:
    @spanrelay.stream_intercept
    def censor(call: object, event: object) -> object:
        if "two" in str(event):
            raise kind("not that", "censor")
        return event

    policy(censor)
    streamed = {**json.loads(DENIED), "stream": True}
    with ModelServer(lambda request: reply("one two three")) as server:
        gateway = standing(server)
        told = httpx.post(gateway.base_url("openai") + CHAT, json=streamed)
        gateway.stop()
    last = json.loads(told.text.strip().rpartition("data: ")[2])
    assert last["error"]["code"] == "refused_by_policy"
    assert "three" not in told.text
