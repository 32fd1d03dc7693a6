"""List the coding agents that `spanrelay run` knows: which are installed here, and what would be observed of them."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from spanrelay import config
from spanrelay.cli.printing import print_table
from spanrelay.coding_agents.agents import AGENTS, check_version, version_of
from spanrelay.coding_agents.folder import folder_of
from spanrelay.coding_agents.installing import is_installed
from spanrelay.coding_agents.launching import Agent, Launch
from spanrelay.errors import SpanRelayError

HEADINGS = ("agent", "version", "program", "under `spanrelay run`", "hooks for good")

EXAMPLES = ("spanrelay agents",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes nothing."""


def run(options: argparse.Namespace) -> int:
    """Print a row for each agent, and why less would be observed of one than of others.

    Raises:
        SpanRelayError: the settings are wrong.
    """
    environment = config.inherited()
    folder = folder_of(Path(config.load_strictly().trajectory_directory), "RUN")
    found = [_Found(agent, environment, folder) for agent in AGENTS.values()]
    print_table(HEADINGS, [each.row for each in found], sys.stdout, elastic={2})
    for each in found:
        for why in each.lacking:
            print(f"{each.agent.title}: {why}")
    return 0


class _Found:
    """What is known of an agent here: its row, and what is lacking."""

    def __init__(self, agent: Agent, environment: dict[str, str], folder: Path) -> None:
        self.agent = agent
        self.lacking: list[str] = []
        path = next(filter(None, (shutil.which(each, path=environment.get("PATH")) for each in agent.programs)), None)
        version = version_of(agent, path) if path is not None else None
        places = {"user": agent.settings(environment, None), "project": agent.settings(environment, Path.cwd())}
        hooks = ", ".join(name for name, place in places.items() if is_installed(agent, place))
        observed = self._observed(Launch([path], environment), version, folder) if path is not None else ""
        self.row = [agent.title, version or "", path or "not installed", observed, hooks or "none"]

    def _observed(self, launch: Launch, version: str | None, folder: Path) -> str:
        try:
            check_version(self.agent, version)
        except SpanRelayError:
            return "too old"
        held: list[str] = []
        deaf = self.agent.deaf(launch, folder)
        if deaf is None:
            held.append("tools")
        else:
            self.lacking.append(f"no hooks: {deaf}")
        try:
            self.agent.upstreams(launch)
            held.append("models")
        except SpanRelayError as error:
            self.lacking.append(f"no policy for models: {error}")
        told = "telemetry, hooks, transcript" if deaf is None else "telemetry, transcript"
        return f"{told}; policy for {' and '.join(held)}" if held else told
