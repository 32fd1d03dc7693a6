"""Any other program: told by the environment alone, as OpenTelemetry's SDKs and those of providers read it."""

from __future__ import annotations

from spanrelay import config
from spanrelay.coding_agents.launching import Launch, Program, Reporting

_BASE_URLS = {
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "anthropic": ("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "gemini": ("GOOGLE_GEMINI_BASE_URL", "https://generativelanguage.googleapis.com"),
}
"""By what the gateway calls them: the variable by which the provider's SDK takes a base URL, and its own."""


def _prepare(launch: Launch, reporting: Reporting) -> None:
    known = launch.environment
    for name, url in reporting.gateways.items():
        launch.changed[_BASE_URLS[name][0]] = url
    # What the gateway saw is recorded here already; what the program tells of the same calls would be told twice.
    if config.otlp_endpoint("traces", known) is None and not reporting.gateways:
        launch.changed |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": reporting.otlp,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
    launch.changed["OTEL_RESOURCE_ATTRIBUTES"] = reporting.resource(known.get("OTEL_RESOURCE_ATTRIBUTES"))


def _upstreams(launch: Launch) -> dict[str, str]:
    return {name: launch.environment.get(variable) or url for name, (variable, url) in _BASE_URLS.items()}


PROGRAM = Program("program", "the program", (), "", (), prepare=_prepare, upstreams=_upstreams)
