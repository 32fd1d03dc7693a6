from __future__ import annotations

from typing import Any

import pytest

from spanrelay.semconv.values import at, attribute_value, decode_loosely, unwrap_arguments, unwrap_result

MESSAGE = {"content": "sunny", "name": "w", "tool_call_id": "call_1", "status": "success"}


@pytest.mark.parametrize(
    "wrapped",
    [
        {"lc": 1, "type": "constructor", "id": ["langchain", "ToolMessage"], "kwargs": MESSAGE},
        {"type": "tool", "data": MESSAGE},
        MESSAGE,
        {"output": {"lc": 1, "type": "constructor", "kwargs": MESSAGE}, "kwargs": {"color": "green"}},
    ],
)
def test_a_langchain_tool_message_is_unwrapped_in_every_form(wrapped: dict[str, Any]) -> None:
    assert unwrap_result(wrapped) == ("sunny", "call_1", False)


def test_a_langchain_tool_messages_failure_is_seen() -> None:
    assert unwrap_result({"type": "tool", "data": {**MESSAGE, "status": "error"}}) == ("sunny", "call_1", True)


@pytest.mark.parametrize("value", ["sunny", None, 3, ["a"], {"type": "tool"}, {"data": 1}, {"content": "x"}])
def test_a_result_that_is_no_envelope_stays_as_it_is(value: Any) -> None:
    assert unwrap_result(value) == (value, None, False)


@pytest.mark.parametrize(
    ("wrapped", "arguments", "call_id"),
    [
        ({"input_str": "{'city': 'SF'}", "kwargs": {"tool_call_id": "c"}}, {"city": "SF"}, "c"),
        ({"input_str": "SF", "inputs": {"city": "SF"}}, {"city": "SF"}, None),
        ({"name": "w", "args": {"city": "SF"}, "id": "c", "type": "tool_call"}, {"city": "SF"}, "c"),
        ({"city": "SF"}, {"city": "SF"}, None),
        ("SF", "SF", None),
    ],
)
def test_arguments_are_unwrapped(wrapped: Any, arguments: Any, call_id: str | None) -> None:
    assert unwrap_arguments(wrapped) == (arguments, call_id)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("{'city': 'SF', 'n': None, 'ok': True}", {"city": "SF", "n": None, "ok": True}),
        ('{"city": "SF"}', {"city": "SF"}),
        ("{'city': open('x')}", "{'city': open('x')}"),
        ("{'a'}", "{'a'}"),
        ("{" * 300, "{" * 300),
        ("plain", "plain"),
    ],
)
def test_a_python_dict_is_read_as_data_only(written: str, read: Any) -> None:
    assert decode_loosely(written) == read


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (2**70, str(2**70)),
        (1, 1),
        (True, True),
        ([1, "a"], '[1,"a"]'),
        (["a"], ["a"]),
        ({"a": 1}, '{"a":1}'),
        (None, "null"),
    ],
)
def test_parameters_become_values_that_otlp_can_carry(value: Any, written: Any) -> None:
    assert attribute_value(value) == written


@pytest.mark.parametrize(
    ("value", "place", "found"),
    [
        ({"a": {"b": 1}}, "a.b", 1),
        ({"a": [{"b": 1}]}, "a.0.b", 1),
        ({"a": [{"b": 1}]}, "a.1.b", None),
        ({"a": 7}, "a.b", None),
        ([], "0", None),
    ],
)
def test_what_is_nested_is_found_by_its_place_or_not_at_all(value: Any, place: str, found: Any) -> None:
    assert at(value, place) == found
