"""Images, sound, videos, messages, interactions and sessions by LiteLLM, which it sends past every patched SDK."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import litellm
import litellm.google_genai
import pytest

from spanrelay import GuardrailRejected, MiddlewareError, execution_intercept, guardrail, request_intercept
from spanrelay.records import Message, ModelResponse, Text
from spanrelay.tracing import Tracing
from spanrelay_litellm import LiteLLMInstrumentor
from spanrelay_litellm.functions import FUNCTIONS, Wrappers
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, at_work, said
from spanrelay_testkit.exchange import raw, reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import tree
from spanrelay_testkit.policy import in_force

Policy = Callable[[Any], None]
HELLO = [{"role": "user", "content": "Hello"}]
PROVIDERS = {"gemini": "gcp.gemini"}
USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
ANSWERS: dict[str, dict[str, Any]] = {
    "interactions": {
        "id": "int_1",
        "object": "interaction",
        "status": "completed",
        "model": "gemini-3",
        "steps": [{"type": "model_output", "content": [{"type": "text", "text": "Blue."}]}],
        "usage": {"total_input_tokens": 3, "total_output_tokens": 4, "total_tokens": 7},
    },
    "images": {
        "created": 1,
        "data": [{"b64_json": "AAAA"}],
        "usage": {**USAGE, "input_tokens_details": {"image_tokens": 1, "text_tokens": 2}},
    },
    "videos": {"id": "v_1", "object": "video", "status": "queued", "model": "sora-2", "created_at": 1},
    "realtime": {"value": "ek_1", "expires_at": 1, "session": {"type": "realtime"}},
    "evals": {"id": "e_1", "object": "eval", "name": "n", "created_at": 1, "data_source_config": {"type": "custom"}},
}


def answered(request: Any) -> Any:
    told = next((answer for name, answer in ANSWERS.items() if name in request.path), None)
    return reply("Blue.") if told is None else raw(json.dumps(told).encode())


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answered) as running:
        yield running


class Call:
    """One call of a function, and what is expected of it."""

    def __init__(self, name: str, model: str, *, place: Any = litellm, path: str = "/v1", **given: Any) -> None:
        self.name, self.model, self.place, self.path, self.given = name, model, place, path, given

    def __repr__(self) -> str:
        return f"{self.name} {self.model}"

    def ask(self, server: ModelServer, **others: Any) -> Any:
        files = {"image": _file()} if "image_" in self.name and "generation" not in self.name else {}
        where = {"api_base": f"{server.address}{self.path}", "api_key": "sk-none"}
        answer = getattr(self.place, self.name)(**where, **files, **{"model": self.model, **self.given, **others})
        return asyncio.run(answer) if asyncio.iscoroutine(answer) else answer


def _file() -> io.BytesIO:
    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    file.name = "a.png"
    return file


def both(name: str, model: str, *, place: Any = litellm, path: str = "/v1", **given: Any) -> list[Call]:
    return [Call(each, model, place=place, path=path, **given) for each in (name, f"a{name}")]


MESSAGES = [
    Call("anthropic_messages", "anthropic/claude-5", path="", max_tokens=9, messages=HELLO),
    Call("acreate", "anthropic/claude-5", place=litellm.anthropic.messages, path="", max_tokens=9, messages=HELLO),
    Call("anthropic_messages", "openai/gpt-5", max_tokens=9, messages=HELLO),
]
TEXTS = both("text_completion", "anthropic/claude-5", path="", prompt="Hello")
INTERACTIONS = both("create", "gemini/gemini-3", place=litellm.interactions, path="", input="Hello")
EDITS = both("image_edit", "openai/gpt-image-1", prompt="a sky")
VIDEOS = both("video_generation", "openai/sora-2", prompt="a sky")
SECRETS = [Call("acreate_realtime_client_secret", "openai/gpt-realtime")]
BY_AN_SDK = both("image_generation", "openai/gpt-image-1", prompt="a sky")
SENT = [*MESSAGES, *TEXTS, *INTERACTIONS, *EDITS, *VIDEOS, *SECRETS, *BY_AN_SDK]
REFUSED = [
    *SENT,
    *both("image_generation", "gemini/imagen-5", prompt="a sky"),
    *both("image_variation", "topaz/enhance"),
    *both("speech", "elevenlabs/eleven", input="a", voice="alloy"),
    *both("transcription", "deepgram/nova", file=b"RIFF"),
    *both("moderation", "openai/omni-moderation-latest", input="a"),
    *both("decisions", "openai/gpt-5", input="a", questions=[]),
    *both("systemone", "openai/gpt-5", state="a", questions=[]),
    *both("extraction", "cloudflare/extract", fields=[], state="a"),
    *both("generate_content", "gemini/gemini-3", place=litellm.google_genai, contents=[]),
    *both("generate_content_stream", "gemini/gemini-3", place=litellm.google_genai, contents=[]),
    *both("responses_with_retries", "openai/gpt-5", input="a"),
    Call("acreate_realtime_transcription_session", "openai/gpt-4o-transcribe"),
    Call("acreate_realtime_translation_client_secret", "openai/gpt-realtime", session={"type": "translation"}),
    Call("arealtime_calls", "openai/gpt-realtime", openai_ephemeral_key="ek", sdp_body=b"v=0"),
]


def each(calls: list[Call]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("call", calls, ids=repr)


@each(REFUSED)
def test_policy_refuses_before_anything_is_sent(
    instrumented: Capture, server: ModelServer, policy: Policy, call: Call
) -> None:
    judged: list[str] = []

    @guardrail(kinds=["llm"])
    def never(seen: Any) -> str:
        judged.append(seen.request.model)
        return "not today"

    policy(never)
    with pytest.raises(GuardrailRejected, match="not today"):
        call.ask(server)
    assert server.requests == []
    assert set(judged) == {call.model.partition("/")[2]}  # what asks again is refused again


@each(SENT)
@pytest.mark.parametrize("beneath", [False, True], ids=["alone", "above OpenAI's SDK"])
def test_each_is_one_span_and_what_is_sent_is_what_it_is_without_us(
    capture: Capture, server: ModelServer, call: Call, beneath: bool
) -> None:
    bare = call.ask(server)
    with at_work(capture, LiteLLMInstrumentor, *([OpenAIInstrumentor] if beneath else [])):
        ours = call.ask(server)
    assert type(ours) is type(bare)
    [first, second] = server.requests
    assert first.path == second.path
    assert first.body == second.body
    span = capture.span
    provider, model = call.model.split("/")
    attributes = dict(span.attributes or {})
    assert (attributes["gen_ai.provider.name"], attributes["gen_ai.request.model"]) == (
        PROVIDERS.get(provider, provider),
        model,
    )
    assert "sk-none" not in json.dumps(attributes, default=str)


@each([*MESSAGES[:2], *TEXTS, *INTERACTIONS])
def test_what_was_asked_and_said_is_recorded(instrumented: Capture, server: ModelServer, call: Call) -> None:
    call.ask(server)
    record = instrumented.record(instrumented.span)
    assert (asked(instrumented.span), said(instrumented.span)) == ("Hello", "Blue.")
    assert record.response.usage.output_tokens > 0


@each(EDITS)
def test_of_an_image_usage_is_recorded_and_no_pixel(instrumented: Capture, server: ModelServer, call: Call) -> None:
    call.ask(server)
    span = instrumented.span
    usage = instrumented.record(span).response.usage
    assert (usage.input_tokens, usage.output_tokens) == (3, 4)
    assert "AAAA" not in json.dumps(dict(span.attributes or {}), default=str)


@each([MESSAGES[0], *TEXTS, *INTERACTIONS, *BY_AN_SDK, *VIDEOS])
def test_policy_rewrites_what_is_sent(instrumented: Capture, server: ModelServer, policy: Policy, call: Call) -> None:
    policy(request_intercept(kinds=["llm"], name="mini")(lambda seen: replace(seen.request, model="mini")))
    call.ask(server)
    [request] = server.requests
    assert b"mini" in request.raw or "mini" in request.path


@each(INTERACTIONS)
def test_policy_answers_an_interaction(instrumented: Capture, server: ModelServer, policy: Policy, call: Call) -> None:
    @execution_intercept(kinds=["llm"])
    def knows(seen: Any) -> Any:
        return ModelResponse("cache", messages=[Message("assistant", [Text("Grey.")], finish_reason="stop")])
        yield seen

    policy(knows)
    answer = call.ask(server)
    assert "Grey." in json.dumps(answer.model_dump())
    assert server.requests == []


def test_an_answer_of_policys_that_has_no_form_is_an_error_that_says_so(
    instrumented: Capture, server: ModelServer, policy: Policy
) -> None:
    @execution_intercept(kinds=["llm"])
    def knows(seen: Any) -> Any:
        return {"id": "v_2"}
        yield seen

    policy(knows)
    with pytest.raises(MiddlewareError, match="cannot answer this call of LiteLLM's"):
        VIDEOS[0].ask(server)
    assert server.requests == []


@each([MESSAGES[0], INTERACTIONS[0]])
def test_a_tool_that_is_denied_is_not_offered(
    capture: Capture, server: ModelServer, tmp_path: Path, call: Call
) -> None:
    tool = {"name": "delete_all", "input_schema": {"type": "object"}}
    shape = {"type": "function", "name": "delete_all", "parameters": {"type": "object"}}
    denied = '[plugins.policy]\ntools.deny = ["delete_*"]\ntools.offered = "refuse"\n'
    refused = pytest.raises(GuardrailRejected, match="delete_all")
    with in_force(tmp_path, denied), at_work(capture, LiteLLMInstrumentor), refused:
        call.ask(server, tools=[tool if "messages" in call.name else shape])
    assert server.requests == []


@pytest.mark.parametrize("beneath", [False, True], ids=["alone", "above OpenAI's SDK"])
@each([MESSAGES[0], MESSAGES[2], TEXTS[1], INTERACTIONS[1], BY_AN_SDK[0], BY_AN_SDK[1], EDITS[0]])
def test_a_call_counts_once(capture: Capture, server: ModelServer, tmp_path: Path, call: Call, beneath: bool) -> None:
    sdks = [OpenAIInstrumentor] if beneath else []
    with in_force(tmp_path, "[plugins.policy]\nprocess.max_calls = 2\n"), at_work(capture, LiteLLMInstrumentor, *sdks):
        call.ask(server)
        call.ask(server)
        with pytest.raises(GuardrailRejected, match="2 of the 2 model calls allowed"):
            call.ask(server)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "given",
    [
        {"session": {"type": "realtime", "model": "openai/secret-1"}},
        {"session": {"type": "transcription", "audio": {"input": {"transcription": {"model": "openai/secret-1"}}}}},
        {"model": "openai/ok", "session": {"type": "realtime", "model": "openai/secret-1"}},
    ],
)
def test_the_model_of_a_session_is_judged_as_its_provider_names_it(
    capture: Capture, server: ModelServer, tmp_path: Path, given: dict[str, Any]
) -> None:
    where = {"api_base": server.url, "api_key": "none"}
    denied = '[plugins.policy]\nmodels.deny = ["secret-*"]\n'
    refused = pytest.raises(GuardrailRejected, match="secret-1")
    with in_force(tmp_path, denied), at_work(capture, LiteLLMInstrumentor), refused:
        asyncio.run(litellm.acreate_realtime_client_secret(**where, **given))
    assert server.requests == []


def test_a_text_that_streams_is_one_span_with_what_was_said(instrumented: Capture, server: ModelServer) -> None:
    async def read() -> str:
        stream = await litellm.atext_completion(
            model="anthropic/claude-5", prompt="Hello", stream=True, api_base=server.address, api_key="none"
        )
        return "".join([chunk.choices[0].text or "" async for chunk in stream])

    assert asyncio.run(read()) == "Blue."
    assert tree(instrumented) == ["text_completion claude-5"]
    assert said(instrumented.span) == "Blue."


FRAMES = (
    {"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Blue."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
)


def test_messages_that_stream_are_a_providers_own_bytes_and_recorded(capture: Capture) -> None:
    """LiteLLM streams them where the packages of its proxy are, which are not here."""
    sent = [f"event: {frame['type']}\ndata: {json.dumps(frame)}\n\n".encode() for frame in FRAMES]

    async def anthropic_messages(**asked: Any) -> AsyncGenerator[bytes, None]:
        async def stream() -> AsyncGenerator[bytes, None]:
            for each in sent:
                yield each

        return stream()

    async def read() -> list[bytes]:
        stream = await wrappers.aask(anthropic_messages, None, (), {**MESSAGES[0].given, **asked})
        return [chunk async for chunk in stream]

    function = next(row for row in FUNCTIONS if row.async_name == "anthropic_messages")
    wrappers = Wrappers(function, Tracing("spanrelay_litellm", provider=capture.provider))
    with at_work(capture, LiteLLMInstrumentor):
        asked = {"model": "anthropic/claude-5", "stream": True}
        assert asyncio.run(read()) == sent
    assert said(capture.span) == "Blue."
