"""The example distribution of `examples/plugin` works as its files say, and so do the files of `docs/plugins.md`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.plugins.installed import distribution, on_path
from tests.programs import run

from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import make_plan
from spanrelay.plugins.loading import Shelf

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "plugin"
PAGE = ROOT / "docs" / "plugins.md"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder in which the example is installed as its `pyproject.toml` says."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    lines = [f"{name} = {value}\n" for name, value in project["entry-points"]["spanrelay_plugin"].items()]
    source = (EXAMPLE / "src" / "change_ticket.py").read_text()
    entry_points = "[spanrelay_plugin]\n" + "".join(lines)
    return distribution(tmp_path / "site", project["name"], "change_ticket", source, entry_points)


def test_the_example_refuses_what_it_says(site: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "spanrelay.toml", tmp_path)
    ran = run((EXAMPLE / "app.py").read_text(), tmp_path, PYTHONPATH=str(site))
    assert ran.code == 0, ran.err
    assert ran.out.splitlines() == [
        "list_disks: done",
        "delete_disk: delete_disk needs the number of a change ticket as 'ticket'",
        "delete_disk: done",
        "format_disk: tool 'format_disk' is denied by 'format_*'",
    ]
    assert (tmp_path / "refused.txt").read_text() == "delete_disk needs the number of a change ticket as 'ticket'\n"


def test_the_tests_of_the_example_pass(site: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "tests" / "test_change_ticket.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_change_ticket.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def blocks() -> Iterator[str]:
    return (found[1] for found in re.finditer(r"^```toml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def test_every_file_of_the_page_is_a_valid_one(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPROVALS_KEY", "k")
    monkeypatch.setattr("spanrelay.config.files.SYSTEM_FILE", str(tmp_path / "none.toml"))
    (tmp_path / "team.toml").write_text("[plugins.policy]\nsession.max_calls = 9\n")
    files = [tmp_path / f"{at}.toml" for at, text in enumerate(blocks())]
    assert len(files) >= 4
    with on_path(site):
        for file, text in zip(files, blocks(), strict=True):
            file.write_text(text)
            assert make_plan([PolicyFile(str(file), "chosen")], Shelf()).diagnostics == [], text
