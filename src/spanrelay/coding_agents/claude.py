"""Claude Code: told by a settings file of the run's own, which adds to those that the user and the project have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from spanrelay import _json, config
from spanrelay.codecs.narrowing import as_mapping
from spanrelay.coding_agents.exporting import exported_to
from spanrelay.coding_agents.launching import HOOK_PATIENCE_S, Agent, Launch, Reporting, hook_command
from spanrelay.coding_agents.protocol import decided, event_of
from spanrelay.coding_agents.settings import read_settings, switched_off, with_hooks
from spanrelay.errors import SpanRelayError

EVENTS = (
    *("UserPromptSubmit", "PreToolUse", "PostToolUseFailure", "PostToolBatch", "SubagentStop", "Stop"),
    "SessionEnd",
)
"""Those that serve: each costs a process."""

_DEAF = ("--bare", "--safe-mode")
"""Flags with which no hooks run."""
_DEAF_VARIABLES = ("CLAUDE_CODE_SIMPLE", "CLAUDE_CODE_SAFE_MODE")
"""Variables that do what those flags do."""

_SWITCHES = ("OTEL_LOG_USER_PROMPTS", "OTEL_LOG_TOOL_DETAILS", "OTEL_LOG_TOOL_CONTENT")


_USE = "CLAUDE_CODE_USE_"
_NO_CLOUDS = ("CLAUDE_CODE_USE_COWORK_PLUGINS", "CLAUDE_CODE_USE_NATIVE_FILE_SEARCH", "CLAUDE_CODE_USE_POWERSHELL_TOOL")
"""Variables that begin as those do that let it ask models by other ways than Anthropic's API, of which more come."""


