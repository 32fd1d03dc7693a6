"""Runs of the real CLI: one trace each, with a span for each call, whatever way they are asked for."""

from __future__ import annotations

from typing import Any

from spanrelay_testkit.capture import Capture

from .provider import Provider
from .ways import QUESTION, Way, each_way, result_of, skies, traces, tree, weather_model

RUN = [
    "invoke_agent claude",
    "  chat claude-opus-5-5",
    "  execute_tool mcp__skies__get_weather",
    "  chat claude-opus-5-5",
]


@each_way
def test_a_run_is_one_trace_with_a_span_for_each_call(instrumented: Capture, options: Any, run: Way) -> None:
    with Provider(weather_model) as provider:
        messages = run(QUESTION, options(provider, mcp_servers=skies(), model="claude-opus-5-5"))
    assert result_of(messages) == "I was told: sunny in Rome"
    assert tree(instrumented) == RUN
    assert traces(instrumented) == 1
