"""What only these clients do: models in URLs, providers behind one client, tasks that are no chat."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient, close_session, constants
from huggingface_hub.hf_api import InferenceProviderMapping
from huggingface_hub.inference._providers import PROVIDERS, _common, hf_inference
from opentelemetry.trace import StatusCode

from spanrelay import guardrail, request_intercept, use
from spanrelay.errors import GuardrailRejected, MiddlewareError
from spanrelay.instrumentation.patching import Patch
from spanrelay.plugins.policy.names import Judge
from spanrelay.plugins.policy.settings import Names
from spanrelay.semconv import names
from spanrelay.tracing import Tracing
from spanrelay_huggingface import HuggingFaceInstrumentor
from spanrelay_testkit.capture import Capture, at_work, said
from spanrelay_testkit.exchange import Answer, Request, error, raw, reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

HALVES = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])
MODEL = "acme/house-model"
PLACE = "acme-of-the-provider"
"""What the provider calls it."""


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    with at_work(capture, HuggingFaceInstrumentor, log=caplog):
        yield capture


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What the Hub would say of each model, without asking it."""

    def known(helper: Any, model: str) -> InferenceProviderMapping:
        return InferenceProviderMapping(
            provider=helper.provider, hf_model_id=model, providerId=PLACE, status="live", task=helper.task
        )

    monkeypatch.setattr(_common.TaskProviderHelper, "_prepare_mapping_info", known)
    monkeypatch.setattr(hf_inference, "_check_supported_task", lambda model, task: None)
    return monkeypatch


