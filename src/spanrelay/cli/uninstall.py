"""Take hooks out of the settings of a coding agent, which are then what they were before."""

from __future__ import annotations

import argparse

from spanrelay.cli.lasting import add_lasting_arguments, change
from spanrelay.coding_agents.installing import uninstalled

EXAMPLES = (
    "spanrelay uninstall claude",
    "spanrelay uninstall --project -y codex",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `uninstall` takes."""
    add_lasting_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Show what changes and, where that is confirmed, change it; returns 1 where it is not.

    Raises:
        SpanRelayError: the settings cannot be read or written.
    """
    return change(options, uninstalled, "none of our hooks are there")
