"""What frameworks call what a convention has a name for, read only: a table each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spanrelay.records import Kind
from spanrelay.semconv import names

Names = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The names of one framework, whose spans have the attribute `mark`.

    Attributes:
        kinds: What a span does, by the words of `mark`; where there are any, spans with other words are not meant.
        names: Attributes to those of the convention that say the same.
        of_kind: As `names`, for spans of a kind alone.
        given: Attributes that have what a span was given, whatever it does; the first that is there counts.
        gave: Attributes that have what a span gave.
        details: Attributes that are objects; the places in them (`a.0.b`) to attributes of the convention.
        apart: Of `details`, attributes with counts each without its parts, as `input` is beside `input_cached`.
    """

    mark: str
    kinds: Mapping[str, Kind] = field(default_factory=dict[str, Kind])
    names: Names = field(default_factory=dict[str, str])
    of_kind: Mapping[Kind, Names] = field(default_factory=dict[Kind, Names])
    given: tuple[str, ...] = ()
    gave: tuple[str, ...] = ()
    details: Mapping[str, Names] = field(default_factory=dict[str, Names])
    apart: Mapping[str, Names] = field(default_factory=dict[str, Names])


_LIMIT = names.PARAMETER_NAMES["max_tokens"]
_PARAMETERS = {**names.PARAMETER_NAMES, "max_completion_tokens": _LIMIT, "max_output_tokens": _LIMIT}
_OPENAI_USAGE = {
    "prompt_tokens": names.INPUT_TOKENS[0],
    "input_tokens": names.INPUT_TOKENS[0],
    "completion_tokens": names.OUTPUT_TOKENS[0],
    "output_tokens": names.OUTPUT_TOKENS[0],
    "prompt_tokens_details.cached_tokens": names.CACHE_READ_TOKENS[0],
    "input_tokens_details.cached_tokens": names.CACHE_READ_TOKENS[0],
    "completion_tokens_details.reasoning_tokens": names.REASONING_TOKENS[0],
    "output_tokens_details.reasoning_tokens": names.REASONING_TOKENS[0],
}

SPRING_AI = Vocabulary(
    mark="spring.ai.kind",
    names={
        "spring.ai.tool.call.id": names.TOOL_CALL_ID,
        "spring.ai.tool.call.arguments": names.TOOL_ARGUMENTS,
        "spring.ai.tool.call.result": names.TOOL_RESULT,
        "spring.ai.tool.definition.name": names.TOOL_NAME,
        "spring.ai.tool.definition.description": names.TOOL_DESCRIPTION,
        "spring.ai.tool.type": names.TOOL_TYPE,
        "spring.ai.chat.client.conversation.id": names.CONVERSATION_ID,
    },
)

SPRING_AI_MODEL = Vocabulary(
    mark="spring.ai.model.request.tool.names",
    names={"spring.ai.model.request.tool.names": names.TOOL_DEFINITIONS},
)

LANGSMITH = Vocabulary(
    mark="langsmith.span.kind",
    kinds={
        "llm": "llm",
        "chain": "chain",
        "tool": "tool",
        "retriever": "retriever",
        "embedding": "embedder",
        "prompt": "chain",
        "parser": "chain",
    },
    names={
        "langsmith.metadata.session_id": names.CONVERSATION_ID,
        "langsmith.metadata.thread_id": names.CONVERSATION_ID,
        "langsmith.metadata.conversation_id": names.CONVERSATION_ID,
        "langsmith.metadata.user_id": names.USER_ID,
        "langsmith.request.streaming": names.REQUEST_STREAM,
    },
    given=(names.PROMPT,),
    gave=(names.COMPLETION,),
    details={
        names.PROMPT: {"tools": names.TOOL_DEFINITIONS, **_PARAMETERS},
        "gen_ai.usage.input_token_details": {
            "cache_read": names.CACHE_READ_TOKENS[0],
            "cache_creation": names.CACHE_CREATION,
        },
        "gen_ai.usage.output_token_details": {"reasoning": names.REASONING_TOKENS[0]},
        names.COMPLETION: {
            f"generations.0.0.message.kwargs.{place}": name
            for place, name in (
                ("usage_metadata.input_token_details.cache_read", names.CACHE_READ_TOKENS[0]),
                ("usage_metadata.input_token_details.cache_creation", names.CACHE_CREATION),
                ("usage_metadata.output_token_details.reasoning", names.REASONING_TOKENS[0]),
                ("response_metadata.model_name", names.RESPONSE_MODEL),
                ("response_metadata.id", names.RESPONSE_ID),
            )
        },
    },
)
"""As LangSmith's SDK exports runs over OTLP. Its `session_id` of a trace is a project, and no conversation."""

