"""A program whose model calls OpenTelemetry's instrumentor for OpenAI records, with content in log records alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.own_environment import launch, programs_of

from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer

pytestmark = pytest.mark.skipif(
    os.environ.get("SPANRELAY_TEST_FOREIGN") != "1",
    reason="set SPANRELAY_TEST_FOREIGN=1 to install OpenTelemetry's instrumentor for OpenAI apart, and test under it",
)

OTHERS = (
    "httpx",  # it imports this, and newer OpenAI SDKs do not have it
    "openai<3",
    "opentelemetry-instrumentation-openai-v2==2.4b0",
    "opentelemetry-util-genai==0.4b0",  # from 1 on it lacks a module that the instrumentor imports
)
ASKING = """
import openai
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How is Rome?"}]
with openai.OpenAI() as client:
    for stream in (False, True):
        answer = client.chat.completions.create(model="m", messages=messages, stream=stream)
        list(answer) if stream else None
"""


@pytest.fixture(scope="module")
def programs() -> Path:
    return programs_of("foreign-events", (), OTHERS, unpinned=("openai",))


@pytest.mark.parametrize("logs", ["console", "none"])
def test_what_its_events_say_is_in_the_trajectories(programs: Path, tmp_path: Path, logs: str) -> None:
    settings = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true", "OTEL_LOGS_EXPORTER": logs}
    with ModelServer(lambda _: reply("Sunny.")) as server:
        ran = launch(programs, ASKING, tmp_path, server, **settings)
    assert [span["name"] for span in ran.spans] == ["chat m", "chat m"]
    assert not any("Rome" in str(span["attributes"]) for span in ran.spans)
    told = [[step["message"] for step in document["steps"]] for document in ran.trajectories]
    assert told == [["Be brief.", "How is Rome?", "Sunny."]] * 2
