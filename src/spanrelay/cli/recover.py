"""Finish the trajectories of programs, and of runs of coding agents, that were killed."""

from __future__ import annotations

import argparse
from pathlib import Path

from spanrelay import config
from spanrelay.assembly import sinks
from spanrelay.cli import files
from spanrelay.coding_agents import finishing

EXAMPLES = (
    "spanrelay recover",
    "spanrelay recover runs/",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `recover` takes."""
    parser.add_argument(
        "directory", nargs="?", metavar="DIR", help="the folder; by default where trajectories are written"
    )


def run(options: argparse.Namespace) -> int:
    """Recover every unfinished trajectory whose program is gone, and print the files written.

    Raises:
        NoTrajectory: there is no such folder.
    """
    directory = Path(options.directory) if options.directory else files.default_directory()
    if not directory.is_dir():
        raise files.NoTrajectory(f"there is no folder {str(directory)!r}; name the one that the program wrote to")
    recovered = sinks.recover(directory)
    for path in recovered.finished:
        print(path)
    for path in recovered.whole:
        print(f"{path}: nothing was missing")
    for part, error in recovered.left:
        print(f"{part}: stays, since its trajectory cannot be written: {error.strerror or error}")
    outcomes = list(finishing.recover(directory, config.load()[0].atif_version))
    written = [path for outcome in outcomes for path in outcome.documents]
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    for line in [*written, *faults]:
        print(line)
    print(f"{len(recovered.finished) + len(written)} recovered in {directory}")
    return 1 if recovered.left or faults else 0
