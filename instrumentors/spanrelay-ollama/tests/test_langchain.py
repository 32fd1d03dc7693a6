"""A call of LangChain's models for Ollama is one span, and a file's policy holds for what the client sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

from spanrelay.errors import GuardrailRejected
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_ollama import OllamaInstrumentor
from spanrelay_testkit.capture import Capture, at_work, said
from spanrelay_testkit.exchange import Usage, reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

HALVES = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])
APART: Any = {"limits": httpx.Limits(max_keepalive_connections=0)}
"""Nobody closes the models' clients."""
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
    with at_work(capture, OllamaInstrumentor, LangChainInstrumentor, log=caplog):
        yield capture


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[None]:
    """`FILE` in force."""
    with in_force(tmp_path, FILE):
        yield


@tool
def delete_all(of: str) -> str:
    """Delete all."""
    return of


async def invoke(half: Half, model: Any, *, stream: bool = False) -> str:
    if stream:
        chunks = model.astream("hi") if half.asynchronous else model.stream("hi")
        answers = [chunk async for chunk in half.each(chunks)]
    else:
        answers = [await (model.ainvoke("hi") if half.asynchronous else half.settle(model.invoke("hi")))]
    return "".join(answer if isinstance(answer, str) else answer.text for answer in answers)


@HALVES
@pytest.mark.parametrize("kind", [ChatOllama, OllamaLLM])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_call_is_one_span_and_the_parameter_stands_where_the_client_has_it(
    half: Half, kind: Any, stream: bool, instrumented: Capture, governed: None
) -> None:
    with ModelServer([reply("Blue.", usage=Usage(9, 2))]) as server:
        assert (
            await invoke(half, kind(model="m", base_url=server.address, client_kwargs=APART), stream=stream) == "Blue."
        )
        [request] = server.requests
    assert request.body["options"]["temperature"] == 0.25
    [span] = [span for span in instrumented.spans if "gen_ai.request.model" in (span.attributes or {})]
    assert said(span) == "Blue."
    assert (span.attributes or {})["gen_ai.usage.input_tokens"] == 9


@HALVES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_what_is_denied_is_never_sent(half: Half, stream: bool, instrumented: Capture, governed: None) -> None:
    with ModelServer(lambda request: reply("ok")) as server:
        secret = ChatOllama(model="secret-1", base_url=server.address, client_kwargs=APART)
        offering = ChatOllama(model="m", base_url=server.address, client_kwargs=APART).bind_tools([delete_all])
        for model in (secret, offering):
            with pytest.raises(GuardrailRejected):
                await invoke(half, model, stream=stream)
        assert server.requests == []


@HALVES
async def test_embeddings_are_judged_once(half: Half, instrumented: Capture, governed: None) -> None:
    with ModelServer(lambda request: reply("ok")) as server:
        model = OllamaEmbeddings(model="m", base_url=server.address, client_kwargs=APART)
        await (model.aembed_query("hi") if half.asynchronous else half.settle(model.embed_query("hi")))
    assert [span.name for span in instrumented.spans] == ["run_guardrail policy.models", "embeddings m"]
