"""The example of policy in a file: what its README says happens, on the wire and in everything that is recorded."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.exporters.otlp_server import OtlpServer
from tests.programs import command, environment

from spanrelay.assembly.atif import violations
from spanrelay_testkit.exchange import Request
from spanrelay_testkit.model_scripts import support
from spanrelay_testkit.model_server import ModelServer

EXAMPLE = Path(__file__).parents[1] / "examples" / "policy"
EMAIL, MASKED = "ann@example.com", "a**@example.com"
DENIED = "tool 'delete_customer' is denied by 'delete_*'"
SPENT = "this session has made 2 of the 2 model calls allowed"


@dataclass
class Left:
    """What one run of the example left."""

    done: subprocess.CompletedProcess[str]
    requests: list[Request]
    bodies: list[bytes]
    events: str
    trajectories: list[str]


def run_example(folder: Path, *, with_policy: bool = True) -> Left:
    """Run the example in a copy of its folder, as its README says, with a collector."""
    shutil.copytree(EXAMPLE, folder)
    if not with_policy:
        (folder / "spanrelay.toml").unlink()
    collector = OtlpServer()
    try:
        with ModelServer(support) as server:
            settings = {
                "OTEL_TRACES_EXPORTER": "otlp,atof",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
            }
            done = subprocess.run(
                command("agent.py"),
                cwd=folder,
                env=environment(server, settings),
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
    finally:
        collector.close()
    documents = sorted((folder / ".spanrelay" / "trajectories").glob("*.json"))
    bodies = [body for path, body in collector.accepted if path == "/v1/traces"]
    events = (folder / ".spanrelay" / "events" / "events.jsonl").read_text()
    return Left(done, server.requests, bodies, events, [path.read_text() for path in documents])


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    return run_example(tmp_path_factory.mktemp("example") / "policy")


@pytest.fixture(scope="module")
def trajectory(left: Left) -> Iterator[dict[str, Any]]:
    [document] = left.trajectories
    yield json.loads(document)


def test_the_tool_is_refused_and_the_model_is_told_why(left: Left) -> None:
    answers = {m["tool_call_id"]: m["content"] for m in left.requests[1].body["messages"] if m["role"] == "tool"}
    assert json.loads(answers["call_find"]) == {"id": 7, "orders": 3, "email": EMAIL}
    assert DENIED in answers["call_delete"]
    assert f"customers: ['{EMAIL}']" in left.done.stdout


def test_the_third_call_is_never_sent_and_the_agent_stops(left: Left) -> None:
    assert left.done.returncode == 1
    assert f"stopped: guardrail 'policy.limits' refused the call: {SPENT}" in left.done.stderr.splitlines()
    assert "Traceback" not in left.done.stderr
    assert len(left.requests) == 2


def test_the_address_is_masked_in_every_output_and_the_provider_gets_it(left: Left) -> None:
    assert all(EMAIL in str(request.body) for request in left.requests)
    assert left.bodies and left.events and left.trajectories
    for output in (*left.bodies, left.events.encode(), *(text.encode() for text in left.trajectories)):
        assert EMAIL.encode() not in output
    for everything in (b"".join(left.bodies), left.events.encode(), "".join(left.trajectories).encode()):
        assert MASKED.encode() in everything


def test_the_trajectory_shows_all_three(trajectory: dict[str, Any]) -> None:
    assert violations(trajectory) == []
    steps: list[dict[str, Any]] = trajectory["steps"]
    assert steps[1]["message"] == f"Look {MASKED} up and delete her."
    [asking] = [step for step in steps if len(step.get("tool_calls", ())) == 2]
    assert [call["arguments"] for call in asking["tool_calls"]] == [{"email": MASKED}] * 2
    found, deleted = (result["content"] for result in asking["observation"]["results"])
    assert MASKED in found
    assert DENIED in deleted
    assert SPENT in steps[-1]["extra"]["error"]["message"]
    assert [step["message"] for step in steps if step["source"] == "user"][1:] == ["Then write her that she is gone."]


def test_spans_and_events_show_who_refused(left: Left) -> None:
    spans = [
        span
        for body in left.bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    named = {span.name for span in spans}
    assert {"run_guardrail policy.tools", "run_guardrail policy.limits", "execute_tool delete_customer"} <= named
    refused = [span.status.message for span in spans if span.status.code == 2]
    assert sum(DENIED in message for message in refused) == 1
    events = [json.loads(line) for line in left.events.splitlines()]
    told = [str((event["metadata"] or {}).get("otel.status_description")) for event in events]
    assert any(DENIED in each for each in told)
    assert any(SPENT in each for each in told)


def test_without_the_file_all_of_it_happens(tmp_path: Path) -> None:
    bare = run_example(tmp_path / "policy", with_policy=False)
    assert bare.done.returncode == 0, bare.done.stderr
    assert "customers: []" in bare.done.stdout
    assert len(bare.requests) == 3
    assert EMAIL.encode() in b"".join(bare.bodies)
