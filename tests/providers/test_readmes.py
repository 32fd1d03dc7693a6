"""The program in the README of each provider's instrumentor runs as it stands, against a server of the tests."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from importlib import import_module

import pytest
from tests.test_docs import FENCE, ROOT

from spanrelay_testkit.conformance.driver import is_importable
from spanrelay_testkit.model_server import ModelServer

PACKAGES = (
    "anthropic",
    "bedrock",
    "cohere",
    "google-genai",
    "huggingface",
    "litellm",
    "mcp",
    "mistral",
    "ollama",
    "openai-compatible",
)

ADDRESSES = {
    "ANTHROPIC_BASE_URL": "",
    "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "",
    "CO_API_URL": "",
    "GOOGLE_GEMINI_BASE_URL": "",
    "GROQ_BASE_URL": "",
    "OLLAMA_HOST": "",
    "OPENAI_BASE_URL": "/v1",
}
"""The variables by which SDKs are told where the server is, and what they want behind its address."""

KEYS = (
    "ANTHROPIC_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "CO_API_KEY",
    "GEMINI_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "OPENAI_API_KEY",
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer() as server:
        for name, path in ADDRESSES.items():
            monkeypatch.setenv(name, server.address + path)
        for name in KEYS:
            monkeypatch.setenv(name, "none")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield server


@pytest.mark.skipif(not is_importable("anthropic"), reason="the SDKs have an environment of their own")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")  # SDKs' own
@pytest.mark.parametrize("package", PACKAGES)
def test_the_program_of_a_readme_runs(package: str, server: ModelServer) -> None:
    page = ROOT / "instrumentors" / f"spanrelay-{package}" / "README.md"
    [source] = [found["source"] for found in FENCE.finditer(page.read_text()) if found["language"] == "python"]
    # Two SDKs are told of their server by arguments alone, and Cohere's by a variable as it is first imported.
    typed = source.replace("http://127.0.0.1:8080", server.address)
    typed = typed.replace("Mistral(api_key", f"Mistral(server_url={server.address!r}, api_key")
    typed = typed.replace("cohere.ClientV2()", f"cohere.ClientV2(base_url={server.address!r})")
    try:
        exec(compile(typed, str(page), "exec"), {"__name__": "__main__"})
    finally:
        for module, kind in re.findall(r"^from (spanrelay_\w+) import (\w+)$", source, re.MULTILINE):
            getattr(import_module(module), kind)().uninstrument()
        gc.collect()  # clients that the program leaves open: another test would complain of their connections
