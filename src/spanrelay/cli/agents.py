"""List the coding agents that `spanrelay run` knows: which are installed here, and what would be observed of them."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from spanrelay import config
from spanrelay.cli.printing import print_table
from spanrelay.coding_agents.agents import AGENTS, check_version, version_of
from spanrelay.coding_agents.installing import is_installed
from spanrelay.coding_agents.launching import Agent
from spanrelay.errors import SpanRelayError

HEADINGS = ("agent", "version", "program", "under `spanrelay run`", "hooks for good")

EXAMPLES = ("spanrelay agents",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes nothing."""


def run(options: argparse.Namespace) -> int:
    """Print a row for each agent."""
    environment = config.inherited()
    rows = [_row(agent, environment) for agent in AGENTS.values()]
    print_table(HEADINGS, rows, sys.stdout, elastic={2})
    return 0


def _row(agent: Agent, environment: dict[str, str]) -> list[str]:
    path = next(filter(None, (shutil.which(each, path=environment.get("PATH")) for each in agent.programs)), None)
    version = version_of(agent, path) if path is not None else None
    places = {"user": agent.settings(environment, None), "project": agent.settings(environment, Path.cwd())}
    hooks = ", ".join(name for name, place in places.items() if is_installed(place))
    return [agent.title, version or "", path or "not installed", _observed(agent, path, version), hooks or "none"]


def _observed(agent: Agent, path: str | None, version: str | None) -> str:
    if path is None:
        return ""
    try:
        check_version(agent, version)
    except SpanRelayError:
        return "too old"
    return "telemetry, hooks, transcript; policy for tools and models"
