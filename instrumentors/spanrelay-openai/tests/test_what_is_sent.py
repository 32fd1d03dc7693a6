"""Policy judges what is sent, where it is sent: every route, every spelling, every place that names a model."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai._base_client import make_request_options
from pydantic import BaseModel, Field

import spanrelay
from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, use
from spanrelay._guard import losses
from spanrelay.errors import MiddlewareError
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy import PolicyConfig, PolicyPlugin
from spanrelay.plugins.policy.names import Judge
from spanrelay.plugins.policy.settings import Names, Tools
from spanrelay.semconv import names
from spanrelay_openai import OpenAIInstrumentor, sockets
from spanrelay_testkit.capture import Capture, asked
from spanrelay_testkit.exchange import raw, reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

Ask = Callable[[Any], Any]
SYNC, ASYNC = Half(asynchronous=False), Half(asynchronous=True)
QUESTION: Any = [{"role": "user", "content": "hi"}]
SECRET = "secret-1"
BODY: dict[str, Any] = {"model": SECRET, "messages": QUESTION}
BYTES = json.dumps(BODY).encode()
FORM = {"headers": {"Content-Type": "multipart/form-data"}}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of routes and arguments that the SDK phases out


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(lambda request: raw(b'{"id": "1", "usage": {"input_tokens": 4, "output_tokens": 2}}')) as server:
        yield server


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    yield capture
    instrumentor.uninstrument()


def models(**lists: Any) -> Any:
    """The guardrail of the plugin `policy` for names of models."""
    return guardrail(name="models", kinds=["llm", "embedder"])(Judge("model", Names(**lists)).model_refusal)


def post(url: str = "/chat/completions", **options: Any) -> Ask:
    return lambda client: client.post(url, cast_to=object, **options)


def batch(file: Any, purpose: Any = "batch") -> Ask:
    return lambda client: client.files.create(file=file, purpose=purpose)


LINES = b'{"custom_id": "1", "body": {"model": "ok"}}\n\n{"custom_id": "2", "body": {"model": "secret-1"}}\n'


def _written(data: bytes) -> Path:
    with tempfile.NamedTemporaryFile(suffix=".jsonl", delete=False) as file:
        file.write(data)
    return Path(file.name)


class Aliased(BaseModel):
    """A body whose fields are called otherwise on the wire."""

    which: str = Field(alias="model")


FORMS: dict[str, Ask] = {
    "content of bytes": post(content=BYTES),
    "content of text": post(content=BYTES.decode()),
    "content with a byte order mark": post(content=b"\xef\xbb\xbf" + BYTES),
    "content in UTF-16": post(content=BYTES.decode().encode("utf-16")),
    "a body of bytes": post(body=BYTES),
    "a body of a model": post(body=Aliased(model=SECRET)),
    "only an extra body": post(options=make_request_options(extra_body=BODY)),
    "an extra body over the body": post(
        body={"model": "ok", "messages": []}, options=make_request_options(extra_body={"model": SECRET})
    ),
    **{
        url: post(url, body=BODY)
        for url in (
            "/chat/completions#x",
            "/chat/%63ompletions",
            "/chat/%2563ompletions",
            "/chat/completions/x/..",
            "/chat/./completions",
            "/chat/completions/",
            "/chat/completions;v=1",
            "/Chat/Completions",
            "/chat/completions?a=1",
            "//chat/completions",
            "chat/completions",
            "/somewhere/else",
        )
    },
    "a base URL that ends in the route": lambda client: post("/completions", body=BODY)(
        client.with_options(base_url=f"{client.base_url}chat")
    ),
    "another method's case": lambda client: client.request(
        cast_to=object, options=openai._models.FinalRequestOptions.construct(method="POST", url="/x", json_data=BODY)
    ),
    "a query": lambda client: client.chat.completions.create(
        model="ok", messages=QUESTION, extra_query={"model": SECRET}
    ),
    "a query in the URL": post("/anything?model=secret-1", body={"a": 1}),
    "a query of the client": lambda client: post(body={"model": "ok"})(
        client.with_options(default_query={"model": SECRET})
    ),
    "a deployment in the URL": post("/openai/deployments/secret-1/chat/completions", body={"model": "ok"}),
    "a deployment in the base URL": lambda client: post(body={"model": "ok"})(
        client.with_options(base_url=f"{client.base_url}deployments/secret-1")
    ),
    "responses.compact": lambda client: client.responses.compact(model=SECRET, input="hi"),
    "responses.input_tokens.count": lambda client: client.responses.input_tokens.count(model=SECRET, input="hi"),
    "images.generate": lambda client: client.images.generate(model=SECRET, prompt="hi"),
    "images.edit": lambda client: client.images.edit(model=SECRET, prompt="hi", image=b"abc"),
    "audio.speech": lambda client: client.audio.speech.create(model=SECRET, input="hi", voice="alloy"),
    "audio.transcriptions": lambda client: client.audio.transcriptions.create(model=SECRET, file=b"abc"),
    "audio.translations": lambda client: client.audio.translations.create(model=SECRET, file=b"abc"),
    "moderations": lambda client: client.moderations.create(model=SECRET, input="hi"),
    "videos": lambda client: client.videos.create(model=SECRET, prompt="hi"),
    "beta.threads.runs": lambda client: client.beta.threads.runs.create("t", assistant_id="a", model=SECRET),
    "a session": lambda client: client.realtime.client_secrets.create(session={"type": "realtime", "model": SECRET}),
    "what a session hears by": lambda client: client.realtime.client_secrets.create(
        session={"type": "realtime", "model": "ok", "audio": {"input": {"transcription": {"model": SECRET}}}}
    ),
    "what an accepted call hears by": lambda client: client.realtime.calls.accept(
        "c", type="realtime", model="ok", audio={"input": {"transcription": {"model": SECRET}}}
    ),
    "a session in a form": lambda client: client.realtime.calls.create(
        sdp="v=0", session={"type": "realtime", "model": SECRET}
    ),
    "an agent of a session": lambda client: client.beta.agents.sessions.create(
        agent={"model": SECRET}, environment={"type": "hosted"}, input=[]
    ),
    "an agent that is woken": lambda client: client.beta.agents.automations.update(
        "a", target={"type": "new_session", "agent": {"model": SECRET}}
    ),
    "the lines of a batch": batch(LINES),
    "the lines of a batch in a file": lambda client: batch(io.BytesIO(LINES))(client),
    "the lines of a batch at a path": lambda client: batch(_written(LINES))(client),
    "the lines of a batch with a name": batch(("a.jsonl", LINES, "application/jsonl")),
    "who draws an image": lambda client: client.images.generate(model="ok", prompt="hi", svg={"model": SECRET}),
    "a tool of an item": lambda client: client.conversations.create(
        items=[{"type": "additional_tools", "tools": [{"type": "image_generation", "model": SECRET}]}]
    ),
}


def client_of(half: Half, server: ModelServer) -> Any:
    kind: Any = openai.AsyncOpenAI if half.asynchronous else openai.OpenAI
    return kind(base_url=server.url, api_key="none", max_retries=0)


@pytest.mark.parametrize("half", [SYNC, ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize("ask", FORMS.values(), ids=FORMS)
async def test_a_denied_model_is_not_asked_in_any_form(
    half: Half, ask: Ask, server: ModelServer, instrumented: Capture
) -> None:
    client = client_of(half, server)
    with use(models(deny=["secret-*"])), pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
        await half.settle(ask(client))
    await half.close(client)
    assert server.requests == []
    assert [span.name for span in instrumented.spans if span.attributes and names.PROVIDER in span.attributes] != []


# --- requests that offer tools and whose model the provider keeps ---

TOOL: Any = {"type": "function", "name": "delete_x", "parameters": {}}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "delete_x"}}
SESSION: Any = {"type": "realtime", "tools": [TOOL], "tool_choice": {"type": "function", "name": "delete_x"}}
ITEMS: Any = [{"type": "additional_tools", "role": "developer", "tools": [TOOL]}, {"type": "message", "content": "hi"}]
OFFERS: dict[str, Ask] = {
    "beta.threads.runs": lambda client: client.beta.threads.runs.create("t", assistant_id="a", tools=[CHAT_TOOL]),
    "beta.threads.create_and_run": lambda client: client.beta.threads.create_and_run(
        assistant_id="a", tools=[CHAT_TOOL]
    ),
    "beta.assistants.update": lambda client: client.beta.assistants.update("a", tools=[CHAT_TOOL]),
    "beta.agents.update": lambda client: client.beta.agents.update("a", tools=[TOOL]),
    "beta.agents.sessions": lambda client: client.beta.agents.sessions.create(
        agent={"model": "ok", "tools": [TOOL]}, environment={"type": "hosted"}, input=[]
    ),
    "realtime.client_secrets": lambda client: client.realtime.client_secrets.create(session=SESSION),
    "realtime.calls": lambda client: client.realtime.calls.create(sdp="v=0", session=SESSION),
    "realtime.calls.accept": lambda client: client.realtime.calls.accept("c", **SESSION),
    "live": lambda client: client.live.create(
        transport={"type": "webrtc", "sdp": "v=0"},
        session={"model": "ok", "delegation": {"type": "responses", "responses": {"model": "ok", "tools": [TOOL]}}},
    ),
    "evals.runs": lambda client: client.evals.runs.create(
        "e", data_source={"type": "responses", "model": "ok", "sampling_params": {"tools": [TOOL]}}
    ),
    "responses.input_tokens": lambda client: client.responses.input_tokens.count(input="hi", tools=[TOOL]),
    "items of an input": lambda client: client.responses.input_tokens.count(model="ok", input=ITEMS),
    "items of a conversation": lambda client: client.conversations.create(items=ITEMS),
    "a route that nobody knows": post("/somewhere/else", body={"tools": [TOOL]}),
}


@contextmanager
def policy(**tables: Any) -> Generator[None]:
    context = Context(PolicyConfig(**tables), "policy")
    PolicyPlugin().register(context)
    try:
        yield
    finally:
        context.close()


@pytest.mark.parametrize("ask", OFFERS.values(), ids=OFFERS)
def test_a_denied_tool_is_not_offered_where_the_request_names_no_model(
    ask: Ask, server: ModelServer, instrumented: Capture
) -> None:
    client = client_of(SYNC, server)
    with policy(tools=Tools(deny=["delete_*"], offered="refuse")), pytest.raises(GuardrailRejected, match="'delete_x'"):
        ask(client)
    assert server.requests == []
    with policy(tools=Tools(deny=["delete_*"], offered="remove")):
        ask(client)
    client.close()
    [sent] = server.requests
    assert b"delete_x" not in sent.raw
    assert b"tool_choice" not in sent.raw


@pytest.mark.parametrize("ask", OFFERS.values(), ids=OFFERS)
def test_what_is_allowed_is_sent_where_the_model_is_named_deeper_or_kept_at_the_provider(
    ask: Ask, server: ModelServer, instrumented: Capture
) -> None:
    client = client_of(SYNC, server)
    ask(client)
    with policy(models=Names(allow=["ok"]), tools=Tools(allow=["delete_x"], offered="refuse")):
        ask(client)
    client.close()
    bare, judged = server.requests
    assert len(bare.raw) == len(judged.raw)


def test_the_session_of_a_form_is_rewritten_where_it_stands(server: ModelServer, instrumented: Capture) -> None:
    @request_intercept
    def other(call: Any) -> None:
        call.wire["session"]["model"] = "ok"

    client = client_of(SYNC, server)
    with use(other):
        client.realtime.calls.create(sdp="v=0", session={"type": "realtime", "model": SECRET})
    client.close()
    [sent] = server.requests
    assert b'{"type":"realtime","model":"ok"}' in sent.raw
    assert b"v=0" in sent.raw
    assert SECRET.encode() not in sent.raw


class Once(io.BytesIO):
    """A file that cannot go back."""

    def seekable(self) -> bool:
        return False


UNREADABLE: dict[str, Ask] = {
    "a form's field of JSON that is none": post(
        "/realtime/calls", files={"session": (None, b'{"model": "x"', "application/json")}, options=FORM
    ),
    "a form's field that is there twice": post(
        "/realtime/calls",
        files=[("session", (None, data, "application/json")) for data in (b"{}", b'{"model": "secret-1"}')],
        options=FORM,
    ),
    "a file": lambda client: post(content=io.BytesIO(BYTES))(client),
    "an iterator": lambda client: post(content=iter([BYTES]))(client),
    "a list": post(body=[BODY]),
    "bytes that are no JSON": post(content=b"model=secret-1"),
    "a member twice": post(content=b'{"model": "secret-1", "messages": [], "model": "ok"}'),
    "a form's field among its files": post(
        "/audio/transcriptions", files={"model": (None, "secret-1"), "file": b"abc"}, options=FORM
    ),
}


def test_the_file_of_a_batch_is_judged_as_it_is_sent_from_its_beginning(
    server: ModelServer, instrumented: Capture
) -> None:
    client, file = client_of(SYNC, server), io.BytesIO(LINES)
    file.seek(0, io.SEEK_END)
    with use(models(deny=["secret-*"])), pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
        batch(file)(client)
    assert file.tell() == len(LINES)
    with use(models(deny=["other-*"])):
        batch(file)(client)
    batch(LINES, "assistants")(client)
    client.close()
    assert [LINES in sent.raw for sent in server.requests] == [True, True]
    asking = [span for span in instrumented.spans if names.PROVIDER in (span.attributes or {})]
    assert len(asking) == 2  # what was judged and named models


def test_the_tools_that_the_lines_of_a_batch_offer_are_judged(server: ModelServer, instrumented: Capture) -> None:
    client, context = client_of(SYNC, server), Context(PolicyConfig(tools=Tools(deny=["web_*"])), "policy")
    PolicyPlugin().register(context)
    lines = b'{"body": {"model": "ok"}}\n{"body": {"model": "ok", "tools": [{"type": "web_search"}]}}\n'
    try:
        with pytest.raises(GuardrailRejected, match=r"'web_search' is denied .*a line of its file"):
            batch(lines)(client)
    finally:
        context.close()
    batch(lines)(client)
    client.close()
    assert len(server.requests) == 1


UNREADABLE_UPLOADS: dict[str, Ask] = {
    "a line  that is none": batch(LINES + b"{"),
    "a line  with a member twice": batch(b'{"body": {"model": "secret-1", "model": "ok"}}'),
    "a line  with a body twice": batch(b'{"body": {"model": "secret-1"}, "body": {}}'),
    "a batch that can be read once": lambda client: batch(Once(LINES))(client),
    "a batch in parts": lambda client: client.uploads.create(
        bytes=1, filename="a.jsonl", mime_type="text/plain", purpose="batch"
    ),
}


@pytest.mark.parametrize("ask", UNREADABLE_UPLOADS.values(), ids=UNREADABLE_UPLOADS)
def test_a_batch_that_cannot_be_read_is_refused_under_policy_and_no_call_without(
    ask: Ask, server: ModelServer, instrumented: Capture
) -> None:
    client = client_of(SYNC, server)
    with use(models(deny=["other-*"])), pytest.raises(MiddlewareError, match="cannot check"):
        ask(client)
    assert server.requests == []
    ask(client)
    client.close()
    assert len(server.requests) == len(instrumented.spans) == 1  # the span is of what was refused


@pytest.mark.parametrize("ask", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_refused_under_policy_and_sent_without(
    ask: Ask, server: ModelServer, instrumented: Capture
) -> None:
    client = client_of(SYNC, server)
    with use(guardrail(name="any")(lambda call: None)), pytest.raises(MiddlewareError, match="cannot check") as raised:
        ask(client)
    assert server.requests == []
    assert "pass" in str(raised.value)
    ask(client)
    client.close()
    assert len(server.requests) == 1
    assert len([span for span in instrumented.spans if span.name.startswith(("chat", "generate_content"))]) == 2


@pytest.mark.parametrize("ask", FORMS.values(), ids=FORMS)
def test_policy_that_changes_nothing_changes_no_byte_of_the_request(
    ask: Ask, server: ModelServer, capture: Capture
) -> None:
    instrumentor, client = OpenAIInstrumentor(), client_of(SYNC, server)
    ask(client)
    instrumentor.instrument(tracer_provider=capture.provider)

    @execution_intercept
    def look(call: Any) -> Any:
        assert call.request is not None
        yield call

    with use(look), use(request_intercept(name="read")(lambda call: repr(call.wire) and None)):
        ask(client)
    instrumentor.uninstrument()
    client.close()
    bare, ours = server.requests
    assert (bare.path, bare.query) == (ours.path, ours.query)
    if b"boundary" not in bare.raw[:200] and "multipart" not in str(bare.headers):
        assert bare.raw == ours.raw
    assert len(capture.spans) == 1


def test_a_body_of_bytes_is_recorded_and_rewritten_like_any_other(server: ModelServer, instrumented: Capture) -> None:
    @request_intercept
    def other(call: Any) -> None:
        call.request.model = "ok"

    client = client_of(SYNC, server)
    post(content=BYTES)(client)
    with use(other):
        post(content=BYTES)(client)
    client.close()
    assert [request.body["model"] for request in server.requests] == [SECRET, "ok"]
    assert [asked(span) for span in instrumented.spans] == ["hi", "hi"]


# --- Azure ---


def azure(server: ModelServer, **more: Any) -> Any:
    return openai.AzureOpenAI(
        azure_endpoint=server.address, api_version="preview", api_key="none", max_retries=0, **more
    )


@pytest.mark.parametrize(
    ("lists", "deployment", "asked_for", "sent"),
    [
        ({"deny": ["secret-*"]}, "secret-1", "ok", False),
        ({"deny": ["secret-*"]}, "ok", "secret-1", False),
        ({"deny": ["secret-*"]}, "ok", "fine", True),
        ({"allow": ["ok"]}, "ok", "gpt-5", True),
        ({"allow": ["ok"]}, "gpt-5", "ok", False),
        ({"allow": ["ok"]}, None, "ok", True),
        ({"allow": ["ok"]}, None, "gpt-5", False),
    ],
)
def test_on_azure_the_deployment_is_what_runs(
    lists: Any, deployment: str | None, asked_for: str, sent: bool, server: ModelServer, instrumented: Capture
) -> None:
    client = azure(server, azure_deployment=deployment) if deployment else azure(server)
    with use(models(**lists)):
        if sent:
            client.chat.completions.create(model=asked_for, messages=QUESTION)
        else:
            with pytest.raises(GuardrailRejected):
                client.chat.completions.create(model=asked_for, messages=QUESTION)
    client.close()
    assert len(server.requests) == sent


@pytest.mark.parametrize("model", ["secret-1", "ok"])
def test_the_deployment_that_azure_makes_of_the_body_is_judged_beside_what_an_extra_body_says(
    model: str, server: ModelServer, instrumented: Capture
) -> None:
    other = {"secret-1": "ok", "ok": "secret-1"}[model]
    with azure(server) as client, use(models(deny=["secret-*"])), pytest.raises(GuardrailRejected):
        client.chat.completions.create(model=model, messages=QUESTION, extra_body={"model": other})
    assert server.requests == []


def test_the_deployment_follows_the_model_that_policy_puts_there(server: ModelServer, instrumented: Capture) -> None:
    judged: list[Any] = []

    @request_intercept
    def other(call: Any) -> None:
        call.request.model = "ok"

    with azure(server) as client, use(other), use(guardrail(name="j")(lambda c: judged.append(c.deployment))):
        client.chat.completions.create(model="secret-1", messages=QUESTION)
    assert judged == ["ok"]
    assert server.requests[0].path == "/openai/deployments/ok/chat/completions"


def test_azures_images_without_a_model_are_judged_by_their_deployment(
    server: ModelServer, instrumented: Capture
) -> None:
    with azure(server, azure_deployment=SECRET) as client:
        with use(models(deny=["secret-*"])), pytest.raises(GuardrailRejected):
            client.images.generate(prompt="hi")
        with use(models(allow=["ok"])), pytest.raises(GuardrailRejected):
            client.images.generate(prompt="hi")
    assert server.requests == []


# --- what is recorded of a plain call ---


@pytest.mark.parametrize("half", [SYNC, ASYNC], ids=["sync", "async"])
async def test_a_plain_call_says_its_model_its_prompt_and_its_usage(
    half: Half, server: ModelServer, instrumented: Capture
) -> None:
    client = client_of(half, server)
    await half.settle(client.images.generate(model="gpt-image-1", prompt="a blue sky"))
    await half.close(client)
    attributes = instrumented.span.attributes or {}
    assert instrumented.span.name == "generate_content gpt-image-1"
    assert asked(instrumented.span) == "a blue sky"
    assert (attributes[names.OPERATION], attributes["gen_ai.usage.output_tokens"]) == ("generate_content", 2)


def test_of_sound_no_byte_is_kept(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)

    @execution_intercept
    def look(call: Any) -> Any:
        yield call
        kept.append((call.body, call.arrived))

    with ModelServer(lambda request: raw(b"\x00" * 1000, "audio/mpeg")) as server, use(look):
        client = client_of(SYNC, server)
        answer = client.audio.speech.create(model="tts-1", input="hello", voice="alloy")
        assert answer.content == b"\x00" * 1000
        with client.audio.speech.with_streaming_response.create(model="tts-1", input="x", voice="alloy") as stream:
            assert b"".join(stream.iter_bytes()) == b"\x00" * 1000
        client.close()
    instrumentor.uninstrument()
    assert kept == [(None, None)] * 2
    assert asked(capture.spans[0]) == "hello"


def test_a_plain_call_beneath_a_frameworks_does_not_take_its_span(server: ModelServer, instrumented: Capture) -> None:
    from spanrelay.codecs import openai_chat
    from spanrelay.pipeline.driver import run
    from spanrelay.pipeline.managed import ModelBoundary
    from spanrelay.pipeline.model import ModelCall
    from spanrelay.tracing import default_tracing

    client = client_of(SYNC, server)

    def moderated(wire: Any) -> Any:
        client.moderations.create(model="omni", input="hi")
        return client.chat.completions.create(model="m", messages=QUESTION).model_dump()

    boundary = ModelBoundary(moderated, stream=False)
    call = ModelCall(openai_chat, {"model": "m", "messages": QUESTION}, boundary, default_tracing(), provider="any")
    call.lends = True
    run(call)
    client.close()
    assert [span.name for span in instrumented.spans] == ["generate_content omni", "chat m"]


def test_a_compaction_is_a_call_of_its_model_and_says_what_was_made(instrumented: Capture) -> None:
    user = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    body = {
        "id": "resp_1",
        "object": "response.compaction",
        "created_at": 1,
        "output": [user, {"type": "compaction", "id": "cmp_1", "encrypted_content": "abc"}],
        "usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12},
    }
    with ModelServer([raw(json.dumps(body).encode())]) as server:
        client = client_of(SYNC, server)
        client.responses.compact(model="gpt-5", input=[user], instructions="be brief")
        client.close()
    attributes = instrumented.span.attributes or {}
    assert (instrumented.span.name, asked(instrumented.span)) == ("chat gpt-5", "hi")
    assert attributes["gen_ai.usage.input_tokens"] == 9
    assert "hi" not in str(attributes[names.OUTPUT_MESSAGES])
    assert "compaction" in str(attributes[names.OUTPUT_MESSAGES])


# --- the application is not touched ---


@pytest.mark.parametrize("half", [SYNC, ASYNC], ids=["sync", "async"])
async def test_the_time_that_a_streamed_response_took_is_there(half: Half, instrumented: Capture) -> None:
    with ModelServer(lambda request: reply("Blue.", gzip=True)) as server:
        client = client_of(half, server)
        create = client.chat.completions.with_streaming_response.create
        for stream in (False, True):
            async with half.entered(create(model="gpt-5", messages=QUESTION, stream=stream)) as response:
                await half.settle(response.read())
                assert response.elapsed.total_seconds() > 0
            assert response.http_response.stream._start > 0
        await half.close(client)


def test_a_policy_of_files_counts_a_compaction(server: ModelServer, instrumented: Capture) -> None:
    from spanrelay.plugins.policy.limits import Limits

    context = Context(PolicyConfig(process=Limits(max_calls=1)), "policy")
    PolicyPlugin().register(context)
    client = client_of(SYNC, server)
    with spanrelay.scope("s"):
        client.responses.compact(model="gpt-5", input="hi")
        with pytest.raises(GuardrailRejected, match="1 of the 1 model calls"):
            client.responses.compact(model="gpt-5", input="hi")
    context.close()
    client.close()
    assert len(server.requests) == 1


# --- connections ---


CONNECTIONS: dict[str, Ask] = {
    "realtime": lambda client: client.realtime.connect(model=SECRET),
    "a realtime query": lambda client: client.realtime.connect(model="ok", extra_query={"model": SECRET}),
    "only a realtime query": lambda client: client.realtime.connect(extra_query={"model": SECRET}),
    "a list in a realtime query": lambda client: client.realtime.connect(extra_query={"model": [SECRET]}),
    "a client's query": lambda client: client.with_options(default_query={"model": SECRET}).realtime.connect(),
    "beta.realtime": lambda client: client.beta.realtime.connect(model=SECRET),
    "realtime.translations": lambda client: client.realtime.translations.connect(model=SECRET),
}


@pytest.mark.parametrize("half", [SYNC, ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize("connect", CONNECTIONS.values(), ids=CONNECTIONS)
async def test_a_connection_for_a_denied_model_is_not_opened(
    half: Half, connect: Ask, server: ModelServer, instrumented: Capture
) -> None:
    client = client_of(half, server)
    assert connect(client) is not None
    with use(models(deny=["secret-*"])), pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
        connect(client)
    with use(models(deny=["other"])):
        assert type(connect(client)).__name__.endswith("ConnectionManager")
    await half.close(client)
    assert {span.name for span in instrumented.spans} == {"run_guardrail models"}


def test_a_connection_is_opened_for_the_model_that_policy_puts_there(
    server: ModelServer, instrumented: Capture
) -> None:
    @request_intercept
    def other(call: Any) -> None:
        call.request.model = "ok"

    client = client_of(SYNC, server)
    with use(other):
        manager = client.realtime.connect(model=SECRET)
        with pytest.raises(MiddlewareError, match="only the argument `model`"):
            client.realtime.connect(model=SECRET, extra_query={"model": SECRET})
    client.close()
    assert manager._RealtimeConnectionManager__model == "ok"


def test_that_a_connection_is_not_seen_is_said_once_under_policy(
    server: ModelServer, instrumented: Capture, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_told", set())
    client = client_of(SYNC, server)
    client.live.connect()
    assert caplog.records == []
    with use(models(deny=["secret-*"])):
        for _ in range(2):
            assert client.live.connect() is not None
    client.close()
    [record] = caplog.records
    assert record.getMessage().startswith("live.connect opens a WebSocket")
    assert losses.take() == {"kinds of connection that policy does not see into": 1}


# --- answers that policy gives ---


def test_an_answer_of_policys_that_says_no_status_is_complete_for_the_helper_of_streams(
    instrumented: Capture,
) -> None:
    @spanrelay.execution_intercept
    def brief(call: Any) -> Any:
        return {"output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]}
        yield

    client = openai.OpenAI(base_url="http://127.0.0.1:9", api_key="none", max_retries=0)
    with spanrelay.use(brief), client.responses.stream(model="m1", input="hi") as stream:
        assert stream.get_final_response().output_text == "hi"
    client.close()


def test_an_answer_of_policys_whose_error_is_null_is_a_stream_of_chunks(instrumented: Capture) -> None:
    @spanrelay.execution_intercept
    def nothing(call: Any) -> Any:
        return {"id": "c1", "error": None, "choices": []}
        yield

    client = openai.OpenAI(base_url="http://127.0.0.1:9", api_key="none", max_retries=0)
    with spanrelay.use(nothing):
        [chunk] = client.chat.completions.create(model="m1", messages=QUESTION, stream=True)
    client.close()
    assert chunk.object == "chat.completion.chunk"
