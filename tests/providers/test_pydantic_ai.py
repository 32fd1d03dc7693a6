"""Pydantic AI asks whatever provider through that one's SDK: one span for each call, and policy once, on the wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.providers.conversation import SCRIPT, WEATHER
from tests.providers.test_same_policy import FILE, told

from spanrelay import request_intercept
from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.model import ModelCall
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

pydantic_ai = pytest.importorskip("pydantic_ai", reason="another environment has it")

SUMMARY = "Cold in Oslo."
Make = Callable[[str, str], tuple[Any, Any]]


def _model(module: str, kind: str, provider: str, make: Callable[[str], dict[str, Any]]) -> Make:
    """Return what makes a model of a name that asks a server, and the client that it is given, if it is given one."""

    def made(name: str, address: str) -> tuple[Any, Any]:
        models, providers = (import_module(f"pydantic_ai.{part}.{module}") for part in ("models", "providers"))
        given = make(address)
        client = next((value for key, value in given.items() if key.endswith("_client")), None)
        return getattr(models, kind)(name, provider=getattr(providers, provider)(**given)), client

    return made


def _bedrock(address: str) -> dict[str, Any]:
    access = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "us-east-1"}
    return {"bedrock_client": import_module("boto3").client("bedrock-runtime", endpoint_url=address, **access)}


def _cohere(address: str) -> dict[str, Any]:
    return {"cohere_client": import_module("cohere").AsyncClientV2(api_key="none", base_url=address)}


def _hub(address: str) -> dict[str, Any]:
    client = import_module("huggingface_hub").AsyncInferenceClient(base_url=f"{address}/v1", api_key="none")
    return {"hf_client": client, "api_key": "none"}


def _mistral(address: str) -> dict[str, Any]:
    return {"mistral_client": import_module("mistralai.client").Mistral(api_key="none", server_url=address)}


def _plain(address: str) -> dict[str, Any]:
    return {"base_url": address, "api_key": "none"}


MODELS: dict[str, tuple[str, Make]] = {
    "claude-haiku-4-5": (
        "spanrelay_anthropic:AnthropicInstrumentor",
        _model("anthropic", "AnthropicModel", "AnthropicProvider", _plain),
    ),
    "us.amazon.nova-pro-v1:0": (
        "spanrelay_bedrock:BedrockInstrumentor",
        _model("bedrock", "BedrockConverseModel", "BedrockProvider", _bedrock),
    ),
    "command-a-03-2025": (
        "spanrelay_cohere:CohereInstrumentor",
        _model("cohere", "CohereModel", "CohereProvider", _cohere),
    ),
    "gemini-2.5-flash": (
        "spanrelay_google_genai:GoogleGenAIInstrumentor",
        _model("google", "GoogleModel", "GoogleProvider", _plain),
    ),
    "llama-3.3-70b-versatile": (
        "spanrelay_openai_compatible:GroqInstrumentor",
        _model("groq", "GroqModel", "GroqProvider", _plain),
    ),
    "meta-llama/Llama-3.3-70B-Instruct": (
        "spanrelay_huggingface:HuggingFaceInstrumentor",
        _model("huggingface", "HuggingFaceModel", "HuggingFaceProvider", _hub),
    ),
    "mistral-large-latest": (
        "spanrelay_mistral:MistralInstrumentor",
        _model("mistral", "MistralModel", "MistralProvider", _mistral),
    ),
}
"""By the name of a model: our class that records the SDK that asks it, and what makes it."""

each_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture
def instrumented(name: str, capture: Capture) -> Iterator[Capture]:
    from spanrelay_pydantic_ai import PydanticAIInstrumentor

    module, _, kind = MODELS[name][0].partition(":")
    with at_work(capture, PydanticAIInstrumentor, getattr(import_module(module), kind)):
        yield capture


@asynccontextmanager
async def agent(name: str, server: ModelServer, *, tools: bool = True) -> AsyncGenerator[Any]:
    model, client = MODELS[name][1](name, server.address)
    made = pydantic_ai.Agent(model, name="weather")
    if tools:

        @made.tool_plain
        def get_weather(city: str) -> str:
            return WEATHER.get(city, "unknown")

    async with model, AsyncExitStack() as stack:
        if hasattr(client, "__aenter__"):
            await stack.enter_async_context(client)
        elif client is not None:
            stack.callback(client.close)
        yield made


async def stream(made: Any, question: str, history: Any = None) -> str:
    async with made.run_stream(question, message_history=history) as stream:
        return await stream.get_output()


@each_model
async def test_a_run_is_one_tree_with_a_span_for_each_call_whatever_provider_is_asked(
    name: str, instrumented: Capture
) -> None:
    answers = iter([*SCRIPT[:2], reply(SUMMARY)])
    with ModelServer(lambda request: next(answers)) as server:
        async with agent(name, server) as made:
            run = await made.run("What is the weather in Oslo and in Atlantis?")
            assert await stream(made, "Sum it up.", run.all_messages()) == SUMMARY
        assert len(server.requests) == 3
    chat, tool = f"chat {name}", "execute_tool get_weather"
    agents = [span for span in instrumented.spans if span.name == "invoke_agent weather"]
    beneath = [[s.name for s in instrumented.spans if s.parent == each.context] for each in agents]
    assert sorted(map(sorted, beneath)) == sorted([[chat, chat, tool, tool], [chat]])
    counted = [(span.attributes or {}).get("gen_ai.usage.input_tokens") for span in instrumented.of("LLM")]
    assert counted[:2] == [50, 90]


@each_model
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_policy_sees_a_call_once_and_what_it_sets_is_sent(
    name: str, streamed: bool, instrumented: Capture, policy: Callable[[Any], None]
) -> None:
    seen: list[str | None] = []

    @request_intercept(kinds=["llm"])
    def warmer(call: ModelCall) -> None:
        seen.append(call.request.model)
        call.request.parameters["temperature"] = (call.request.parameters.get("temperature") or 0) + 0.25

    policy(warmer)
    with ModelServer(lambda request: reply("ok")) as server:
        async with agent(name, server, tools=False) as made:
            assert await (stream(made, "hi") if streamed else said(made)) == "ok"
        [request] = server.requests
    assert told(request.body, "temperature") == [0.25]
    assert seen == [name]


async def said(made: Any) -> str:
    return (await made.run("hi")).output


@each_model
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_tool_that_is_refused_is_offered_to_nobody(
    name: str, streamed: bool, instrumented: Capture, tmp_path: Path
) -> None:
    with in_force(tmp_path, FILE.format(offered="refuse")), ModelServer(lambda request: reply("ok")) as server:
        async with agent(name, server) as made:
            with pytest.raises(GuardrailRejected, match="'get_weather' is denied"):
                await (stream(made, "hi") if streamed else said(made))
        assert server.requests == []
