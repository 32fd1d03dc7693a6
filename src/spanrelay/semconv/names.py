"""Every attribute, metric and event name that SpanRelay writes or reads, and the tables between vocabularies.

Where a convention drifted, the name we write comes first in a tuple and the others are read only; no other
module spells a name out.
"""

from __future__ import annotations

from typing import TypeAlias

from spanrelay.records import Kind, Role

AttributeValue: TypeAlias = str | bool | int | float | list[str] | list[bool] | list[int] | list[float]
"""What a span attribute of ours may hold; a part of OpenTelemetry's `AttributeValue`."""

# OpenTelemetry GenAI (the gen_ai constants of opentelemetry-semantic-conventions are deprecated: moved).
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
SYSTEM = "gen_ai.system"
"""The name of `PROVIDER` up to v1.36; read only."""
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
STREAM = (REQUEST_STREAM, "gen_ai.is_streaming", "llm.is_streaming")
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_DESCRIPTION = "gen_ai.tool.description"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_OUTCOME = "gen_ai.tool.call.outcome"
"""`success` or `error`, as Rust's rig says it beside a status that is unset; read only."""
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
EXIT_CODE = "process.exit.code"
LOG_RECORD_UID = "log.record.uid"
"""What a log record has in common with its duplicates alone; read, and written between parts of ours."""
MCP_METHOD = "mcp.method.name"
MCP_PROTOCOL = "mcp.protocol.version"
MCP_SESSION = "mcp.session.id"
RPC_REQUEST_ID = "jsonrpc.request.id"
RPC_STATUS = "rpc.response.status_code"
AGENT_NAME = "gen_ai.agent.name"
AGENT_ID = "gen_ai.agent.id"
AGENT_VERSION = "gen_ai.agent.version"
AGENT_DESCRIPTION = "gen_ai.agent.description"
WORKFLOW_NAME = "gen_ai.workflow.name"
CONVERSATION_ID = "gen_ai.conversation.id"
ALL_MESSAGES = "pydantic_ai.all_messages"
"""An agent's whole conversation, the answer included, as pydantic-ai writes it; read only."""

CONVERSATION_COMPACTED = "gen_ai.conversation.compacted"
RETRIEVAL_QUERY = "gen_ai.retrieval.query.text"
RETRIEVAL_DOCUMENTS = "gen_ai.retrieval.documents"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE = "gen_ai.evaluation.score.value"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION = "gen_ai.evaluation.explanation"

SCOPE_NAME = "otel.scope.name"
SCOPE_VERSION = "otel.scope.version"
ERROR_TYPE = "error.type"
HTTP_STATUS_CODE = "http.response.status_code"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
USER_ID = "user.id"
TOOL_ERROR = "tool_error"
"""The `error.type` of a tool that answered with an error, as against one that raised."""

UsageNames: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""Fields of `Usage`, each with its attributes: first the one we write, then those we only read."""

INPUT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
TOTAL_TOKENS = ("llm.token_count.total", "gen_ai.usage.total_tokens", "llm.usage.total_tokens")
CACHE_READ_TOKENS = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.details.cache_read_tokens",
)
CACHE_CREATION = "gen_ai.usage.cache_creation.input_tokens"
CACHE_WRITE = "gen_ai.usage.cache_write.input_tokens"
CACHE_WRITE_TOKENS = (
    CACHE_CREATION,
    CACHE_WRITE,
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.details.cache_write_tokens",
)
CACHE_WRITE_1H = "spanrelay.usage.cache_write_1h.input_tokens"
"""Those of the tokens written to a cache that stay there for an hour; no convention tells them apart."""
REASONING_TOKENS = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
    "llm.usage.reasoning_tokens",
)
INPUT_AUDIO_TOKENS = ("gen_ai.usage.audio.input_tokens", "gen_ai.usage.details.input_audio_tokens")
OUTPUT_AUDIO_TOKENS = ("gen_ai.usage.audio.output_tokens", "gen_ai.usage.details.output_audio_tokens")
COST_USD = ("llm.cost.total", "operation.cost")

USAGE_NAMES: UsageNames = (
    ("input_tokens", INPUT_TOKENS),
    ("output_tokens", OUTPUT_TOKENS),
    ("total_tokens", TOTAL_TOKENS),
    ("cache_read_tokens", CACHE_READ_TOKENS),
    ("cache_write_tokens", CACHE_WRITE_TOKENS),
    ("cache_write_1h_tokens", (CACHE_WRITE_1H,)),
    ("reasoning_tokens", REASONING_TOKENS),
    ("input_audio_tokens", INPUT_AUDIO_TOKENS),
    ("output_audio_tokens", OUTPUT_AUDIO_TOKENS),
)


# Versions of the conventions: their names for what each calls otherwise. Reading takes all of them.
CONVENTION = "1.41"
"""The version that is written by default: the last that was a part of OpenTelemetry's core conventions."""
USAGE_NAMES_OF: dict[str, UsageNames] = {
    CONVENTION: USAGE_NAMES,
    "0.1": tuple((field, (CACHE_WRITE,) if found is CACHE_WRITE_TOKENS else found) for field, found in USAGE_NAMES),
    "0.1/dup": (*USAGE_NAMES, ("cache_write_tokens", (CACHE_WRITE,))),
}
SCHEMA_URLS: dict[str, str] = {
    CONVENTION: "https://opentelemetry.io/schemas/1.41.0",
    "0.1": "https://opentelemetry.io/schemas/gen-ai/0.1.0",
    "0.1/dup": "https://opentelemetry.io/schemas/1.41.0",
}
"""What a span's names are by; both at once are those of the older, and more."""

