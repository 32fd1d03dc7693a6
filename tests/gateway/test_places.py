"""Where an exchange belongs is in its headers, as a span, a session and a user; whom it is for is in its path."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from opentelemetry import trace

from spanrelay.errors import ConfigurationError
from spanrelay.gateway import Gateway
from spanrelay.gateway.upstreams import Upstreams
from spanrelay.propagation import identified
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import raw, reply
from spanrelay_testkit.model_server import ModelServer

Standing = Callable[..., Gateway]
PARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
SESSIONS: dict[str, dict[str, str]] = {
    "session.id": {"session.id": "s1"},
    "what Claude Code sends": {"X-Claude-Code-Session-Id": "s1"},
    "what Codex sends": {"session-id": "s1", "thread-id": "t1"},
    "what opencode sends": {"x-session-id": "s1", "x-session-affinity": "s2"},
    "baggage": {"baggage": "session.id=s1,other=2"},
}


def body(text: str = "hi") -> dict[str, Any]:
    return {"model": "gpt-5", "messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("case", SESSIONS)
def test_a_header_says_which_session_and_which_trace_an_exchange_is_of(
    case: str, capture: Capture, standing: Standing
) -> None:
    with ModelServer(lambda request: reply("ok")) as server:
        gateway = standing(server)
        url = f"{gateway.base_url('openai')}/chat/completions"
        assert httpx.post(url, json=body(), headers={**SESSIONS[case], **PARENT, "user.id": "u1"}).is_success
        gateway.stop()
        [request] = server.requests
    attributes, parent = capture.span.attributes or {}, capture.span.parent
    assert (attributes[names.CONVERSATION_ID], attributes[names.USER_ID]) == ("s1", "u1")
    assert parent is not None
    assert trace.format_span_id(parent.span_id) == "b7ad6b7169203331"
    assert not {"session.id", "user.id"} & request.headers.keys()  # they are the gateway's
    assert request.headers["traceparent"] == PARENT["traceparent"]  # which the program sends, whoever answers


def test_what_the_gateway_is_started_for_holds_where_headers_say_nothing(capture: Capture, standing: Standing) -> None:
    with ModelServer(lambda request: reply("ok")) as server, capture.tracer().start_as_current_span("run") as run:
        around = identified(trace.set_span_in_context(run), session_id="run-1", metadata={"team": "blue"})
        gateway = standing(server, around=around)
        url = f"{gateway.base_url('openai')}/chat/completions"
        httpx.post(url, json=body())
        httpx.post(url, json=body(), headers={"session.id": "own"})
        gateway.stop()
    first, second = capture.of("LLM")
    assert [(span.attributes or {})[names.CONVERSATION_ID] for span in (first, second)] == ["run-1", "own"]
    assert {span.parent.span_id for span in (first, second) if span.parent} == {run.get_span_context().span_id}


async def test_sessions_that_ask_at_the_same_time_are_kept_apart(capture: Capture, standing: Standing) -> None:
    sessions = [f"s{number}" for number in range(8)]
    with ModelServer(lambda request: reply(f"for {request.last_user_text}")) as server:
        gateway = standing(server)
        url = f"{gateway.base_url('openai')}/chat/completions"

        async def talk(client: httpx.AsyncClient, session: str) -> None:
            for _ in range(5):
                told = await client.post(url, json=body(session), headers={"session.id": session})
                assert told.json()["choices"][0]["message"]["content"] == f"for {session}"

        async with httpx.AsyncClient() as client:
            await asyncio.gather(*(talk(client, session) for session in sessions))
        await asyncio.to_thread(gateway.stop)
    found = [(capture.record(span).session_id, (span.attributes or {})[names.INPUT_MESSAGES]) for span in capture.spans]
    assert len(found) == 40
    assert all(f'"content":"{session}"' in str(said) for session, said in found)


ADDRESSES = {
    "/openai/chat/completions": "https://api.openai.com/v1/chat/completions",
    "/openai/v1/chat/completions": "https://api.openai.com/v1/chat/completions",
    "/v1/chat/completions": "https://api.openai.com/v1/chat/completions",
    "/v1/models": "https://api.openai.com/v1/models",
    "/anthropic/v1/messages": "https://api.anthropic.com/v1/messages",
    "/v1/messages/count_tokens": "https://api.anthropic.com/v1/messages/count_tokens",
    "/gemini/v1beta/models/g:generateContent": "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent",
    "/v1beta/models/g:embedContent": "https://generativelanguage.googleapis.com/v1beta/models/g:embedContent",
    "/groq/chat/completions": "https://api.groq.com/openai/v1/chat/completions",
    "/groq/openai/v1/chat/completions": "https://api.groq.com/openai/v1/chat/completions",
    "/openai": "https://api.openai.com/v1",
    "/openai/files/a%2Fb": "https://api.openai.com/v1/files/a%2Fb",
}


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_path_says_whom_a_request_is_for(path: str) -> None:
    upstream, below = Upstreams({"groq": "https://api.groq.com/openai/v1/"}).find(path.encode(), {})
    assert upstream.url(below) == ADDRESSES[path]


@pytest.mark.parametrize(
    ("name", "url", "why"),
    [
        ("v1", "http://localhost", "neither 'r' nor a version"),
        ("r", "http://localhost", "neither 'r' nor a version"),
        ("a", "localhost:8000", "is not a base URL"),
        ("a", "http://localhost:port", "is not a base URL"),
        ("a", "http://user:word@localhost", "a user in it"),
    ],
)
def test_an_upstream_that_is_none_is_refused(name: str, url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as refused:
        Upstreams({name: url})
    assert "word" not in str(refused.value)


def gemini(text: str) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}]}


def test_a_stream_of_geminis_that_comes_as_an_array_is_read(capture: Capture, standing: Standing) -> None:
    contents = [{"content": {"role": "model", "parts": [{"text": word}]}} for word in ("Cold", " there")]
    answer = json.dumps([{"candidates": [each]} for each in contents]).encode()
    with ModelServer(lambda request: raw(answer)) as server:
        gateway = standing(server)
        url = f"{gateway.base_url('gemini')}/v1beta/models/gemini-x:streamGenerateContent"
        assert httpx.post(url, json=gemini("hi")).content == answer
        gateway.stop()
    attributes = capture.span.attributes or {}
    assert attributes[names.REQUEST_MODEL] == "gemini-x"
    assert '"content":"Cold there"' in str(attributes[names.OUTPUT_MESSAGES])
