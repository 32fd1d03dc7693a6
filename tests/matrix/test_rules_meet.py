"""Rules that meet: what one puts into a request another still judges, and what a judge asks is its own affair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from tests.matrix.cells import Cell
from tests.matrix.ways import DENIED, WAYS, Clients, Way
from tests.matrix.work import Work, World, working

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, run_model, use
from spanrelay.pipeline.middleware import Middleware
from spanrelay.semconv import names
from spanrelay_testkit.capture import asked, said

on_one_loop = pytest.mark.asyncio(loop_scope="module")
ASKING = [way for way in WAYS if way.ask is not None]
REFUSAL = "model 'gpt-forbidden' is denied by '*-forbidden'"


def way_name(way: Way) -> str:
    return f"{way.door} {way.name}"


# --- a denied model ---


@request_intercept(kinds=["llm"])
def puts_it_there(call: Any) -> Any:
    return replace(call.request, model=DENIED)


@request_intercept(kinds=["llm"])
def writes_it_there(call: Any) -> None:
    call.wire["model"] = DENIED


@execution_intercept(kinds=["llm"])
def sends_a_copy(call: Any) -> Iterator[Any]:
    return (yield call.with_request(replace(call.request, model=DENIED)))


@execution_intercept(kinds=["llm"])
def changes_it_late(call: Any) -> Iterator[Any]:
    call.request.model = DENIED
    return (yield call)


@execution_intercept(kinds=["llm"])
def falls_back(call: Any) -> Iterator[Any]:
    try:
        return (yield call)
    except Exception:
        return (yield call.with_request(replace(call.request, model=DENIED)))


@execution_intercept(kinds=["llm"], buffered=True)
def sends_both(call: Any) -> Iterator[Any]:
    first, _ = yield [call.branch(), call.with_request(replace(call.request, model=DENIED))]
    return first


SNEAKS = [puts_it_there, writes_it_there, sends_a_copy, changes_it_late, falls_back, sends_both]


@on_one_loop
@pytest.mark.parametrize("way", ASKING, ids=way_name)
@pytest.mark.parametrize("sneak", SNEAKS, ids=lambda sneak: sneak.name)
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "not sampled"])
async def test_a_denied_model_is_refused_whoever_puts_it_there(
    sneak: Middleware, way: Way, sampler: Sampler, world: World, tmp_path: Path
) -> None:
    cell = Cell("guardrail", way, "built-in plugin")
    async with working(cell, world, tmp_path / "trajectories", sampler=sampler) as work:
        with cell.in_force(tmp_path), use(sneak), pytest.raises(GuardrailRejected) as refused:
            await work.ask("broken" if sneak is falls_back else "hello")
        work.settle()
    assert (refused.value.reason, refused.value.name) == (REFUSAL, "policy.models")
    assert DENIED not in [request.model for request in work.received]
    if sampler is ALWAYS_ON:
        check_refusal(work)


def check_refusal(work: Work) -> None:
    """Span, event and trajectory say that the model was denied."""
    [call] = [span for span in work.spans if (span.attributes or {})[names.OI_KIND] == "LLM"]
    assert REFUSAL in (call.status.description or "")
    assert [REFUSAL in event["metadata"]["otel.status_description"] for event in work.events] == [True]
    work.read_trajectory()
    assert REFUSAL in work.steps[-1]["extra"]["error"]["message"]


# --- a judge that asks a model ---


def judged_by(ask: Callable[[str], str]) -> Middleware:
    @guardrail(name="judge", kinds=["llm"])
    def judge(call: Any) -> str | None:
        verdict = ask(f"is this fine: {call.request.messages[-1].text}")
        return None if verdict.startswith("You said: is this fine") else "the judge is out of order"

    return judge


def with_client(clients: Clients) -> Middleware:
    def ask(question: str) -> str:
        messages: Any = [{"role": "user", "content": question}]
        answer = clients.sync.chat.completions.create(model="judge", messages=messages)
        return answer.choices[0].message.content or ""

    return judged_by(ask)


def with_run_model(clients: Clients) -> Middleware:
    def ask(question: str) -> str:
        def post(body: dict[str, Any]) -> Any:
            return clients.http.post("chat/completions", json=body).raise_for_status().json()

        asked = {"model": "judge", "messages": [{"role": "user", "content": question}]}
        return run_model(post, asked)["choices"][0]["message"]["content"]

    return judged_by(ask)


def with_async_client(clients: Clients) -> Middleware:
    @guardrail(name="judge", kinds=["llm"])
    async def judge(call: Any) -> str | None:
        messages: Any = [{"role": "user", "content": f"is this fine: {call.request.messages[-1].text}"}]
        # A client of its own: under a sync call it runs on another loop.
        async with openai.AsyncOpenAI(base_url=clients.url, api_key="none", max_retries=0) as client:
            answer = await client.chat.completions.create(model="judge", messages=messages)
        return None if answer.choices[0].message.content else "the judge is silent"

    return judge


@on_one_loop
@pytest.mark.parametrize("way", ASKING, ids=way_name)
@pytest.mark.parametrize("made", [with_client, with_run_model, with_async_client], ids=lambda made: made.__name__)
async def test_what_a_judge_asks_is_a_call_of_its_own(
    made: Callable[[Clients], Middleware], way: Way, world: World, tmp_path: Path
) -> None:
    cell = Cell("sanitizer", way, "global")
    async with working(cell, world, tmp_path / "trajectories") as work:
        with cell.in_force(tmp_path), use(made(world.clients)):
            assert await work.ask("hello") == "You said: hello"
        work.settle()
    work.read_trajectory()
    assert [request.model for request in work.received] == ["judge", "gpt-5"]
    calls = [span for span in work.spans if (span.attributes or {})[names.OI_KIND] == "LLM"]
    told = {span.name: (asked(span), said(span)) for span in calls}
    assert told == {
        "chat judge": ("is this fine: hello", "You said: is this fine: hello"),
        "chat gpt-5": ("hello", "You said: hello"),
    }
    assert sorted(event["name"] for event in work.events) == sorted(told)
    assert len(calls) == 2
    own = [step["message"] for step in work.document["steps"] if step["message"]]
    assert own == ["hello", "You said: hello"], "the judge is no part of the user's conversation"


@on_one_loop
@pytest.mark.parametrize("way", [way for way in ASKING if not way.streams][:4], ids=way_name)
async def test_judges_that_judge_each_other_come_to_an_end(way: Way, world: World, tmp_path: Path) -> None:
    first, second = (replace(with_client(world.clients), name=name) for name in ("first", "second"))
    cell = Cell("sanitizer", way, "global")
    async with working(cell, world, tmp_path / "trajectories") as work:
        with use(first), use(second):
            assert await work.ask("hello") == "You said: hello"
    fine = "is this fine: "
    assert work.questions == [fine * 2 + "hello", fine + "hello", fine * 2 + "hello", fine + "hello", "hello"]


@on_one_loop
@pytest.mark.parametrize("way", [way for way in ASKING if not way.streams][:4], ids=way_name)
async def test_judges_that_await_judge_each_other_too(way: Way, world: World, tmp_path: Path) -> None:
    def awaiting(name: str) -> Middleware:
        inner = with_client(world.clients)

        @guardrail(name=name, kinds=["llm"], timeout=10)
        async def judge(call: Any) -> str | None:
            return inner(call)  # blocks its loop, as it should not

        return judge

    cell = Cell("sanitizer", way, "global")
    async with working(cell, world, tmp_path / "trajectories") as work:
        with use(awaiting("first")), use(awaiting("second")):
            assert await work.ask("hello") == "You said: hello"
    assert len(work.questions) == 5
