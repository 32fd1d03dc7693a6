"""Boot: `opentelemetry-instrument python -c pass`, with every instrumentor of SpanRelay and in an environment without.

Both environments hold the same SDKs and OpenTelemetry packages and get the same variables; each runs in turn.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time

from benchmarks import environments
from benchmarks.environments import Environment
from benchmarks.measure import Effort, median
from benchmarks.results import Result

_OPENTELEMETRY = ("opentelemetry-instrumentation", "opentelemetry-exporter-otlp")
_SDKS = ("anthropic", "boto3", "cohere", "google-genai", "groq", "langgraph", "litellm", "mcp", "mistralai", "openai")
_TREE = environments.tree_of("spanrelay")
_DISTRIBUTIONS = sorted(path.parent.relative_to(_TREE) for path in _TREE.glob("instrumentors/*/pyproject.toml"))
BARE = Environment("boot-bare", (*_OPENTELEMETRY, "opentelemetry-distro", *_SDKS))
OURS = Environment("boot-ours", (*_OPENTELEMETRY, *_SDKS), (".", *map(str, _DISTRIBUTIONS)), _TREE)

_VARIANTS = {
    "no exporter": {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"},
    "OTLP over HTTP": {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    },
}


def boot(effort: Effort) -> list[Result]:
    """Measure both ways to boot, exporting nothing and exporting to OTLP."""
    rounds = max(2, int(effort.seconds * 3))
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for variant, variables in _VARIANTS.items():
            times: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
            for _ in range(rounds):
                times["bare"].append(_boot(BARE, variables, folder))
                times["ours"].append(_boot(OURS, variables, folder))
            for at, figure in enumerate(("wall", "CPU")):
                floor = median([time_[at] for time_ in times["bare"][1:]])
                value = median([time_[at] for time_ in times["ours"][1:]])
                results.append(
                    Result(f"boot, {variant}", figure, "ms", value.value, value.error, floor.value, floor.error, 1.3)
                )
    return results


def _boot(environment: Environment, variables: dict[str, str], folder: str) -> tuple[float, float]:
    """Return wall and CPU milliseconds of one boot."""
    command = (environment.program("opentelemetry-instrument"), environment.program("python"), "-c", "pass")
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, env={**environments.variables(), **variables}, cwd=folder, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall * 1e3, cpu * 1e3
