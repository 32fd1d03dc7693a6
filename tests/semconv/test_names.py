from __future__ import annotations

import warnings

import pytest
from openinference.semconv import trace as openinference

from spanrelay.records import Usage
from spanrelay.semconv import names
from spanrelay.semconv.names import provider_name, span_name


def strings_of(*classes: type) -> set[str]:
    return {value for owner in classes for value in vars(owner).values() if isinstance(value, str)}


def test_openinference_names_are_openinferences() -> None:
    places = ("Span", "Tool", "Embedding", "Message", "Prompt", "Choice")
    known = strings_of(*(getattr(openinference, f"{place}Attributes") for place in places))
    ours = {
        value
        for name, value in vars(names).items()
        if name.startswith("OI_") and isinstance(value, str) and name != "OI_REDACTED"
    }
    assert ours <= known
    counts = {alias for _, aliases in names.OI_USAGE_NAMES for alias in aliases}
    assert counts - {names.CACHE_WRITE_1H} <= known


def test_genai_names_that_opentelemetry_still_lists_are_spelt_the_same() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # every constant there says that it has moved
        from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as moved
    known = {value for name, value in vars(moved).items() if name.startswith("GEN_AI_") and isinstance(value, str)}
    newer = {
        "gen_ai.agent.version",
        "gen_ai.request.stream",
        "gen_ai.request.reasoning.level",
        "gen_ai.request.previous_response.id",
        "gen_ai.prompt.version",
    }
    mine = (names.OPERATION, names.PROVIDER, names.REQUEST_MODEL, names.REQUEST_STREAM, names.RESPONSE_ID)
    mine += (names.FINISH_REASONS, names.INPUT_MESSAGES, names.OUTPUT_MESSAGES, names.SYSTEM_INSTRUCTIONS)
    mine += (names.TOOL_DEFINITIONS, names.TOOL_NAME, names.TOOL_CALL_ID, names.TOOL_ARGUMENTS, names.TOOL_RESULT)
    mine += (names.AGENT_NAME, names.AGENT_ID, names.AGENT_VERSION, names.AGENT_DESCRIPTION, names.CONVERSATION_ID)
    mine += (names.RETRIEVAL_QUERY, names.RETRIEVAL_DOCUMENTS, names.EVALUATION_NAME, names.EVALUATION_SCORE)
    mine += (names.EVALUATION_LABEL, names.EVALUATION_EXPLANATION)
    mine += (names.TIME_TO_FIRST_CHUNK, names.RESPONSE_MODEL, names.TOOL_DESCRIPTION, names.TOOL_TYPE)
    mine += tuple(name for name in names.PARAMETER_NAMES.values() if name.startswith("gen_ai."))
    assert set(mine) - known - newer == set()


def test_every_count_of_a_usage_has_a_name_in_both_vocabularies() -> None:
    counts = {name for name in Usage.__dataclass_fields__ if not name.endswith("cost_usd")}
    assert {field for field, _ in names.USAGE_NAMES} == counts
    assert {field for field, _ in names.OI_USAGE_NAMES} == counts


def test_every_kind_of_ours_is_a_kind_of_openinference_and_back() -> None:
    known = {kind.value for kind in openinference.OpenInferenceSpanKindValues}
    assert set(names.OI_KIND_OF_KIND.values()) <= known
    assert set(names.KIND_OF_OI_KIND) == known
    for kind, word in names.OI_KIND_OF_KIND.items():
        assert names.KIND_OF_OI_KIND[word] == kind


def test_the_operation_of_a_kind_is_of_that_kind() -> None:
    for kind, operation in names.OPERATION_OF_KIND.items():
        assert names.KIND_OF_OPERATION[operation] == kind


@pytest.mark.parametrize(
    ("kind", "operation", "target", "name"),
    [
        ("llm", None, "gpt-4o", "chat gpt-4o"),
        ("llm", "text_completion", "gpt-3", "text_completion gpt-3"),
        ("llm", "chat", None, "chat"),
        ("embedder", None, "ada", "embeddings ada"),
        ("tool", None, "search", "execute_tool search"),
        ("agent", None, "planner", "invoke_agent planner"),
        ("agent", "create_agent", "planner", "create_agent planner"),
        ("chain", "invoke_workflow", "nightly", "invoke_workflow nightly"),
        ("guardrail", None, "no_secrets", "run_guardrail no_secrets"),
        ("chain", None, "prepare", "prepare"),
        ("custom", None, "my step", "my step"),
        ("chain", None, None, "chain"),
        (None, None, None, "call"),
    ],
)
def test_a_span_is_named_by_operation_and_target(
    kind: names.Kind | None, operation: str | None, target: str | None, name: str
) -> None:
    assert span_name(kind, operation, target) == name


@pytest.mark.parametrize(
    ("provider", "system", "name"),
    [
        ("openai", None, "openai"),
        ("OpenAI", None, "openai"),
        ("azure", "openai", "azure.ai.openai"),
        ("aws", "anthropic", "aws.bedrock"),
        ("google", None, "gcp.gen_ai"),
        ("google", "vertexai", "gcp.vertex_ai"),
        ("mistralai", None, "mistral_ai"),
        ("xai", None, "x_ai"),
        ("groq", None, "groq"),
    ],
)
def test_providers_get_opentelemetrys_names(provider: str, system: str | None, name: str) -> None:
    assert provider_name(provider, system) == name


def test_every_provider_that_openinference_renames_comes_back() -> None:
    for provider, word in names.OI_PROVIDER_NAMES.items():
        assert provider_name(word).partition(".")[0] == provider.partition(".")[0]


def test_buckets_have_the_bounds_of_the_convention() -> None:
    assert (names.DURATION_BUCKETS[0], names.DURATION_BUCKETS[-1]) == (0.01, 81.92)
    assert (names.TOKEN_BUCKETS[0], names.TOKEN_BUCKETS[-1]) == (1, 67_108_864)
    assert (names.AGENT_BUCKETS[0], names.AGENT_BUCKETS[-1]) == (0.1, 409.6)
    assert (names.WORKFLOW_BUCKETS[0], names.WORKFLOW_BUCKETS[-1]) == (1, 7200)
    for bounds in names.BUCKETS.values():
        assert list(bounds) == sorted(set(bounds))
