"""Policy that is awaited, where the application runs on trio: with the real SDK, and with nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import openai
import pytest
import trio
from opentelemetry import context as otel_context
from opentelemetry.trace import get_current_span

from spanrelay import (
    GuardrailRejected,
    MiddlewareError,
    arun_model,
    arun_tool,
    astream_model,
    execution_intercept,
    guardrail,
    request_intercept,
    run_tool,
    use,
)
from spanrelay.pipeline.loops import on_own_loop
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer

HELLO: Any = [{"role": "user", "content": "hello"}]
Work = Callable[[], Awaitable[Any]]


@pytest.fixture(params=["trio", "anyio on trio", "anyio on asyncio", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Callable[[Work], Any]:
    """Runs an async function on one kind of loop."""
    kinds: dict[str, Callable[[Work], Any]] = {
        "trio": trio.run,
        "anyio on trio": lambda work: anyio.run(work, backend="trio"),
        "anyio on asyncio": lambda work: anyio.run(work, backend="asyncio"),
        "asyncio": lambda work: asyncio.run(work()),  # pyright: ignore[reportArgumentType]
    }
    return kinds[request.param]


@pytest.fixture
def server(capture: Capture) -> Iterator[ModelServer]:
    with ModelServer() as server:
        OpenAIInstrumentor().instrument(tracer_provider=capture.provider)
        yield server
        OpenAIInstrumentor().uninstrument()


@guardrail
async def small_models_only(call: Any) -> str | None:
    await anyio.sleep(0)
    return None if call.request.model.endswith("-mini") else "too large"


@request_intercept
async def smaller(call: Any) -> Any:
    await anyio.sleep(0)
    call.wire["model"] = "gpt-5-mini"


@execution_intercept
def waits_first(call: Any) -> Generator[Any, Any, Any]:
    assert (yield later(3)) == 3
    return (yield call)


async def later(value: Any) -> Any:
    await anyio.sleep(0)
    return value


async def asked(server: ModelServer, model: str = "gpt-5", **more: Any) -> Any:
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        return await client.chat.completions.create(model=model, messages=HELLO, **more)


def test_an_awaited_guardrail_refuses_and_lets_pass(loop: Any, server: ModelServer) -> None:
    async def main() -> None:
        with use(small_models_only):
            with pytest.raises(GuardrailRejected, match="too large"):
                await asked(server)
            assert (await asked(server, "gpt-5-mini")).choices[0].message.content == "You said: hello"

    loop(main)
    assert [request.model for request in server.requests] == ["gpt-5-mini"]


def test_an_awaited_request_intercept_changes_the_request(loop: Any, server: ModelServer) -> None:
    async def main() -> str:
        with use(smaller), use(small_models_only), use(waits_first):
            return (await asked(server)).model

    assert loop(main) == "gpt-5-mini"


# The SDK leaves its own async generators to the garbage collector, with or without us; trio warns of that.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <async_generator object:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.filterwarnings("ignore:Async generator 'openai:ResourceWarning")
def test_a_buffered_stream_is_replayed(loop: Any, server: ModelServer) -> None:
    @execution_intercept(buffered=True)
    def judges(call: Any) -> Generator[Any, Any, Any]:
        response = yield call
        assert (yield later(response.record.text)) == "You said: hello"
        return response

    async def main() -> str:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
            with use(judges):
                stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    assert loop(main) == "You said: hello"


async def echo(wire: dict[str, Any]) -> Any:
    await anyio.sleep(0)
    return {"model": wire["model"], "choices": []}


def test_what_is_sent_together_is_sent_at_the_same_time(loop: Any, capture: Capture) -> None:
    async def main() -> Any:
        both = anyio.Event()
        under_way: list[str] = []

        async def send(wire: dict[str, Any]) -> Any:
            under_way.append(wire["model"])
            if len(under_way) == 2:
                both.set()
            await both.wait()
            return await echo(wire)

        with use(execution_intercept(two)):
            return await arun_model(send, {"model": "a", "messages": []})

    def two(call: Any) -> Generator[Any, Any, Any]:
        first, second = yield [call.branch(), other_model(call)]
        assert second.record.model == "b"
        return first

    assert loop(main)["model"] == "a"


def other_model(call: Any) -> Any:
    branch = call.branch()
    branch.wire["model"] = "b"
    return branch


def test_the_first_that_raises_ends_what_is_sent_beside_it(loop: Any, capture: Capture) -> None:
    error = LookupError("no such model")
    ended: list[str] = []

    async def main() -> None:
        async def send(wire: dict[str, Any]) -> Any:
            if wire["model"] == "b":
                raise error
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(wire["model"])

        with use(execution_intercept(two)), pytest.raises(LookupError) as raised:
            await arun_model(send, {"model": "a", "messages": []})
        assert raised.value is error

    def two(call: Any) -> Generator[Any, Any, Any]:
        return (yield [call.branch(), other_model(call)])[0]

    loop(main)
    assert ended == ["a"]


def test_a_time_limit_refuses(loop: Any, capture: Capture) -> None:
    ended: list[str] = []

    @guardrail(timeout=0.01)
    async def never_answers(call: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    async def main() -> None:
        with use(never_answers), pytest.raises(MiddlewareError, match=r"'never_answers' did not answer within 0.01 s"):
            await arun_tool("t", later, {"value": 1})
        await anyio.sleep(0)

    loop(main)
    assert ended == ["cancelled"]


def test_what_a_guardrail_raises_is_the_cause_of_the_error(loop: Any, capture: Capture) -> None:
    error = LookupError("no such rule")

    @guardrail
    async def breaks(call: Any) -> None:
        await anyio.sleep(0)
        raise error

    async def main() -> None:
        with use(breaks), pytest.raises(MiddlewareError, match="guardrail 'breaks' raised LookupError") as raised:
            await arun_tool("t", later, {"value": 1})
        assert raised.value.__cause__ is error

    loop(main)


def test_policy_is_awaited_in_its_own_context_and_leaves_none(loop: Any, capture: Capture) -> None:
    marked: ContextVar[str] = ContextVar("marked", default="")
    seen: list[str] = []

    @guardrail
    async def looks(call: Any) -> None:
        await anyio.sleep(0)
        marked.set("by policy")
        seen.append(format(get_current_span().get_span_context().span_id))

    async def main() -> None:
        before = otel_context.get_current()
        with use(looks):
            await arun_tool("t", later, {"value": 1})
        assert otel_context.get_current() is before
        assert marked.get() == ""

    loop(main)
    assert seen == [format(capture.of("TOOL")[0].get_span_context().span_id)]  # pyright: ignore[reportOptionalMemberAccess]


def test_a_call_that_is_cancelled_in_policy_says_so(loop: Any, capture: Capture) -> None:
    async def main() -> None:
        at_work = anyio.Event()

        @guardrail
        async def at_length(call: Any) -> None:
            at_work.set()
            await anyio.sleep_forever()

        with use(at_length):
            async with anyio.create_task_group() as group:
                group.start_soon(arun_tool, "t", later, {"value": 1})
                await at_work.wait()
                group.cancel_scope.cancel()

    loop(main)
    assert (capture.of("TOOL")[0].attributes or {})["spanrelay.incomplete"] == "cancelled"


@pytest.mark.parametrize("buffered", [False, True])
def test_a_stream_that_is_cancelled_says_so_and_is_closed(loop: Any, capture: Capture, buffered: bool) -> None:
    closed: list[str] = []

    @execution_intercept(buffered=buffered)
    def sends(call: Any) -> Generator[Any, Any, Any]:
        return (yield call)

    class Events:
        def __init__(self) -> None:
            self.waiting = anyio.Event()

        async def __aiter__(self) -> AsyncIterator[Any]:
            yield {"choices": []}
            self.waiting.set()
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            closed.append("closed")

    async def main() -> None:
        events = Events()

        async def read() -> None:
            stream: Any = await astream_model(lambda wire: events, {"model": "m", "messages": [], "stream": True})
            try:
                async for _ in stream:
                    pass
            finally:
                await stream.aclose()

        with use(sends):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await events.waiting.wait()
                group.cancel_scope.cancel()

    loop(main)
    assert closed == ["closed"]
    assert (capture.span.attributes or {})["spanrelay.incomplete"] == "cancelled"


def test_a_sync_call_waits_on_the_loop_of_its_own(loop: Any, capture: Capture) -> None:
    @guardrail
    async def on_asyncio(call: Any) -> str | None:
        await asyncio.sleep(0)
        return None if call.request.arguments["value"] == 1 else "not that"

    async def main() -> None:
        with use(on_asyncio):
            assert run_tool("t", lambda value: value, {"value": 1}) == 1
            with pytest.raises(GuardrailRejected):
                run_tool("t", lambda value: value, {"value": 2})

    loop(main)


def test_what_may_only_see_one_loop_is_awaited_from_any(loop: Any) -> None:
    async def which() -> asyncio.AbstractEventLoop:
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    async def main() -> bool:
        return await on_own_loop(which()) is await on_own_loop(which())

    assert loop(main)
