"""What a program asks through the gateway is answered as without it, and recorded as in a Python program."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from spanrelay.gateway import Gateway
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.exchange import Answer, Usage, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

Standing = Callable[..., Gateway]

SAID: dict[str, Answer] = {
    "text": reply("It is cold in Oslo.", usage=Usage(50, 20, cached=10, reasoning=3)),
    "calls": reply(tool_calls=[tool_call("get_weather", city="Oslo"), tool_call("get_weather", city="Bergen")]),
    "compressed": reply("It is cold in Oslo.", gzip=True),
}
MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it cold?"}]
WAYS: dict[str, Callable[[openai.OpenAI], Any]] = {
    "chat": lambda client: client.chat.completions.create(model="gpt-5", messages=MESSAGES),
    "chat stream": lambda client: list(client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True)),
    "responses": lambda client: client.responses.create(model="gpt-5", input="Is it cold?"),
    "responses stream": lambda client: list(client.responses.create(model="gpt-5", input="Is it cold?", stream=True)),
    "completions": lambda client: client.completions.create(model="gpt-5", prompt="Is it cold?"),
    "embeddings": lambda client: client.embeddings.create(model="text-embedding-3-small", input=["Oslo"]),
}
SAME = [(way, said) for way in WAYS for said in SAID if said == "text" or way.split()[0] in ("chat", "responses")]


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="sk-secret", max_retries=0)


def told(value: Any) -> Any:
    """What an SDK returned, as JSON."""
    if isinstance(value, list):
        return [told(each) for each in value]
    return value.model_dump(warnings=False) if hasattr(value, "model_dump") else value


def attributes_of(capture: Capture) -> dict[str, Any]:
    """What the one span says, but for which port and how long."""
    found = dict(capture.span.attributes or {})
    capture.clear()
    return {
        key: value for key, value in found.items() if key not in ("server.port", "gen_ai.response.time_to_first_chunk")
    }


@pytest.mark.parametrize(("way", "said"), SAME)
def test_an_answer_and_its_span_are_those_of_a_program_in_process(
    way: str, said: str, capture: Capture, caplog: pytest.LogCaptureFixture, standing: Standing
) -> None:
    script = lambda request: SAID[said]  # noqa: E731 - each server has one of its own
    with (
        at_work(capture, OpenAIInstrumentor, log=caplog),
        ModelServer(script) as server,
        client_of(server.url) as direct,
    ):
        answer = told(WAYS[way](direct))
        expected = attributes_of(capture)
    with ModelServer(script) as server:
        gateway = standing(server)
        with client_of(gateway.base_url("openai")) as client:
            assert told(WAYS[way](client)) == answer
        gateway.stop()  # the client has its answer a moment before the call is over
        assert attributes_of(capture) == expected
        [asked] = server.requests
    assert asked.headers["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in json.dumps(expected)
