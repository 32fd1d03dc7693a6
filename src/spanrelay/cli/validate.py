"""Check trajectories against the strict profile of ATIF."""

from __future__ import annotations

import argparse

from spanrelay._voice import say
from spanrelay.assembly.atif import violations
from spanrelay.cli import files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `validate` takes."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a trajectory, or a folder (its newest trajectory)")


def run(options: argparse.Namespace) -> int:
    """Print what is wrong with each file; returns 1 when anything is, or a file cannot be read."""
    return max([check(place) for place in options.files])


def check(place: str) -> int:
    """Print what is wrong with one file; returns 0 when it is good."""
    try:
        path = files.find(place)
        problems = violations(files.read(path))
    except files.NoTrajectory as error:
        say(str(error))
        return 1
    print(f"{path}: {'valid' if not problems else f'{len(problems)} violations'}")
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems else 0
