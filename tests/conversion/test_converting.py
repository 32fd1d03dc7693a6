"""A conversion gives the same bytes whoever does it and in whatever order things came, and goes on where it ended."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conversion import program
from tests.conversion.captures import converted, told
from tests.shared_data import SHARED

from spanrelay._masking import mask_bytes
from spanrelay.cli import main
from spanrelay.conversion import ledger, store, work
from spanrelay.conversion.documents import Folder

RUNS = [span for n in range(12) for span in program.spans(f"session-{n % 5}", program.START + n * 60 * program.SECOND)]


def documents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.json")}


def recorded(folder: Path, seed: int | None = None, name: str = "telemetry.jsonl") -> Path:
    """Write the runs, a span a line, in order or shuffled."""
    spans = list(RUNS)
    if seed is not None:
        random.Random(seed).shuffle(spans)
    lines = [json.dumps(program.otlp_json([span])).encode() for span in spans]
    return program.write(folder, b"\n".join(lines), name)


def test_sessions_become_documents_of_all_their_runs(tmp_path: Path) -> None:
    documents, summary = converted([recorded(tmp_path)], tmp_path / "out")
    assert (summary.spans, summary.sessions, summary.documents) == (len(RUNS), 5, 5)
    assert {document["session_id"] for document in documents} == {f"session-{n}" for n in range(5)}
    assert summary.steps == sum(len(document["steps"]) for document in documents)


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_arrival_gives_the_same_bytes(seed: int, tmp_path: Path) -> None:
    converted([recorded(tmp_path)], tmp_path / "one")
    converted([recorded(tmp_path, seed)], tmp_path / "other")
    assert documents_of(tmp_path / "one") == documents_of(tmp_path / "other")


def test_spans_that_came_twice_count_once(tmp_path: Path) -> None:
    one, other = recorded(tmp_path), recorded(tmp_path, 1, "again.jsonl")
    converted([one], tmp_path / "once")
    converted([other, one], tmp_path / "twice")
    assert documents_of(tmp_path / "once") == documents_of(tmp_path / "twice")


@pytest.mark.parametrize("room", [0, 4_000])
def test_what_memory_has_no_room_for_waits_on_disk_and_changes_nothing(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recorded(tmp_path)
    converted([path], tmp_path / "held")
    monkeypatch.setattr(store, "_ROOM", room)
    converted([path], tmp_path / "kept")
    assert documents_of(tmp_path / "held") == documents_of(tmp_path / "kept")


def test_several_processes_give_the_same_bytes(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    converted([path], tmp_path / "one")
    work.convert([path], Folder(tmp_path / "other"), jobs=2)
    assert documents_of(tmp_path / "one") == documents_of(tmp_path / "other")


def test_a_conversion_that_was_broken_off_goes_on_where_it_ended(tmp_path: Path) -> None:
    path, out = recorded(tmp_path), tmp_path / "out"
    whole, _ = converted([path], tmp_path / "whole")
    converted([path], out)
    lines = (out / ledger.NAME).read_bytes().splitlines(keepends=True)
    (out / ledger.NAME).write_bytes(b"".join(lines[:2]) + lines[2][:20])  # as it is when a process is killed
    (out / json.loads(lines[4])["documents"][0]).unlink()
    again = work.convert([path], Folder(out))
    assert (again.unchanged, again.documents, again.findings) == (4, 1, [])
    assert documents_of(out) == documents_of(tmp_path / "whole")
    assert again.steps == sum(len(document["steps"]) for document in whole)


def test_a_session_that_has_grown_replaces_its_document_only_where_that_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = program.write(tmp_path, program.protobuf(program.spans()), "first")
    later = program.write(
        tmp_path, program.protobuf(program.spans(base=program.START + 3600 * program.SECOND)), "later"
    )
    converted([first], out)
    before = documents_of(out)
    refused = work.convert([first, later], Folder(out))
    assert "--overwrite replaces it" in str(refused.findings[0])
    assert documents_of(out) == before
    replaced = work.convert([first, later], Folder(out, overwrite=True))
    assert (replaced.documents, replaced.findings) == (1, [])
    assert len(json.loads((out / "session-1.json").read_bytes())["steps"]) > 4


def test_credentials_are_masked_in_documents_and_their_names(tmp_path: Path) -> None:
    key = "sk-proj-" + "a1B2c3D4" * 4
    path = program.write(tmp_path, program.protobuf(program.spans(f"of {key}")))
    summary = work.convert([path], Folder(tmp_path / "out", mask=mask_bytes))
    assert (summary.documents, summary.findings) == (1, [])
    assert all(key not in f.name and key.encode() not in f.read_bytes() for f in (tmp_path / "out").glob("*.json"))


CAPTURES = [
    path
    for folder in ("spans", "spans-polyglot")
    for path in sorted((SHARED / folder).glob("*.json*") if SHARED else [])
    if "metrics" not in path.name
]


@pytest.mark.parametrize("dialect", ["genai", "openinference"])
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_the_same_spans_in_another_dialect_become_the_same_trajectory(path: Path, dialect: str, tmp_path: Path) -> None:
    documents, _ = converted([path], tmp_path / "out")
    work.convert([path], Folder(tmp_path / dialect), form=dialect)
    again, summary = converted(sorted((tmp_path / dialect).glob("*.jsonl")), tmp_path / "again")
    assert summary.findings == []
    assert [told(document) for document in again] == [told(document) for document in documents]


def test_the_command_says_what_it_made_and_what_it_could_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "telemetry"
    folder.mkdir()
    recorded(folder)
    program.write(folder, b"words", "README.md")
    out = str(tmp_path / "out")
    assert main(["convert", str(folder), "-o", out]) == 0
    said = capsys.readouterr()
    steps = sum(len(json.loads(document)["steps"]) for document in documents_of(tmp_path / "out").values())
    assert said.out == f"{len(RUNS)} spans read: 5 trajectories of 5 sessions, {steps} steps, in {out}\n"
    assert "passed over, since not telemetry: 1 file in the folders" in said.err
    assert main(["convert", str(folder / "README.md"), "-o", out]) == 1
    assert "not telemetry: expected OTLP" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "nothing"), "-o", out]) == 1
    assert "there is no file" in capsys.readouterr().err


def test_the_command_names_a_wrong_number_of_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("0", "x"):
        with pytest.raises(SystemExit) as ended:
            main(["convert", "x", "-o", "y", "--jobs", wrong])
        assert ended.value.code == 2
    assert "number of processes" in capsys.readouterr().err


POLYGLOT = [path for path in CAPTURES if path.parent.name == "spans-polyglot"]


@pytest.mark.parametrize("path", POLYGLOT, ids=lambda path: path.stem)
def test_whichever_span_or_log_record_is_lost_the_document_is_valid_and_repeats_nothing(
    path: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    items = [items for line in lines for items in _lists_of(line)]
    for number, each in enumerate(items):
        for at in range(len(each)):
            lost = each.pop(at)
            less = program.write(tmp_path, b"\n".join(json.dumps(line).encode() for line in lines), "less")
            documents, summary = converted([less], tmp_path / f"{number}-{at}")
            each.insert(at, lost)
            assert summary.findings == []
            for document in documents:
                words = [step["message"] for step in told(document) if step["message"]]
                assert len(words) == len(set(words)), (lost.get("name"), words)


def _lists_of(request: dict[str, Any]) -> Iterator[list[Any]]:
    for kind, scopes, items in (("resourceSpans", "scopeSpans", "spans"), ("resourceLogs", "scopeLogs", "logRecords")):
        for resource in request.get(kind, []):
            for scope in resource.get(scopes, []):
                yield scope.get(items, [])
