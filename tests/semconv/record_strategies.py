"""Generated records for property tests: all that GenAI can carry, and what OpenInference can carry exactly."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from spanrelay.records import (
    AgentInfo,
    ErrorInfo,
    Kind,
    Media,
    Message,
    ModelRequest,
    ModelResponse,
    Opaque,
    Reasoning,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
    ToolRequest,
    ToolResult,
    Usage,
)
from spanrelay.semconv import names

characters = st.characters(exclude_categories=["Cs"])
texts = st.text(characters, max_size=12)
words = st.sampled_from(["alpha", "beta-2", "γάμμα", "d e"])
maybe = lambda strategy: st.none() | strategy  # noqa: E731  (reads like the type it makes)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False, width=32)
scalars = st.none() | st.booleans() | numbers | texts
keys = st.sampled_from(["city", "x", "läng", "type"])
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3), max_leaves=5
)
objects = st.dictionaries(keys, json_values, max_size=3)
base64s = st.text("ABCabc0123+/=", min_size=1, max_size=8)
no_container = texts.filter(lambda text: text.lstrip()[:1] not in ("{", "["))

# --- parts -------------------------------------------------------------------------------------------------

text_parts = st.builds(Text, texts)
reasonings = st.builds(Reasoning, texts.filter(lambda text: not text.startswith("[{")), *[maybe(words)] * 3)
redacted = st.builds(Reasoning, st.just(""), encrypted=words, redacted=st.just(True))
opaques = st.builds(Opaque, st.sampled_from(["refusal", "compaction", "text", "blob"]), json_values) | words.map(
    lambda kind: Opaque(kind, {"type": kind, "x": 1})
)
modalities = st.sampled_from(["image", "audio", "video", "document"])
uris = st.sampled_from(["https://host/a.png", "gs://bucket/b"])
media = st.one_of(
    st.builds(Media, modalities, maybe(words), data=base64s, name=maybe(words)),
    st.builds(Media, modalities, maybe(words), uri=uris, name=maybe(words)),
    st.builds(Media, modalities, maybe(words), file_id=words, name=maybe(words)),
)
tool_calls = st.builds(
    ToolCall, maybe(words), words, objects | numbers | st.none() | no_container, st.booleans(), maybe(words)
)
shown_parts = text_parts | reasonings | redacted | media | opaques
answers = texts | st.none() | objects | numbers | st.lists(shown_parts, max_size=2)
responses = st.builds(ToolCallResponse, maybe(words), answers, maybe(words), st.booleans(), st.booleans())
parts = shown_parts | tool_calls | responses
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool"])
reasons = st.sampled_from(["stop", "length", "content_filter", "tool_call", "pause_turn"])
messages = st.builds(Message, roles, st.lists(parts, max_size=3), maybe(words), maybe(reasons))
definitions = st.builds(
    ToolDefinition,
    words,
    maybe(words),
    maybe(objects),
    st.sampled_from(["function", "web_search"]),
    maybe(objects),
)

# --- calls -------------------------------------------------------------------------------------------------

PARAMETERS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0, 2),
    "top_k": st.integers(0, 99),
    "seed": st.integers(-(2**70), 2**53).filter(lambda seed: seed >= -(2**63)),
    "stop_sequences": st.lists(words, min_size=1, max_size=2),
    "reasoning_effort": words,
    "encoding_formats": st.lists(words, min_size=1, max_size=2),
    "tool_choice": words | objects,
}


def parameters(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={**PARAMETERS, **more})


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    counts = st.none() | st.integers(0, 1000)
    usage = Usage(
        *[draw(counts) for _ in range(8)], draw(st.none() | st.floats(0, 1)), cache_write_1h_tokens=draw(counts)
    )
    usage.output_tokens = draw(st.integers(0, 99))
    if usage.input_tokens is not None:  # includes the cached ones, by definition
        usage.input_tokens += (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    return usage


requests = st.builds(
    ModelRequest,
    maybe(words),
    st.lists(messages, max_size=3),
    st.lists(shown_parts, max_size=2),
    st.lists(definitions, max_size=2),
    parameters(conversation_id=words, odd=json_values),
    st.booleans(),
)
model_responses = st.builds(
    ModelResponse,
    words,
    maybe(words),
    st.lists(messages, max_size=2),
    st.lists(reasons, min_size=1, max_size=2),
    maybe(usages()),
    parameters=st.fixed_dictionaries({}, optional={"service_tier": words, "status": json_values}),
)
errors = st.builds(ErrorInfo, words, code=maybe(words), status_code=st.none() | st.integers(400, 599))
agents = st.builds(AgentInfo, words, maybe(words), maybe(words), maybe(words))
tools = st.builds(ToolRequest, words, maybe(objects | no_container), maybe(words), maybe(words), maybe(words))
results = st.builds(ToolResult, json_values, st.booleans())
PROVIDERS = ["openai", "anthropic", "aws.bedrock", "azure.ai.openai", "gcp.vertex_ai", "gcp.gen_ai", "x_ai"]


def records(kind: Kind, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[SpanRecord]:
    """Records of one kind with what every kind has."""
    common: dict[str, st.SearchStrategy[Any]] = {
        "provider": maybe(st.sampled_from(PROVIDERS)),
        "session_id": maybe(words),
        "user_id": maybe(words),
        "metadata": objects,
        "agent": maybe(agents),
        "incomplete": maybe(st.sampled_from(["cancelled", "closed"])),
        "answered_by": maybe(words),
        "time_to_first_chunk": maybe(st.floats(0, 9)),
        "operation": st.just(names.OPERATION_OF_KIND.get(kind)),
    }
    return st.builds(SpanRecord, st.just(1), st.just(2), kind=st.just(kind), **{**common, **fields})


tool_records = records("tool", tool=tools, result=maybe(results), error=maybe(errors))


def scope_records(*kinds: Kind) -> st.SearchStrategy[SpanRecord]:
    return st.sampled_from(kinds).flatmap(
        lambda kind: records(kind, input=json_values, output=json_values, error=maybe(errors))
    )


genai_records = st.one_of(
    records("llm", request=requests, response=model_responses),
    records("llm", request=requests, error=errors),
    tool_records,
    scope_records("agent", "guardrail", "retriever"),
)

# --- what OpenInference carries exactly --------------------------------------------------------------------

oi_media = st.one_of(
    st.builds(Media, modalities, st.just("image/png"), data=base64s),
    st.builds(Media, modalities, uri=uris),
    st.builds(Media, st.just("document"), maybe(words), maybe(uris), file_id=maybe(words), name=maybe(words)),
)
oi_shown = (
    text_parts
    | reasonings
    | redacted
    | oi_media
    | st.builds(Opaque, st.sampled_from(["refusal", "compaction"]), json_values)
)
oi_calls = st.builds(ToolCall, maybe(words), words, json_values)
oi_names = maybe(words)
oi_messages = st.one_of(
    st.builds(
        Message,
        st.sampled_from(["system", "developer", "user", "assistant"]),
        st.lists(oi_shown, max_size=3),
        oi_names,
    ),
    st.builds(Message, st.just("assistant"), st.lists(oi_calls, min_size=1, max_size=2), oi_names),
    st.builds(
        lambda id, content, name: Message("tool", [ToolCallResponse(id, content, name)], name),
        maybe(words),
        texts | st.lists(oi_shown, min_size=2, max_size=3),
        oi_names,
    ),
)
oi_answers = st.builds(Message, st.just("assistant"), st.lists(oi_shown | oi_calls, max_size=0), oi_names) | st.builds(
    lambda shown, calls: Message("assistant", [*shown, *calls]),
    st.lists(oi_shown.filter(lambda part: part != Text("")), min_size=1, max_size=2),
    st.lists(oi_calls, max_size=2),
)
oi_requests = st.builds(
    ModelRequest,
    words,
    st.lists(oi_messages, max_size=3),
    tools=st.lists(st.builds(ToolDefinition, words, maybe(words), maybe(objects)), max_size=2),
    parameters=parameters(conversation_id=words),
    stream=st.booleans(),
)
oi_responses = st.builds(
    ModelResponse,
    words,
    maybe(words),
    st.lists(oi_answers, max_size=1),
    st.lists(reasons, max_size=1),
    maybe(usages()),
)
every_scope = scope_records("agent", "chain", "guardrail", "retriever", "reranker", "evaluator", "custom")
oi_records = st.one_of(
    records("llm", request=oi_requests, response=oi_responses),
    records("llm", request=oi_requests, error=errors),
    tool_records,
    every_scope,
)
