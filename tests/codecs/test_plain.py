"""Requests on routes that no codec is for: what of a parameter is read and set there."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from spanrelay.codecs import plain
from spanrelay.codecs.parameters import SETTABLE
from spanrelay.plugins.policy.settings import Parameters

TOLD: dict[str, Any] = {"temperature": 0.0, "max_tokens": 5}


def test_a_file_may_set_what_such_a_request_may_say() -> None:
    assert {each.name for each in fields(Parameters)} == SETTABLE


def test_a_parameter_is_set_under_the_key_that_says_it_and_nowhere_else() -> None:
    wire = {"model": "m", "prompt": "draw", "max_output_tokens": 900}
    asked = plain.decode_request(wire)
    assert asked.parameters == {"max_tokens": 900}
    told = replace(asked, parameters={**asked.parameters, **TOLD})
    assert plain.encode_request(told, wire) == {**wire, "max_output_tokens": 5}


def test_of_several_keys_for_one_parameter_one_is_left() -> None:
    wire = {"model": "m", "max_tokens": 5, "max_output_tokens": 900}
    assert plain.single_parameters(wire, TOLD) == {"model": "m", "max_tokens": 5}


def test_a_batch_that_nothing_changes_stays_itself() -> None:
    wire = {"requests": [{"params": {"messages": []}}, {"body": {"input": "embedded"}}, "what is no request"]}
    assert plain.with_requests(wire, lambda _, body: body) is wire
    assert plain.with_requests({"requests": "a text"}, lambda _, body: {}) == {"requests": "a text"}
