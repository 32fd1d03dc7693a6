"""opencode: told by a plugin of the run's own, in a configuration that its environment adds to those that there are."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from spanrelay import _json
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.coding_agents.exporting import send_here
from spanrelay.coding_agents.launching import HOOK_PATIENCE_S, Agent, Launch, Reporting, hook_arguments
from spanrelay.coding_agents.protocol import decided, event_of
from spanrelay.coding_agents.settings import read_settings
from spanrelay.errors import SpanRelayError

_CONTENT = "OPENCODE_CONFIG_CONTENT"

_PLUGIN = Path(__file__).with_name("opencode_plugin.js")
_PLACE = '["the command of the hook"]'

_PATIENCE_S = 30.0
"""Seconds for opencode to say what its configuration comes to."""

_KNOWN = {
    "anthropic": "https://api.anthropic.com/v1",
    "openai": "https://api.openai.com/v1",
    "google": "https://generativelanguage.googleapis.com/v1beta",
}
"""Where opencode asks providers that no configuration has to tell of."""

_SPOKEN = (None, "@ai-sdk/openai-compatible", "@ai-sdk/openai", "@ai-sdk/anthropic", "@ai-sdk/google")
"""The packages by which it asks APIs that a gateway knows."""


def _prepare(launch: Launch, reporting: Reporting) -> None:
    content = _content(launch)
    # Plugins of one name stand for each other, so that nobody else's has this one.
    plugin = (reporting.folder / f"spanrelay-{reporting.run}.js").absolute()
    launch.files[plugin] = plugin_of(hook_arguments("opencode"))
    content["plugin"] = [*as_list(content.get("plugin")), plugin.as_uri()]
    if send_here(launch, reporting):
        content["experimental"] = {**as_mapping(content.get("experimental")), "openTelemetry": True}
    if reporting.gateways:
        content["enabled_providers"] = sorted(reporting.gateways)
        content["provider"] = _behind(as_mapping(content.get("provider")), reporting.gateways)
    launch.changed[_CONTENT] = _json.dumps(content).decode()


def _content(launch: Launch) -> dict[str, Any]:
    """Return the configuration that the environment has already.

    Raises:
        SpanRelayError: it cannot be read.
    """
    given = launch.environment.get(_CONTENT, "").strip()
    if not given:
        return {}
    try:
        found = _json.loads(given.encode())
    except ValueError as error:
        raise SpanRelayError(f"{_CONTENT} cannot be read: {error}; give JSON without comments") from error
    if not isinstance(found, dict):
        raise SpanRelayError(f"{_CONTENT} is not an object; give JSON as opencode.json has it")
    return dict(as_mapping(found))


def plugin_of(command: list[str]) -> str:
    """Return the plugin that asks a command before each tool."""
    return _PLUGIN.read_text().replace(_PLACE, _json.dumps(command).decode(), 1)


def _deaf(launch: Launch, folder: Path) -> str | None:
    if "--pure" in launch.command:
        return "--pure is given"
    if launch.environment.get("OPENCODE_PURE", "").lower() in ("1", "true"):
        return "OPENCODE_PURE is set"
    for option in launch.command[1:]:
        if option == "attach" or option.partition("=")[0] == "--attach":
            return f"{option} leaves the tools to a server that runs already"
    return None


# ── models


def _behind(known: Mapping[str, Any], gateways: Mapping[str, str]) -> dict[str, Any]:
    """Return what is said of providers, with a gateway in the place of each that has one."""
    found = dict(known)
    for name, url in gateways.items():
        own = as_mapping(found.get(name))
        found[name] = {**own, "options": {**as_mapping(own.get("options")), "baseURL": url}}
    return found


def _upstreams(launch: Launch) -> dict[str, str]:
    known = _configuration(launch)
    found = {name: url for name, url in _providers(known) if name not in _signed_in(launch.environment)}
    enabled, disabled = known.get("enabled_providers"), as_list(known.get("disabled_providers"))
    if isinstance(enabled, list):
        found = {name: url for name, url in found.items() if name in enabled}
    found = {name: url for name, url in found.items() if name not in disabled}
    for model in _models(launch.command, known):
        provider = model.partition("/")[0]
        if provider not in found:
            raise SpanRelayError(
                f"the gateway cannot stand between opencode and {provider}, whose {model} it is to ask; it stands "
                f"before {', '.join(sorted(found)) or 'none'} here: a provider with a key, and options.baseURL"
            )
    return found


def _configuration(launch: Launch) -> Mapping[str, Any]:
    """Return what all its configurations come to, as opencode itself says.

    Raises:
        SpanRelayError: it does not.
    """
    command = [launch.command[0], "debug", "config"]
    try:
        with tempfile.TemporaryDirectory() as state:
            # It would begin to install packages as it ends, and leave a lock that its next start waits for.
            environment = {**launch.environment, "XDG_STATE_HOME": state, "npm_config_offline": "true"}
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S
            )
        found = _json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SpanRelayError(
            f"opencode does not say what its configuration is, so that no gateway can stand between: "
            f"`opencode debug config` fails: {error}"
        ) from error
    return as_mapping(found)


def _providers(known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the providers before which a gateway can stand, with their base URLs."""
    told = as_mapping(known.get("provider"))
    for name in sorted({*_KNOWN, *told}):
        own = as_mapping(told.get(name))
        url = as_str(as_mapping(own.get("options")).get("baseURL")) or as_str(own.get("api")) or _KNOWN.get(name)
        if url is not None and own.get("npm") in _SPOKEN:
            yield name, url


def _signed_in(environment: Mapping[str, str]) -> set[str]:
    """Return the providers that it asks by an account, wherever their base URL is."""
    data = Path(environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    told = read_settings(data / "opencode" / "auth.json")
    return {name for name, login in told.items() if as_mapping(login).get("type") != "api"}


def _models(command: list[str], known: Mapping[str, Any]) -> Iterator[str]:
    """Yield the models that are chosen, on the command line or in the configuration."""
    for option, after in pairwise([*command, ""]):
        name, equals, value = option.partition("=")
        if name in ("-m", "--model"):
            yield value if equals else after
    places = [known, *map(as_mapping, as_mapping(known.get("agent")).values())]
    places += map(as_mapping, as_mapping(known.get("command")).values())
    for place in places:
        for name in ("model", "small_model"):
            if model := as_str(place.get(name)):
                yield model


# ── hooks


def _settings(environment: Mapping[str, str], project: Path | None) -> Path:
    home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "opencode"
    return (home if project is None else project / ".opencode") / "plugins" / "spanrelay.js"


AGENT = Agent(
    "opencode",
    "opencode",
    ("opencode",),
    "opencode-ai",
    (1, 18),
    prepare=_prepare,
    upstreams=_upstreams,
    read=event_of,
    answer=decided,
    deaf=_deaf,
    settings=_settings,
    lasting=("PreToolUse", "Stop"),
    patience=HOOK_PATIENCE_S,
    written=lambda: plugin_of(hook_arguments("opencode", "installed")),
)
