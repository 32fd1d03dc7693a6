"""Agents of `create_agent`: one trace for a run, policy within it, and everything of LangChain's at work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from langchain import agents
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelFallbackMiddleware, ToolCallLimitMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import SystemMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from opentelemetry import trace
from pydantic import BaseModel

from spanrelay import GuardrailRejected, guardrail, request_intercept, sanitizer, use
from spanrelay.records import AgentInfo
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_langchain.agents import MARK
from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_testkit.capture import Capture, captured
from spanrelay_testkit.exchange import Answer, Request, error, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

from .ways import Fake, chat, fake


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    with trace.get_tracer("app", tracer_provider=PROVIDER[-1]).start_as_current_span(f"looking at {city}"):
        return f"rain in {city}"


PROVIDER: list[Any] = []


def answers(request: Request) -> Answer:
    """Two cities at once, then an answer."""
    if request.body["messages"][-1]["role"] != "tool":
        return reply(tool_calls=[tool_call("get_weather", city=city, id=f"call_{city}") for city in ("Oslo", "Bergen")])
    return reply("Rain.")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server


@pytest.fixture
def graphs(instrumented: Capture) -> Iterator[Capture]:
    """The spans of a test in which LangGraph is instrumented too."""
    instrumentor = LangGraphInstrumentor()
    instrumentor.instrument(tracer_provider=instrumented.provider)
    PROVIDER.append(instrumented.provider)
    yield instrumented
    instrumentor.uninstrument()


ASKED: Any = {"messages": [("user", "Weather?")]}


def by_stream(agent: Any, given: Any, config: Any = None) -> Any:
    return list(agent.stream(given, config, stream_mode="values"))[-1]


async def by_astream(agent: Any, given: Any, config: Any = None) -> Any:
    last: Any = None
    async for value in agent.astream(given, config, stream_mode="values"):
        last = value
    return last


async def by_tokens(agent: Any, given: Any, config: Any = None) -> Any:
    """Streams message chunks, which makes LangChain stream from the model."""
    last: Any = None
    async for mode, value in agent.astream(given, config, stream_mode=["messages", "values"]):
        last = value if mode == "values" else last
    return last


RUNS: dict[str, Callable[..., Any]] = {
    "invoke": lambda agent, *given: agent.invoke(*given),
    "ainvoke": lambda agent, *given: asyncio.run(agent.ainvoke(*given)),
    "stream": by_stream,
    "astream": lambda agent, *given: asyncio.run(by_astream(agent, *given)),
    "tokens": lambda agent, *given: asyncio.run(by_tokens(agent, *given)),
}
each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def tree(capture: Capture, parent: Any = None) -> list[Any]:
    """Names below `parent`, each with what is below it."""
    below = [
        span for span in capture.spans if (span.parent.span_id if span.parent else None) == (parent and parent.span_id)
    ]
    found: list[Any] = []
    for span in sorted(below, key=lambda span: (span.start_time or 0, span.name)):
        inner = tree(capture, span.get_span_context())
        found.append((span.name, inner) if inner else span.name)
    return found


def kinds(capture: Capture) -> list[str]:
    return sorted(str((span.attributes or {}).get("openinference.span.kind", "")) for span in capture.spans)


@pytest.mark.proves("langchain", "one trace", "streaming")
@each_run
def test_a_run_is_one_trace_in_the_shape_of_the_work(run: Any, graphs: Capture, server: ModelServer) -> None:
    agent = create_agent(chat(server), [get_weather], system_prompt="Be brief.", name="weather")
    assert run(agent, ASKED)["messages"][-1].text == "Rain."
    [(name, nodes)] = tree(graphs)
    assert name == "invoke_agent weather"
    assert [node[1] for node in nodes if node[0] == "model"] == [["chat gpt-5"], ["chat gpt-5"]]
    tools = [part for node in nodes if node[0] == "tools" for part in node[1]]
    assert sorted(tools) == [
        ("execute_tool get_weather", ["looking at Bergen"]),
        ("execute_tool get_weather", ["looking at Oslo"]),
    ]
    assert len({span.context.trace_id for span in graphs.spans if span.context}) == 1
    assert kinds(graphs).count("LLM") == len(server.requests) == 2


def test_the_graph_says_which_agent_it_is(graphs: Capture, server: ModelServer) -> None:
    assert getattr(agents.create_agent(chat(server), [], name="weather"), MARK) == AgentInfo("weather")
    assert getattr(create_agent(chat(server), []), MARK) == AgentInfo(None)


@pytest.mark.proves("langchain", "policy")
@each_run
def test_a_policy_refuses_one_tool_and_rewrites_one_parameter(
    run: Any, graphs: Capture, server: ModelServer, policy: Any
) -> None:
    @guardrail(kinds=["tool"], answers=True)
    def no_oslo(call: Any) -> str | None:
        return "not Oslo" if call.request.arguments == {"city": "Oslo"} else None

    @request_intercept(kinds=["llm"])
    def cold(call: Any) -> Any:
        return replace(call.request, parameters={**call.request.parameters, "temperature": 0.0})

    policy(no_oslo)
    policy(cold)
    messages = run(create_agent(chat(server), [get_weather]), ASKED)["messages"]
    assert [request.body["temperature"] for request in server.requests] == [0.0, 0.0]
    told = {message.tool_call_id: (message.text, message.status) for message in messages if message.type == "tool"}
    assert told == {
        "call_Oslo": ("guardrail 'no_oslo' refused the call: not Oslo", "error"),
        "call_Bergen": ("rain in Bergen", "success"),
    }
    assert messages[-1].text == "Rain."


def test_a_refusal_that_does_not_answer_ends_the_run(graphs: Capture, server: ModelServer, policy: Any) -> None:
    @guardrail(kinds=["tool"])
    def never(call: Any) -> str:
        return "no"

    policy(never)
    with pytest.raises(GuardrailRejected):
        create_agent(chat(server), [get_weather]).invoke(ASKED)


class Notes(AgentMiddleware):
    """Says what LangChain's own middleware sees."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        self.notes.append("model")
        return handler(request)

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        self.notes.append(request.tool_call["name"])
        return handler(request)


