"""`nat run`, unmodified and under `opentelemetry-instrument`: its trajectory, and policy out of a `spanrelay.toml`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.plugins.installed import distribution
from tests.programs import Run, environment
from tests.trajectory.program import accept
from tests.trajectory.spans import story

from spanrelay.assembly.atif import violations
from spanrelay_testkit.model_server import ModelServer

from .workflows import CALLER, QUESTION, TEAM, weather_model, written

POLICY = """
[plugins.policy]
tools.deny = ["get_*"]
tools.refused = "answer"
[plugins.policy.parameters."*"]
temperature = 0.25
"""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(weather_model) as running:
        yield running


def run(workflow: str, folder: Path, server: ModelServer) -> Run:
    """Run a workflow the way a user would, its functions installed."""
    source = Path(__file__).with_name("application.py").read_text()
    site = distribution(folder / "site", "application", "application", source, "[nat.components]\napp = application\n")
    bin = Path(sys.executable).parent
    file = written(folder, workflow, server)
    done = subprocess.run(
        [bin / "opentelemetry-instrument", bin / "nat", "run", "--config_file", file, "--input", QUESTION],
        cwd=folder,
        env=environment(server, {"PYTHONPATH": str(site), "LANGSMITH_TRACING": "false"}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Run(done.returncode, done.stdout, done.stderr, folder)


def told(ran: Run) -> list[str]:
    """The story of the one document."""
    [document] = ran.trajectories
    assert violations(document) == []
    accept(document)
    return [line.partition(" {'prompt_tokens'")[0] for line in story(document)]


def test_a_run_reads_like_the_conversation(tmp_path: Path, server: ModelServer) -> None:
    ran = run(CALLER, tmp_path, server)
    assert "I was told: sunny in Rome" in ran.out + ran.err
    assert told(ran) == [
        f"user {QUESTION}",
        "agent [('get_weather', {'city': 'Rome'})] [('sunny in Rome', False, False)]",
        "agent I was told: sunny in Rome",
    ]
    assert ran.trajectories[0]["agent"]["name"] == "tool_calling_agent"
    assert "Failed to detach" not in ran.err


@pytest.mark.proves("nemo-agent-toolkit", "sub-agents")
def test_an_agent_below_a_tool_is_a_trajectory_in_the_trajectory(tmp_path: Path, server: ModelServer) -> None:
    ran = run(TEAM, tmp_path, server)
    told(ran)
    [document] = ran.trajectories
    [below] = document["subagent_trajectories"]
    assert below["agent"]["name"] == "weatherman"
    assert below["steps"][-1]["message"] == "I was told: sunny in Rome"


@pytest.mark.proves("nemo-agent-toolkit", "policy")
def test_a_file_refuses_a_tool_and_rewrites_a_parameter(tmp_path: Path, server: ModelServer) -> None:
    (tmp_path / "spanrelay.toml").write_text(POLICY)
    ran = run(CALLER, tmp_path, server)
    assert "sunny" not in str(ran.trajectories)
    assert "tool 'get_weather' is denied by 'get_*'" in str(ran.trajectories)
    assert [request.body["temperature"] for request in server.requests] == [0.25, 0.25]
