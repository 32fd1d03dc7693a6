"""Programs in an environment of their own, for packages that no other test should have beside it, and their spans."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.programs import Run, environment
from tests.trajectory.program import accept
from tests.trajectory.spans import story

from spanrelay.assembly.atif import violations
from spanrelay_testkit import environments
from spanrelay_testkit.model_server import ModelServer

ROOT = Path(__file__).parents[1]
TOOLS = ("atif; python_version >= '3.11'", "hypothesis", "pytest", "pytest-asyncio", "tomli")


def programs_of(
    name: str,
    ours: Iterable[str],
    others: Iterable[str],
    *,
    unpinned: tuple[str, ...] = (),
    bare: tuple[str, ...] = (),
    constraints: Path = ROOT / "constraints.txt",
) -> Path:
    """Return where the programs of environment `name` are, made or brought up to date.

    Args:
        name: Of the environment, in the user's cache folder.
        ours: Folders of this repository to install, as `testkit`, and instrumentors, as `openai`.
        others: Requirements of other packages.
        unpinned: Packages that are not held to `constraints`.
        bare: Requirements of packages that are installed without what they require.
        constraints: Versions that pip keeps to.
    """
    home = Path.home() / ".cache" / "spanrelay" / f"{name}-venv-{sys.version_info[0]}.{sys.version_info[1]}"
    folders = [_folder(part) for part in (".", *ours)]
    pins = [line for line in constraints.read_text().splitlines() if line.partition("==")[0] not in unpinned]
    wanted = repr([pins, list(others), bare, *((str(each), (each / "pyproject.toml").read_text()) for each in folders)])
    ready = home / "ready"
    with alone_at(home):
        # Not again while tests in other processes use it: a package is gone for a moment when it is installed anew.
        if not ready.exists() or ready.read_text() != wanted:
            ready.unlink(missing_ok=True)
            _bring_up_to_date(home, folders, others, bare, pins)
            ready.write_text(wanted)
    return home / "bin"


@contextmanager
def alone_at(home: Path) -> Iterator[None]:
    """Keep other processes from making an environment at the same time: tests run in several."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _bring_up_to_date(
    home: Path, folders: list[Path], others: Iterable[str], bare: tuple[str, ...], pins: list[str]
) -> None:
    environments.make(home)
    pinned = home / "constraints.txt"
    pinned.write_text("\n".join(pins))
    editable = [option for folder in folders for option in ("--editable", folder)]
    environments.install(home, [*editable, *others], constraints=pinned)
    if bare:
        environments.install(home, ["--no-deps", *bare], constraints=pinned)


def _folder(part: str) -> Path:
    return ROOT / part if part in (".", "testkit") else ROOT / "instrumentors" / f"spanrelay-{part}"


def apart(
    package: str, switch: str, *, python: tuple[tuple[int, int], tuple[int, int]] = ((3, 10), (3, 99))
) -> pytest.MarkDecorator:
    """Return the mark of a test that runs others where `package` is: if it is not here, and `switch` is set to 1."""
    first, last = python
    wanted = os.environ.get(switch) == "1" and first <= sys.version_info[:2] <= last
    reason = f"set {switch}=1, on Python {'.'.join(map(str, first))} or newer, to test with {package!r} apart"
    return pytest.mark.skipif(find_spec(package) is not None or not wanted, reason=reason)


def run_tests_of(programs: Path, *tests: str | Path) -> None:
    """Run `tests`, with pytest's options, by the Python of an environment, and fail where one of them does."""
    command = [programs / "python", "-m", "pytest", "-q", "-rfs", *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert " passed" in done.stdout.splitlines()[-1]


class Traced(Run):
    """What a program left, with the spans that went to the console."""

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The spans in the order of their starts."""
        decoder, found, at = json.JSONDecoder(), list[dict[str, Any]](), 0
        while (at := self.out.find('{\n    "name"', at)) >= 0:
            span, at = decoder.raw_decode(self.out, at)
            found.append(span)
        return sorted(found, key=lambda span: span["start_time"])

    def tree(self, parent: str | None = None) -> list[Any]:
        """The spans as `[kind and name, [what is beneath]]`."""
        return [
            [
                f"{span['attributes'].get('openinference.span.kind')} {span['name']}",
                self.tree(span["context"]["span_id"]),
            ]
            for span in self.spans
            if (span["parent_id"] and span["parent_id"].removeprefix("0x")) == (parent and parent.removeprefix("0x"))
        ]

    @property
    def story(self) -> list[str]:
        """The one document as `tests.trajectory.spans.story` tells it, but for figures."""
        [document] = self.trajectories
        assert violations(document) == []
        accept(document)
        return [line.partition(" {'prompt_tokens'")[0] for line in story(document)]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The attributes of each span of a kind."""
        found = [span["attributes"] for span in self.spans]
        return [attributes for attributes in found if attributes.get("openinference.span.kind") == kind]


COOL = """
[plugins.policy.parameters."*"]
temperature = 0.25
"""
"""What a `spanrelay.toml` says that gives every model call this temperature."""


def launch(
    programs: Path, program: str, folder: Path, server: ModelServer, *, fails: bool = False, **settings: str
) -> Traced:
    """Run `program` in `folder` under `opentelemetry-instrument`."""
    (folder / "program.py").write_text(program)
    spans = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none"}
    done = subprocess.run(
        [programs / "opentelemetry-instrument", programs / "python", "program.py"],
        cwd=folder,
        env=environment(server, {**spans, **settings}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stderr
    assert "lost or left out" not in done.stderr
    return Traced(done.returncode, done.stdout, done.stderr, folder)