# Request and response parameters.
PARAMETER_NAMES: dict[str, str] = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "stop_sequences": "gen_ai.request.stop_sequences",
    "choice_count": "gen_ai.request.choice.count",
    "reasoning_effort": "gen_ai.request.reasoning.level",
    "output_type": "gen_ai.output.type",
    "previous_response_id": "gen_ai.request.previous_response.id",
    "encoding_formats": "gen_ai.request.encoding_formats",
    "dimensions": "gen_ai.embeddings.dimension.count",
    "service_tier": "openai.request.service_tier",
    "prompt_id": "gen_ai.prompt.name",
    "prompt_version": "gen_ai.prompt.version",
}
"""`ModelRequest.parameters` that have an attribute of their own."""
PARAMETER_ALIASES: dict[str, str] = {
    "gen_ai.request.reasoning_effort": "reasoning_effort",
    "llm.request.reasoning_effort": "reasoning_effort",
    "gen_ai.openai.request.seed": "seed",
    "gen_ai.openai.request.service_tier": "service_tier",
    "gen_ai.openai.request.response_format": "output_type",
    "llm.frequency_penalty": "frequency_penalty",
    "llm.presence_penalty": "presence_penalty",
    "llm.top_k": "top_k",
    "llm.chat.stop_sequences": "stop_sequences",
}
"""Older attributes of the same parameters; read only."""
DEFAULT_PARAMETERS: dict[str, object] = {"choice_count": 1}
"""Values that are what a provider does anyway; the GenAI convention has the attribute only for another."""
LIST_PARAMETERS = frozenset({"stop_sequences", "encoding_formats"})
NUMBER_PARAMETERS = frozenset(
    ("temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty", "seed", "choice_count")
)
"""Parameters that are numbers, also where an instrumentor writes all attributes as texts."""
RESPONSE_PARAMETER_NAMES: dict[str, str] = {
    "service_tier": "openai.response.service_tier",
    "system_fingerprint": "openai.response.system_fingerprint",
}
RESPONSE_PARAMETER_ALIASES: dict[str, str] = {
    "gen_ai.openai.response.service_tier": "service_tier",
    "gen_ai.openai.response.system_fingerprint": "system_fingerprint",
    "gen_ai.openai.system_fingerprint": "system_fingerprint",
    "gen_ai.response.status": "status",
}

