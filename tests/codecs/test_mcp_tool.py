"""Calls of tools over MCP as JSON: what was asked, what was answered, and both back again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shared_data import exchanges, needs_shared

from spanrelay.codecs.mcp_tool import decode_request, decode_result, encode_request, encode_result, is_shown_as
from spanrelay.records import ToolRequest, ToolResult

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PARAMS = st.fixed_dictionaries(
    {"name": st.text(max_size=8)},
    optional={"arguments": JSON, "_meta": st.dictionaries(st.text(max_size=5), JSON, max_size=2), "task": JSON},
)


@given(PARAMS)
def test_parameters_come_back_as_they_were(params: dict[str, Any]) -> None:
    before = json.dumps(params)
    assert encode_request(decode_request(params), params) == params
    assert json.dumps(params) == before


@given(PARAMS, JSON.filter(lambda value: value is not None))
def test_other_arguments_change_nothing_else(params: dict[str, Any], arguments: Any) -> None:
    request = decode_request(params)
    changed = encode_request(ToolRequest(request.name, arguments), params)
    assert changed == {**params, "arguments": arguments}


TEXT = {"type": "text", "text": "5"}
IMAGE = {"type": "image", "data": "aGk=", "mimeType": "image/png"}


@pytest.mark.parametrize(
    ("result", "content"),
    [
        ({"content": [TEXT]}, "5"),
        ({"content": [TEXT, {"type": "text", "text": "6"}]}, "5\n6"),
        ({"content": [TEXT], "structuredContent": {"result": "5"}}, "5"),
        ({"content": [TEXT], "structuredContent": {"result": 5}}, "5"),
        ({"content": [TEXT], "structuredContent": 5}, "5"),
        ({"content": [TEXT, TEXT], "structuredContent": {"result": ["5", "5"]}}, "5\n5"),
        ({"content": [{"type": "text", "text": '{"b": 1, "a": 2}'}], "structuredContent": {"a": 2, "b": 1}},
         '{"b": 1, "a": 2}'),
        ({"content": [TEXT], "structuredContent": {"result": 6}},
         {"content": [TEXT], "structuredContent": {"result": 6}}),
        ({"content": [TEXT], "structuredContent": {"result": 5, "unit": "K"}},
         {"content": [TEXT], "structuredContent": {"result": 5, "unit": "K"}}),
        ({"content": [{"type": "text", "text": "true"}], "structuredContent": {"result": 1}},
         {"content": [{"type": "text", "text": "true"}], "structuredContent": {"result": 1}}),
        ({"content": [], "structuredContent": {"result": 6}}, {"result": 6}),
        ({"content": []}, []),
        ({"content": [TEXT, IMAGE]}, [TEXT, IMAGE]),
        ({"content": [{"type": "text", "text": None}]}, [{"type": "text", "text": None}]),
        ({"resultType": "input_required", "inputRequests": {}}, {"resultType": "input_required", "inputRequests": {}}),
        ({}, {}),
    ],
)  # fmt: skip
def test_a_result_is_read_as_a_model_is_shown_it(result: dict[str, Any], content: Any) -> None:
    assert decode_result(result) == ToolResult(content)
    assert decode_result({**result, "isError": True}).is_error is True


@pytest.mark.parametrize(
    "content", ["cloudy", "", 5, True, None, {"city": "Rome"}, {"content": "Rome"}, [1, 2], [], {"result": 1}]
)
def test_an_answer_is_a_result_that_says_the_same(content: Any) -> None:
    written = encode_result(content)
    assert set(written) == {"content", "isError", "structuredContent"}
    shown = decode_result(written)
    assert shown.content == content or json.loads(shown.content) == content
    assert encode_result(content, is_error=True)["isError"] is True
    assert "structuredContent" not in encode_result(content, is_error=True)


@pytest.mark.parametrize("content", [[TEXT, IMAGE], [IMAGE]])
def test_blocks_and_whole_results_are_written_as_they_are(content: Any) -> None:
    assert encode_result(content) == {"content": content, "isError": False}
    whole = {"content": content, "isError": True, "_meta": {"a": 1}}
    assert encode_result(whole) == whole


@pytest.mark.parametrize("shown", ["weather", "there_weather", "mcp__there__weather", "there.weather", "a:weather"])
def test_a_framework_may_put_the_servers_name_before_a_tools(shown: str) -> None:
    assert is_shown_as("weather", shown)


@pytest.mark.parametrize("shown", ["", "Weather", "overweather", "weather_there", "weather_"])
def test_other_names_are_of_other_tools(shown: str) -> None:
    assert not is_shown_as("weather", shown)


@needs_shared
def test_recorded_calls_are_read_as_they_were() -> None:
    seen = 0
    for exchange in exchanges("mcp_*.jsonl"):
        body, truth = exchange["request"]["body"], exchange["truth"]
        if body["method"] != "tools/call":
            continue
        seen += 1
        [asked] = truth["tool_calls"]
        request = decode_request(body["params"])
        assert (request.name, request.arguments) == (asked["name"], asked["arguments"])
        assert encode_request(request, body["params"]) == body["params"]
        events = [line[6:] for line in exchange["response"]["body"].splitlines() if line.startswith("data: ")]
        [result] = [message["result"] for message in map(json.loads, events) if "result" in message]
        assert decode_result(result) == ToolResult(truth["text"], truth["mcp_is_error"])
    assert seen
