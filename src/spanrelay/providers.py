"""Who is asked for models: the SDKs and frameworks there are for Python, and the providers' hosts.

A table, the only one of its kind: nothing here imports an SDK, and every process that boots with us reads it.
"""

from __future__ import annotations

from typing import NamedTuple


class SDK(NamedTuple):
    """A distribution that asks models.

    Attributes:
        package: Its name.
        module: The name it is imported by.
        ours: Our distribution that records it and holds policy for it; None while there is none.
        provider: The `gen_ai.provider.name` of who answers, where it is only one.
        sends: Where its requests pass, as `module:Class.method`; empty where they pass through an SDK below it.
        shared: Whether programs import it that never ask a model.
        services: The services of AWS that alone are meant, `name` or `name.operation`.
        traced: A regular expression that finds the tracers that record it by name, its own or other people's.
        records_itself: What has it make spans of its own, where it makes none unless asked.
    """

    package: str
    module: str
    ours: str | None = None
    provider: str = ""
    sends: tuple[str, ...] = ()
    shared: bool = False
    services: tuple[str, ...] = ()
    traced: str = ""
    records_itself: str = ""


def _stainless(module: str) -> tuple[str, ...]:
    return tuple(f"{module}._base_client:{colour}APIClient.request" for colour in ("Sync", "Async"))


_CLAUDE = ("claude_agent_sdk._internal.transport.subprocess_cli:SubprocessCLITransport.connect",)
_COHERE = tuple(
    f"cohere.core.http_client:{kind}.{how}"
    for kind in ("HttpClient", "AsyncHttpClient")
    for how in ("request", "stream")
)
_BEDROCK_AGENTS = tuple(
    f"bedrock-agent-runtime.{operation}"
    for operation in (
        "AgenticRetrieveStream",
        "GenerateQuery",
        "InvokeAgent",
        "InvokeFlow",
        "InvokeInlineAgent",
        "OptimizePrompt",
        "Rerank",
        "Retrieve",
        "RetrieveAndGenerate",
        "RetrieveAndGenerateStream",
        "StartFlowExecution",
    )
)
_GEMINI = tuple(
    f"google.genai._api_client:BaseApiClient.{how}"
    for how in ("request", "request_streamed", "async_request", "async_request_streamed")
)
_HUGGING_FACE = (
    "huggingface_hub.inference._client:InferenceClient._inner_post",
    "huggingface_hub.inference._generated._async_client:AsyncInferenceClient._inner_post",
)
_MISTRAL = tuple(
    f"{module}:BaseSDK.{how}"
    for module in ("mistralai.client.basesdk", "mistralai.basesdk")
    for how in ("do_request", "do_request_async")
)

SDKS = (
    SDK("openai", "openai", "spanrelay-openai", "openai", _stainless("openai"), traced="openai"),
    SDK("anthropic", "anthropic", "spanrelay-anthropic", "anthropic", _stainless("anthropic"), traced="anthropic"),
    SDK("google-genai", "google.genai", "spanrelay-google-genai", "gcp.gemini", _GEMINI, traced="google.?gen"),
    SDK(
        "mistralai",
        "mistralai",
        "spanrelay-mistral",
        "mistral_ai",
        _MISTRAL,
        traced="mistral",
        records_itself="MISTRAL_SDK_TELEMETRY=global",
    ),
    SDK("cohere", "cohere", "spanrelay-cohere", "cohere", _COHERE, traced="cohere"),
    *(
        SDK(package, module, "spanrelay-openai-compatible", provider, _stainless(module), traced=provider)
        for package, module, provider in (
            ("cerebras_cloud_sdk", "cerebras.cloud.sdk", "cerebras"),
            ("fireworks-ai", "fireworks", "fireworks"),
            ("groq", "groq", "groq"),
            ("perplexityai", "perplexity", "perplexity"),
            ("sambanova", "sambanova", "sambanova"),
            ("together", "together", "together"),
            ("writer-sdk", "writerai", "writer"),
        )
    ),
    SDK(
        "ollama",
        "ollama",
        "spanrelay-ollama",
        "",
        ("ollama._client:Client._request", "ollama._client:AsyncClient._request"),
        traced="ollama",
    ),
    SDK(
        "huggingface_hub", "huggingface_hub", "spanrelay-huggingface", "", _HUGGING_FACE, shared=True, traced="hugging"
    ),
    SDK(
        "boto3",
        "boto3",
        "spanrelay-bedrock",
        "aws.bedrock",
        ("botocore.client:BaseClient._make_api_call",),
        True,
        ("bedrock-runtime", *_BEDROCK_AGENTS, "bedrock.CreateEvaluationJob", "bedrock.CreateModelInvocationJob"),
        "bedrock|boto",
    ),
    SDK("litellm", "litellm", "spanrelay-litellm", shared=True, traced="litellm"),
    SDK("claude-agent-sdk", "claude_agent_sdk", "spanrelay-claude-agent-sdk", "", _CLAUDE, traced="claude"),
    SDK("deepagents", "deepagents", "spanrelay-deepagents"),
    SDK("langchain-core", "langchain_core", "spanrelay-langchain"),
    SDK("langgraph", "langgraph", "spanrelay-langgraph"),
    SDK("nvidia-nat-core", "nat", "spanrelay-nemo-agent-toolkit"),
    SDK("nemoguardrails", "nemoguardrails", "spanrelay-nemo-guardrails"),
    SDK("openai-agents", "agents", "spanrelay-openai-agents"),
    SDK("pydantic-ai-slim", "pydantic_ai", "spanrelay-pydantic-ai"),
)
"""Every SDK and framework that we know of; those without `ours` escape policy and record."""


