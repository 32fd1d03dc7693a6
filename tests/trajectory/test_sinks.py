"""The directory of trajectories: private, bounded, whole files only, and no harm where it cannot be written."""

import json
import logging
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.trajectory.program import Program, outline, says, user

from spanrelay import _guard
from spanrelay.trajectory.sinks import TrajectoryDirectory, recover, write_whole
from spanrelay.trajectory.spool import SUFFIX, TEMPORARY


def chat(program: Program, session: str, words: str = "hi") -> None:
    root = program.agent(session_id=session)
    program.ask(root, [user("hello")], says(words))
    program.end(root)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "trajectories"
    program = Program(directory)
    chat(program, "s")
    (part,) = directory.glob(f"*{SUFFIX}")
    assert mode(part) == 0o600
    program.writer.directory.put(b"x", "images", ".png")
    program.documents()
    assert mode(directory) == 0o700
    assert mode(directory / "s.json") == 0o600
    assert (directory / ".gitignore").read_text() == "*\n"
    assert {mode(path) for path in (directory / "images").iterdir()} == {0o600}


def test_a_directory_is_made_only_when_there_is_a_step(tmp_path: Path) -> None:
    program = Program(tmp_path / "none")
    program.end(program.agent(session_id="s"))
    program.documents()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "", "..", "x" * 500, "naïve", "C:\\x", "a b", "\ud800", ".hidden"]
)
def test_a_file_name_stays_within_its_directory(tmp_path: Path, name: str) -> None:
    directory = TrajectoryDirectory(tmp_path / "t")
    part, path = directory.claim(name)
    assert path.parent == tmp_path / "t"
    assert not path.name.startswith(".")
    assert len(path.name) < 130
    part.close(remove=True)


def test_names_that_look_alike_when_made_safe_stay_apart(tmp_path: Path) -> None:
    program = Program(tmp_path)
    chat(program, "a/b", "one")
    chat(program, "a:b", "two")
    assert len(program.documents()) == 2


def test_two_processes_with_one_session_write_two_files(tmp_path: Path) -> None:
    one, two = Program(tmp_path), Program(tmp_path)
    chat(one, "s", "from one")
    chat(two, "s", "from two")
    one.documents()
    documents = two.documents()
    assert [outline(documents[name])[-1] for name in ("s", "s-2")] == ["agent: from one", "agent: from two"]


def test_the_oldest_files_go_when_all_are_too_large_but_none_of_this_process(tmp_path: Path) -> None:
    for age, name in enumerate(("old", "older", "oldest")):
        path = tmp_path / f"{name}.json"
        path.write_bytes(b"x" * 10_000)
        os.utime(path, (10_000 - age, 10_000 - age))
    program = Program(tmp_path, max_bytes=15_000)
    chat(program, "mine", "y" * 500)
    program.writer.shutdown()
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == ["mine", "old"]
    assert json.loads((tmp_path / "mine.json").read_text())["session_id"] == "mine"


@pytest.mark.swallows
def test_a_directory_that_cannot_be_made_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    program = Program(tmp_path / "file" / "trajectories")
    with caplog.at_level(logging.WARNING, "spanrelay"):
        for number in range(3):
            chat(program, f"s{number}")
        program.writer.flush()
        program.writer.shutdown()
    assert len([r for r in caplog.records if str(program.directory) in r.getMessage()]) == 1
    assert _guard.losses.take()["trajectory operations not written"] > 3


@pytest.mark.swallows
def test_a_full_disk_costs_one_warning_and_what_was_written_stays(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent(session_id="s")
    program.ask(root, [user("one")], says("two"))
    program.writer.flush()
    journal = next(iter(program.writer._journals.values()))
    part = journal._part
    assert part is not None
    with part._file, open("/dev/full", "r+b", buffering=0) as full:
        part._file = full
        program.ask(root, [user("one"), says("two"), user("three")], says("four"))
        program.end(root)
    (document,) = program.documents().values()
    assert outline(document) == ["user: one", "agent: two"]
    assert _guard.losses.take()["trajectory operations not written"] > 0


def test_a_document_is_replaced_as_a_whole(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent(session_id="s")
    program.ask(root, [user("one")], says("two"))
    program.writer.flush()
    with (tmp_path / "s.json").open() as reader:
        program.ask(root, [user("one"), says("two"), user("three")], says("four"))
        program.writer.flush()
        assert outline(json.load(reader)) == ["user: one", "agent: two"]
    program.end(root)
    program.documents()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".s")] == []


def test_many_sessions_keep_few_files_open_and_every_one_can_go_on(tmp_path: Path) -> None:
    program = Program(tmp_path)
    for number in range(200):
        chat(program, f"s{number}")
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) <= 64
    root = program.agent(session_id="s0")
    program.ask(root, [user("hello"), says("hi"), user("more")], says("ok"))
    program.end(root)
    documents = program.documents()
    assert len(documents) == 200
    assert outline(documents["s0"]) == ["user: hello", "agent: hi", "user: more", "agent: ok"]


def test_a_session_beyond_the_bound_is_finished_and_may_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spanrelay.trajectory.assembler.MAX_SESSIONS", 10)
    program = Program(tmp_path)
    for number in range(30):
        chat(program, f"s{number}")
    chat(program, "s0")
    assert set(program.documents()) == {*(f"s{number}" for number in range(30)), "s0-2"}


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from spanrelay.trajectory import sinks

sinks.os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
sinks.write_whole(Path(sys.argv[1]), b"half of a conversation")
"""


def killed_while_writing(path: Path) -> list[Path]:
    """Kill a process just before its file appears under its name; return what it left."""
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    left = list(path.parent.glob(f".*{TEMPORARY}"))
    assert [file.read_bytes() for file in left] == [b"half of a conversation"]
    return left


def test_recovery_removes_what_a_process_was_writing_when_it_died(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    left = killed_while_writing(tmp_path / "conv.json") + killed_while_writing(tmp_path / "images" / "a.png")
    assert recover(tmp_path) == []
    assert not any(file.exists() for file in left)


def test_the_size_of_the_folder_is_kept_without_what_dead_processes_were_writing(tmp_path: Path) -> None:
    directory = TrajectoryDirectory(tmp_path, max_bytes=64)
    directory.prepare()
    (left,) = killed_while_writing(tmp_path / "conv.json")
    directory.write(tmp_path / "mine.json", {"a": 1})
    assert not left.exists()
    assert (tmp_path / "mine.json").exists()


def test_a_file_that_a_live_process_is_writing_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def look_around_first(source: str, target: Path) -> None:
        recover(tmp_path)
        replace(source, target)

    monkeypatch.setattr("spanrelay.trajectory.sinks.os.replace", look_around_first)
    write_whole(tmp_path / "conv.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["conv.json"]


def test_a_file_that_could_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conv.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "conv.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["conv.json"]
