"""What the Messages codec keeps, changes and adds up, case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from spanrelay.codecs import anthropic_messages, plain, sse
from spanrelay.codecs.naming import models_within
from spanrelay.codecs.offers import Offer, offers_of
from spanrelay.errors import CodecError
from spanrelay.records import (
    ErrorInfo,
    Media,
    Message,
    ModelResponse,
    Reasoning,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
    Usage,
)

THINKING = {"type": "thinking", "thinking": "hm", "signature": "EuYB"}
TEXT = {"type": "text", "text": "old", "citations": [{"type": "page_location"}], "cache_control": {"type": "ephemeral"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "ring", "input": {"times": 2}, "caller": {"type": "direct"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rang"}
USER = {"role": "user", "content": "hi"}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
RING = {"name": "ring", "description": "Rings.", "input_schema": {"type": "object"}}


def request(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "claude", "max_tokens": 9, "messages": list(messages), **more}


def changed(wire: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return anthropic_messages.encode_request(replace(anthropic_messages.decode_request(wire), **fields), wire)


def body(*events: dict[str, Any]) -> dict[str, Any]:
    accumulator = anthropic_messages.accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.result()


def block_of(index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    begun = {"type": "content_block_start", "index": index, "content_block": block}
    return [begun, *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)]


def named_by(wire: dict[str, Any], codec: Any = anthropic_messages) -> list[tuple[Any, ...]]:
    return [offer.names for offer in offers_of(codec, wire)]


def test_blocks_of_a_turn_are_its_parts_in_order() -> None:
    read = anthropic_messages.decode_request(
        request({"role": "assistant", "content": [THINKING, TEXT, CALL]}, {"role": "user", "content": [RESULT]})
    )
    assert read.messages == [
        Message(
            "assistant", [Reasoning("hm", signature="EuYB"), Text("old"), ToolCall("toolu_1", "ring", {"times": 2})]
        ),
        Message("tool", [ToolCallResponse("toolu_1", "rang")]),
    ]


def test_a_result_beside_words_of_the_user_stays_in_the_users_message() -> None:
    said = {"role": "user", "content": [RESULT, {"type": "text", "text": "and now?"}]}
    [message] = anthropic_messages.decode_request(request(said)).messages
    assert (message.role, [type(part) for part in message.parts]) == ("user", [ToolCallResponse, Text])


def test_changed_text_keeps_its_citations_and_every_other_block_as_it_was() -> None:
    wire = request(USER, {"role": "assistant", "content": [THINKING, TEXT, CALL]})
    messages = anthropic_messages.decode_request(wire).messages
    parts = [messages[1].parts[0], Text("new"), messages[1].parts[2]]
    written = changed(wire, messages=[messages[0], replace(messages[1], parts=parts)])["messages"]
    assert written[0] is wire["messages"][0]
    assert written[1]["content"] == [THINKING, {**TEXT, "text": "new"}, CALL]
    assert written[1]["content"][0] is THINKING


def test_a_tool_result_and_the_arguments_of_a_call_are_changed_in_their_places() -> None:
    wire = request({"role": "assistant", "content": [CALL]}, {"role": "user", "content": [{**RESULT, "x": 1}]})
    written = changed(
        wire,
        messages=[
            Message("assistant", [ToolCall("toolu_1", "ring", {"times": 1})]),
            Message("tool", [ToolCallResponse("toolu_1", "***", is_error=True)]),
        ],
    )["messages"]
    assert written[0]["content"] == [{**CALL, "input": {"times": 1}}]
    assert written[1] == {"role": "user", "content": [{**RESULT, "x": 1, "content": "***", "is_error": True}]}


def test_messages_written_anew_have_the_roles_and_blocks_of_the_api() -> None:
    written = changed(
        request(USER),
        messages=[
            Message("user", [Text("look"), Media("image", "image/png", data="AAAA"), Media("document", file_id="f1")]),
            Message("assistant", [Reasoning("hm", signature="s"), ToolCall("c1", "ring")]),
            Message(
                "tool", [ToolCallResponse("c1", {"rang": True}), ToolCallResponse("c2", [Text("no")], is_error=True)]
            ),
        ],
        system=[Text("Be brief.")],
        tools=[ToolDefinition("ring", "Rings.", {"type": "object"})],
    )
    assert written["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "document", "source": {"type": "file", "file_id": "f1"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "c1", "name": "ring", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": '{"rang":true}'},
                {
                    "type": "tool_result",
                    "tool_use_id": "c2",
                    "content": [{"type": "text", "text": "no"}],
                    "is_error": True,
                },
            ],
        },
    ]
    assert written["system"] == "Be brief."
    assert written["tools"] == [RING]


def test_instructions_in_blocks_keep_their_cache_marks() -> None:
    blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert changed(request(USER, system=blocks), system=[Text("Be long.")])["system"] == [
        {**blocks[0], "text": "Be long."}
    ]
    assert "system" not in changed(request(USER, system="Be brief."), system=[])


def test_parameters_are_patched_where_they_stand() -> None:
    schema = {"type": "json_schema", "schema": {"type": "object"}}
    wire = request(
        USER,
        output_config={"effort": "low", "format": schema},
        metadata={"user_id": "u1"},
        stop_sequences=["END"],
        thinking={"type": "enabled", "budget_tokens": 1024},
        thread={"type": "continue", "previous_message_id": "msg_1"},
    )
    read = anthropic_messages.decode_request(wire)
    assert read.parameters == {
        "max_tokens": 9,
        "reasoning_effort": "low",
        "output_type": "json",
        "user": "u1",
        "stop_sequences": ["END"],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "previous_response_id": "msg_1",
    }
    written = changed(wire, parameters={**read.parameters, "reasoning_effort": "high", "temperature": 0.5})
    assert written == {**wire, "output_config": {"effort": "high", "format": schema}, "temperature": 0.5}
    without = {key: value for key, value in read.parameters.items() if key != "output_type"}
    assert changed(wire, parameters=without) == {**wire, "output_config": {"effort": "low"}}
    with pytest.raises(CodecError, match="needs a schema"):
        changed(request(USER), parameters={"output_type": "json"})


def test_what_a_provider_runs_is_a_call_and_a_result_of_its_own() -> None:
    blocks = [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "tides"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "web_search_result", "url": "u"}]},
        {"type": "mcp_tool_use", "id": "m1", "name": "ask", "input": {}, "server_name": "wiki"},
        {"type": "mcp_tool_result", "tool_use_id": "m1", "is_error": True, "content": [{"type": "text", "text": "no"}]},
        {
            "type": "code_execution_tool_result",
            "tool_use_id": "s2",
            "content": {"type": "code_execution_tool_result_error", "error_code": "unavailable"},
        },
    ]
    [message] = anthropic_messages.decode_response({"content": blocks, "stop_reason": "pause_turn"}).messages
    assert message.finish_reason == "pause_turn"
    assert message.parts == [
        ToolCall("s1", "web_search", {"query": "tides"}, True, "server_tool_use"),
        ToolCallResponse("s1", [{"type": "web_search_result", "url": "u"}], "web_search", False, True),
        ToolCall("m1", "ask", {}, True, "mcp_tool_use", "wiki"),
        ToolCallResponse("m1", [Text("no")], None, True, True),
        ToolCallResponse("s2", blocks[-1]["content"], "code_execution", True, True),
    ]
    assert anthropic_messages.encode_response(ModelResponse(messages=[message]))["content"] == blocks


def test_counts_of_input_include_what_was_cached() -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 5},
    }
    read = anthropic_messages.decode_response({"usage": usage})
    assert read.usage == Usage(130, 7, None, 100, 20, 5)
    assert anthropic_messages.decode_response({"usage": {"input_tokens": None, "output_tokens": 1}}).usage == Usage(
        None, 1
    )
    assert anthropic_messages.decode_response({"usage": None}).usage is None
    kept = {**usage, "cache_creation": {"ephemeral_5m_input_tokens": 8, "ephemeral_1h_input_tokens": 12}}
    told = anthropic_messages.decode_response({"usage": kept})
    assert told.usage == replace(read.usage, cache_write_1h_tokens=12)
    less = anthropic_messages.encode_response(
        replace(told, usage=replace(told.usage, cache_write_1h_tokens=3)), {"usage": kept}
    )
    assert less["usage"] == {
        **kept,
        "cache_creation": {"ephemeral_5m_input_tokens": 8, "ephemeral_1h_input_tokens": 3},
    }
    written = anthropic_messages.encode_response(replace(read, usage=Usage(50, 7, None, 30, 20, 5)), {"usage": usage})
    assert written["usage"] == {**usage, "input_tokens": 0, "cache_read_input_tokens": 30}


def test_a_stream_tells_what_the_cache_keeps_for_an_hour_at_its_beginning() -> None:
    usage = {"input_tokens": 9, "cache_creation_input_tokens": 5, "cache_creation": {"ephemeral_1h_input_tokens": 4}}
    whole = body(
        {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": usage}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
    )
    read = anthropic_messages.decode_response(whole)
    assert read.usage == Usage(14, 3, cache_write_tokens=5, cache_write_1h_tokens=4)


def test_a_refusal_keeps_its_word_and_its_details() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "no"}
    read = anthropic_messages.decode_response(
        {"content": [], "stop_reason": "refusal", "stop_details": details, "container": {"id": "c1", "expires_at": "x"}}
    )
    assert read.finish_reasons == ["refusal"]
    assert read.parameters == {"stop_details": details, "container": "c1"}


def test_an_answer_made_of_a_record_is_a_whole_message_with_the_apis_own_words() -> None:
    record = ModelResponse(model="claude", messages=[Message("assistant", [Text("no")], None, "length")])
    written = anthropic_messages.encode_response(record)
    assert {key: value for key, value in written.items() if key != "id"} == {
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": "no"}],
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    asks = ModelResponse(messages=[Message("assistant", [ToolCall("c1", "ring", {})])])
    assert anthropic_messages.encode_response(asks)["stop_reason"] == "tool_use"
    with pytest.raises(CodecError, match="an object"):
        anthropic_messages.encode_response(ModelResponse(messages=[Message("assistant", [ToolCall("c", "r", "x")])]))


def test_the_events_of_a_stream_add_up_to_the_body_of_a_call_without_one() -> None:
    started = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
    citation = {"type": "web_search_result_location", "url": "u"}
    whole = body(
        {
            "type": "message_start",
            "message": {**started, "stop_reason": None, "usage": {"input_tokens": 9, "output_tokens": 1}},
        },
        {"type": "ping"},
        *block_of(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "so"},
            {"type": "thinking_delta", "thinking": "!"},
            {"type": "signature_delta", "signature": "EuYB"},
        ),
        *block_of(
            1,
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": "High"},
            {"type": "citations_delta", "citation": citation},
            {"type": "text_delta", "text": " tide"},
        ),
        *block_of(
            2,
            {"type": "tool_use", "id": "c1", "name": "ring", "input": {}},
            {"type": "input_json_delta", "partial_json": ""},
            {"type": "input_json_delta", "partial_json": '{"times"'},
            {"type": "input_json_delta", "partial_json": ": 2}"},
        ),
        *block_of(3, {"type": "tool_use", "id": "c2", "name": "stop", "input": {}}),
        {"type": "content_block_stop", "index": 3},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 30, "cache_read_input_tokens": None, "input_tokens": 11},
        },
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 11}},
    )
    assert whole == {
        **started,
        "content": [
            {"type": "thinking", "thinking": "so!", "signature": "EuYB"},
            {"type": "text", "text": "High tide", "citations": [citation]},
            {"type": "tool_use", "id": "c1", "name": "ring", "input": {"times": 2}},
            {"type": "tool_use", "id": "c2", "name": "stop", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 30},
        "amazon-bedrock-invocationMetrics": {"inputTokenCount": 11},
    }
    assert anthropic_messages.is_whole(whole)


def test_a_stream_that_is_cut_keeps_what_came_and_is_not_whole() -> None:
    cut = body(
        {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 9}}},
        *block_of(
            0, {"type": "tool_use", "id": "c1", "name": "ring"}, {"type": "input_json_delta", "partial_json": '{"ti'}
        ),
    )
    assert not anthropic_messages.is_whole(cut)
    assert anthropic_messages.decode_response(cut).tool_calls == [ToolCall("c1", "ring", '{"ti')]
    headless = body({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "tide"}})
    assert anthropic_messages.decode_response(headless).text == "tide"


def test_an_error_in_a_stream_stands_beside_what_came_before() -> None:
    failed = body(
        {"type": "message_start", "message": {"id": "msg_1", "type": "message"}},
        *block_of(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"}),
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    )
    read = anthropic_messages.decode_response(failed)
    assert (read.text, read.error) == ("Hi", ErrorInfo("overloaded_error", "Overloaded"))
    assert not anthropic_messages.is_whole(failed)


def test_the_last_event_ends_a_stream() -> None:
    assert sse.says_end(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert sse.says_end(b'data: {"type": "message_stop"}\n\n')
    assert not sse.says_end(b'event: content_block_delta\ndata: {"text":"event: message_stop"}\n\n')


# --- tools and models ---------------------------------------------------------------------------------------


def test_every_place_that_offers_a_tool_is_found() -> None:
    wire = request(
        {"role": "system", "content": [{"type": "tool_addition", "tool": {"type": "tool_reference", "name": "late"}}]},
        {
            "role": "system",
            "content": [
                {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {"name": "inline"}}}
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "mcp_tool_listing", "mcp_server_name": "wiki", "tools": [{"name": "ask"}]},
                {
                    "type": "tool_search_tool_result",
                    "content": {"tool_references": [{"type": "tool_reference", "tool_name": "found"}]},
                },
            ],
        },
        tools=[RING, SEARCH, {"type": "mcp_toolset", "mcp_server_name": "wiki"}],
        mcp_servers=[
            {"type": "url", "name": "wiki", "url": "https://wiki"},
            {"type": "url", "name": "old", "url": "https://old", "tool_configuration": {"allowed_tools": ["one"]}},
        ],
        tool_choice={"type": "tool", "name": "ring"},
    )
    assert named_by(wire) == [
        ("ring",),
        ("web_search", "web_search_20250305"),
        ("wiki", "mcp"),
        ("wiki", "mcp"),
        ("old", "mcp"),
        ("one", "old", "mcp"),
        ("late",),
        ("inline",),
        ("ask", "wiki", "mcp"),
        ("found",),
        ("ring",),
    ]
    assert sorted(map(str, named_by(wire, plain))) == sorted(map(str, named_by(wire)))
    unnamed = [offer.place for offer in offers_of(anthropic_messages, wire) if offer.unnamed]
    assert unnamed == ["tools[2]"]


def without(*names: str) -> Any:
    return lambda offer: not any(name in names for name in cast("Offer", offer).names)


def test_a_server_that_is_taken_away_takes_its_toolset_with_it_and_the_other_way_around() -> None:
    toolset = {"type": "mcp_toolset", "mcp_server_name": "wiki"}
    server = {"type": "url", "name": "wiki", "url": "https://wiki"}
    wire = request(USER, tools=[RING, toolset], mcp_servers=[server], tool_choice={"type": "auto"})
    sift = anthropic_messages.sift_tools
    assert sift(wire, without("wiki")) == request(USER, tools=[RING], tool_choice={"type": "auto"})
    assert sift(wire, without("wiki", "ring")) == request(USER)
    assert sift(wire, without("elsewhere")) is wire


def test_tools_of_a_server_are_taken_away_one_by_one() -> None:
    toolset = {
        "type": "mcp_toolset",
        "mcp_server_name": "wiki",
        "default_config": {"enabled": False},
        "configs": {"ask": {"enabled": True}, "drop": {"enabled": True, "defer_loading": True}},
    }
    wire = request(USER, tools=[toolset])
    assert [offer.unnamed for offer in offers_of(anthropic_messages, wire)] == [False, False, False]
    [left] = anthropic_messages.sift_tools(wire, without("drop"))["tools"]
    assert left["configs"] == {"ask": {"enabled": True}, "drop": {"enabled": False, "defer_loading": True}}
    listed = request(USER, mcp_servers=[{"name": "old", "tool_configuration": {"allowed_tools": ["ask", "drop"]}}])
    [server] = anthropic_messages.sift_tools(listed, without("drop"))["mcp_servers"]
    assert server["tool_configuration"] == {"allowed_tools": ["ask"]}


def test_models_are_found_in_tools_in_messages_in_fallbacks_and_in_batches() -> None:
    adviser = {"type": "advisor_20260301", "name": "advisor", "model": "big"}
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": adviser}}
    said = {"type": "tool_use", "id": "c", "name": "car", "input": {"model": "T"}}
    wire = request(
        {"role": "system", "content": [added]},
        {"role": "assistant", "content": [said]},
        fallbacks=[{"model": "other"}],
        tools=[{**adviser, "model": "small"}],
    )
    assert sorted(models_within(wire)) == ["big", "other", "small"]
    batch = {"requests": [{"custom_id": "1", "params": wire}, {"custom_id": "2", "params": {"model": "last"}}]}
    assert sorted(models_within(batch)) == ["big", "claude", "last", "other", "small"]
    offered = {"requests": [{"custom_id": "1", "params": {"tools": [RING, SEARCH]}}]}
    assert named_by(offered, plain) == [("ring",), ("web_search", "web_search_20250305")]
    assert plain.sift_tools(offered, without("ring")) == {
        "requests": [{"custom_id": "1", "params": {"tools": [SEARCH]}}]
    }
