"""The directory of trajectories: private, bounded, whole files only, and no harm where it cannot be written."""

import errno
import json
import logging
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.trajectory.program import Program, outline, read, says, user

from spanrelay import _guard
from spanrelay._masking import mask_bytes
from spanrelay.assembly.sinks import TrajectoryDirectory, recover, write_whole
from spanrelay.assembly.spool import SUFFIX, TEMPORARY, Spool, render
from spanrelay.cli import main
from spanrelay.records import Message


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


def test_a_link_in_the_place_of_a_file_of_ours_is_never_written_through(tmp_path: Path) -> None:
    directory, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    directory.mkdir()
    elsewhere.mkdir()
    for name in (".gitignore", "s.json", f"s{SUFFIX}", f"old{SUFFIX}"):
        (directory / name).symlink_to(elsewhere / f"of {name}")
    (elsewhere / f"of old{SUFFIX}").write_text("not ours")
    chat(program := Program(directory), "s")
    program.writer.shutdown()
    assert [path.name for path in elsewhere.iterdir()] == [f"of old{SUFFIX}"]
    assert (elsewhere / f"of old{SUFFIX}").read_text() == "not ours"
    assert [path.name for path in directory.glob("*.json") if not path.is_symlink()] == ["s-2.json"]


def test_a_pipe_in_the_place_of_a_part_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"s{SUFFIX}")
    assert recover(tmp_path) == ([], [], [])
    chat(program := Program(tmp_path), "s")
    assert list(program.documents()) == ["s-2"]


@pytest.mark.parametrize("name", ["NUL", "con", "Com1", "aux.txt", "lpt9.a.b", "-rf", "--help", "-", "prn"])
def test_a_name_that_means_something_to_a_system_or_a_command_gets_another_form(tmp_path: Path, name: str) -> None:
    directory = TrajectoryDirectory(tmp_path)
    part, path = directory.claim(name)
    assert path.name.partition(".")[0].lower() not in ("nul", "con", "com1", "aux", "lpt9", "prn")
    assert not path.name.startswith("-")
    part.close(remove=True)


def test_names_that_only_begin_like_reserved_ones_stay(tmp_path: Path) -> None:
    for name in ("console", "null", "com10", "auxiliary.1", "a-b"):
        part, path = TrajectoryDirectory(tmp_path).claim(name)
        assert path.name == f"{name}.json"
        part.close(remove=True)


def test_a_key_in_the_name_of_a_session_is_masked_in_the_name_of_its_file(tmp_path: Path) -> None:
    program = Program(tmp_path, mask=mask_bytes)
    key = "sk-" + "a1" * 20
    chat(program, f"of {key}")
    (part,) = tmp_path.glob(f"*{SUFFIX}")
    (name,) = program.documents()
    assert "masked_key" in name
    assert "a1a1" not in name + part.name


def test_a_document_that_another_process_finishes_while_its_name_is_claimed_is_not_written_over(tmp_path: Path) -> None:
    class Raced(TrajectoryDirectory):
        def open_part(self, path: Path) -> Spool:
            if path.stem == "s":  # the name was free; the other's part is gone now
                path.write_text("of another process")
            return super().open_part(path)

    directory = Raced(tmp_path)
    part, path = directory.claim("s")
    directory.write(path, {"steps": []})
    part.close(remove=True)
    assert (path.name, (tmp_path / "s.json").read_text()) == ("s-2.json", "of another process")
    assert list(tmp_path.glob(f"*{SUFFIX}")) == []


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


class Talk:
    """One session that grows turn by turn."""

    def __init__(self, program: Program, session: str = "s") -> None:
        self.program = program
        self.root = program.agent(session_id=session)
        self.history: list[Message] = []

    def turn(self, words: str = "") -> None:
        number = len(self.history) // 2
        self.history += [user(f"q{number}"), says(f"a{number}{words}")]
        self.program.ask(self.root, self.history[:-1], self.history[-1])

    def told(self) -> list[str]:
        """What the document should say."""
        names = {"user": "user", "assistant": "agent"}
        return [f"{names[message.role]}: {message.text}" for message in self.history]


@contextmanager
def full_disk(room: int = 0) -> Generator[None]:
    """Let no file grow beyond `room` bytes, as far as a process can be told so without a disk of its own."""
    before, keeps = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # or what is imported meanwhile is cut off in the interpreter's cache, and kept so
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = keeps


