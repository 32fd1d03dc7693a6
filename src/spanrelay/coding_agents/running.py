"""One run of a program, from its start to its trajectories: its terminal, signals and exit status stay its own."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from spanrelay import _json, config
from spanrelay._guard import swallow
from spanrelay._voice import say
from spanrelay.assembly.sinks import TrajectoryDirectory
from spanrelay.coding_agents import agents, finishing, judging
from spanrelay.coding_agents.between import Between
from spanrelay.coding_agents.finishing import Outcome, finish
from spanrelay.coding_agents.folder import Belongs, Description, RunFolder, folder_of
from spanrelay.coding_agents.launching import Agent, Launch, Program, Reporting
from spanrelay.coding_agents.listening import Listening
from spanrelay.coding_agents.process import end_as, run_to_end, stop
from spanrelay.coding_agents.receiver import Receiver
from spanrelay.errors import SpanRelayError


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked to be: the command as the user types it, and what its trajectories belong to.

    With `gateway` one stands between the program and its models, whether policy needs it or not.
    """

    command: list[str]
    belongs: Belongs = field(default_factory=Belongs)
    gateway: bool = False


def run(options: Options) -> int:
    """Run a program in the foreground and write its trajectories; returns its exit status.

    A program that a signal ended ends this process by the same signal.

    Raises:
        SpanRelayError: nothing was started: there is no such program, it is too old, or a policy file is wrong.
    """
    settings = config.load_strictly()
    judging.put_in_force()
    program, launch = _known(options)
    upstreams = _upstreams(options, program, launch)
    trajectories, begun = Path(settings.trajectory_directory), time.time()
    version = agents.version_of(program, launch.command[0])
    folder = _folder(options, program, version, trajectories)
    try:
        status, took = _run(options, program, launch, upstreams, folder)
    except SpanRelayError:
        folder.remove()
        raise
    _recover(trajectories, settings.atif_version)
    try:
        outcome = finish(folder, trajectories, settings.atif_version)
        if upstreams and not isinstance(program, Agent):
            outcome.add_since(trajectories, begun)
    except KeyboardInterrupt:
        say(f"interrupted; `spanrelay recover` writes the trajectory of what is in {folder.path}")
        return end_as(status)
    except Exception as error:
        swallow("writing the trajectory of a run", error)
        say(f"the trajectory cannot be written; what was reported stays in {folder.path}")
        return end_as(status)
    if not settings.quiet:
        for line in summary(outcome, program, status, took):
            say(line)
    return end_as(status)


def _known(options: Options) -> tuple[Program, Launch]:
    """Return what a command starts, and the launch of it."""
    environment = config.inherited()
    program = agents.program_of(options.command)
    path = agents.found_on_path(options.command[0], environment)
    if isinstance(program, Agent):
        agents.check_version(program, agents.version_of(program, path))
    return program, Launch([path, *options.command[1:]], environment)


def _upstreams(options: Options, program: Program, launch: Launch) -> dict[str, str]:
    """Return what a gateway has to stand before; nothing where there is to be none."""
    return program.upstreams(launch) if options.gateway or judging.holds_for_models() else {}


def _folder(options: Options, program: Program, version: str | None, trajectories: Path) -> RunFolder:
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
    try:
        TrajectoryDirectory(trajectories).prepare()
        folder = RunFolder(folder_of(trajectories, name))
        folder.describe(Description(name, program.name, options.command, time.time(), options.belongs, version))
    except OSError as error:
        raise SpanRelayError(f"{str(trajectories)!r} cannot be written to: {error.strerror or error}") from error
    return folder


def _run(
    options: Options, program: Program, launch: Launch, upstreams: Mapping[str, str], folder: RunFolder
) -> tuple[int, float]:
    """Start the program with all that listens to it; returns its status, and how many seconds it took."""
    listening = Listening(folder, agents.AGENTS, options.belongs)
    receiver = Receiver(listening.telemetry, listening.hook)
    between = _between(options, program, upstreams) if upstreams else None
    gateways = between.base_urls if between is not None else {}
    holds = judging.holds_for("tool")
    reporting = Reporting(folder.path.name, receiver.otlp, receiver.hooks, folder.path, holds, gateways)
    prepare(program, launch, reporting, between.traceparent if between is not None else None)
    listening.send_on(launch.onward)
    for path, text in launch.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text)
    for note in launch.notes:
        say(note)
    begun = time.monotonic()

    def started(process: subprocess.Popen[bytes]) -> None:
        if isinstance(program, Agent) and launch.deaf is None:
            listening.expect_hooks(program.title, partial(stop, process))

    status = run_to_end(launch.command, {**launch.environment, **launch.changed}, started)
    took = time.monotonic() - begun
    receiver.close()
    listening.close()
    if between is not None:
        between.close()
    return status, took


