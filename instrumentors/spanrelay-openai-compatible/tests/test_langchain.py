"""A call of LangChain's model for Groq is one span, and policy is left to Groq's client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import spanrelay
from spanrelay.errors import GuardrailRejected
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_openai_compatible import GroqInstrumentor
from spanrelay_testkit.capture import Capture, at_work, said
from spanrelay_testkit.exchange import Usage, reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

ChatGroq: Any = pytest.importorskip("langchain_groq").ChatGroq
HALVES = pytest.mark.parametrize("half", [Half(asynchronous=False), Half(asynchronous=True)], ids=["sync", "async"])


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    with at_work(capture, GroqInstrumentor, LangChainInstrumentor, log=caplog):
        yield capture


@HALVES
async def test_a_call_is_one_span_and_judged_once_as_it_is_sent(half: Half, instrumented: Capture) -> None:
    judged: list[Any] = []

    def judge(call: Any) -> str | None:
        judged.append(call.wire["model"])
        return "no" if call.wire["model"] == "secret" else None

    with ModelServer([reply("Blue.", usage=Usage(9, 2))]) as server, httpx.Client() as sync:
        limits = httpx.Limits(max_keepalive_connections=0)  # nobody closes the model's clients
        given: dict[str, Any] = {"base_url": server.address, "api_key": "none", "max_retries": 0, "http_client": sync}
        async with httpx.AsyncClient(limits=limits) as client:
            given["http_async_client"] = client
            registered = spanrelay.use(spanrelay.guardrail(kinds=["llm"])(judge))
            try:
                model = ChatGroq(model="m", **given)
                answer = await model.ainvoke("hi") if half.asynchronous else model.invoke("hi")
                with pytest.raises(GuardrailRejected):
                    refused = ChatGroq(model="secret", **given)
                    await refused.ainvoke("hi") if half.asynchronous else refused.invoke("hi")
            finally:
                registered.remove()
        assert len(server.requests) == 1
    assert answer.text == "Blue."
    assert judged == ["m", "secret"]
    [span] = [span for span in instrumented.spans if span.name == "chat m"]
    assert said(span) == "Blue."
    assert (span.attributes or {})["gen_ai.usage.input_tokens"] == 9
