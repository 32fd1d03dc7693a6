"""One run of a program, from its start to its trajectories: its terminal, signals and exit status stay its own."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spanrelay import _json, config
from spanrelay._guard import swallow
from spanrelay._voice import say
from spanrelay.assembly.sinks import TrajectoryDirectory
from spanrelay.coding_agents import agents, finishing, judging
from spanrelay.coding_agents.finishing import Outcome, finish
from spanrelay.coding_agents.folder import Description, RunFolder, folder_of
from spanrelay.coding_agents.launching import Agent, Launch, Reporting
from spanrelay.coding_agents.listening import Listening
from spanrelay.coding_agents.receiver import Receiver
from spanrelay.errors import SpanRelayError


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked to be: the command as the user types it, and what its trajectories belong to."""

    command: list[str]
    session: str | None = None
    user: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])


def run(options: Options) -> int:
    """Run a program in the foreground and write its trajectories; returns its exit status.

    A program that a signal ended ends this process by the same signal.

    Raises:
        SpanRelayError: nothing was started: there is no such program, it is too old, or a policy file is wrong.
    """
    settings = config.load_strictly()
    judging.put_in_force()
    trajectories = Path(settings.trajectory_directory)
    agent, launch = _known(options)
    try:
        TrajectoryDirectory(trajectories).prepare()
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        folder = RunFolder(folder_of(trajectories, name))
        folder.describe(
            Description(
                name,
                agent.name if agent else None,
                options.command,
                time.time(),
                options.session,
                options.user,
                options.metadata,
            )
        )
    except OSError as error:
        raise SpanRelayError(f"{str(trajectories)!r} cannot be written to: {error.strerror or error}") from error
    try:
        return _run(options, agent, launch, folder, trajectories, settings)
    except SpanRelayError:
        folder.remove()
        raise


def _run(
    options: Options,
    agent: Agent | None,
    launch: Launch,
    folder: RunFolder,
    trajectories: Path,
    settings: config.Settings,
) -> int:
    listening = Listening(folder, agents.AGENTS, options.session, options.user)
    receiver = Receiver(listening.telemetry, listening.hook)
    reporting = Reporting(folder.path.name, receiver.otlp, receiver.hooks, folder.path, judging.holds_for("tool"))
    prepare(agent, launch, reporting)
    listening.send_on(launch.onward)
    for path, text in launch.files.items():
        path.write_text(text)
        path.chmod(0o600)
    for note in launch.notes:
        say(note)
    _recover(trajectories, settings.atif_version)
    started = time.monotonic()
    status = _started(launch, agent, listening)
    took = time.monotonic() - started
    receiver.close()
    listening.close()
    try:
        outcome = finish(folder, trajectories, settings.atif_version)
    except KeyboardInterrupt:
        say(f"interrupted; `spanrelay recover` writes the trajectory of what is in {folder.path}")
        return _ended_as(status)
    except Exception as error:
        swallow("writing the trajectory of a run", error)
        say(f"the trajectory cannot be written; what was reported stays in {folder.path}")
        return _ended_as(status)
    if not settings.quiet:
        for line in summary(outcome, agent, status, took):
            say(line)
    return _ended_as(status)


def _known(options: Options) -> tuple[Agent | None, Launch]:
    """Return the agent that a command starts, and the launch of it."""
    environment = config.inherited()
    agent = agents.agent_of(options.command)
    path = agents.found_on_path(options.command[0], environment)
    if agent is not None:
        agents.check_version(agent, agents.version_of(agent, path))
    return agent, Launch([path, *options.command[1:]], environment)


def prepare(agent: Agent | None, launch: Launch, reporting: Reporting) -> None:
    """Fill in how a program is told where to report.

    Raises:
        SpanRelayError: tools are to be judged and no hooks can come.
    """
    launch.changed |= {
        "SPANRELAY_HOOKS": reporting.hooks,
        "SPANRELAY_RUN_DIRECTORY": os.getcwd(),
        **({"SPANRELAY_HOOKS_HOLD": "1"} if reporting.holds_tools else {}),
    }
    if not launch.environment.get("TRACEPARENT"):
        launch.changed["TRACEPARENT"] = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    if agent is None:
        _prepare_any(launch, reporting)
        return
    agent.prepare(launch, reporting)
    if launch.deaf is not None:
        told = f"{agent.title} runs no hooks: {launch.deaf}"
        if reporting.holds_tools:
            raise SpanRelayError(f"{told}; so no policy would hold for its tools, and nothing is started")
        say(told)


