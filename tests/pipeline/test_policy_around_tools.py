"""What middleware may do around a call, shown on tools: the real call is a function of the test's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.trace import get_current_span

from spanrelay import (
    ConfigurationError,
    GuardrailRejected,
    MiddlewareError,
    arun_tool,
    execution_intercept,
    guardrail,
    request_intercept,
    run_tool,
    scope,
    use,
)
from spanrelay.pipeline.call import call_in_flight
from spanrelay.records import ToolRequest, ToolResult
from spanrelay_testkit.capture import Capture


class Tool:
    """A tool that remembers what it was given."""

    def __init__(self, answer: Callable[[int], Any] = lambda x: x * 2) -> None:
        self.given: list[int] = []
        self._answer = answer

    def __call__(self, x: int) -> Any:
        self.given.append(x)
        return self._answer(x)

    async def later(self, x: int) -> Any:
        await asyncio.sleep(0)
        return self(x)


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs `tool` with `x`, in either colour."""
    if request.param == "sync":
        return lambda tool, x=1, name="double": run_tool(name, tool, {"x": x}, call_id="c1")
    return lambda tool, x=1, name="double": asyncio.run(arun_tool(name, tool.later, {"x": x}, call_id="c1"))


def test_without_policy_the_tool_is_called_and_recorded(capture: Capture, run: Any) -> None:
    assert run(Tool(), 21) == 42
    attributes = dict(capture.span.attributes or {})
    assert capture.span.name == "execute_tool double"
    assert attributes["gen_ai.tool.call.arguments"] == '{"x":21}'
    assert attributes["gen_ai.tool.call.result"] == "42"
    assert attributes["gen_ai.tool.call.id"] == "c1"


def test_a_guardrail_refuses_and_nothing_is_called(capture: Capture, run: Any) -> None:
    @guardrail
    def no_big_numbers(call: Any) -> str | None:
        return "too big" if call.request.arguments["x"] > 10 else None

    tool = Tool()
    with use(no_big_numbers):
        with pytest.raises(GuardrailRejected) as refused:
            run(tool, 11)
        assert run(tool, 10) == 20
    assert tool.given == [10]
    assert refused.value.reason == "too big"
    refusal, refused_call, approval, _ = capture.spans
    assert (refusal.attributes or {})["gen_ai.guardrail.verdict.type"] == "deny"
    assert (approval.attributes or {})["gen_ai.guardrail.verdict.type"] == "allow"
    assert refused_call.status.status_code.name == "ERROR"
    assert refusal.parent is not None
    assert refusal.parent.span_id == refused_call.context.span_id


def test_a_guardrail_may_await(capture: Capture, run: Any) -> None:
    @guardrail
    async def ask_somebody(call: Any) -> str | None:
        await asyncio.sleep(0)
        return "no"

    with use(ask_somebody), pytest.raises(GuardrailRejected):
        run(Tool())


def test_a_guardrail_that_raises_refuses(capture: Capture, run: Any) -> None:
    @guardrail
    def broken(call: Any) -> None:
        raise LookupError("no such rule")

    tool = Tool()
    with (
        use(broken),
        pytest.raises(MiddlewareError, match=r"broken' raised LookupError.*: no such rule") as raised,
    ):
        run(tool)
    assert isinstance(raised.value.__cause__, LookupError)
    assert tool.given == []


def test_a_guardrail_that_answers_something_else_refuses(capture: Capture, run: Any) -> None:
    @guardrail
    def confused(call: Any) -> Any:
        return True

    tool = Tool()
    with use(confused), pytest.raises(MiddlewareError, match="confused' must return None or the reason"):
        run(tool)
    assert tool.given == []


def test_a_request_intercept_changes_what_is_called_and_recorded(capture: Capture, run: Any) -> None:
    @request_intercept
    def one_more(call: Any) -> ToolRequest:
        return replace(call.request, arguments={"x": call.request.arguments["x"] + 1})

    tool = Tool()
    with use(one_more):
        assert run(tool, 1) == 4
    assert (capture.span.attributes or {})["gen_ai.tool.call.arguments"] == '{"x":2}'


def test_guardrails_judge_what_request_intercepts_left(capture: Capture, run: Any) -> None:
    @request_intercept
    def enlarge(call: Any) -> None:
        call.request.arguments["x"] = 100

    @guardrail
    def small_only(call: Any) -> str | None:
        return "too big" if call.request.arguments["x"] > 10 else None

    with use(enlarge), use(small_only), pytest.raises(GuardrailRejected):
        run(Tool(), 1)


def test_a_request_that_an_execution_intercept_changes_is_judged_again(capture: Capture, run: Any) -> None:
    @guardrail
    def small_only(call: Any) -> str | None:
        return "too big" if call.request.arguments["x"] > 10 else None

    @execution_intercept
    def sneak(call: Any) -> Any:
        return (yield call.with_request(replace(call.request, arguments={"x": 1000})))

    tool = Tool()
    with use(small_only), use(sneak), pytest.raises(GuardrailRejected):
        run(tool, 1)
    assert tool.given == []


