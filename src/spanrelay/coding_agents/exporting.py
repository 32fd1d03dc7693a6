"""Telemetry that OpenTelemetry's own variables send: where it goes already, and how it comes here instead."""

from __future__ import annotations

from collections.abc import Mapping

from spanrelay import config
from spanrelay.coding_agents.launching import Launch, Reporting


def exported_to(signal: str, environment: Mapping[str, str], default: str | None = None) -> str | None:
    """Return the URL to which variables have a signal sent by OTLP over HTTP; `default` is where else it goes."""
    own = environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    base = config.otlp_endpoint(signal, environment) or default
    return own or (f"{base.rstrip('/')}/v1/{signal}" if base else None)


def send_here(launch: Launch, reporting: Reporting) -> bool:
    """Let telemetry of a program that speaks OTLP over HTTP alone come here, whatever protocol variables name.

    What went somewhere already is sent on there, as it was. Returns whether it may tell what was said too: nobody else
    gets it then.
    """
    known = launch.environment
    launch.changed["OTEL_RESOURCE_ATTRIBUTES"] = reporting.resource(known.get("OTEL_RESOURCE_ATTRIBUTES"))
    exported = {signal: url for signal in config.SIGNALS if (url := exported_to(signal, known)) is not None}
    launch.onward.urls = exported
    launch.changed["OTEL_EXPORTER_OTLP_ENDPOINT"] = reporting.otlp
    for signal in config.SIGNALS:
        name = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
        if known.get(name, "").strip():  # it would have the word
            launch.changed[name] = f"{reporting.otlp}/v1/{signal}"
    return not exported
