"""A long session costs what is new in it: on disk, in memory and on reading."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

LONG = """
    import json, resource, sys
    from pathlib import Path
    from spanrelay.records import Message, Text
    from tests.trajectory.program import Program, says, system, user

    def again(message):
        return Message(message.role, [Text(message.parts[0].text)])

    program = Program(Path(sys.argv[1]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    root, history = program.agent(session_id="long"), [system("be kind")]
    for turn in range(int(sys.argv[2])):
        history.append(user(f"question {turn} " + "x" * 190))
        program.ask(root, [again(message) for message in history], says(f"answer {turn} " + "y" * 190))
        history.append(says(f"answer {turn} " + "y" * 190))
        program.ended.clear()
    program.end(root)
    program.writer.shutdown()
    path = program.directory / "long.json"
    steps = len(json.loads(path.read_bytes())["steps"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"bytes": path.stat().st_size, "steps": steps, "grown": (peak - before) * 1024}))
"""


def measured(calls: int, directory: Path) -> dict[str, int]:
    """Return what a session of so many model calls costs, in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(LONG), str(directory / str(calls)), str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="the peak of memory is read from the resource module")
def test_a_thousand_calls_with_a_growing_history_stay_small(tmp_path: Path) -> None:
    half, whole = measured(500, tmp_path), measured(1000, tmp_path)
    assert whole["steps"] == 2001
    assert whole["bytes"] < 2_000_000
    assert whole["bytes"] < 2.1 * half["bytes"]
    assert whole["grown"] < 60_000_000
