"""What is declared wrongly is refused at the declaration, not at the first call and never in silence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from spanrelay import (
    GuardrailRejected,
    MiddlewareError,
    agent,
    execution_intercept,
    gate,
    guardrail,
    request_intercept,
    run_tool,
    scope,
    stream_intercept,
    tool,
    use,
)
from spanrelay_testkit.capture import Capture


def nothing(*_: Any) -> None:
    return None


async def later(*_: Any) -> None:
    return None


def generating(*_: Any) -> Any:
    yield


ANY: Any = object()


@pytest.mark.parametrize("declare", [guardrail, request_intercept, stream_intercept])
@pytest.mark.parametrize("kinds", [["tools"], ["LLM"], "lm"])
def test_an_unknown_kind_is_named(declare: Any, kinds: Any) -> None:
    with pytest.raises(ValueError, match=r"kinds= names .*; use some of agent"):
        declare(kinds=kinds)(nothing)


def test_one_kind_may_stand_alone(capture: Capture) -> None:
    @guardrail(kinds="tool")
    def deny(call: Any) -> str:
        return "denied"

    with use(deny), pytest.raises(GuardrailRejected):
        run_tool("rm", lambda: 1)


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: guardrail(ANY), "a guardrail is a function, not <object"),
        (lambda: guardrail("llm"), "a guardrail is a function, not 'llm'"),  # pyright: ignore[reportCallIssue, reportArgumentType] - the mistake
        (lambda: guardrail(kind=["llm"]), "has no option kind=; did you mean kinds=?"),  # pyright: ignore[reportCallIssue] - the mistake
        (lambda: guardrail(timeout="1"), "timeout='1' of a guardrail must be seconds"),  # pyright: ignore[reportCallIssue, reportArgumentType] - the mistake
        (lambda: guardrail(timeout=0), "timeout=0 of a guardrail must be seconds, above 0"),
        (lambda: request_intercept(priority="high"), "priority='high' of a request intercept"),  # pyright: ignore[reportCallIssue, reportArgumentType] - the mistake
        (lambda: stream_intercept(hold_back=-1), "hold_back=-1 of a stream intercept"),
        (lambda: stream_intercept(hold_back="5"), "hold_back='5' of a stream intercept"),  # pyright: ignore[reportCallIssue, reportArgumentType] - the mistake
        (lambda: guardrail(generating), "must return its answer, not yield it"),
        (lambda: stream_intercept(later), "must be a plain function"),
        (lambda: gate("x")(later), "must be a plain function"),
        (lambda: gate("x")(generating), "must return its answer, not yield it"),
        (lambda: gate(ANY), "a gate names what it switches off"),
        (lambda: execution_intercept(nothing), "must be a generator function"),
        (lambda: use(nothing), "cannot be registered; declare it first with @guardrail"),
        (lambda: use(guardrail(nothing), scope="name"), "scope='name' must be a Scope"),  # pyright: ignore[reportArgumentType] - the mistake
        (lambda: agent("planner"), "@agent decorates a function, not 'planner'; a name is given as name='planner'"),  # pyright: ignore[reportArgumentType] - the mistake
        (lambda: tool("search"), "@tool decorates a function, not 'search'"),  # pyright: ignore[reportArgumentType] - the mistake
        (lambda: scope(None), "a scope's name must be a string, not None"),  # pyright: ignore[reportArgumentType] - the mistake
    ],
)
def test_a_mistake_is_told_with_what_to_do(declare: Any, words: str) -> None:
    with pytest.raises(TypeError) as raised:
        declare()
    assert words in str(raised.value)


def test_a_gate_takes_the_middleware_itself(capture: Capture) -> None:
    @guardrail
    def deny(call: Any) -> str:
        return "denied"

    @gate(deny)
    def maintenance(call: Any) -> str:
        return "closed"

    with use(deny), use(maintenance):
        assert run_tool("t", lambda: 1) == 1


@pytest.mark.swallows
@pytest.mark.parametrize("answer", [True, False, 0])
def test_a_gate_that_answers_something_else_leaves_policy_on(capture: Capture, answer: Any) -> None:
    @guardrail
    def deny(call: Any) -> str:
        return "denied"

    @gate("deny")
    def confused(call: Any) -> Any:
        return answer

    with use(deny), use(confused), pytest.raises(GuardrailRejected):
        run_tool("t", lambda: 1)


def test_an_error_says_whose_it_is(capture: Capture) -> None:
    @request_intercept
    def wrong_request(call: Any) -> Any:
        return 5

    with use(wrong_request), pytest.raises(MiddlewareError, match="request intercept 'wrong_request': "):
        run_tool("t", lambda: 1)

    @guardrail
    def broken(call: Any) -> None:
        raise ValueError("boom")

    with use(broken), pytest.raises(MiddlewareError, match=r"guardrail 'broken' raised ValueError.*: boom") as raised:
        run_tool("t", lambda: 1)
    assert isinstance(raised.value.__cause__, ValueError)

    @request_intercept
    def half(call: Any) -> Any:
        return {"name": "t"}

    with use(half), pytest.raises(MiddlewareError, match=r"intercept 'half': .* must be a ToolRequest, not 'dict'"):
        run_tool("t", lambda: 1)


def test_what_an_execution_intercept_raises_stays_itself_and_says_whose_it_is(capture: Capture) -> None:
    mine, tools = PermissionError("not today"), ValueError("boom")

    def fail() -> None:
        raise tools

    @execution_intercept
    def refuses(call: Any) -> Any:
        raise mine
        yield call

    @execution_intercept
    def lets_through(call: Any) -> Any:
        return (yield call)

    with use(lets_through), pytest.raises(ValueError, match="boom") as through:
        run_tool("t", fail)
    assert through.value is tools
    assert getattr(tools, "__notes__", []) == []
    for _ in range(2):
        with use(refuses), use(lets_through), pytest.raises(PermissionError) as raised:
            run_tool("t", fail)
        assert raised.value is mine
    told = ["raised by the execution intercept 'refuses' of SpanRelay"]
    assert getattr(mine, "__notes__", told) == told  # Python 3.10 has none


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GuardrailRejected("no", "g"), RecursionError()])
def test_what_is_no_fault_of_a_guardrail_leaves_as_it_is(capture: Capture, error: BaseException) -> None:
    @guardrail
    def passes_on(call: Any) -> None:
        raise error

    with use(passes_on), pytest.raises(type(error)) as raised:
        run_tool("t", lambda: 1)
    assert raised.value is error


def test_a_refusal_without_a_reason_says_so(capture: Capture) -> None:
    @guardrail
    def silent(call: Any) -> str:
        return ""

    with use(silent), pytest.raises(GuardrailRejected, match="no reason given"):
        run_tool("t", lambda: 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_what_would_end_the_program_ends_no_later_call_of_its(capture: Capture, error: BaseException) -> None:
    raising = [error]

    @guardrail
    async def ends(call: Any) -> str | None:
        await asyncio.sleep(0)
        if raising:
            raise raising.pop()
        return None

    with use(ends):
        with pytest.raises(type(error)) as raised:
            run_tool("t", lambda: "ran")
        assert raised.value is error
        # In time: the loop on which sync calls wait goes on.
        assert run_tool("t", lambda: "ran") == "ran"
