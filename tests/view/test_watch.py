"""`spanrelay watch` tells of the runs of a folder as they grow, and leaves no trace in it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.view.documents import HIDDEN, clerk, document, put, step, trip
from tests.view.growing import Growing

from spanrelay._guard import losses
from spanrelay.assembly.sinks import recover
from spanrelay.cli import files, main
from spanrelay.cli.board import board
from spanrelay.cli.told import Told
from spanrelay.view.live import Live, state_of


def live_of(folder: Path) -> Live:
    return Live(folder, files.trajectory, files.looks_like_one)


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[Growing]:
    (folder := tmp_path / "runs").mkdir()
    growing = Growing(folder, trip(), "trip-7")
    yield growing
    growing.close()


def told(news: Told) -> list[str]:
    """The new lines, without times."""
    return [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in news.news()]


def shown(live: Live, width: int, height: int = 24, now: float = 0, **more: Any) -> list[str]:
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(board(live, width, height, now, **more))
    return [line.rstrip() for line in console.export_text().splitlines()]


# ── lines


def test_each_step_and_each_answer_of_a_tool_is_told_once(growing: Growing) -> None:
    news = Told(live_of(growing.path.parent), None)
    growing.step()
    assert told(news) == [
        f"{growing.path.parent}: 1 run, 1 growing",
        "travel-agent  trip-7  1 system  +0.0 s  You plan trips.",
    ]
    assert told(news) == []
    growing.step()
    assert told(news) == ["travel-agent  trip-7  2 user  +10.0 s  How do I get from Bergen to Oslo?"]
    growing.step(answered=False)
    agent, *calls = told(news)
    assert agent.startswith("travel-agent  trip-7  3 agent  3.0 s")
    assert calls[0] == 'travel-agent  trip-7  3 get_weather(city="Oslo")'
    growing.result(3, trip()["steps"][2]["observation"]["results"][0])
    assert told(news) == ['travel-agent  trip-7  3 get_weather(city="Oslo")  0.4 s  → 8 °C, rain']
    growing.finish()
    [end] = told(news)
    assert end.startswith("trip-7.json is finished: 3 steps · 3 tool calls")


def test_of_what_had_begun_the_end_is_told_and_of_what_is_finished_nothing(growing: Growing) -> None:
    put(growing.path.parent, "old.json", clerk())
    for _ in range(6):
        growing.step()
    head, *lines = told(Told(live_of(growing.path.parent), None))
    assert head.endswith("2 runs, 1 growing")
    assert len(lines) == 3
    assert "6 agent" in lines[-1]


def test_a_document_that_appears_is_told_and_one_that_is_removed(tmp_path: Path) -> None:
    news = Told(live_of(tmp_path / "runs"), None)
    assert told(news) == [f"{tmp_path / 'runs'}: 0 runs, 0 growing"]  # there is no such folder
    path = put(tmp_path / "runs" / "deeper", "run.json", clerk())
    lines = told(news)
    assert lines[0] == "travel-agent  trip-7  1 user  +0.0 s  A ticket to Oslo."
    assert lines[-1].startswith("run.json is finished: ")  # it began and ended between two looks
    path.unlink()
    assert told(news) == [f"{path} was removed"]


def test_sub_agents_are_told_with_the_agent_that_they_work_for(tmp_path: Path) -> None:
    news = Told(live_of(tmp_path), None)
    told(news)
    put(tmp_path, "run.json", trip())
    assert "travel-agent > rail-expert  1 user  +0.0 s  Train or plane?" in told(news)


# ── what is wrong with a folder


def test_a_run_whose_program_is_gone_is_left_and_grows_no_more(growing: Growing) -> None:
    growing.step()
    live = live_of(growing.path.parent)
    news, (run,) = Told(live, None), (run for run, _ in live.newest(1)[0])
    told(news)
    assert (state_of(run), shown(live, 80)[4][0]) == ("growing", "●")
    growing.abandon()
    cure = "`spanrelay recover` finishes it"
    assert told(news) == [f"trip-7.json is left unfinished: its program is gone; {cure}"]
    assert told(news) == []
    assert shown(live, 80)[1] == f"1 run, 0 growing, 1 left unfinished: {cure}"
    assert shown(live, 80)[4][0] == "✗"
    assert told(Told(live, None)) == [f"{live.folder}: 1 run, 0 growing, 1 left unfinished: {cure}"]
    recover(growing.path.parent)
    assert told(news)[0].startswith("trip-7.json is finished: 1 step")
    assert shown(live, 80)[1] == "1 run, 0 growing"


def test_a_torn_line_is_left_out_until_it_is_whole(growing: Growing) -> None:
    news = Told(live_of(growing.path.parent), None)
    growing.step()
    told(news)
    with growing.part.open("ab") as file:
        file.write(b'{"op":"step","doc":"root","st')
    assert told(news) == []
    losses.take()
    with growing.part.open("ab") as file:
        file.write(b'ep":' + json.dumps(step(2, "user", "Whole now")).encode() + b"}\n")
    assert told(news) == ["travel-agent  trip-7  2 user  +10.0 s  Whole now"]


def test_what_is_no_run_is_said_or_left_out(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"schema_version": "ATIF-v1.7", "session_id": "s')
    (tmp_path / "package.json").write_text('{"name": "x"}')
    (tmp_path / "begun.atif.part").write_bytes(b'{"op":"open","doc":"a","he')
    (tmp_path / "wrong.atif.part").write_bytes(
        b'{"op":"open","doc":"a","head":{}}\n{"op":"step","doc":"b","step":{}}\n'
    )
    (tmp_path / "lost.json").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.atif.part")
    lines = shown(live_of(tmp_path), 120)
    assert "3 runs, 0 growing, 2 left unfinished" in lines[1]
    text = "\n".join(lines)
    assert "'begun.json' begins: no step had ended when its program was killed" in text
    assert "the journal 'wrong.atif.part' cannot be read" in text
    assert "half.json' is not JSON" in text
    losses.take()


def test_a_run_that_is_removed_while_it_is_looked_at_is_said_to_be(tmp_path: Path) -> None:
    put(tmp_path, "run.json", clerk())
    live = live_of(tmp_path)
    [(run, _)], _ = live.newest(1)
    run.path.unlink()
    run.document = (0, 0)
    assert live.document(run) == "'run.json' has been removed"


def test_looking_changes_nothing_and_locks_nothing(growing: Growing) -> None:
    growing.step()

    def state() -> dict[str, Any]:
        found = {path.name: path.stat() for path in growing.path.parent.iterdir()}
        return {name: (each.st_ino, each.st_size, each.st_mtime_ns, each.st_mode) for name, each in found.items()}

    before, live = state(), live_of(growing.path.parent)
    shown(live, 80)
    told(Told(live, None))
    assert state() == before
    with growing.part.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is its writer's still
    growing.step()


def test_a_journal_that_its_document_is_as_new_as_does_not_grow(growing: Growing) -> None:
    growing.step()
    put(growing.path.parent, "trip-7.json", clerk())
    with growing.part.open("ab") as file:
        file.write(b'{"op":"whole"}\n')
    assert shown(live_of(growing.path.parent), 80)[1] == "1 run, 0 growing"


# ── the board


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_board_fits_its_terminal(growing: Growing, width: int) -> None:
    for _ in range(4):
        growing.step()
    for at in range(30):
        path = put(growing.path.parent, f"{at}.json", clerk())
        os.utime(path, (at, at))
    lines = shown(live_of(growing.path.parent), width, now=60.0)
    assert lines[1] == "31 runs, 1 growing"
    assert max(map(len, lines)) <= width
    assert len(lines) <= 24
    assert "agent" in lines[3]
    assert lines[4].startswith("●  travel")
    assert lines[5].endswith("31 s")
    assert any("4 steps · 4 tool calls" in line for line in lines)  # the end of the run that changed last


def test_an_empty_board_says_what_it_waits_for(tmp_path: Path) -> None:
    lines = shown(live_of(tmp_path / "later"), 200)
    assert lines == [str(tmp_path / "later"), "no run yet; what is written here appears"]


def test_nothing_of_a_run_moves_the_terminal(tmp_path: Path) -> None:
    hostile = document([step(1, "user", HIDDEN), step(2, "agent", HIDDEN)], session_id=HIDDEN)
    hostile["agent"].update(name=HIDDEN, model_name=HIDDEN)
    news = Told(live_of(tmp_path), None)
    told(news)
    put(tmp_path, "x\x1b[2Jx.json", hostile)
    text = "\n".join([*shown(live_of(tmp_path), 200), *told(news)])
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e\u2066\U000e0041]", text)
    assert r"\x1b[2J" in text


def test_a_terminal_with_few_characters_is_shown_others(growing: Growing) -> None:
    assert shown(live_of(growing.path.parent), 80, plain=True)[4].startswith("*  ")


# ── the command


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_lines_come_through_a_pipe_as_steps_do_until_ctrl_c(growing: Growing) -> None:
    command = [sys.executable, "-m", "spanrelay", "watch", str(growing.path.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("1 run, 1 growing\n")
        growing.step()
        assert process.stdout.readline().endswith("You plan trips.\n")
        assert ended(process) == (0, "")


@pytest.mark.parametrize("color", [True, False])
def test_a_terminal_has_a_board_until_ctrl_c(growing: Growing, color: bool) -> None:
    growing.step()
    ours, theirs = pty.openpty()
    settings = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    settings.pop("NO_COLOR", None)
    settings |= {} if color else {"NO_COLOR": "1"}
    command = [sys.executable, "-m", "spanrelay", "watch", str(growing.path.parent)]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, text=True, env=settings) as process:
        os.close(theirs)
        told = b""
        while b"1 step " not in told:
            assert select.select([ours], [], [], 60)[0]
            told += os.read(ours, 65536)
        assert ended(process) == (0, "")
    os.close(ours)
    assert "●" in told.decode()
    assert bool(re.search(rb"\x1b\[[0-9;]*3[0-9]m", told)) is color


def test_what_is_no_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / "file").write_text("")
    assert main(["watch", str(path)]) == 1
    assert capsys.readouterr().err == f"spanrelay: the folder {str(path)!r} cannot be read: Not a directory\n"


def test_a_port_that_is_taken_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path), "--web", "--port", "70000"]) == 1
    assert "nothing can listen at 127.0.0.1:70000: expected a port from 0 to 65535" in capsys.readouterr().err
