"""Harbor's own validator, in the environment that it is installed in: it needs a newer Python than we do.

One process reads any number of files; nothing of Harbor is imported here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from spanrelay.errors import SpanRelayError

TO_INSTALL = (
    "`uv tool install harbor`, or `python3.12 -m venv harbor && harbor/bin/pip install harbor` and "
    "`--harbor-python harbor/bin/python` (Harbor needs Python 3.12 or newer)"
)

_PROGRAM = """
import json, sys
from importlib.metadata import version
from pathlib import Path
answers, sys.stdout = sys.stdout, sys.stderr  # Harbor may print
from harbor.utils.trajectory_validator import TrajectoryValidator
print(version("harbor"), file=answers)
for line in sys.stdin:
    validator = TrajectoryValidator()
    good = validator.validate(Path(json.loads(line)))
    print(json.dumps([] if good else [str(each) for each in validator.get_errors()]), file=answers)
"""


class NoHarbor(SpanRelayError):
    """Harbor is not installed where it was looked for; the message says how to install it."""


@dataclass(slots=True)
class Verdict:
    """What Harbor has against each of the files that it was asked about, in their order: nothing where one is good."""

    version: str
    complaints: list[list[str]]


def judge(paths: Sequence[Path], python: str | None = None) -> Verdict:
    """Return what Harbor's validator says of files.

    Args:
        paths: Of the trajectories.
        python: The interpreter of the environment that Harbor is installed in; None looks for it beside the command
            `harbor`, and here.

    Raises:
        NoHarbor: it is not there.
    """
    asked = "".join(f"{json.dumps(str(path.resolve()))}\n" for path in paths)
    place = python or next(_interpreters(), None)
    if place is None:
        raise NoHarbor(f"Harbor is not installed here; {TO_INSTALL}")
    try:
        done = subprocess.run([place, "-c", _PROGRAM], input=asked, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoHarbor(f"cannot run {place!r}: {error.strerror}; to install Harbor: {TO_INSTALL}") from error
    version, *answers = done.stdout.splitlines() or [""]
    if done.returncode or len(answers) != len(paths):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise NoHarbor(f"Harbor's validator does not run in {place!r}: {last}; to install it: {TO_INSTALL}")
    return Verdict(version, [json.loads(answer) for answer in answers])


def _interpreters() -> Iterator[str]:
    """Where Harbor seems to be installed."""
    command = shutil.which("harbor")
    if command is not None:
        folder = Path(command).resolve().parent  # also what uv and pipx link to from elsewhere
        yield from (str(folder / name) for name in ("python", "python.exe") if (folder / name).exists())
    if find_spec("harbor") is not None:
        yield sys.executable
