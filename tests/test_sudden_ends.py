"""What is left when a program is killed: all that was written, and where calls wait for it, every finished turn."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.programs import ASK, Run, command, environment, run

from spanrelay.assembly.atif import violations
from spanrelay.assembly.sinks import recover
from spanrelay_testkit.exchange import Answer, Request, reply
from spanrelay_testkit.model_server import ModelServer

TURNS = 5

TALK = f"""
import openai
client = openai.OpenAI()
messages = []
for turn in range({TURNS} + 1):
    messages.append({{"role": "user", "content": f"question {{turn}}"}})
    answer = client.chat.completions.create(model="m", messages=messages)
    messages.append({{"role": "assistant", "content": answer.choices[0].message.content}})
"""


def wait_for_text(folder: Path, text: str) -> None:
    """Wait until a file in `folder` holds `text`."""
    deadline = time.monotonic() + 60
    while not any(text in file.read_text(errors="replace") for file in folder.glob("*.part")):
        assert time.monotonic() < deadline, f"{text!r} was never written to {folder}"
        time.sleep(0.005)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_program_leaves_every_finished_turn(tmp_path: Path, how: signal.Signals) -> None:
    asked, never = threading.Event(), threading.Event()

    def answer(request: Request) -> Answer:
        question = request.body["messages"][-1]["content"]
        if question == f"question {TURNS}":
            asked.set()
            return reply("never read", hold=never)
        return reply(f"answer to {question}")

    (tmp_path / "program.py").write_text(TALK)
    with ModelServer(answer) as server:
        program = subprocess.Popen(
            command(str(tmp_path / "program.py")), cwd=tmp_path, env=environment(server, {}), stderr=subprocess.DEVNULL
        )
        assert asked.wait(60)
        # The recorder's thread writes a turn while the program goes on: give it that moment, and no end of the program.
        wait_for_text(tmp_path / ".spanrelay" / "trajectories", f"answer to question {TURNS - 1}")
        program.send_signal(how)
        program.wait(60)
        never.set()
    recover(tmp_path / ".spanrelay" / "trajectories")
    check_whole(tmp_path)


ENDS = {
    "killed in the next request": signal.SIGKILL,
    "terminated in the next request": signal.SIGTERM,
    "_exit at the start of the next turn": "os._exit(7)",
    "abort at the start of the next turn": "os.abort()",
    "_exit in another thread": "thread = threading.Thread(target=os._exit, args=(7,)); thread.start(); thread.join()",
    "kill at the start of the next turn": "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("how", ENDS)
def test_where_calls_wait_for_their_trajectory_no_end_takes_a_finished_turn(
    tmp_path: Path, how: str, streamed: bool
) -> None:
    end, started, never = ENDS[how], threading.Event(), threading.Event()

    def answer(request: Request) -> Answer:
        question = request.body["messages"][-1]["content"]
        if question == f"question {TURNS}":
            assert started.wait(60)
            program.send_signal(signal.Signals(end))
            return reply("never read", hold=never)
        return reply(f"answer to {question}")

    talk = (
        TALK.replace("    answer =", f"    if turn == {TURNS}: {end}\n    answer =") if isinstance(end, str) else TALK
    )
    if streamed:
        talk = talk.replace('model="m",', 'model="m", stream=True,')
        talk = talk.replace(
            "answer.choices[0].message.content", "''.join(c.choices[0].delta.content or '' for c in answer)"
        )
    (tmp_path / "program.py").write_text("import os, signal, threading\n" + talk)
    settings = {"SPANRELAY_TRAJECTORY_SYNC": "true"}
    with ModelServer(answer) as server:
        program = subprocess.Popen(
            command(str(tmp_path / "program.py")),
            cwd=tmp_path,
            env=environment(server, settings),
            stderr=subprocess.DEVNULL,
        )
        started.set()
        assert program.wait(60) != 0
        never.set()
    recover(tmp_path / ".spanrelay" / "trajectories")
    check_whole(tmp_path)


CROWD = """
import multiprocessing, sys
import openai

def ask(text):
    client = openai.OpenAI()
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])

if __name__ == "__main__":
    how, warm = sys.argv[1:]
    if warm == "warm":
        ask("of the parent")
    context = multiprocessing.get_context(how)
    children = [context.Process(target=ask, args=(f"of child {n}",)) for n in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
"""


@pytest.mark.parametrize(
    ("how", "warm"), [("fork", "warm"), ("fork", "cold"), ("forkserver", "cold"), ("spawn", "cold")]
)
def test_the_children_of_multiprocessing_finish_their_own_trajectories(tmp_path: Path, how: str, warm: str) -> None:
    with ModelServer() as server:
        ran = run(CROWD, tmp_path, server, arguments=(how, warm), SPANRELAY_QUIET="true")
    assert (ran.code, ran.err) == (0, "")
    asked = [step["message"] for document in ran.trajectories for step in document["steps"] if step["source"] == "user"]
    expected = ["of child 0", "of child 1"] + (["of the parent"] if warm == "warm" else [])
    assert sorted(asked) == expected
    assert not list((tmp_path / ".spanrelay" / "trajectories").glob("*.part"))
    assert not any("recovered" in document.get("extra", {}) for document in ran.trajectories)


def test_of_many_children_only_the_first_says_where_trajectories_are(tmp_path: Path) -> None:
    program = CROWD.replace("        child.start()\n", "        child.start()\n        child.join()\n")
    with ModelServer() as server:
        ran = run(program, tmp_path, server, arguments=("fork", "cold"))
    assert len(ran.trajectories) == 2
    assert ran.err.count("are written to") == 1


def test_a_forked_child_of_a_program_without_the_launcher_finishes_what_it_activated(tmp_path: Path) -> None:
    program = CROWD.replace(
        "    client =",
        "    import spanrelay, spanrelay_openai\n    spanrelay.activate()\n"
        "    spanrelay_openai.OpenAIInstrumentor().instrument()\n    client =",
    )
    with ModelServer() as server:
        ran = run(program, tmp_path, server, launched=False, arguments=("fork", "cold"))
    assert len(ran.trajectories) == 2, ran.err


def check_whole(folder: Path) -> None:
    """Every finished turn is in the one document, and nothing else is left."""
    [document] = Run(0, "", "", folder).trajectories
    assert violations(document) == []
    expected = [text for n in range(TURNS) for text in (f"question {n}", f"answer to question {n}")]
    assert [step["message"] for step in document["steps"]][: 2 * TURNS] == expected
    assert not list((folder / ".spanrelay" / "trajectories").glob("*.part"))


def test_the_next_run_finishes_what_a_killed_one_left(tmp_path: Path) -> None:
    program = TALK + "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    with ModelServer() as server:
        killed = run(program, tmp_path, server, SPANRELAY_TRAJECTORY_SYNC="true")  # a kill takes what waits else
        assert killed.code == -signal.SIGKILL
        run(ASK.replace("hello", "something else"), tmp_path, server)
    folder = tmp_path / ".spanrelay" / "trajectories"
    assert not list(folder.glob("*.part"))
    assert f"question {TURNS - 1}" in Run(0, "", "", tmp_path).said
