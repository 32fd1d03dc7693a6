"""Environments of frameworks that go beside each other: as few as what they require leaves room for."""

from __future__ import annotations

from pathlib import Path

from tests.own_environment import programs_of

_TELEMETRY = (
    "opentelemetry-api",
    "opentelemetry-exporter-http-transport",
    "opentelemetry-exporter-otlp",
    "opentelemetry-exporter-otlp-common",
    "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry-exporter-otlp-proto-grpc",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-instrumentation",
    "opentelemetry-proto",
    "opentelemetry-sdk",
    "opentelemetry-semantic-conventions",
)


def strands_and_adk() -> Path:
    """Strands and Google's ADK, which record themselves, by an older OpenTelemetry."""
    others = ("strands-agents[openai]>=1", "google-adk>=2")
    older = ("mcp", "openai", "tenacity", "websockets", *_TELEMETRY)
    return programs_of("strands-adk", ["openai", "google-genai"], others, unpinned=older)


def crewai_and_llama_index() -> Path:
    """CrewAI and LlamaIndex, which take an older SDK of OpenAI's."""
    theirs = ("openinference-instrumentation-crewai", "openinference-instrumentation-llama-index")
    others = ("crewai>=1.15", "llama-index-core>=0.14", "llama-index-llms-openai>=0.8", *theirs)
    older = ("jiter", "mcp", "openai", "packaging", "pydantic", "pydantic_core", "regex", "rich", "tomli")
    return programs_of("crewai-llama-index", ["openai"], others, unpinned=older)


def litellm_and_above() -> Path:
    """LiteLLM with frameworks that ask models through it: smolagents and DSPy."""
    theirs = ("dspy", "litellm", "openai", "smolagents")
    recorded = [f"openinference-instrumentation-{name}" for name in theirs]
    return programs_of("litellm", ["openai"], ["dspy", "litellm", "smolagents[openai]", *recorded])
