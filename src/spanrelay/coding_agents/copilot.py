"""GitHub Copilot CLI: told by a plugin of the run's own, which adds hooks to those that there are, and by variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spanrelay import _json, config
from spanrelay.coding_agents.exporting import send_here
from spanrelay.coding_agents.judging import Verdict
from spanrelay.coding_agents.launching import HOOK_PATIENCE_S, Agent, HookEvent, Launch, Reporting, hook_command
from spanrelay.coding_agents.protocol import event_of
from spanrelay.coding_agents.settings import read_settings, switched_off
from spanrelay.errors import SpanRelayError

EVENTS = ("UserPromptSubmit", "PreToolUse", "ErrorOccurred", "Stop")
"""Those that serve: each costs a process. Written so, they come in the JSON of Claude Code's hooks.

Of requests that failed its events tell only where a hook is told of them.
"""

LASTING = ("PreToolUse", "Stop")

_PLUGIN = {
    "name": "spanrelay-run",
    "version": "1.0.0",
    "description": "Reports a session to `spanrelay run`",
    "hooks": "hooks/hooks.json",
}

_PROVIDERS = {"openai": "openai", "anthropic": "anthropic"}
"""What the gateway calls providers, by `COPILOT_PROVIDER_TYPE`."""


def _prepare(launch: Launch, reporting: Reporting) -> None:
    plugin = (reporting.folder / "copilot-plugin").absolute()
    launch.files[plugin / "plugin.json"] = _json.dumps(_PLUGIN).decode()
    launch.files[plugin / "hooks" / "hooks.json"] = _json.dumps(_hooks(EVENTS)).decode()
    launch.insert("--plugin-dir", str(plugin))
    known = launch.environment
    chosen = known.get("COPILOT_OTEL_EXPORTER_TYPE", "file" if known.get("COPILOT_OTEL_FILE_EXPORTER_PATH") else "")
    if chosen.strip().lower() == "file":
        launch.notes.append("its telemetry goes on to a file, and not here: its events tell the session")
    elif send_here(launch, reporting):
        launch.changed["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
    for url in reporting.gateways.values():
        launch.changed |= {"COPILOT_PROVIDER_BASE_URL": url, "COPILOT_PROVIDER_TRANSPORT": "http"}


def _deaf(launch: Launch, folder: Path) -> str | None:
    home = _home(launch.environment)
    found = [home / "config.json", home / "settings.json"]
    for place in (Path(".github", "copilot"), Path(".claude")):
        found += [place / "settings.json", place / "settings.local.json"]
    return switched_off((str(path), read_settings(path)) for path in found)


def _upstreams(launch: Launch) -> dict[str, str]:
    url = launch.environment.get("COPILOT_PROVIDER_BASE_URL", "").strip()
    if not url:
        raise SpanRelayError(
            "the gateway stands between Copilot CLI and a provider of yours alone, and not GitHub's models; "
            "set COPILOT_PROVIDER_BASE_URL"
        )
    kind = launch.environment.get("COPILOT_PROVIDER_TYPE", "").strip().lower() or "openai"
    if kind not in _PROVIDERS:
        known = " or ".join(_PROVIDERS)
        raise SpanRelayError(f"COPILOT_PROVIDER_TYPE is {kind}, and the gateway stands before {known} alone")
    return {_PROVIDERS[kind]: url}


# ── hooks


def _hooks(events: Iterable[str], *more: str) -> dict[str, Any]:
    run = {"type": "command", "command": hook_command("copilot", *more), "timeoutSec": HOOK_PATIENCE_S}
    return {"version": 1, "hooks": {event: [run] for event in events}}


_SESSION = re.compile(r"[\w-]+")


def _read(hook: Mapping[str, Any]) -> HookEvent:
    """Return what a hook tells; where its session's events are is known before they are named at the end of a turn."""
    event = event_of(hook)
    if event.paths or "agent_id" in hook or not _SESSION.fullmatch(event.session or ""):
        return event
    path = _home(config.inherited()) / "session-state" / str(event.session) / "events.jsonl"
    return replace(event, paths=(str(path),))


def _answer(event: HookEvent, verdict: Verdict) -> bytes:
    if verdict.refusal is not None:
        return _json.dumps({"permissionDecision": "deny", "permissionDecisionReason": verdict.refusal})
    # With a decision to allow, the user would not be asked either.
    return b"" if verdict.arguments is None else _json.dumps({"modifiedArgs": verdict.arguments})


def _settings(environment: Mapping[str, str], project: Path | None) -> Path:
    folder = _home(environment) if project is None else project / ".github"
    return folder / "hooks" / "spanrelay.json"


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("COPILOT_HOME") or Path.home() / ".copilot")


AGENT = Agent(
    "copilot",
    "Copilot CLI",
    ("copilot",),
    "@github/copilot",
    (1, 0, 102),
    prepare=_prepare,
    upstreams=_upstreams,
    read=_read,
    answer=_answer,
    deaf=_deaf,
    settings=_settings,
    lasting=LASTING,
    patience=HOOK_PATIENCE_S,
    written=lambda: json.dumps(_hooks(LASTING, "installed"), indent=2) + "\n",
)
