"""What LangChain offers beside plain calls works as it does without us: each program runs bare, then instrumented."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelFallbackMiddleware, ToolRetryMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel

from spanrelay_langchain import LangChainInstrumentor
from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Answer, Request, error, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

from .test_retrievers import Shelf
from .ways import chat

ASKED: Any = {"messages": [("user", "Weather?")]}


class Verdict(BaseModel):
    """A verdict."""

    rain: bool


class Server(ModelServer):
    """Two cities at once, then an answer; refuses the first request where it is asked to."""

    def __init__(self, *, refuses: bool = False) -> None:
        self._refusals = 1 if refuses else 0
        super().__init__(self._answers)

    def _answers(self, request: Request) -> Answer:
        if self._refusals:
            self._refusals -= 1
            return error(500)
        offered = [each["function"]["name"] for each in request.body.get("tools", [])]
        if "Verdict" in offered:
            return reply(tool_calls=[tool_call("Verdict", rain=True, id="v")])
        if "response_format" in request.body:
            return reply('{"rain": true}')
        if offered and request.body["messages"][-1]["role"] != "tool":
            cities = ("Oslo", "Bergen")
            return reply(tool_calls=[tool_call(offered[0], city=city, id=f"call_{city}") for city in cities])
        return reply("Rain.")


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def messages(state: Any) -> list[Any]:
    return [(each.type, each.text, [call["name"] for call in getattr(each, "tool_calls", [])]) for each in state]


class Notes(AgentMiddleware):
    """Says in which order LangChain's own middleware is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def before_agent(self, state: Any, runtime: Any) -> None:
        self.notes.append("before agent")

    def before_model(self, state: Any, runtime: Any) -> None:
        self.notes.append("before model")

    def after_model(self, state: Any, runtime: Any) -> None:
        self.notes.append("after model")

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        self.notes.append("model")
        return handler(request.override(system_message=None))

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        self.notes.append("model, async")
        return await handler(request)

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        self.notes.append("tool")
        return handler(request)

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        self.notes.append("tool, async")
        return await handler(request)


def middleware(server: ModelServer) -> Any:
    notes = Notes()
    agent = create_agent(chat(server), [get_weather], middleware=[notes], system_prompt="Be brief.")
    return messages(agent.invoke(ASKED)["messages"]), notes.notes


def async_middleware(server: ModelServer) -> Any:
    notes = Notes()
    agent = create_agent(chat(server), [get_weather], middleware=[notes])
    return messages(asyncio.run(agent.ainvoke(ASKED))["messages"]), notes.notes


def retried_tool(server: ModelServer) -> Any:
    tries: list[str] = []

    def flaky(city: str) -> str:
        """Fails once for each city."""
        tries.append(city)
        if tries.count(city) == 1:
            raise ConnectionError("no answer")
        return f"rain in {city}"

    retry: Any = ToolRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
    agent = create_agent(chat(server), [tool(flaky)], middleware=[retry])
    return messages(agent.invoke(ASKED)["messages"]), sorted(tries)


def retried_model(server: ModelServer) -> Any:
    return chat(server).with_retry(wait_exponential_jitter=False, stop_after_attempt=2).invoke("Weather?").text


def fallback(server: ModelServer) -> Any:
    second: Any = ModelFallbackMiddleware(chat(server))
    return messages(create_agent(chat(server), [], middleware=[second]).invoke(ASKED)["messages"])


def structured(server: ModelServer) -> Any:
    forms: tuple[Any, ...] = (ToolStrategy(Verdict), ProviderStrategy(Verdict))
    agents: list[Any] = [create_agent(chat(server), [], response_format=form) for form in forms]
    given = [agent.invoke(ASKED)["structured_response"] for agent in agents]
    given.append(asyncio.run(agents[0].ainvoke(ASKED))["structured_response"])
    methods = ("json_schema", "function_calling")
    return given + [chat(server).with_structured_output(Verdict, method=method).invoke("Rain?") for method in methods]


def batch(server: ModelServer) -> Any:
    chain: Any = chat(server) | RunnableLambda(lambda message: message.text)
    agent: Any = create_agent(chat(server), [get_weather])

    async def later() -> list[Any]:
        completed = [each async for each in chain.abatch_as_completed(["d", "e"])]
        return [await chain.abatch(["a", "b"]), sorted(completed)]

    agents = [messages(state["messages"]) for state in agent.batch([ASKED, ASKED])]
    return chain.batch(["a", "b", "c"]), asyncio.run(later()), agents


def events(server: ModelServer) -> Any:
    async def seen(runnable: Any, given: Any) -> list[Any]:
        found = [event async for event in runnable.astream_events(given, version="v2")]
        return [(event["event"], event["name"], len(event["parent_ids"])) for event in found]

    agent = create_agent(chat(server), [get_weather], name="weather")
    # The two tools run at the same time, and so do their events.
    return asyncio.run(seen(chat(server), "Weather?")), sorted(asyncio.run(seen(agent, ASKED)))


class Heard(BaseCallbackHandler):
    """Keeps the names of what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        told = super().__getattribute__(name)
        if name.startswith("on_"):
            return lambda *args, **kwargs: self.told.append(name)
        return told


class LaterHeard(AsyncCallbackHandler):
    """The same for async handlers, some of them."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.told.append("on_chat_model_start")

    async def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.told.append("on_llm_end")

    async def on_tool_end(self, *args: Any, **kwargs: Any) -> None:
        self.told.append("on_tool_end")


def callbacks(server: ModelServer) -> Any:
    agent: Any = create_agent(chat(server), [get_weather])
    heard, alone, later = Heard(), Heard(), LaterHeard()
    agent.invoke(ASKED, {"callbacks": [heard]})
    list(chat(server).stream("Weather?", {"callbacks": [alone]}))
    Shelf().invoke("sky", {"callbacks": [alone]})
    asyncio.run(agent.ainvoke(ASKED, {"callbacks": [later]}))
    return sorted(heard.told), alone.told, sorted(later.told)


PROGRAMS: dict[str, tuple[Callable[[ModelServer], Any], bool]] = {
    "middleware": (middleware, False),
    "async middleware": (async_middleware, False),
    "a tool that is retried": (retried_tool, False),
    "a model that is retried": (retried_model, True),
    "a fallback": (fallback, True),
    "structured output": (structured, False),
    "a batch": (batch, False),
    "events": (events, False),
    "callbacks": (callbacks, False),
}


def run(program: Callable[[ModelServer], Any], *, refuses: bool) -> tuple[Any, list[Any]]:
    """Return what a program gives, and what it sent, in an order of its own."""
    with warnings.catch_warnings(), Server(refuses=refuses) as server:
        warnings.simplefilter("ignore")  # LangChain calls some of this deprecated or beta
        given = program(server)
        return given, sorted(request.raw for request in server.requests)


@pytest.mark.parametrize(("program", "refuses"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_gives_and_sends_what_it_does_without_us(program: Any, refuses: bool, capture: Capture) -> None:
    bare = run(program, refuses=refuses)
    instrumentors = [OpenAIInstrumentor(), LangChainInstrumentor(), LangGraphInstrumentor()]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.provider)
    try:
        assert run(program, refuses=refuses) == bare
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
    assert len(capture.of("LLM")) == len(bare[1]) > 0
