"""Codex: told by `-c` alone; each of our hooks is trusted by its hash, which Codex itself is asked for."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from spanrelay import _json
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.coding_agents.judging import Verdict
from spanrelay.coding_agents.launching import HOOK_PATIENCE_S, Agent, HookEvent, Launch, Onward, Reporting, hook_command
from spanrelay.coding_agents.protocol import denied, event_of, said
from spanrelay.errors import SpanRelayError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EVENTS = (
    *("UserPromptSubmit", "PreToolUse", "PostToolUse", "PostModelRequest"),
    *("SubagentStart", "SubagentStop", "Stop"),
)
"""Those that serve: each costs a process."""

_PATIENCE_S = 20.0
"""Seconds for Codex to say what our hooks' hashes are."""

_EXPORTERS = {"exporter": "logs", "trace_exporter": "traces", "metrics_exporter": "metrics"}


def _prepare(launch: Launch, reporting: Reporting) -> None:
    hooks = [option for event in EVENTS for option in ("-c", f"hooks.{event}={_table([{'hooks': [_hook()]}])}")]
    trust = _trusted(launch, hooks)
    if trust:
        launch.insert(*hooks, "-c", f"hooks.state={_table(trust)}")
    else:
        launch.deaf = "Codex does not say by which hashes our hooks are trusted"
    given = launch.environment.get("OTEL_RESOURCE_ATTRIBUTES")
    launch.changed["OTEL_RESOURCE_ATTRIBUTES"] = reporting.resource(given)
    launch.insert(*_telemetry(launch, reporting))
    if reporting.gateways:
        provider = _provider(launch)
        name = "openai_base_url" if provider is None else f"model_providers.{provider}.base_url"
        launch.insert("-c", f"{name}={_table(reporting.gateways['openai'])}")


_ELSEWHERE = ("--oss", "--local-provider", "--profile", "-p")
"""Options by which models may be asked elsewhere than the configuration says."""


def _upstreams(launch: Launch) -> dict[str, str]:
    for option in _moved(launch.command):
        raise SpanRelayError(f"{option} may say where models are asked, so that no gateway can stand between: leave it")
    provider, known = _provider(launch), _configuration(launch)
    if provider is not None:
        url = as_str(as_mapping(as_mapping(known.get("model_providers")).get(provider)).get("base_url"))
        if url is None:
            raise SpanRelayError(f"the model provider {provider!r} of Codex has no base_url to put a gateway before")
        return {"openai": url}
    return {"openai": as_str(known.get("openai_base_url")) or (_SUBSCRIPTION if _signed_in(launch) else _API)}


_API = "https://api.openai.com/v1"
_SUBSCRIPTION = "https://chatgpt.com/backend-api/codex"
"""What Codex asks where somebody has signed in with ChatGPT, and no key is set."""


def _signed_in(launch: Launch) -> bool:
    if any(launch.environment.get(name) for name in ("CODEX_API_KEY", "OPENAI_API_KEY")):
        return False
    try:
        said = as_mapping(_json.loads((_home(launch.environment) / "auth.json").read_bytes()))
    except (OSError, ValueError):
        return False
    return bool(as_mapping(said.get("tokens"))) and not said.get("OPENAI_API_KEY")


def _moved(command: list[str]) -> Iterator[str]:
    """Yield the options of the user's that come after ours, and would have the last word on where models are asked."""
    for argument, after in pairwise([*command[1:], ""]):
        name = argument.partition("=")[0]
        value = after if name == argument else argument.partition("=")[2]
        if name in _ELSEWHERE:
            yield name
        elif name in ("-c", "--config") and value.strip().startswith(("openai_base_url", "model_providers", "profile")):
            yield f"{name} {value}"


def _provider(launch: Launch) -> str | None:
    """Return the model provider that was chosen, on the command line or in the configuration; None for its own."""
    chosen = as_str(_configuration(launch).get("model_provider"))
    for option, value in pairwise(launch.command):
        if option in ("-c", "--config") and value.partition("=")[0].strip() == "model_provider":
            chosen = value.partition("=")[2].strip().strip("\"'")
    return None if chosen in (None, "openai") else chosen


def _hook() -> dict[str, Any]:
    return {"type": "command", "command": hook_command("codex"), "timeout": HOOK_PATIENCE_S}


# ── trust


def _trusted(launch: Launch, hooks: list[str]) -> dict[str, Any]:
    """Return what says that our hooks are trusted, and no others; empty where Codex does not tell."""
    listed = _asked(launch, hooks, {"cwds": [str(Path.cwd())]})
    found: dict[str, Any] = {}
    for place in as_list(as_mapping(listed).get("data")):
        for hook in map(as_mapping, as_list(as_mapping(place).get("hooks"))):
            key, digest = as_str(hook.get("key")), as_str(hook.get("currentHash"))
            if key and digest and hook.get("command") == hook_command("codex"):
                found[key] = {"trusted_hash": digest}
    return found