def test_middleware_of_langchains_own_keeps_working(graphs: Capture, server: ModelServer) -> None:
    notes = Notes()
    limit: Any = ToolCallLimitMiddleware(run_limit=5)
    create_agent(chat(server), [get_weather], middleware=[notes, limit]).invoke(ASKED)
    assert sorted(notes.notes) == ["get_weather", "get_weather", "model", "model"]
    assert kinds(graphs).count("TOOL") == 2


def test_a_fallback_of_an_agent_is_a_call_of_its_own(graphs: Capture, server: ModelServer) -> None:
    with ModelServer(lambda request: error(500)) as broken:
        fallback: Any = ModelFallbackMiddleware(chat(server))
        agent = create_agent(chat(broken), [get_weather], middleware=[fallback])
        assert agent.invoke(ASKED)["messages"][-1].text == "Rain."
    calls = [span for span in graphs.spans if span.name == "chat gpt-5"]
    assert sorted(span.status.status_code.name for span in calls) == ["ERROR", "ERROR", "UNSET", "UNSET"]


class Verdict(BaseModel):
    """A verdict."""

    rain: bool


def test_structured_output_of_an_agent(graphs: Capture) -> None:
    with ModelServer(lambda request: reply(tool_calls=[tool_call("Verdict", rain=True, id="v")])) as server:
        agent: Any = create_agent(chat(server), [], response_format=ToolStrategy(Verdict))
        assert agent.invoke(ASKED)["structured_response"] == Verdict(rain=True)
    assert kinds(graphs).count("LLM") == 1


@tool
def book(city: str) -> str:
    """Book a trip, if somebody says yes."""
    return f"booked {city}: {interrupt('may I?')}"


async def one_by_one(agent: Any, given: list[Any], config: Any) -> list[Any]:
    return [await agent.ainvoke(each, config) for each in given]


