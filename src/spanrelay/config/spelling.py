"""Names of variables that nothing reads, and which ones are like them.

Other programs' variables are their own affair: only ours, and what is nearly one of OpenTelemetry's, is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

_READ_ELSEWHERE = frozenset(
    f"SPANRELAY_{name}"
    for name in (
        *("BACKEND_ENDPOINT", "HEALTH_ENDPOINT", "OTLP_GRPC_ENDPOINT", "OTLP_HTTP_ENDPOINT", "OUTPUT_DIR", "QUEUE_DIR"),
        *("COLLECT_ENDPOINT", "COLLECT_TOKEN", "KAFKA_BROKERS", "KAFKA_TOPIC"),
        *("TELEMETRY_PORT", "TRACES_EXPORTERS", "METRICS_EXPORTERS", "LOGS_EXPORTERS"),
        *("HOOKS", "HOOKS_HOLD", "HOOKS_LASTING", "RUN_DIRECTORY", "DOCTOR"),
    )
)
"""Names that are the collector's, and those that `spanrelay run` and `doctor` set for the program that they start."""

_OF_TESTS = ("SPANRELAY_TEST_", "SPANRELAY_E2E_")
"""How names begin that our own tests read."""


def misspelt(known: Collection[str], environment: Mapping[str, str]) -> list[str]:
    """Say of each `SPANRELAY_*` variable that nothing reads which of `known` are like it, and of misspelt `OTEL_*`."""
    return [*_unknown_settings(known, environment), *_nearly_opentelemetry(known, environment)]


def _unknown_settings(variables: Collection[str], environment: Mapping[str, str]) -> list[str]:
    known = [name for name in variables if name.startswith("SPANRELAY_")]
    ours = {name for name in environment if name.startswith("SPANRELAY_") and not name.startswith(_OF_TESTS)}
    unknown = sorted(ours.difference(known, _READ_ELSEWHERE))
    if not unknown:
        return []
    from difflib import get_close_matches  # few have mistyped anything

    nearest = [get_close_matches(name, known, 2, 0.9) or get_close_matches(name, known, 1, 0.75) for name in unknown]
    told = zip(unknown, map(" or ".join, nearest), strict=True)
    return [
        f"{name} is not a setting; " + (f"did you mean {meant}?" if meant else "remove it; docs/settings.md lists them")
        for name, meant in told
    ]


_ALIKE = 0.935
"""How like a known name another is that is misspelt: a letter or two of many. Other languages' names are less so."""


def _nearly_opentelemetry(variables: Collection[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Say of each `OTEL_*` variable which one of OpenTelemetry's it is nearly; vendors have others of their own."""
    known = _names_of_opentelemetry().union(variables)
    unknown = sorted(name for name in environment if name.startswith("OTEL_") and name not in known)
    if not unknown:
        return
    from difflib import get_close_matches  # few have mistyped anything

    for name in unknown:
        meant = next(iter(get_close_matches(name, known, 1, _ALIKE)), None)
        if meant is not None and not name.startswith(f"{meant}_"):
            yield f"{name} is not a variable of OpenTelemetry's; did you mean {meant}?"


def _names_of_opentelemetry() -> set[str]:
    from opentelemetry import environment_variables as of_api
    from opentelemetry.instrumentation import environment_variables as of_launcher
    from opentelemetry.sdk import environment_variables as of_sdk

    constants = [value for module in (of_api, of_launcher, of_sdk) for value in vars(module).values()]
    return {value for value in constants if isinstance(value, str) and value.startswith("OTEL_")}
