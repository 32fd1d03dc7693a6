"""What the SDKs of the table do otherwise than OpenAI's, and that each row is whole."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import cerebras.cloud.sdk
import groq
import pytest
import together
from opentelemetry.trace import StatusCode

import spanrelay
import spanrelay_openai_compatible as ours
from spanrelay.instrumentation.patching import Patch
from spanrelay.providers import SDKS
from spanrelay.records import Message, ModelResponse, Text
from spanrelay.semconv import names
from spanrelay.tracing import Tracing
from spanrelay_testkit.capture import Capture, at_work, said
from spanrelay_testkit.exchange import raw, reply, sse
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

INSTRUMENTORS: list[Any] = [getattr(ours, name) for name in ours.__all__]
PATCHES = [
    pytest.param(kind, patch, id=f"{kind.row.provider} {patch.attribute}")
    for kind in INSTRUMENTORS
    for patch in kind().patches(Tracing(kind.name))
]
QUESTION: Any = [{"role": "user", "content": "Which colour has the sky?"}]
HALVES = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    with at_work(capture, ours.GroqInstrumentor, ours.CerebrasInstrumentor):
        yield capture


# --- the table ---


def place(patch: Patch) -> Any:
    """What stands at a patch point."""
    found: Any = importlib.import_module(patch.module)
    for name in patch.attribute.split("."):
        found = inspect.getattr_static(found, name)
    return found


@pytest.mark.parametrize(("kind", "patch"), PATCHES)
def test_each_patch_point_is_there_and_takes_what_its_wrapper_reads(kind: Any, patch: Patch) -> None:
    assert patch.module in kind.modules
    parameters = list(inspect.signature(place(patch)).parameters)
    wanted = {"request": {"cast_to", "options"}, "_process_response": {"response", "options"}, "__stream__": {"self"}}
    assert wanted[patch.attribute.rpartition(".")[2]] <= set(parameters)


@pytest.mark.parametrize("kind", INSTRUMENTORS, ids=lambda kind: kind.row.provider)
def test_each_row_is_an_entry_point_and_an_sdk_that_is_known(kind: Any) -> None:
    [found] = entry_points(group="opentelemetry_instrumentor", name=kind.name)
    assert found.load() is kind
    [sdk] = [each for each in SDKS if each.package == kind.package]
    assert (sdk.module, sdk.ours, sdk.provider) == (kind.row.module, "spanrelay-openai-compatible", kind.row.provider)
    assert {where.partition(":")[0] for where in sdk.sends} == {f"{kind.row.module}._base_client"}


def test_the_readme_names_each_sdk_with_its_versions() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    told = re.findall(r"^\| \[(\S+)\]\(\S+\) \| (.*?) \| `(\w+)` \| `(\w+)` \|$", readme, re.MULTILINE)
    rows = [getattr(ours, name) for name in ours.__all__]
    assert told == [
        (kind.package, kind.row.supported, kind.row.provider, name)
        for kind, name in zip(rows, ours.__all__, strict=True)
    ]


def test_the_provider_is_the_sdks_unless_its_base_url_names_another(instrumented: Capture) -> None:
    with ModelServer() as server, groq.Groq(base_url=server.address, api_key="none") as client:
        client.chat.completions.create(model="llama-4", messages=QUESTION)
    assert (instrumented.span.attributes or {})[names.PROVIDER] == "groq"


# --- Groq ---

CHUNK: dict[str, Any] = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "llama-4"}
USAGE = {"queue_time": 0.1, "prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    return sse({**CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


def groq_client(half: Half, server: ModelServer) -> Any:
    kind: Any = groq.AsyncGroq if half.asynchronous else groq.Groq
    return kind(base_url=server.address, api_key="none", max_retries=0)


@HALVES
async def test_groq_counts_the_tokens_of_a_stream_beside_it(half: Half, instrumented: Capture) -> None:
    stream = event({"content": "Blue."}) + event({}, "stop", x_groq={"id": "req_1", "usage": USAGE}) + sse("[DONE]")
    with ModelServer([raw(stream, "text/event-stream")]) as server:
        client = groq_client(half, server)
        answer = await half.settle(client.chat.completions.create(model="llama-4", messages=QUESTION, stream=True))
        assert len([chunk async for chunk in half.each(answer)]) == 2
        await half.close(client)
    attributes = instrumented.span.attributes or {}
    assert (attributes[names.INPUT_TOKENS[0]], attributes[names.OUTPUT_TOKENS[0]]) == (12, 3)


@HALVES
async def test_a_stream_of_groqs_that_fails_has_ended_though_its_sdk_leaves_it_open(
    half: Half, instrumented: Capture
) -> None:
    failed = {"error": {"message": "no such tool", "type": "invalid_request_error", "code": "tool_use_failed"}}
    stream = event({"content": "Bl"}) + sse(failed, "error")
    with ModelServer([raw(stream, "text/event-stream")]) as server:
        client = groq_client(half, server)
        answer = await half.settle(client.chat.completions.create(model="llama-4", messages=QUESTION, stream=True))
        with pytest.raises(groq.APIError, match="no such tool"):
            await half.read_on(answer)
        span = instrumented.span  # while the application still holds the stream
        await half.close(answer)
        await half.close(client)
    attributes = span.attributes or {}
    assert said(span) == "Bl"
    assert span.status.status_code is StatusCode.ERROR
    assert (attributes[names.ERROR_TYPE], attributes[names.ERROR_CODE]) == ("groq.APIError", "tool_use_failed")


@HALVES
async def test_a_stream_of_groqs_that_is_left_early_ends_as_it_is_closed(half: Half, instrumented: Capture) -> None:
    with ModelServer([reply("one two three four")]) as server:
        client = groq_client(half, server)
        answer = await half.settle(client.chat.completions.create(model="llama-4", messages=QUESTION, stream=True))
        await half.take(answer, 2)
        await half.close(answer)
        assert (instrumented.span.attributes or {})[names.INCOMPLETE] == "closed"
        await half.close(client)


def test_the_code_of_an_error_is_read_where_the_sdk_has_it_in_the_body_alone(instrumented: Capture) -> None:
    body = b'{"error": {"message": "no", "type": "invalid_request_error", "code": "tool_use_failed"}}'
    with (
        ModelServer([raw(body, status=400)]) as server,
        groq.Groq(base_url=server.address, api_key="none") as client,
        pytest.raises(groq.BadRequestError),
    ):
        client.chat.completions.create(model="llama-4", messages=QUESTION)
    assert (instrumented.span.attributes or {})[names.ERROR_CODE] == "tool_use_failed"


# --- Cerebras ---


def test_what_warms_a_connection_of_cerebras_is_no_call_and_is_not_judged(instrumented: Capture, policy: Any) -> None:
    policy(spanrelay.guardrail(lambda call: "not here"))
    with ModelServer() as server, cerebras.cloud.sdk.Cerebras(base_url=server.address, api_key="none"):
        assert [request.path for request in server.requests] == ["/v1/tcp_warming"]
    assert instrumented.spans == ()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_of_policy_is_of_the_type_that_cerebras_sdk_makes(
    stream: bool, instrumented: Capture, policy: Any
) -> None:
    @spanrelay.execution_intercept
    def answer(call: Any) -> Any:
        return ModelResponse(None, None, [Message("assistant", [Text("Blue.")])], ["stop"])
        yield

    policy(answer)
    with ModelServer() as server:
        client: Any = cerebras.cloud.sdk.Cerebras(base_url=server.address, api_key="none", warm_tcp_connection=False)
        with client:
            found = client.chat.completions.create(model="llama-4", messages=QUESTION, stream=stream)
            kinds = {type(chunk).__name__ for chunk in found} if stream else {type(found).__name__}
        assert server.requests == []
    assert kinds == {"ChatChunkResponse" if stream else "ChatCompletionResponse"}


# --- Together ---


def test_the_file_of_a_batch_that_goes_to_another_server_is_refused_under_policy(
    capture: Capture, tmp_path: Path
) -> None:
    file = tmp_path / "batch.jsonl"
    file.write_bytes(b'{"custom_id": "1", "body": {"model": "llama-4"}}')
    with at_work(capture, ours.TogetherInstrumentor), ModelServer() as server:
        client = together.Together(base_url=server.address, api_key="none", max_retries=0)
        with spanrelay.use(spanrelay.guardrail(name="any")(lambda call: None)):
            with pytest.raises(spanrelay.MiddlewareError, match="to another server, cannot be checked"):
                client.files.upload(file=str(file), purpose="batch-api", check=False)
            assert server.requests == []
            with pytest.raises(together.APIStatusError):  # this server keeps no files
                client.files.upload(file=str(file), purpose="eval", check=False)
        client.close()
    assert len(server.requests) == 1
