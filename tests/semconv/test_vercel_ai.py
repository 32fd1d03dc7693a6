"""The attributes that Vercel's AI SDK writes of itself, `ai.*`, in the forms of its versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

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

MESSAGES: list[Any] = [
    {"role": "system", "content": "be brief"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "look"},
            {"type": "file", "mediaType": "image/png", "data": "AAAA"},
        ],
    },
    {
        "role": "assistant",
        "content": [
            {"type": "reasoning", "text": "hm"},
            {"type": "tool-call", "toolCallId": "call_1", "toolName": "search", "input": {"q": "x"}},
        ],
    },
    {
        "role": "tool",
        "content": [
            {
                "type": "tool-result",
                "toolCallId": "call_1",
                "toolName": "search",
                "output": {"type": "error-text", "value": "nothing"},
            }
        ],
    },
]

REQUEST: dict[str, Any] = {
    "ai.operationId": "ai.streamText.doStream",
    "ai.telemetry.functionId": "finder",
    "ai.model.provider": "openai.responses",
    "ai.model.id": "m-1",
    "ai.settings.temperature": 0.2,
    "ai.settings.maxOutputTokens": 100,
    "ai.settings.context.sessionId": "s-1",
    "ai.telemetry.metadata.userId": "u-1",
    "ai.telemetry.metadata.tenant": "red",
    "ai.prompt.messages": json.dumps(MESSAGES),
    "ai.prompt.tools": ['{"type":"function","name":"search","inputSchema":{"type":"object"},"description":"Finds."}'],
    "ai.prompt.toolChoice": '{"type":"auto"}',
    "gen_ai.system": "openai.responses",
    "gen_ai.request.model": "m-1",
    "ai.response.reasoning": "again",
    "ai.response.text": "",
    "ai.response.toolCalls": '[{"toolCallId":"call_2","toolName":"search","input":"{\\"q\\":\\"y\\"}"}]',
    "ai.response.id": "r-1",
    "ai.response.model": "m-1-2026",
    "ai.response.finishReason": "tool-calls",
    "ai.response.msToFirstChunk": 250,
    "ai.usage.inputTokens": 9,
    "ai.usage.outputTokens": 2,
    "ai.usage.totalTokens": 11,
    "ai.usage.cachedInputTokens": 4,
    "ai.usage.reasoningTokens": 1,
    "gen_ai.usage.input_tokens": 9,
}


def read(attributes: dict[str, Any], name: str = "span") -> SpanRecord:
    record = SpanRecord(1, 2, name=name)
    semconv.read(attributes, record)
    return record


def test_messages_of_a_request_are_read() -> None:
    record = read(REQUEST)
    assert record.request is not None
    assert record.request.messages == [
        Message("system", [Text("be brief")]),
        Message("user", [Text("look"), Media("image", "image/png", data="AAAA")]),
        Message("assistant", [Reasoning("hm"), ToolCall("call_1", "search", {"q": "x"})]),
        Message("tool", [ToolCallResponse("call_1", "nothing", "search", is_error=True)]),
    ]


def test_an_answer_is_read_with_its_calls() -> None:
    record = read(REQUEST)
    assert record.response is not None
    parts = [Reasoning("again"), ToolCall("call_2", "search", {"q": "y"})]
    assert record.response.messages == [Message("assistant", parts, finish_reason="tool-calls")]
    assert (record.response.id, record.response.model) == ("r-1", "m-1-2026")
    assert record.response.finish_reasons == ["tool-calls"]
    assert record.response.usage == Usage(9, 2, 11, 4, None, 1)
    assert record.time_to_first_chunk == 0.25


def test_parameters_tools_and_provider_are_read() -> None:
    record = read(REQUEST)
    assert record.request is not None
    assert (record.dialect, record.kind, record.operation, record.provider) == ("vercel_ai", "llm", "chat", "openai")
    assert (record.request.model, record.request.stream) == ("m-1", True)
    assert record.request.parameters == {"temperature": 0.2, "max_tokens": 100, "tool_choice": {"type": "auto"}}
    assert record.request.tools == [ToolDefinition("search", "Finds.", {"type": "object"})]


def test_what_a_program_says_of_itself_is_session_user_and_metadata() -> None:
    record = read(REQUEST)
    assert (record.session_id, record.user_id) == ("s-1", "u-1")
    assert record.metadata["tenant"] == "red"


def test_the_words_of_older_versions_are_read() -> None:
    record = read(
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.prompt.messages": json.dumps(
                [
                    {"role": "user", "content": [{"type": "image", "image": "https://x.org/a.png"}]},
                    {
                        "role": "tool",
                        "content": [{"type": "tool-result", "toolCallId": "c", "toolName": "t", "result": {"a": 1}}],
                    },
                ]
            ),
            "ai.result.text": "there",
            "ai.result.toolCalls": '[{"toolCallId":"c2","toolName":"t","args":{"b":2}}]',
            "ai.finishReason": "stop",
            "ai.usage.promptTokens": 3,
            "ai.usage.completionTokens": 1,
        }
    )
    assert record.request is not None
    assert record.response is not None
    assert record.request.messages == [
        Message("user", [Media("image", uri="https://x.org/a.png")]),
        Message("tool", [ToolCallResponse("c", {"a": 1}, "t")]),
    ]
    assert record.response.messages[0].parts == [Text("there"), ToolCall("c2", "t", {"b": 2})]
    assert record.response.usage == Usage(3, 1)


@pytest.mark.parametrize(
    ("output", "content", "failed"),
    [
        ({"type": "text", "value": "sunny"}, "sunny", False),
        ({"type": "json", "value": {"sky": "blue"}}, {"sky": "blue"}, False),
        ({"type": "error-json", "value": {"code": 1}}, {"code": 1}, True),
        ({"type": "execution-denied", "reason": "not now"}, "not now", True),
        ({"type": "content", "value": [{"type": "text", "text": "a"}]}, [Text("a")], False),
    ],
)
def test_a_result_is_what_its_output_says(output: dict[str, Any], content: Any, failed: bool) -> None:
    said = [
        {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "c", "toolName": "t", "output": output}]}
    ]
    record = read({"ai.operationId": "ai.generateText.doGenerate", "ai.prompt.messages": json.dumps(said)})
    assert record.request is not None
    assert record.request.messages[0].parts == [ToolCallResponse("c", content, "t", failed)]


def test_a_tools_run_is_read_out_of_json() -> None:
    record = read(
        {
            "ai.operationId": "ai.toolCall",
            "ai.toolCall.name": "weather",
            "ai.toolCall.id": "c1",
            "ai.toolCall.args": '{"city":"Rome"}',
            "ai.toolCall.result": '"sunny"',
        }
    )
    assert (record.kind, record.content) == ("tool", True)
    assert record.tool == ToolRequest("weather", {"city": "Rome"}, "c1")
    assert record.result == ToolResult("sunny")


def test_the_programs_call_is_an_agents_run_without_usage() -> None:
    record = read(
        {
            "ai.operationId": "ai.generateText",
            "ai.telemetry.functionId": "finder",
            "ai.prompt": '{"system":"be brief","messages":[{"role":"user","content":"hi"}]}',
            "ai.response.text": "hello",
            "ai.usage.inputTokens": 9,
        }
    )
    assert (record.kind, record.agent) == ("agent", AgentInfo("finder"))
    assert record.request is not None
    assert record.response is not None
    assert record.request.system == [Text("be brief")]
    assert record.request.messages == [Message("user", [Text("hi")])]
    assert (record.response.text, record.response.usage) == ("hello", None)


@pytest.mark.parametrize(
    ("word", "provider"),
    [
        ("openai.chat", "openai"),
        ("anthropic.messages", "anthropic"),
        ("azure-openai.chat", "azure.ai.openai"),
        ("google.generative-ai", "gcp.gemini"),
        ("google.vertex.chat", "gcp.vertex_ai"),
        ("amazon-bedrock", "aws.bedrock"),
        ("mistral.chat", "mistral_ai"),
    ],
)
def test_a_provider_is_named_without_its_api(word: str, provider: str) -> None:
    assert read({"ai.operationId": "ai.generateText.doGenerate", "ai.model.provider": word}).provider == provider


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("ai.generateObject.doGenerate", "llm"),
        ("ai.streamObject", "agent"),
        ("ai.embed.doEmbed", "embedder"),
        ("ai.embedMany", "chain"),
        ("ai.toolCall", "tool"),
    ],
)
def test_the_operation_tells_the_kind(operation: str, kind: str) -> None:
    assert semconv.kind_of({"ai.operationId": operation, "gen_ai.request.model": "m"}) == kind


def test_what_was_embedded_are_the_messages() -> None:
    record = read({"ai.operationId": "ai.embedMany.doEmbed", "ai.values": ['"a"', '"b"'], "ai.usage.tokens": 2})
    assert record.request is not None
    assert record.response is not None
    assert [message.text for message in record.request.messages] == ["a", "b"]
    assert record.response.usage == Usage(2)


def test_a_call_without_content_says_that_it_was_not_recorded() -> None:
    assert not read({"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "m"}).content
