"""LangChain's messages as records and back: nothing is lost, and what policy changes lands where it belongs."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.codecs import wire_strategies as wires

from spanrelay._json import dumps
from spanrelay.codecs import langchain as codec
from spanrelay.codecs import load
from spanrelay.errors import CodecError
from spanrelay.records import (
    Media,
    Message,
    ModelResponse,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
    Usage,
)

CALL = {"name": "get_weather", "args": {"city": "Oslo"}, "id": "call_1", "type": "tool_call"}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
REQUEST: dict[str, Any] = {
    "model": "gpt-5",
    "messages": [
        {"type": "system", "content": "Be brief.", "additional_kwargs": {}, "id": None},
        {"type": "human", "content": [{"type": "text", "text": "Oslo?", "x": 1}, {"type": "image", "url": "http://i"}]},
        {"type": "ai", "content": "", "tool_calls": [CALL], "invalid_tool_calls": [], "unknown": {"a": [1]}},
        {"type": "tool", "content": "rain", "tool_call_id": "call_1", "status": "success", "name": "get_weather"},
    ],
    "tools": [WEATHER],
    "temperature": 0.5,
    "stop": ["END"],
    "user_field": {"kept": True},
}
RESPONSE: dict[str, Any] = {
    "generations": [
        {
            "message": {
                "type": "ai",
                "content": "Rain.",
                "tool_calls": [],
                "response_metadata": {"id": "chatcmpl-1", "model_name": "gpt-5-2026", "finish_reason": "stop"},
                "usage_metadata": {
                    "input_tokens": 10,
                    "output_tokens": 2,
                    "total_tokens": 12,
                    "input_token_details": {"cache_read": 4},
                    "output_token_details": {"reasoning": 1},
                },
                "id": "lc_run--1",
            },
            "generation_info": {"logprobs": None},
        }
    ],
    "llm_output": {"system_fingerprint": "fp"},
}
quick = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)


def one(message: dict[str, Any]) -> Message:
    return codec.decode_request({"messages": [message]}).messages[0]


def rewritten(message: dict[str, Any], **changes: Any) -> Any:
    """The wire message after its record was changed."""
    wire = {"messages": [message]}
    before = copy.deepcopy(wire)
    request = codec.decode_request(wire)
    request.messages[0] = replace(request.messages[0], **changes)
    out = codec.encode_request(request, wire)["messages"]
    assert wire == before
    return out[0] if len(out) == 1 else out


def test_it_is_found_by_its_name_and_by_its_former_one() -> None:
    assert load("langchain") is codec


def test_a_request_is_read() -> None:
    request = codec.decode_request(REQUEST)
    assert request.model == "gpt-5"
    assert request.messages == [
        Message("system", [Text("Be brief.")]),
        Message("user", [Text("Oslo?"), Media("image", None, "http://i")]),
        Message("assistant", [ToolCall("call_1", "get_weather", {"city": "Oslo"})]),
        Message("tool", [ToolCallResponse("call_1", "rain", "get_weather")]),
    ]
    assert request.tools == [ToolDefinition("get_weather", None, {"type": "object"})]
    assert request.parameters == {"temperature": 0.5, "stop_sequences": ["END"]}


def test_a_response_is_read() -> None:
    response = codec.decode_response(RESPONSE)
    assert response == ModelResponse(
        "chatcmpl-1",
        "gpt-5-2026",
        [Message("assistant", [Text("Rain.")], None, "stop")],
        ["stop"],
        Usage(10, 2, 12, 4, reasoning_tokens=1),
    )


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "reasoning", "reasoning": "hm", "extras": {"signature": "s"}}, Reasoning("hm", None, "s")),
        ({"type": "reasoning", "id": "rs", "summary": [{"text": "a"}, {"text": "b"}]}, Reasoning("ab", "rs")),
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, Reasoning("hm", None, "s")),
        ({"type": "redacted_thinking", "data": "e"}, Reasoning("", encrypted="e", redacted=True)),
        ({"type": "image", "base64": "aa", "mime_type": "image/png"}, Media("image", "image/png", None, "aa")),
        ({"type": "image", "source_type": "id", "id": "f1"}, Media("image", file_id="f1")),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aa"}},
            Media("image", "image/png", None, "aa"),
        ),
        ({"type": "image_url", "image_url": {"url": "http://i"}}, Media("image", None, "http://i")),
        ({"type": "file", "file": {"file_id": "f"}}, Media("document", file_id="f")),
        ({"type": "strange", "x": 1}, Opaque("strange", {"type": "strange", "x": 1})),
        ("plain", Text("plain")),
    ],
    ids=lambda value: value.get("type") if isinstance(value, dict) else None,
)
def test_each_kind_of_block_is_one_part(block: Any, part: Any) -> None:
    assert one({"type": "human", "content": [block]}).parts == [part]


def test_what_repeats_the_tool_calls_is_no_part() -> None:
    blocks = [{"type": "text", "text": "Look."}, {"type": "tool_use", "id": "call_1", "name": "get_weather"}]
    message = {"type": "ai", "content": blocks, "tool_calls": [CALL]}
    assert one(message).parts == [Text("Look."), ToolCall("call_1", "get_weather", {"city": "Oslo"})]
    assert rewritten(message, parts=[Text("Look!"), *one(message).parts[1:]])["content"] == [
        {"type": "text", "text": "Look!"},
        blocks[1],
    ]


def test_a_changed_tool_call_leaves_no_other_form_of_it_behind() -> None:
    blocks = [{"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Oslo"}}]
    extra = {"tool_calls": [{"id": "call_1"}], "other": 1}
    message = {"type": "ai", "content": blocks, "tool_calls": [CALL], "additional_kwargs": extra}
    out = rewritten(message, parts=[ToolCall("call_1", "get_weather", {"city": "Bergen"})])
    assert out["content"] == []
    assert out["tool_calls"] == [{**CALL, "args": {"city": "Bergen"}}]
    assert out["additional_kwargs"] == {"other": 1}


def test_reasoning_beside_the_content_is_read_and_written() -> None:
    message = {"type": "ai", "content": "Blue.", "additional_kwargs": {"reasoning_content": "sky", "z": 1}}
    assert one(message).parts == [Reasoning("sky"), Text("Blue.")]
    assert rewritten(message, parts=[Text("Blue.")])["additional_kwargs"] == {"z": 1}
    changed = rewritten(message, parts=[Reasoning("sea"), Text("Blue.")])
    assert changed["additional_kwargs"] == {"reasoning_content": "sea", "z": 1}


def test_a_tool_that_failed_says_so() -> None:
    message = {"type": "tool", "content": "boom", "tool_call_id": "c", "status": "error"}
    assert one(message).parts == [ToolCallResponse("c", "boom", is_error=True)]
    assert rewritten(message, parts=[ToolCallResponse("c", "***", is_error=False)]) == {
        **message,
        "content": "***",
        "status": "success",
    }


def test_a_text_in_a_block_is_changed_in_its_place() -> None:
    out = rewritten(REQUEST["messages"][1], parts=[Text("Bergen?"), Media("image", None, "http://i")])
    assert out["content"] == [{"type": "text", "text": "Bergen?", "x": 1}, {"type": "image", "url": "http://i"}]


def test_messages_that_did_not_change_are_the_same_objects() -> None:
    request = codec.decode_request(REQUEST)
    request.messages[0] = Message("system", [Text("Be long.")])
    request.messages.append(Message("user", [Text("And?")]))
    out = codec.encode_request(request, REQUEST)["messages"]
    assert out[0] == {**REQUEST["messages"][0], "content": "Be long."}
    assert all(out[i] is REQUEST["messages"][i] for i in (1, 2, 3))
    assert out[4] == {"type": "human", "content": "And?"}


def test_instructions_tools_and_parameters_are_written() -> None:
    request = codec.decode_request(REQUEST)
    request = replace(
        request,
        model="gpt-5-mini",
        system=[Text("Policy.")],
        tools=[ToolDefinition("other")],
        parameters={"temperature": 0.0},
    )
    out = codec.encode_request(request, REQUEST)
    assert out["model"] == "gpt-5-mini"
    assert out["messages"][0] == {"type": "system", "content": "Policy."}
    assert out["tools"] == [{"type": "function", "function": {"name": "other"}}]
    assert out["temperature"] == 0.0
    assert "stop" not in out
    assert out["user_field"] == {"kept": True}


def test_tools_in_anthropics_form_stay_in_it() -> None:
    tool = {"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {}}
    wire = {"tools": [tool]}
    request = codec.decode_request(wire)
    assert (request.tools[0].name, request.tools[0].parameters) == ("f", {"type": "object"})
    out = codec.encode_request(replace(request, tools=[replace(request.tools[0], description="e")]), wire)
    assert out["tools"] == [{**tool, "description": "e"}]


def test_an_answer_is_changed_in_its_place() -> None:
    response = codec.decode_response(RESPONSE)
    changed = replace(
        response, messages=[Message("assistant", [Text("Sun.")], None, "stop")], usage=Usage(10, 3, 13, 4)
    )
    out = codec.encode_response(changed, RESPONSE)
    message = out["generations"][0]["message"]
    assert message["content"] == "Sun."
    assert message["usage_metadata"]["output_tokens"] == 3
    assert message["response_metadata"] == RESPONSE["generations"][0]["message"]["response_metadata"]
    assert codec.decode_response(out) == changed


def test_a_new_answer_reads_back() -> None:
    parts: Any = [Text("Look."), ToolCall("call_1", "f", {"a": 1}), ToolCall("call_2", "g", "{not json")]
    response = ModelResponse("r", "m", [Message("assistant", parts, None, "tool_calls")], ["tool_calls"], Usage(1, 2))
    assert codec.decode_response(codec.encode_response(response)) == replace(response, usage=Usage(1, 2, 3))


@pytest.mark.parametrize("content", ["Blue.", [{"type": "text", "text": "Blue."}]], ids=["text", "blocks"])
def test_the_chunks_of_an_answer_add_up_to_it(content: Any) -> None:
    wire = copy.deepcopy(RESPONSE)
    wire["generations"][0]["message"] |= {"content": content, "tool_calls": [CALL]}
    accumulator = codec.accumulator()
    for event in codec.stream_events(wire):
        accumulator.add(event)
    assert codec.decode_response(accumulator.result()) == codec.decode_response(wire)


def test_fragments_of_text_blocks_reasoning_and_calls_are_joined() -> None:
    accumulator = codec.accumulator()
    piece: dict[str, Any] = {"index": 0, "type": "tool_call_chunk"}
    for event in (
        {"content": [{"type": "thinking", "thinking": "a", "index": 0}], "id": "1"},
        {"content": [{"type": "thinking", "thinking": "b", "index": 0}], "id": "1"},
        {"content": [{"type": "text", "text": "Bl", "index": 1}], "usage_metadata": {"input_tokens": 3}},
        {"content": [{"type": "text", "text": "ue", "index": 1}], "usage_metadata": {"output_tokens": 2}},
        {"content": "", "tool_call_chunks": [{**piece, "name": "f", "id": "c", "args": '{"a"'}]},
        {"content": "", "tool_call_chunks": [{**piece, "name": None, "id": None, "args": ": 1}"}]},
        {"content": "", "response_metadata": {"finish_reason": "tool_calls"}},
    ):
        accumulator.add({"type": "AIMessageChunk", **event})
    response = codec.decode_response(accumulator.result())
    assert response.messages[0].parts == [Reasoning("ab"), Text("Blue"), ToolCall("c", "f", {"a": 1})]
    assert (response.id, response.finish_reasons, response.usage) == ("1", ["tool_calls"], Usage(3, 2))


def test_a_call_cut_short_stays_text() -> None:
    accumulator = codec.accumulator()
    accumulator.add({"content": "", "tool_call_chunks": [{"index": 0, "name": "f", "id": "c", "args": '{"a'}]})
    assert codec.decode_response(accumulator.result()).tool_calls == [ToolCall("c", "f", '{"a')]


def test_protocol_events_add_up() -> None:
    accumulator = codec.accumulator()
    for event in (
        {"event": "message-start", "id": "m"},
        {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta", "text": "Bl"}},
        {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta", "text": "ue"}},
        {"event": "content-block-finish", "index": 0, "content": {"type": "text", "text": "Blue"}},
        {"event": "content-block-finish", "index": 1, "content": CALL},
        {"event": "message-finish", "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}},
    ):
        accumulator.add(event)
    response = codec.decode_response(accumulator.result())
    assert response.messages[0].parts == [Text("Blue"), ToolCall("call_1", "get_weather", {"city": "Oslo"})]
    assert (response.id, response.usage) == ("m", Usage(1, 2, 3))


def test_texts_of_a_chunk_can_be_changed() -> None:
    event: Any = {"content": "secret", "additional_kwargs": {"reasoning_content": "thought"}}
    texts = codec.stream_texts(event)
    assert [slot.text for slot in texts.deltas] == ["secret", "thought"]
    texts.deltas[0].set("***")
    assert event["content"] == "***"
    assert codec.stream_texts({"content": "", "chunk_position": "last"}).all_ended
    delta: Any = {"event": "content-block-delta", "index": 2, "delta": {"type": "text-delta", "text": "x"}}
    assert [slot.key for slot in codec.stream_texts(delta).deltas] == [(2, "text")]


def test_what_a_message_cannot_hold_is_refused() -> None:
    with pytest.raises(CodecError, match="no form for a 'ToolCallResponse' part"):
        codec.encode_response(ModelResponse(messages=[Message("assistant", [Text("a"), ToolCallResponse("x", "y")])]))


@quick
@given(wire=wires.any_object)
def test_any_json_object_is_read_without_an_error_and_written_without_loss(wire: dict[str, Any]) -> None:
    before = dumps(wire)
    assert codec.encode_request(codec.decode_request(wire), wire) == wire
    assert codec.encode_response(codec.decode_response(wire), wire) == wire
    assert dumps(wire) == before


@quick
@given(events=st.lists(wires.any_object, max_size=6))
def test_a_stream_of_any_json_objects_adds_up_without_an_error(events: list[Any]) -> None:
    accumulator = codec.accumulator()
    for event in events:
        accumulator.add(event)
    codec.decode_response(accumulator.result())


def test_what_came_from_the_wire_survives_unchanged() -> None:
    assert codec.encode_request(codec.decode_request(REQUEST), REQUEST) == REQUEST
    assert codec.encode_response(codec.decode_response(RESPONSE), RESPONSE) == RESPONSE


@pytest.mark.parametrize(
    ("counts", "total"),
    [
        ([(1000, 1), (1000, 3), (1000, 5)], (1000, 5)),  # running totals, as vLLM and x.ai count
        ([(1000, 1), (0, 3), (0, 1)], (1000, 5)),  # what each adds, as LangChain counts
        ([(0, 0), (8, 4)], (8, 4)),
    ],
)
def test_usage_of_chunks_is_added_up_unless_it_is_a_running_total(
    counts: list[tuple[int, int]], total: tuple[int, int]
) -> None:
    accumulator = codec.accumulator()
    for into, out in counts:
        usage = {"input_tokens": into, "output_tokens": out, "total_tokens": into + out}
        accumulator.add({"type": "AIMessageChunk", "content": "a", "usage_metadata": usage})
    usage = codec.decode_response(accumulator.result()).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (*total, sum(total))


def test_reasoning_that_langchain_passes_on_beside_the_output_is_output_too() -> None:
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 105, "output_token_details": {"reasoning": 100}}
    read = codec.decode_response({"generations": [{"message": {"content": "x", "usage_metadata": usage}}]}).usage
    assert read is not None
    assert (read.output_tokens, read.reasoning_tokens) == (102, 100)


def test_a_tool_without_a_type_that_is_null_may_be_taken_away() -> None:
    wire = {"tools": [{"google_search": None}]}
    assert codec.sift_tools(wire, lambda offer: False) == {}


def test_what_a_cache_of_anthropics_keeps_is_told_apart_by_how_long() -> None:
    details = {"cache_read": 1, "cache_creation": 0, "ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12, "input_token_details": details}
    read = codec.decode_response({"generations": [{"message": {"content": "Rain.", "usage_metadata": usage}}]})
    assert read.usage == Usage(10, 2, 12, 1, 7, cache_write_1h_tokens=4)
