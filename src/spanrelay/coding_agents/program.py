"""Any other program: told by the environment alone, as OpenTelemetry's SDKs and those of providers read it."""

from __future__ import annotations

from spanrelay import config
from spanrelay.coding_agents.launching import Launch, Program, Reporting
from spanrelay.instrumentation.apis import BASES


def _prepare(launch: Launch, reporting: Reporting) -> None:
    known = launch.environment
    for name, url in reporting.gateways.items():
        launch.changed[BASES[name].variable] = url
    # What the gateway saw is recorded here already; what the program tells of the same calls would be told twice.
    if config.otlp_endpoint("traces", known) is None and not reporting.gateways:
        launch.changed |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": reporting.otlp,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
    launch.changed["OTEL_RESOURCE_ATTRIBUTES"] = reporting.resource(known.get("OTEL_RESOURCE_ATTRIBUTES"))


def _upstreams(launch: Launch) -> dict[str, str]:
    return {name: launch.environment.get(base.variable) or base.url for name, base in BASES.items()}


PROGRAM = Program("program", "the program", (), "", (), prepare=_prepare, upstreams=_upstreams)
