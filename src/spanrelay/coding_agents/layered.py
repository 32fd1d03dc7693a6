"""Agents that read a settings file of the system's, above those of the user: a file of the run's own stands for it.

It holds what the system's file says, and our hooks beside: hooks of all layers run. Variables say where telemetry goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanrelay import _json, config
from spanrelay.codecs.narrowing import as_mapping, as_str
from spanrelay.coding_agents.launching import Launch, Onward, Reporting, hook_command
from spanrelay.coding_agents.settings import read_settings, with_hooks


@dataclass(frozen=True, slots=True)
class Layers:
    """Where an agent's settings stand.

    `variable` names the system's file, which else is `system`; `folder` is that of settings in a home or a project.
    `prefix` is that of the variables that say what its telemetry is, and `switches` those that let all of it be told.
    `hooks` are the events that serve, and `timeout` how long each may take, in the agent's own unit.
    """

    agent: str
    variable: str
    system: str
    folder: str
    prefix: str
    switches: tuple[str, ...]
    hooks: tuple[str, ...]
    timeout: int

    def known(self, environment: Mapping[str, str]) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the settings that hold, with where they stand, the lowest first."""
        paths = [Path.home() / self.folder / "settings.json", Path(self.folder) / "settings.json"]
        paths.append(Path(environment.get(self.variable) or self.system))
        return [(str(path), read_settings(path)) for path in paths]

    def write(self, launch: Launch, reporting: Reporting) -> None:
        """Let the launch have variables that say where telemetry goes, and a system's file with hooks."""
        known = self.known(launch.environment)
        settings = dict(known[-1][1])
        run = {"type": "command", "command": hook_command(self.agent), "timeout": self.timeout}
        settings["hooks"] = with_hooks(settings, self.hooks, {"matcher": "*", "hooks": [run]})
        path = reporting.folder / f"{self.agent}-settings.json"
        launch.files[path] = _json.dumps(settings).decode()
        launch.changed[self.variable] = str(path)

    def send_here(self, launch: Launch, reporting: Reporting) -> None:
        """Let telemetry come here; what goes somewhere already is sent on there, as it was."""
        given = launch.environment.get("OTEL_RESOURCE_ATTRIBUTES")
        launch.changed["OTEL_RESOURCE_ATTRIBUTES"] = reporting.resource(given)
        own = self._own_telemetry(launch.environment)
        if own.get("enabled") and own.get("otlpProtocol", "grpc") != "http":
            launch.notes.append("its telemetry goes on by gRPC, and not here: the chat file tells the session")
            return
        here = {"ENABLED": "true", "TARGET": "local", "OTLP_ENDPOINT": reporting.otlp, "OTLP_PROTOCOL": "http"}
        if (endpoint := as_str(own.get("otlpEndpoint")) if own.get("enabled") else None) is not None:
            launch.onward = Onward({signal: f"{endpoint.rstrip('/')}/v1/{signal}" for signal in config.SIGNALS})
        else:
            here |= dict.fromkeys(self.switches, "true")
        launch.changed |= {f"{self.prefix}_TELEMETRY_{name}": value for name, value in here.items()}

    def _own_telemetry(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """Return what settings and variables say of telemetry."""
        found: dict[str, Any] = {}
        for _, settings in self.known(environment):
            found |= as_mapping(settings.get("telemetry"))
        names = {"ENABLED": "enabled", "OTLP_ENDPOINT": "otlpEndpoint", "OTLP_PROTOCOL": "otlpProtocol"}
        for name, key in names.items():
            if value := environment.get(f"{self.prefix}_TELEMETRY_{name}"):
                found[key] = value if key != "enabled" else value.lower() in ("1", "true")
        return found