@contextlib.asynccontextmanager
async def talking(
    half: Half, script: Any, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> AsyncGenerator[tuple[ModelServer, Any]]:
    kind: Any = AsyncInferenceClient if half.asynchronous else InferenceClient
    with ModelServer(script) as server:
        monkeypatch.setattr(constants, "INFERENCE_PROXY_TEMPLATE", f"{server.address}/{{provider}}")
        for helper in PROVIDERS["hf-inference"].values():
            monkeypatch.setattr(helper, "base_url", f"{server.address}/hf-inference")
        made = {name: value.format(address=server.address) for name, value in options.items()}
        async with half.entered(kind(api_key="hf_none", **made)) as client:
            yield server, client
    close_session()


def attributes_of(capture: Capture) -> dict[str, Any]:
    return dict(capture.span.attributes or {})


# --- models, by whatever names them ------------------------------------------------------------------------


@HALVES
async def test_a_model_is_recorded_as_its_provider_knows_it(
    half: Half, instrumented: Capture, at_home: pytest.MonkeyPatch
) -> None:
    async with talking(half, [reply("Blue.")], at_home, provider="scaleway") as (server, client):
        await half.settle(client.chat_completion([{"role": "user", "content": "hi"}], model=MODEL))
    [request] = server.requests
    assert (request.path, request.body["model"]) == ("/scaleway/v1/chat/completions", PLACE)
    assert attributes_of(instrumented)[names.REQUEST_MODEL] == PLACE
    assert attributes_of(instrumented)[names.PROVIDER] == "hugging_face"
    assert said(instrumented.span) == "Blue."


@HALVES
async def test_a_model_that_the_url_names_is_judged_beside_that_of_the_body(
    half: Half, instrumented: Capture, at_home: pytest.MonkeyPatch
) -> None:
    judged = Judge("model", Names(deny=["secret-*"])).model_refusal
    options = {"provider": "hf-inference", "model": "secret-1"}
    async with talking(half, [reply("Blue.")], at_home, **options) as (server, client):
        with use(guardrail(name="models")(judged)), pytest.raises(GuardrailRejected, match="'secret-1' is denied"):
            await half.settle(client.chat_completion([{"role": "user", "content": "hi"}], model="other"))
        assert server.requests == []
        await half.settle(client.chat_completion([{"role": "user", "content": "hi"}], model="other"))
    [request] = server.requests
    assert (request.path, request.body["model"]) == (
        "/hf-inference/models/secret-1/v1/chat/completions",
        "other",
    )


@HALVES
async def test_policy_puts_no_other_model_where_the_url_names_one(
    half: Half, instrumented: Capture, at_home: pytest.MonkeyPatch
) -> None:
    @request_intercept(name="cheaper")
    def cheaper(call: Any) -> None:
        call.request.model = "small"

    options = {"provider": "hf-inference", "model": MODEL}
    async with talking(half, [reply("Blue.")], at_home, **options) as (server, client):
        with use(cheaper), pytest.raises(MiddlewareError, match=f"may not change the model '{MODEL}'"):
            await half.settle(client.chat_completion([{"role": "user", "content": "hi"}]))
    assert server.requests == []


@HALVES
async def test_an_endpoint_that_is_asked_for_no_model_is_judged_by_its_address(
    half: Half, instrumented: Capture, at_home: pytest.MonkeyPatch
) -> None:
    def allowing(pattern: str) -> Any:
        return use(guardrail(name="models")(Judge("model", Names(allow=[pattern])).model_refusal))

    answer = raw(b'[{"summary_text": "Short."}]')
    async with talking(half, [answer], at_home, model="{address}/here") as (server, client):
        with allowing("acme/*"), pytest.raises(GuardrailRejected, match="/here' is not among those allowed"):
            await half.settle(client.summarization("A long text."))
        assert server.requests == []
        with allowing("http://127.0.0.1:*/here"):
            summary = await half.settle(client.summarization("A long text."))
    assert summary.summary_text == "Short."
    [_, sent] = instrumented.of("LLM")
    assert names.REQUEST_MODEL not in (sent.attributes or {})


# --- tasks -------------------------------------------------------------------------------------------------


@HALVES
async def test_a_text_of_a_provider_that_speaks_openais_api_is_read(
    half: Half, instrumented: Capture, at_home: pytest.MonkeyPatch
) -> None:
    async with talking(half, [reply("stars.")], at_home, provider="together") as (server, client):
        text = await half.settle(client.text_generation("I see", model=MODEL))
    [request] = server.requests
    assert (text, request.path) == ("stars.", "/together/v1/completions")
    assert said(instrumented.span) == "stars."


@HALVES
async def test_embeddings_of_a_provider_are_one_span_of_their_own_kind(
    half: Half, instrumented: Capture, at_home: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numpy")
    async with talking(half, lambda request: reply("ok"), at_home, provider="scaleway") as (server, client):
        await half.settle(client.feature_extraction("hello", model=MODEL))
    assert [request.path for request in server.requests] == ["/scaleway/v1/embeddings"]
    assert attributes_of(instrumented)[names.OI_KIND] == "EMBEDDING"


TOKENS = b"".join(
    b'data:{"token":{"id":1,"text":"%b","logprob":0,"special":false},"generated_text":null}\n\n' % text
    for text in (b"so ", b"it ", b"goes")
)


@HALVES
async def test_a_text_that_an_endpoint_generates_is_a_plain_call_of_its_model(
    half: Half, instrumented: Capture, at_home: pytest.MonkeyPatch
) -> None:
    def script(request: Request) -> Answer:
        return raw(TOKENS, "text/event-stream") if request.streamed else raw(b'[{"generated_text": "so it goes"}]')

    async with talking(half, script, at_home, provider="hf-inference", model=MODEL) as (server, client):
        whole = await half.settle(client.text_generation("And", max_new_tokens=5))
        stream = await half.settle(client.text_generation("And", max_new_tokens=5, stream=True))
        assert "".join([token async for token in half.each(stream)]) == whole == "so it goes"
    assert {request.path for request in server.requests} == {f"/hf-inference/models/{MODEL}"}
    assert all("model" not in request.body for request in server.requests)
    for span in instrumented.spans:
        assert (span.attributes or {})[names.REQUEST_MODEL] == MODEL
        assert span.status.status_code is StatusCode.UNSET


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@HALVES
async def test_a_picture_is_judged_by_its_model_and_sent_as_it_is(
    half: Half, instrumented: Capture, at_home: pytest.MonkeyPatch
) -> None:
    judged = Judge("model", Names(deny=["acme/*"])).model_refusal
    answer = raw(b'[{"label": "cat", "score": 0.9}]')
    async with talking(half, [answer], at_home, provider="hf-inference") as (server, client):
        with use(guardrail(name="models")(judged)), pytest.raises(GuardrailRejected):
            await half.settle(client.image_classification(b"\x89PNG\x00\xff", model=MODEL))
        found = await half.settle(client.image_classification(b"\x89PNG\x00\xff", model="seen/model"))
    assert [each.label for each in found] == ["cat"]
    [request] = server.requests
    assert request.raw == b"\x89PNG\x00\xff"
    [refused, sent] = instrumented.of("LLM")
    assert refused.status.status_code is StatusCode.ERROR
    assert (sent.attributes or {})[names.REQUEST_MODEL] == "seen/model"


# --- faults ------------------------------------------------------------------------------------------------


@HALVES
async def test_an_error_within_a_stream_is_the_sdks_own_and_on_the_span(
    half: Half, instrumented: Capture, at_home: pytest.MonkeyPatch
) -> None:
    frames = b'data: {"error": "overloaded", "error_type": "overloaded"}\n\n'
    async with talking(half, [raw(frames, "text/event-stream")], at_home, base_url="{address}/v1") as (_, client):
        stream = await half.settle(client.chat_completion([{"role": "user", "content": "hi"}], stream=True))
        with pytest.raises(Exception, match="overloaded") as caught:
            await half.read_on(stream)
    kind = type(caught.value)
    assert kind.__module__ == "huggingface_hub.errors"
    assert attributes_of(instrumented)[names.ERROR_TYPE] == f"{kind.__module__}.{kind.__qualname__}"


@HALVES
@pytest.mark.parametrize("status", [401, 404, 422, 500, 504])
async def test_a_refusal_is_the_sdks_own_error_with_its_status(
    half: Half, status: int, instrumented: Capture, at_home: pytest.MonkeyPatch
) -> None:
    async with talking(half, [error(status)], at_home, base_url="{address}/v1") as (_, client):
        with pytest.raises(Exception, match=str(status)) as caught:
            await half.settle(client.chat_completion([{"role": "user", "content": "hi"}]))
    assert type(caught.value).__module__ == "huggingface_hub.errors"
    assert instrumented.record(instrumented.span).error.status_code == status  # type: ignore[union-attr]


# --- patch points ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "patch", HuggingFaceInstrumentor().patches(Tracing("spanrelay_huggingface")), ids=lambda patch: patch.attribute
)
def test_each_place_is_there_and_takes_what_its_wrapper_reads(patch: Patch) -> None:
    found: Any = importlib.import_module(patch.module)
    for name in patch.attribute.split("."):
        found = getattr(found, name)
    first = list(inspect.signature(found).parameters)
    assert first[:2] == ["self", "request_parameters"] or first[0] in ("lines", "output_lines")
