"""Frames of server-sent events, as servers really write them."""

from __future__ import annotations

import pytest

from spanrelay.codecs import sse


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n', [{"a": 1}, {"b": 2}]),
        (b'data: {"a":1}\r\n\r\ndata: {"b":2}\r\n\r\ndata: [DONE]\r\n\r\n', [{"a": 1}, {"b": 2}]),
        (b'data:{"a":1}\n\n', [{"a": 1}]),
        (b': OPENROUTER PROCESSING\n\ndata: {"a":1}\n\n', [{"a": 1}]),
        (b': hi\ndata: {"a":1}\n\n', [{"a": 1}]),
        (b'event: x\nid: 7\nretry: 1\ndata: {"type":"x"}\n\n', [{"type": "x"}]),
        (b'data: {"a":\ndata: 1}\n\ndata: {"b":2}\n\n', [{"a": 1}, {"b": 2}]),
        (b'data: {"a":1}\n\ndata: {"b":', [{"a": 1}]),
        (b'data: {"a":1}\n\ndata: {"b":2}', [{"a": 1}, {"b": 2}]),
        (b'data: {"a":1}\n\nda', [{"a": 1}]),
        (b'data: 1\n\ndata: [1]\n\ndata: {"a":1}\n\n', [{"a": 1}]),
        (b"data: \n\ndata\n\n", []),
        (b'event: {"a":1}\n\nnoise: {"a":1}\n\n', []),
        (b"", []),
    ],
)
def test_events_are_the_json_objects_of_the_stream(data: bytes, events: list[object]) -> None:
    assert list(sse.events(data)) == events


def test_json_of_python_is_read_where_strict_json_is_not_written() -> None:
    [event] = sse.events(b'data: {"a": NaN}\n\n')
    assert event["a"] != event["a"]


def test_a_typed_event_names_its_type_in_a_line_of_its_own() -> None:
    assert sse.frame({"type": "response.created", "n": 1}) == (
        b'event: response.created\ndata: {"type":"response.created","n":1}\n\n'
    )
    assert sse.frame({"choices": []}) == b'data: {"choices":[]}\n\n'


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_a_splitter_gives_whole_frames_and_keeps_the_rest(ending: bytes) -> None:
    blank = ending * 2
    splitter = sse.Splitter()
    assert splitter.feed(b"data: 1" + ending) == []
    assert splitter.feed(ending + b"data: 2" + blank + b"da") == [b"data: 1" + blank, b"data: 2" + blank]
    assert splitter.rest == b"da"


@pytest.mark.parametrize("ends", [b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n", b"\n\r", b"\r\n\r", b"\r\n\n"])
def test_a_frame_ends_with_two_line_ends_of_any_kind(ends: bytes) -> None:
    splitter = sse.Splitter()
    assert splitter.feed(b"data: 1" + ends + b"data: 2" + ends) == [b"data: 1" + ends, b"data: 2" + ends]
    assert splitter.rest == b""


def test_a_line_end_is_one_however_it_is_cut() -> None:
    splitter = sse.Splitter()
    assert splitter.feed(b"event: a\r") == []
    assert splitter.feed(b"\ndata: 1\r\n\r\n") == [b"event: a\r\ndata: 1\r\n\r\n"]


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b"data: [DONE]\n\n", 0),
        (b"data:[DONE]\n\n", 0),
        (b'data: {"a": 1}\r\n\r\ndata: [DONE]', 18),
        (b'data: {"a": "data: [DONE]"}\n\n', -1),
        (b"data: 1\n\n", -1),
    ],
)
def test_only_a_line_of_its_own_ends_a_stream(data: bytes, at: int) -> None:
    assert sse.find_end(data) == at


def test_a_piece_of_a_line_ends_no_stream() -> None:
    assert sse.find_end(b"data: [DONE]", begins_line=False) == -1