def _between(options: Options, program: Program, upstreams: Mapping[str, str]) -> Between:
    recorded = None if isinstance(program, Agent) else Path(options.command[0]).name
    return Between(upstreams, recorded=recorded, belongs=options.belongs)


def prepare(program: Program, launch: Launch, reporting: Reporting, traceparent: str | None = None) -> None:
    """Fill in how a program is told where to report.

    Raises:
        SpanRelayError: tools are to be judged and no hooks can come.
    """
    launch.changed |= {
        "SPANRELAY_HOOKS": reporting.hooks,
        "SPANRELAY_RUN_DIRECTORY": os.getcwd(),
        **({"SPANRELAY_HOOKS_HOLD": "1"} if reporting.holds_tools else {}),
    }
    if traceparent is not None:
        launch.changed["TRACEPARENT"] = traceparent
    elif not launch.environment.get("TRACEPARENT"):
        launch.changed["TRACEPARENT"] = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    launch.changed |= past_proxies(launch.environment)
    if isinstance(program, Agent):
        launch.deaf = program.deaf(launch, reporting.folder)
    program.prepare(launch, reporting)
    if launch.deaf is not None:
        told = f"{program.title} runs no hooks: {launch.deaf}"
        if reporting.holds_tools:
            raise SpanRelayError(f"{told}; so no policy would hold for its tools, and nothing is started")
        launch.notes.append(told)


def past_proxies(known: Mapping[str, str]) -> dict[str, str]:
    """Return what keeps this machine's own addresses, and the secrets in them, from the proxy of a program."""
    if not any(known.get(name) for each in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (each, each.lower())):
        return {}
    given = known.get("no_proxy") or known.get("NO_PROXY") or ""
    if "*" in (entries := [entry.strip() for entry in given.split(",") if entry.strip()]):
        return {}
    value = ",".join(dict.fromkeys([*entries, "127.0.0.1", "localhost"]))
    return {"NO_PROXY": value, "no_proxy": value}


# ── what is told


def summary(outcome: Outcome, program: Program, status: int, took: float) -> list[str]:
    """Return what is told at the end: how it went, what it used, and where the trajectory is."""
    how = f"was ended by signal {-status}" if status < 0 else f"ended with {status}"
    total = outcome.tally.total
    counts = [(total.calls, "model call"), (total.tool_calls, "tool call"), (total.errors, "failure")]
    told = ", ".join(f"{count} {what}{'s' if count != 1 else ''}" for count, what in counts if count)
    lines = [f"{program.title} {how} after {took:.1f} s: {told or 'no model call was recorded'}"]
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
    program, launch = _known(options)
    folder = folder_of(Path(config.load_strictly().trajectory_directory), "RUN")
    gateways = {name: f"http://127.0.0.1:PORT/r/SECRET/{name}" for name in _upstreams(options, program, launch)}
    place = "127.0.0.1:PORT/SECRET"
    holds = judging.holds_for("tool")
    reporting = Reporting("RUN", f"http://{place}", place.partition(":")[2], folder, holds, gateways)
    prepare(program, launch, reporting)
    lines = [f"{name}={value}" for name, value in sorted(launch.changed.items())]
    lines += [f"{path}:\n{_laid_out(text)}" for path, text in launch.files.items()]
    lines += [f"telemetry is sent on to {url}" for url in sorted(set(launch.onward.urls.values()))]
    return [*lines, *launch.notes, shlex.join(launch.command)]


def _laid_out(text: str) -> str:
    if not text.startswith("{"):
        return text
    return json.dumps(_json.loads(text.encode()), indent=2, ensure_ascii=False)
