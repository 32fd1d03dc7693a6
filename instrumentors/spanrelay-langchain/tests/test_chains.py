"""Steps of chains, for whoever asks for them: spans that are current while a step works, and none without asking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from opentelemetry import trace
from opentelemetry.context import get_current
from pydantic import SecretStr

import spanrelay
from spanrelay.tracing import recording
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import reply, tool_call
from spanrelay_testkit.model_server import ModelServer

from .test_agents import tree
from .ways import fake

ANSWER = "Blue like the sea."


@pytest.fixture
def chains(capture: Capture) -> Iterator[Capture]:
    """The spans of a test in which the steps of chains are recorded."""
    before = get_current()
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider, chains=True)
    yield capture
    instrumentor.uninstrument()
    assert get_current() == before


def chain() -> Any:
    return ChatPromptTemplate.from_messages([("user", "{question}")]) | fake() | StrOutputParser()


async def by_astream(chain: Any, given: Any) -> str:
    return "".join([text async for text in chain.astream(given)])


WAYS: dict[str, Callable[[Any, Any], str]] = {
    "invoke": lambda chain, given: chain.invoke(given),
    "ainvoke": lambda chain, given: asyncio.run(chain.ainvoke(given)),
    "batch": lambda chain, given: chain.batch([given])[0],
    "abatch": lambda chain, given: asyncio.run(chain.abatch([given]))[0],
    "stream": lambda chain, given: "".join(chain.stream(given)),
    "astream": lambda chain, given: asyncio.run(by_astream(chain, given)),
}
each_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
GIVEN = {"question": "Which colour has the sky?"}
STEPS = ["ChatPromptTemplate", "StrOutputParser", "chat fake-1"]


@each_way
def test_each_step_is_a_span_below_its_chain(ask: Any, chains: Capture) -> None:
    assert ask(chain(), GIVEN) == ANSWER
    assert len({span.context.trace_id for span in chains.spans if span.context}) == 1
    [(name, steps)] = tree(chains)
    assert name == "RunnableSequence"
    # They pull on each other where it is streamed, and stand beside each other all the same.
    assert sorted(steps) == STEPS


@each_way
def test_without_asking_a_run_is_one_span_around_what_it_asks(ask: Any, instrumented: Capture) -> None:
    assert ask(chain(), GIVEN) == ANSWER
    assert tree(instrumented) == [("RunnableSequence", ["chat fake-1"])]


class Colours(BaseRetriever):
    """Knows one colour."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document("blue")]


@each_way
def test_a_question_with_retrieval_is_one_trace(ask: Any, instrumented: Capture) -> None:
    prompt = ChatPromptTemplate.from_messages([("user", "{context}: {question}")])
    asked = {"context": Colours(), "question": RunnablePassthrough()} | prompt | fake() | StrOutputParser()
    assert ask(asked, "Which?") == ANSWER
    [(name, calls)] = tree(instrumented)
    assert (name, sorted(calls)) == ("RunnableSequence", ["chat fake-1", "retrieval Colours"])


def executed_by(way: str, executor: Any) -> Any:
    given = {"input": "Clean?"}

    async def steps() -> Any:
        return [step async for step in executor.astream(given)][-1]

    if way == "astream":
        return asyncio.run(steps())
    if way == "stream":
        return list(executor.stream(given))[-1]
    return executor.invoke(given) if way == "invoke" else asyncio.run(executor.ainvoke(given))


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_an_agent_of_the_classic_kind_is_one_trace_with_an_agent_above(way: str, instrumented: Capture) -> None:
    agents = pytest.importorskip("langchain_classic.agents", reason="not installed on Python 3.10")

    @tool
    def look(place: str) -> str:
        """Look somewhere."""
        return "clean"

    answers = iter(
        [
            reply(tool_calls=[tool_call("look", place="here", id="c1")]),
            reply("It is clean."),
        ]
    )
    with ModelServer(lambda request: next(answers)) as server:
        model = ChatOpenAI(model="gpt-5", base_url=server.url, api_key=SecretStr("none"))
        prompt = ChatPromptTemplate.from_messages([("user", "{input}"), ("placeholder", "{agent_scratchpad}")])
        agent = agents.create_tool_calling_agent(model, [look], prompt)
        executor = agents.AgentExecutor(agent=agent, tools=[look])
        assert executed_by(way, executor)["output"] == "It is clean."
    assert tree(instrumented) == [("invoke_agent AgentExecutor", ["chat gpt-5", "execute_tool look", "chat gpt-5"])]


def test_a_model_a_prompt_or_a_parser_alone_is_no_run(instrumented: Capture) -> None:
    question = ChatPromptTemplate.from_messages([("user", "{question}")]).invoke(GIVEN)
    StrOutputParser().invoke(fake().invoke(question))
    assert [span.name for span in instrumented.spans] == ["chat fake-1"]


def test_a_run_within_a_scope_is_not_told_apart(instrumented: Capture) -> None:
    with spanrelay.scope("boss"):
        chain().invoke(GIVEN)
    assert tree(instrumented) == [("invoke_agent boss", ["chat fake-1"])]


@pytest.mark.parametrize("name", ["session_id", "conversation_id", "thread_id"])
def test_a_run_belongs_to_the_conversation_that_its_metadata_names(name: str, instrumented: Capture) -> None:
    config: Any = {"metadata": {name: "S2", "case": 17, "ls_provider": "x"}, "tags": ["nightly"], "run_name": "colours"}
    chain().invoke(GIVEN, config)
    run, call = (span.attributes or {} for span in sorted(instrumented.spans, key=lambda span: span.start_time or 0))
    assert (run["session.id"], call["session.id"]) == ("S2", "S2")
    assert run["metadata"] == call["metadata"] == '{"case":17,"tags":["nightly"]}'