LANGFUSE = Vocabulary(
    mark="langfuse.observation.type",
    kinds={
        "generation": "llm",
        "embedding": "embedder",
        "span": "chain",
        "agent": "agent",
        "tool": "tool",
        "chain": "chain",
        "retriever": "retriever",
        "evaluator": "evaluator",
        "guardrail": "guardrail",
    },
    names={
        "langfuse.session.id": names.CONVERSATION_ID,
        "langfuse.user.id": names.USER_ID,
        "langfuse.observation.model.name": names.REQUEST_MODEL,
        "langfuse.observation.prompt.name": names.PARAMETER_NAMES["prompt_id"],
        "langfuse.observation.prompt.version": names.PARAMETER_NAMES["prompt_version"],
    },
    given=("langfuse.observation.input",),
    gave=("langfuse.observation.output",),
    details={
        "langfuse.observation.input": {"tools": names.TOOL_DEFINITIONS, "instructions": names.SYSTEM_INSTRUCTIONS},
        "langfuse.observation.output": {"instructions": names.SYSTEM_INSTRUCTIONS},
        "langfuse.observation.model.parameters": _PARAMETERS,
        "langfuse.observation.cost_details": {"total": names.COST_USD[0]},
        "langfuse.observation.usage_details": {
            **_OPENAI_USAGE,
            "input_cached_tokens": names.CACHE_READ_TOKENS[0],
            "input_cache_read": names.CACHE_READ_TOKENS[0],
            "input_cache_creation": names.CACHE_CREATION,
            "output_reasoning_tokens": names.REASONING_TOKENS[0],
            "output_reasoning": names.REASONING_TOKENS[0],
        },
    },
    apart={
        "langfuse.observation.usage_details": {"input": names.INPUT_TOKENS[0], "output": names.OUTPUT_TOKENS[0]},
    },
)

LOGFIRE_AGENTS = Vocabulary(
    mark="logfire.msg_template",
    kinds={
        "Agent run: {name!r}": "agent",
        "Function: {name}": "tool",
        "Chat completion with {gen_ai.request.model!r}": "llm",
        "Responses API with {gen_ai.request.model!r}": "llm",
        "Responses API": "llm",
        "Guardrail {name!r} {triggered=}": "guardrail",
        "Handoff: {from_agent} → {to_agent}": "chain",
        "OpenAI Agents trace: {name}": "chain",
    },
    names={"group_id": names.CONVERSATION_ID},
    of_kind={"agent": {"name": names.AGENT_NAME}, "tool": {"name": names.TOOL_NAME}},
    given=("raw_input", "input"),
    gave=("response", "output"),
    details={
        "response": {"instructions": names.SYSTEM_INSTRUCTIONS, "tools": names.TOOL_DEFINITIONS},
        "model_settings": _PARAMETERS,
        "model_config": _PARAMETERS,
        "usage": _OPENAI_USAGE,
    },
)
"""OpenAI's Agents SDK as Logfire traces it: what a span does is in the template of its message alone."""

GOOGLE_ADK = Vocabulary(
    mark="gcp.vertex.agent.llm_request",
    names={"gcp.vertex.agent.session_id": names.CONVERSATION_ID},
    of_kind={
        "tool": {
            "gcp.vertex.agent.tool_call_args": names.TOOL_ARGUMENTS,
            "gcp.vertex.agent.tool_response": names.TOOL_RESULT,
        }
    },
    given=("gcp.vertex.agent.llm_request",),
    gave=("gcp.vertex.agent.llm_response",),
    details={
        "gcp.vertex.agent.llm_request": {
            "config.system_instruction": names.SYSTEM_INSTRUCTIONS,
            "config.tools": names.TOOL_DEFINITIONS,
            "config.temperature": names.PARAMETER_NAMES["temperature"],
        }
    },
)
"""Google's Agent Development Kit, whose tools' spans have an empty request of a model too."""

GOOGLE_ADK_MERGED = Vocabulary(mark=names.TOOL_NAME, kinds={"(merged tools)": "chain"})
"""The span that it makes of the runs of several tools at once, each of which has one of its own."""

WHOLE = Vocabulary(mark=names.PROMPT, given=(names.PROMPT,), gave=(names.COMPLETION,))
ANSWERED = Vocabulary(mark=names.COMPLETION, given=(names.PROMPT,), gave=(names.COMPLETION,))
"""Frameworks that write a prompt and a completion in one attribute each, as rig and Quarkus do."""

VOCABULARIES = (
    SPRING_AI,
    SPRING_AI_MODEL,
    LANGSMITH,
    LANGFUSE,
    LOGFIRE_AGENTS,
    GOOGLE_ADK_MERGED,
    GOOGLE_ADK,
    WHOLE,
    ANSWERED,
)
"""The first whose mark a span has is its."""
