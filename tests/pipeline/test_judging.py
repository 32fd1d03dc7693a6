"""Calls that somebody else sends: request intercepts and guardrails judge them, and nothing is sent or ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, use
from spanrelay.pipeline.call import Boundary
from spanrelay.pipeline.driver import ajudge
from spanrelay.pipeline.function import ToolExecution
from spanrelay.records import ToolRequest
from spanrelay.tracing import default_tracing
from spanrelay_testkit.capture import Capture

NOBODY = cast("Boundary", None)
"""A call that is sent through this fails."""


def judged(*policy: Any) -> tuple[Any, Any]:
    """Let `policy` judge an open call, which is ended here, as its owner would; return what was given and is sent."""

    async def judge() -> tuple[Any, Any]:
        call = ToolExecution(ToolRequest("search", {"q": "tides"}), NOBODY, default_tracing())
        call.open()
        handles = [use(each) for each in policy]
        try:
            await ajudge(call)
            return call.given, call.outgoing()
        finally:
            for handle in handles:
                handle.remove()
            call.finish()

    return asyncio.run(judge())


def test_a_call_without_policy_is_left_as_it_is(capture: Capture) -> None:
    given, sent = judged()
    assert sent is given


def test_intercepts_change_it_and_guardrails_see_the_change(capture: Capture) -> None:
    seen: list[Any] = []

    @request_intercept(kinds=["tool"])
    def narrower(call: Any) -> Any:
        return replace(call.request, arguments={"q": "spring tides"})

    @guardrail(kinds=["tool"])
    async def noting(call: Any) -> str | None:
        seen.append(call.request.arguments)
        return None

    assert judged(narrower, noting)[1] == {"q": "spring tides"}
    assert seen == [{"q": "spring tides"}]
    assert [span.name for span in capture.spans] == ["run_guardrail noting", "execute_tool search"]


def test_a_refusal_is_raised_and_the_call_is_its_owners_to_end(capture: Capture) -> None:
    @guardrail(kinds=["tool"])
    def never(call: Any) -> str | None:
        return "never"

    with pytest.raises(GuardrailRejected, match="never"):
        judged(never)
    assert capture.spans[-1].status.is_unset


def test_execution_intercepts_stand_around_the_sending_and_not_here(capture: Capture) -> None:
    @execution_intercept(kinds=["tool"])
    def around(call: Any) -> Any:
        raise AssertionError("nothing is sent")
        yield call

    assert judged(around)[1] == {"q": "tides"}
