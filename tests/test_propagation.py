"""Where work belongs goes with it into other processes and comes back out."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.context import attach, detach

from spanrelay import ConfigurationError, propagation, run_tool, scope
from spanrelay_testkit.capture import Capture

KNOWN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def continue_and_call(capture: Capture, carrier: Any) -> Any:
    """The span of a tool call made under `carrier`."""
    with propagation.continued(carrier):
        run_tool("t", lambda: 1)
    return capture.spans[0]


@pytest.mark.parametrize("way", [propagation.headers, propagation.environment, propagation.to_json])
def test_what_goes_out_comes_in_as_the_parent(capture: Capture, way: Any) -> None:
    with scope("outer") as outer:
        carrier = way()
    capture.clear()
    span = continue_and_call(capture, carrier)
    assert outer.span is not None
    assert span.parent.span_id == outer.span.get_span_context().span_id
    assert span.parent.is_remote


def test_headers_come_in_any_case(capture: Capture) -> None:
    assert continue_and_call(capture, {"TraceParent": KNOWN}).parent.span_id == 0xB7AD6B7169203331


def test_json_carries_session_user_and_metadata(capture: Capture) -> None:
    with scope("outer", session="s", user="u", metadata={"team": "a"}):
        carrier = propagation.to_json()
    capture.clear()
    record = capture.record(continue_and_call(capture, carrier))
    assert (record.session_id, record.user_id, record.metadata) == ("s", "u", {"team": "a"})


def test_baggage_goes_by_header_and_never_in_the_trace_headers(capture: Capture) -> None:
    token = attach(baggage.set_baggage("secret", "value"))
    try:
        with scope("outer"):
            assert "baggage" in propagation.headers()
            assert set(propagation.trace_headers()) == {"traceparent"}
    finally:
        detach(token)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ('"traceparent": "00-zz-b7ad6b7169203331-01"', "traceparent is '00-zz-b7ad6b7169203331-01'; expected version"),
        ('"traceparent": "00-00000000000000000000000000000000-b7ad6b7169203331-01"', "expected version, trace, span"),
        ('"traceparent": ""', "traceparent is ''"),
        ('"traceparent": 7', "traceparent is 7; expected a text"),
        ('"session": ["s"]', r"session is \['s'\]; expected a text"),
        ('"metadata": "m"', "metadata is 'm'; expected a JSON object"),
    ],
)
def test_what_is_malformed_in_the_json_form_is_said(field: str, words: str) -> None:
    with (
        pytest.raises(ConfigurationError, match=words),
        propagation.continued(f'{{"version": 1, {field}}}'),
    ):
        pass


def test_a_carrier_without_a_trace_changes_nothing(capture: Capture) -> None:
    with scope("outer") as outer, propagation.continued({}):
        run_tool("t", lambda: 1)
    assert outer.span is not None
    parent = capture.spans[0].parent
    assert parent is not None and parent.span_id == outer.span.get_span_context().span_id


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a propagation context"),
        ("[]", "not a propagation context"),
        ('{"version": 2}', "version 2; expected 1"),
    ],
)
def test_json_that_is_something_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words), propagation.continued(text):
        pass


PROGRAM = """
import spanrelay
runtime = spanrelay.activate(spanrelay.Settings(trajectories="off"))
from opentelemetry.trace import get_tracer
print(format(get_tracer("t").start_span("s").parent.span_id, "x"))
"""


def test_a_child_process_continues_the_trace_of_its_environment() -> None:
    environment = {**os.environ, "TRACEPARENT": KNOWN, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "b7ad6b7169203331", done.stderr
