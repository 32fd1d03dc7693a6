"""Unmodified programs of agents under `opentelemetry-instrument`: what every framework's package promises of them.

Derive as `Test…` and supply the hooks. The programs know an agent `weatherman`, which has a tool `get_weather`, and in
most frameworks a `boss`, which has a tool that asks the weatherman.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.programs import Run
from tests.programs import run as run_program
from tests.trajectory.program import accept
from tests.trajectory.spans import story

from spanrelay.assembly.atif import violations
from spanrelay_testkit.exchange import Answer, Request
from spanrelay_testkit.model_server import ModelServer

WEATHER = [
    "system Tell the weather.",
    "user Rome?",
    "agent [('get_weather', {'city': 'Rome'})] [('sunny in Rome', False, False)]",
    "agent I was told: sunny in Rome",
]
"""The story of a run of `weatherman` that is asked `Rome?`."""

POLICY = """
[plugins.policy]
tools.deny = ["get_*"]
[plugins.policy.parameters."*"]
temperature = 0.25
"""


def told(ran: Run) -> list[list[str]]:
    """The stories of the documents of a program that said nothing but where they are."""
    assert [line for line in ran.err.splitlines() if not line.startswith("spanrelay: trajectories")] == []
    for document in ran.trajectories:
        assert violations(document) == []
        accept(document)
    return [without_numbers(story(document)) for document in ran.trajectories]


def without_numbers(lines: list[str]) -> list[str]:
    return [line.partition(" {'prompt_tokens'")[0] for line in lines]


class AgentPrograms:
    """Derive as `Test…`, supply the hooks, and every test runs each way that a program may run an agent."""

    opening: ClassVar[str]
    """What every program begins with."""
    ask: ClassVar[Mapping[str, str]]
    """By way: what asks the agent `{agent}` `Rome?` and prints what it says."""
    model: ClassVar[Callable[[Request], Answer]]
    """The model that the agents ask."""
    delegation: ClassVar[str]
    """The call by which `boss` asks the weatherman, as a story tells it."""
    readme: ClassVar[Path]
    quiet: ClassVar[Mapping[str, str]] = {}
    """Settings under which the framework sends nothing to anybody but the model."""

    @pytest.fixture
    def server(self) -> Iterator[ModelServer]:
        """What the agents ask."""
        with ModelServer(type(self).model) as running:
            yield running

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test each way."""
        if "way" in metafunc.fixturenames:
            metafunc.parametrize("way", list(self.ask))

    def run(self, program: str, folder: Path, server: ModelServer, **settings: Any) -> Run:
        """Run a program that goes on from the opening."""
        return run_program(self.opening + program, folder, server, **settings)

    def test_a_run_reads_like_the_conversation(self, tmp_path: Path, server: ModelServer, way: str) -> None:
        ran = self.run(self.ask[way].format(agent="weatherman"), tmp_path, server)
        assert ran.out.splitlines() == ["asked about Rome", "I was told: sunny in Rome"]
        assert told(ran) == [WEATHER]
        assert ran.trajectories[0]["agent"]["name"] == "weatherman"

    def test_an_agent_under_a_tool_is_embedded(self, tmp_path: Path, server: ModelServer, way: str) -> None:
        ran = self.run(self.ask[way].format(agent="boss"), tmp_path, server)
        assert told(ran) == [
            [
                "system Delegate.",
                "user Rome?",
                f"agent [{self.delegation}] [('I was told: sunny in Rome', False, True)]",
                "agent I was told: I was told: sunny in Rome",
            ]
        ]
        [inner] = ran.trajectories[0]["subagent_trajectories"]
        assert inner["agent"]["name"] == "weatherman"
        assert without_numbers(story(inner)) == WEATHER

    def test_a_file_refuses_a_tool_and_rewrites_a_parameter(
        self, tmp_path: Path, server: ModelServer, way: str
    ) -> None:
        (tmp_path / "spanrelay.toml").write_text(POLICY)
        ran = self.run(self.ask[way].format(agent="weatherman"), tmp_path, server)
        assert ran.out == "", "the tool has not run"
        assert "GuardrailRejected: guardrail 'policy.tools' refused the call: tool 'get_weather' is denied" in ran.err
        assert "is denied by 'get_*'" in str(ran.trajectories)
        assert [request.body["temperature"] for request in server.requests] == [0.25]

    def test_the_program_in_the_readme_runs(self, tmp_path: Path, server: ModelServer) -> None:
        [program] = re.findall(r"```python\n(.*?)```", self.readme.read_text(), re.DOTALL)
        ran = run_program(program, tmp_path, server, launched=False, **self.quiet)
        assert (ran.code, ran.err) == (0, "")
