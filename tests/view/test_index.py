"""What was read of a folder is kept beside it: it spares reading, and can do nothing else."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import orjson
import pytest
from tests.view.documents import HIDDEN, HOSTILE, clerk, document, put, step, trip

from spanrelay.cli import files, main
from spanrelay.evaluation.caches import CacheFigures
from spanrelay.evaluation.figures import Figures, Tally
from spanrelay.view import index
from spanrelay.view.index import NAME
from spanrelay.view.summary import Summary


@pytest.fixture(autouse=True)
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LEAST", 3)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "runs"
    told = trip()
    told["steps"][2]["metrics"]["extra"] = {"prompt_cache": {"scaffold": "a1", "saved_tokens": -7, "missed": "new"}}
    put(folder, "trip.json", told)
    put(folder / "deeper", "clerk.json", clerk())
    put(folder, "odd\tname\udcff.json", document([step(1, "user", "Hello")]))
    (folder / "other.json").write_text('{"name": "x"}')
    yield folder
    files.index_of.cache_clear()


def page_of(folder: Path) -> str:
    """The index page of a folder, as a new process makes it."""
    files.index_of.cache_clear()
    page = folder.parent / "page.html"
    assert main(["view", str(folder), "-o", str(page)]) == 0
    return page.read_text()


def stats_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    files.index_of.cache_clear()
    capsys.readouterr()
    assert main(["stats", str(folder), "--json"]) == 0
    return capsys.readouterr().out


def replaced(path: Path, old: str, new: str) -> None:
    """Change a document so that nobody can tell by its size and time."""
    before = path.stat()
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_with_the_index_a_page_is_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, added = page_of(folder), stats_of(folder, capsys)
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600
    assert page_of(folder) == first
    (folder / NAME).unlink()
    assert stats_of(folder, capsys) == added
    assert stats_of(folder, capsys) == added  # by the index that it has left
    assert page_of(folder) == first


def test_all_that_is_added_up_is_kept() -> None:
    kept = ((Figures, index.FIGURES), (CacheFigures, index.CACHES), (Tally, {"documents", "total", *index.TALLY}))
    for what, names in (*kept, (Summary, {"begun", *index.LINE})):
        assert {each.name for each in fields(what)} == set(names)


def test_only_what_has_changed_is_read(folder: Path) -> None:
    page_of(folder)
    replaced(folder / "trip.json", "Bergen", "Berlin")
    assert "Berlin" not in page_of(folder)
    os.utime(folder / "trip.json")
    assert "Berlin" in page_of(folder)
    (folder / "trip.json").unlink()
    put(folder, "new.json", document([step(1, "user", "New")]))
    told = page_of(folder)
    assert ("Berlin" in told, "New" in told) == (False, True)
    assert b"trip.json" not in (folder / NAME).read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'index",1', b'index",2'),
        lambda data: data.replace(b"\t", b" "),
        lambda data: data.replace(b"travel-agent", b"\xff\xfe\x00"),
        lambda data: data.replace(b"[", b"{"),
        lambda data: data + b"\0" * 4096,
    ],
)
def test_a_damaged_index_counts_for_nothing(damage: object, folder: Path) -> None:
    first = page_of(folder)
    (folder / NAME).write_bytes(damage((folder / NAME).read_bytes()))  # type: ignore[operator] - a function
    assert page_of(folder) == first
    assert b"travel-agent" in (folder / NAME).read_bytes()


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_what_is_no_file_in_its_place_is_left_alone_or_replaced(kind: str, folder: Path) -> None:
    first = page_of(folder)
    (folder / NAME).unlink()
    (elsewhere := folder.parent / "elsewhere").write_text("mine")
    if kind == "folder":
        (folder / NAME).mkdir()
    elif kind == "link":
        (folder / NAME).symlink_to(elsewhere)
    else:
        os.mkfifo(folder / NAME)
    assert page_of(folder) == first
    assert elsewhere.read_text() == "mine"
    assert not list(folder.glob(f".{NAME}*"))


def test_what_somebody_wrote_into_an_index_is_text(folder: Path) -> None:
    page_of(folder)
    lines = (folder / NAME).read_bytes().splitlines(keepends=True)
    for at, line in enumerate(lines[1:], 1):
        size, changed, data, name = line[:-1].split(b"\t", 3)
        content = orjson.loads(data)
        content[1][:4] = [HOSTILE + HIDDEN] * 4
        content[3][1][HOSTILE] = [1, 10**18, 1, 1, 1, None, 1, 1, 1e308, [[0.5, 10**15]]]
        lines[at] = b"\t".join((size, changed, json.dumps(content).encode(), name)) + b"\n"
    (folder / NAME).write_bytes(b"".join(lines))
    told = page_of(folder)
    assert "&lt;script&gt;owned=1" in told
    assert "<script>owned" not in told
    assert r"\u202egpj.exe" in told
    assert "\u202e" not in told


def test_few_documents_have_no_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LEAST", 4)
    page_of(folder)
    assert not (folder / NAME).exists()