def _upstreams(launch: Launch) -> dict[str, str]:
    environment = _environment(launch, _settings_in_force(launch, _take_settings(replace(launch))))
    for name in environment:
        if name.startswith(_USE) and name not in _NO_CLOUDS and _is_on(environment, name):
            raise SpanRelayError(f"{name} is set, and the gateway cannot stand between Claude Code and what that is")
    if environment.get("ANTHROPIC_UNIX_SOCKET"):
        raise SpanRelayError("ANTHROPIC_UNIX_SOCKET is set, so that the gateway cannot stand between; unset it")
    for path, said_there in _managed():
        if "ANTHROPIC_BASE_URL" in as_mapping(said_there.get("env")):
            raise SpanRelayError(f"{path} says ANTHROPIC_BASE_URL, so that the gateway cannot stand between")
    return {"anthropic": environment.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"}


def _environment(launch: Launch, known: list[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    return {**launch.environment, **_variables(known)}


def _prepare(launch: Launch, reporting: Reporting) -> None:
    given = _take_settings(launch)
    known = _settings_in_force(launch, given)
    environment = _environment(launch, known)
    variables = _telemetry(environment, launch, reporting)
    if reporting.gateways:
        variables["ANTHROPIC_BASE_URL"] = reporting.gateways["anthropic"]
    run = {"type": "command", "command": hook_command("claude"), "timeout": HOOK_PATIENCE_S}
    own = {
        "hooks": with_hooks(given, EVENTS, {"hooks": [run]}),
        "env": {**as_mapping(given.get("env")), **variables},
    }
    path = reporting.folder / "claude-settings.json"
    launch.files[path] = _json.dumps({**given, **own}).decode()
    launch.insert("--settings", str(path))


def _deaf(launch: Launch, folder: Path) -> str | None:
    known = _settings_in_force(launch, _take_settings(replace(launch)))
    environment = _environment(launch, known)
    found = [f"{flag} is given" for flag in _DEAF if flag in launch.command]
    found += [f"{name} is set" for name in _DEAF_VARIABLES if _is_on(environment, name)]
    only = [
        f"{path} says allowManagedHooksOnly" for path, each in _managed() if each.get("allowManagedHooksOnly") is True
    ]
    return next(iter(found), None) or switched_off(known) or next(iter(only), None)


# ── settings


def _take_settings(launch: Launch) -> dict[str, Any]:
    """Take the user's own `--settings` out of the command, of which Claude Code takes the last, and read it.

    Raises:
        SpanRelayError: it cannot be read.
    """
    kept: list[str] = []
    found: str | None = None
    arguments = iter(launch.command)
    for argument in arguments:
        if argument == "--":
            kept += [argument, *arguments]
        elif argument == "--settings":
            found = next(arguments, None)
        elif argument.startswith("--settings="):
            found = argument.partition("=")[2]
        else:
            kept.append(argument)
    launch.command = kept
    if found is None:
        return {}
    try:
        text = found if found.lstrip().startswith("{") else Path(found).read_text()
        return dict(cast("Mapping[str, Any]", _json.loads(text.encode())))
    except (OSError, ValueError, TypeError) as error:
        raise SpanRelayError(f"--settings {found!r} cannot be read: {error}; give JSON, or a file of it") from error


def _settings_in_force(launch: Launch, given: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the settings that hold, with where they stand, the lowest first."""
    files = [str(_home(launch.environment) / "settings.json"), ".claude/settings.json", ".claude/settings.local.json"]
    found = [(path, read_settings(Path(path))) for path in files]
    return [*found, ("--settings", given), *_managed()]


_MANAGED = Path("/etc/claude-code/managed-settings.json")


def _managed() -> list[tuple[str, Mapping[str, Any]]]:
    """Return the settings that an administrator has put above all others, the lowest first."""
    paths = [_MANAGED, *sorted(_MANAGED.with_name("managed-settings.d").glob("*.json"))]
    return [(str(path), read_settings(path)) for path in paths]


def _is_on(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").strip().lower() not in ("", "0", "false", "no", "off")


def _variables(known: list[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    return {name: str(value) for _, settings in known for name, value in as_mapping(settings.get("env")).items()}


# ── telemetry


def _telemetry(environment: Mapping[str, str], launch: Launch, reporting: Reporting) -> dict[str, str]:
    """Return the variables that let its telemetry come here.

    Where it went somewhere already it is sent on, with as much content as it had; what it lacks then, hooks and the
    transcript tell.
    """
    exported = _exported(environment)
    if any(config.otlp_protocol(signal, environment) == "grpc" for signal in exported):
        launch.notes.append("its telemetry goes on by gRPC, and not here: hooks and the transcript tell the session")
        return {"OTEL_RESOURCE_ATTRIBUTES": reporting.resource(environment.get("OTEL_RESOURCE_ATTRIBUTES"))}
    said = {
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
        "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
        "CLAUDE_CODE_PROPAGATE_TRACEPARENT": "1",
        "OTEL_RESOURCE_ATTRIBUTES": reporting.resource(environment.get("OTEL_RESOURCE_ATTRIBUTES")),
        # So that a kill takes little, and that the first model call is heard of soon.
        "OTEL_LOGS_EXPORT_INTERVAL": "1000",
        "OTEL_TRACES_EXPORT_INTERVAL": "1000",
    }
    for signal in ("traces", "logs", *(["metrics"] if "metrics" in exported else [])):
        others = [name for name in config.exporters_of(signal, environment) if name not in ("otlp", "none")]
        said[f"OTEL_{signal.upper()}_EXPORTER"] = ",".join([*others, "otlp"])
        said[f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"] = f"{reporting.otlp}/v1/{signal}"
        said[f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"] = "http/protobuf"
    launch.onward.urls = exported
    return said if exported else {**said, **dict.fromkeys(_SWITCHES, "1")}


def _exported(environment: Mapping[str, str]) -> dict[str, str]:
    """Return where the user has telemetry sent by OTLP, by signal."""
    if environment.get("CLAUDE_CODE_ENABLE_TELEMETRY", "").lower() not in ("1", "true", "yes", "on"):
        return {}
    found: dict[str, str] = {}
    for signal in config.SIGNALS:
        if "otlp" not in config.exporters_of(signal, environment):
            continue
        found[signal] = str(exported_to(signal, environment, "http://localhost:4318"))
    return found


# ── hooks


def _settings(environment: Mapping[str, str], project: Path | None) -> Path:
    if project is not None:
        return project / ".claude" / "settings.json"
    return _home(environment) / "settings.json"


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")


def _beside(path: Path, session: str) -> Iterator[Path]:
    yield from sorted((path.parent / session / "subagents").glob("*"))


AGENT = Agent(
    "claude",
    "Claude Code",
    ("claude",),
    "@anthropic-ai/claude-code",
    (2, 1, 121),
    prepare=_prepare,
    upstreams=_upstreams,
    read=event_of,
    answer=decided,
    deaf=_deaf,
    settings=_settings,
    lasting=("PreToolUse", "Stop"),
    patience=HOOK_PATIENCE_S,
    beside=_beside,
)
