"""Virtual environments for programs that ask for other packages than stand here: by uv where it is there, else by pip.

Resolving and unpacking a framework takes pip a minute and uv seconds; what stands in the environment is the same.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def make(home: Path, *, anew: bool = False) -> None:
    """Make the environment at `home` for this interpreter, if it is not there or has to be made `anew`.

    Raises:
        RuntimeError: it cannot be made; the message ends with the last line that was printed.
    """
    if anew:
        shutil.rmtree(home, ignore_errors=True)
    if not (home / "bin" / "python").exists():
        uv = shutil.which("uv")
        made = [uv, "venv", "-q", "--seed", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
        _run([*made, str(home)])


def install(
    home: Path, requirements: Sequence[str | Path], *, constraints: Path | None = None, alone: bool = False
) -> None:
    """Install into the environment at `home`.

    Args:
        home: Its folder, as `make` made it.
        requirements: As on pip's command line, `--editable` before a folder.
        constraints: A file of versions to keep to.
        alone: Whether without what the packages ask for.

    Raises:
        RuntimeError: the installer failed; the message ends with its last line.
    """
    options = ["--constraint", str(constraints)] if constraints else []
    python = str(home / "bin" / "python")
    if uv := shutil.which("uv"):
        installer = [uv, "pip", "install", "-q", "--python", python]
    else:
        installer = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        if constraints and any(line.startswith("pip==") for line in constraints.read_text().splitlines()):
            _run([*installer, *options, "pip"])  # an older one takes hours for some frameworks
    _run([*installer, *options, *(["--no-deps"] if alone else []), *map(str, requirements)])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise RuntimeError(f"{' '.join(command[:4])} … ended with {done.returncode}: {said}")
