"""Hooks for good: put into the settings of an agent's user or project, and taken out again as if they had never been.

Where an agent reads a folder of files, ours is one of them, and no other is touched. Without a run hooks hold policy,
and write the trajectory of a session from its transcript at the end of each turn.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from spanrelay.coding_agents.launching import CLIENT, Agent, hook_command
from spanrelay.errors import SpanRelayError

BACKUP = ".before-spanrelay"
"""What the name of the file ends in that holds the settings as they were."""


@dataclass(frozen=True, slots=True)
class Change:
    """What would become of a settings file; None stands for no file."""

    path: Path
    before: bytes | None
    after: bytes | None
    keeps: bool = False
    """Whether what was there before is to be kept beside it."""

    @property
    def diff(self) -> str:
        """The lines that change; nothing where none does."""
        old, new = ((text or b"").decode("utf-8", "replace").splitlines() for text in (self.before, self.after))
        name = str(self.path)
        return "\n".join(difflib.unified_diff(old, new, name, name, lineterm=""))

    def make(self) -> None:
        """Write the file, and keep what was there beside it as long as our hooks are in it.

        Raises:
            SpanRelayError: it cannot be written.
        """
        kept = _backup_of(self.path)
        try:
            if self.keeps and not kept.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(self.before or b"")
            if self.after is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_bytes(self.after)
            else:
                self.path.unlink()
            if not self.keeps:
                kept.unlink(missing_ok=True)
        except OSError as error:
            raise SpanRelayError(f"{str(self.path)!r} cannot be written: {error.strerror or error}") from error


def installed(agent: Agent, path: Path) -> Change:
    """Return the change that puts our hooks into a settings file; none where they are there.

    Raises:
        SpanRelayError: the file is not what it should be.
    """
    before = _bytes(path)
    if agent.written is not None:
        if before is not None and not _is_ours_alone(before):
            raise SpanRelayError(f"{str(path)!r} is there already, and not ours; move it away first")
        return Change(path, before, agent.written().encode())
    settings = _read(path, before)
    if _ours_in(settings, agent) == _wanted(agent):
        return Change(path, before, before, keeps=True)
    return Change(path, before, _with_ours(settings, agent), keeps=True)


def uninstalled(agent: Agent, path: Path) -> Change:
    """Return the change that takes our hooks out of a settings file.

    Where nobody has changed it since, it is byte for byte what it was before.

    Raises:
        SpanRelayError: the file is not what it should be.
    """
    before = _bytes(path)
    if agent.written is not None:
        return Change(path, before, None if before is not None and _is_ours_alone(before) else before)
    settings = _read(path, before)
    if not _has_ours(settings):
        return Change(path, before, before)
    kept = _bytes(_backup_of(path))
    if kept is not None and _with_ours(_read(path, kept or None), agent) == before:
        return Change(path, before, kept or None)
    left = _without_ours(settings)
    return Change(path, before, _laid_out(left) if left else None)


def is_installed(agent: Agent, path: Path) -> bool:
    """Whether our hooks stand in a settings file."""
    try:
        found = _bytes(path)
        return _is_ours_alone(found or b"") if agent.written is not None else _has_ours(_read(path, found))
    except SpanRelayError:
        return False


def _backup_of(path: Path) -> Path:
    return path.with_name(path.name + BACKUP)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpanRelayError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error


def _read(path: Path, data: bytes | None) -> dict[str, Any]:
    if data is None or not data.strip():
        return {}
    try:
        settings = json.loads(data)
    except ValueError as error:
        raise SpanRelayError(f"{str(path)!r} is not JSON: {error}; correct it first") from error
    hooks: Any = settings.get("hooks", {}) if isinstance(settings, dict) else None
    if not isinstance(hooks, dict) or not all(
        isinstance(each, list) for each in cast("dict[str, Any]", hooks).values()
    ):
        raise SpanRelayError(f"{str(path)!r} is not an object with lists of hooks by event; correct it first")
    return cast("dict[str, Any]", settings)


def _wanted(agent: Agent) -> dict[str, list[Any]]:
    hook = {"type": "command", "command": hook_command(agent.name, "installed"), "timeout": agent.patience}
    return {event: [{"hooks": [hook]}] for event in agent.lasting}


def _is_ours_alone(data: bytes) -> bool:
    return CLIENT.encode() in data


def _is_ours(entry: Any) -> bool:
    return CLIENT in json.dumps(entry)


def _has_ours(settings: dict[str, Any]) -> bool:
    return any(_is_ours(entry) for entries in settings.get("hooks", {}).values() for entry in entries)


def _ours_in(settings: dict[str, Any], agent: Agent) -> dict[str, list[Any]]:
    hooks = settings.get("hooks", {})
    found = {event: [entry for entry in entries if _is_ours(entry)] for event, entries in hooks.items()}
    return {event: entries for event, entries in found.items() if entries}


def _with_ours(settings: dict[str, Any], agent: Agent) -> bytes:
    clean = _without_ours(settings)
    hooks = dict(clean.get("hooks", {}))
    for event, entries in _wanted(agent).items():
        hooks[event] = [*hooks.get(event, []), *entries]
    return _laid_out({**clean, "hooks": hooks})


def _without_ours(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with every hook that is not ours; what is empty then, and was not, is left out."""
    hooks: dict[str, Any] = {}
    for event, entries in settings.get("hooks", {}).items():
        left = [entry for entry in entries if not _is_ours(entry)]
        if left or not entries:
            hooks[event] = left
    if hooks or not settings.get("hooks"):
        return {**settings, **({"hooks": hooks} if "hooks" in settings else {})}
    return {name: value for name, value in settings.items() if name != "hooks"}


def _laid_out(settings: dict[str, Any]) -> bytes:
    return (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode()