def test_an_execution_intercept_retries(capture: Capture, run: Any) -> None:
    failures = [TimeoutError("slow"), None]

    def sometimes(x: int) -> int:
        failure = failures.pop(0)
        if failure is not None:
            raise failure
        return x

    @execution_intercept
    def retry_once(call: Any) -> Any:
        try:
            return (yield call)
        except TimeoutError:
            return (yield call)

    tool = Tool(sometimes)
    with use(retry_once):
        assert run(tool, 5) == 5
    assert tool.given == [5, 5]
    assert capture.span.status.status_code.name == "UNSET"


def test_an_execution_intercept_answers_instead_of_the_tool(capture: Capture, run: Any) -> None:
    @execution_intercept
    def cached(call: Any) -> Any:
        return ToolResult("from the cache")
        yield

    tool = Tool()
    with use(cached):
        assert run(tool) == "from the cache"
    assert tool.given == []
    assert (capture.span.attributes or {})["gen_ai.tool.call.result"] == "from the cache"


def test_an_execution_intercept_sees_the_answer_and_may_replace_it(capture: Capture, run: Any) -> None:
    seen: list[Any] = []

    @execution_intercept
    def replaced(call: Any) -> Any:
        response = yield call
        seen.append(response.record)
        return ToolResult("***")

    with use(replaced):
        assert run(Tool(), 2) == "***"
    assert seen == [ToolResult(4)]


def test_returning_nothing_after_a_yield_leaves_the_answer_alone(capture: Capture, run: Any) -> None:
    @execution_intercept
    def only_looks(call: Any) -> Any:
        yield call

    with use(only_looks):
        assert run(Tool(), 2) == 4


def test_neither_sending_nor_answering_is_refused(capture: Capture, run: Any) -> None:
    @execution_intercept
    def forgets(call: Any) -> Any:
        return
        yield

    with use(forgets), pytest.raises(MiddlewareError, match="neither sent the call nor returned an answer"):
        run(Tool())


def test_yielding_something_else_is_refused(capture: Capture, run: Any) -> None:
    @execution_intercept
    def confused(call: Any) -> Any:
        yield 42

    tool = Tool()
    with use(confused), pytest.raises(MiddlewareError, match="must yield the call"):
        run(tool)
    assert tool.given == []


def test_an_intercept_waits_for_an_awaitable(capture: Capture, run: Any) -> None:
    async def verdict() -> str:
        await asyncio.sleep(0)
        return "go"

    heard: list[str] = []

    @execution_intercept
    def asks(call: Any) -> Any:
        heard.append((yield verdict()))
        return (yield call)

    with use(asks):
        assert run(Tool(), 1) == 2
    assert heard == ["go"]


def test_waiting_too_long_refuses(capture: Capture, run: Any) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    @execution_intercept(timeout=0.01)
    def asks(call: Any) -> Any:
        yield never()
        return (yield call)

    tool = Tool()
    with use(asks), pytest.raises(MiddlewareError, match="did not answer within"):
        run(tool)
    assert tool.given == []


def test_copies_are_sent_together_and_their_answers_come_in_order(capture: Capture, run: Any) -> None:
    barrier = threading.Barrier(2, timeout=10)

    @execution_intercept
    def both(call: Any) -> Any:
        one = call.with_request(replace(call.request, arguments={"x": 1}))
        two = call.with_request(replace(call.request, arguments={"x": 2}))
        first, second = yield [one, two]
        return ToolResult(first.record.content + second.record.content)

    sync = run.__code__.co_consts != () and "arun_tool" not in run.__code__.co_names
    tool = Tool((lambda x: (barrier.wait(), x * 2)[1]) if sync else (lambda x: x * 2))
    with use(both):
        assert run(tool) == 6
    assert sorted(tool.given) == [1, 2]


def test_intercepts_nest_by_priority_and_then_by_name(capture: Capture, run: Any) -> None:
    order: list[str] = []

    def intercept(name: str, priority: int) -> Any:
        @execution_intercept(name=name, priority=priority)
        def step(call: Any) -> Any:
            order.append(f"{name} in")
            response = yield call
            order.append(f"{name} out")
            return response

        return step

    with use(intercept("b", 50)), use(intercept("a", 50)), use(intercept("z", 1)):
        run(Tool())
    assert order == ["z in", "a in", "b in", "b out", "a out", "z out"]


def test_the_tools_exception_leaves_as_the_same_object(capture: Capture, run: Any) -> None:
    error = ValueError("boom")

    def fails(x: int) -> None:
        raise error

    @execution_intercept
    def passes_on(call: Any) -> Any:
        return (yield call)

    with use(passes_on), pytest.raises(ValueError, match="boom") as raised:
        run(Tool(fails))
    assert raised.value is error
    assert (capture.span.attributes or {})["error.type"] == "ValueError"


