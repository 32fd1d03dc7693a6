"""Traceloop's older, indexed attributes, which some of its instrumentors still write."""

from __future__ import annotations

from typing import Any

from spanrelay import semconv
from spanrelay.records import (
    AgentInfo,
    Media,
    Message,
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

CHAT: dict[str, Any] = {
    "llm.request.type": "chat",
    "gen_ai.system": "Anthropic",
    "gen_ai.request.model": "claude",
    "gen_ai.response.model": "claude-2026",
    "gen_ai.request.temperature": 0.2,
    "llm.request.reasoning_effort": "high",
    "llm.is_streaming": True,
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "be brief",
    "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": '[{"type": "text", "text": "look"}, '
    '{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]',
    "gen_ai.prompt.2.role": "assistant",
    "gen_ai.prompt.2.tool_calls.0.id": "call_1",
    "gen_ai.prompt.2.tool_calls.0.name": "search",
    "gen_ai.prompt.2.tool_calls.0.arguments": '{"q": "x"}',
    "gen_ai.prompt.3.role": "tool",
    "gen_ai.prompt.3.content": "found",
    "gen_ai.prompt.3.tool_call_id": "call_1",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "there",
    "gen_ai.completion.0.reasoning": "hm",
    "gen_ai.completion.0.finish_reason": "stop",
    "gen_ai.usage.prompt_tokens": 9,
    "gen_ai.usage.completion_tokens": 2,
    "gen_ai.usage.cache_read_input_tokens": 4,
    "llm.usage.total_tokens": 11,
    "llm.request.functions.0.name": "search",
    "llm.request.functions.0.description": "Finds.",
    "llm.request.functions.0.parameters": '{"type": "object"}',
    "traceloop.association.properties.thread_id": "t-1",
    "traceloop.association.properties.user_id": "u-1",
    "traceloop.association.properties.tenant": "red",
}


def read(attributes: dict[str, Any], name: str = "span") -> SpanRecord:
    record = SpanRecord(1, 2, name=name)
    semconv.read(attributes, record)
    return record


def test_indexed_prompts_and_completions_are_read() -> None:
    record = read(CHAT)
    assert record.request is not None and record.response is not None
    assert record.request.messages == [
        Message("system", [Text("be brief")]),
        Message("user", [Text("look"), Media("image", "image/png", data="AAAA")]),
        Message("assistant", [ToolCall("call_1", "search", {"q": "x"})]),
        Message("tool", [ToolCallResponse("call_1", "found")]),
    ]
    assert record.response.messages == [
        Message("assistant", [Reasoning("hm"), Text("there")], finish_reason="stop"),
    ]
    assert record.response.finish_reasons == ["stop"]
    assert record.content


def test_model_parameters_usage_and_definitions_are_read() -> None:
    record = read(CHAT)
    assert record.request is not None and record.response is not None
    assert (record.kind, record.provider, record.operation) == ("llm", "anthropic", "chat")
    assert (record.request.model, record.response.model) == ("claude", "claude-2026")
    assert record.request.stream
    assert record.request.parameters == {"temperature": 0.2, "reasoning_effort": "high"}
    assert record.request.tools == [ToolDefinition("search", "Finds.", {"type": "object"})]
    assert record.response.usage == Usage(9, 2, 11, 4)


def test_association_properties_are_session_user_and_metadata() -> None:
    record = read(CHAT)
    assert (record.session_id, record.user_id) == ("t-1", "u-1")
    assert record.metadata["tenant"] == "red"


def test_a_completion_without_messages_is_one_user_message() -> None:
    record = read(
        {
            "llm.request.type": "completion",
            "gen_ai.prompt.0.content": "Once",
            "gen_ai.completion.0.content": "upon",
        }
    )
    assert record.request is not None and record.response is not None
    assert record.request.messages == [Message("user", [Text("Once")])]
    assert record.response.messages == [Message("assistant", [Text("upon")])]


def test_evicted_prompts_are_marked() -> None:
    attributes = {key: value for key, value in CHAT.items() if not key.startswith("gen_ai.prompt.1.")}
    assert read(attributes).truncated


def test_a_decorated_tools_arguments_and_result_are_read() -> None:
    record = read(
        {
            "traceloop.span.kind": "tool",
            "traceloop.entity.name": "search",
            "traceloop.entity.input": '{"args": [], "kwargs": {"q": "x"}}',
            "traceloop.entity.output": '"found"',
        }
    )
    assert record.tool == ToolRequest("search", {"q": "x"})
    assert record.result == ToolResult("found")


def test_a_workflow_is_an_agent_with_input_and_output() -> None:
    record = read(
        {
            "traceloop.span.kind": "workflow",
            "traceloop.entity.name": "travel",
            "traceloop.entity.input": '{"inputs": {"to": "Oslo"}}',
            "traceloop.entity.output": "booked",
        }
    )
    assert (record.kind, record.agent) == ("agent", AgentInfo("travel"))
    assert (record.input, record.output) == ({"inputs": {"to": "Oslo"}}, "booked")
