"""How a program is started such that it reports here: what each agent's own file fills in.

Nothing of the user's is written to: what is said is said by flags, by the environment and in files of the run's own.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spanrelay.coding_agents.judging import Verdict

HOOK_PATIENCE_S = 600
"""Seconds that agents are told to wait for a hook: some go on without an answer then."""


@dataclass(frozen=True, slots=True)
class Reporting:
    """Where a run listens, and what it is called.

    `otlp` is a base URL, `hooks` what the client is given, `folder` where files of the run may be put. `gateways` are
    base URLs in place of those of providers, by what `Program.upstreams` calls them; none where no gateway stands
    between.
    """

    run: str
    otlp: str
    hooks: str
    folder: Path
    holds_tools: bool = False
    gateways: Mapping[str, str] = field(default_factory=dict[str, str])

    def resource(self, given: str | None) -> str:
        """Return `OTEL_RESOURCE_ATTRIBUTES` with the run's id, behind those that are set."""
        return ",".join(filter(None, ((given or "").strip().strip(","), f"spanrelay.run.id={self.run}")))


@dataclass(slots=True)
class Onward:
    """Where what arrives is sent on to, unchanged: whom the user had it sent to. URLs by signal, and headers."""

    urls: dict[str, str] = field(default_factory=dict[str, str])
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class Launch:
    """A program that is about to be started.

    `environment` is what it inherits, `changed` what is set beside, `files` what is written for it; `notes` are told
    to the user. `deaf` says why no hooks can come, where that is known beforehand.
    """

    command: list[str]
    environment: Mapping[str, str]
    changed: dict[str, str] = field(default_factory=dict[str, str])
    files: dict[Path, str] = field(default_factory=dict[Path, str])
    notes: list[str] = field(default_factory=list[str])
    onward: Onward = field(default_factory=Onward)
    deaf: str | None = None

    def insert(self, *arguments: str) -> None:
        """Put arguments right behind the program's name, where those that the user gave come later."""
        self.command[1:1] = arguments


@dataclass(frozen=True, slots=True)
class HookEvent:
    """What a hook tells: its session, and, where a tool is about to run, which with what.

    `paths` are transcripts, and `database` is one that has the session among others; `ends` says that what is in them
    is whole for now.
    """

    name: str
    session: str | None = None
    tool: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    call_id: str | None = None
    paths: tuple[str, ...] = ()
    ends: bool = False
    database: str | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A program that can be run.

    `name` is what it is called here, `programs` and `package` what it goes by on a PATH and on npm. `prepare` fills in
    a launch; `upstreams` tells the base URLs of the providers that it would ask, by names of the gateway's, and raises
    `SpanRelayError` where no gateway can stand between.
    """

    name: str
    title: str
    programs: tuple[str, ...]
    package: str
    oldest: tuple[int, ...]
    prepare: Callable[[Launch, Reporting], None]
    upstreams: Callable[[Launch], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Agent(Program):
    """A coding agent.

    `read` reads a hook of it, and `answer` writes what that prints; `b""` lets it go on. `deaf` says why no hooks can
    come of a launch, as far as that can be seen before anything is started, where a run's own files would be in a
    folder. `settings` is the file where hooks stand for good, of a project's folder or of the user's home, and
    `lasting` are those that serve there; `patience` is how long one may take, in the agent's own unit. `beside` finds
    the transcripts of sub-agents, by that of a session and its id. `written` is all that is in `settings` where our
    hooks have that file for themselves.
    """

    read: Callable[[Mapping[str, Any]], HookEvent]
    answer: Callable[[HookEvent, Verdict], bytes]
    settings: Callable[[Mapping[str, str], Path | None], Path]
    lasting: tuple[str, ...]
    patience: int
    deaf: Callable[[Launch, Path], str | None] = lambda launch, folder: None
    beside: Callable[[Path, str], Iterable[Path]] = lambda path, session: ()
    written: Callable[[], str] | None = None


CLIENT = "hook_client.py"


def hook_arguments(agent: str, *more: str) -> list[str]:
    """Return the program of a hook and its arguments: the same in every run."""
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name(CLIENT)), agent, *more]


def hook_command(agent: str, *more: str) -> str:
    """Return the command line of a hook."""
    return shlex.join(hook_arguments(agent, *more))