# Our own.
INCOMPLETE = "spanrelay.incomplete"
"""Why an answer is only a part: `closed`, `abandoned`, `cancelled`, `error` or `cut`."""
ANSWERED_BY = "spanrelay.answered_by"
"""The name of the middleware that answered a call instead of the provider or the tool."""
POLICY_MODE = "spanrelay.policy.mode"
"""`observe` on the span of a guardrail that is on trial: its verdict is recorded, and nothing comes of it."""
APPROVED_EVENT = "spanrelay.policy.approved"
"""Policy would have refused this call, and an approver let it pass: `GUARDRAIL_COMPONENT_NAME` and
`GUARDRAIL_VERDICT_REASON`."""
WOULD_REFUSE = "spanrelay.policy.would_refuse"
"""Why each policy on trial would have refused this call, as `name: reason`."""
WOULD_CHANGE = "spanrelay.policy.would_change"
"""What each policy on trial would have changed of this call, as `name: what`."""
PROMPT_CACHE_DECISION = "spanrelay.prompt_cache.decision"
"""What the plugin `prompt_cache` did with the request: `marked`, `unmarked`, or `would_mark` while it only observes."""
PROMPT_CACHE_MARKS = "spanrelay.prompt_cache.marks"
"""Where marks stand and for how long, as in `system 5m`."""
PROMPT_CACHE_SCAFFOLD = "spanrelay.prompt_cache.scaffold"
"""Eight digits that stand for the model, the tools and the system prompt."""
PROMPT_CACHE_EXPECTED = "spanrelay.prompt_cache.expected_read_tokens"
"""About how many tokens of the input the marks were to have read from the cache."""
PROMPT_CACHE_HIT_RATIO = "spanrelay.prompt_cache.hit_ratio"
"""The share of the input that was read from the cache, as the provider reports it."""
PROMPT_CACHE_SAVED_TOKENS = "spanrelay.prompt_cache.saved_tokens"
"""What marks saved, or would have, in tokens of plain input; less than 0 where writing cost more."""
PROMPT_CACHE_SAVED_USD = "spanrelay.prompt_cache.saved_usd"
"""The same in US dollars, where the plugin `pricing` has a price."""
PROMPT_CACHE_MISSED = "spanrelay.prompt_cache.missed"
"""Why nothing was read: `first_use`, `below_minimum`, `expired`, `parallel_first` or `not_found`."""
PROMPT_CACHE_SKIPPED = "spanrelay.prompt_cache.skipped"
"""Why the request was left alone: `callers_own`, `unknown_model`, `unknown_block`, `refused`, `empty`, or an error."""
PROMPT_CACHE_DECIDED = "spanrelay.prompt_cache.decided"
"""The plugin `prompt_cache` decides otherwise than before: `PROMPT_CACHE_DECISION` and `PROMPT_CACHE_REASON`, and of
the marks in which part of the request they stand."""
PROMPT_CACHE_REASON = "spanrelay.prompt_cache.reason"
"""Why: `pays`, `held`, `rarely_reused`, `uncovered`, `below_minimum`, `busy`, `first_use`, or why it was skipped."""
PROMPT_CACHE_WAITED = "spanrelay.prompt_cache.waited"
"""A call was held back until another one had written what both begin with."""
PROMPT_CACHE_WAITED_S = "spanrelay.prompt_cache.waited_s"
"""For how many seconds."""
PROMPT_CACHE_SAVED = "spanrelay.prompt_cache.saved"
HOOKS_WARNED = "spanrelay.agent_hooks.warned"
"""An interceptor of the plugin `agent_hooks` warns of this call, and lets it pass."""
HOOKS_POINT = "spanrelay.agent_hooks.point"
"""The interception point at which it was asked."""
HOOKS_REASON = "spanrelay.agent_hooks.reason"
"""Why it warns, in its words."""
FALLBACK_EVENT = "spanrelay.fallback"
"""An event of a model call that the plugin `fallback` let another model answer."""
FALLBACK_FROM = "spanrelay.fallback.from"
"""The model that did not answer."""
FALLBACK_TO = "spanrelay.fallback.to"
"""The one that is asked in its place."""
FALLBACK_REASON = "spanrelay.fallback.reason"
"""Why: `budget`, `rate_limit`, `overload`, `timeout`, `refused` by policy, or `resting`, as it asked to be."""
RESPONSE_CACHE_DECISION = "spanrelay.response_cache.decision"
"""What the plugin `response_cache` did with a call: `hit`, `miss`, `bypass`, or `would_hit` while it only observes."""
RESPONSE_CACHE_REASON = "spanrelay.response_cache.reason"
"""Why the call was not looked up, or its answer not kept."""
RESPONSE_CACHE_AGE = "spanrelay.response_cache.age_seconds"
"""How many seconds ago the provider gave the answer."""
RESPONSE_CACHE_SAVED_TOKENS = "spanrelay.response_cache.saved_tokens"
"""How many tokens the provider counted for the answer then."""
ERROR_CODE = "spanrelay.error.code"
"""The provider's own code of an error, beside `ERROR_TYPE`."""
REFUSED_TOOL_CALL = "spanrelay.tool_call.refused"
"""The answer asks for a tool that policy refuses: `tool_name`, `call_id`, `reason`."""
TOOL_IS_ERROR = "spanrelay.tool.is_error"
"""True where a tool answered with an error and raised none."""
TOOL_ANNOTATION = "spanrelay.tool.result.annotation"
"""JSON about a tool's result, for readers of the trace and not for the model."""
TOOL_RESULT_TYPE = "spanrelay.tool.result.type"
"""`text` or `json`, where `TOOL_RESULT` alone does not show whether it is JSON."""
TOLD_BY = "spanrelay.told_by"
"""On a span that was made of an agent's own log or events: what told of it, and what of it was not told."""
REQUEST_PARAMETERS = "spanrelay.request.parameters"
"""JSON object of the request's parameters for which the conventions have no attribute."""
HISTORY_OMITTED = "spanrelay.history.omitted"
"""How many input messages a span leaves out, since earlier spans carried them; 0 where later spans may refer to it."""
HISTORY_DIGEST = "spanrelay.history.digest"
"""Which messages are left out: a digest of them, in hexadecimal."""
HISTORY_CARRIERS = "spanrelay.history.carriers"
"""The ids of the spans that carried what is left out, the one that carried the last of it first."""
RESPONSE_PARAMETERS = "spanrelay.response.parameters"
"""JSON object of the answer's parameters for which the conventions have no attribute."""

