"""`spanrelay view` writes a page, opens the browser of the desktop, and says plainly what is wrong."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.view.documents import document, put, step, trip

from spanrelay.cli import main
from spanrelay.view import page


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return put(tmp_path / "runs", "run.json", document([step(1, "user", "Hello")]))


def viewed(run: Path, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spanrelay", "view", str(run)]
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=60)


def test_the_page_is_opened_in_the_browser_where_no_place_is_named(run: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    (browser := tmp_path / "browser").write_text(f'#!/bin/sh\necho "$1" >{seen}\n')
    browser.chmod(0o700)
    settings = {**os.environ, "BROWSER": f"{browser} %s", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "spanrelay", "view", run], env=settings, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    opened = Path(urlsplit(seen.read_text().strip()).path)
    assert [str(opened)] == done.stdout.split()
    assert "Hello" in opened.read_text()
    assert stat.S_IMODE(opened.parent.stat().st_mode) == 0o700


def test_where_there_is_no_browser_the_page_is_named(run: Path, tmp_path: Path) -> None:
    settings = {**os.environ, "BROWSER": "/no/such/browser", "TMPDIR": str(tmp_path), "PATH": str(tmp_path)}
    settings.pop("DISPLAY", None)
    done = subprocess.run(
        [sys.executable, "-m", "spanrelay", "view", run], env=settings, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert Path(done.stdout.strip()).is_file()
    assert "no browser could be opened here" in done.stderr


def test_a_page_is_readable_by_its_owner_alone_and_replaces_the_one_before(run: Path, tmp_path: Path) -> None:
    (page := tmp_path / "page.html").write_text("before")
    assert main(["view", str(run), "-o", str(page)]) == 0
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "Hello" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "runs"]


def test_the_newest_is_meant_where_none_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    monkeypatch.setenv("SPANRELAY_TRAJECTORY_DIR", str(run.parent))
    assert main(["view", "-o", "-"]) == 0
    assert b"Hello" in capfdbinary.readouterr().out


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A folder with two runs of a session, and another's."""
    for at, words in enumerate(("First", "Second"), 1):
        moment = f"2026-03-0{at}T10:00:00Z"
        put(tmp_path / "runs", f"{at}.json", document([{**step(1, "user", words), "timestamp": moment}]))
    put(tmp_path / "runs", "other.json", document([step(1, "user", "Other")], session_id="other"))
    return tmp_path / "runs"


def test_a_session_with_one_run_is_its_page(session: Path, tmp_path: Path) -> None:
    assert main(["view", "--session", "other", str(session), "-o", str(page := tmp_path / "page.html")]) == 0
    assert 'id="step-1"' in page.read_text()
    assert "Other" in page.read_text()


def test_a_session_with_several_runs_is_an_index_of_them(session: Path, tmp_path: Path) -> None:
    assert main(["view", "--session", "trip-7", str(session), "-o", f"{tmp_path / 'pages'}/"]) == 0
    told = (tmp_path / "pages" / "index.html").read_text()
    assert told.index("Second") < told.index("First")
    assert "<h1>session trip-7</h1>" in told
    assert "Other" not in told
    assert "First" in (tmp_path / "pages" / "2.html").read_text()


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["runs"], "no trajectory of session 'trip-8' in 'runs'; `spanrelay list runs` names"),
        (["nowhere"], "there is no folder 'nowhere'"),
        (["runs", "runs"], "--session looks in one folder, not in 2"),
    ],
)
def test_a_session_that_is_not_there_is_told(
    folders: list[str], words: str, session: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(session.parent)
    assert main(["view", "--session", "trip-8", *folders]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps(trip())[:-400], "is not JSON"),
        (json.dumps({**trip(), "schema_version": "ATIF-next"}), "got 'ATIF-next'"),
        ("[]", "is not an ATIF trajectory"),
    ],
    ids=["half written", "of no version", "of something else"],
)
def test_what_cannot_be_shown_is_told_and_nothing_is_written(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path := tmp_path / "run.json").write_text(content)
    assert main(["view", str(path), "-o", str(tmp_path / "page.html")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_a_place_that_cannot_be_written_to_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(run), "-o", str(run / "page.html")]) == 1
    assert f"{str(run / 'page.html')!r} cannot be written to: " in capsys.readouterr().err


def test_without_the_package_that_escapes_the_extra_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    page._environment.cache_clear()
    assert main(["view", str(run), "-o", str(tmp_path / "page.html")]) == 1
    assert capsys.readouterr().err == "spanrelay: the page needs jinja2: pip install 'spanrelay[view]'\n"
    assert not (tmp_path / "page.html").exists()
    assert main(["watch", str(tmp_path), "--web"]) == 1
    assert capsys.readouterr() == ("", "spanrelay: the page needs jinja2: pip install 'spanrelay[view]'\n")
