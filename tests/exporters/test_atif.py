"""The exporter `atif` keeps to the settings, masks keys, and never repeats what the process writes itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from tests.programs import ASK, run

from spanrelay.exporters.atif import AtifExporter
from spanrelay_testkit.model_server import ModelServer

KEY = "sk-" + "a1B2" * 8

PLAIN_PIPELINE = """
from opentelemetry import trace
from opentelemetry.sdk._configuration import _OTelSDKConfigurator

_OTelSDKConfigurator().configure()
attributes = {
    "gen_ai.operation.name": "chat",
    "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hello"}]}]',
    "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"You said: hello"}]}]',
}
with trace.get_tracer("any").start_as_current_span("chat", attributes=attributes):
    pass
"""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


def documents(folder: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]


def said(folder: Path) -> list[list[str]]:
    return [[step["message"] for step in document["steps"]] for document in documents(folder)]


def test_named_in_a_process_that_writes_trajectories_it_repeats_none(tmp_path: Path, server: ModelServer) -> None:
    place = tmp_path / "elsewhere"
    ran = run(ASK, tmp_path, server, OTEL_TRACES_EXPORTER="atif", SPANRELAY_TRAJECTORY_DIR=str(place))
    assert ran.code == 0, ran.err
    assert said(tmp_path) == [["hello", "You said: hello"]]
    assert len(list(place.glob("*.json"))) == 1


def test_in_a_plain_pipeline_it_writes_where_the_settings_say(tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    settings = {"OTEL_TRACES_EXPORTER": "atif", "SPANRELAY_TRAJECTORY_DIR": str(place)}
    ran = run(PLAIN_PIPELINE, tmp_path, launched=False, **settings)
    assert ran.code == 0, ran.err
    assert said(place) == [["hello", "You said: hello"]]
    assert not (tmp_path / ".spanrelay").exists()


@pytest.mark.parametrize("launched", [True, False])
@pytest.mark.parametrize(
    ("variable", "value"),
    [("SPANRELAY_TRAJECTORIES", "off"), ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "no_content")],
)
def test_where_trajectories_are_off_it_writes_none(tmp_path: Path, variable: str, value: str, launched: bool) -> None:
    program = PLAIN_PIPELINE.replace("_OTelSDKConfigurator().configure()", "") if launched else PLAIN_PIPELINE
    ran = run(program, tmp_path, launched=launched, **{"OTEL_TRACES_EXPORTER": "atif", variable: value})
    assert ran.code == 0, ran.err
    assert not (tmp_path / ".spanrelay").exists()


def test_a_plain_pipeline_masks_keys_in_whatever_shape_they_come(tmp_path: Path) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(AtifExporter(tmp_path)))
    arguments = json.dumps({"list": ["one", f"two\n{KEY}"]})
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": f"use {KEY}"}
    attributes["gen_ai.tool.call.arguments"] = arguments
    with provider.get_tracer("any").start_as_current_span("tool", attributes=attributes):
        pass
    provider.shutdown()
    (document,) = documents(tmp_path)
    assert document["steps"][0]["tool_calls"][0]["arguments"]["list"] == ["one", "two\n[masked key]"]
    assert KEY not in json.dumps(document)


def test_a_global_pipeline_is_written_beside_a_provider_that_activate_was_given(tmp_path: Path) -> None:
    program = f"""
from opentelemetry.sdk.trace import TracerProvider
import spanrelay
spanrelay.activate(tracer_provider=TracerProvider(), instrument=False)
{PLAIN_PIPELINE}
"""
    place = tmp_path / "own"
    settings = {"OTEL_TRACES_EXPORTER": "atif", "SPANRELAY_TRAJECTORY_DIR": str(place)}
    ran = run(program, tmp_path, launched=False, **settings)
    assert ran.code == 0, ran.err
    assert said(place) == [["hello", "You said: hello"]]