TURNS: dict[str, Callable[..., list[Any]]] = {
    "invoke": lambda agent, given, config: [agent.invoke(each, config) for each in given],
    "ainvoke": lambda agent, given, config: asyncio.run(one_by_one(agent, given, config)),
}


@pytest.mark.proves("langchain", "interrupts", "sessions")
@pytest.mark.parametrize("take", TURNS.values(), ids=TURNS)
def test_an_interrupted_tool_is_no_failure_and_goes_on(take: Any, graphs: Capture) -> None:
    def answers(request: Request) -> Answer:
        if request.body["messages"][-1]["role"] != "tool":
            return reply(tool_calls=[tool_call("book", city="Oslo", id="b")])
        return reply("Done.")

    with ModelServer(answers) as server:
        agent = create_agent(chat(server), [book], checkpointer=InMemorySaver(), name="travel")
        config = {"configurable": {"thread_id": "t"}}
        asked, resumed = take(agent, [ASKED, Command(resume="yes")], config)
    assert asked["__interrupt__"][0].value == "may I?"
    assert resumed["messages"][-2].text == "booked Oslo: yes"
    assert {span.status.status_code.name for span in graphs.spans} == {"UNSET"}
    assert kinds(graphs).count("LLM") == 2
    assert kinds(graphs).count("TOOL") == 2
    assert {(span.attributes or {}).get("gen_ai.conversation.id") for span in graphs.spans} == {"t"}


@pytest.mark.proves("langchain", "sub-agents")
def test_an_agent_under_a_tool_is_below_it(graphs: Capture, server: ModelServer) -> None:
    inner = create_agent(chat(server), [get_weather], name="inner")

    @tool
    def ask_inner(question: str) -> str:
        """Ask somebody who knows."""
        return inner.invoke({"messages": [("user", question)]})["messages"][-1].text

    def outer_answers(request: Request) -> Answer:
        if request.body["messages"][-1]["role"] != "tool":
            return reply(tool_calls=[tool_call("ask_inner", question="Weather?", id="q")])
        return reply("It rains.")

    with ModelServer(outer_answers) as other:
        create_agent(chat(other), [ask_inner], name="outer").invoke(ASKED)
    [(name, nodes)] = tree(graphs)
    assert name == "invoke_agent outer"
    [(_, [(tool_name, [(agent_name, _)])])] = [node for node in nodes if node[0] == "tools"]
    assert (tool_name, agent_name) == ("execute_tool ask_inner", "invoke_agent inner")


# --- what an agent is told ---


def told(capture: Capture, agent: str) -> tuple[Any, Any]:
    """The instructions and the names of the tools on the span of an agent."""
    [span] = [span for span in capture.spans if span.name == f"invoke_agent {agent}"]
    attributes = span.attributes or {}
    instructions = json.loads(str(attributes.get("gen_ai.system_instructions", "[]")))
    definitions = json.loads(str(attributes.get("gen_ai.tool.definitions", "[]")))
    return [part["content"] for part in instructions], [tool.get("name", tool["type"]) for tool in definitions]


@each_run
def test_an_agents_span_says_its_instructions_and_its_tools(run: Any, graphs: Capture, server: ModelServer) -> None:
    described: Any = {"type": "function", "function": {"name": "open_door", "parameters": {"type": "object"}}}
    agent = create_agent(chat(server), [get_weather, described], system_prompt="Be brief.", name="weather")
    run(agent, ASKED)
    assert told(graphs, "weather") == (["Be brief."], ["get_weather", "open_door"])
    [span] = [span for span in graphs.spans if span.name == "invoke_agent weather"]
    first, _ = json.loads(str((span.attributes or {})["gen_ai.tool.definitions"]))
    assert first["description"] == "The weather of a city."
    assert first["parameters"]["required"] == ["city"]


