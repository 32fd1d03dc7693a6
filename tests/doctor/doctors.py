"""Runs `spanrelay doctor` in a folder and an environment of its own, and reads what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.util._importlib_metadata import _original_entry_points_cached

from spanrelay.cli import main

HERE = str(Path(sys.executable).parent)


@dataclass
class Report:
    """What the doctor found."""

    code: int
    status: str
    findings: list[dict[str, str]]
    prospect: str
    text: str

    def of(self, check: str, level: str | None = None) -> list[str]:
        """What a check said, each with why and what to do, of one level or of all."""
        return [
            f"{found['what']} | {found['why']} | {found['do']}"
            for found in self.findings
            if found["check"] == check and level in (None, found["level"])
        ]

    def levels(self) -> dict[str, str]:
        """The worst level of each check."""
        order = ("pass", "warn", "fail")
        worst: dict[str, str] = {}
        for found in self.findings:
            before = worst.get(found["check"], "pass")
            worst[found["check"]] = max(before, found["level"], key=order.index)
        return worst


def read(code: int, text: str) -> Report:
    """What was printed with `--json`."""
    found = json.loads(text)
    return Report(code, found["status"], found["findings"], found["prospect"], text)


def outside(folder: Path, **variables: str) -> dict[str, str]:
    """An environment with nothing of ours or OpenTelemetry's but `variables`, where this Python's programs are."""
    ours = ("OTEL_", "SPANRELAY_", "OPENAI_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = os.pathsep.join((HERE, kept.get("PATH", "")))
    return {**kept, "PATH": path, "XDG_CONFIG_HOME": str(folder / "no-config"), **variables}


class Doctor:
    """The doctor of one folder: in this process, or in one of its own where what is installed differs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str, known: Path | None = None, **variables: str) -> Report:
        """What it says here, with the distributions of the folder `known` beside those that are installed."""
        return read(*self._run("--json", *arguments, known=known, **variables))

    def plain(self, *arguments: str, **variables: str) -> str:
        """What it prints here."""
        return self._run(*arguments, known=None, **variables)[1]

    def _run(self, *arguments: str, known: Path | None, **variables: str) -> tuple[int, str]:
        with self._monkeypatch.context() as patch:
            if known is not None:
                patch.syspath_prepend(known)
                _original_entry_points_cached.cache_clear()
            for name in set(os.environ) - set(kept := outside(self.folder, **variables)):
                patch.delenv(name)
            for name, value in kept.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            code = main(["doctor", *arguments])
        _original_entry_points_cached.cache_clear()
        return code, self._capsys.readouterr().out

    def apart(self, *arguments: str, options: tuple[str, ...] = (), before: str = "", **variables: str) -> Report:
        """What it says in a process of its own, which begins with the program `before`."""
        done = self.printed("--json", *arguments, options=options, before=before, **variables)
        return read(done.returncode, done.stdout)

    def printed(
        self, *arguments: str, options: tuple[str, ...] = (), before: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """What it prints in a process of its own, whose Python is given `options`."""
        program = f"{before}\nimport sys\nfrom spanrelay.cli import main\nsys.exit(main(sys.argv[1:]))"
        return subprocess.run(
            [sys.executable, *options, "-c", program, "doctor", *arguments],
            cwd=self.folder,
            env=outside(self.folder, **variables),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def distribution(folder: Path, name: str, entry_points: str = "", requires: tuple[str, ...] = ()) -> None:
    """Write what makes a distribution of a folder on the path: its name, its entry points and what it requires."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    lines = [f"Requires-Dist: {each}" for each in requires]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines, ""]))
    (info / "entry_points.txt").write_text(entry_points)


def packages_without(folder: Path, left_out: str) -> Path:
    """Fill a folder with links to all that is installed here, but for what has a name that begins so."""
    [here] = [Path(each) for each in sys.path if (Path(each) / "opentelemetry").is_dir()]
    folder.mkdir(exist_ok=True)
    for entry in here.iterdir():
        if not entry.name.removeprefix("_editable_impl_").startswith(left_out) and not (folder / entry.name).exists():
            (folder / entry.name).symlink_to(entry)
    return folder