@contextmanager
def no_files_left() -> Generator[None]:
    """Let no file be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def refusing(reason: int) -> Generator[None]:
    """Refuse to open anything for `reason`: what a read-only mount, a quota or missing rights do."""

    def refuse(*arguments: object) -> int:
        raise OSError(reason, os.strerror(reason))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spanrelay.assembly.spool.os.open", refuse)
        yield


REFUSALS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "full disk": full_disk,
    "full but for some bytes": lambda: full_disk(1500),
    "too many open files": no_files_left,
    "read-only": lambda: refusing(errno.EROFS),
    "no rights": lambda: refusing(errno.EACCES),
    "quota": lambda: refusing(errno.EDQUOT),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("flushed", [False, True], ids=["growing", "finished"])
@pytest.mark.parametrize("begun", [0, 3])
def test_what_cannot_be_written_for_a_while_is_written_later(
    tmp_path: Path, refusal: str, flushed: bool, begun: int
) -> None:
    program = Program(tmp_path)
    talk = Talk(program)
    for _ in range(begun):
        talk.turn()
    if flushed:
        program.end(talk.root)
        assert program.writer.flush()
        talk.root = program.agent(session_id="s")
    with REFUSALS[refusal]():
        for _ in range(4):
            talk.turn()
        program.writer.idle()
    for _ in range(20):
        talk.turn()
    assert program.writer.flush()
    assert outline(read(tmp_path)["s"]) == talk.told()
    program.end(talk.root)
    (document,) = program.documents().values()
    assert outline(document) == talk.told()
    assert _guard.losses.take() == {}
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("s.json", ".gitignore")] == []


def test_a_part_says_everything_again_once_there_is_room(tmp_path: Path) -> None:
    program = Program(tmp_path)
    talk = Talk(program)
    talk.turn()
    with full_disk(1500):
        for _ in range(5):
            talk.turn()
    for _ in range(70):
        talk.turn()
    (part,) = tmp_path.glob(f"*{SUFFIX}")
    document = render(part)
    assert document is not None
    assert outline(document) == talk.told()
    program.documents()


@pytest.mark.swallows
def test_a_disk_that_stays_full_costs_one_warning_and_what_is_lost_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program(tmp_path)
    talk = Talk(program)
    talk.turn()
    program.writer.flush()
    with caplog.at_level(logging.WARNING, "spanrelay"), full_disk():
        for _ in range(5):
            talk.turn()
        program.end(talk.root)
        program.writer.shutdown()
    assert len(caplog.records) == 1
    assert outline(read(tmp_path)["s"]) == ["user: q0", "agent: a0"]
    assert _guard.losses.take() == {"trajectory operations not written": 10, "trajectories not rendered": 1}


@pytest.mark.swallows
def test_what_waits_for_room_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanrelay.assembly.sinks.MAX_BACKLOG", 20_000)
    program = Program(tmp_path)
    talk = Talk(program)
    talk.turn()
    journal = next(iter(program.writer._journals.values()))
    with full_disk():
        for _ in range(50):
            talk.turn("x" * 2000)
        assert journal._size < 30_000
    for _ in range(200):
        talk.turn()
    program.end(talk.root)
    (document,) = program.documents().values()
    told = outline(document)
    assert [line for line in talk.told() if line not in told] == []
    assert set(_guard.losses.take()) == {"model calls beyond the size of a trajectory"}


@pytest.mark.parametrize("made_again", [False, True])
def test_a_folder_removed_under_a_growing_document_is_made_again_with_all_of_it(
    tmp_path: Path, made_again: bool
) -> None:
    directory = tmp_path / "t"
    program = Program(directory)
    talk = Talk(program)
    for _ in range(3):
        talk.turn()
    shutil.rmtree(directory)
    if made_again:
        directory.mkdir()
    talk.turn()
    program.writer.flush()
    assert outline(read(directory)["s"]) == talk.told()
    assert [part.name for part in directory.glob(f"*{SUFFIX}")] == [f"s{SUFFIX}"]
    talk.turn()
    program.end(talk.root)
    assert outline(program.document()) == talk.told()
    assert made_again or (directory / ".gitignore").exists()


def test_a_session_goes_on_in_a_new_document_where_its_finished_one_was_removed(tmp_path: Path) -> None:
    directory = tmp_path / "t"
    program = Program(directory)
    talk = Talk(program)
    talk.turn()
    program.end(talk.root)
    assert program.writer.flush()
    shutil.rmtree(directory)
    talk.root = program.agent(session_id="s")
    talk.turn()
    program.use(talk.root, "look", {}, "seen")
    program.end(talk.root)
    assert outline(program.document()) == [*talk.told(), "agent: "]
    assert _guard.losses.take() == {}


@pytest.mark.parametrize("left", ["", "{", "{}", "[]", '{"trajectory_id": "t", "steps": [{"a": 1}]}', None])
def test_a_session_goes_on_in_a_new_document_where_its_finished_one_is_none_any_more(
    tmp_path: Path, left: str | None
) -> None:
    program = Program(tmp_path)
    talk = Talk(program)
    talk.turn()
    program.end(talk.root)
    assert program.writer.flush()
    path = tmp_path / "s.json"
    path.unlink()
    if left is None:
        path.mkdir()
    else:
        path.write_text(left)
    talk.root = program.agent(session_id="s")
    talk.turn()
    program.end(talk.root)
    assert program.writer.flush()
    assert outline(json.loads((tmp_path / "s-2.json").read_text())) == talk.told()
    assert path.is_dir() if left is None else path.read_text() == left
    assert _guard.losses.take() == {}


def test_a_session_goes_on_in_a_document_that_somebody_has_added_to(tmp_path: Path) -> None:
    program = Program(tmp_path)
    talk = Talk(program)
    talk.turn()
    program.end(talk.root)
    assert program.writer.flush()
    path = tmp_path / "s.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "extra": {**document.get("extra", {}), "reward": 1.0}}))
    talk.root = program.agent(session_id="s")
    talk.turn()
    program.end(talk.root)
    document = program.document()
    assert outline(document) == talk.told()
    assert document["extra"]["reward"] == 1.0


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
    monkeypatch.setattr("spanrelay.assembly.sessions.MAX_SESSIONS", 10)
    program = Program(tmp_path)
    for number in range(30):
        chat(program, f"s{number}")
    chat(program, "s0")
    assert set(program.documents()) == {*(f"s{number}" for number in range(30)), "s0-2"}


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from spanrelay.assembly import sinks

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


def test_what_a_killed_process_left_stays_while_there_is_no_room_for_its_document(tmp_path: Path, capsys: Any) -> None:
    there, left = tmp_path / "there", tmp_path / "left"
    talk = Talk(program := Program(there))
    talk.turn()
    left.mkdir()
    shutil.copy(there / f"s{SUFFIX}", left)  # which nobody has locked, as that of a process that is gone
    program.writer.shutdown()
    part = left / f"s{SUFFIX}"
    with full_disk():
        found = recover(left)
    assert (found.finished, found.whole, [each for each, _ in found.left]) == ([], [], [part])
    with full_disk():
        assert main(["recover", str(left)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told == [f"{part}: stays, since its trajectory cannot be written: File too large", f"0 recovered in {left}"]
    assert recover(left).finished == [left / "s.json"]
    assert outline(read(left)["s"]) == talk.told()
    assert _guard.losses.take() == {}


def test_recovery_removes_what_a_process_was_writing_when_it_died(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    left = killed_while_writing(tmp_path / "conv.json") + killed_while_writing(tmp_path / "images" / "a.png")
    assert recover(tmp_path).finished == []
    assert not any(file.exists() for file in left)


KILLED_WHEN_DONE = """
import os, signal, sys
from pathlib import Path
from tests.trajectory.program import *