def test_each_agent_has_its_own_instructions_and_tools(graphs: Capture, server: ModelServer) -> None:
    inner = create_agent(chat(server), [get_weather], system_prompt="Know the weather.", name="inner")

    @tool
    def ask_inner(question: str) -> str:
        """Ask somebody who knows."""
        return inner.invoke({"messages": [("user", question)]})["messages"][-1].text

    def outer_answers(request: Request) -> Answer:
        if request.body["messages"][-1]["role"] != "tool":
            return reply(tool_calls=[tool_call("ask_inner", question="Weather?", id="q")])
        return reply("It rains.")

    with ModelServer(outer_answers) as other:
        instructions: Any = SystemMessage([{"type": "text", "text": "Ask."}, {"type": "text", "text": "Then say."}])
        create_agent(chat(other), [ask_inner], system_prompt=instructions, name="outer").invoke(ASKED)
    assert told(graphs, "outer") == (["Ask.", "Then say."], ["ask_inner"])
    assert told(graphs, "inner") == (["Know the weather."], ["get_weather"])


class Bringing(AgentMiddleware):
    """Brings a tool of its own."""

    tools = (get_weather,)


def test_tools_of_middleware_are_the_agents_and_a_copy_has_them_too(graphs: Capture, server: ModelServer) -> None:
    agent = agents.create_agent(chat(server), middleware=[Bringing()], name="weather")
    agent.with_config({"tags": ["copy"]}).invoke(ASKED)
    assert told(graphs, "weather") == ([], ["get_weather"])


def test_an_agent_of_a_maker_that_nobody_patched_says_the_same(graphs: Capture, server: ModelServer) -> None:
    maker = getattr(create_agent, "__wrapped__", create_agent)
    maker(chat(server), [get_weather], system_prompt="Be brief.", name="weather").invoke(ASKED)
    assert told(graphs, "weather") == (["Be brief."], ["get_weather"])


class Counted(BaseTool):
    """Says how often its arguments were read."""

    name: str = "counted"
    description: str = "Counted."
    read: list[int] = []  # noqa: RUF012 - a field of pydantic's, which copies it

    @property
    def tool_call_schema(self) -> Any:
        self.read.append(1)
        return super().tool_call_schema

    def _run(self) -> str:
        return ""


class Deaf(Fake):
    """Does not look at the tools that it is given."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def test_tools_are_read_once_for_an_agent_and_its_copies(graphs: Capture) -> None:
    counted = Counted()
    agent = create_agent(Deaf(), [counted], name="weather")
    reads: list[int] = []
    for each in (agent, agent, agent.with_config({"tags": ["copy"]})):
        each.invoke(ASKED)
        reads.append(len(counted.read))
    assert reads[0] > 0 and reads == reads[:1] * 3
    shown = {(span.attributes or {})["gen_ai.tool.definitions"] for span in graphs.of("AGENT")}
    assert len(graphs.of("AGENT")) == 3 and len(shown) == 1


@pytest.mark.parametrize("dialect", ["genai", "openinference"])
def test_what_an_agent_is_told_is_content(dialect: str, server: ModelServer) -> None:
    for content in (True, False):
        with captured(dialect=dialect, content=content) as spans:
            instrumentors = [LangChainInstrumentor(), LangGraphInstrumentor()]
            for instrumentor in instrumentors:
                instrumentor.instrument(tracer_provider=spans.provider)
            create_agent(fake(), [], system_prompt="Be brief.", name="weather").invoke(ASKED)
            for instrumentor in instrumentors:
                instrumentor.uninstrument()
            assert any("Be brief." in str(span.attributes) for span in spans.of("AGENT")) == content


def test_a_sanitizer_sees_what_an_agent_is_told(graphs: Capture, server: ModelServer) -> None:
    @sanitizer(fields=["request"], kinds=["agent"])
    def brief(field: Any) -> Any:
        return {"instructions": [{"type": "text", "content": "***"}], "tools": []}

    with use(brief):
        create_agent(chat(server), [get_weather], system_prompt="Secret.", name="weather").invoke(ASKED)
        assert told(graphs, "weather") == (["***"], [])
