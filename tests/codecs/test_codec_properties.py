"""What holds for every body of every API, checked on generated ones."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.codecs import wire_strategies as wires

from spanrelay._json import dumps
from spanrelay.codecs import (
    anthropic_messages,
    bedrock_converse,
    bedrock_prompt,
    cohere_embed,
    cohere_rerank,
    cohere_v1,
    cohere_v2,
    gemini_embeddings,
    gemini_generate_content,
    gemini_plain,
    mistral_conversations,
    mistral_fim,
    ollama_chat,
    ollama_embed,
    ollama_generate,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
    sse,
)
from spanrelay.records import Message, Text

CODECS = [
    anthropic_messages,
    openai_chat,
    openai_responses,
    openai_embeddings,
    openai_completions,
    ollama_chat,
    ollama_generate,
    ollama_embed,
    cohere_v2,
    cohere_v1,
    cohere_embed,
    cohere_rerank,
    bedrock_converse,
    anthropic_messages,
    bedrock_prompt,
    gemini_generate_content,
    gemini_embeddings,
    gemini_plain,
    mistral_conversations,
    mistral_fim,
]
BODIES = {
    anthropic_messages: (wires.messages_request, wires.messages_response),
    openai_chat: (wires.chat_request, wires.chat_response),
    openai_responses: (wires.responses_request, wires.responses_response),
    ollama_chat: (wires.ollama_request, wires.ollama_response),
    cohere_v2: (wires.cohere_request, wires.cohere_response),
    cohere_v1: (wires.cohere_v1_request, wires.cohere_v1_response),
    mistral_conversations: (wires.conversation_request, wires.conversation_response),
    bedrock_converse: (wires.converse_request, wires.converse_response),
    gemini_generate_content: (wires.gemini_request, wires.gemini_response),
}
PATCHED = [codec for codec in BODIES if codec is not mistral_conversations]
"""Those whose messages may be changed one by one."""
quick = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
each_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.__name__.split(".")[-1])
each_api = pytest.mark.parametrize("codec", list(BODIES), ids=lambda codec: codec.__name__.split(".")[-1])
each_patched = pytest.mark.parametrize("codec", PATCHED, ids=lambda codec: codec.__name__.split(".")[-1])


def same_and_untouched(written: dict[str, Any], wire: dict[str, Any], before: bytes) -> None:
    assert written == wire
    assert list(written) == list(wire)
    assert all(written[key] is wire[key] for key in wire)
    assert dumps(wire) == before


@each_codec
@quick
@given(data=st.data())
def test_any_json_object_is_read_without_an_error_and_written_without_loss(
    codec: ModuleType, data: st.DataObject
) -> None:
    wire = data.draw(wires.any_object)
    before = dumps(wire)
    same_and_untouched(codec.encode_request(codec.decode_request(wire), wire), wire, before)
    same_and_untouched(codec.encode_response(codec.decode_response(wire), wire), wire, before)


@each_codec
@quick
@given(events=st.lists(wires.any_object, max_size=6))
def test_a_stream_of_any_json_objects_adds_up_without_an_error(codec: ModuleType, events: list[Any]) -> None:
    accumulator = codec.accumulator()
    for event in events:
        accumulator.add(event)
    codec.decode_response(accumulator.result())


@each_api
@quick
@given(data=st.data())
def test_a_body_is_written_as_it_was_read(codec: ModuleType, data: st.DataObject) -> None:
    requests, responses = BODIES[codec]
    request, response = data.draw(requests), data.draw(responses)
    same_and_untouched(codec.encode_request(codec.decode_request(request), request), request, dumps(request))
    same_and_untouched(codec.encode_response(codec.decode_response(response), response), response, dumps(response))


@each_api
@quick
@given(data=st.data())
def test_the_events_of_a_body_add_up_to_its_record(codec: ModuleType, data: st.DataObject) -> None:
    body = data.draw(BODIES[codec][1])
    accumulator = codec.accumulator()
    for event in sse.events(b"".join(map(sse.frame, codec.stream_events(body)))):
        accumulator.add(event)
    assert codec.decode_response(accumulator.result()) == codec.decode_response(body)


def with_first_text(messages: list[Message], index: int, text: str) -> list[Message]:
    """The messages with the first text of one of them changed."""
    changed = copy.deepcopy(messages)
    for part in changed[index].parts:
        if isinstance(part, Text):
            part.text = text
            break
    return changed


@each_patched
@quick
@given(data=st.data())
def test_messages_taken_out_put_in_and_changed_read_back_as_they_were_meant(
    codec: ModuleType, data: st.DataObject
) -> None:
    wire = data.draw(BODIES[codec][0])
    before = dumps(wire)
    request = codec.decode_request(wire)
    messages = request.messages
    if messages:
        index = data.draw(st.integers(0, len(messages) - 1))
        change = data.draw(st.sampled_from(["drop", "insert", "text", "part"]))
        if change == "drop":
            messages = messages[:index] + messages[index + 1 :]
        elif change == "insert":
            messages = [*messages[:index], Message("user", [Text("new")]), *messages[index:]]
        elif change == "text":
            messages = with_first_text(messages, index, "changed")
        elif messages[index].role != "tool":
            more = replace(messages[index], parts=[*messages[index].parts, Text("more")])
            messages = [*messages[:index], more, *messages[index + 1 :]]
    written = codec.encode_request(replace(request, messages=messages), wire)
    read = codec.decode_request(written)
    assert [text_of(m) for m in merged(read.messages)] == [text_of(m) for m in merged(messages)]
    assert dumps(wire) == before
    said = ("messages", "input", "contents", "message", "chat_history", "tool_results")
    rest = [key for key in wire if key not in said]
    assert {key: written[key] for key in rest} == {key: wire[key] for key in rest}


def merged(messages: list[Message]) -> list[Message]:
    """Neighbouring answers as one: what stood between them may be gone."""
    out: list[Message] = []
    for message in messages:
        if not message.parts:
            continue
        if out and out[-1].role == message.role == "assistant":
            out[-1] = replace(out[-1], parts=out[-1].parts + message.parts)
        else:
            out.append(message)
    return out


def text_of(message: Message) -> tuple[str, str, int]:
    """Role, text and number of parts; the texts of a message are one, as some APIs have one text beside the rest."""
    others = [part for part in message.parts if not isinstance(part, Text)]
    return message.role, message.text, len(others) + (len(others) < len(message.parts))


@quick
@given(
    events=st.lists(wires.any_object, max_size=5),
    ending=st.sampled_from([b"\n", b"\r\n"]),
    cut=st.integers(0, 400),
)
def test_events_survive_framing_and_a_cut_loses_only_the_last(
    events: list[dict[str, Any]], ending: bytes, cut: int
) -> None:
    data = b"".join(map(sse.frame, events)).replace(b"\n", ending)
    assert list(sse.events(data)) == events
    part = list(sse.events(data[:cut]))
    assert part == events[: len(part)]


@quick
@given(data=st.binary(max_size=60), pieces=st.lists(st.integers(1, 9), max_size=20))
def test_any_bytes_are_split_without_losing_one(data: bytes, pieces: list[int]) -> None:
    splitter = sse.Splitter()
    frames: list[bytes] = []
    place = 0
    for size in [*pieces, len(data)]:
        frames += splitter.feed(data[place : place + size])
        place += size
    assert b"".join(frames) + splitter.rest == data
    list(sse.events(data))
