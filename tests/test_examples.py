"""The examples run as anybody would run them, and leave the trajectory that the golden file holds."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from tests.trajectory.harbor import complaints, needs_harbor

from spanrelay.assembly.atif import violations
from spanrelay_testkit.model_scripts import weather
from spanrelay_testkit.model_server import ModelServer, Request

ROOT = Path(__file__).parents[1]
AGENT = ROOT / "examples" / "weather_agent.py"
GOLDEN = ROOT / "tests" / "goldens" / "weather_agent.json"
INSTRUMENT = str(Path(sys.executable).parent / "opentelemetry-instrument")


def clean_environment(**settings: str) -> dict[str, str]:
    ours = ("OTEL_", "SPANRELAY_", "OPENAI_")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(ours)}, **settings}


def run(folder: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=clean_environment(**settings), capture_output=True, text=True, timeout=120
    )


def run_agent(folder: Path, *prefix: str) -> tuple[subprocess.CompletedProcess[str], list[Request]]:
    with ModelServer(weather) as server:
        settings = {"OPENAI_BASE_URL": server.url, "OTEL_SERVICE_NAME": "weather-agent"}
        done = run(folder, *prefix, sys.executable, str(AGENT), **settings)
    return done, server.requests


def without_ids_and_times(value: Any, seen: dict[str, dict[str, str]] | None = None) -> Any:
    """JSON with each id as its kind and number in order of appearance, and without times."""
    seen = defaultdict(dict) if seen is None else seen
    if isinstance(value, list):
        return [without_ids_and_times(item, seen) for item in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, item in value.items():
        if name in ("session_id", "trajectory_id", "trace_id", "span_id"):
            known = seen[name]
            found[name] = known.setdefault(item, f"{name} {len(known) + 1}")
        elif name not in ("timestamp", "start", "end", "time_to_first_token_ms", "duration_sec"):
            found[name] = without_ids_and_times(item, seen)
    return found


@pytest.fixture(scope="module")
def instrumented(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[Request]]:
    """The folder of one run under `opentelemetry-instrument`, its output, and what the model was sent."""
    folder = tmp_path_factory.mktemp("run")
    done, requests = run_agent(folder, INSTRUMENT)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, requests


@pytest.fixture(scope="module")
def trajectory(instrumented: tuple[Path, str, list[Request]]) -> Any:
    [file] = (instrumented[0] / ".spanrelay" / "trajectories").glob("*.json")
    return json.loads(file.read_text())


def test_the_trajectory_is_the_golden_one(trajectory: Any) -> None:
    assert without_ids_and_times(trajectory) == json.loads(GOLDEN.read_text())


def test_the_trajectory_keeps_the_strict_profile(trajectory: Any) -> None:
    assert violations(trajectory) == []


def test_the_trajectory_is_read_by_the_atif_package(trajectory: Any) -> None:
    atif = pytest.importorskip("atif", reason="the atif package needs Python 3.11")
    assert atif.Trajectory.model_validate(trajectory).steps


@needs_harbor
def test_harbors_own_validator_accepts_the_trajectory(instrumented: tuple[Path, str, list[Request]]) -> None:
    files = list((instrumented[0] / ".spanrelay" / "trajectories").glob("*.json"))
    assert files
    assert complaints(files) == ""


def test_the_agent_says_and_sends_the_same_without_us(
    instrumented: tuple[Path, str, list[Request]], tmp_path: Path
) -> None:
    _, said, sent = instrumented
    bare, requests = run_agent(tmp_path)
    assert bare.stdout == said
    assert [request.body for request in requests] == [request.body for request in sent]
    assert len(requests) == 4
    assert not list(tmp_path.iterdir())


def test_the_failed_tool_is_told_to_the_model(instrumented: tuple[Path, str, list[Request]]) -> None:
    last = instrumented[2][-1].body["messages"][-1]
    assert last == {
        "role": "tool",
        "tool_call_id": "call_atlantis",
        "content": "Error: no weather station in Atlantis",
    }


def test_without_key_and_server_the_agent_says_what_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, str(AGENT))
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert "make demo" in done.stderr


def test_the_demo_runs_the_agent_and_shows_its_trajectory(tmp_path: Path) -> None:
    done = run(
        ROOT, sys.executable, "-m", "spanrelay_testkit.demo", SPANRELAY_TRAJECTORY_DIR=str(tmp_path), COLUMNS="120"
    )
    assert done.returncode == 0, done.stderr
    [file] = tmp_path.glob("*.json")
    lines = done.stdout.splitlines()
    assert lines[-1] == str(file)
    assert '│   ├── get_weather(city="San Francisco")' in lines
    assert str(tmp_path) in done.stderr