program = Program(Path(sys.argv[1]))
root = program.agent(session_id="s")
program.ask(root, [user("hello")], says("hi"))
if sys.argv[2] == "ended":
    program.end(root)
program.writer.idle()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("ended", ["ended", "open"])
def test_nothing_was_missing_where_a_document_was_whole_when_its_process_died(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ended: str
) -> None:
    command = [sys.executable, "-c", KILLED_WHEN_DONE, str(tmp_path), ended]
    assert subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode == -signal.SIGKILL
    before = (tmp_path / "s.json").read_bytes()
    assert main(["recover", str(tmp_path)]) == 0
    path, told = tmp_path / "s.json", capsys.readouterr().out.splitlines()
    if ended == "ended":
        assert told == [f"{path}: nothing was missing", f"0 recovered in {tmp_path}"]
        assert path.read_bytes() == before
    else:
        assert told == [str(path), f"1 recovered in {tmp_path}"]
        assert json.loads(path.read_bytes())["extra"]["status"] == "partial"
    assert list(tmp_path.glob(f"*{SUFFIX}")) == []


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

    monkeypatch.setattr("spanrelay.assembly.sinks.os.replace", look_around_first)
    write_whole(tmp_path / "conv.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["conv.json"]


def test_a_file_that_could_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conv.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "conv.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["conv.json"]
