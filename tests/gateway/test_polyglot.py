"""Programs in other languages, with their ordinary SDKs: one span a call, policy, the trajectory of the Python one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest
from tests.own_environment import alone_at
from tests.programs import run
from tests.providers.test_same_conversation import bare, lines_of

from spanrelay.gateway import Gateway
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.conformance.trajectories import complaints_of, documents_of
from spanrelay_testkit.model_scripts import weather
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

EXAMPLES = Path(__file__).parents[2] / "examples"
BUILT = Path.home() / ".cache" / "spanrelay" / "polyglot"
"""Where programs are built: never in the tree."""


@dataclass(frozen=True)
class Language:
    """How a program is built and run, in its folder."""

    tool: str
    build: tuple[str, ...]
    start: tuple[str, ...]
    makes: str
    """The file that says that it is built."""


LANGUAGES = {
    "node": Language("npm", ("npm", "install", "--silent"), ("node", "weather.js"), "node_modules"),
    "go": Language("go", ("go", "build", "-gcflags=all=-N -l", "-o", "weather", "."), ("./weather",), "weather"),
    "java": Language(
        "mvn",
        ("mvn", "-B", "-q", "dependency:build-classpath", "-Dmdep.outputFile=classpath"),
        ("java", "-cp", "@classpath", "Weather.java"),
        "classpath",
    ),
    "rust": Language("cargo", ("cargo", "build", "--quiet"), ("target/debug/weather",), "target/debug/weather"),
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("SPANRELAY_TEST_POLYGLOT") != "1", reason="set SPANRELAY_TEST_POLYGLOT=1 to build them"
    ),
]


def built(name: str) -> tuple[Path, list[str]]:
    """Return the folder of a program, built as its sources are now, and the command that runs it there."""
    language, home = LANGUAGES[name], BUILT / name
    if shutil.which(language.tool) is None:
        pytest.skip(f"there is no {language.tool} here")
    sources = {path.relative_to(EXAMPLES / "polyglot" / name): path.read_bytes() for path in _files(name)}
    with alone_at(home):
        if not (home / language.makes).exists() or any(
            not (home / path).exists() or (home / path).read_bytes() != content for path, content in sources.items()
        ):
            for path, content in sources.items():
                (home / path).parent.mkdir(parents=True, exist_ok=True)
                (home / path).write_bytes(content)
            subprocess.run(language.build, cwd=home, check=True, timeout=1200)
    classpath = home / "classpath"
    return home, [classpath.read_text() if part == "@classpath" else part for part in language.start]


def _files(name: str) -> list[Path]:
    return [path for path in (EXAMPLES / "polyglot" / name).rglob("*") if path.is_file()]


def ran(name: str, url: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """What a program did, that knows of the gateway by one variable."""
    folder, command = built(name)
    told = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-of-nobody", "SESSION": "weather", **settings}
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **told}, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def in_python(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The trajectory of the agent in Python, recorded in process, without its tools' schema of times and ids."""
    with ModelServer(weather) as server:
        done = run((EXAMPLES / "weather_agent.py").read_text(), tmp_path_factory.mktemp("python"), server)
    assert done.code == 0, done.err
    [document] = done.trajectories
    return steps_of(document)


def steps_of(document: Any) -> list[str]:
    """The steps of a document and what they add up to, line by line; the Python program alone streams."""
    told = bare({key: document[key] for key in ("steps", "final_metrics")}, {})
    for step in told["steps"]:
        if step.get("metrics", {}).get("extra") == {}:  # where the time to the first token stood
            del step["metrics"]["extra"]
    return lines_of(told)


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_program_leaves_one_span_a_call_and_the_trajectory_of_the_same_program_in_python(
    name: str, capture: Capture, standing: Callable[..., Gateway], in_python: Any
) -> None:
    with ModelServer(weather) as server:
        gateway = standing(server)
        done = ran(name, gateway.base_url("openai"))
        assert done.returncode == 0, done.stderr
        gateway.stop()
        assert len(server.requests) == len(capture.spans) == 4
    documents = documents_of(capture.spans)
    assert list(complaints_of(documents)) == []
    [document] = documents
    differing = "\n".join(unified_diff(in_python, steps_of(document), "in Python", name, lineterm=""))
    assert not differing, differing
    assert document["session_id"] == "weather"


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_model_that_policy_refuses_is_an_error_of_the_program_and_never_asked(
    name: str, capture: Capture, standing: Callable[..., Gateway], tmp_path: Path
) -> None:
    with in_force(tmp_path, '[plugins.policy]\nmodels.deny = ["secret-*"]\n'), ModelServer(weather) as server:
        gateway = standing(server)
        done = ran(name, gateway.base_url("openai"), OPENAI_MODEL="secret-1")
        gateway.stop()
        assert server.requests == []
    assert done.returncode == 1
    assert "'secret-1' is denied" in done.stderr
    assert len(capture.of("LLM")) == 1