# OpenInference.
OI_KIND = "openinference.span.kind"
OI_MODEL = "llm.model_name"
OI_REQUEST_MODEL = "llm.request.model_name"
OI_RESPONSE_MODEL = "llm.response.model_name"
OI_PROVIDER = "llm.provider"
OI_SYSTEM = "llm.system"
OI_PARAMETERS = "llm.invocation_parameters"
OI_FINISH_REASON = "llm.finish_reason"
OI_INPUT_MESSAGES = "llm.input_messages"
OI_OUTPUT_MESSAGES = "llm.output_messages"
OI_TOOLS = "llm.tools"
OI_NODE = "graph.node.id"
OI_TOOL_SCHEMA = "tool.json_schema"
OI_PROMPTS = "llm.prompts"
OI_PROMPT_TEXT = "prompt.text"
OI_CHOICES = "llm.choices"
OI_CHOICE_TEXT = "completion.text"
OI_PROMPT_ID = "prompt.id"
OI_PROMPT_TEMPLATE = "llm.prompt_template.template"
OI_PROMPT_VARIABLES = "llm.prompt_template.variables"
OI_PROMPT_VERSION = "llm.prompt_template.version"
OI_FUNCTION_NAME = "message.function_call_name"
OI_FUNCTION_ARGUMENTS = "message.function_call_arguments_json"
OI_INPUT = "input.value"
OI_INPUT_MIME = "input.mime_type"
OI_OUTPUT = "output.value"
OI_OUTPUT_MIME = "output.mime_type"
OI_TOOL_NAME = "tool.name"
OI_TOOL_ID = "tool.id"
OI_TOOL_DESCRIPTION = "tool.description"
OI_TOOL_PARAMETERS = "tool.parameters"
OI_AGENT_NAME = "agent.name"
OI_SESSION = "session.id"
OI_METADATA = "metadata"
OI_EMBEDDING_MODEL = "embedding.model_name"
OI_EMBEDDING_PARAMETERS = "embedding.invocation_parameters"
OI_EMBEDDINGS = "embedding.embeddings"
OI_EMBEDDING_TEXT = "embedding.text"
OI_COST_USD = "llm.cost.total"
OI_INPUT_COST_USD = "llm.cost.prompt"
OI_OUTPUT_COST_USD = "llm.cost.completion"
OI_REDACTED = "__REDACTED__"
"""What OpenInference writes in place of a value that its settings hide."""
OI_USAGE_NAMES: UsageNames = (
    ("input_tokens", ("llm.token_count.prompt",)),
    ("output_tokens", ("llm.token_count.completion",)),
    ("total_tokens", ("llm.token_count.total",)),
    (
        "cache_read_tokens",
        ("llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_input"),
    ),
    ("cache_write_tokens", ("llm.token_count.prompt_details.cache_write",)),
    ("cache_write_1h_tokens", (CACHE_WRITE_1H,)),
    ("reasoning_tokens", ("llm.token_count.completion_details.reasoning",)),
    ("input_audio_tokens", ("llm.token_count.prompt_details.audio",)),
    ("output_audio_tokens", ("llm.token_count.completion_details.audio",)),
)

