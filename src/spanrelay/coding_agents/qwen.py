"""Qwen Code: told by a system's settings file of the run's own, as Gemini CLI is, from which it descends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from spanrelay.codecs.narrowing import as_mapping
from spanrelay.coding_agents.judging import Verdict
from spanrelay.coding_agents.launching import HOOK_PATIENCE_S, Agent, HookEvent, Launch, Reporting
from spanrelay.coding_agents.layered import Layers
from spanrelay.coding_agents.protocol import denied, event_of
from spanrelay.coding_agents.settings import switched_off
from spanrelay.errors import SpanRelayError

_LAYERS = Layers(
    "qwen",
    "QWEN_CODE_SYSTEM_SETTINGS_PATH",
    "/etc/qwen-code/settings.json",
    ".qwen",
    "QWEN",
    ("LOG_PROMPTS", "INCLUDE_SENSITIVE_SPAN_ATTRIBUTES"),
    ("UserPromptSubmit", "PreToolUse", "Stop"),
    HOOK_PATIENCE_S,
)


def _prepare(launch: Launch, reporting: Reporting) -> None:
    _LAYERS.send_here(launch, reporting)
    _LAYERS.write(launch, reporting)
    if reporting.gateways:
        launch.changed["OPENAI_BASE_URL"] = reporting.gateways["openai"]


def _deaf(launch: Launch, folder: Path) -> str | None:
    return switched_off(_LAYERS.known(launch.environment))


def _upstreams(launch: Launch) -> dict[str, str]:
    environment = launch.environment
    if not environment.get("OPENAI_API_KEY"):
        raise SpanRelayError("the gateway stands between Qwen Code and OpenAI's API alone; set OPENAI_API_KEY")
    if any(argument.startswith("--openai-base-url") for argument in launch.command):
        raise SpanRelayError("--openai-base-url says where models are asked; set OPENAI_BASE_URL in its place")
    for path, settings in _LAYERS.known(environment):
        auth = as_mapping(as_mapping(settings.get("security")).get("auth"))
        if "modelProviders" in settings or auth.get("baseUrl"):
            raise SpanRelayError(f"{path} says where models are asked, so that no gateway can stand between")
    return {"openai": environment.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"}


def _answer(event: HookEvent, verdict: Verdict) -> bytes:
    """Refuse a call whose arguments policy has changed too: no hook can change them."""
    refusal = verdict.refusal
    if refusal is None and verdict.arguments is not None:
        refusal = "policy changes the arguments of this call, which Qwen Code does not let a hook do"
    return b"" if refusal is None else denied(event, refusal)


def _settings(environment: Mapping[str, str], project: Path | None) -> Path:
    return (Path.home() if project is None else project) / ".qwen" / "settings.json"


def _beside(path: Path, session: str) -> Iterator[Path]:
    yield from sorted((path.parent.parent / "subagents" / session).glob("agent-*"))


AGENT = Agent(
    "qwen",
    "Qwen Code",
    ("qwen",),
    "@qwen-code/qwen-code",
    (0, 24),
    prepare=_prepare,
    upstreams=_upstreams,
    read=partial(event_of, call_id="tool_call_id"),
    answer=_answer,
    deaf=_deaf,
    settings=_settings,
    lasting=("PreToolUse", "Stop"),
    patience=HOOK_PATIENCE_S,
    beside=_beside,
)
