"""Start and end by hand: for frameworks that own the call."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from spanrelay import current_scope, guardrail, run_tool, scope, start_model, start_scope, start_tool, use
from spanrelay.records import ToolResult
from spanrelay_testkit.capture import Capture, asked, said

THEN = datetime(2026, 2, 3, 4, 5, 6, 789_012, tzinfo=timezone(timedelta(hours=2)))
ANSWER = {"model": "m-1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}}]}
WIRE = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def parent_of(span: Any) -> Any:
    return span.parent.span_id if span.parent else None


def test_a_tool_is_started_and_ended(capture: Capture) -> None:
    started = start_tool("search", {"q": "tides"}, call_id="c1")
    assert capture.spans == ()
    started.end(["one"], annotation={"from": "cache"})
    record = capture.record(capture.span)
    assert record.tool is not None and record.tool.call_id == "c1"
    assert record.tool.arguments == {"q": "tides"}
    assert record.result == ToolResult(["one"], annotation={"from": "cache"})
    assert (capture.span.attributes or {})["spanrelay.tool.result.annotation"] == '{"from":"cache"}'


def test_a_model_call_is_started_and_ended(capture: Capture) -> None:
    start_model(WIRE).end(ANSWER)
    assert (asked(capture.span), said(capture.span)) == ("hi", "hello")
    assert capture.span.name == "chat m"


def test_what_it_raised_is_its_error(capture: Capture) -> None:
    start_tool("search").end(error=LookupError("no tides"))
    assert capture.span.status.description == "no tides"
    assert (capture.span.attributes or {})["error.type"] == "LookupError"


def test_policy_has_no_say(capture: Capture) -> None:
    @guardrail
    def never(call: Any) -> str:
        return "no"

    with use(never):
        start_tool("search").end(1)
    assert capture.record(capture.span).result == ToolResult(1)


def test_a_scope_is_started_here_and_ended_there(capture: Capture) -> None:
    started = start_scope("researcher", session="s", input={"topic": "tides"})
    assert current_scope() is None
    with started.current():
        assert current_scope() is started.scope
        run_tool("t", lambda: 1)
    started.end("done")
    inner, outer = capture.spans
    assert parent_of(inner) == outer.context.span_id
    assert (inner.attributes or {})["gen_ai.conversation.id"] == "s"
    record = capture.record(outer)
    assert (record.input, record.output) == ({"topic": "tides"}, "done")


def test_they_may_end_in_any_order(capture: Capture) -> None:
    first, second = start_tool("first"), start_tool("second")
    first.end()
    second.end()
    assert [span.name for span in capture.spans] == ["execute_tool first", "execute_tool second"]
    assert {parent_of(span) for span in capture.spans} == {None}


def test_the_parent_may_be_named(capture: Capture) -> None:
    with scope("outer") as outer:
        pass
    run = start_scope("run")
    parents = [run, run.scope, run.span, run.span.get_span_context(), run.context]
    for parent in parents:
        start_tool("t", parent=parent).end()
    start_tool("other", parent=outer).end()
    run.end()
    *tools, other, run_span = capture.spans[1:]
    assert {parent_of(span) for span in tools} == {run_span.context.span_id}
    assert parent_of(other) == capture.spans[0].context.span_id


def test_a_wrong_parent_is_named() -> None:
    wrong: Any = "outer"
    with pytest.raises(TypeError, match="parent='outer' must be something started, a Scope"):
        start_tool("t", parent=wrong)


def test_times_may_be_given(capture: Capture) -> None:
    start_tool("t", time=THEN).end(time=THEN + timedelta(seconds=1.5))
    start, end = capture.span.start_time, capture.span.end_time
    assert start == 1_770_084_306_789_012_000
    assert end is not None and start is not None and end - start == 1_500_000_000


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [("2026-02-03", TypeError, "datetime.datetime"), (datetime(2026, 2, 3), ValueError, "timezone-aware")],
)
def test_a_wrong_time_is_refused_and_the_call_can_still_be_ended(
    capture: Capture, wrong: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        start_tool("t", time=wrong)
    started = start_tool("t")
    with pytest.raises(error, match=words):
        started.end(time=wrong)
    started.end()
    assert len(capture.spans) == 1


def test_ending_twice_is_an_error(capture: Capture) -> None:
    started = start_tool("t")
    started.end()
    with pytest.raises(RuntimeError, match="already ended"):
        started.end()
    assert len(capture.spans) == 1


def test_what_cannot_be_started_is_refused(capture: Capture) -> None:
    with pytest.raises(TypeError, match="the request of a model call must be the provider's JSON as a dict, not a"):
        start_model("hi")  # pyright: ignore[reportArgumentType] - the mistake
    with pytest.raises(TypeError, match="a tool's name must be a string, not <built-in function print>"):
        start_tool(print)  # pyright: ignore[reportArgumentType] - the mistake
    assert capture.spans == ()