def test_the_setting_asks_too(capture: Capture) -> None:
    recorded = recording.chains
    runtime = spanrelay.activate(
        spanrelay.Settings(chains=True, trajectories="off", metrics=False, quiet=True),
        tracer_provider=capture.provider,
        instrument=False,
    )
    assert runtime is not None
    try:
        LangChainInstrumentor().instrument(tracer_provider=capture.provider)
        chain().invoke(GIVEN)
        LangChainInstrumentor().uninstrument()
    finally:
        runtime.deactivate()
        recording.chains = recorded
    assert {span.name for span in capture.spans} == {"RunnableSequence", *STEPS}
    LangChainInstrumentor().instrument(tracer_provider=capture.provider, chains=False)
    capture.clear()
    chain().invoke(GIVEN)
    LangChainInstrumentor().uninstrument()
    assert tree(capture) == [("RunnableSequence", ["chat fake-1"])]


def test_an_option_that_is_none_is_refused(capture: Capture) -> None:
    with pytest.raises(TypeError, match=r"LangChainInstrumentor\(\)\.instrument\(chains='yes'\): chains must be true"):
        LangChainInstrumentor().instrument(tracer_provider=capture.provider, chains="yes")
    assert not LangChainInstrumentor().is_instrumented_by_opentelemetry


def test_the_step_is_current_while_it_works_and_says_what_it_got_and_gave(chains: Capture) -> None:
    seen: list[int] = []

    def shout(text: str) -> str:
        seen.append(trace.get_current_span().get_span_context().span_id)
        return text.upper()

    async def go() -> str:
        return await RunnableLambda(shout).ainvoke("blue")

    assert RunnableLambda(shout).invoke("blue", {"run_name": "loud"}) == asyncio.run(go()) == "BLUE"
    assert seen == [span.context.span_id for span in chains.spans if span.context]
    told = [
        (span.name, (span.attributes or {})["input.value"], (span.attributes or {})["output.value"])
        for span in chains.spans
    ]
    assert told == [("loud", "blue", "BLUE"), ("shout", "blue", "BLUE")]
    assert {(span.attributes or {})["openinference.span.kind"] for span in chains.spans} == {"CHAIN"}


def test_parts_that_run_side_by_side_are_below_what_runs_them(chains: Capture) -> None:
    def one(given: Any) -> int:
        return 1

    def two(given: Any) -> int:
        return 2

    assert RunnableParallel(a=RunnableLambda(one), b=RunnableLambda(two)).invoke({}) == {"a": 1, "b": 2}
    [(name, parts)] = tree(chains)
    assert (name, sorted(parts)) == ("RunnableParallel<a,b>", ["one", "two"])


def test_messages_are_recorded_by_what_they_say(chains: Capture) -> None:
    (fake() | StrOutputParser()).invoke([HumanMessage("Sky?")])
    [span] = [span for span in chains.spans if span.name == "RunnableSequence"]
    assert '"content":"Sky?"' in str((span.attributes or {})["input.value"])


# --- faults ---


class Unread:
    """What cannot be read yet, as the body of a response."""

    @property
    def content(self) -> str:
        raise RuntimeError("not read yet")


def test_what_has_no_end_or_cannot_be_read_passes(chains: Capture) -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    unread = Unread()
    same = RunnableLambda(lambda given: given)
    assert same.invoke(endless) is endless
    assert same.invoke(unread) is unread
    said = [str((span.attributes or {})["input.value"]) for span in chains.spans]
    assert ["<cycle>" in said[0], "Unread object" in said[1]] == [True, True]


@each_way
def test_a_failure_is_the_users_and_of_each_step_around_it(ask: Any, chains: Capture) -> None:
    def broken(given: Any) -> Any:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        ask(RunnableLambda(lambda given: given) | RunnableLambda(broken), GIVEN)
    failed = {span.name for span in chains.spans if span.status.status_code.name == "ERROR"}
    assert failed == {"RunnableSequence", "broken"}
    assert chains.ledger.open == []


def test_nothing_is_current_between_two_chunks_and_a_stream_closed_early_is_closed(chains: Capture) -> None:
    before = get_current()
    chunks = chain().stream(GIVEN)
    next(chunks)
    assert get_current() is before
    chunks.close()
    chain().stream(GIVEN)  # nobody starts this one

    async def go() -> None:
        inside = get_current()
        chunks = chain().astream(GIVEN)
        await anext(chunks)
        assert get_current() is inside
        await chunks.aclose()

    asyncio.run(go())
    assert chains.ledger.open == []
    assert len(chains.of("LLM")) == 2


def test_a_cancelled_step_is_over(chains: Capture) -> None:
    async def waits(given: Any) -> Any:
        await asyncio.Event().wait()

    async def go() -> None:
        task = asyncio.ensure_future(RunnableLambda(waits).ainvoke({}))
        while not chains.ledger.started:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert chains.span.name == "waits"


def test_a_program_may_ask_for_more_where_it_is_instrumented_already(
    capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        instrumentor.instrument()
        chain().invoke(GIVEN)
        assert tree(capture) == [("RunnableSequence", ["chat fake-1"])]
        for more in ({"chains": True}, {"tracer_provider": capture.provider}):
            capture.clear()
            LangChainInstrumentor().instrument(**more)  # type: ignore[arg-type] - each is one option
            chain().invoke(GIVEN)
            assert sorted(span.name for span in capture.spans) == [*STEPS[:1], "RunnableSequence", *STEPS[1:]]
    finally:
        instrumentor.uninstrument()
    assert caplog.records == []