TEXT_MIME = "text/plain"
JSON_MIME = "application/json"

# Traceloop (OpenLLMetry); read only.
TL_KIND = "traceloop.span.kind"
TL_ENTITY_NAME = "traceloop.entity.name"
TL_ENTITY_INPUT = "traceloop.entity.input"
TL_ENTITY_OUTPUT = "traceloop.entity.output"
TL_WORKFLOW_NAME = "traceloop.workflow.name"
TL_ASSOCIATION = "traceloop.association.properties."
TL_REQUEST_TYPE = "llm.request.type"
TL_PROMPT = "gen_ai.prompt"
TL_COMPLETION = "gen_ai.completion"
TL_FUNCTIONS = "llm.request.functions"
PROMPT, COMPLETION = TL_PROMPT, TL_COMPLETION
"""What frameworks name as a whole in which Traceloop has a message each."""

# Genkit; read only.
GK_TYPE = "genkit:type"
GK_SUBTYPE = "genkit:metadata:subtype"
GK_NAME = "genkit:name"
GK_IS_ROOT = "genkit:isRoot"
GK_INPUT = "genkit:input"
GK_OUTPUT = "genkit:output"
GK_STATE = "genkit:state"
GK_SESSION = "genkit:sessionId"
GK_PARAMETER_NAMES: dict[str, str] = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop_sequences",
}
"""What Genkit's configuration of a model has for every provider, to parameters of ours."""
GK_USAGE_PLACES: dict[str, tuple[str, ...]] = {
    "input_tokens": ("usage.inputTokens",),
    "output_tokens": ("usage.outputTokens",),
    "total_tokens": ("usage.totalTokens",),
    "cache_read_tokens": ("usage.cachedContentTokens", "raw.usage.prompt_tokens_details.cached_tokens"),
    "reasoning_tokens": ("usage.thoughtsTokens", "raw.usage.completion_tokens_details.reasoning_tokens"),
}
"""Where a model's output has the fields of `Usage`; its JavaScript library has some in the provider's answer alone."""

# Vercel's AI SDK, up to the version that writes GenAI's attributes (or with `LegacyOpenTelemetry`); read only.
AI_OPERATION = "ai.operationId"
AI_FUNCTION = "ai.telemetry.functionId"
"""What the program calls a call of the SDK: an agent, as a rule."""
AI_ABOUT = ("ai.settings.context.", "ai.telemetry.metadata.")
"""Before what the program says of itself, in newer versions and in older ones."""
AI_PROVIDER = "ai.model.provider"
AI_MODEL = "ai.model.id"
AI_PROMPT = "ai.prompt"
AI_MESSAGES = "ai.prompt.messages"
AI_TOOLS = "ai.prompt.tools"
AI_TOOL_CHOICE = "ai.prompt.toolChoice"
AI_TEXT = ("ai.response.text", "ai.result.text")
AI_OBJECT = ("ai.response.object", "ai.result.object")
AI_REASONING = "ai.response.reasoning"
AI_CALLS = ("ai.response.toolCalls", "ai.result.toolCalls")
AI_FINISH_REASON = ("ai.response.finishReason", "ai.finishReason")
AI_RESPONSE_ID = "ai.response.id"
AI_RESPONSE_MODEL = "ai.response.model"
AI_FIRST_CHUNK = ("ai.response.msToFirstChunk", "ai.stream.msToFirstChunk")
"""In milliseconds."""
AI_TOOL_NAME = "ai.toolCall.name"
AI_TOOL_ID = "ai.toolCall.id"
AI_TOOL_ARGUMENTS = ("ai.toolCall.args", "ai.toolCall.input")
AI_TOOL_RESULT = ("ai.toolCall.result", "ai.toolCall.output")
AI_VALUE = ("ai.value", "ai.values")
"""What is to be embedded; one text, or the JSON of each."""
AI_USAGE_NAMES: UsageNames = (
    ("input_tokens", ("ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens")),
    ("output_tokens", ("ai.usage.outputTokens", "ai.usage.completionTokens")),
    ("total_tokens", ("ai.usage.totalTokens",)),
    ("cache_read_tokens", ("ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens")),
    ("cache_write_tokens", ("ai.usage.inputTokenDetails.cacheWriteTokens",)),
    ("reasoning_tokens", ("ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens")),
)
AI_PARAMETERS: dict[str, str] = {
    "ai.settings.temperature": "temperature",
    "ai.settings.topP": "top_p",
    "ai.settings.topK": "top_k",
    "ai.settings.maxOutputTokens": "max_tokens",
    "ai.settings.maxTokens": "max_tokens",
    "ai.settings.frequencyPenalty": "frequency_penalty",
    "ai.settings.presencePenalty": "presence_penalty",
    "ai.settings.seed": "seed",
    "ai.settings.stopSequences": "stop_sequences",
}

