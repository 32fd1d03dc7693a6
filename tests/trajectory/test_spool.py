"""What a killed process leaves is a document; what is written survives, what is torn does no harm."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from tests.trajectory.program import Program, answers, calls, outline, read, results, says, system, user

from spanrelay import _guard
from spanrelay.assembly import spool
from spanrelay.assembly.atif import violations
from spanrelay.assembly.sinks import recover
from spanrelay.assembly.spool import SUFFIX, Spool, orphans, render, replay

CALL = calls(("c1", "weather", {"city": "SF"}))

ENDLESS = """
    import sys
    from pathlib import Path
    from tests.trajectory.program import *

    program = Program(Path(sys.argv[1]))
    root = program.agent(session_id="doomed")
    history = [system("be kind")]
    turn = 0
    while True:
        history.append(user(f"question {turn}"))
        wanted = calls((f"c{turn}", "weather", {}))
        program.ask(root, history, wanted)
        program.use(root, "weather", {}, "sun", f"c{turn}")
        history += [wanted, answers(f"c{turn}", "sun")]
        program.begin("llm", root)
        program.writer.idle()
        turn += 1
        print(turn, flush=True)
"""


def killed_after(turns: int, directory: Path) -> None:
    """Run a program in a process of its own and kill it after some turns."""
    program = textwrap.dedent(ENDLESS)
    command = [sys.executable, "-c", program, str(directory)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= turns:
                break
        process.send_signal(signal.SIGKILL)


def test_a_killed_process_loses_the_open_turn_only(tmp_path: Path) -> None:
    killed_after(20, tmp_path)
    (part,) = orphans(tmp_path)
    assert part.name == f"doomed{SUFFIX}"
    (path,) = recover(tmp_path).finished
    document = json.loads(path.read_text())
    assert violations(document) == []
    asked = [step for step in document["steps"] if "tool_calls" in step]
    assert len(asked) >= 20
    assert all(results(step) for step in asked[:20])
    assert document["extra"]["recovered"] is True
    assert not list(tmp_path.glob(f"*{SUFFIX}"))


def test_a_new_process_finishes_what_a_killed_one_left_and_never_overwrites_it(tmp_path: Path) -> None:
    killed_after(3, tmp_path)
    program = Program(tmp_path)
    root = program.agent(session_id="doomed")
    program.ask(root, [user("again")], says("hi"))
    program.end(root)
    documents = program.documents()
    assert sorted(documents) == ["doomed", "doomed-2"]
    assert outline(documents["doomed"])[0] == "system: be kind"
    assert outline(documents["doomed-2"]) == ["user: again", "agent: hi"]


def test_a_part_of_a_live_process_is_left_alone(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.ask(program.agent(session_id="alive"), [user("hi")], says("hi"))
    script = "import sys; from pathlib import Path; from spanrelay.assembly.sinks import recover; "
    script += "sys.exit(len(recover(Path(sys.argv[1])).finished))"
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 0
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == 1
    program.documents()


@pytest.mark.swallows
def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent(session_id="s")
    program.ask(root, [user("one")], says("two"))
    program.ask(root, [user("one"), says("two"), user("three")], says("four"))
    (part,) = tmp_path.glob(f"*{SUFFIX}")
    whole = part.read_bytes()
    torn = tmp_path / f"torn{SUFFIX}"
    for cut in range(1, len(whole), 97):
        torn.write_bytes(whole[:-cut])
        document = render(torn)
        assert document is None or violations(document) == []
    torn.unlink()
    program.documents()


@pytest.mark.swallows
@pytest.mark.parametrize(("damaged", "finished"), [(0, 0), (2, 1)])
def test_a_part_with_a_line_that_cannot_be_read_is_kept_aside(
    damaged: int, finished: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed_after(2, tmp_path)
    (part,) = tmp_path.glob(f"*{SUFFIX}")
    lines = part.read_bytes().splitlines(keepends=True)
    lines[damaged] = b"\0" * 20 + b"\n"
    part.write_bytes(b"".join(lines))
    assert len(recover(tmp_path).finished) == finished
    (kept,) = tmp_path.glob("*.damaged")
    assert kept.read_bytes() == b"".join(lines)
    assert not part.exists()
    assert f"it is kept as {kept}" in caplog.text
    _guard.losses.take()


def test_the_part_of_another_user_is_nothing_to_speak_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"s{SUFFIX}").touch()

    def refuse(path: object, *_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(spool.os, "open", refuse)
    assert list(orphans(tmp_path)) == []
    assert _guard.losses.take() == {}


class Nearly(FileIO):
    """A file on a disk that takes a few bytes more before it is full."""

    full = False

    def write(self, data: Any, /) -> int:
        if self.full:
            super().write(data[:2])
            raise OSError(errno.ENOSPC, "full")
        return super().write(data)


def test_what_stands_behind_a_torn_line_is_not_taken_back_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "no")

    part = Spool(tmp_path / f"s{SUFFIX}")
    with part._file as opened:
        file = part._file = Nearly(os.dup(opened.fileno()), "r+")
    part.write(b"one\n")
    file.full = True
    with monkeypatch.context() as broken, pytest.raises(OSError, match="full"):
        broken.setattr(spool.os, "ftruncate", fail)
        part.write(b"two\n")
    file.full = False
    part.write(b"three\n")
    file.full = True
    with pytest.raises(OSError, match="full"):
        part.write(b"four\n")
    part.close()
    assert part.path.read_bytes() == b"one\ntw\nthree\n"


def test_what_is_rendered_midway_is_whole_and_what_follows_goes_on(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent(session_id="s")
    history = [system("be kind")]
    for turn in range(10):
        history.append(user(f"q{turn}"))
        program.ask(root, history, says(f"a{turn}"))
        history.append(says(f"a{turn}"))
        program.writer.flush()
        (document,) = read(tmp_path).values()
        assert outline(document)[-1] == f"agent: a{turn}"
    program.end(root)
    program.documents()


def test_a_finished_document_is_taken_up_again_with_its_children_and_notes(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent(session_id="s")
    history = [user("go"), CALL]
    program.use(root, "setup", {}, "done")
    program.ask(root, history[:1], CALL)
    outer = program.begin("tool", root)
    child = program.agent("helper", outer)
    program.ask(child, [user("help")], says("helped"))
    program.end(child)
    program.end(outer, tool=None, result=None)
    program.end(root)
    assert program.writer.flush()
    (before,) = read(tmp_path).values()
    assert not list(tmp_path.glob(f"*{SUFFIX}"))
    later = program.agent(session_id="s")
    program.ask(later, [*history, answers("c1", "sun"), user("more")], says("ok"))
    program.end(later)
    (after,) = program.documents().values()
    kept = len(before["steps"])
    assert outline(after)[:kept] == outline(before)
    assert outline(after)[kept:] == ["user: more", "agent: ok"]
    assert [c["agent"]["name"] for c in after["subagent_trajectories"]] == ["helper"]
    assert before["notes"].split(" Totals")[0] in after["notes"]


def test_every_line_passes_the_mask_before_it_is_written(tmp_path: Path) -> None:
    program = Program(tmp_path, mask=lambda line: line.replace(b"sk-secret", b"***"))
    root = program.agent(session_id="s")
    program.ask(root, [user("my key is sk-secret")], says("sk-secret"))
    assert b"sk-secret" not in next(iter(tmp_path.glob(f"*{SUFFIX}"))).read_bytes()
    (document,) = program.documents().values()
    assert outline(document) == ["user: my key is ***", "agent: ***"]


def test_a_part_that_exists_is_never_opened_again(tmp_path: Path) -> None:
    first = Spool(tmp_path / f"a{SUFFIX}")
    with pytest.raises(FileExistsError):
        Spool(tmp_path / f"a{SUFFIX}")
    first.close()


def test_a_part_removed_by_another_process_before_it_was_locked_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock, removals = tmp_path / f"a{SUFFIX}", spool.lock, [1, 2]

    def lock_too_late(file: FileIO, *, wait: bool = False) -> bool:
        if removals and removals.pop():
            path.unlink()
        return lock(file, wait=wait)

    monkeypatch.setattr(spool, "lock", lock_too_late)
    part = Spool(path)
    part.write(b"{}\n")
    assert path.read_bytes()
    assert list(orphans(tmp_path)) == []
    part.close(remove=True)


def test_where_files_cannot_be_locked_parts_are_written_and_none_is_taken_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: FileIO, flags: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("spanrelay.assembly.spool.fcntl.flock", refuse)
    Spool(tmp_path / f"a{SUFFIX}").close()
    assert list(orphans(tmp_path)) == []


def test_nothing_replayed_is_no_document() -> None:
    assert replay([]) is None
    _guard.losses.take()


@pytest.mark.swallows
@pytest.mark.parametrize(
    "line", ["[]", "7", "null", '{"doc": "x"}', '{"op": "unknown"}', '{"op": ["step"]}', '{"op": "step"}']
)
def test_a_line_that_is_no_operation_is_left_out_and_the_rest_recovered(line: str, tmp_path: Path) -> None:
    killed_after(2, tmp_path)
    (part,) = tmp_path.glob(f"*{SUFFIX}")
    whole = outline(render(part) or {})
    first, *rest = part.read_text().splitlines()
    part.write_text("\n".join([first, line, *rest, ""]))
    recovered = recover(tmp_path)
    assert len(recovered.finished) == 1
    assert outline(read(tmp_path)["doomed"]) == whole
    assert sum(_guard.losses.take().values()) == 1
