"""Who answers behind a host: one table, in OpenTelemetry's words, for every instrumentor."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanrelay.providers import provider_of_host, provider_of_openai_host

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("api.anthropic.com", "anthropic"),
        ("api.cohere.ai", "cohere"),
        ("api.cohere.com", "cohere"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
        ("bedrock-runtime-fips.us-east-1.amazonaws.com", "aws.bedrock"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "aws.bedrock"),
        ("bedrock-runtime.us-east-1.api.aws", "aws.bedrock"),
        ("bedrock-mantle.us-east-1.api.aws", "aws.bedrock"),
        ("API.OpenAI.com", "openai"),
        ("api.openai.com.", "openai"),
        ("us-central1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("aiplatform.us.rep.googleapis.com", "gcp.vertex_ai"),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("mine.openai.azure.com", "azure.ai.openai"),
        ("mine.cognitiveservices.azure.com", "azure.ai.openai"),
        ("mine.services.ai.azure.com", "azure.ai.inference"),
        ("models.inference.ai.azure.com", "azure.ai.inference"),
        ("api.moonshot.ai", "moonshot_ai"),
        ("api.moonshot.cn", "moonshot_ai"),
        ("api.together.ai", "together"),
        ("api.together.xyz", "together"),
        ("integrate.api.nvidia.com", "nvidia"),
        ("us-south.ml.cloud.ibm.com", "ibm.watsonx.ai"),
        ("example.com", None),
        ("s3.us-east-1.amazonaws.com", None),
    ],
)
def test_a_host_is_called_what_opentelemetry_calls_its_provider(host: str, provider: str | None) -> None:
    assert provider_of_host(host) == provider
    assert provider_of_openai_host(host) == (provider or "openai")


def test_what_azure_puts_in_front_of_any_api_is_its_own_where_openais_is_spoken() -> None:
    assert provider_of_host("mine.azure-api.net") is None
    assert provider_of_openai_host("mine.azure-api.net") == "azure.ai.openai"


def test_no_instrumentor_has_a_table_of_hosts_of_its_own() -> None:
    sources = (ROOT / "instrumentors").glob("*/src/**/*.py")
    assert not [
        source.name for source in sources if '"api.' in source.read_text() or '.azure.com"' in source.read_text()
    ]