def _prepare_any(launch: Launch, reporting: Reporting) -> None:
    """Tell a program that is no coding agent where telemetry goes, unless it has been told."""
    known = launch.environment
    if config.otlp_endpoint("traces", known) is None:
        launch.changed |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": reporting.otlp,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
    launch.changed["OTEL_RESOURCE_ATTRIBUTES"] = reporting.resource(known.get("OTEL_RESOURCE_ATTRIBUTES"))


# ── the process


def _started(launch: Launch, agent: Agent | None, listening: Listening) -> int:
    """Run the program to its end, with what the terminal sends; returns what `Popen.returncode` says."""
    environment = {**launch.environment, **launch.changed}
    with _signals_to() as pass_to:
        try:
            process = subprocess.Popen(launch.command, env=environment)
        except OSError as error:
            raise SpanRelayError(f"{launch.command[0]!r} cannot be started: {error.strerror or error}") from error
        pass_to(process)
        if agent is not None and launch.deaf is None:
            listening.expect_hooks(agent.title, process.terminate)
        return process.wait()


@contextmanager
def _signals_to() -> Generator[Callable[[subprocess.Popen[bytes]], None]]:
    """Let the program, and not this process, do what signals ask.

    What the terminal sends reaches both; what is sent to this process alone is passed on.
    """
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        if started:
            started[0].send_signal(number)
        else:
            early.append(number)

    def leave(number: int, frame: object) -> None:
        """Do nothing; a handler is not handed down to the program, as being ignored would be."""

    handlers: dict[str, Callable[[int, object], None]] = {
        "SIGINT": leave,
        "SIGQUIT": leave,
        "SIGTERM": pass_on,
        "SIGHUP": pass_on,
    }
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name, handler in handlers.items():
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)

    def pass_to(process: subprocess.Popen[bytes]) -> None:
        started.append(process)
        for number in early:
            process.send_signal(number)

    try:
        yield pass_to
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended_as(status: int) -> int:
    """Return an exit status, or end as the program did: by a signal."""
    if status >= 0 or sys.platform == "win32":
        return status
    sys.stdout.flush()
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    return 128 - status  # where that signal is ignored whatever anybody says


# ── what is told


def summary(outcome: Outcome, agent: Agent | None, status: int, took: float) -> list[str]:
    """Return what is told at the end: how it went, what it used, and where the trajectory is."""
    who = agent.title if agent is not None else "the program"
    how = f"was ended by signal {-status}" if status < 0 else f"ended with {status}"
    total = outcome.tally.total
    counts = [(total.calls, "model call"), (total.tool_calls, "tool call"), (total.errors, "failure")]
    told = ", ".join(f"{count} {what}{'s' if count != 1 else ''}" for count, what in counts if count)
    lines = [f"{who} {how} after {took:.1f} s: {told or 'no model was asked'}"]
    tokens = [(total.prompt_tokens, "in"), (total.completion_tokens, "out"), (total.cached_tokens, "cached")]
    used = [f"{count:,} {what}" for count, what in tokens if count]
    cost = [f"${total.cost_usd:.4f}"] if total.cost_usd else []
    if used:
        lines.append(f"tokens: {', '.join(used)}{', cost ' + cost[0] if cost else ''}")
    lines += [f"trajectory: {path}" for path in outcome.documents]
    return [*lines, *outcome.faults[:5]]


def _recover(trajectories: Path, form: str) -> None:
    """Write the trajectories of runs that were killed."""
    try:
        for outcome in finishing.recover(trajectories, form):
            for path in outcome.documents:
                say(f"trajectory of a run that was killed: {path}")
    except Exception as error:
        swallow("recovering a run that was killed", error)


# ── without starting anything


def dry_run(options: Options) -> list[str]:
    """Return what a run would do, line by line: what is set, written and started."""
    judging.put_in_force()
    agent, launch = _known(options)
    folder = folder_of(Path(config.load_strictly().trajectory_directory), "RUN")
    holds = judging.holds_for("tool")
    reporting = Reporting("RUN", "http://127.0.0.1:PORT/SECRET", "PORT/SECRET", folder, holds)
    prepare(agent, launch, reporting)
    lines = [f"{name}={value}" for name, value in sorted(launch.changed.items())]
    lines += [f"{path}:\n{_laid_out(text)}" for path, text in launch.files.items()]
    lines += [f"telemetry is sent on to {url}" for url in sorted(set(launch.onward.urls.values()))]
    return [*lines, *launch.notes, subprocess.list2cmdline(launch.command)]


def _laid_out(text: str) -> str:
    import json

    return json.dumps(_json.loads(text.encode()), indent=2, ensure_ascii=False)