def _asked(launch: Launch, options: list[str], parameters: dict[str, Any]) -> Any:
    """Return what `codex app-server` answers to `hooks/list`; None where it does not, in time."""
    environment = {**launch.environment, **launch.changed}
    command = [launch.command[0], "app-server", *options]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        server = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, env=environment)
    except OSError:
        return None
    watch = threading.Timer(_PATIENCE_S, server.kill)
    watch.start()
    try:
        assert server.stdin is not None and server.stdout is not None
        hello = {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "spanrelay", "version": "1"}}}
        asked = {"id": 2, "method": "hooks/list", "params": parameters}
        for message in (hello, {"method": "initialized"}, asked):
            server.stdin.write(_json.dumps(message) + b"\n")
        server.stdin.flush()
        return next((said.get("result") for said in _messages(server.stdout) if said.get("id") == 2), None)
    except OSError:
        return None
    finally:
        watch.cancel()
        server.kill()
        server.communicate()


def _messages(stream: Any) -> Iterator[Mapping[str, Any]]:
    for line in stream:
        try:
            yield as_mapping(_json.loads(line))
        except ValueError:
            continue


# ── telemetry


def _telemetry(launch: Launch, reporting: Reporting) -> list[str]:
    """Return the options that let its telemetry come here; where it went somewhere already it is sent on."""
    known = as_mapping(_configuration(launch).get("otel"))
    launch.onward, unreachable = _exported(known)
    if unreachable:
        launch.notes.append(
            f"its {' and '.join(unreachable)} go on by gRPC, and not here: hooks and the rollout tell the session"
        )
    found: list[str] = []
    for name, signal in _EXPORTERS.items():
        if signal in unreachable or (signal == "metrics" and signal not in launch.onward.urls):
            continue
        exporter = {"otlp-http": {"endpoint": f"{reporting.otlp}/v1/{signal}", "protocol": "binary"}}
        found += ["-c", f"otel.{name}={_table(exporter)}"]
    if not launch.onward.urls and not unreachable:
        found += ["-c", "otel.log_user_prompt=true", "-c", "otel.log_agent_responses=true"]
    return found


def _configuration(launch: Launch) -> Mapping[str, Any]:
    """Return the user's configuration; what cannot be read is Codex's affair."""
    try:
        return tomllib.loads((_home(launch.environment) / "config.toml").read_text())
    except (OSError, ValueError):
        return {}


def _home(environment: Mapping[str, str]) -> Path:
    home = environment.get("CODEX_HOME")
    return Path(home) if home else Path.home() / ".codex"


def _exported(known: Mapping[str, Any]) -> tuple[Onward, list[str]]:
    """Return where the user has telemetry sent, and the signals that go where nothing can be sent on to."""
    onward, unreachable = Onward(), list[str]()
    for name, signal in _EXPORTERS.items():
        exporter = known.get(name)
        over_http = as_mapping(as_mapping(exporter).get("otlp-http"))
        if endpoint := as_str(over_http.get("endpoint")):
            onward.urls[signal] = endpoint
            onward.headers |= {key: str(value) for key, value in as_mapping(over_http.get("headers")).items()}
        elif as_mapping(exporter):
            unreachable.append(signal)
    return onward, unreachable


def _table(value: Any) -> str:
    """Return a value as TOML in one line."""
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return "{" + ",".join(f"{_table(key)}={_table(item)}" for key, item in items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_table, cast("list[Any]", value))) + "]"
    return _json.dumps(value).decode()


# ── hooks


def _answer(event: HookEvent, verdict: Verdict) -> bytes:
    if verdict.refusal is not None:
        return denied(event, verdict.refusal)
    if verdict.arguments is None:
        return b""
    # Without a decision to allow, Codex runs the tool with the arguments that it had.
    return said(event, permissionDecision="allow", updatedInput=verdict.arguments)


def _settings(environment: Mapping[str, str], project: Path | None) -> Path:
    return (_home(environment) if project is None else project / ".codex") / "hooks.json"


AGENT = Agent(
    "codex",
    "Codex",
    ("codex",),
    "@openai/codex",
    (0, 143),
    prepare=_prepare,
    upstreams=_upstreams,
    read=event_of,
    answer=_answer,
    settings=_settings,
    lasting=("PreToolUse", "Stop"),
    patience=HOOK_PATIENCE_S,
)
