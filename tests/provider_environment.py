"""The environment in which every provider's SDK stands beside every other, with our instrumentors of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.own_environment import ROOT, TOOLS, apart, programs_of

OURS = (
    "testkit",
    "anthropic",
    "bedrock",
    "cohere",
    "google-genai",
    "huggingface",
    "langchain",
    "langgraph",
    "litellm",
    "mcp",
    "mistral",
    "ollama",
    "openai",
    "openai-compatible",
    "pydantic-ai",
)
"""The folders of this repository that are installed there."""
OTHERS = (
    "aiobotocore",
    "anthropic",
    "boto3",
    "brotli",
    "cerebras_cloud_sdk",
    "cohere",
    "fireworks-ai",
    "google-genai",
    "groq",
    "httptools",
    "huggingface_hub",
    "langchain-anthropic",
    "langchain-aws",
    "langchain-google-genai",
    "langchain-mistralai",
    "langchain-ollama",
    "langchain-openai",
    "langgraph",
    "litellm",
    "mcp",
    "mistralai",
    "ollama",
    "perplexityai",
    "pydantic-ai-slim",
    "sambanova",
    "together",
    "uvicorn",
    "writer-sdk",
    "zstandard",
)
"""The SDKs, LangChain's packages for them, and Pydantic AI, which has none."""


def providers() -> Path:
    """Return where the programs of the environment are, made or brought up to date."""
    constraints = ROOT / "tests" / "provider_constraints.txt"
    return programs_of("providers", OURS, (*TOOLS, *OTHERS), constraints=constraints)


def beside_other_sdks(package: str) -> pytest.MarkDecorator:
    """Return the mark of a test that runs others in that environment where `package` is not here."""
    return apart(package, "SPANRELAY_TEST_PROVIDERS", python=((3, 11), (3, 99)))