# Kinds and operations. An operation without a kind here is no step of an agent (memory, files, …).
OPERATION_OF_KIND: dict[Kind | None, str] = {
    "agent": "invoke_agent",
    "tool": "execute_tool",
    "llm": "chat",
    "retriever": "retrieval",
    "embedder": "embeddings",
    "guardrail": "run_guardrail",
}
KIND_OF_OPERATION: dict[str, Kind] = {
    "chat": "llm",
    "generate_content": "llm",
    "text_completion": "llm",
    "completion": "llm",
    "responses": "llm",
    "chat_streaming": "llm",
    "interactions": "llm",
    "interactions_streaming": "llm",
    "invoke_agent": "agent",
    "create_agent": "agent",
    "plan": "agent",
    "execute_tool": "tool",
    "embeddings": "embedder",
    "retrieval": "retriever",
    "rerank": "reranker",
    "run_guardrail": "guardrail",
    "invoke_workflow": "chain",
    "execute_task": "chain",
    "agent_step": "chain",
    "model_generation": "chain",
    "model_chunk": "chain",
    "framework": "chain",
}
OI_KIND_OF_KIND: dict[Kind | None, str] = {
    "agent": "AGENT",
    "chain": "CHAIN",
    "tool": "TOOL",
    "llm": "LLM",
    "retriever": "RETRIEVER",
    "embedder": "EMBEDDING",
    "reranker": "RERANKER",
    "guardrail": "GUARDRAIL",
    "evaluator": "EVALUATOR",
    "custom": "UNKNOWN",
}
KIND_OF_OI_KIND: dict[str, Kind] = {
    **{name: kind for kind, name in OI_KIND_OF_KIND.items() if kind is not None},
    "PROMPT": "custom",
    "DECISION": "custom",
}
KIND_OF_TL_KIND: dict[str, Kind] = {
    "workflow": "agent",
    "agent": "agent",
    "task": "chain",
    "tool": "tool",
}
KIND_OF_GK_SUBTYPE: dict[str, Kind] = {
    "flow": "chain",
    "agent": "agent",
    "prompt": "chain",
    "executable-prompt": "chain",
    "util": "chain",
    "model": "llm",
    "tool": "tool",
    "tool.v2": "tool",
    "embedder": "embedder",
    "retriever": "retriever",
    "reranker": "reranker",
    "evaluator": "evaluator",
}
KIND_OF_TL_REQUEST: dict[str, Kind] = {
    "chat": "llm",
    "completion": "llm",
    "embedding": "embedder",
    "rerank": "reranker",
}

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""The roles of the frameworks and providers, as ours."""

FINISH_REASON_NAMES: dict[str, str] = {
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "tool_use": "tool_call",
    "TOOL_CALL": "tool_call",
    "TOOL_CALLS": "tool_call",
    "TOOL_EXECUTION": "tool_call",
    "tool-calls": "tool_call",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "MAX_TOKENS": "length",
    "refusal": "content_filter",
    "guardrail_intervened": "content_filter",
    "content-filter": "content_filter",
    "content_filtered": "content_filter",
    "ERROR": "error",
}
"""Providers' words for why an answer ended, to OpenTelemetry's; all other words stay."""

# Providers. OpenTelemetry's well-known values of `gen_ai.provider.name` are ours.
OI_PROVIDER_NAMES: dict[str, str] = {
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "aws.bedrock": "aws",
    "gcp.gen_ai": "google",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistralai",
    "x_ai": "xai",
    "moonshot_ai": "moonshot",
}
"""`gen_ai.provider.name` to `llm.provider`, where they differ."""
OI_SYSTEM_NAMES: dict[str, str] = {
    "openai": "openai",
    "azure.ai.openai": "openai",
    "anthropic": "anthropic",
    "cohere": "cohere",
    "mistral_ai": "mistralai",
    "gcp.vertex_ai": "vertexai",
}
"""`gen_ai.provider.name` to `llm.system`: the API that is spoken, where OpenInference has a word for it."""
PROVIDER_NAMES: dict[str, str] = {
    "azure": "azure.ai.openai",
    "az.ai.openai": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "azure-openai": "azure.ai.openai",
    "aws": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "amazon-bedrock": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "google": "gcp.gen_ai",
    "google_genai": "gcp.gemini",
    "google.generative-ai": "gcp.gemini",
    "google.vertex": "gcp.vertex_ai",
    "vertex.anthropic": "gcp.vertex_ai",
    "googleai": "gcp.gemini",
    "google-gla": "gcp.gemini",
    "gemini": "gcp.gemini",
    "google-cloud": "gcp.vertex_ai",
    "google-vertex": "gcp.vertex_ai",
    "google_vertexai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "mistralai": "mistral_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "moonshot": "moonshot_ai",
    "watsonx": "ibm.watsonx.ai",
}
"""Other vocabularies' words for a provider (lower case) to OpenTelemetry's."""

# Metrics: name, unit, bucket boundaries.
OPERATION_DURATION = "gen_ai.client.operation.duration"
"""How long a call of a model took."""
TOKEN_USAGE = "gen_ai.client.token.usage"
"""Tokens of a call: `TOKEN_TYPE` says whether of its input or of its output."""
TOKEN_TYPE = "gen_ai.token.type"
CLIENT_TIME_TO_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
"""How long the first chunk of a streamed answer took."""
TIME_PER_OUTPUT_CHUNK = "gen_ai.client.operation.time_per_output_chunk"
INFERENCE_DURATION = "gen_ai.client.inference.duration"
"""`OPERATION_DURATION` by its newer name, without embeddings."""
INFERENCE_TIME_TO_FIRST_CHUNK = "gen_ai.client.inference.time_to_first_chunk"
"""`CLIENT_TIME_TO_FIRST_CHUNK` by its newer name."""
INFERENCE_USAGE: dict[str, str] = {
    "input_tokens": "gen_ai.client.inference.usage.input_tokens",
    "output_tokens": "gen_ai.client.inference.usage.output_tokens",
    "cache_read_tokens": "gen_ai.client.inference.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.client.inference.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.client.inference.usage.reasoning.output_tokens",
}
"""The counters that v0.1 has in place of `TOKEN_USAGE`, by field of `Usage`."""
INVOKE_AGENT_DURATION = "gen_ai.invoke_agent.duration"
"""How long a run of an agent took."""
EXECUTE_TOOL_DURATION = "gen_ai.execute_tool.duration"
"""How long a tool took."""
INVOKE_WORKFLOW_DURATION = "gen_ai.invoke_workflow.duration"

SECONDS = "s"
TOKENS = "{token}"
DURATION_BUCKETS: tuple[float, ...] = tuple(round(0.01 * 2**power, 2) for power in range(14))
"""0.01 s to 81.92 s, doubling."""
TOKEN_BUCKETS: tuple[float, ...] = tuple(float(4**power) for power in range(14))
"""1 to 67 108 864 tokens, each four times the last."""
AGENT_BUCKETS: tuple[float, ...] = tuple(round(0.1 * 2**power, 1) for power in range(13))
"""0.1 s to 409.6 s, doubling."""
WORKFLOW_BUCKETS: tuple[float, ...] = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
"""1 s to 2 h."""
BUCKETS: dict[str, tuple[float, ...]] = {
    OPERATION_DURATION: DURATION_BUCKETS,
    TOKEN_USAGE: TOKEN_BUCKETS,
    CLIENT_TIME_TO_FIRST_CHUNK: DURATION_BUCKETS,
    INFERENCE_DURATION: DURATION_BUCKETS,
    INFERENCE_TIME_TO_FIRST_CHUNK: DURATION_BUCKETS,
    TIME_PER_OUTPUT_CHUNK: DURATION_BUCKETS,
    INVOKE_AGENT_DURATION: AGENT_BUCKETS,
    EXECUTE_TOOL_DURATION: DURATION_BUCKETS,
    INVOKE_WORKFLOW_DURATION: WORKFLOW_BUCKETS,
}

# Events.
OPERATION_DETAILS = "gen_ai.client.inference.operation.details"
"""A log record of each model call, with its content, where settings ask for it."""
EXCEPTION_EVENT = "exception"
"""What the work raised: `EXCEPTION_TYPE`, and with message content `EXCEPTION_MESSAGE` and `EXCEPTION_STACKTRACE`."""
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"

# Guardrails: the vocabulary proposed for OpenTelemetry.
GUARDRAIL_TARGET_SUBTYPE = "gen_ai.guardrail.target.subtype"
"""What is checked: `llm`, `tool_call`, `retrieval` …"""
GUARDRAIL_VERDICT_TYPE = "gen_ai.guardrail.verdict.type"
"""`allow` or `deny`."""
GUARDRAIL_VERDICT_REASON = "gen_ai.guardrail.verdict.reason"
"""Why it denies, in its own words."""
GUARDRAIL_ACTION_TYPE = "gen_ai.guardrail.action.type"
"""What came of it: `allow` or `block`."""
GUARDRAIL_COMPONENT_NAME = "gen_ai.guardrail.component.name"
"""The name that the guardrail is registered as."""

_NAMED_BY_TARGET = frozenset(
    {
        "chat",
        "generate_content",
        "text_completion",
        "embeddings",
        "retrieval",
        "execute_tool",
        "invoke_agent",
        "create_agent",
        "invoke_workflow",
        "run_guardrail",
        "plan",
    }
)


def span_name(kind: Kind | None, operation: str | None, target: str | None) -> str:
    """Return a span's name by OpenTelemetry's rule: `chat gpt-4o`, `execute_tool search`, `invoke_agent me`.

    Args:
        kind: What the call does; gives the operation where `operation` is None.
        operation: The `gen_ai.operation.name`, if there is one.
        target: The model, the tool, the agent, the workflow, or a scope's own name.

    Without an operation that has a rule, the name is the target, or else the operation or the kind.
    """
    operation = operation or OPERATION_OF_KIND.get(kind)
    if operation in _NAMED_BY_TARGET:
        return f"{operation} {target}" if target else operation
    return target or operation or kind or "call"


def provider_name(provider: str, system: str | None = None) -> str:
    """Return OpenTelemetry's name of a provider, given any convention's word for it.

    Args:
        provider: `gen_ai.provider.name`, `gen_ai.system`, `llm.provider` or `llm.system`, in any case.
        system: `llm.system`, which tells Vertex AI from Google's other endpoints.
    """
    word = provider.lower()
    if word == "google" and system == "vertexai":
        return "gcp.vertex_ai"
    return PROVIDER_NAMES.get(word, word)


GUARDRAIL_TARGETS: dict[Kind, str] = {"tool": "tool_call", "retriever": "retrieval"}
"""Kinds of call to the proposal's words for a guardrail's target; every other kind is itself."""

KNOWN = frozenset(name for name in globals().copy().values() if isinstance(name, str))
"""The attributes of conventions: their names say nothing of anybody."""

SESSION_KEYS = (
    OI_SESSION,
    CONVERSATION_ID,
    *(f"{TL_ASSOCIATION}{name}" for name in ("session_id", "conversation_id", "chat_id", "thread_id")),
    *(f"{place}{name}" for place in AI_ABOUT for name in ("sessionId", "session_id", "conversationId", "threadId")),
    "spring.ai.chat.client.conversation.id",
    "mastra.metadata.sessionId",
    "mastra.metadata.threadId",
    GK_SESSION,
    *(f"langsmith.metadata.{name}" for name in ("session_id", "thread_id", "conversation_id")),
    "langfuse.session.id",
    "gcp.vertex.agent.session_id",
    "conversation.id",
)
"""Attributes that name the session of a span or a log record; the first that a producer writes counts."""
