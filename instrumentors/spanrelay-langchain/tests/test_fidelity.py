"""The program behind the recorded span dumps, run under our instrumentors: the same two trajectories, step for step."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.programs import command, environment
from tests.shared_data import SHARED, needs_shared
from tests.trajectory.program import read
from tests.trajectory.spans import story

METRICS = {"prompt_tokens": 50, "completion_tokens": 10, "cached_tokens": 20}
BOTH = [("get_weather", {"city": "SF"}), ("get_weather", {"city": "NY"})]
MAIN = [
    "system You are a weather bot.",
    "user weather in SF and NY?",
    f"agent {BOTH} {[('sunny', False, False), ('rain', False, False)]} {METRICS}",
    f"agent It is sunny in SF and raining in NY. {METRICS}",
    "user thanks, hello",
    f"agent Hello there. {METRICS}",
    "user please fail",
    f"agent {[('explode', {'x': 1})]} {[('boom', True, False)]} {METRICS}",
]
FAILED = ["system You are a weather bot.", "user ERR429", "agent failed"]


@needs_shared
def test_the_program_behind_the_dumps_tells_the_same_story_without_a_change(tmp_path: Path) -> None:
    program = (SHARED or Path()) / "spans" / "program" / "capture.py"
    done = subprocess.run(
        command(str(program), "app_langchain"),
        cwd=tmp_path,
        env=environment(None, {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.count("raised ")) == (
        0,
        2,
    ), done.stderr
    assert "SpanRelay failed" not in done.stderr and "lost or left out" not in done.stderr
    found = read(tmp_path / ".spanrelay" / "trajectories")
    main, failed = sorted(found.values(), key=lambda document: -len(document["steps"]))
    assert story(main) == MAIN
    assert story(failed) == FAILED
