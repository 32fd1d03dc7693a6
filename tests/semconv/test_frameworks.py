"""Frameworks that have names of their own for what a convention has one for, as their SDKs write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanrelay import semconv
from spanrelay.records import (
    AgentInfo,
    ErrorInfo,
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

CALLS = [{"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"q": "x"}'}}]
HISTORY = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "look"},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "call_1", "content": "found"},
]
TOOLS = [
    {"type": "function", "function": {"name": "search", "description": "Finds.", "parameters": {"type": "object"}}}
]
READ = [
    Message("system", [Text("be brief")]),
    Message("user", [Text("look")]),
    Message("assistant", [ToolCall("call_1", "search", {"q": "x"})]),
    Message("tool", [ToolCallResponse("call_1", "found")]),
]


def read(attributes: dict[str, Any], name: str = "span", error: str | None = None) -> SpanRecord:
    record = SpanRecord(1, 2, name=name)
    record.error = ErrorInfo("error", error) if error is not None else None
    semconv.read(attributes, record)
    return record


def langsmith(kind: str, **more: Any) -> dict[str, Any]:
    operation = {"llm": "chat", "tool": "execute_tool", "retriever": "embeddings", "prompt": "chat"}.get(kind, kind)
    return {"langsmith.span.kind": kind, "gen_ai.operation.name": operation, "gen_ai.system": "openai", **more}


def test_a_run_of_langsmiths_wrapped_client_is_a_call() -> None:
    answer = {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "there"}}]}
    record = read(
        langsmith(
            "llm",
            **{
                "gen_ai.prompt": json.dumps({"messages": HISTORY, "tools": TOOLS, "temperature": 0.2}),
                "gen_ai.completion": json.dumps(answer),
                "gen_ai.usage.input_tokens": 9,
                "gen_ai.usage.output_tokens": 2,
                "gen_ai.usage.input_token_details": "{'cache_read': 4}",
                "gen_ai.usage.output_token_details": "{'reasoning': 1}",
                "langsmith.metadata.thread_id": "t-1",
                "langsmith.trace.session_id": "a project",
            },
        )
    )
    assert record.request is not None and record.response is not None
    assert (record.kind, record.session_id) == ("llm", "t-1")
    assert record.request.messages == READ
    assert record.request.tools == [ToolDefinition("search", "Finds.", {"type": "object"})]
    assert record.request.parameters == {"temperature": 0.2}
    assert record.response.messages == [Message("assistant", [Text("there")], finish_reason="stop")]
    assert record.response.usage == Usage(9, 2, None, 4, None, 1)


def constructor(name: str, **fields: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": fields}


def test_a_run_of_langchains_model_is_a_call() -> None:
    asked = [
        constructor("SystemMessage", content="be brief", type="system"),
        constructor("HumanMessage", content="look", type="human"),
        constructor(
            "AIMessage",
            content=[{"type": "tool_use", "id": "call_1", "name": "search", "input": {"q": "x"}}],
            tool_calls=[{"name": "search", "args": {"q": "x"}, "id": "call_1", "type": "tool_call"}],
        ),
        constructor("ToolMessage", content="found", tool_call_id="call_1", status="error"),
    ]
    usage = {"input_token_details": {"cache_read": 4}, "output_token_details": {"reasoning": 1}}
    more = {"usage_metadata": usage, "response_metadata": {"model_name": "m-2026", "id": "r-1"}}
    said = constructor("AIMessageChunk", content="there", **more)
    answer = {"generations": [[{"text": "there", "message": said, "generation_info": {"finish_reason": "stop"}}]]}
    record = read(
        langsmith(
            "llm", **{"gen_ai.prompt": json.dumps({"messages": [asked]}), "gen_ai.completion": json.dumps(answer)}
        )
    )
    assert record.request is not None and record.response is not None
    assert record.request.messages == [*READ[:3], Message("tool", [ToolCallResponse("call_1", "found", is_error=True)])]
    assert record.response.messages == [Message("assistant", [Text("there")], finish_reason="stop")]
    assert record.response.usage == Usage(cache_read_tokens=4, reasoning_tokens=1)
    assert (record.response.model, record.response.id) == ("m-2026", "r-1")


@pytest.mark.parametrize("kind", ["retriever", "chain", "prompt", "parser"])
def test_a_run_of_langsmiths_that_is_no_models_is_no_call(kind: str) -> None:
    record = read(langsmith(kind, **{"gen_ai.prompt": '{"question": "look"}', "gen_ai.completion": '{"output": 7}'}))
    assert record.kind == ("retriever" if kind == "retriever" else "chain")
    assert (record.input, record.output) == ({"question": "look"}, {"output": 7})


@pytest.mark.parametrize("given", ['{"q": "x"}', "{\"input\": \"{'q': 'x'}\"}"])
def test_a_tools_run_of_langsmiths_has_arguments_and_what_it_gave(given: str) -> None:
    told = {"gen_ai.tool.name": "search", "gen_ai.prompt": given, "gen_ai.completion": '{"output": "found"}'}
    record = read(langsmith("tool", **told))
    assert (record.tool, record.result) == (ToolRequest("search", {"q": "x"}), ToolResult("found"))


def langfuse(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "langfuse.observation.type": kind,
        "session.id": "s-1",
        **{
            f"langfuse.observation.{key}": value if isinstance(value, str) else json.dumps(value)
            for key, value in more.items()
        },
    }


def test_a_generation_of_langfuse_is_a_call() -> None:
    record = read(
        {
            **langfuse(
                "generation",
                input={"tools": TOOLS, "messages": HISTORY},
                output={"role": "assistant", "content": None, "tool_calls": CALLS},
                usage_details={
                    "prompt_tokens": 9,
                    "completion_tokens": 2,
                    "prompt_tokens_details": {"cached_tokens": 4},
                },
                cost_details={"total": 0.5},
            ),
            "langfuse.observation.model.name": "gpt-4.1",
            "langfuse.observation.model.parameters": '{"temperature": 0.2, "max_tokens": "Infinity"}',
        }
    )
    assert record.request is not None and record.response is not None
    assert (record.kind, record.session_id, record.request.model) == ("llm", "s-1", "gpt-4.1")
    assert record.request.messages == READ
    assert record.request.parameters == {"temperature": 0.2}
    assert [tool.name for tool in record.request.tools] == ["search"]
    assert record.response.messages == [READ[2]]
    assert record.response.usage == Usage(9, 2, None, 4, cost_usd=0.5)


def test_counts_that_langfuse_has_without_their_parts_are_whole_again() -> None:
    details = {"input": 5, "input_cache_read": 4, "input_priority": 3, "output": 1, "output_reasoning": 2, "total": 12}
    record = read(langfuse("generation", input="look", output="there", usage_details=details))
    assert record.response is not None
    assert record.response.usage == Usage(9, 3, None, 4, None, 2)


def test_tools_that_langfuse_puts_among_langchains_messages_are_no_messages() -> None:
    asked = [*HISTORY, {"role": "tool", "content": TOOLS[0]}]
    record = read(langfuse("generation", input=asked, output={"role": "assistant", "content": "there"}))
    assert record.request is not None
    assert record.request.messages == READ
    assert [tool.name for tool in record.request.tools] == ["search"]


def test_calls_that_stand_among_the_content_too_are_read_once() -> None:
    block = {"type": "function_call", "call_id": "call_1", "name": "search", "arguments": '{"q": "x"}'}
    call = {"name": "search", "args": {"q": "x"}, "id": "call_1", "type": "tool_call"}
    record = read(langfuse("generation", output={"role": "assistant", "content": [block], "tool_calls": [call]}))
    assert record.response is not None
    assert record.response.messages == [READ[2]]


def test_bare_texts_are_a_users_and_the_models() -> None:
    record = read(langfuse("generation", input="look", output="there"))
    assert record.request is not None and record.response is not None
    assert record.request.messages == [Message("user", [Text("look")])]
    assert record.response.messages == [Message("assistant", [Text("there")])]


def test_an_observed_functions_arguments_are_those_given_by_name() -> None:
    record = read(langfuse("tool", input={"args": [], "kwargs": {"q": "x"}}, output="found"), "search")
    assert (record.kind, record.tool, record.result) == ("tool", ToolRequest("search", {"q": "x"}), ToolResult("found"))


def logfire(template: str, **more: Any) -> dict[str, Any]:
    told = {key: value if isinstance(value, str) else json.dumps(value) for key, value in more.items()}
    return {"logfire.msg_template": template, "gen_ai.system": "openai", **told}


def test_a_response_of_the_agents_sdk_is_a_call() -> None:
    items = [
        {"type": "function_call", "call_id": "call_1", "id": "fc_1", "name": "search", "arguments": '{"q": "x"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "found"},
    ]
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "there"}]}
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
    record = read(
        logfire(
            "Responses API with {gen_ai.request.model!r}",
            raw_input=[{"role": "user", "content": "look"}, *items],
            response={"instructions": "be brief", "output": [thought, said], "tools": []},
        )
    )
    assert record.request is not None and record.response is not None
    assert record.request.system == [Text("be brief")]
    assert record.request.messages == READ[1:]
    assert record.response.messages == [Message("assistant", [Reasoning("hm", "rs_1"), Text("there")])]


def test_a_chat_completion_of_the_agents_sdk_is_a_call() -> None:
    usage = {"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}
    template = "Chat completion with {gen_ai.request.model!r}"
    record = read(logfire(template, input=HISTORY, output=[{"role": "assistant", "content": "there"}], usage=usage))
    assert record.request is not None and record.response is not None
    assert (record.kind, record.request.messages) == ("llm", READ)
    assert record.response.messages == [Message("assistant", [Text("there")])]
    assert record.response.usage == Usage(9, 2, None, 4)


def test_tools_and_agents_of_the_agents_sdk_are_known_by_their_templates() -> None:
    tool = read(logfire("Function: {name}", name="search", input='{"q": "x"}', output="found"))
    assert (tool.kind, tool.tool, tool.result) == ("tool", ToolRequest("search", {"q": "x"}), ToolResult("found"))
    agent = read(logfire("Agent run: {name!r}", name="helper"))
    assert (agent.kind, agent.agent) == ("agent", AgentInfo("helper"))


def test_a_group_names_the_session_unless_logfire_has_scrubbed_it() -> None:
    trace = "OpenAI Agents trace: {name}"
    assert read({"logfire.msg_template": trace, "group_id": "g-1"}).session_id == "g-1"
    assert read({"logfire.msg_template": trace, "group_id": "[Scrubbed due to 'session']"}).session_id is None


def test_other_spans_of_logfire_are_left_alone() -> None:
    assert read({"logfire.msg_template": "mine", "name": "search", "input": "x"}).kind is None


def test_a_tool_of_spring_ai_is_read_and_the_quotes_of_its_result_are_off() -> None:
    record = read(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.system": "spring_ai",
            "spring.ai.kind": "tool_call",
            "spring.ai.tool.definition.name": "search",
            "spring.ai.tool.definition.description": "Finds.",
            "spring.ai.tool.call.id": "call_1",
            "spring.ai.tool.call.arguments": '{"q": "x"}',
            "spring.ai.tool.call.result": '"found"',
        }
    )
    assert record.tool == ToolRequest("search", {"q": "x"}, "call_1", "Finds.")
    assert record.result == ToolResult("found")


def test_a_call_of_spring_ai_whose_attributes_are_all_texts_is_read() -> None:
    record = read(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4.1",
            "gen_ai.request.temperature": "0.2",
            "gen_ai.request.stream": "true",
            "gen_ai.response.finish_reasons": '["STOP"]',
            "gen_ai.usage.input_tokens": "9",
            "spring.ai.model.request.tool.names": '["search"]',
        }
    )
    assert record.request is not None and record.response is not None
    assert (record.request.parameters, record.request.stream) == ({"temperature": 0.2}, True)
    assert (record.response.finish_reasons, record.response.usage) == (["STOP"], Usage(9))
    assert record.request.tools == [ToolDefinition("search")]


def test_googles_own_parts_are_read_from_the_agent_development_kit() -> None:
    asked = {
        "contents": [
            {"role": "user", "parts": [{"text": "look"}]},
            {"role": "model", "parts": [{"function_call": {"id": "call_1", "name": "search", "args": {"q": "x"}}}]},
            {
                "role": "user",
                "parts": [{"function_response": {"id": "call_1", "name": "search", "response": {"a": 1}}}],
            },
        ],
        "config": {
            "system_instruction": "be brief",
            "tools": [{"function_declarations": [{"name": "search", "parameters": {"type": "object"}}]}],
        },
    }
    told = {"content": {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "there"}]}}
    record = read(
        {
            "gen_ai.system": "gcp.vertex.agent",
            "gen_ai.request.model": "gemini",
            "gcp.vertex.agent.session_id": "s-1",
            "gcp.vertex.agent.llm_request": json.dumps(asked),
            "gcp.vertex.agent.llm_response": json.dumps(told),
        }
    )
    assert record.request is not None and record.response is not None
    assert (record.kind, record.session_id, record.request.system) == ("llm", "s-1", [Text("be brief")])
    assert record.request.messages == [
        Message("user", [Text("look")]),
        Message("assistant", [ToolCall("call_1", "search", {"q": "x"})]),
        Message("user", [ToolCallResponse("call_1", {"a": 1}, "search")]),
    ]
    assert [tool.name for tool in record.request.tools] == ["search"]
    assert record.response.messages == [Message("assistant", [Reasoning("hm"), Text("there")])]


def test_googles_own_parts_are_read_in_messages_of_the_convention() -> None:
    parts = [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}, {"fileData": {"fileUri": "https://a.b/c.pdf"}}]
    record = read(
        {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}])}
    )
    assert record.request is not None
    kinds = [(part.modality, part.data, part.uri) for part in record.request.messages[0].parts if hasattr(part, "data")]
    assert kinds == [("image", "AAAA", None), ("document", None, "https://a.b/c.pdf")]


def test_a_model_call_without_an_operation_is_known_by_the_model_it_asks_for() -> None:
    record = read({"gen_ai.request.model": "gpt-4.1", "gen_ai.usage.prompt_tokens": 9, "gen_ai.prompt": "look"})
    assert record.request is not None and record.response is not None
    assert (record.kind, record.request.model, record.response.usage) == ("llm", "gpt-4.1", Usage(9))
    assert record.request.messages == [Message("user", [Text("look")])]


@pytest.mark.parametrize(
    "value", ["", "{", "7", "[]", "[[], 7]", '{"messages": 7}', '{"output": {}}', '{"choices": [7]}']
)
@pytest.mark.parametrize("kind", ["generation", "tool", "agent"])
def test_whatever_stands_in_input_and_output_nothing_is_raised(kind: str, value: str) -> None:
    told = dict.fromkeys(("input", "output", "usage_details", "model.parameters", "cost_details"), value)
    assert read(langfuse(kind, **told)).session_id == "s-1"
