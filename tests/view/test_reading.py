"""What a page shows of a document is read without a browser: texts, threads, bars and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.view.documents import call, calls, clerk, document, picture, png, put, step, trip

from spanrelay.assembly.atif import ContentPart, MediaSource, Trajectory
from spanrelay.cli.files import trajectory
from spanrelay.view.beside import LARGEST, Beside
from spanrelay.view.charts import COLUMNS, Tokens, token_chart
from spanrelay.view.document import read
from spanrelay.view.entries import entry_of
from spanrelay.view.facts import duration, visible
from spanrelay.view.folder import Folder
from spanrelay.view.page import render
from spanrelay.view.texts import LONGEST, Fold, signature
from spanrelay.view.threads import Thread, grow
from spanrelay.view.waterfall import ROWS, WIDTH, waterfall


def thread_of(content: dict[str, Any], folder: Path) -> Thread:
    path = put(folder, "run.json", content)
    return grow(Trajectory.from_json(content), path, Beside(path, trajectory))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("abc\u202edef\u2069", r"abc\u202edef\u2069"),
        ("\U000e0041", r"\U000e0041"),
        ("line\nline\tend", "line\nline    end"),
        ("می‌خواهم 👩‍🚀", "می‌خواهم 👩‍🚀"),  # joiners that scripts and emoji need
    ],
)
def test_what_moves_or_hides_text_is_shown_and_what_scripts_need_stays(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_long_text_stands_behind_its_beginning_with_its_size() -> None:
    fold = Fold(lines=4, characters=100)
    assert fold.text("a\r\nb").head == "a\nb"
    assert fold.text("1\n2\n3\n4\n5").more == ""  # a line more is not worth a fold
    text = fold.text("\n".join(map(str, range(2000))))
    assert (text.head, text.more) == ("0\n1\n2\n3", "2,000 lines, 8,889 characters")
    assert text.whole.endswith("1999")
    assert fold.text("x" * 99_000).more == "99 k characters"


def test_a_text_beyond_all_measure_is_cut_and_says_so() -> None:
    text = Fold(4, 100).text("x" * (LONGEST + 5))
    assert text.whole.endswith("… (+5 characters, which are in the document)")


def test_a_call_is_shown_as_one_would_write_it_and_long_arguments_line_by_line() -> None:
    assert signature("look", {"city": "Oslo", "days": 2}) == ('look(city="Oslo", days=2)', "")
    name, arguments = signature("write", {"path": "a.py", "text": "import os\n" * 10, "mode": 384})
    assert name == "write"
    assert arguments.startswith('path: "a.py"\ntext: \nimport os\nimport os\n')
    assert arguments.endswith("\nmode: 384")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0004, "<1 ms"), (0.38, "380 ms"), (1.24, "1.2 s"), (99.9, "99.9 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_are_told_in_units_that_one_reads_at_once(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# ── threads


def test_a_thread_is_shown_where_it_is_referred_to_first_and_never_within_itself(tmp_path: Path) -> None:
    again = call("again", "")
    again[1]["subagent_trajectory_ref"] = [{"trajectory_id": "expert"}, {"trajectory_path": "run.json"}]
    content = trip()
    content["steps"][5].update(calls(again))
    root = thread_of(content, tmp_path)
    assert [thread.anchor for thread in root.family()] == ["", "4.1."]
    assert root.missing[5, 0] == ["sub-agent: shown above", "sub-agent in run.json: shown above"]


def test_what_is_not_in_the_folder_is_not_read(tmp_path: Path) -> None:
    put(tmp_path, "outside.json", clerk())
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link.json").symlink_to(tmp_path / "outside.json")
    names = ["../outside.json", str(tmp_path / "outside.json"), "link.json", "x\0y", "run.json/x", "a" * 5000]
    ask = call("ask", "")
    ask[1]["subagent_trajectory_ref"] = [{"trajectory_path": name} for name in names]
    root = thread_of(document([step(1, "agent", "", **calls(ask))]), tmp_path / "inside")
    assert root.missing[0, 0] == [f"sub-agent in {name}: not beside the document" for name in names]


def test_a_picture_is_what_its_bytes_are_and_no_larger_than_a_page_can_hold(tmp_path: Path) -> None:
    for name, data in (("good.png", png()), ("named.png", b"<svg/>"), ("huge.png", png() + bytes(LARGEST))):
        (tmp_path / name).write_bytes(data)
    beside = Beside(tmp_path / "run.json", trajectory)

    def medium(name: str, kind: str = "image") -> Any:
        return beside.medium(ContentPart(kind, source=MediaSource("text/html", name)), tmp_path)

    assert medium("good.png").address.startswith("data:image/png;base64,iVBOR")
    assert (medium("named.png").address, medium("huge.png").address) == (None, None)
    assert medium("huge.png").words == "image huge.png (larger than 4 MB)"
    assert medium("http://127.0.0.1/x.png").words == "image http://127.0.0.1/x.png (on the network: not fetched)"
    assert medium("good.png", "audio").address is None
    shown = [medium("good.png").address for _ in range(3)]
    beside._left = len(png())
    assert [medium("good.png").address is None for _ in range(2)] == [False, True]
    assert all(shown)


def test_no_file_of_the_folder_is_fetched_for_a_part_without_one(tmp_path: Path) -> None:
    content = document([step(1, "user", [picture("")])])
    beside = Beside(put(tmp_path, "run.json", content), trajectory)
    [part] = Trajectory.from_json(content).steps[0].message
    assert beside.medium(part, tmp_path).words == "image  (not beside the document)"


ODD: list[Any] = [None, 0, -1, 1e308, 2**63, "", [], {}, ["x"], {"type": None}, {"start": "x"}, True]
MEMBERS = (
    *("error", "is_error", "duration_sec", "otel", "invocation", "latency_ms", "would_refuse", "would_change"),
    *("finish_reason", "context_management", "retry_of_step", "missing_messages", "agent_name", "incomplete"),
    *("refused", "dispatch", "server_side", "answered_by", "content_captured", "status", "metadata", "user"),
)


@pytest.mark.parametrize("member", MEMBERS)
def test_whatever_an_extra_holds_a_page_is_made(member: str, tmp_path: Path) -> None:
    for odd in ODD:
        content = trip()
        places = [content, *content["steps"], *content["subagent_trajectories"]]
        for each in content["steps"]:
            places += [*each.get("tool_calls", ()), *each.get("observation", {}).get("results", ())]
        for place in places:
            place.setdefault("extra", {})[member] = odd
        path = put(tmp_path, "run.json", content)
        shown = read(trajectory(path), path, Beside(path, trajectory))
        assert b"".join(render("document.html", page=shown)).endswith(b"</html>")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-01-01"])
def test_a_time_at_the_end_of_all_calendars_is_one(moment: str, tmp_path: Path) -> None:
    content = document([{**step(1, "agent", "x", extra={"duration_sec": 5}), "timestamp": moment}])
    path = put(tmp_path, "run.json", content)
    folder = Folder()
    folder.add(entry_of(trajectory(path), path), "run.json")
    assert folder.page("runs").lines[0].begun


# ── bars


def timed(number: int, moment: str, seconds: float) -> dict[str, Any]:
    return {**step(number, "agent", "x", extra={"duration_sec": seconds}), "timestamp": moment}


def test_a_long_pause_is_drawn_short_and_said(tmp_path: Path) -> None:
    steps = [timed(1, "2026-03-01T10:00:00Z", 10), timed(2, "2026-03-01T12:00:00Z", 10)]
    found = waterfall(thread_of(document(steps), tmp_path))
    first, second = found.bars
    assert (first.x, round(second.x + second.width)) == (0, WIDTH)
    assert first.width == second.width > WIDTH * 0.4
    assert found.notes == ["a pause of 1 h 59 min drawn short"]
    assert first.x + first.width < found.pauses[0] < second.x


def test_spans_without_any_duration_are_moments_at_their_times(tmp_path: Path) -> None:
    steps = [step(number, "agent", "x") for number in (1, 2, 3)]
    found = waterfall(thread_of(document(steps), tmp_path))
    assert [round(bar.x) for bar in found.bars] == [0, WIDTH // 2, WIDTH - 3]
    assert (found.notes, [bar.lasted for bar in found.bars]) == ([], ["", "", ""])


def test_of_very_many_spans_the_longest_are_drawn(tmp_path: Path) -> None:
    steps = [timed(at, f"2026-03-01T10:{at // 60:02}:{at % 60:02}Z", 0.1 + at / 1000) for at in range(1, 400)]
    found = waterfall(thread_of(document(steps), tmp_path))
    assert len(found.bars) == ROWS
    assert found.bars[0].span.anchor == f"step-{400 - ROWS}"
    assert found.notes == [f"the longest {ROWS} of 399 spans"]


def test_a_document_without_times_has_no_bars(tmp_path: Path) -> None:
    untimed = {"step_id": 1, "source": "agent", "message": "x"}
    assert waterfall(thread_of(document([untimed]), tmp_path)).bars == []


def test_a_column_of_many_calls_stands_for_the_largest() -> None:
    chart = token_chart([Tokens(number, number, 0, 0) for number in range(1, 2 * COLUMNS + 1)])
    assert chart is not None
    assert len(chart.columns) == COLUMNS
    assert chart.columns[-1].title == f"step {2 * COLUMNS}: {2 * COLUMNS} in, 0 out"
    assert token_chart([Tokens(1, 5, 0, 0)]) is None
