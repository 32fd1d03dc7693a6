"""What the caller gets is what the bare client gives, whatever happens on the way; and the span says what did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from opentelemetry.trace import StatusCode

from spanrelay.semconv import names
from spanrelay.tracing import recording
from spanrelay_bedrock import BedrockInstrumentor
from spanrelay_testkit import converse_wire
from spanrelay_testkit.capture import Capture, asked, at_work, said
from spanrelay_testkit.contract.checks import check_same_error
from spanrelay_testkit.contract.outcomes import failure_of
from spanrelay_testkit.exchange import error, raw, reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

from .clients import MODEL, Events, nova, open_client, said_in, settings_of, text_of

QUESTION: Any = [{"role": "user", "content": [{"text": "hi"}]}]
SYNC = Half(asynchronous=False)
halves = pytest.mark.parametrize("half", [SYNC, Half(asynchronous=True)], ids=["sync", "async"])

# What botocore and aiobotocore do about a stream that is dropped or cut, with us or without.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore:Unclosed connection:ResourceWarning")


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    with at_work(capture, BedrockInstrumentor):
        yield capture


def told(capture: Capture, key: str) -> Any:
    return (capture.span.attributes or {}).get(key)


@halves
async def test_a_call_is_told_as_one_of_bedrock(half: Half, instrumented: Capture) -> None:
    with ModelServer([reply("Hello there")]) as server:
        client = open_client(half, server.url)
        config = {"maxTokens": 9, "temperature": 0.5, "topP": 0.5, "stopSequences": ["."]}
        await half.settle(client.converse(modelId=MODEL, messages=QUESTION, inferenceConfig=config))
        await half.close(client)
        port = int(server.address.rpartition(":")[2])
    attributes = dict(instrumented.span.attributes or {})
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.stop_sequences": (".",),
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.usage.input_tokens": 2,
        "gen_ai.usage.output_tokens": 2,
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    assert {key: attributes.get(key) for key in expected} == expected
    assert instrumented.span.name == f"chat {MODEL}"


@halves
async def test_a_stream_says_when_its_first_event_came(half: Half, instrumented: Capture) -> None:
    with ModelServer() as server:
        client = open_client(half, server.url)
        answer = await half.settle(client.converse_stream(modelId=MODEL, messages=QUESTION))
        async for _ in half.each(Events(answer["stream"])):
            pass
        await half.close(client)
    assert told(instrumented, names.TIME_TO_FIRST_CHUNK) > 0
    assert told(instrumented, "gen_ai.request.stream") is True


@halves
@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "ValidationException"), (403, "AccessDeniedException"), (429, "ThrottlingException"), (408, "ModelTimeout")],
)
async def test_an_error_has_its_code_and_status(half: Half, status: int, code: str, instrumented: Capture) -> None:
    refusal = error(status, {"message": "no"}, {"x-amzn-errortype": f"{code}:http://aws/", "retry-after": "9"})
    with ModelServer([refusal]) as server:
        client = open_client(half, server.url)
        raised = await failure_of(half, lambda: client.converse(modelId=MODEL, messages=QUESTION))
        await half.close(client)
    kind = type(raised)
    assert told(instrumented, "error.type") == f"{kind.__module__}.{kind.__qualname__}"
    assert told(instrumented, "spanrelay.error.code") == code
    assert told(instrumented, "http.response.status_code") == status


@halves
@pytest.mark.parametrize("cut", [1, 5, 11, 40, 99, 150, 250, 300])
async def test_a_stream_that_ends_within_a_frame_is_what_the_bare_client_makes_of_it(
    half: Half, cut: int, capture: Capture
) -> None:
    frames = [
        converse_wire.frame("messageStart", {"role": "assistant"}),
        converse_wire.frame("contentBlockDelta", {"delta": {"text": "one"}, "contentBlockIndex": 0}),
    ]
    cut_short = raw(b"".join(frames)[:cut], converse_wire.CONTENT_TYPE)
    with ModelServer([cut_short, cut_short]) as server:
        client = open_client(half, server.url)
        bare = await everything(half, client)
        with at_work(capture, BedrockInstrumentor):
            ours = await everything(half, client)
        await half.close(client)
    assert ours == bare
    assert told(capture, names.INCOMPLETE) == "cut"


async def everything(half: Half, client: Any) -> tuple[list[Any], str]:
    """The events of a stream, and what it raised."""
    answer = await half.settle(client.converse_stream(modelId=MODEL, messages=QUESTION))
    events: list[Any] = []
    try:
        async for event in half.each(Events(answer["stream"])):
            events.append(event)
    except Exception as raised:
        return events, repr(raised)
    return events, ""


@halves
async def test_a_broken_checksum_is_the_sdks_own_error(half: Half, capture: Capture) -> None:
    broken = bytearray(converse_wire.frame("messageStart", {"role": "assistant"}))
    broken[-1] ^= 1
    with ModelServer([raw(bytes(broken), converse_wire.CONTENT_TYPE)] * 2) as server:
        client = open_client(half, server.url)
        bare = await everything(half, client)
        with at_work(capture, BedrockInstrumentor):
            ours = await everything(half, client)
        await half.close(client)
    assert ours == bare
    assert "ChecksumMismatch" in told(capture, "error.type")


@halves
async def test_a_failure_that_comes_as_an_event_has_its_code(half: Half, instrumented: Capture) -> None:
    data = converse_wire.frame("messageStart", {"role": "assistant"}) + converse_wire.exception(
        "throttlingException", {"message": "too fast"}
    )
    with ModelServer([raw(data, converse_wire.CONTENT_TYPE)]) as server:
        client = open_client(half, server.url)
        _, raised = await everything(half, client)
        await half.close(client)
    assert "too fast" in raised
    assert told(instrumented, "error.type") == "botocore.exceptions.EventStreamError"
    assert told(instrumented, "spanrelay.error.code") == "throttlingException"
    assert told(instrumented, names.INCOMPLETE) == "error"
    assert instrumented.span.status.status_code is StatusCode.ERROR


@halves
async def test_events_that_nobody_knows_pass(half: Half, capture: Capture) -> None:
    frames = [
        converse_wire.frame("messageStart", {"role": "assistant", "p": "abc"}),
        converse_wire.frame("ofTheFuture", {"more": 1}),
        converse_wire.frame("contentBlockDelta", {"delta": {"text": "one"}, "contentBlockIndex": 0}),
        converse_wire.frame("messageStop", {"stopReason": "new_reason"}),
    ]
    answer = raw(b"".join(frames), converse_wire.CONTENT_TYPE)
    with ModelServer([answer, answer]) as server:
        client = open_client(half, server.url)
        bare = await everything(half, client)
        with at_work(capture, BedrockInstrumentor):
            ours = await everything(half, client)
        await half.close(client)
    assert ours == bare
    assert said(capture.span) == "one"
    assert told(capture, "gen_ai.response.finish_reasons") == ("new_reason",)


@halves
@pytest.mark.parametrize("size", [0, 5, 20])
async def test_a_body_that_breaks_off_is_read_as_by_the_bare_client(half: Half, size: int, capture: Capture) -> None:
    async def read(client: Any) -> tuple[bytes, BaseException]:
        answer = await half.settle(client.invoke_model(modelId=MODEL, body=nova(QUESTION)))
        first = await half.settle(answer["body"].read(size)) if size else b""
        return first, await failure_of(half, lambda: answer["body"].read())

    with ModelServer([reply("Hello", cut_after=20)] * 2) as server:
        client = open_client(half, server.url)
        bare = await read(client)
        with at_work(capture, BedrockInstrumentor):
            ours = await read(client)
        await half.close(client)
    assert ours[0] == bare[0]
    assert type(ours[1]) is type(bare[1])  # how many bytes it says were read is urllib3's affair
    kind = type(bare[1])
    assert told(capture, "error.type") == f"{kind.__module__}.{kind.__qualname__}"


def test_a_body_can_be_read_in_every_way_of_the_sdk(instrumented: Capture) -> None:
    ways = [
        lambda body: body.read(),
        lambda body: b"".join(body),
        lambda body: b"".join(body.iter_chunks(7)),
        lambda body: b"\n".join(body.iter_lines()),
        lambda body: b"".join(body.readlines()),
        into_a_buffer,
        lambda body: json.dumps(json.load(body), separators=(",", ":")).encode(),
        with_block,
    ]
    with ModelServer() as server:
        client = open_client(SYNC, server.url)
        texts = {
            said_in(json.loads(way(client.invoke_model(modelId=MODEL, body=nova(QUESTION))["body"]))) for way in ways
        }
    assert len(texts) == 1
    assert len(instrumented.spans) == len(ways)


def into_a_buffer(body: Any) -> bytes:
    buffer = bytearray(4096)
    return bytes(buffer[: body.readinto(buffer)]) if hasattr(body, "readinto") else body.read()


def with_block(body: Any) -> bytes:
    with body as stream:
        return stream.read()


@pytest.mark.parametrize("kind", ["anthropic", "plain"])
def test_tokens_that_only_headers_tell_are_recorded(kind: str, instrumented: Capture) -> None:
    bodies = {
        "anthropic": {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": []},
        "plain": {"prompt": "hi"},
    }
    headers = {
        "x-amzn-bedrock-input-token-count": "7",
        "x-amzn-bedrock-output-token-count": "5",
        "x-amzn-bedrock-cache-read-input-token-count": "3",
    }
    body = b'{"content": [{"type": "text", "text": "one"}], "generation": "one"}'
    with ModelServer([raw(body, headers=headers)]) as server:
        answer = open_client(SYNC, server.url).invoke_model(modelId=MODEL, body=json.dumps(bodies[kind]))
        assert answer["body"].read() == body
    usage = [told(instrumented, f"gen_ai.usage.{what}") for what in ("input_tokens", "output_tokens")]
    assert usage == [10, 5]
    assert told(instrumented, "gen_ai.usage.cache_read.input_tokens") == 3


def test_other_services_are_never_touched(instrumented: Capture) -> None:
    with ModelServer(lambda _: error(404, b"")) as server:
        client = boto3.client("s3", **settings_of(server.url))
        with pytest.raises(client.exceptions.ClientError):
            client.get_object(Bucket="bucket", Key="key")
    assert instrumented.spans == ()
    assert "spanrelay" not in repr(client.meta.events._emitter._handlers.__dict__)


@halves
async def test_the_provider_is_told_of_the_span_outside_of_the_signature(
    half: Half, instrumented: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "propagate", True)
    with ModelServer() as server:
        client = open_client(half, server.url)
        await half.settle(client.converse(modelId=MODEL, messages=QUESTION))
        await half.close(client)
    [request] = server.requests
    context = instrumented.span.context
    assert context is not None
    assert request.headers["traceparent"].split("-")[2] == f"{context.span_id:016x}"
    assert "traceparent" not in request.headers["authorization"]


@halves
async def test_without_being_asked_for_no_header_is_sent(half: Half, instrumented: Capture) -> None:
    with ModelServer() as server:
        client = open_client(half, server.url)
        await half.settle(client.converse(modelId=MODEL, messages=QUESTION))
        await half.close(client)
    assert "traceparent" not in server.requests[0].headers


def test_what_a_hook_of_the_applications_changes_is_what_is_recorded(instrumented: Capture) -> None:
    def shout(params: Any, **_: Any) -> Any:
        return {**params, "messages": [{"role": "user", "content": [{"text": "HI"}]}]}

    with ModelServer() as server:
        client = open_client(SYNC, server.url)
        client.meta.events.register("provide-client-params.bedrock-runtime.Converse", shout)
        client.converse(modelId=MODEL, messages=QUESTION)
    assert server.requests[0].last_user_text == asked(instrumented.span) == "HI"


def test_counting_tokens_is_a_call_that_names_a_model(instrumented: Capture) -> None:
    with ModelServer(lambda _: raw(b'{"inputTokens": 3}')) as server:
        client = open_client(SYNC, server.url)
        if not hasattr(client, "count_tokens"):
            pytest.skip("this botocore does not know the operation")
        answer = client.count_tokens(modelId=MODEL, input={"converse": {"messages": QUESTION}})
    assert answer["inputTokens"] == 3
    assert told(instrumented, "gen_ai.request.model") == MODEL


def test_a_connection_error_is_the_sdks_own(capture: Capture) -> None:
    client = open_client(SYNC, "http://127.0.0.1:9")
    stub = lambda request, **_: (_ for _ in ()).throw(ConnectionResetError("reset"))  # noqa: E731 - a handler of one line
    client.meta.events.register("before-send", stub)

    def ask() -> Any:
        return client.converse(modelId=MODEL, messages=QUESTION)

    try:
        ask()
    except Exception as raised:
        bare = raised
    with at_work(capture, BedrockInstrumentor), pytest.raises(ConnectionResetError) as caught:
        ask()
    check_same_error(caught.value, bare)


def test_texts_of_events_are_found_in_both_kinds() -> None:
    assert text_of({"contentBlockDelta": {"delta": {"text": "one"}}}) == "one"
