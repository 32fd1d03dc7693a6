"""What `install` and `uninstall` have in common: which settings, what changes, and whether it may."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from spanrelay import config
from spanrelay._voice import say
from spanrelay.coding_agents.agents import AGENTS
from spanrelay.coding_agents.installing import Change
from spanrelay.coding_agents.launching import Agent


def add_lasting_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser whose settings are meant, and whether to ask."""
    parser.add_argument("agent", choices=sorted(AGENTS), help="whose settings")
    parser.add_argument("--project", action="store_true", help="those of this folder's project, in place of the user's")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def change(options: argparse.Namespace, of: Callable[[Agent, Path], Change], nothing: str) -> int:
    """Show a change of an agent's settings and make it, where whoever is asked agrees; returns the exit status."""
    agent = AGENTS[options.agent]
    path = agent.settings(config.inherited(), Path.cwd() if options.project else None)
    wanted = of(agent, path)
    if not wanted.diff:
        print(f"{path}: {nothing}")
        return 0
    print(wanted.diff, flush=True)
    if not options.yes and not _agreed():
        say("nothing was changed; --yes does it without asking")
        return 1
    wanted.make()
    print(f"{path}: changed")
    return 0


def _agreed() -> bool:
    if not sys.stdin.isatty():
        return False
    return input("Write this? [y/N] ").strip().lower() in ("y", "yes")
