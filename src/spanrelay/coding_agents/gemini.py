"""Gemini CLI: told by a system's settings file of the run's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from spanrelay import _json
from spanrelay.codecs.narrowing import as_mapping
from spanrelay.coding_agents.installing import is_installed
from spanrelay.coding_agents.judging import Verdict
from spanrelay.coding_agents.launching import HOOK_PATIENCE_S, Agent, HookEvent, Launch, Reporting
from spanrelay.coding_agents.layered import Layers
from spanrelay.coding_agents.protocol import event_of, said
from spanrelay.errors import SpanRelayError

_LAYERS = Layers(
    "gemini",
    "GEMINI_CLI_SYSTEM_SETTINGS_PATH",
    "/etc/gemini-cli/settings.json",
    ".gemini",
    "GEMINI",
    ("TRACES_ENABLED", "LOG_PROMPTS"),
    ("BeforeAgent", "BeforeTool", "AfterAgent"),
    HOOK_PATIENCE_S * 1000,
)


def _prepare(launch: Launch, reporting: Reporting) -> None:
    _LAYERS.send_here(launch, reporting)
    if _has_lasting(launch):
        launch.changed["SPANRELAY_HOOKS_LASTING"] = "1"
    elif _is_trusted(reporting.folder):
        _LAYERS.write(launch, reporting)
    if reporting.gateways:
        launch.changed["GOOGLE_GEMINI_BASE_URL"] = reporting.gateways["gemini"]


def _deaf(launch: Launch, folder: Path) -> str | None:
    for path, settings in _LAYERS.known(launch.environment):
        if as_mapping(settings.get("hooksConfig")).get("enabled") is False:
            return f"{path} says hooksConfig.enabled = false"
    if _has_lasting(launch) or _is_trusted(folder):
        return None
    return "it reads no settings but root's beside yours; `spanrelay install gemini` puts hooks into yours"


def _has_lasting(launch: Launch) -> bool:
    return any(is_installed(AGENT, _settings(launch.environment, project)) for project in (None, Path.cwd()))


def _is_trusted(folder: Path) -> bool:
    """Whether Gemini CLI would take settings from a folder: it and all above are root's, and nobody else's to write."""
    if sys.platform == "win32":
        return True
    if os.getuid() != 0:
        return False
    return not any(os.stat(each).st_uid or os.stat(each).st_mode & 0o22 for each in _there(folder.absolute()))


def _there(path: Path) -> Iterator[Path]:
    """Yield what exists of a path, from its root on."""
    yield from (each for each in (path, *path.parents) if each.exists())


def _upstreams(launch: Launch) -> dict[str, str]:
    environment = launch.environment
    if not environment.get("GEMINI_API_KEY") or environment.get("GOOGLE_GENAI_USE_VERTEXAI", "").lower() == "true":
        raise SpanRelayError("the gateway stands between Gemini CLI and the Gemini API alone; set GEMINI_API_KEY")
    return {"gemini": environment.get("GOOGLE_GEMINI_BASE_URL") or "https://generativelanguage.googleapis.com"}


def _answer(event: HookEvent, verdict: Verdict) -> bytes:
    if verdict.refusal is not None:
        return _json.dumps({"decision": "deny", "reason": verdict.refusal})
    if verdict.arguments is not None:
        return said(event, tool_input=verdict.arguments)
    return b""


def _settings(environment: Mapping[str, str], project: Path | None) -> Path:
    return (Path.home() if project is None else project) / ".gemini" / "settings.json"


def _beside(path: Path, session: str) -> Iterator[Path]:
    yield from sorted((path.parent / session).glob("*.jsonl"))


AGENT = Agent(
    "gemini",
    "Gemini CLI",
    ("gemini",),
    "@google/gemini-cli",
    (0, 61),
    prepare=_prepare,
    upstreams=_upstreams,
    read=partial(event_of, before="BeforeTool", ends="AfterAgent"),
    answer=_answer,
    deaf=_deaf,
    settings=_settings,
    lasting=("BeforeTool", "AfterAgent"),
    patience=HOOK_PATIENCE_S * 1000,
    beside=_beside,
)
