"""The framework of `docs/integrate-a-framework.md` and its instrumentor work as their files say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.programs import run

from spanrelay_testkit.exchange import reply, tool_call
from spanrelay_testkit.model_server import ModelServer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = Path(__file__).parents[1] / "examples" / "framework"
APP = """
from tinyloop import Agent, Tool

def get_weather(city: str) -> str:
    return f"{city}: 4 degrees"

print(Agent("weather", "You know the weather.", [Tool(get_weather)]).run("How is Oslo?"))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder in which both distributions are installed as their `pyproject.toml` say."""
    folder = tmp_path / "site"
    for project in sorted(EXAMPLE.iterdir()):
        source = project / "src" if (project / "src").exists() else project
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        _tell(folder, tomllib.loads((project / "pyproject.toml").read_text())["project"])
    return folder


def _tell(folder: Path, project: dict[str, Any]) -> None:
    """Write what an installer says of a distribution."""
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project.get("entry-points", {})
    lines = [f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in found.items()) for name, found in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


def test_the_tests_of_the_instrumentor_pass(site: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "spanrelay-tinyloop" / "tests", tmp_path / "tests")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_a_program_needs_no_change(site: Path, tmp_path: Path) -> None:
    script = [reply(None, tool_calls=[tool_call("get_weather", {"city": "Oslo"})]), reply("It is 4 degrees.")]
    with ModelServer(script) as server:
        ran = run(APP, tmp_path, server, PYTHONPATH=str(site))
    assert (ran.code, ran.out) == (0, "It is 4 degrees.\n"), ran.err
    [document] = ran.trajectories
    assert document["agent"]["name"] == "weather"
    assert document["steps"][2]["observation"]["results"][0]["content"] == "Oslo: 4 degrees"


def test_a_file_of_policy_holds_for_its_tools(site: Path, tmp_path: Path) -> None:
    (tmp_path / "spanrelay.toml").write_text('[plugins.policy]\ntools.deny = ["get_*"]\n')
    script = [reply(None, tool_calls=[tool_call("get_weather", {"city": "Oslo"})]), reply("I may not look.")]
    with ModelServer(script) as server:
        ran = run(APP, tmp_path, server, PYTHONPATH=str(site))
    assert (ran.code, ran.out) == (0, "I may not look.\n"), ran.err
    assert "is denied by 'get_*'" in server.requests[-1].raw.decode()
