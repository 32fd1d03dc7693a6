"""The coding agents that are known: found by the name of the program, and which version is installed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from spanrelay import _json
from spanrelay.coding_agents import claude, codex, copilot, gemini, opencode, qwen
from spanrelay.coding_agents.launching import Agent, Program
from spanrelay.coding_agents.program import PROGRAM
from spanrelay.errors import SpanRelayError

AGENTS: dict[str, Agent] = {
    module.AGENT.name: module.AGENT for module in (claude, codex, gemini, qwen, copilot, opencode)
}
"""By what they are called here."""


def program_of(command: list[str]) -> Program:
    """Return what a command starts: an agent, or any other program."""
    name = Path(command[0]).name.lower()
    for ending in (".exe", ".cmd", ".ps1", ".js"):
        name = name.removesuffix(ending)
    return next((agent for agent in AGENTS.values() if name in agent.programs), PROGRAM)


def found_on_path(program: str, environment: Mapping[str, str]) -> str:
    """Return the file of a program.

    Raises:
        SpanRelayError: there is none.
    """
    path = shutil.which(program, path=environment.get("PATH"))
    if path is None:
        raise SpanRelayError(f"there is no program {program!r}; install it, or write where it is")
    return path


def version_of(agent: Program, path: str) -> str | None:
    """Return which version of an agent a program is, as its package says; None where it is in no package."""
    for folder in Path(path).resolve().parents:
        try:
            package = _json.loads((folder / "package.json").read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(package, dict) and package.get("name") == agent.package:
            return str(package.get("version"))
    return None


def check_version(agent: Program, version: str | None) -> None:
    """Refuse a version that is known to be too old.

    Raises:
        SpanRelayError: it is.
    """
    if version is not None and _numbers(version) < agent.oldest:
        oldest = ".".join(map(str, agent.oldest))
        raise SpanRelayError(
            f"{agent.title} {version} is too old; install {oldest} or newer: npm install -g {agent.package}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdecimal())