def test_a_stop_iteration_of_the_tool_passes_through_generators(capture: Capture) -> None:
    error = StopIteration("mine")

    def fails(x: int) -> None:
        raise error

    @execution_intercept
    def passes_on(call: Any) -> Any:
        return (yield call)

    with use(passes_on), pytest.raises(StopIteration) as raised:
        run_tool("double", fails, {"x": 1})
    assert raised.value is error


def test_kinds_choose_the_calls_that_middleware_sees(capture: Capture, run: Any) -> None:
    @guardrail(kinds=["llm"])
    def models_only(call: Any) -> str | None:
        return "no"

    with use(models_only):
        assert run(Tool(), 1) == 2


def test_middleware_does_not_run_for_calls_it_makes_itself(capture: Capture) -> None:
    other_runs: list[str] = []

    @guardrail(name="judge")
    def judge(call: Any) -> str | None:
        assert call_in_flight() is None
        return None if run_tool("verdict", lambda: "fine") == "fine" else "no"

    @guardrail(name="watch")
    def watch(call: Any) -> None:
        other_runs.append(call.request.name)

    with use(judge), use(watch):
        assert run_tool("double", Tool(), {"x": 1}) == 2
    assert other_runs == ["verdict", "double"]


def test_middleware_that_waits_does_not_run_for_calls_it_makes_itself(capture: Capture, run: Any) -> None:
    async def verdict() -> str:
        assert call_in_flight() is None
        return await arun_tool("verdict", Tool(lambda x: "fine").later, {"x": 1})

    @guardrail(name="judge")
    async def judge(call: Any) -> str | None:
        return None if await verdict() == "fine" else "no"

    @execution_intercept(name="watch")
    def watch(call: Any) -> Any:
        if call.request.name == "double":  # the judge's own call passes here
            assert (yield verdict()) == "fine"
        yield call

    with use(judge), use(watch):
        assert run(Tool(), 1) == 2
    double = capture.of("TOOL")[-1]
    # Of the judge, of the watch, and of the judge for the watch's.
    assert [span.name for span in capture.of("TOOL")] == ["execute_tool verdict"] * 3 + ["execute_tool double"]
    assert {span.context.trace_id for span in capture.spans} == {double.context.trace_id}


def test_a_sync_call_of_middleware_that_waits_may_itself_be_waited_for(capture: Capture, run: Any) -> None:
    @guardrail(name="judge")
    async def judge(call: Any) -> str | None:
        await asyncio.sleep(0)
        return None if run_tool("verdict", lambda: "fine") == "fine" else "no"

    @guardrail(name="deeper judge")
    async def deeper(call: Any) -> str | None:
        await asyncio.sleep(0)
        return None if run_tool("deeper verdict", lambda: "fine") == "fine" else "no"

    with use(judge), use(deeper):
        assert run(Tool(), 1) == 2


def test_the_span_of_a_call_is_current_in_the_tool_and_gone_after_it(capture: Capture, run: Any) -> None:
    seen: list[int] = []
    before = otel_context.get_current()
    run(Tool(lambda x: seen.append(get_current_span().get_span_context().span_id)))
    assert seen == [capture.span.context.span_id]
    assert otel_context.get_current() == before


def test_a_scope_owns_middleware_for_its_calls_only(capture: Capture) -> None:
    @guardrail
    def never(call: Any) -> str | None:
        return "not here"

    with scope("careful") as careful:
        use(never, scope=careful)
        with scope("inner", kind="chain"), pytest.raises(GuardrailRejected):
            run_tool("double", Tool(), {"x": 1})
    assert run_tool("double", Tool(), {"x": 1}) == 2


def test_registering_a_name_twice_says_what_to_do() -> None:
    @guardrail(name="mine")
    def first(call: Any) -> None: ...

    with use(first), pytest.raises(ConfigurationError, match="'mine' is already registered; remove it first"):
        use(first)


def test_an_execution_intercept_must_be_a_generator_function() -> None:
    with pytest.raises(TypeError, match="declare it first"):
        use(lambda call: call)


def test_removing_middleware_during_a_call_leaves_that_call_its_own(capture: Capture, run: Any) -> None:
    @execution_intercept
    def leaves(call: Any) -> Any:
        handle.remove()
        response = yield call
        return ToolResult(response.record.content + 1)

    handle = use(leaves)
    assert run(Tool(), 1) == 3
    assert run(Tool(), 1) == 2


def test_a_request_intercept_must_return_a_request(capture: Capture, run: Any) -> None:
    @request_intercept
    def confused(call: Any) -> Any:
        return 7

    tool = Tool()
    with use(confused), pytest.raises(MiddlewareError, match="must be a ToolRequest, not 'int'"):
        run(tool)
    assert tool.given == []
