"""Put hooks for good into the settings of a coding agent: policy for its tools, and a trajectory of each session."""

from __future__ import annotations

import argparse

from spanrelay.cli.lasting import add_lasting_arguments, change
from spanrelay.coding_agents.installing import installed

EXAMPLES = (
    "spanrelay install claude            # shows what would change, and asks",
    "spanrelay install --project -y codex",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `install` takes."""
    add_lasting_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Show what changes and, where that is confirmed, change it; returns 1 where it is not.

    Raises:
        SpanRelayError: the settings cannot be read or written.
    """
    return change(options, installed, "our hooks are there already")
