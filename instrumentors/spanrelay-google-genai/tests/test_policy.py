"""A policy file holds for the SDK, on the wire: models in paths, tools under each key, parameters in both spellings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.genai import errors

from spanrelay import GuardrailRejected, request_intercept, use
from spanrelay.config import PolicyFile
from spanrelay.errors import MiddlewareError
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.policy import PolicyPlugin
from spanrelay_google_genai import GoogleGenAIInstrumentor
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.model_server import ModelServer, reply

from .ways import MODEL, WAYS, client_of, vertex_client_of, whole

each_way = pytest.mark.parametrize("ask", WAYS, ids=lambda way: way.__name__)
pytestmark = [
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The generate_images method is deprecated"),
    pytest.mark.filterwarnings("ignore:The SDK's .* implementation is experimental"),
]


class Shelf:
    def take(self, name: str) -> Any:
        return PolicyPlugin(), []


@pytest.fixture
def policy(tmp_path: Path, capture: Capture) -> Iterator[Callable[[str], None]]:
    """Puts `[plugins.policy]` with the given lines in force."""
    activations: list[Activation] = []

    def put(text: str) -> None:
        path = tmp_path / "spanrelay.toml"
        path.write_text(f"[plugins.policy]\n{text}")
        activations.append(Activation([PolicyFile(str(path), "chosen")], Shelf()))  # type: ignore[arg-type]
        activations[0].start()

    with at_work(capture, GoogleGenAIInstrumentor):
        yield put
        for activation in activations:
            activation.close()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(lambda request: reply("ok")) as running:
        yield running


def declared(*names: str) -> dict[str, Any]:
    return {"function_declarations": [{"name": name, "description": "does it"} for name in names]}


@each_way
def test_a_denied_model_is_not_asked(ask: Any, server: ModelServer, policy: Any) -> None:
    policy('models.deny = ["gemini-3-*"]')
    with pytest.raises(GuardrailRejected, match="model 'gemini-3-flash' is denied"):
        ask(server.address, "hi")
    assert server.requests == []


@pytest.mark.parametrize(
    "model",
    ["gemini-3-flash", "models/gemini-3-flash", "gemini%2D3-flash", "GEMINI-3-flash", "models/%67emini-3-flash"],
)
def test_no_spelling_of_a_model_passes_a_list_by(model: str, server: ModelServer, policy: Any) -> None:
    policy('models.deny = ["gemini-3-*"]')
    with client_of(server.address) as client, pytest.raises(GuardrailRejected):
        client.models.generate_content(model=model, contents="hi")
    assert server.requests == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.models.count_tokens(model=MODEL, contents="hi"),
        lambda client: client.models.embed_content(model=MODEL, contents="hi"),
        lambda client: client.caches.create(model=MODEL, config={"contents": "hi"}),
        lambda client: client.batches.create(model=MODEL, src=[{"contents": "hi"}]),
        lambda client: client.file_search_stores.create(config={"embedding_model": MODEL}),
        lambda client: client.auth_tokens.create(config={"live_connect_constraints": {"model": MODEL}}),
        lambda client: client.models.generate_content(model=f"tunedModels/{MODEL}", contents="hi"),
    ],
    ids=["tokens", "embeddings", "cache", "batch", "store", "token of a live session", "tuned"],
)
def test_whatever_names_a_denied_model_is_not_sent(ask: Any, server: ModelServer, policy: Any) -> None:
    policy('models.deny = ["gemini-3-*"]')
    with client_of(server.address) as client, pytest.raises(GuardrailRejected):
        ask(client)
    assert server.requests == []


RANKED_BY_A_MODEL = {
    "retrieval": {"vertex_rag_store": {"rag_retrieval_config": {"ranking": {"llm_ranker": {"model_name": MODEL}}}}}
}


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.models.generate_content(model=MODEL, contents="hi"),
        lambda client: client.models.generate_content(model=f"google/{MODEL}", contents="hi"),
        lambda client: client.models.embed_content(model=MODEL, contents="hi"),
        lambda client: client.models.generate_images(model=MODEL, prompt="hi"),
        lambda client: client.models.generate_videos(model=MODEL, source={"prompt": "hi"}),
        lambda client: client.models.generate_content(
            model=f"projects/p/locations/global/endpoints/{MODEL}", contents="hi"
        ),
        lambda client: client.models.generate_content(
            model="gemini-2", contents="hi", config={"tools": [RANKED_BY_A_MODEL]}
        ),
        lambda client: client.tunings.tune(
            base_model="gemini-2",
            training_dataset={"gcs_uri": "gs://bucket/data"},
            config={"method": "DISTILLATION", "base_teacher_model": MODEL},
        ),
    ],
    ids=["content", "with its publisher", "embeddings", "images", "videos", "endpoint", "ranker", "teacher"],
)
def test_a_denied_model_is_not_asked_at_vertex_ai_either(ask: Any, server: ModelServer, policy: Any) -> None:
    policy('models.deny = ["gemini-3-*"]')
    with vertex_client_of(server.address) as client, pytest.raises(GuardrailRejected):
        ask(client)
    assert server.requests == []


def test_a_model_as_a_gateway_names_it_is_judged_and_recorded(
    server: ModelServer, capture: Capture, policy: Any
) -> None:
    policy('models.deny = ["acme/secret-*"]')
    with client_of(server.address) as client, pytest.raises(GuardrailRejected):
        client.models.generate_content(model="acme/secret-1", contents="hi")
    with client_of(server.address) as client, pytest.raises(errors.ClientError):  # this server is none
        client.models.generate_content(model="acme/other", contents="hi")
    assert [request.path.rpartition("/models/")[2] for request in server.requests] == ["acme/other:generateContent"]
    assert (capture.spans[-1].attributes or {})["gen_ai.request.model"] == "acme/other"


@pytest.mark.parametrize("mark", ["?x=", "#"])
@pytest.mark.parametrize("option", ["api_version", "base_url"])
def test_a_path_that_is_hidden_behind_the_address_is_refused_where_policy_is_in_force(
    option: str, mark: str, server: ModelServer, policy: Any
) -> None:
    policy('models.deny = ["gemini-3-*"]')
    hidden = f"v1beta/models/{MODEL}:generateContent{mark}"
    options = {option: hidden if option == "api_version" else f"{server.address}/{hidden}"}
    with client_of(server.address) as client, pytest.raises(MiddlewareError, match=option):
        client.models.generate_content(model="gemini-2", contents="hi", config={"http_options": options})
    assert server.requests == []


def test_a_model_that_a_router_is_told_to_take_is_judged_too(server: ModelServer, policy: Any) -> None:
    policy('models.deny = ["gemini-ultra"]')
    extra = {"generationConfig": {"routingConfig": {"manualMode": {"modelName": "gemini-ultra"}}}}
    with client_of(server.address, extra_body=extra) as client, pytest.raises(GuardrailRejected):
        client.models.generate_content(model=MODEL, contents="hi")
    assert server.requests == []


def test_a_model_that_the_body_names_beside_its_path_is_judged_too(server: ModelServer, policy: Any) -> None:
    policy('models.deny = ["gemini-ultra"]')
    extra = {"model": "models/gemini-ultra"}
    with client_of(server.address, extra_body=extra) as client, pytest.raises(GuardrailRejected):
        client.models.generate_content(model=MODEL, contents="hi")
    assert server.requests == []


@each_way
def test_a_parameter_is_what_the_file_says(ask: Any, server: ModelServer, policy: Any) -> None:
    policy('parameters."gemini-*" = { temperature = 0.25, max_tokens = 7 }')
    assert ask(server.address, "hi", temperature=1.0, top_p=0.5) == "ok"
    [request] = server.requests
    assert request.body["generationConfig"] == {"temperature": 0.25, "topP": 0.5, "maxOutputTokens": 7}
    assert "model" not in request.body and "stream" not in request.body


def test_a_parameter_is_set_in_each_request_of_a_batch(server: ModelServer, policy: Any) -> None:
    policy('parameters."gemini-*" = { temperature = 0.25, max_tokens = 7 }')
    asked: Any = [{"contents": "hi", "config": {"temperature": 1.0}}, {"contents": "ho"}]
    with client_of(server.address) as client, pytest.raises(errors.ClientError):  # this server keeps no batches
        client.batches.create(model=MODEL, src=asked)
    [request] = server.requests
    for item in request.body["batch"]["inputConfig"]["requests"]["requests"]:
        assert item["request"]["generationConfig"] == {"temperature": 0.25, "maxOutputTokens": 7}


def test_a_parameter_of_extra_body_does_not_come_back(server: ModelServer, policy: Any) -> None:
    policy('parameters."gemini-*" = { temperature = 0.25 }')
    with client_of(
        server.address, extra_body={"generation_config": {"temperature": 2.0}, "labels": {"a": "b"}}
    ) as client:
        client.models.generate_content(model=MODEL, contents="hi")
    [request] = server.requests
    config = request.body.get("generation_config") or request.body.get("generationConfig")
    assert (config, request.body["labels"]) == ({"temperature": 0.25}, {"a": "b"})


@each_way
def test_a_refused_tool_is_not_offered(ask: Any, server: ModelServer, policy: Any) -> None:
    policy('tools.deny = ["delete_*"]\ntools.offered = "refuse"')
    with pytest.raises(GuardrailRejected, match="delete_file"):
        ask(server.address, "hi", tools=[declared("get_file", "delete_file")])
    assert server.requests == []


@each_way
def test_a_refused_tool_is_taken_out_of_the_request(ask: Any, server: ModelServer, policy: Any) -> None:
    policy('tools.deny = ["delete_*"]\ntools.offered = "remove"')
    calling = {"mode": "ANY", "allowed_function_names": ["get_file", "delete_file"]}
    offered = [declared("get_file", "delete_file"), declared("delete_all")]
    ask(server.address, "hi", tools=offered, tool_config={"function_calling_config": calling})
    [request] = server.requests
    assert [[each["name"] for each in tool["functionDeclarations"]] for tool in request.body["tools"]] == [["get_file"]]
    assert request.body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["get_file"]}


def test_what_is_left_without_functions_says_nothing_of_calling_them(server: ModelServer, policy: Any) -> None:
    policy('tools.deny = ["delete_*"]\ntools.offered = "remove"')
    calling = {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["delete_file"]}}
    whole(server.address, "hi", tools=[declared("delete_file")], tool_config=calling)
    [request] = server.requests
    assert not {"tools", "toolConfig"} & request.body.keys()


@pytest.mark.parametrize("tool", ["google_search", "code_execution", "url_context"])
def test_a_tool_of_the_providers_is_refused_by_its_name(tool: str, server: ModelServer, policy: Any) -> None:
    policy(f'tools.deny = ["{tool}"]')
    with pytest.raises(GuardrailRejected, match=tool):
        whole(server.address, "hi", tools=[{tool: {}}])
    assert server.requests == []


def test_a_tool_that_extra_body_brings_is_seen(server: ModelServer, policy: Any) -> None:
    policy('tools.deny = ["delete_*"]\ntools.offered = "refuse"')
    extra = {"tools": [{"functionDeclarations": [{"name": "delete_file"}]}]}
    with client_of(server.address, extra_body=extra) as client, pytest.raises(GuardrailRejected):
        client.models.generate_content(model=MODEL, contents="hi")
    assert server.requests == []


def test_a_cache_whose_tools_nobody_sees_is_refused_where_some_are_denied(server: ModelServer, policy: Any) -> None:
    policy('tools.deny = ["delete_*"]')
    with pytest.raises(GuardrailRejected, match="which tools a cache offers"):
        whole(server.address, "hi", cached_content="cachedContents/1")
    assert server.requests == []


def test_a_cache_is_not_made_with_a_refused_tool(server: ModelServer, policy: Any) -> None:
    policy('tools.deny = ["delete_*"]\ntools.offered = "refuse"')
    with client_of(server.address) as client, pytest.raises(GuardrailRejected, match="delete_file"):
        client.caches.create(model=MODEL, config={"contents": "hi", "tools": [declared("delete_file")]})
    assert server.requests == []


@each_way
def test_another_model_is_another_path(ask: Any, server: ModelServer, capture: Capture) -> None:
    @request_intercept(kinds=["llm"])
    def cheaper(call: Any) -> None:
        call.request.model = "gemini-3-nano"

    with at_work(capture, GoogleGenAIInstrumentor), use(cheaper):
        assert ask(server.address, "hi") == "ok"
    [request] = server.requests
    assert "/models/gemini-3-nano:" in request.path
    assert "model" not in request.body
    assert capture.span.name == "generate_content gemini-3-nano"
