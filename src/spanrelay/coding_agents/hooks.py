"""What is answered to a hook: read as its agent's, judged where a tool is about to run, and written in its protocol.

Nothing that breaks here reaches the agent: a tool that policy would judge does not run then, and all else goes on.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, NamedTuple

from spanrelay import _json, config
from spanrelay._guard import losses, swallow
from spanrelay.assembly.sinks import TrajectoryDirectory
from spanrelay.coding_agents import judging
from spanrelay.coding_agents.finishing import finish
from spanrelay.coding_agents.folder import RunFolder, folder_of
from spanrelay.coding_agents.hook_client import BEFORE_TOOLS, JUDGED
from spanrelay.coding_agents.judging import Verdict
from spanrelay.coding_agents.launching import Agent, HookEvent
from spanrelay.errors import SpanRelayError
from spanrelay.instrumentation.requests import Body, object_in


class Unjudged(Exception):
    """A hook that comes before a tool, of which policy cannot say whether it may run: it may not."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the hook before a tool cannot be read without doubt, so no tool may run: {why}")


class Answered(NamedTuple):
    """A hook that was read, what it tells, and what it is to print."""

    hook: dict[str, Any]
    event: HookEvent
    answer: bytes


def answered(agent: Agent, data: bytes, *, session: str | None = None, user: str | None = None) -> Answered | None:
    """Return what is answered to a hook by the policy in force; None where it is no hook, which is counted.

    Raises:
        Unjudged: it comes before a tool, and policy cannot know of which.
    """
    held = judging.holds_for("tool")
    found = object_in(data) if held else _read(data)
    if isinstance(found, Body):
        losses.add("hooks that are no JSON object")
        if held and any(name in data for name in BEFORE_TOOLS):
            raise Unjudged(found.unreadable or "")
        return None
    hook = dict(found)
    event = agent.read(hook)
    if held and event.tool is None and event.name.encode("utf-8", "replace") in JUDGED:
        raise Unjudged("it names no tool")
    if event.tool is None or not judging.anything_for("tool"):
        return Answered(hook, event, b"")
    verdict = judging.judged(
        event.tool,
        event.arguments,
        agent=agent.name,
        call_id=event.call_id,
        session=event.session or session,
        user=user,
    )
    return Answered(hook, event, agent.answer(event, verdict))


def _read(data: bytes) -> dict[str, Any] | Body:
    try:
        value = _json.loads(data)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else Body({})


def answer_alone(agent: Agent, data: bytes) -> bytes:
    """Return what the policy files of the working directory say of a hook; where they are wrong, no tool runs.

    Raises:
        Unjudged: as `answered`.
    """
    try:
        judging.put_in_force()
        done = answered(agent, data)
        if done is not None and done.event.ends:
            write_trajectory(agent, done.event)
        return done.answer if done is not None else b""
    except Unjudged:
        raise
    except SpanRelayError as error:
        return _refused(agent, data, str(error))
    except Exception as error:
        swallow("answering a hook", error)
        return _refused(agent, data, f"{type(error).__name__}: {error}") if config.policy_files() else b""


def keep_transcripts(folder: RunFolder, agent: Agent, event: HookEvent) -> None:
    """Note the transcripts that a hook names, and at the end of a turn those of sub-agents beside them."""
    found = list(event.paths)
    if event.ends and event.session:
        found += [str(each) for path in event.paths for each in agent.beside(Path(path), event.session)]
    for path in found:
        folder.add_transcript(path)
    if event.database and event.session:
        folder.add_session(event.database, event.session)


def write_trajectory(agent: Agent, event: HookEvent) -> None:
    """Write the trajectory of a session, of which there is nothing but transcripts."""
    settings = config.load_strictly()
    trajectories = Path(settings.trajectory_directory)
    if settings.trajectories == "off" or settings.disabled:
        return
    TrajectoryDirectory(trajectories).prepare()
    folder = RunFolder(folder_of(trajectories, f"hook-{secrets.token_hex(4)}"))
    keep_transcripts(folder, agent, event)
    finish(folder, trajectories, settings.atif_version)
    folder.remove()


def _refused(agent: Agent, data: bytes, why: str) -> bytes:
    try:
        event = agent.read(_json.loads(data))
    except (ValueError, TypeError, AttributeError):
        return b""
    return agent.answer(event, Verdict(f"policy cannot be asked: {why}")) if event.tool is not None else b""