class Framework(NamedTuple):
    """What asks models by an SDK above or asks none, and is recorded by a package for itself besides.

    Attributes:
        package: Its name.
        instrumentor: The distribution that records it, ours or another's.
        module: The name it is imported by.
    """

    package: str
    instrumentor: str
    module: str


FRAMEWORKS = (
    Framework("agno", "openinference-instrumentation-agno", "agno"),
    Framework("crewai", "openinference-instrumentation-crewai", "crewai"),
    Framework("dspy", "openinference-instrumentation-dspy", "dspy"),
    Framework("llama-index-core", "openinference-instrumentation-llama-index", "llama_index.core"),
    Framework("mcp", "spanrelay-mcp", "mcp"),
    Framework("smolagents", "openinference-instrumentation-smolagents", "smolagents"),
)
"""Those of `docs/frameworks.md`, and MCP's SDK; the other frameworks record themselves, or are in `SDKS`."""

_HOSTS = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.sambanova.ai": "sambanova",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.writer.com": "writer",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "integrate.api.nvidia.com": "nvidia",
    "openrouter.ai": "openrouter",
    "router.huggingface.co": "hugging_face",
}
"""By host: `gen_ai.provider.name`."""

_DOMAINS = (
    ("", ".api.openai.com", "openai"),
    ("", ".openai.azure.com", "azure.ai.openai"),
    ("", ".cognitiveservices.azure.com", "azure.ai.openai"),
    ("", ".services.ai.azure.com", "azure.ai.inference"),
    ("", ".inference.ai.azure.com", "azure.ai.inference"),
    ("", ".models.ai.azure.com", "azure.ai.inference"),
    ("", "aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("aiplatform.", ".rep.googleapis.com", "gcp.vertex_ai"),
    ("bedrock-runtime", ".amazonaws.com", "aws.bedrock"),
    ("bedrock-runtime", ".amazonaws.com.cn", "aws.bedrock"),
    ("bedrock-runtime", ".api.aws", "aws.bedrock"),
    ("bedrock-mantle", ".api.aws", "aws.bedrock"),
    ("", ".ml.cloud.ibm.com", "ibm.watsonx.ai"),
)
"""By how a host begins and how it ends."""


def provider_of_host(host: str) -> str | None:
    """Return the `gen_ai.provider.name` of who answers at a host, or None where it is no provider's that we know."""
    host = host.casefold().removesuffix(".")  # as people and the name service take it
    found = _HOSTS.get(host)
    if found is not None:
        return found
    return next((name for start, end, name in _DOMAINS if host.startswith(start) and host.endswith(end)), None)


def provider_of_openai_host(host: str) -> str:
    """Return the `gen_ai.provider.name` of who answers OpenAI's API at a host: `openai` where it is not known."""
    found = provider_of_host(host)
    if found is not None:
        return found
    return "azure.ai.openai" if host.endswith(".azure-api.net") else "openai"  # a gateway of Azure's, to any API
