"""The Makefile's own words: one line that counts on a terminal, and no more than one elsewhere."""

import contextlib
import os
import pty
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIP = "".join(f"Collecting package{number}\n" for number in range(100)) + "Installing collected packages: all\n"


def counted(tmp_path: Path, out: int) -> None:
    """Let the Makefile count what pip says, with `out` as its stdout."""
    (tmp_path / "pip.log").write_text(PIP)
    rule = f"count:\n\t@cat {tmp_path}/pip.log | $(COUNT)\n"
    command = ["make", "-s", "-f", "Makefile", "-f", "-", "count"]
    # Where these tests are made by make themselves, that one's words are no part of what is looked at.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    subprocess.run(
        command, cwd=ROOT, input=rule.encode(), stdout=out, stderr=subprocess.STDOUT, check=True, env=environment
    )


def test_a_log_gets_one_line_of_the_packages_that_are_installed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        counted(tmp_path, log.fileno())
    assert (tmp_path / "log").read_text() == "  100 packages looked at, installing them\n"


def test_a_terminal_gets_one_line_that_counts(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    counted(tmp_path, theirs)
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal, contextlib.suppress(OSError):  # nobody writes any more
        while chunk := terminal.read(1 << 16):
            shown += chunk
    assert shown.count(b"\r  ") == 101
    assert shown.endswith(b"\r  100 packages looked at, installing them\r\n")
