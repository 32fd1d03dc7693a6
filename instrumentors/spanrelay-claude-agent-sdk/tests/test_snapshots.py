"""Whole spans: every attribute of a run, its model calls and a tool that somebody had to permit, in both dialects.

Ids are counted, and nothing is left open.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from inspect import getattr_static, isasyncgenfunction, iscoroutinefunction, isfunction
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import PermissionResultAllow
from opentelemetry.sdk.trace import ReadableSpan

from spanrelay.instrumentation.patching import Patch
from spanrelay.tracing import default_tracing
from spanrelay_claude_agent_sdk import ClaudeAgentSDKInstrumentor, __version__
from spanrelay_testkit.capture import captured

from .provider import Provider
from .ways import QUESTION, SESSION, WEATHER, Way, each_way, queried, skies, weather_model

README = Path(__file__).parents[1] / "README.md"
MODEL = "claude-opus-5-5"


async def permit(name: str, given: Any, context: Any) -> Any:
    """Lets everything pass."""
    return PermissionResultAllow()


def spans_of(run: Way, options: Callable[..., Any], dialect: str, *, content: bool) -> list[dict[str, Any]]:
    """Return the whole spans of a run with one tool."""
    with captured(dialect=dialect, content=content) as spans, Provider(weather_model) as provider:
        ClaudeAgentSDKInstrumentor().instrument(tracer_provider=spans.provider)
        try:
            mine = options(
                provider,
                mcp_servers=skies(),
                model=MODEL,
                session_id=SESSION,
                system_prompt="Be brief.",
                permission_mode="default",
                can_use_tool=permit,
            )
            run(QUESTION, mine)
        finally:
            ClaudeAgentSDKInstrumentor().uninstrument()
        ordered = sorted(spans.spans, key=lambda span: span.context.span_id if span.context else 0)
        return [whole(span) for span in ordered]


def whole(span: ReadableSpan) -> dict[str, Any]:
    """Everything a span says; what differs from run to run is only looked at."""
    context, scope = span.get_span_context(), span.instrumentation_scope
    assert context is not None and scope is not None and span.start_time is not None and span.end_time is not None
    assert span.start_time < span.end_time
    assert (scope.name, scope.version) == ("spanrelay_claude_agent_sdk", __version__)
    assert list(span.links) == []
    assert span.status.is_unset
    attributes = dict(span.attributes or {})
    for name in VARYING & attributes.keys():
        assert isinstance(attributes[name], int | float) and attributes[name] > 0  # type: ignore[operator]
        attributes[name] = "varies"
    return {
        "name": span.name,
        "kind": span.kind.name,
        "ids": (context.trace_id, context.span_id, span.parent and span.parent.span_id),
        "events": {event.name: dict(event.attributes or {}) for event in span.events},
        "attributes": attributes,
    }


VARYING = {
    "gen_ai.response.time_to_first_chunk",
    "claude_agent_sdk.duration_api_ms",
    "claude_agent_sdk.total_cost_usd",
}
PERMISSION = {
    "claude_agent_sdk.permission.tool": WEATHER,
    "claude_agent_sdk.permission.call_id": "toolu_weather",
    "claude_agent_sdk.permission.decision": "allow",
}
SPANS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("invoke_agent claude", "INTERNAL", (1, 1, None), {"claude_agent_sdk.permission": PERMISSION}),
    (f"chat {MODEL}", "CLIENT", (1, 2, 1), {}),
    (f"execute_tool {WEATHER}", "INTERNAL", (1, 3, 1), {}),
    (f"chat {MODEL}", "CLIENT", (1, 4, 1), {}),
]


RUN = {
    "claude_agent_sdk.duration_api_ms": "varies",
    "claude_agent_sdk.num_turns": 2,
    "claude_agent_sdk.result": "success",
    "claude_agent_sdk.terminal_reason": "completed",
    "claude_agent_sdk.total_cost_usd": "varies",
    "claude_agent_sdk.usage.cache_read_tokens": 10,
    "claude_agent_sdk.usage.cache_write_tokens": 6,
    "claude_agent_sdk.usage.input_tokens": 24,
    "claude_agent_sdk.usage.output_tokens": 14,
    "gen_ai.request.model": MODEL,
    "input.mime_type": "text/plain",
    "input.value": QUESTION,
    "llm.model_name": MODEL,
    "output.mime_type": "text/plain",
    "output.value": "I was told: sunny in Rome",
}
MODEL_CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": MODEL,
    "gen_ai.response.time_to_first_chunk": "varies",
    "llm.model_name": MODEL,
    "llm.provider": "anthropic",
    "llm.system": "anthropic",
    "llm.token_count.completion": 7,
    "llm.token_count.prompt": 20,
    "llm.token_count.prompt_details.cache_read": 5,
    "llm.token_count.prompt_details.cache_write": 3,
    "openinference.span.kind": "LLM",
    "session.id": SESSION,
}
GENAI_CALL = {
    **MODEL_CALL,
    "gen_ai.conversation.id": SESSION,
    "gen_ai.request.stream": True,
    "gen_ai.response.model": MODEL,
    "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
    "gen_ai.usage.cache_creation.input_tokens": 3,
    "gen_ai.usage.cache_read.input_tokens": 5,
    "gen_ai.usage.input_tokens": 20,
    "gen_ai.usage.output_tokens": 7,
}
OPENINFERENCE_CALL = {
    **MODEL_CALL,
    "llm.input_messages.0.message.content": "Be brief.",
    "llm.input_messages.0.message.role": "system",
    "llm.input_messages.1.message.content": QUESTION,
    "llm.input_messages.1.message.role": "user",
    "llm.invocation_parameters": f'{{"model":"{MODEL}","stream":true}}',
    "llm.output_messages.0.message.role": "assistant",
    "llm.request.model_name": MODEL,
    "llm.response.model_name": MODEL,
    "input.mime_type": "text/plain",
    "output.mime_type": "text/plain",
}
ASKED = '{"role":"user","parts":[{"type":"text","content":"How is the weather in Rome?"}]}'
SAID = (
    '{"role":"assistant","parts":[{"type":"text","content":"Let me see."},{"type":"tool_call","id":"toolu_weather",'
    '"name":"mcp__skies__get_weather","arguments":{"city":"Rome"}}],"finish_reason":"tool_call"}'
)
TOLD = '{"role":"tool","parts":[{"type":"tool_call_response","id":"toolu_weather","response":"sunny in Rome"}]}'
ANSWERED = (
    '{"role":"assistant","parts":[{"type":"text","content":"I was told: sunny in Rome"}],"finish_reason":"end_turn"}'
)
TOOL_CALL = "message.tool_calls.0.tool_call"
ATTRIBUTES: dict[str, list[dict[str, Any]]] = {
    "genai": [
        {
            **RUN,
            "agent.name": "claude",
            "gen_ai.agent.name": "claude",
            "gen_ai.conversation.id": SESSION,
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
            "openinference.span.kind": "AGENT",
            "session.id": SESSION,
        },
        {
            **GENAI_CALL,
            "gen_ai.input.messages": f"[{ASKED}]",
            "gen_ai.output.messages": f"[{SAID}]",
            "gen_ai.response.finish_reasons": ("tool_use",),
            "gen_ai.response.id": "msg_0001",
        },
        {
            "gen_ai.conversation.id": SESSION,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.call.arguments": '{"city":"Rome"}',
            "gen_ai.tool.call.id": "toolu_weather",
            "gen_ai.tool.call.result": "sunny in Rome",
            "gen_ai.tool.name": WEATHER,
            "openinference.span.kind": "TOOL",
            "session.id": SESSION,
            "tool.id": "toolu_weather",
            "tool.name": WEATHER,
        },
        {
            **GENAI_CALL,
            "gen_ai.input.messages": f"[{ASKED},{SAID},{TOLD}]",
            "gen_ai.output.messages": f"[{ANSWERED}]",
            "gen_ai.response.finish_reasons": ("end_turn",),
            "gen_ai.response.id": "msg_0002",
        },
    ],
    "openinference": [
        {
            **RUN,
            "agent.name": "claude",
            "gen_ai.operation.name": "invoke_agent",
            "llm.input_messages.0.message.content": "Be brief.",
            "llm.input_messages.0.message.role": "system",
            "llm.request.model_name": MODEL,
            "openinference.span.kind": "AGENT",
            "session.id": SESSION,
        },
        {
            **OPENINFERENCE_CALL,
            "gen_ai.response.id": "msg_0001",
            "input.value": QUESTION,
            "llm.finish_reason": "tool_use",
            "llm.output_messages.0.message.content": "Let me see.",
            f"llm.output_messages.0.{TOOL_CALL}.function.arguments": '{"city":"Rome"}',
            f"llm.output_messages.0.{TOOL_CALL}.function.name": WEATHER,
            f"llm.output_messages.0.{TOOL_CALL}.id": "toolu_weather",
            "output.value": "Let me see.",
        },
        {
            "gen_ai.operation.name": "execute_tool",
            "input.mime_type": "application/json",
            "input.value": '{"city":"Rome"}',
            "openinference.span.kind": "TOOL",
            "output.mime_type": "text/plain",
            "output.value": "sunny in Rome",
            "session.id": SESSION,
            "tool.id": "toolu_weather",
            "tool.name": WEATHER,
        },
        {
            **OPENINFERENCE_CALL,
            "gen_ai.response.id": "msg_0002",
            "input.value": "sunny in Rome",
            "llm.finish_reason": "end_turn",
            "llm.input_messages.2.message.content": "Let me see.",
            "llm.input_messages.2.message.role": "assistant",
            f"llm.input_messages.2.{TOOL_CALL}.function.arguments": '{"city":"Rome"}',
            f"llm.input_messages.2.{TOOL_CALL}.function.name": WEATHER,
            f"llm.input_messages.2.{TOOL_CALL}.id": "toolu_weather",
            "llm.input_messages.3.message.content": "sunny in Rome",
            "llm.input_messages.3.message.role": "tool",
            "llm.input_messages.3.message.tool_call_id": "toolu_weather",
            "llm.output_messages.0.message.content": "I was told: sunny in Rome",
            "output.value": "I was told: sunny in Rome",
        },
    ],
}
CONTENT = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "input.",
    "llm.input_messages",
    "llm.output_messages",
    "output.",
)


def expected(dialect: str, *, content: bool) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "kind": kind,
            "ids": ids,
            "events": events,
            "attributes": {key: value for key, value in known.items() if content or not key.startswith(CONTENT)},
        }
        for (name, kind, ids, events), known in zip(SPANS, ATTRIBUTES[dialect], strict=True)
    ]


@each_way
@pytest.mark.parametrize("dialect", ATTRIBUTES)
def test_whole_spans(run: Way, options: Any, dialect: str) -> None:
    assert spans_of(run, options, dialect, content=True) == expected(dialect, content=True)


@pytest.mark.parametrize("dialect", ATTRIBUTES)
def test_without_content_nothing_of_what_was_said_is_left(options: Any, dialect: str) -> None:
    assert spans_of(queried, options, dialect, content=False) == expected(dialect, content=False)


# --- what is patched ---

KINDS: dict[str, Callable[[Any], bool]] = {
    "InternalClient.process_query": isasyncgenfunction,
    "ClaudeSDKClient.connect": iscoroutinefunction,
    "ClaudeSDKClient.query": iscoroutinefunction,
    "ClaudeSDKClient.interrupt": iscoroutinefunction,
    "Query.__init__": isfunction,
    "Query.close": iscoroutinefunction,
    "Query._handle_sdk_mcp_request": iscoroutinefunction,
    "SubprocessCLITransport._build_command": isfunction,
    "OpenTelemetryMiddleware.__call__": iscoroutinefunction,
}
TABLE = ClaudeAgentSDKInstrumentor().patches(default_tracing())


@pytest.mark.parametrize("patch", TABLE, ids=lambda patch: patch.attribute)
def test_every_patch_point_is_there_and_of_its_kind(patch: Patch) -> None:
    assert patch.module in ClaudeAgentSDKInstrumentor.modules
    owner, _, name = patch.attribute.rpartition(".")
    assert KINDS[patch.attribute](getattr_static(getattr(import_module(patch.module), owner), name))


def test_every_kind_is_in_the_table() -> None:
    assert {patch.attribute for patch in TABLE} == KINDS.keys()


# --- the tables in the README ---

ROW = re.compile(r"^\| `(?P<attribute>[a-z][\w.]+)` \| (?P<genai>\w* ?)\| (?P<openinference>\w* ?)\|", re.MULTILINE)
ALWAYS_TOLD = {"claude_agent_sdk.usage.total_tokens", "error.type", "spanrelay.incomplete"}
"""Attributes of sub-agents and of what fails, which no span here is."""


def row_of(attribute: str) -> str:
    """The name that a row gives an attribute: a number stands for every number, and a message for its fields."""
    return re.sub(r"^(llm\.(?:in|out)put_messages)\..*", r"\1", attribute)


@pytest.mark.parametrize("dialect", ATTRIBUTES)
def test_the_readme_names_exactly_the_attributes_of_the_spans_and_which_of_them_are_content(dialect: str) -> None:
    rows = list(ROW.finditer(README.read_text()))
    assert len({row["attribute"] for row in rows}) == len(rows), "an attribute has two rows"
    told = {row["attribute"]: row[dialect].strip() for row in rows if row[dialect].strip()}
    seen = {
        row_of(key): "content" if key.startswith(CONTENT) else "yes" for spans in ATTRIBUTES[dialect] for key in spans
    } | dict.fromkeys(ALWAYS_TOLD, "yes")
    assert told == seen


def test_the_readme_names_every_mark() -> None:
    from spanrelay_claude_agent_sdk import marks

    text = README.read_text()
    for name, value in vars(marks).items():
        if name.isupper():
            assert f"`{value}`" in text
