"""Unmodified programs under `opentelemetry-instrument`, the real collector behind them, and what both leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.collector import Collector, attributes_of, await_that
from tests.e2e.conftest import MakeCollector
from tests.e2e.phoenix import Phoenix

from spanrelay_testkit.model_scripts import echo, weather
from spanrelay_testkit.model_server import ModelServer

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
INSTRUMENT = Path(sys.executable).parent / "opentelemetry-instrument"
CONTENT = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only"}


def environment(collector: Collector, model: ModelServer, **more: str) -> dict[str, str]:
    ours = ("OTEL_", "SPANRELAY_", "OPENAI_")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **outside,
        "OPENAI_BASE_URL": model.url,
        "OPENAI_API_KEY": "none",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        **more,
    }


@pytest.fixture
def weather_model() -> Iterator[ModelServer]:
    with ModelServer(weather) as server:
        yield server


def run_weather_agent(folder: Path, collector: Collector, model: ModelServer, **more: str) -> str:
    done = subprocess.run(
        [INSTRUMENT, sys.executable, ROOT / "examples" / "weather_agent.py"],
        cwd=folder,
        env=environment(collector, model, **more),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "lost" not in done.stderr
    return done.stderr


def trajectory(folder: Path) -> dict[str, Any]:
    [path] = (folder / ".spanrelay" / "trajectories").rglob("*.json")
    return json.loads(path.read_text())


def span_ids(document: dict[str, Any]) -> set[str]:
    """The ids of the model calls that a trajectory was assembled from."""
    return {step["extra"]["otel"]["span_id"] for step in document["steps"] if step["source"] == "agent"}


Said = tuple[Any, ...]


def said_in_trajectory(document: dict[str, Any]) -> list[Said]:
    said: list[Said] = []
    for step in document["steps"]:
        said += [(step["source"], step["message"])] if step["message"] else []
        for call in step.get("tool_calls", []):
            said.append(("call", call["tool_call_id"], call["function_name"], call["arguments"]))
        for result in step.get("observation", {}).get("results", []):
            said.append(("result", result["source_call_id"], result["content"]))
    return said


def said_in_span(span: dict[str, Any]) -> list[Said]:
    """What the last model call of a conversation was sent and answered: all of it."""
    attributes = attributes_of(span)
    messages = [
        message
        for name in ("gen_ai.input.messages", "gen_ai.output.messages")
        for message in json.loads(attributes[name])
    ]
    return [said_in_part(message["role"], part) for message in messages for part in message["parts"]]


def said_in_part(role: str, part: dict[str, Any]) -> Said:
    if part["type"] == "tool_call":
        return ("call", part["id"], part["name"], part["arguments"])
    if part["type"] == "tool_call_response":
        return ("result", part["id"], part["response"])
    return ({"assistant": "agent"}.get(role, role), part["content"])


def words_of(content: str | dict[str, str]) -> list[str]:
    return [content] if isinstance(content, str) else list(content.values())


def test_the_spans_and_metrics_of_a_run_arrive_without_a_word_of_its_messages(
    collector: Collector, weather_model: ModelServer, tmp_path: Path
) -> None:
    run_weather_agent(tmp_path, collector, weather_model)
    collector.stop()
    document = trajectory(tmp_path)
    assert Counter(span["spanId"] for span in collector.spans()) == Counter(span_ids(document))
    assert {metric["name"] for metric in collector.metrics()} == {
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.token.usage",
    }
    words = {word for said in said_in_trajectory(document) for word in words_of(said[-1])}
    assert len(words) > 8
    written = collector.text()
    assert [text for text in words if json.dumps(text, ensure_ascii=False)[1:-1] in written] == []


def test_with_content_the_collector_has_the_messages_of_the_trajectory(
    collector: Collector, weather_model: ModelServer, tmp_path: Path
) -> None:
    run_weather_agent(tmp_path, collector, weather_model, **CONTENT)
    collector.stop()
    document = trajectory(tmp_path)
    spans = collector.spans()
    assert Counter(span["spanId"] for span in spans) == Counter(span_ids(document))
    last = max(spans, key=lambda span: int(span["startTimeUnixNano"]))
    assert said_in_span(last) == said_in_trajectory(document)


def test_the_trace_ui_shows_the_model_calls_of_a_run(
    collectors: MakeCollector, trace_ui: Phoenix, weather_model: ModelServer, tmp_path: Path
) -> None:
    collector = collectors(backend=trace_ui.url)
    collector.start()
    project = {"OTEL_RESOURCE_ATTRIBUTES": "openinference.project.name=weather"}
    run_weather_agent(tmp_path, collector, weather_model, **CONTENT, **project)
    ids = span_ids(trajectory(tmp_path))
    shown = trace_ui.await_spans("weather", len(ids))
    assert {span["context"]["span_id"] for span in shown} == ids
    assert {span["span_kind"] for span in shown} == {"LLM"}


class Conversation:
    """A running `talking_agent.py`, and its standard error in a file."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._errors = folder / "stderr"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [INSTRUMENT, sys.executable, Path(__file__).with_name("talking_agent.py")],
                cwd=folder,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def talk(self, times: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for _ in range(times):
            print("hello", file=self._process.stdin, flush=True)
            assert "hello" in self._process.stdout.readline(), self.errors()

    def errors(self) -> str:
        return self._errors.read_text()

    def await_error(self, text: str, times: int) -> None:
        await_that(lambda: self.errors().count(text) >= times)

    def end(self) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0, self.errors()


def test_a_run_loses_nothing_when_its_collector_starts_late_and_restarts(
    collectors: MakeCollector, tmp_path: Path
) -> None:
    collector = collectors()
    with ModelServer(echo) as model:
        brisk = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        run = Conversation(tmp_path, environment(collector, model, **brisk))
        run.talk(5)
        run.await_error("the collector is not accepting spans", 1)
        run.talk(5)
        collector.start()
        run.await_error("the collector accepts spans again", 1)
        run.talk(5)
        collector.stop()
        run.talk(5)
        run.await_error("the collector is not accepting spans", 2)
        collector.start()
        run.talk(5)
        run.end()
    collector.stop()
    ids = span_ids(trajectory(tmp_path))
    assert len(ids) == 25
    assert {span["spanId"] for span in collector.spans()} == ids
    assert "lost" not in run.errors()


def test_a_run_without_its_collector_ends_and_says_what_is_lost(collectors: MakeCollector, tmp_path: Path) -> None:
    with ModelServer(echo) as model:
        run = Conversation(tmp_path, environment(collectors(), model))
        run.talk(3)
        run.end()
    assert "3 spans not delivered to the collector" in run.errors()
    assert "1 metric collection not delivered to the collector" in run.errors()
    assert len(span_ids(trajectory(tmp_path))) == 3
