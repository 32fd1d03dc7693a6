"""`python -m tests.conformance [FOLDER]` runs the suite of the testkit where the providers' SDKs are.

That is here, or in their environment, which is made only where there are exchanges to ask.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution

from tests.provider_environment import OTHERS, OURS, providers

from spanrelay_testkit.conformance.__main__ import folder_of, main


def is_here() -> bool:
    """Whether every SDK, and every package of ours for them, is installed beside this."""
    try:
        for name in (*OTHERS, *(f"spanrelay-{part}" for part in OURS)):
            distribution(name)
    except PackageNotFoundError:
        return False
    return True


def start(arguments: list[str]) -> int:
    """Run the suite here, or there."""
    if is_here() or not any(folder_of(arguments).glob("*.jsonl")):
        return main(arguments)
    if sys.version_info < (3, 11):
        print("conformance: the providers' SDKs need Python 3.11 or newer beside each other; skipped")
        return 0
    command = [providers() / "python", "-m", "spanrelay_testkit.conformance", *arguments]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
