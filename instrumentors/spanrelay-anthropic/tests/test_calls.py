"""What becomes of calls of Anthropic's SDK: routes, clouds, errors, policy, and the spans that the SDK makes itself."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import spanrelay
from spanrelay.codecs import aws_events
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy import PolicyConfig, PolicyPlugin
from spanrelay.plugins.policy.settings import Names, Parameters, Tools
from spanrelay.records import Message, ModelResponse, Text
from spanrelay.semconv import names
from spanrelay_anthropic import AnthropicInstrumentor
from spanrelay_testkit.capture import Capture, asked, said
from spanrelay_testkit.exchange import Request, error, raw, reply, sse, tool_call
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

MODEL = "claude-sonnet-5"
QUESTION: Any = [{"role": "user", "content": "hi"}]
RING: Any = {"name": "ring", "input_schema": {"type": "object"}}
HALVES = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])


def asking(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 9, "messages": QUESTION, **more}


def client_of(server: ModelServer, half: Half | None = None, **options: Any) -> Any:
    kind: Any = anthropic.AsyncAnthropic if half is not None and half.asynchronous else anthropic.Anthropic
    return kind(base_url=server.address, api_key="none", **{"max_retries": 0, **options})


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(lambda request: reply("Blue.")) as server:
        yield server


@contextmanager
def policy(**tables: Any) -> Generator[None]:
    """The plugin `policy` in force, as a file would configure it."""
    context = Context(PolicyConfig(**tables), "policy")
    PolicyPlugin().register(context)
    try:
        yield
    finally:
        context.close()


# --- routes -------------------------------------------------------------------------------------------------


def test_tokens_that_are_counted_are_no_usage(instrumented: Capture) -> None:
    with ModelServer([raw(b'{"input_tokens": 641}')]) as server, client_of(server) as client:
        assert client.messages.count_tokens(model=MODEL, messages=QUESTION, tools=[RING]).input_tokens == 641
    attributes = dict(instrumented.span.attributes or {})
    assert instrumented.span.name == f"generate_content {MODEL}"
    assert json.loads(attributes[names.RESPONSE_PARAMETERS]) == {"input_tokens": 641}
    assert names.INPUT_TOKENS[0] not in attributes


def test_a_batch_is_one_call_that_names_models_and_tools(instrumented: Capture) -> None:
    seen: list[str] = []
    batch = raw(b'{"id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress"}')
    requests: Any = [{"custom_id": "1", "params": asking(tools=[RING])}]
    with ModelServer(lambda request: batch) as server, client_of(server) as client:
        client.messages.batches.create(requests=requests)
        client.models.list()

        @spanrelay.guardrail(kinds=["llm"])
        def look(call: Any) -> None:
            from spanrelay.codecs.naming import models_within
            from spanrelay.codecs.offers import offers_of

            seen.extend(
                [*models_within(call.outgoing()), *(offer.names[0] for offer in offers_of(call.codec, call.wire))]
            )

        with spanrelay.use(look):
            client.messages.batches.create(requests=requests)
    assert [span.name for span in instrumented.spans if "guardrail" not in span.name] == ["generate_content"] * 2
    assert seen == [MODEL, "ring"]


def test_a_body_that_is_read_once_is_sent_and_recorded_whole(server: ModelServer, instrumented: Capture) -> None:
    blocks = ({"type": "text", "text": text} for text in ("one", "two"))
    with client_of(server) as client:
        client.messages.create(**asking(messages=iter([{"role": "user", "content": blocks}]), extra_body={"x": 1}))
    assert server.requests[0].last_user_text == "one two"
    assert server.requests[0].get("x") == 1
    [message] = instrumented.record(instrumented.span).request.messages  # type: ignore[union-attr]
    assert [part.text for part in message.parts if isinstance(part, Text)] == ["one", "two"]


# --- clouds -------------------------------------------------------------------------------------------------


def bedrock(server: ModelServer, half: Half) -> Any:
    kind: Any = anthropic.AsyncAnthropicBedrock if half.asynchronous else anthropic.AnthropicBedrock
    return kind(aws_region="us-east-1", api_key="none", base_url=server.address, max_retries=0)


def vertex(server: ModelServer, half: Half) -> Any:
    kind: Any = anthropic.AsyncAnthropicVertex if half.asynchronous else anthropic.AnthropicVertex
    return kind(region="us-east5", project_id="p", access_token="t", base_url=server.address, max_retries=0)


def foundry(server: ModelServer, half: Half) -> Any:
    kind: Any = anthropic.AsyncAnthropicFoundry if half.asynchronous else anthropic.AnthropicFoundry
    return kind(api_key="none", base_url=f"{server.address}/anthropic", max_retries=0)


CLOUDS: dict[str, tuple[Any, str, str]] = {
    "bedrock": (bedrock, "aws.bedrock", f"/model/{MODEL}/invoke"),
    "vertex": (
        vertex,
        "gcp.vertex_ai",
        f"/projects/p/locations/us-east5/publishers/anthropic/models/{MODEL}:rawPredict",
    ),
    "foundry": (foundry, "anthropic", "/anthropic/v1/messages"),
}
WHOLE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": "Blue."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**WHOLE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Bl"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ue."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3}},
]


def of_cloud(request: Request) -> Any:
    """What a cloud answers on its own routes."""
    if request.path.endswith("invoke-with-response-stream"):
        return raw(b"".join(map(aws_events.chunk, EVENTS)), aws_events.CONTENT_TYPE)
    if request.streamed:
        return raw(b"".join(sse(event, event["type"]) for event in EVENTS), "text/event-stream")
    return raw(json.dumps(WHOLE).encode())


@HALVES
@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_client_of_a_cloud_is_recorded_with_the_model_that_stands_in_its_url(
    cloud: str, half: Half, stream: bool, capture: Capture
) -> None:
    make, provider, path = CLOUDS[cloud]
    told: list[Any] = []

    async def ask(client: Any) -> None:
        answer = await half.settle(client.messages.create(**asking(stream=stream)))
        told.append([event.model_dump() async for event in half.each(answer)] if stream else answer.model_dump())

    with ModelServer(of_cloud) as server:
        client = make(server, half)
        await ask(client)
        AnthropicInstrumentor().instrument(tracer_provider=capture.provider)
        try:
            await ask(client)
            assert capture.span.name == f"chat {MODEL}"
            with spanrelay.use(spanrelay.request_intercept(name="other")(ask_for_another)):
                await ask(client)
            with spanrelay.use(spanrelay.execution_intercept(name="cache")(answer_from_cache)):
                await ask(client)
        finally:
            AnthropicInstrumentor().uninstrument()
            await half.close(client)
    bare, ours, other = server.requests
    assert (ours.path, ours.raw) == (bare.path, bare.raw)
    if not stream:
        assert bare.path == path
    assert "another-model" in (other.path + str(other.get("model")))
    attributes = dict(capture.spans[0].attributes or {})
    assert attributes[names.PROVIDER] == provider
    assert attributes[names.REQUEST_MODEL] == MODEL
    assert attributes.get(names.REQUEST_STREAM, False) is stream
    assert attributes[names.INPUT_TOKENS[0]] == 3
    assert names.INCOMPLETE not in attributes
    assert (asked(capture.spans[0]), said(capture.spans[0]), said(capture.spans[2])) == ("hi", "Blue.", "Cached.")
    assert told[1] == told[0]
    assert "Cached." in json.dumps(told[3])


def ask_for_another(call: Any) -> None:
    call.request.model = "another-model"


def answer_from_cache(call: Any) -> Any:
    return ModelResponse(messages=[Message("assistant", [Text("Cached.")])])
    yield call


@HALVES
async def test_an_exception_in_a_stream_that_aws_frames_is_the_sdks_own_error(
    half: Half, instrumented: Capture
) -> None:
    failed = aws_events.frame("throttlingException", {"message": "slow down"}).replace(b":event-type", b":exception-t")
    broken = b"".join(map(aws_events.chunk, EVENTS[:3])) + failed[:-9]
    with ModelServer([raw(broken, aws_events.CONTENT_TYPE)]) as server:
        client = bedrock(server, half)
        stream = await half.settle(client.messages.create(**asking(stream=True)))
        async for _ in half.each(stream):
            pass
        await half.close(client)
    assert said(instrumented.span) == "Bl"
    assert (instrumented.span.attributes or {})[names.INCOMPLETE] == "cut"


def test_stream_intercepts_refuse_a_stream_that_they_cannot_read(instrumented: Capture) -> None:
    hide = spanrelay.stream_intercept(hold_back=10)(lambda call, text: text)
    with ModelServer(of_cloud) as server, spanrelay.use(hide):
        client = bedrock(server, Half(asynchronous=False))
        with pytest.raises(spanrelay.MiddlewareError, match="AWS frames"):
            client.messages.create(**asking(stream=True))
        client.close()


# --- errors -------------------------------------------------------------------------------------------------


@HALVES
async def test_an_error_in_a_stream_that_began_well_is_the_sdks_own_and_recorded(
    half: Half, instrumented: Capture
) -> None:
    overloaded = {"type": "overloaded_error", "message": "Overloaded"}
    with ModelServer([reply("Bl", in_stream_error=overloaded)]) as server:
        client = client_of(server, half)
        stream = await half.settle(client.messages.create(**asking(stream=True)))
        with pytest.raises(anthropic.APIStatusError) as caught:
            async for _ in half.each(stream):
                pass
        await half.close(client)
    kind, attributes = type(caught.value), dict(instrumented.span.attributes or {})
    assert attributes[names.ERROR_TYPE] == f"{kind.__module__}.{kind.__qualname__}"
    assert instrumented.span.status.status_code is StatusCode.ERROR
    assert attributes[names.INCOMPLETE] == "error"
    assert said(instrumented.span) == "Bl"


def test_an_error_body_keeps_its_type_and_its_message(instrumented: Capture) -> None:
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}, "request_id": "req_1"}
    limited = pytest.raises(anthropic.RateLimitError)
    with ModelServer([error(429, body, {"retry-after": "1"})]) as server, client_of(server) as client, limited:
        client.messages.create(**asking())
    attributes = dict(instrumented.span.attributes or {})
    assert attributes[names.ERROR_TYPE] == "anthropic.RateLimitError"
    assert attributes[names.HTTP_STATUS_CODE] == 429


@pytest.mark.parametrize(
    "body",
    [
        {**WHOLE, "usage": None},
        {**WHOLE, "content": None, "stop_reason": None},
        {**WHOLE, "content": [{"type": "tool_use", "id": None, "name": "ring", "input": "not json"}]},
        {**WHOLE, "content": [{"type": "of_the_future", "x": [1]}, 7, None]},
    ],
    ids=["no usage", "no content", "arguments that are no object", "unknown blocks"],
)
def test_an_odd_answer_passes_and_is_recorded(body: dict[str, Any], instrumented: Capture) -> None:
    with ModelServer([raw(json.dumps(body).encode())]) as server, client_of(server) as client:
        assert client.messages.with_raw_response.create(**asking()).http_response.json() == body
    assert (instrumented.span.attributes or {})[names.RESPONSE_ID] == "msg_1"


# --- policy -------------------------------------------------------------------------------------------------

WIKI: Any = {"type": "url", "name": "wiki", "url": "https://wiki"}
OFFERS: dict[str, dict[str, Any]] = {
    "tool": {"tools": [RING]},
    "provider's tool": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    "MCP server": {"mcp_servers": [WIKI]},
    "tool of an MCP server": {"mcp_servers": [{**WIKI, "tool_configuration": {"allowed_tools": ["ring"]}}]},
    "choice": {"tool_choice": {"type": "tool", "name": "ring"}, "tools": [{**RING, "name": "other"}]},
}


@HALVES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("offers", OFFERS.values(), ids=OFFERS)
async def test_a_request_that_offers_a_denied_tool_is_refused_before_it_is_sent(
    offers: dict[str, Any], stream: bool, half: Half, server: ModelServer, instrumented: Capture
) -> None:
    client = client_of(server, half)
    denying = policy(tools=Tools(deny=["ring", "web_search", "wiki"], offered="refuse"))
    with denying, pytest.raises(spanrelay.GuardrailRejected, match="denied"):
        await half.settle(client.beta.messages.create(**asking(**offers), stream=stream))
    await half.close(client)
    assert server.requests == []


@HALVES
async def test_a_denied_model_is_refused_wherever_a_request_names_it(
    half: Half, server: ModelServer, instrumented: Capture
) -> None:
    client = client_of(server, half)
    adviser = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5"}
    for more in ({"model": "claude-opus-5"}, {"fallbacks": [{"model": "claude-opus-5"}]}, {"tools": [adviser]}):
        denying = policy(models=Names(deny=["claude-opus-*"]))
        with denying, pytest.raises(spanrelay.GuardrailRejected, match="claude-opus-5"):
            await half.settle(client.beta.messages.create(**asking(**more)))
    await half.close(client)
    assert server.requests == []


RINGS = {"name": "ring", "enabled": True}
ADVISER = {"type": "multiagent_advisor", "model": "claude-opus-5"}
AGENTS: dict[str, dict[str, Any]] = {
    "a model": {"model": "claude-opus-5"},
    "a model by an object": {"model": {"id": "claude-opus-5", "speed": "fast"}},
    "an adviser's model": {"multiagent": {"type": "multiagent_20261001", "advisor": ADVISER}},
    "a subordinate's model": {"multiagent": {"type": "coordinator", "agents": [{"model": {"id": "claude-opus-5"}}]}},
    **{
        f"a tool of {kind}": {
            "tools": [{"type": kind, **more, "default_config": {"enabled": False}, "configs": [RINGS]}]
        }
        for kind, more in (("mcp_toolset", {"mcp_server_name": "crm"}), ("agent_toolset_20260401", {}))
    },
    "tools of any name": {"tools": [{"type": "agent_toolset_20260401"}]},
}


@HALVES
@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
async def test_an_agent_of_a_denied_model_or_tool_is_not_made(
    agent: dict[str, Any], half: Half, server: ModelServer, instrumented: Capture
) -> None:
    client = client_of(server, half)
    denying = policy(models=Names(deny=["claude-opus-*"]), tools=Tools(deny=["ring"]))
    with denying, pytest.raises(spanrelay.GuardrailRejected, match=r"claude-opus-5|ring|agent_toolset_20260401"):
        body = {"model": "claude-haiku-5", "name": "a", **agent}
        await half.settle(client.post("/v1/agents", body=body, cast_to=object))
    await half.close(client)
    assert server.requests == []


@HALVES
async def test_a_model_that_an_object_names_is_known_by_its_id(half: Half, instrumented: Capture) -> None:
    with ModelServer([raw(b"{}")]) as server, policy(models=Names(allow=["claude-haiku-*"])):
        client = client_of(server, half)
        body = {"model": {"id": "claude-haiku-5"}, "name": "a"}
        await half.settle(client.post("/v1/agents", body=body, cast_to=object))
        await half.close(client)
        assert [request.body for request in server.requests] == [body]
    [span] = instrumented.of("LLM")
    assert (span.attributes or {})["gen_ai.request.model"] == "claude-haiku-5"


@HALVES
async def test_parameters_of_a_file_are_set_in_each_request_of_a_batch_by_its_model(
    half: Half, instrumented: Capture
) -> None:
    with ModelServer([raw(b"{}")]) as server:
        client = client_of(server, half)
        asked = {"max_tokens": 900, "temperature": 1.0, "messages": [{"role": "user", "content": "hi"}]}
        models = ("claude-haiku-5", "claude-opus-5")
        requests: Any = [{"custom_id": model, "params": {"model": model, **asked}} for model in models]
        with policy(parameters={"*-haiku-*": Parameters(max_tokens=5, stop_sequences=["."])}):
            await half.settle(client.messages.batches.create(requests=requests))
        await half.close(client)
    [request] = server.requests
    small, large = (each["params"] for each in request.body["requests"])
    assert small == {"model": "claude-haiku-5", **asked, "max_tokens": 5, "stop_sequences": ["."]}
    assert large == requests[1]["params"]
    assert requests[0]["params"] == {"model": "claude-haiku-5", **asked}


def test_parameters_of_a_file_are_set_in_what_is_sent(server: ModelServer, instrumented: Capture) -> None:
    with policy(parameters={"*": Parameters(max_tokens=5, temperature=0.1)}), client_of(server) as client:
        client.messages.create(**asking(tools=[RING]))
    sent = server.requests[0].body
    assert (sent["max_tokens"], sent["temperature"], sent["tools"]) == (5, 0.1, [RING])


@HALVES
async def test_stream_intercepts_change_the_text_that_arrives(half: Half, instrumented: Capture) -> None:
    hide = spanrelay.stream_intercept(hold_back=10)(lambda call, text: text.replace("secret", "[hidden]"))
    answer = reply("the secret tide", reasoning="a secret thought", tool_calls=[tool_call("ring", what="secret")])
    with ModelServer([answer]) as server, spanrelay.use(hide):
        client = client_of(server, half)
        async with half.entered(client.messages.stream(**asking())) as stream:
            final = await half.settle(stream.get_final_message())
        await half.close(client)
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
    assert (final.content[0].thinking, final.content[1].text) == ("a [hidden] thought", "the [hidden] tide")
    assert final.content[2].input == {"what": "secret"}
    assert said(instrumented.span) == "the [hidden] tide"


# --- the SDK's own spans --------------------------------------------------------------------------------------


@pytest.fixture
def provider() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter


def of_both(server: ModelServer, provider: TracerProvider, **settings: Any) -> None:
    """Call within a span, at a client whose own spans go to the same provider."""
    given: dict[str, Any] = {"trajectories": "off", "metrics": False, "quiet": True, **settings}
    runtime = spanrelay.activate(spanrelay.Settings(**given), tracer_provider=provider, instrument=False)
    assert runtime is not None
    AnthropicInstrumentor().instrument()
    try:
        client = client_of(server, open_telemetry={"tracer_provider": provider})
        with client, provider.get_tracer("mine").start_as_current_span("work"):
            client.messages.create(**asking())
            client.models.list()
    finally:
        AnthropicInstrumentor().uninstrument()
        runtime.shutdown()


def named(spans: tuple[ReadableSpan, ...], name: str) -> ReadableSpan:
    [found] = [span for span in spans if span.name == name]
    return found


def test_the_sdks_own_span_of_a_call_stands_aside_and_what_it_tells_the_server_stays(
    server: ModelServer, provider: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    of_both(server, provider[0])
    spans = provider[1].get_finished_spans()
    assert {span.name for span in spans} == {"work", f"chat {MODEL}", "anthropic.models.list"}
    ours, work = named(spans, f"chat {MODEL}").context, named(spans, "work").context
    assert ours is not None and work is not None
    told = server.requests[0].headers["traceparent"].split("-")
    assert told[1:3] == [f"{work.trace_id:032x}", f"{ours.span_id:016x}"]


def test_the_sdks_own_span_stays_where_that_was_asked_for(
    server: ModelServer, provider: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    of_both(server, provider[0], foreign_spans="keep")
    theirs = named(provider[1].get_finished_spans(), "anthropic.messages.create")
    ours = named(provider[1].get_finished_spans(), f"chat {MODEL}")
    assert ours.parent is not None and theirs.context is not None
    assert ours.parent.span_id == theirs.context.span_id


# --- the SDK's own middleware -----------------------------------------------------------------------------------


def test_a_call_through_the_sdks_middleware_is_one_span(server: ModelServer, instrumented: Capture) -> None:
    seen: list[str] = []

    def look(request: Any, call_next: Any) -> Any:
        response = call_next(request)
        seen.append(response.parse().content[0].text)
        return response

    with client_of(server, middleware=[look]) as client:
        assert client.messages.create(**asking()).content[0].text == "Blue."
        text = "".join(
            event.delta.text
            for event in client.with_options(middleware=[]).messages.create(**asking(stream=True))
            if event.type == "content_block_delta"
        )
    assert (seen, text) == (["Blue."], "Blue.")
    assert [said(span) for span in instrumented.spans] == ["Blue.", "Blue."]


def test_a_client_over_an_http_client_of_the_application_is_recorded(
    server: ModelServer, instrumented: Capture
) -> None:
    with httpx2.Client(headers={"x-mine": "1"}) as http:
        client_of(server, http_client=http).messages.create(**asking())
    assert server.requests[0].headers["x-mine"] == "1"
    assert said(instrumented.span) == "Blue."
