"""What the chat codec keeps, changes and adds up, case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from spanrelay.codecs import openai_chat
from spanrelay.errors import CodecError
from spanrelay.records import (
    ErrorInfo,
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

CALL = {"id": "call_1", "type": "function", "function": {"name": "ring", "arguments": '{"times":  2}'}, "extra": 1}


def request(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": list(messages), **more}


def changed(wire: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return openai_chat.encode_request(replace(openai_chat.decode_request(wire), **fields), wire)


def answer(*chunks: dict[str, Any]) -> ModelResponse:
    accumulator = openai_chat.accumulator()
    for chunk in chunks:
        accumulator.add(chunk)
    return openai_chat.decode_response(accumulator.result())


def chunk(index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def call_delta(**call: Any) -> dict[str, Any]:
    return chunk(tool_calls=[call])


def test_changed_text_keeps_the_cache_control_beside_it() -> None:
    marked = {"type": "text", "text": "old", "cache_control": {"type": "ephemeral"}}
    image = {"type": "image_url", "image_url": {"url": "https://h/a.png", "detail": "low"}}
    wire = request({"role": "user", "content": [marked, image], "x": 1})
    message = openai_chat.decode_request(wire).messages[0]
    written = changed(wire, messages=[replace(message, parts=[Text("new"), message.parts[1]])])
    assert written["messages"] == [{"role": "user", "content": [{**marked, "text": "new"}, image], "x": 1}]
    assert written["messages"][0]["content"][1] is image
    assert marked["text"] == "old"


def test_messages_put_in_and_taken_out_leave_the_others_the_same_objects() -> None:
    first, second, third = ({"role": "user", "content": text, "x": text} for text in ("a", "b", "c"))
    wire = request(first, second, third)
    messages = openai_chat.decode_request(wire).messages
    written = changed(wire, messages=[messages[0], Message("system", [Text("new")]), messages[2]])["messages"]
    assert written[0] is first
    assert written[1] == {"role": "system", "content": "new"}
    assert written[2] is third


def test_changed_arguments_keep_the_call_around_them() -> None:
    wire = request({"role": "assistant", "content": None, "tool_calls": [CALL, CALL]})
    message = openai_chat.decode_request(wire).messages[0]
    first = message.parts[0]
    assert first == ToolCall("call_1", "ring", {"times": 2})
    assert isinstance(first, ToolCall)
    patched = replace(message, parts=[replace(first, arguments={"times": 3}), message.parts[1]])
    calls = changed(wire, messages=[patched])["messages"][0]["tool_calls"]
    assert calls[0] == {**CALL, "function": {"name": "ring", "arguments": '{"times":3}'}}
    assert calls[1] is CALL


def test_changed_reasoning_drops_the_details_that_sign_the_old_text() -> None:
    details = [{"type": "reasoning.text", "text": "secret", "signature": "sig"}]
    wire = request({"role": "assistant", "content": "x", "reasoning": "secret", "reasoning_details": details})
    message = openai_chat.decode_request(wire).messages[0]
    assert message.parts[0] == Reasoning("secret", signature="sig")
    written = changed(wire, messages=[replace(message, parts=[Reasoning("hidden"), Text("x")])])
    assert written["messages"] == [{"role": "assistant", "content": "x", "reasoning": "hidden"}]


def test_tool_results_of_other_apis_become_messages_of_their_own() -> None:
    results = [ToolCallResponse("a", {"ok": True}), ToolCallResponse("b", [Text("part")])]
    written = changed(request(), messages=[Message("user", [*results, Text("go on")])])["messages"]
    assert written == [
        {"role": "tool", "tool_call_id": "a", "content": '{"ok":true}'},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "part"}]},
        {"role": "user", "content": "go on"},
    ]


def test_instructions_become_a_system_message() -> None:
    written = changed(request({"role": "user", "content": "hi"}), system=[Text("be kind")])
    assert written["messages"][0] == {"role": "system", "content": "be kind"}


def test_parameters_are_written_under_the_key_in_use() -> None:
    wire = request(max_tokens=5, stop="x", reasoning={"effort": "low", "exclude": True}, temperature=1)
    parameters = openai_chat.decode_request(wire).parameters
    assert parameters == {"max_tokens": 5, "stop_sequences": ["x"], "reasoning_effort": "low", "temperature": 1}
    written = changed(wire, parameters={"max_tokens": 6, "stop_sequences": ["y"], "seed": 1})
    assert written == request(max_tokens=6, stop="y", reasoning={"exclude": True}, seed=1)


def test_a_parameter_that_chat_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(CodecError, match="'colour'"):
        changed(request(), parameters={"colour": "red"})


def test_tools_are_changed_one_by_one() -> None:
    strict = {"type": "function", "function": {"name": "ring", "description": "old", "strict": True}}
    other = {"type": "function", "function": {"name": "look"}}
    wire = request(tools=[strict, other])
    tools = openai_chat.decode_request(wire).tools
    written = changed(wire, tools=[replace(tools[0], description="new"), tools[1], ToolDefinition("add", "Adds.")])
    function = {"name": "ring", "description": "new", "strict": True}
    added = {"type": "function", "function": {"name": "add", "description": "Adds."}}
    assert written["tools"] == [{"type": "function", "function": function}, other, added]
    assert written["tools"][1] is other


@pytest.mark.parametrize(
    "part",
    [
        Media("document", uri="https://h/a.pdf"),
        Media("image", file_id="f"),
        Media("audio", uri="https://h/a.wav"),
        ToolCall("1", "web_search", {}, server=True),
    ],
)
def test_what_chat_has_no_form_for_is_refused(part: Any) -> None:
    with pytest.raises(CodecError):
        changed(request(), messages=[Message("user", [part])])


def test_an_assistants_message_of_nothing_but_tool_calls_is_read() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    for message in ({"role": "assistant", "tool_calls": [call]}, {"role": "assistant", "refusal": "No."}):
        [read] = openai_chat.decode_request({"model": "m", "messages": [message]}).messages
        assert read.role == "assistant"
        assert len(read.parts) == 1


def test_refusal_and_spoken_answer_are_parts() -> None:
    audio = {"id": "audio_1", "data": "UklG", "transcript": "Ahoy", "expires_at": 1}
    body = {"choices": [{"message": {"content": None, "refusal": "no", "audio": audio}, "finish_reason": "stop"}]}
    response = openai_chat.decode_response(body)
    refusal = Opaque("refusal", {"type": "refusal", "refusal": "no"})
    spoken = Media("audio", data="UklG", file_id="audio_1")
    assert response.messages == [Message("assistant", [refusal, Text("Ahoy"), spoken], None, "stop")]
    quiet = replace(response.messages[0], parts=[refusal, Text("***"), spoken])
    written = openai_chat.encode_response(replace(response, messages=[quiet]), body)
    assert written["choices"][0]["message"]["audio"] == {**audio, "transcript": "***"}


def test_changed_answer_keeps_logprobs_and_usage_of_the_wire() -> None:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "a"},
        "logprobs": {},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "x": 4}
    body = {"id": "1", "choices": [choice], "usage": usage}
    response = openai_chat.decode_response(body)
    message = replace(response.messages[0], parts=[Text("b")])
    written = openai_chat.encode_response(replace(response, messages=[message], usage=Usage(1, 9, 10)), body)
    assert written["choices"] == [{**choice, "message": {"role": "assistant", "content": "b"}}]
    assert written["usage"] == {**usage, "completion_tokens": 9, "total_tokens": 10}


def test_an_answer_from_a_bare_record_is_one_the_sdk_takes() -> None:
    body = openai_chat.encode_response(ModelResponse(messages=[Message("assistant", [Text("hi")])], usage=Usage(3)))
    completion = ChatCompletion.model_validate(body)
    assert completion.choices[0].message.content == "hi"
    assert completion.id.startswith("chatcmpl-")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c"}}, ErrorInfo("t", "m", "c")),
        ({"error": {"code": 429, "message": "m", "status": "LIMIT"}}, ErrorInfo("LIMIT", "m", "429", 429)),
        ({"error": "broken"}, ErrorInfo("error", "broken")),
        ({"object": "error", "message": "m", "type": "t", "code": 400}, ErrorInfo("t", "m", "400", 400)),
    ],
)
def test_error_bodies_of_every_shape_are_errors(body: dict[str, Any], error: ErrorInfo) -> None:
    assert openai_chat.decode_response(body).error == error


def test_parallel_calls_whose_fragments_interleave_stay_apart() -> None:
    response = answer(
        call_delta(index=0, id="a", type="function", function={"name": "f", "arguments": ""}),
        call_delta(index=1, id="b", type="function", function={"name": "g", "arguments": ""}),
        call_delta(index=0, function={"arguments": '{"x"'}),
        call_delta(index=1, function={"arguments": "[1"}),
        call_delta(index=0, function={"arguments": ":1}"}),
        call_delta(index=1, function={"arguments": ",2]"}),
    )
    assert response.tool_calls == [ToolCall("a", "f", {"x": 1}), ToolCall("b", "g", [1, 2])]


def test_an_id_repeated_in_every_fragment_is_one_call() -> None:
    first = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "["}}
    assert answer(
        call_delta(index=0, **first), call_delta(index=0, id="a", function={"name": "f", "arguments": "1]"})
    ).tool_calls == [ToolCall("a", "f", [1])]


def test_calls_sent_whole_under_one_index_are_several() -> None:
    calls = [{"index": 0, "id": name, "function": {"name": name, "arguments": "{}"}} for name in ("a", "b")]
    assert answer(*(call_delta(**call) for call in calls)).tool_calls == [ToolCall(n, n, {}) for n in ("a", "b")]


def test_calls_without_an_index_go_by_their_id() -> None:
    response = answer(
        call_delta(id="a", function={"name": "f", "arguments": "["}),
        call_delta(id="b", function={"name": "g", "arguments": "2"}),
        call_delta(id="a", function={"arguments": "1]"}),
        call_delta(function={"arguments": " "}),
    )
    assert response.tool_calls == [ToolCall("a", "f", [1]), ToolCall("b", "g", 2)]


def test_a_call_cut_in_its_arguments_keeps_the_part_that_came() -> None:
    response = answer(call_delta(index=0, id="a", function={"name": "f", "arguments": '{"cit'}))
    assert response.tool_calls == [ToolCall("a", "f", '{"cit')]
    assert response.finish_reasons == []


def test_usage_in_every_chunk_is_the_last_one() -> None:
    chunks = [{**chunk(content=str(n)), "usage": {"prompt_tokens": 1, "completion_tokens": n}} for n in range(3)]
    response = answer(*chunks, {**chunk(finish="stop"), "usage": None})
    assert response.usage == Usage(1, 2)
    assert response.text == "012"


def test_an_error_within_a_stream_keeps_what_came_before_it() -> None:
    response = answer(chunk(content="so "), chunk(content="far"), {"error": {"message": "m", "type": "t"}})
    assert response.text == "so far"
    assert response.error == ErrorInfo("t", "m")


def test_choices_of_a_stream_come_out_by_index() -> None:
    response = answer(chunk(1, content="b"), chunk(0, content="a"), chunk(1, "stop"), chunk(0, "length"))
    assert [message.text for message in response.messages] == ["a", "b"]
    assert response.finish_reasons == ["length", "stop"]


def test_the_sdk_adds_our_chunks_up_to_the_body_they_came_from() -> None:
    message = Message("assistant", [Text("hi"), ToolCall("a", "f", {"x": 1})])
    body = openai_chat.encode_response(ModelResponse(model="m", messages=[message], usage=Usage(1, 2, 3)))
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
    for event in openai_chat.stream_events(body):
        state.handle_chunk(ChatCompletionChunk.model_validate(event))
    completion = openai_chat.decode_response(state.get_final_completion().model_dump(mode="json"))
    assert completion == openai_chat.decode_response(body)


def whole_call(name: str, number: int, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": f'{{"p":{number}}}'}, **more}


def names_and_arguments(answered: ModelResponse) -> list[tuple[str, Any]]:
    return [(call.name, call.arguments) for call in answered.messages[0].tool_calls]


@pytest.mark.parametrize("blank", [{"index": 0, "id": ""}, {"index": 0}, {"id": ""}, {}])
@pytest.mark.parametrize("together", [True, False])
def test_calls_without_ids_are_as_many_as_were_made(blank: dict[str, Any], together: bool) -> None:
    calls = [whole_call("w", 1, **blank), whole_call("v", 2, **blank), whole_call("v", 3, **blank)]
    chunks = [chunk(tool_calls=calls)] if together else [chunk(tool_calls=[call]) for call in calls]
    answered = answer(*chunks, chunk(finish="tool_calls"))
    assert names_and_arguments(answered) == [("w", {"p": 1}), ("v", {"p": 2}), ("v", {"p": 3})]


def test_a_name_that_is_said_with_every_fragment_is_of_one_call() -> None:
    pieces = ['{"p"', ":1", "}", ""]
    chunks = [call_delta(index=0, function={"name": "w", "arguments": piece}) for piece in pieces]
    assert names_and_arguments(answer(*chunks)) == [("w", {"p": 1})]


@pytest.mark.parametrize("number", [2**63, 2**64, 1500000000000000000001, -(2**70)])
def test_a_policy_that_touches_one_argument_keeps_every_digit_of_another(number: int) -> None:
    call = {**CALL, "function": {"name": "pay", "arguments": f'{{"to":"0xabc","amount_wei":{number}}}'}}
    wire = {"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "tool_calls": [call]}}]}
    response = openai_chat.decode_response(wire)
    asked = response.messages[0].tool_calls[0]
    assert asked.arguments == {"to": "0xabc", "amount_wei": number}
    masked = replace(asked, arguments={"to": "masked", "amount_wei": number})
    message = replace(response.messages[0], parts=[masked])
    written = openai_chat.encode_response(replace(response, messages=[message]), wire)
    arguments = written["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert arguments.replace(" ", "") == f'{{"to":"masked","amount_wei":{number}}}'


def test_usage_is_found_where_groq_and_moonshot_put_it_in_a_stream() -> None:
    counts = {"prompt_tokens": 18, "completion_tokens": 7, "total_tokens": 25}
    last = chunk(finish="stop")
    groq = answer(chunk(content="Hi"), {**last, "x_groq": {"id": "r", "usage": counts}})
    moonshot = answer(chunk(content="Hi"), {**last, "choices": [{**last["choices"][0], "usage": counts}]})
    assert groq.usage == moonshot.usage == Usage(18, 7, 25)


def test_reasoning_that_is_counted_beside_the_completion_is_output_too() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 2809}, "prompt_tokens_details": {"cached_tokens": 128}}
    counts = {"prompt_tokens": 10120, "completion_tokens": 1499, "total_tokens": 14428, **details}
    xai = answer(chunk(content="Hi"), {**chunk(finish="stop"), "usage": {**counts, "cost_in_usd_ticks": 232856000}})
    openai = answer({**chunk(finish="stop"), "usage": {**counts, "completion_tokens": 4308}})
    assert xai.usage == Usage(10120, 4308, 14428, 128, None, 2809, cost_usd=0.0232856)
    assert openai.usage == Usage(10120, 4308, 14428, 128, None, 2809)


@pytest.mark.parametrize("cost", [0.006, {"input_tokens_cost": 0.001, "request_cost": 0.005, "total_cost": 0.006}])
def test_a_cost_that_the_provider_tells_is_taken_whole_or_in_parts(cost: Any) -> None:
    body = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": cost}}
    assert openai_chat.decode_response(body).usage == Usage(1, 2, 3, cost_usd=0.006)


def thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def test_content_parts_of_which_each_chunk_has_a_fragment_are_one_part() -> None:
    reference = {"type": "reference", "reference_ids": [1]}
    contents = [[thinking("It ")], [thinking("greets")], [thinking(".")], [{"type": "text", "text": "He"}], "llo"]
    response = answer(*[chunk(content=content) for content in [*contents, [reference], " you"]], chunk(finish="stop"))
    reasoning, before, _, after = response.messages[0].parts
    assert (reasoning, before, after) == (Reasoning("It greets."), Text("Hello"), Text(" you"))


def test_content_parts_that_are_no_objects_are_kept_as_they_are() -> None:
    body = openai_chat.ChatAccumulator()
    for content in (["a", {"type": "text"}], [{"type": "text", "text": "b"}, None]):
        body.add(chunk(content=content))
    assert body.result()["choices"][0]["message"]["content"] == [
        "a",
        {"type": "text"},
        {"type": "text", "text": "b"},
        None,
    ]


def test_mcp_servers_for_models_of_anthropics_are_offers() -> None:
    servers = [{"type": "url", "name": "shell", "url": "http://a.test"}]
    toolsets = [{"type": "mcp_toolset", "mcp_server_name": "shell"}, {"type": "mcp_toolset", "mcp_server_name": "sea"}]
    wire = {"model": "m", "messages": [], "mcp_servers": servers, "tools": toolsets}
    left = openai_chat.sift_tools(wire, lambda offer: offer.names[0] != "shell")
    assert "mcp_servers" not in left
    assert left["tools"] == toolsets[1:]
