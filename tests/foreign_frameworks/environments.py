"""Environments of frameworks that go beside each other: as few as what they require leaves room for."""

from __future__ import annotations

from pathlib import Path

from tests.own_environment import programs_of

_OF_ADK = (
    *("aiosqlite>=0.21", "authlib>=1.9.1,<2", "click>=8.1.8,<9", "cryptography>=42", "fastapi>=0.133,<1"),
    *("google-auth[pyopenssl]>=2.47", "google-genai>=2.30,<3", "graphviz>=0.20.2,<1", "httpx>=0.27,<1"),
    *("jsonschema>=4.23,<5", "python-dotenv>=1,<2", "python-multipart<1", "pyyaml>=6.0.2,<7", "requests>=2.32.4,<3"),
    *("starlette>=1.3.1,<2", "tenacity>=9,<10", "uvicorn>=0.34,<1", "watchdog>=6,<7", "websockets>=15.0.1,<16"),
)
"""What ADK requires, but for the OpenTelemetry that it insists on and does not need: 1.44 or older."""


def strands_and_adk() -> Path:
    """Strands and Google's ADK, which record themselves."""
    others = ("strands-agents[openai]>=1", *_OF_ADK)
    older = (*("mcp", "openai", "tenacity", "websockets", "opentelemetry-instrumentation"), *_TELEMETRY)
    folders = ["openai", "google-genai"]
    return programs_of("strands-adk", folders, others, unpinned=older, bare=("google-adk>=2,<3",))


_TELEMETRY = (
    "opentelemetry-api",
    "opentelemetry-exporter-http-transport",
    "opentelemetry-exporter-otlp",
    "opentelemetry-exporter-otlp-common",
    "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry-exporter-otlp-proto-grpc",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-proto",
    "opentelemetry-sdk",
    "opentelemetry-semantic-conventions",
)
"""Packages of which Strands takes others than the newest."""


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
