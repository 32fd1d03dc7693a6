"""Say which packages record the SDKs and frameworks that are installed here, and install them.

Exit status: 0 where nothing is missing, 1 where something is, 2 for wrong usage; of `--install`, the installer's.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from spanrelay.cli.printing import print_table
from spanrelay.doctor.needs import Double, Need, doubles, installed, named_in, needs
from spanrelay.errors import SpanRelayError

EXAMPLES = (
    "spanrelay setup",
    "spanrelay setup --install",
    "spanrelay setup --requirements uv.lock",
)

HEADINGS = ("package", "version", "recorded by", "state")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `setup` takes."""
    parser.add_argument(
        "--requirements",
        metavar="FILE",
        type=Path,
        help="look at a requirements.txt, uv.lock, poetry.lock or pyproject.toml in place of this environment",
    )
    parser.add_argument("--install", action="store_true", help="install what is missing into this environment")
    parser.epilog = "exit status: 0 nothing is missing, 1 something is, 2 wrong usage; with --install the installer's"


def run(options: argparse.Namespace) -> int:
    """Print a row for each package that is known, and how to install what is missing, or install it.

    Raises:
        SpanRelayError: the file cannot be read, or there is nothing to install with.
    """
    there = named_in(options.requirements) if options.requirements is not None else installed()
    found = needs(there)
    print_table(HEADINGS, list(map(_row, found)), sys.stdout, elastic={0, 2, 3})
    for double in doubles(found):
        print(_told(double))
    missing = list(dict.fromkeys(name for need in found for name in need.missing))
    if not found:
        print("no SDK and no framework that SpanRelay knows; docs/providers.md and docs/frameworks.md list them")
    elif not missing:
        print("nothing is missing")
    if not missing:
        return 0
    if not options.install:
        print(f"pip install {shlex.join(missing)}")
        return 1
    command = [*_installer(), *missing]
    print(shlex.join(command), flush=True)
    return subprocess.run(command, check=False).returncode


def _row(need: Need) -> list[str]:
    state = f"missing: {', '.join(need.missing)}" if need.missing else "installed"
    return [need.package, need.version, ", ".join(need.recorded_by), state]


def _told(double: Double) -> str:
    end = (
        "SpanRelay leaves its spans out"
        if double.left_out
        else f"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS={double.name} switches it off"
    )
    return f"opentelemetry-bootstrap would add {double.distribution}, which records what {double.ours} records; {end}"


def _installer() -> list[str]:
    """Return what installs into this environment.

    Raises:
        SpanRelayError: there is neither pip here nor uv.
    """
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install"]
    uv = shutil.which("uv")
    if uv is None:
        raise SpanRelayError("there is no pip in this environment, and no uv on the PATH; install one of them")
    return [uv, "pip", "install", "--python", sys.executable]
