"""A conversation that the provider keeps has one id on every span and is one document, whoever names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.programs import run

from spanrelay.providers import provider_of_host
from spanrelay_testkit.exchange import Raw, Request, raw
from spanrelay_testkit.model_server import ModelServer

PROGRAM = """
import spanrelay
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
provider, exporter = TracerProvider(), InMemorySpanExporter()
provider.add_span_processor(SimpleSpanProcessor(exporter))
spanrelay.activate(tracer_provider=provider)
import openai
client = openai.OpenAI()
for text in ("one", "two"):
    client.responses.create(model="m1", input=text, {given})
print([span.attributes.get("gen_ai.conversation.id") for span in exporter.get_finished_spans()])
"""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.mark.parametrize("given", ['conversation="conv_1"', 'conversation={"id": "conv_1"}'])
@pytest.mark.parametrize("dialect", ["genai", "openinference"])
def test_calls_of_a_kept_conversation_have_its_id_and_are_one_document(
    tmp_path: Path, server: ModelServer, given: str, dialect: str
) -> None:
    program = PROGRAM.replace("{given}", given)
    if dialect == "openinference":
        program = program.replace("gen_ai.conversation.id", "session.id")
    ran = run(program, tmp_path, server, launched=False, SPANRELAY_QUIET="true", SPANRELAY_DIALECT=dialect)
    assert (ran.err, ran.out) == ("", "['conv_1', 'conv_1']\n")
    (document,) = ran.trajectories
    assert document["session_id"] == "conv_1"
    assert [step["source"] for step in document["steps"]] == ["user", "agent"] * 2


def test_a_conversation_that_only_the_answer_names_is_known_too(tmp_path: Path) -> None:
    def answer(request: Request) -> Raw:
        text = {"type": "output_text", "text": "hello", "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
        body = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m1", "status": "completed"}
        return raw(json.dumps({**body, "output": [message], "conversation": {"id": "conv_9"}}).encode())

    with ModelServer(script=answer) as server:
        ran = run(PROGRAM.replace("{given}", ""), tmp_path, server, launched=False, SPANRELAY_QUIET="true")
    assert (ran.err, ran.out) == ("", "['conv_9', 'conv_9']\n")
    (document,) = ran.trajectories
    assert document["session_id"] == "conv_9"


def test_the_answer_before_is_no_conversation(tmp_path: Path, server: ModelServer) -> None:
    program = PROGRAM.replace("{given}", 'previous_response_id="resp_1"')
    ran = run(program, tmp_path, server, launched=False, SPANRELAY_QUIET="true")
    assert (ran.err, ran.out) == ("", "[None, None]\n")


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.anthropic.com", "anthropic"),
        ("api.cohere.ai", "cohere"),
        ("bedrock-runtime.eu-central-1.amazonaws.com", "aws.bedrock"),
        ("europe-west1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("mine.cognitiveservices.azure.com", "azure.ai.openai"),
        ("mine.services.ai.azure.com", "azure.ai.inference"),
        ("api.moonshot.ai", "moonshot_ai"),
        ("api.together.ai", "together"),
        ("api.together.xyz", "together"),
        ("models.example.com", None),
    ],
)
def test_a_provider_is_known_by_its_host(host: str, provider: str | None) -> None:
    assert provider_of_host(host) == provider
