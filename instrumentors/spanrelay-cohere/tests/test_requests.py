"""What only this SDK does: plans of tools, a first version with lines, and tokens that are counted and billed apart."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import cohere
import pytest

import spanrelay
from spanrelay.errors import GuardrailRejected
from spanrelay.instrumentation.patching import Patch
from spanrelay.semconv import names
from spanrelay.tracing import Tracing
from spanrelay_cohere import CohereInstrumentor
from spanrelay_testkit.capture import Capture, at_work, said
from spanrelay_testkit.exchange import ToolCall, raw, reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

QUESTION: Any = [{"role": "user", "content": "hi"}]
HALVES = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])
TOOL: Any = {"type": "function", "function": {"name": "delete_all", "parameters": {"type": "object", "properties": {}}}}
FILE = """
[plugins.policy]
models.deny = ["secret-*"]
tools.deny = ["delete_*"]
tools.offered = "refuse"
[plugins.policy.parameters."*"]
temperature = 0.25
"""


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    with at_work(capture, CohereInstrumentor, log=caplog):
        yield capture


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[None]:
    """`FILE` in force."""
    with in_force(tmp_path, FILE):
        yield


@contextlib.asynccontextmanager
async def talking(half: Half, script: Any, kind: str = "ClientV2") -> AsyncGenerator[tuple[ModelServer, Any]]:
    with ModelServer(script) as server:
        client = getattr(cohere, f"Async{kind}" if half.asynchronous else kind)(api_key="none", base_url=server.address)
        async with half.entered(client._client_wrapper.httpx_client.httpx_client):
            yield server, client


async def ask(half: Half, client: Any, *, stream: bool = False, **options: Any) -> list[Any]:
    if stream:
        return [event async for event in half.each(client.chat_stream(**options))]
    return [await half.settle(client.chat(**options))]


STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@HALVES
@STREAMED
async def test_a_file_refuses_a_model_and_a_tool_and_sets_a_parameter(
    half: Half, stream: bool, instrumented: Capture, governed: None
) -> None:
    async with talking(half, lambda request: reply("ok")) as (server, client):
        with pytest.raises(GuardrailRejected):
            await ask(half, client, stream=stream, model="secret-1", messages=QUESTION)
        with pytest.raises(GuardrailRejected):
            await ask(half, client, stream=stream, model="m", messages=QUESTION, tools=[TOOL])
        assert server.requests == []
        options = {"additional_body_parameters": {"k": 3}}
        await ask(half, client, stream=stream, model="m", messages=QUESTION, request_options=options)
        [request] = server.requests
    assert (request.body["temperature"], request.body["k"]) == (0.25, 3)


@HALVES
@STREAMED
async def test_calls_of_tools_are_read(half: Half, stream: bool, instrumented: Capture) -> None:
    answer = reply("Blue.", tool_calls=[ToolCall("paint", {"colour": "blue"}, id="paint_1")])
    async with talking(half, [answer]) as (_, client):
        await ask(half, client, stream=stream, model="m", messages=QUESTION)
    told = str((instrumented.span.attributes or {})[names.OUTPUT_MESSAGES])
    assert '"id":"paint_1","name":"paint","arguments":{"colour":"blue"}' in told
    assert said(instrumented.span) == "Blue."


FIRST = {
    "text": "Hello there.",
    "generation_id": "g-1",
    "finish_reason": "COMPLETE",
    "meta": {
        "billed_units": {"input_tokens": 2, "output_tokens": 3},
        "tokens": {"input_tokens": 70, "output_tokens": 4},
    },
}
LINES = [
    {"is_finished": False, "event_type": "stream-start", "generation_id": "g-1"},
    {"is_finished": False, "event_type": "text-generation", "text": "Hello "},
    {"is_finished": False, "event_type": "text-generation", "text": "there."},
    {"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": FIRST},
]


def first(request: Any) -> Any:
    """What the first version of the API answers."""
    if request.get("stream"):
        return raw(b"".join(json.dumps(line).encode() + b"\n" for line in LINES), "application/stream+json")
    return raw(json.dumps(FIRST).encode())


@HALVES
@STREAMED
async def test_the_first_version_is_read_with_its_history(half: Half, stream: bool, instrumented: Capture) -> None:
    history = [{"role": "USER", "message": "earlier"}, {"role": "CHATBOT", "message": "indeed"}]
    async with talking(half, first, "Client") as (server, client):
        parts = await ask(half, client, stream=stream, message="now", chat_history=history, preamble="Be brief.")
        [request] = server.requests
    assert request.path == "/v1/chat"
    assert "".join(getattr(part, "text", "") or "" for part in parts) == "Hello there."
    attributes = instrumented.span.attributes or {}
    assert said(instrumented.span) == "Hello there."
    assert (attributes[names.INPUT_TOKENS[0]], attributes[names.OUTPUT_TOKENS[0]]) == (70, 4)
    assert all(text in str(attributes[names.INPUT_MESSAGES]) for text in ("earlier", "indeed", "now"))
    assert "Be brief." in str(attributes[names.SYSTEM_INSTRUCTIONS])


@HALVES
@STREAMED
async def test_policy_judges_the_first_version_and_changes_its_message(
    half: Half, stream: bool, instrumented: Capture, governed: None
) -> None:
    connector = cohere.ChatConnector(id="delete_web")
    async with talking(half, first, "Client") as (server, client):
        with pytest.raises(GuardrailRejected):
            await ask(half, client, stream=stream, message="now", connectors=[connector])
        await ask(half, client, stream=stream, message="now")
        [request] = server.requests
    assert request.body["temperature"] == 0.25


@HALVES
async def test_ranks_are_a_call_of_their_own_kind(half: Half, instrumented: Capture) -> None:
    answer = raw(b'{"id": "r-1", "results": [{"index": 0, "relevance_score": 0.5}], "meta": {}}')
    async with talking(half, [answer]) as (_, client):
        await half.settle(client.rerank(model="rerank-v3.5", query="which?", documents=["this", "that"]))
    attributes = instrumented.span.attributes or {}
    assert attributes[names.OI_KIND] == "RERANKER"
    assert attributes[names.RESPONSE_ID] == "r-1"


TABLE = CohereInstrumentor().patches(Tracing("x"))


def place(patch: Patch) -> Any:
    found: Any = importlib.import_module(patch.module)
    for name in patch.attribute.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("patch", [each for each in TABLE if not each.newer], ids=lambda patch: patch.attribute)
def test_the_boundary_is_there_and_takes_a_path_and_json(patch: Patch) -> None:
    parameters = inspect.signature(place(patch)).parameters
    assert list(parameters)[:2] == ["self", "path"]
    assert {"method", "json", "omit", "request_options", "retries", "headers"} <= set(parameters)


@pytest.mark.parametrize("patch", [each for each in TABLE if each.newer], ids=lambda patch: patch.attribute)
def test_each_method_that_asks_is_there(patch: Patch) -> None:
    assert inspect.iscoroutinefunction(place(patch)) is patch.attribute.startswith("Async")


@HALVES
@STREAMED
async def test_what_a_denied_tool_gave_is_not_sent_beside_the_history(
    half: Half, stream: bool, instrumented: Capture, governed: None
) -> None:
    results: Any = [{"call": {"name": "delete_all", "parameters": {}}, "outputs": [{"gone": "all"}]}]
    history = [{"role": "USER", "message": "go"}]
    async with talking(half, first, "Client") as (server, client):
        for before in ({}, {"chat_history": history}):
            with pytest.raises(GuardrailRejected, match="delete_all"):
                await ask(half, client, stream=stream, message="", tool_results=results, **before)
        told = [*history, {"role": "TOOL", "tool_results": results}]
        with pytest.raises(GuardrailRejected, match="delete_all"):
            await ask(half, client, stream=stream, message="and?", chat_history=told)
        assert server.requests == []


@HALVES
async def test_who_allows_some_models_gets_none_that_the_api_chooses(
    half: Half, instrumented: Capture, tmp_path: Path
) -> None:
    with in_force(tmp_path, '[plugins.policy]\nmodels.allow = ["command-r*"]\n'):
        async with talking(half, first, "Client") as (server, client):
            with pytest.raises(GuardrailRejected, match="names no model"):
                await ask(half, client, message="hi")
            await ask(half, client, message="hi", model="command-r")
            assert len(server.requests) == 1


@HALVES
async def test_a_line_of_a_stream_that_is_no_object_reaches_the_program_as_the_sdk_has_it(
    half: Half, instrumented: Capture
) -> None:
    lines = raw(b'null\n[]\n{"event_type": "text-generation", "text": "Hi"}\n', "application/stream+json")
    async with talking(half, [lines], "Client") as (_, client):
        nothing, several, event = await ask(half, client, stream=True, message="hi")
    assert (nothing, several, event.text) == (None, [], "Hi")
    assert said(instrumented.span) == "Hi"


@HALVES
async def test_the_model_in_a_form_or_a_query_is_judged_and_a_form_sent_as_it_is(
    half: Half, instrumented: Capture, governed: None
) -> None:
    sound = {"language": "en", "file": ("a.wav", b"RIFF" * 9)}
    async with talking(half, lambda request: raw(b'{"text": "hello"}')) as (server, client):
        with pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
            await half.settle(client.audio.transcriptions.create(model="secret-1", **sound))
        query = {"additional_query_parameters": {"model": "secret-1"}}
        with pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
            await ask(half, client, model="m", messages=QUESTION, request_options=query)
        assert server.requests == []
        found = await half.settle(client.audio.transcriptions.create(model="m", **sound))
        [request] = server.requests
    assert (found.text, b"RIFF" * 9 in request.raw) == ("hello", True)
    assert (instrumented.spans[-1].attributes or {})[names.REQUEST_MODEL] == "m"


@HALVES
async def test_an_answer_of_policys_tells_a_stream_of_the_first_version_all_that_it_says(
    half: Half, instrumented: Capture
) -> None:
    def answers(call: Any) -> Any:
        return {
            "text": "",
            "generation_id": "g-2",
            "finish_reason": "COMPLETE",
            "tool_calls": [{"name": "look", "parameters": {"at": "sky"}}],
            "citations": [{"start": 0, "end": 1, "text": "x", "document_ids": ["d"]}],
        }
        yield

    registered = spanrelay.use(spanrelay.execution_intercept(kinds=["llm"])(answers))
    try:
        async with talking(half, first, "Client") as (server, client):
            parts = await ask(half, client, stream=True, message="hi")
    finally:
        registered.remove()
    assert server.requests == []
    found = {part.event_type: part for part in parts}
    assert found["tool-calls-generation"].tool_calls[0].name == "look"
    assert found["citation-generation"].citations[0].text == "x"
