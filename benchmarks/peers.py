"""Other instrumentations at the same work, each in an environment of its own, SpanRelay among them.

A peer that cannot be installed or run stays in the table, and its reason is printed below it: none goes missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import sdks, workload
from benchmarks.environments import OURS, Environment
from benchmarks.results import Result, aligned

ROWS = (*workload.EXCHANGES, "tool", "agent", "agent-async", "growing", *sdks.SDKS)
_SDKS = {"openai": "3.57.0", "anthropic": "2.14.0", "google-genai": "3.6.1", "boto3": "1.43.117"}
_COMMON = (
    "langchain==1.5.2",
    "langchain-core==1.8.3",
    "langgraph==1.2.24",
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
)
_EVERYBODYS = (*_COMMON, *(f"{name}=={version}" for name, version in _SDKS.items()))
TIMEOUT_S = 1800


@dataclass(frozen=True)
class Peer:
    """One instrumentation: its name in `benchmarks.peer`, its title in tables, where it runs, and with what variables.

    `variables` switch the capture of content on, where it is off by default or could be switched off.
    """

    name: str
    title: str
    environment: Environment
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def versions(self) -> str:
        """What was asked of pip, for the notes under a table."""
        return ", ".join(each for each in self.environment.requirements if each not in _EVERYBODYS) or "this clone"


def _environment(
    name: str, *requirements: str, editable: Sequence[str] = (), older: Mapping[str, str] | None = None
) -> Environment:
    """Return a peer's environment; `older` are the newest SDKs that it supports, where that is not the newest."""
    asked = tuple(f"{name}=={version}" for name, version in {**_SDKS, **(older or {})}.items())
    return Environment(name, (*_COMMON, *asked, *requirements), editable)


SPANRELAY = Peer("spanrelay", "SpanRelay", _environment("spanrelay", editable=OURS))
PEERS = (
    SPANRELAY,
    Peer(
        "genai",
        "OTel genai",
        _environment(
            "genai",
            "opentelemetry-instrumentation-genai-openai==1.3b0",
            "opentelemetry-instrumentation-genai-langchain==1.3b0",
            "opentelemetry-instrumentation-genai-anthropic==1.3b0",
            "opentelemetry-instrumentation-google-genai==1.3b0",
            "opentelemetry-instrumentation-genai-bedrock==1.3b0",
            older={"google-genai": "2.34.0"},
        ),
        {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only"},
    ),
    Peer(
        "openinference",
        "OpenInference",
        _environment(
            "openinference",
            "openinference-instrumentation-openai==0.1.66",
            "openinference-instrumentation-langchain==0.1.80",
            "openinference-instrumentation-anthropic==3.1.0",
            "openinference-instrumentation-google-genai==1.4.14",
            "openinference-instrumentation-bedrock==0.1.61",
        ),
        {"OPENINFERENCE_HIDE_INPUTS": "false", "OPENINFERENCE_HIDE_OUTPUTS": "false"},
    ),
    Peer(
        "traceloop",
        "Traceloop",
        _environment(
            "traceloop",
            "opentelemetry-instrumentation-openai==0.62.4",
            "opentelemetry-instrumentation-langchain==0.62.4",
            "opentelemetry-instrumentation-anthropic==0.62.4",
            "opentelemetry-instrumentation-google-generativeai==0.62.4",
            "opentelemetry-instrumentation-bedrock==0.62.4",
        ),
        {"TRACELOOP_TRACE_CONTENT": "true"},
    ),
    Peer("nemo-relay", "NeMo Relay", _environment("nemo-relay", "nemo-relay==0.10.4")),
)


@dataclass(frozen=True)
class Outcome:
    """What a peer did: its results, and for each row that has none the reason."""

    peer: Peer
    results: Sequence[Result] = ()
    failures: Mapping[str, str] = field(default_factory=dict[str, str])

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain data."""
        results = [result.to_json() for result in self.results]
        peer = {"name": self.peer.name, "title": self.peer.title, "versions": self.peer.versions}
        return {**peer, "results": results, "failures": dict(self.failures)}


def run(peer: Peer, rows: Sequence[str], *, quick: bool) -> Outcome:
    """Measure one peer; whatever goes wrong is in the outcome."""
    arguments = (peer.name, *rows, *(("--quick",) if quick else ()))
    try:
        printed = peer.environment.run("benchmarks.peer", *arguments, timeout=TIMEOUT_S, added=peer.variables)
        document = json.loads(printed)
        return Outcome(peer, [Result.from_json(found) for found in document["results"]], document["failures"])
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    except (ValueError, LookupError, TypeError) as error:
        reason = f"printed no results: {error}"
    return Outcome(peer, failures=dict.fromkeys(rows, reason))


def run_all(rows: Sequence[str], *, quick: bool) -> list[Outcome]:
    """Measure every peer, one after the other."""
    outcomes: list[Outcome] = []
    for peer in PEERS:
        print(f"measuring {peer.title} …", file=sys.stderr)
        outcomes.append(run(peer, rows, quick=quick))
    return outcomes


def report(outcomes: Sequence[Outcome]) -> str:
    """Return the table of ratios, what was installed, and every reason for a missing figure."""
    keys = list(dict.fromkeys(result.key for outcome in outcomes for result in outcome.results))
    lines = [("work", "figure", *(outcome.peer.title for outcome in outcomes))]
    lines += [(*key, *(_cell(outcome, key) for outcome in outcomes)) for key in keys]
    notes = [f"All, where nothing else is said, with {', '.join(_EVERYBODYS)}."]
    notes += [f"{outcome.peer.title}: {outcome.peer.versions}" for outcome in outcomes]
    reasons = [reason for outcome in outcomes for reason in _reasons(outcome)]
    return "\n".join([*aligned(lines), "", *notes, *reasons])


def _cell(outcome: Outcome, key: tuple[str, str]) -> str:
    for result in outcome.results:
        if result.key != key:
            continue
        if result.unit == "%":
            return f"{result.value:+.0f} % (± {result.error:.1f})"
        if result.ratio is not None:
            return f"{result.ratio:.1f} x ({result.value:,.0f} ± {result.error:,.0f} µs)".replace(",", " ")
    return "-"


def _reasons(outcome: Outcome) -> list[str]:
    """Return each reason once, with the rows that have no figure for it."""
    rows: dict[str, list[str]] = {}
    for row, reason in outcome.failures.items():
        rows.setdefault(reason, []).append(row)
    return [f"{outcome.peer.title}, no {', '.join(names)}: {reason}" for reason, names in rows.items()]
