"""What only this client does: a stream is sent when it is read, calls of tools have no ids, and no id comes back."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest
from opentelemetry.trace import StatusCode

import spanrelay
from spanrelay.errors import GuardrailRejected
from spanrelay.instrumentation.patching import Patch
from spanrelay.semconv import names
from spanrelay.tracing import Tracing
from spanrelay_ollama import OllamaInstrumentor
from spanrelay_testkit.capture import Capture, at_work, said
from spanrelay_testkit.exchange import ToolCall, error, raw, reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

QUESTION: Any = [{"role": "user", "content": "hi"}]
HALVES = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])
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
    with at_work(capture, OllamaInstrumentor, log=caplog):
        yield capture


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[None]:
    """`FILE` in force."""
    with in_force(tmp_path, FILE):
        yield


@contextlib.asynccontextmanager
async def talking(half: Half, script: Any) -> AsyncGenerator[tuple[ModelServer, Any]]:
    kind: Any = ollama.AsyncClient if half.asynchronous else ollama.Client
    with ModelServer(script) as server:
        client = kind(host=server.address)
        async with half.entered(client._client):
            yield server, client


async def ask(half: Half, client: Any, *, stream: bool = False, **options: Any) -> list[Any]:
    answer = await half.settle(client.chat(**{"model": "m", "messages": QUESTION, "stream": stream, **options}))
    return [part async for part in half.each(answer)] if stream else [answer]


def delete_all() -> None:
    """Delete everything."""


@HALVES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_file_refuses_a_model_and_a_tool_and_sets_a_parameter(
    half: Half, stream: bool, instrumented: Capture, governed: None
) -> None:
    async with talking(half, lambda request: reply("ok")) as (server, client):
        with pytest.raises(GuardrailRejected):
            await ask(half, client, stream=stream, model="secret-1")
        with pytest.raises(GuardrailRejected):
            await ask(half, client, stream=stream, tools=[delete_all])
        assert server.requests == []
        await ask(half, client, stream=stream, options={"seed": 7})
        [request] = server.requests
    assert request.body["options"] == {"seed": 7, "temperature": 0.25}


@HALVES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_what_a_denied_tool_gave_is_not_sent_though_its_call_has_no_id(
    half: Half, stream: bool, instrumented: Capture, governed: None
) -> None:
    answer = reply(None, tool_calls=[ToolCall("delete_all", {})])
    async with talking(half, [answer]) as (server, client):
        parts = await ask(half, client, stream=stream)
        [said_by_model] = [part.message for part in parts if part.message.tool_calls]
        result = {"role": "tool", "tool_name": "delete_all", "content": "done"}
        with pytest.raises(GuardrailRejected, match="delete_all"):
            await ask(half, client, stream=stream, messages=[*QUESTION, said_by_model, result])
        assert len(server.requests) == 1


@HALVES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_calls_of_tools_and_their_results_are_read_without_ids(
    half: Half, stream: bool, instrumented: Capture
) -> None:
    history = [
        *QUESTION,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "look", "arguments": {"at": "sky"}}}],
        },
        {"role": "tool", "tool_name": "look", "content": "blue"},
    ]
    async with talking(half, [reply("Blue.", tool_calls=[ToolCall("paint", {"colour": "blue"})])]) as (_, client):
        parts = await ask(half, client, stream=stream, messages=history)
    assert [call.function.name for part in parts for call in part.message.tool_calls or ()] == ["paint"]
    attributes = instrumented.span.attributes or {}
    assert '"name":"paint","arguments":{"colour":"blue"}' in str(attributes[names.OUTPUT_MESSAGES])
    assert '"name":"look"' in str(attributes[names.INPUT_MESSAGES])
    assert said(instrumented.span) == "Blue."


@HALVES
async def test_a_stream_that_ends_before_its_last_object_is_cut(half: Half, instrumented: Capture) -> None:
    part = {"model": "m", "created_at": "", "message": {"role": "assistant", "content": "one"}, "done": False}
    async with talking(half, [raw(json.dumps(part).encode(), "application/x-ndjson")]) as (_, client):
        await ask(half, client, stream=True)
    assert (instrumented.span.attributes or {})[names.INCOMPLETE] == "cut"
    assert instrumented.span.status.status_code is StatusCode.UNSET


@HALVES
async def test_a_stream_that_nobody_reads_sends_nothing_and_ends_its_span(half: Half, instrumented: Capture) -> None:
    async with talking(half, [reply("x")]) as (server, client):
        stream = await half.settle(client.chat(model="m", messages=QUESTION, stream=True))
        del stream
        assert server.requests == []
    assert (instrumented.span.attributes or {})[names.INCOMPLETE] == "abandoned"


@pytest.mark.parametrize("patch", OllamaInstrumentor().patches(Tracing("x")), ids=lambda patch: patch.attribute)
def test_each_patch_point_is_there_and_takes_a_class_first(patch: Patch) -> None:
    owner, name = patch.attribute.split(".")
    function = getattr(getattr(importlib.import_module(patch.module), owner), name)
    assert inspect.iscoroutinefunction(function) is owner.startswith("Async")
    assert list(inspect.signature(function).parameters)[:4] == ["self", "cls", "args", "stream"]


@HALVES
@pytest.mark.parametrize("model", ["library/secret-1", "registry.ollama.ai/library/secret-1:latest"])
async def test_a_model_of_the_library_is_known_without_that(
    model: str, half: Half, instrumented: Capture, governed: None
) -> None:
    async with talking(half, lambda request: reply("ok")) as (server, client):
        with pytest.raises(GuardrailRejected, match="is denied by 'secret-"):
            await half.settle(client.chat(model, messages=[{"role": "user", "content": "hi"}]))
        assert server.requests == []


@HALVES
async def test_a_model_is_judged_on_whatever_route_it_is_asked(
    half: Half, instrumented: Capture, governed: None
) -> None:
    question = {"type": "noul", "instructions": "is it so?"}
    answer = {"model": "m", "answers": {"q": {"type": "noul", "noul": 0.5}}}
    told = raw(json.dumps({**answer, "usage": {"input_tokens": 3, "output_tokens": 1}}).encode())
    async with talking(half, [told]) as (server, client):
        if not hasattr(client, "systemone"):
            pytest.skip("this version has no such route")
        with pytest.raises(GuardrailRejected):
            await half.settle(client.systemone(model="secret-1", state="it", questions={"q": question}))
        assert server.requests == []
        await half.settle(client.systemone(model="m", state="it", questions={"q": question}))
    attributes = instrumented.spans[-1].attributes or {}
    assert attributes[names.REQUEST_MODEL] == "m"
    assert (attributes[names.INPUT_TOKENS[0]], attributes[names.OUTPUT_TOKENS[0]]) == (3, 1)


@HALVES
async def test_the_span_of_a_stream_says_that_the_client_could_make_nothing_of_an_object(
    half: Half, instrumented: Capture
) -> None:
    lines = raw(b'{"message": {"role": "assistant", "content": "Hel"}, "done": false}\n{"message": 3}\n', "text/plain")
    async with talking(half, [lines]) as (_, client):
        with pytest.raises(Exception, match="validation error") as caught:
            await ask(half, client, stream=True)
    span = instrumented.span
    assert span.status.status_code is StatusCode.ERROR
    assert str((span.attributes or {})["error.type"]).endswith(type(caught.value).__name__)
    assert said(span) == "Hel"


@HALVES
async def test_an_object_that_is_none_fails_as_without_us(
    half: Half, capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    async with talking(half, lambda request: raw(b"[1]")) as (_, client):
        with pytest.raises(TypeError) as bare:
            await ask(half, client)
        with at_work(capture, OllamaInstrumentor, log=caplog), pytest.raises(TypeError) as caught:
            await ask(half, client)
    assert str(caught.value) == str(bare.value)


@pytest.mark.skipif("tool_name" not in ollama.Message.model_fields, reason="older versions send no names of results")
@HALVES
async def test_a_result_is_of_the_call_that_it_names_whatever_its_place(
    half: Half, instrumented: Capture, governed: None
) -> None:
    asked = [{"function": {"name": name, "arguments": {}}} for name in ("look", "delete_all")]
    history = [*QUESTION, {"role": "assistant", "content": "", "tool_calls": asked}]
    seen, done = ({"role": "tool", "tool_name": name, "content": "yes"} for name in ("look", "delete_all"))
    async with talking(half, lambda request: reply("ok")) as (server, client):
        for results in ([done], [done, seen]):
            with pytest.raises(GuardrailRejected, match="delete_all"):
                await ask(half, client, messages=[*history, *results])
        assert server.requests == []
        await ask(half, client, messages=[*history, seen])


@HALVES
async def test_a_call_that_fails_is_made_again_where_the_stream_is_read_before_it_is_handed_out(
    half: Half, instrumented: Capture
) -> None:
    def again(call: Any) -> Any:
        try:
            return (yield call)
        except ollama.ResponseError:
            return (yield call)

    registered = spanrelay.use(spanrelay.execution_intercept(kinds=["llm"], buffered=True)(again))
    try:
        async with talking(half, [error(503), reply("ok")]) as (server, client):
            parts = await ask(half, client, stream=True)
    finally:
        registered.remove()
    assert "".join(part.message.content for part in parts) == "ok"
    assert len(server.requests) == 2
