"""The table of dialects: what each writes beside its own names, and how spans in several are read."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from spanrelay import semconv
from spanrelay._json import dumps_text
from spanrelay.errors import ConfigurationError
from spanrelay.records import (
    AgentInfo,
    ErrorInfo,
    Mark,
    Message,
    ModelRequest,
    ModelResponse,
    SpanRecord,
    Text,
    ToolCall,
    ToolRequest,
    ToolResult,
    Usage,
)
from spanrelay.semconv import genai, openinference

ASK = Message("user", [Text("hi")])
CHAT = SpanRecord(
    1,
    2,
    kind="llm",
    provider="azure.ai.openai",
    session_id="s-1",
    user_id="u-1",
    metadata={"team": "red"},
    agent=AgentInfo("planner"),
    request=ModelRequest("gpt", [ASK], parameters={"temperature": 0.5, "choice_count": 1}),
    response=ModelResponse(
        "r-1",
        "gpt-2026",
        [Message("assistant", [Text("hello")], finish_reason="stop")],
        ["stop"],
        Usage(5, 2, 7, 3, 1, 0, cost_usd=0.25),
    ),
)


def read(attributes: dict[str, Any], error: ErrorInfo | None = None) -> SpanRecord:
    record = SpanRecord(1, 2, name="span", error=error)
    semconv.read(attributes, record)
    return record


def test_the_exit_code_of_a_command_that_a_tool_ran_is_read() -> None:
    told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "bash", "process.exit.code": 3}
    result = read({**told, "gen_ai.tool.call.result": "oops"}).result
    assert result == ToolResult("oops", exit_code=3)
    assert read(told).result == ToolResult(None, exit_code=3)


def test_the_start_has_what_samplers_need() -> None:
    assert semconv.write_start(CHAT, "genai") == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "gpt",
        "gen_ai.conversation.id": "s-1",
        "user.id": "u-1",
        "gen_ai.agent.name": "planner",
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt",
        "llm.provider": "azure",
        "llm.system": "openai",
        "session.id": "s-1",
        "agent.name": "planner",
    }


def test_the_default_end_is_genai_with_openinferences_scalars() -> None:
    assert semconv.write(CHAT, "genai", content=True) == {
        "gen_ai.request.temperature": 0.5,
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
        "gen_ai.response.id": "r-1",
        "gen_ai.response.model": "gpt-2026",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.cache_creation.input_tokens": 1,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"hello"}],'
        '"finish_reason":"stop"}]',
        "metadata": '{"team":"red"}',
        "llm.model_name": "gpt-2026",
        "llm.token_count.prompt": 5,
        "llm.token_count.completion": 2,
        "llm.token_count.total": 7,
        "llm.token_count.prompt_details.cache_read": 3,
        "llm.token_count.prompt_details.cache_write": 1,
        "llm.token_count.completion_details.reasoning": 0,
        "llm.cost.total": 0.25,
    }


def test_openinference_is_flattened_with_genais_operation_provider_and_model() -> None:
    attributes = {
        **semconv.write_start(CHAT, "openinference"),
        **semconv.write(CHAT, "openinference", content=True),
    }
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.provider.name"] == "azure.ai.openai"
    assert attributes["gen_ai.request.model"] == "gpt"
    assert attributes["llm.input_messages.0.message.role"] == "user"
    assert attributes["llm.input_messages.0.message.content"] == "hi"
    assert attributes["llm.output_messages.0.message.content"] == "hello"
    assert attributes["llm.invocation_parameters"] == '{"model":"gpt","temperature":0.5,"n":1}'
    assert (attributes["input.value"], attributes["input.mime_type"]) == ("hi", "text/plain")
    assert attributes["output.value"] == "hello"
    assert "gen_ai.input.messages" not in attributes


@pytest.mark.parametrize("write", [semconv.write_start, lambda r, d: semconv.write(r, d, content=True)])
def test_an_unknown_dialect_is_a_configuration_error_that_names_the_choices(write: Any) -> None:
    with pytest.raises(ConfigurationError, match="'traceloop': expected 'genai' or 'openinference'"):
        write(CHAT, "traceloop")


def test_a_tool_that_answers_with_an_error_has_an_error_type_but_no_exception() -> None:
    record = SpanRecord(1, 2, kind="tool", tool=ToolRequest("f", {}), result=ToolResult("no", is_error=True))
    for dialect in semconv.DIALECTS:
        attributes = {**semconv.write_start(record, dialect), **semconv.write(record, dialect, content=True)}
        assert attributes["error.type"] == "tool_error"
        back = read(attributes)
        assert back.error is None
        assert back.result == ToolResult("no", is_error=True)


def test_a_providers_error_body_is_the_spans_error() -> None:
    record = SpanRecord(1, 2, kind="llm", request=ModelRequest("m", [ASK]))
    record.response = ModelResponse(error=ErrorInfo("rate_limit_error", "slow down", "rate_limit", 429))
    attributes = semconv.write(record, content=True)
    assert attributes["error.type"] == "rate_limit_error"
    assert "http.response.status_code" not in attributes  # HTTP may have said 200
    assert read(attributes).error == ErrorInfo("rate_limit_error", code="rate_limit")


def test_what_the_span_says_of_its_exception_is_kept() -> None:
    known = ErrorInfo("openai.RateLimitError", "slow down")
    assert read({"gen_ai.operation.name": "chat", "error.type": "RateLimitError"}, known).error is known
    assert known.type == "openai.RateLimitError"


def test_a_span_with_status_only_gets_its_error_type_from_the_attribute() -> None:
    record = read({"gen_ai.operation.name": "chat", "error.type": "TimeoutError"}, ErrorInfo("", "too slow"))
    assert record.error == ErrorInfo("TimeoutError", "too slow")


def test_no_message_list_is_put_together_from_two_dialects() -> None:
    record = read(
        {
            "openinference.span.kind": "LLM",
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "hi",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.content": "hello",
            "llm.invocation_parameters": '{"reasoning": {"effort": "low"}, "max_completion_tokens": 9}',
        }
    )
    assert record.request is not None and record.response is not None
    assert record.request.messages == [ASK]
    assert record.response.messages == [Message("assistant", [Text("hello")])]
    assert record.request.parameters == {"reasoning_effort": "low", "max_tokens": 9}


def test_cache_writes_are_read_under_both_names() -> None:
    for name in ("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"):
        response = read({"gen_ai.operation.name": "chat", name: 4, "gen_ai.usage.input_tokens": 9}).response
        assert response is not None and response.usage == Usage(9, cache_write_tokens=4)


def test_an_input_count_without_the_cached_tokens_is_made_whole() -> None:
    attributes = {"gen_ai.usage.input_tokens": 3, "gen_ai.usage.cache_read.input_tokens": 100}
    response = read({"gen_ai.operation.name": "chat", **attributes}).response
    assert response is not None and response.usage is not None
    assert response.usage.input_tokens == 103


def test_usage_of_an_agent_is_left_to_its_model_calls() -> None:
    record = read(
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 3, "gen_ai.output.messages": "[]"}
    )
    assert record.response is not None and record.response.usage is None


@pytest.mark.parametrize("messages", ['[{"role":"user","parts":[{"type":"text","content":"very lo', "[", '{"a'])
def test_messages_that_a_length_limit_cut_are_marked(messages: str) -> None:
    record = read({"gen_ai.operation.name": "chat", "gen_ai.input.messages": messages})
    assert record.truncated
    assert record.request is not None and record.request.messages == []


@pytest.mark.parametrize(("indices", "truncated"), [((0, 1), False), ((1, 2), False), ((0, 2), True), ((4, 5), True)])
def test_messages_that_an_attribute_limit_evicted_are_marked(indices: tuple[int, ...], truncated: bool) -> None:
    leaves = {f"llm.input_messages.{n}.message.role": "user" for n in indices}
    assert read({"openinference.span.kind": "LLM", **leaves}).truncated is truncated


def test_a_message_that_lost_its_role_is_marked_and_kept() -> None:
    leaves = {"llm.input_messages.0.message.tool_calls.0.tool_call.function.name": "f"}
    record = read({"openinference.span.kind": "LLM", **leaves})
    assert record.truncated
    assert record.request is not None
    assert record.request.messages == [Message("assistant", [ToolCall(None, "f")])]


def test_calls_without_any_content_say_so() -> None:
    assert not read({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}).content
    assert not read({"openinference.span.kind": "LLM", "llm.model_name": "m"}).content
    assert not read({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "f"}).content
    assert not read({"traceloop.span.kind": "tool", "traceloop.entity.name": "f"}).content
    assert read({"gen_ai.operation.name": "invoke_agent"}).content


def test_parts_whose_content_was_left_out_say_so() -> None:
    messages = dumps_text([{"role": "user", "parts": [{"type": "text"}]}])
    record = read({"gen_ai.operation.name": "chat", "gen_ai.input.messages": messages})
    assert not record.content


def test_values_that_openinference_hides_are_no_content() -> None:
    hidden = {"input.value": "__REDACTED__", "output.value": "__REDACTED__", "tool.name": "f"}
    record = read({"openinference.span.kind": "TOOL", **hidden})
    assert not record.content
    assert record.tool == ToolRequest("f")
    assert record.result is None


@pytest.mark.parametrize(
    ("args", "kwargs", "arguments"),
    [
        ([], {"city": "Oslo"}, {"city": "Oslo"}),
        (["Oslo"], {"days": 2}, {"city": "Oslo", "days": 2}),
        (["Oslo", 2], {}, {"city": "Oslo", "days": 2}),
    ],
)
def test_a_tools_python_call_is_read_as_its_arguments_and_not_its_schema(
    args: Any, kwargs: Any, arguments: Any
) -> None:
    properties = {"city": {"type": "string", "description": "The city."}, "days": {"type": "integer"}}
    given = {"args": args, "sanitize_inputs_outputs": True, "kwargs": kwargs}
    for schema in (properties, {"type": "object", "properties": properties}):
        tool = {"tool.name": "forecast", "tool.parameters": dumps_text(schema), "input.value": dumps_text(given)}
        assert read({"openinference.span.kind": "TOOL", **tool}).tool == ToolRequest("forecast", arguments)


@pytest.mark.parametrize(
    ("span", "attributes", "agent"),
    [
        ("weather.run", {}, AgentInfo("weather")),
        ("weather.run", {"agent.name": "rain"}, AgentInfo("rain")),
        ("weather", {}, None),
    ],
)
def test_an_agent_that_only_its_span_names_is_read(span: str, attributes: Any, agent: AgentInfo | None) -> None:
    record = SpanRecord(1, 2, name=span)
    semconv.read({"openinference.span.kind": "AGENT", **attributes}, record)
    assert record.agent == agent


def test_structured_attributes_are_read_like_json() -> None:
    parts = (MappingProxyType({"type": "text", "content": "hi"}),)
    messages = (MappingProxyType({"role": "user", "parts": parts}),)
    record = read({"gen_ai.operation.name": "chat", "gen_ai.input.messages": messages})
    assert record.request is not None and record.request.messages == [ASK]


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"openinference.span.kind": "GUARDRAIL", "gen_ai.operation.name": "chat"}, "guardrail"),
        ({"openinference.span.kind": "UNKNOWN", "gen_ai.operation.name": "chat"}, "llm"),
        ({"openinference.span.kind": "UNKNOWN"}, "custom"),
        ({"gen_ai.operation.name": "execute_tool"}, "tool"),
        ({"gen_ai.operation.name": "search_memory"}, None),
        ({"gen_ai.system": "openai", "gen_ai.request.model": "gpt"}, "llm"),
        ({"traceloop.span.kind": "workflow"}, "agent"),
        ({"llm.request.type": "completion"}, "llm"),
        ({"http.request.method": "GET"}, None),
    ],
)
def test_the_kind_is_known_from_the_start_attributes(attributes: dict[str, Any], kind: str | None) -> None:
    assert semconv.kind_of(attributes) == kind


def test_a_span_of_no_dialect_stays_unrecognised() -> None:
    record = read({"http.request.method": "GET"})
    assert (record.kind, record.dialect, record.request, record.tool) == (None, None, None, None)


def test_texts_that_are_no_utf8_are_written_as_utf8() -> None:
    odd = "\ud83d"
    record = SpanRecord(1, 2, kind="llm", request=ModelRequest("m", [Message("user", [Text(odd)])]))
    tool = SpanRecord(1, 2, kind="tool", tool=ToolRequest("f", odd), result=ToolResult(odd))
    for dialect in semconv.DIALECTS:
        for value in (
            *semconv.write(record, dialect, content=True).values(),
            *semconv.write(tool, dialect, content=True).values(),
        ):
            assert str(value).encode()


@pytest.mark.parametrize("dialect", [genai, openinference])
@pytest.mark.parametrize("kind", ["llm", "tool", "agent"])
def test_a_name_or_an_id_that_is_empty_is_not_written(dialect: Any, kind: Any) -> None:
    record = SpanRecord(1, 2, kind=kind, provider="", session_id="", user_id="", agent=AgentInfo("", "", "", ""))
    record.incomplete = record.answered_by = ""
    record.error = ErrorInfo("Busy", "", "")
    if kind == "llm":
        record.request = ModelRequest("")
        parameters = {"service_tier": "", "system_fingerprint": ""}
        record.response = ModelResponse("", "", [Message("assistant", [Text("hi")])], [""], parameters=parameters)
    if kind == "tool":
        record.tool, record.result = ToolRequest("t", {}, "", "", ""), ToolResult("sun")
    attributes = {**dialect.start_attributes(record), **dialect.to_attributes(record, content=True)}
    assert [name for name, value in attributes.items() if value in ("", [""])] == []


TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}


@pytest.mark.parametrize(
    ("said", "failed"),
    [
        ({"gen_ai.tool.call.outcome": "error"}, True),
        ({"gen_ai.tool.call.outcome": "success"}, False),
        ({"error.type": "tool_error"}, True),
        ({}, False),
    ],
)
def test_a_tools_outcome_says_whether_it_failed_beside_its_result(said: dict[str, str], failed: bool) -> None:
    record = SpanRecord(1, 2)
    semconv.read({**TOOL, "gen_ai.tool.call.result": "nothing", **said}, record)
    assert record.result is not None
    assert (record.result.content, record.result.is_error) == ("nothing", failed)


@pytest.mark.parametrize(("result", "failed"), [({}, True), ({"gen_ai.tool.call.result": "found after all"}, False)])
def test_a_tool_that_raised_and_gave_nothing_has_failed_whatever_its_status(
    result: dict[str, str], failed: bool
) -> None:
    record = SpanRecord(1, 2, marks=[Mark("exception", 1, {"exception.type": "E", "exception.message": "no"})])
    semconv.read({**TOOL, **result}, record)
    assert record.error == (ErrorInfo("E", "no") if failed else None)


def test_a_tools_result_in_quotes_is_the_text_in_them() -> None:
    record = SpanRecord(1, 2)
    semconv.read({**TOOL, "gen_ai.tool.call.result": '"found"'}, record)
    assert record.result == ToolResult("found")
    ours = SpanRecord(1, 2, kind="tool", tool=ToolRequest("search"), result=ToolResult('"found"'))
    back = SpanRecord(1, 2)
    semconv.read({**semconv.write_start(ours), **semconv.write(ours, content=True)}, back)
    assert back.result == ours.result
