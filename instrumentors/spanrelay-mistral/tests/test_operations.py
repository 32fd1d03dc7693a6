"""What only this SDK does: a call ends with the method that asked; a policy file governs models, tools, parameters."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from mistralai.client import Mistral, errors
from mistralai.client.models import AssistantMessage
from opentelemetry.trace import StatusCode

from spanrelay.config import PolicyFile
from spanrelay.errors import GuardrailRejected
from spanrelay.plugins.activation import Activation
from spanrelay.semconv import names
from spanrelay_mistral import MistralInstrumentor
from spanrelay_testkit.capture import Capture, at_work, said
from spanrelay_testkit.exchange import Answer, error, raw, reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

QUESTION: Any = [{"role": "user", "content": "hi"}]
TOOL: Any = {"type": "function", "function": {"name": "delete_all", "parameters": {"type": "object", "properties": {}}}}
HALVES = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    with at_work(capture, MistralInstrumentor, log=caplog):
        yield capture


FILE = """
[plugins.policy]
models.deny = ["secret-*"]
tools.deny = ["delete_*"]
tools.offered = "refuse"
[plugins.policy.parameters."*"]
temperature = 0.25
"""


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[None]:
    """`FILE` in force."""
    path = tmp_path / "spanrelay.toml"
    path.write_text(FILE)
    activation = Activation([PolicyFile(str(path), "chosen")])
    activation.reload()
    yield
    activation.close()


@contextlib.asynccontextmanager
async def talking(half: Half, script: Any) -> AsyncGenerator[tuple[ModelServer, Mistral]]:
    with ModelServer(script) as server:
        async with half.entered(Mistral(api_key="none", server_url=server.url.removesuffix("/v1"))) as client:
            yield server, client


async def ask(half: Half, client: Mistral, resource: str = "chat", method: str = "complete", **options: Any) -> Any:
    name = f"{method}_async" if half.asynchronous else method
    answer = await half.settle(getattr(getattr(client, resource), name)(**{"messages": QUESTION, **options}))
    if method == "stream":
        async with half.entered(answer) as stream:
            return [event async for event in half.each(stream)]
    return answer


@HALVES
@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (error(422), errors.HTTPValidationError),
        (error(500), errors.SDKError),
        (raw(b'{"choices": 1}'), errors.ResponseValidationError),
        (raw(b"<html>", "text/html"), errors.SDKError),
    ],
    ids=["422", "500", "JSON of another shape", "HTML"],
)
async def test_the_span_says_which_exception_the_application_got(
    half: Half, answer: Answer, raised: type[Exception], instrumented: Capture
) -> None:
    async with talking(half, [answer]) as (_, client):
        with pytest.raises(Exception) as caught:
            await ask(half, client, model="m")
    kind = type(caught.value)
    assert kind is raised
    span = instrumented.span
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})[names.ERROR_TYPE] == f"{kind.__module__}.{kind.__qualname__}"


@HALVES
async def test_an_agents_completion_is_a_chat_without_a_model_of_its_own(half: Half, instrumented: Capture) -> None:
    async with talking(half, [reply("done")]) as (server, client):
        await ask(half, client, "agents", agent_id="ag-1")
        [request] = server.requests
    assert request.body["agent_id"] == "ag-1"
    assert instrumented.span.name == "chat"
    assert said(instrumented.span) == "done"


@HALVES
@pytest.mark.parametrize("method", ["complete", "stream"])
async def test_a_file_refuses_a_model_and_a_tool_and_sets_a_parameter(
    half: Half, method: str, instrumented: Capture, governed: None
) -> None:
    async with talking(half, lambda request: reply("ok")) as (server, client):
        with pytest.raises(GuardrailRejected):
            await ask(half, client, method=method, model="secret-1")
        with pytest.raises(GuardrailRejected):
            await ask(half, client, method=method, model="m", tools=[TOOL])
        assert server.requests == []
        await ask(half, client, method=method, model="m")
        [request] = server.requests
    assert request.body["temperature"] == 0.25


@HALVES
async def test_a_message_of_the_sdks_own_type_is_read_from_what_it_became(half: Half, instrumented: Capture) -> None:
    history = [*QUESTION, AssistantMessage(content="earlier"), {"role": "user", "content": "and now?"}]
    async with talking(half, [reply("later")]) as (_, client):
        await ask(half, client, model="m", messages=history)
    told = (instrumented.span.attributes or {})[names.INPUT_MESSAGES]
    assert "earlier" in str(told)
    assert "and now?" in str(told)
