"""Genkit's attributes, as its libraries for JavaScript and Go write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanrelay import semconv
from spanrelay.records import (
    AgentInfo,
    ErrorInfo,
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

ASKED: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": [{"text": "be brief"}]},
        {"role": "user", "content": [{"text": "look"}, {"media": {"url": "data:image/png;base64,AAAA"}}]},
        {"role": "model", "content": [{"toolRequest": {"name": "search", "ref": "call_1", "input": {"q": "x"}}}]},
        {"role": "tool", "content": [{"toolResponse": {"name": "search", "ref": "call_1", "output": "found"}}]},
    ],
    "config": {"temperature": 0.2, "topK": 3, "apiKey": "secret"},
    "tools": [{"name": "search", "description": "Finds.", "inputSchema": {"type": "object"}}],
}
TOLD: dict[str, Any] = {
    "message": {"role": "model", "content": [{"reasoning": "hm"}, {"text": "there"}]},
    "finishReason": "stop",
    "usage": {"inputTokens": 9, "outputTokens": 2, "totalTokens": 11, "cachedContentTokens": 4},
    "custom": {"id": "answer-1", "model": "gpt-4.1-2025"},
}


def action(subtype: str, **more: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {"genkit:type": "action", "genkit:metadata:subtype": subtype}
    for name, value in more.items():
        attributes[f"genkit:{name}"] = json.dumps(value) if name in ("input", "output") else value
    return attributes


def read(attributes: dict[str, Any], name: str = "span") -> SpanRecord:
    record = SpanRecord(1, 2, name=name)
    semconv.read(attributes, record)
    return record


def test_a_models_span_is_a_call_with_its_messages() -> None:
    record = read(action("model", name="openai/gpt-4.1", input=ASKED, output=TOLD))
    assert record.request is not None and record.response is not None
    assert (record.kind, record.provider, record.request.model, record.dialect) == (
        "llm",
        "openai",
        "gpt-4.1",
        "genkit",
    )
    assert record.request.messages == [
        Message("system", [Text("be brief")]),
        Message("user", [Text("look"), Media("image", "image/png", data="AAAA")]),
        Message("assistant", [ToolCall("call_1", "search", {"q": "x"})]),
        Message("tool", [ToolCallResponse("call_1", "found", "search")]),
    ]
    assert record.response.messages == [Message("assistant", [Reasoning("hm"), Text("there")])]


def test_parameters_tools_usage_and_the_providers_words_are_read_and_no_other_configuration() -> None:
    record = read(action("model", name="openai/gpt-4.1", input=ASKED, output=TOLD))
    assert record.request is not None and record.response is not None
    assert record.request.parameters == {"temperature": 0.2, "top_k": 3}
    assert record.request.tools == [ToolDefinition("search", "Finds.", {"type": "object"})]
    assert record.response.usage == Usage(9, 2, 11, 4)
    assert (record.response.id, record.response.model) == ("answer-1", "gpt-4.1-2025")
    assert record.response.finish_reasons == ["stop"]


def test_cached_tokens_that_are_in_the_providers_answer_alone_are_read_there() -> None:
    raw = {"usage": {"prompt_tokens_details": {"cached_tokens": 4}}}
    record = read(action("model", input=ASKED, output={**TOLD, "usage": {"inputTokens": 9}, "raw": raw}))
    assert record.response is not None and record.response.usage is not None
    assert (record.response.usage.input_tokens, record.response.usage.cache_read_tokens) == (9, 4)


@pytest.mark.parametrize(("subtype", "output"), [("tool", "found"), ("tool.v2", {"output": "found"})])
def test_a_tools_span_has_arguments_and_what_it_gave(subtype: str, output: Any) -> None:
    record = read(action(subtype, name="search", input={"q": "x"}, output=output))
    assert (record.kind, record.tool, record.result) == ("tool", ToolRequest("search", {"q": "x"}), ToolResult("found"))


def test_what_a_tool_gave_beside_its_output_is_kept() -> None:
    given = {"output": "found", "content": [{"text": "more"}]}
    assert read(action("tool.v2", output=given)).result == ToolResult(given)


def test_the_outermost_flow_is_the_agent_and_a_generation_is_no_call() -> None:
    outer = read(action("flow", name="weatherAgent", isRoot=True, input="Rome?", output="sunny"))
    assert (outer.kind, outer.agent, outer.input, outer.output) == (
        "agent",
        AgentInfo("weatherAgent"),
        "Rome?",
        "sunny",
    )
    assert read(action("flow", name="weatherAgent", input="Rome?")).kind == "chain"
    assert read({"genkit:type": "util", "genkit:name": "generate", "genkit:input": json.dumps(ASKED)}).kind is None


def test_a_state_of_failure_is_an_error_where_the_span_has_no_status() -> None:
    assert read(action("tool", name="search", state="error")).error == ErrorInfo("error")


@pytest.mark.parametrize("value", ["", "{", "7", '{"messages": 7, "tools": {}, "config": []}', '{"messages": [7, {}]}'])
def test_whatever_stands_in_input_and_output_nothing_is_raised(value: str) -> None:
    assert read({**action("model"), "genkit:input": value, "genkit:output": value}).kind == "llm"
