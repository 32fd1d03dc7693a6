"""Interactions, which the SDK sends in another way: one span each, and policy on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, use
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy import PolicyConfig, PolicyPlugin
from spanrelay.plugins.policy.settings import Names, Tools
from spanrelay.records import Message, ModelResponse, Text
from spanrelay.semconv import names
from spanrelay_google_genai import GoogleGenAIInstrumentor
from spanrelay_testkit.capture import Capture, asked, at_work, said
from spanrelay_testkit.exchange import Request, sse
from spanrelay_testkit.model_server import ModelServer, error, raw

from .ways import MODEL, client_of

STEPS = [
    {"type": "thought", "signature": "c2ln", "summary": [{"type": "text", "text": "hm"}]},
    {"type": "model_output", "content": [{"type": "text", "text": "blue"}]},
    {"type": "function_call", "id": "f1", "name": "look", "arguments": {"at": "sky"}},
]
BODY: dict[str, Any] = {
    "id": "i-1",
    "object": "interaction",
    "status": "requires_action",
    "model": MODEL,
    "usage": {"total_input_tokens": 5, "total_output_tokens": 2, "total_thought_tokens": 1, "total_tokens": 8},
}
EVENTS = [
    {"event_type": "interaction.created", "interaction": {**BODY, "status": "in_progress"}},
    {"event_type": "step.start", "index": 0, "step": {"type": "thought"}},
    {"event_type": "step.delta", "index": 0, "delta": {"type": "thought_summary", "content": STEPS[0]["summary"][0]}},
    {"event_type": "step.stop", "index": 0},
    {"event_type": "step.start", "index": 1, "step": {"type": "model_output"}},
    {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": "bl"}},
    {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": "ue"}},
    {"event_type": "step.stop", "index": 1},
    {"event_type": "step.start", "index": 2, "step": {"type": "function_call", "id": "f1", "name": "look"}},
    {"event_type": "step.delta", "index": 2, "delta": {"type": "arguments_delta", "arguments": '{"at": "sky"}'}},
    {"event_type": "step.stop", "index": 2},
    {"event_type": "interaction.completed", "interaction": BODY},
]


def answer(request: Request) -> Any:
    if request.get("stream"):
        return raw(b"".join(map(sse, EVENTS)) + sse("[DONE]"), "text/event-stream")
    return raw(json.dumps({**BODY, "steps": STEPS}).encode())


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answer) as running:
        yield running


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    with at_work(capture, GoogleGenAIInstrumentor):
        yield capture


@contextmanager
def refusing(**config: Any) -> Iterator[None]:
    """Have a configuration of the plugin `policy` in force."""
    context = Context(PolicyConfig(**config), "policy")
    PolicyPlugin().register(context)
    try:
        yield
    finally:
        context.close()


def whole(address: str, **asked: Any) -> str:
    with client_of(address) as client:
        return client.interactions.create(model=MODEL, input="which colour?", **asked).output_text or ""


def streamed(address: str, **asked: Any) -> str:
    with client_of(address) as client:
        events = client.interactions.create(model=MODEL, input="which colour?", stream=True, **asked)
        return "".join(map(text_of, events))


def text_of(event: Any) -> str:
    delta = getattr(event, "delta", None)
    return delta.text if getattr(delta, "type", None) == "text" else ""


async def _whole(address: str, asked: Any) -> str:
    async with client_of(address).aio as client:
        return (await client.interactions.create(model=MODEL, input="which colour?", **asked)).output_text or ""


async def _streamed(address: str, asked: Any) -> str:
    async with client_of(address).aio as client:
        events = await client.interactions.create(model=MODEL, input="which colour?", stream=True, **asked)
        return "".join([text_of(event) async for event in events])


WAYS: dict[str, Callable[..., str]] = {
    "whole": whole,
    "streamed": streamed,
    "awhole": lambda address, **asked: asyncio.run(_whole(address, asked)),
    "astreamed": lambda address, **asked: asyncio.run(_streamed(address, asked)),
}
each_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)


@each_way
def test_an_interaction_is_one_span_that_says_what_was_asked_and_answered(
    ask: Any, server: ModelServer, capture: Capture
) -> None:
    bare = ask(server.address, system_instruction="Be brief.")
    with at_work(capture, GoogleGenAIInstrumentor):
        assert ask(server.address, system_instruction="Be brief.") == bare == "blue"
    first, second = server.requests
    assert first.raw == second.raw
    attributes = capture.span.attributes or {}
    assert (asked(capture.span), said(capture.span)) == ("which colour?", "blue")
    assert attributes[names.PROVIDER] == "gcp.gemini"
    assert (attributes[names.INPUT_TOKENS[0]], attributes[names.OUTPUT_TOKENS[0]]) == (5, 3)
    assert list(attributes[names.FINISH_REASONS]) == ["tool_calls"]
    parts = json.loads(str(attributes[names.OUTPUT_MESSAGES]))[0]["parts"]
    assert [part["type"] for part in parts] == ["reasoning", "text", "tool_call"]
    assert parts[2]["arguments"] == {"at": "sky"}


@each_way
def test_a_refused_interaction_is_not_sent(ask: Any, server: ModelServer, instrumented: Capture) -> None:
    with use(guardrail(name="no")(lambda call: "not today")), pytest.raises(GuardrailRejected):
        ask(server.address)
    assert server.requests == []


@each_way
def test_policy_rewrites_what_is_sent_and_answers_in_the_form_that_was_asked_for(
    ask: Any, server: ModelServer, instrumented: Capture
) -> None:
    @request_intercept(kinds=["llm"])
    def other(call: Any) -> None:
        call.request.model = "gemini-3-nano"
        call.request.parameters["temperature"] = 0.25
        call.request.messages[0].parts = [Text("which one?")]

    with use(other):
        assert ask(server.address) == "blue"
    [request] = server.requests
    assert request.model == "gemini-3-nano"
    assert request.body["generation_config"] == {"temperature": 0.25}
    assert "which one?" in json.dumps(request.body["input"])

    @execution_intercept(name="cache")
    def cached(call: Any) -> Any:
        return ModelResponse(messages=[Message("assistant", [Text("green")], finish_reason="stop")])
        yield call

    with use(cached):
        assert ask(server.address) == "green"
    assert len(server.requests) == 1


@each_way
def test_what_the_provider_refuses_is_the_sdks_own_error(ask: Any, capture: Capture) -> None:
    body = {"error": {"code": "429", "message": "slow down"}}
    with ModelServer(lambda request: error(429, body)) as server:
        with pytest.raises(Exception) as bare:
            ask(server.address)
        with at_work(capture, GoogleGenAIInstrumentor), pytest.raises(type(bare.value)) as ours:
            ask(server.address)
    assert str(ours.value) == str(bare.value)
    kind = type(ours.value)
    assert (capture.span.attributes or {})[names.ERROR_TYPE] == f"{kind.__module__}.{kind.__qualname__}"


@pytest.mark.parametrize("kind", ["antigravity", "code-mender"])
def test_the_model_and_the_tools_of_an_agent_are_judged(kind: str, server: ModelServer, instrumented: Capture) -> None:
    config: dict[str, Any] = {"type": kind, "model": "secret-1"}
    with (
        refusing(models=Names(deny=["secret-*"])),
        client_of(server.address) as client,
        pytest.raises(GuardrailRejected, match="'secret-1' is denied"),
    ):
        client.interactions.create(agent=kind, input="fix it", agent_config=config)
    searching: dict[str, Any] = {"type": "deep-research", "enable_bigquery_tool": True}
    with (
        refusing(tools=Tools(deny=["bigquery"])),
        client_of(server.address) as client,
        pytest.raises(GuardrailRejected, match="'bigquery' is denied"),
    ):
        client.interactions.create(agent="deep-research", input="look", agent_config=searching)
    assert server.requests == []


@pytest.mark.filterwarnings("ignore:Agents usage is experimental")
def test_the_model_of_an_agent_that_is_made_is_judged(server: ModelServer, instrumented: Capture) -> None:
    config: dict[str, Any] = {"type": "antigravity", "model": "secret-1"}
    with (
        refusing(models=Names(deny=["secret-*"])),
        client_of(server.address) as client,
        pytest.raises(GuardrailRejected, match="'secret-1' is denied"),
    ):
        client.agents.create(id="mine", base_agent="antigravity", agent_config=config)
    assert server.requests == []


@pytest.mark.filterwarnings("ignore:Triggers usage is experimental")
@pytest.mark.parametrize(
    "asked",
    [
        {"agent_config": {"type": "antigravity", "model": "secret-1"}},
        {"tools": [{"type": "function", "name": "delete_x", "parameters": {}}]},
    ],
    ids=["model", "tool"],
)
def test_what_a_trigger_will_ask_for_is_judged(asked: Any, server: ModelServer, instrumented: Capture) -> None:
    interaction: Any = {"agent": "antigravity", "input": "look", **asked}
    with (
        refusing(models=Names(deny=["secret-*"]), tools=Tools(deny=["delete_*"], offered="refuse")),
        client_of(server.address) as client,
        pytest.raises(GuardrailRejected, match="denied by"),
    ):
        client.triggers.create(interaction=interaction, schedule="0 9 * * *", time_zone="UTC")
    assert server.requests == []
