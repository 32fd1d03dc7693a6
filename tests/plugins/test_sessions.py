"""One notion of a conversation: what a budget counts as one session is one trajectory, and the other way round."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from pydantic import SecretStr
from tests import programs

from spanrelay import GuardrailRejected, execution_intercept, run_tool, scope, use
from spanrelay.assembly.exporter import AtifSpanExporter
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.policy import PolicyPlugin
from spanrelay.records import Message, ModelResponse, Text
from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Request, error, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

LIMITS = "[plugins.policy]\nsession.max_calls = 1000\nsession.max_tool_calls = 1000\n"


def answer(request: Request) -> Any:
    """The same words for the same question; about the weather a tool is to be asked."""
    if request.last_user_text == "weather?":
        return reply(tool_calls=[tool_call("weather", {})])
    if request.last_user_text == "fail":
        return error(500)
    return reply(f"about {request.last_user_text}")


class World:
    """A provider, a policy with a session's limits in force, and what both sides make of a program's calls."""

    def __init__(self, folder: Path, capture: Capture, server: ModelServer, text: str = LIMITS) -> None:
        self._folder, self._capture, self._plugin = folder, capture, PolicyPlugin()
        (folder / "spanrelay.toml").write_text(text)
        self.activation = Activation([PolicyFile(str(folder / "spanrelay.toml"), "chosen")], self)  # type: ignore[arg-type]
        self.client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        self.url = server.url

    def take(self, name: str) -> Any:
        return self._plugin, []

    def put(self, text: str) -> None:
        """Put other limits in force."""
        (self._folder / "spanrelay.toml").write_text(f"[plugins.policy]\n{text}\n")
        self.activation.reload()

    def counted(self) -> list[int]:
        """How many calls of models each session has, as the budget sees it."""
        [counts] = self._plugin._counts.values()
        return sorted(count.calls for count in counts.store._counts.values() if count.calls)  # type: ignore[attr-defined]

    def told(self) -> list[int]:
        """How many calls of models each trajectory has."""
        exporter = AtifSpanExporter(self._folder / "trajectories")
        exporter.export(self._capture.spans)
        exporter.shutdown()
        paths = (self._folder / "trajectories").glob("*.json")
        return sorted(_calls(json.loads(path.read_text())) for path in paths)

    def chat(self, messages: list[Any], **options: Any) -> str:
        """Ask, and return the answer's text."""
        done = self.client.chat.completions.create(model="gpt-5", messages=messages, **options)
        return done.choices[0].message.content or ""


def _calls(document: dict[str, Any]) -> int:
    own = sum(step.get("llm_call_count", 0) for step in document["steps"] if not step.get("is_copied_context"))
    return own + sum(_calls(inner) for inner in document.get("subagent_trajectories", ()))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answer) as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, capture: Capture, server: ModelServer) -> Iterator[World]:
    instrumentors = [OpenAIInstrumentor(), LangGraphInstrumentor()]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.provider)
    made = World(tmp_path, capture, server)
    made.activation.start()
    yield made
    made.activation.close()
    made.client.close()
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def loop(world: World, turns: int, name: str = "loop", **options: Any) -> None:
    history: list[Any] = [{"role": "system", "content": "be kind"}]
    for turn in range(turns):
        history.append(user(f"{name} {turn}"))
        history.append(says(world.chat(history, **options)))


def two_interleaved(world: World) -> None:
    one: list[Any] = []
    other: list[Any] = []
    for turn in range(3):
        for history in (one, other):
            history.append(user(f"turn {turn}"))
            history.append(says(world.chat(history)))


def other_words(world: World) -> None:
    for name in ("a", "b", "c"):
        loop(world, 2, name)


def equal_first_requests(world: World) -> None:
    for _ in range(5):
        world.chat([user("hello")])


def equal_requests_with_examples(world: World) -> None:
    for _ in range(3):
        world.chat([user("good"), says("positive"), user("bad")])


def branches(world: World) -> None:
    history = [user("one")]
    history.append(says(world.chat(history)))
    for branch in range(4):
        world.chat([*history, user(f"branch {branch}")])


def trimmed(world: World) -> None:
    history: list[Any] = [{"role": "system", "content": "be kind"}]
    for turn in range(8):
        history.append(user(f"turn {turn}"))
        history.append(says(world.chat([history[0], *history[1:][-3:]])))


def summarised(world: World) -> None:
    history = [user("one")]
    for turn in range(3):
        history += [says(world.chat(history)), user(f"more {turn}")]
    world.chat([user("summary of it"), *history[-3:]])


def changing_instructions(world: World) -> None:
    history: list[Any] = []
    for turn in range(4):
        history.append(user(f"turn {turn}"))
        history.append(says(world.chat([{"role": "system", "content": f"it is {turn} o'clock"}, *history])))


def rewritten_answers(world: World) -> None:
    history: list[Any] = []
    for turn in range(4):
        history.append(user(f"turn {turn}"))
        text = world.chat(history)
        history.append(says(text if turn < 1 else f"[checked] {text}"))


def a_failed_call_again(world: World) -> None:
    history = [user("one")]
    history += [says(world.chat(history)), user("fail")]
    for _ in range(3):
        with suppress(openai.InternalServerError):
            world.chat(history)


def streams(world: World) -> None:
    history: list[Any] = []
    for turn in range(3):
        history.append(user(f"turn {turn}"))
        stream: Any = world.client.chat.completions.create(model="gpt-5", messages=history, stream=True)
        history.append(says("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)))


def streams_that_are_left(world: World) -> None:
    history: list[Any] = []
    for turn in range(3):
        history.append(user(f"turn {turn}"))
        with world.client.chat.completions.create(model="gpt-5", messages=history, stream=True) as stream:  # type: ignore[call-overload]
            heard = ""
            for chunk in stream:
                heard += chunk.choices[0].delta.content or ""
                if heard:
                    break
        history.append(says(heard))


def previous_responses(world: World) -> None:
    before: Any = openai.omit
    for turn in range(3):
        before = world.client.responses.create(model="gpt-5", input=f"turn {turn}", previous_response_id=before).id


def kept_conversations(world: World) -> None:
    for turn in range(2):
        for name in ("conv_1", "conv_2"):
            world.client.responses.create(model="gpt-5", input=f"turn {turn}", conversation=name)


def items_of_responses(world: World) -> None:
    items: list[Any] = [user("one")]
    for turn in range(3):
        items += world.client.responses.create(model="gpt-5", input=items).output
        items.append(user(f"turn {turn}"))


def scopes_without_a_session(world: World) -> None:
    for _ in range(2):
        with scope("agent"):
            loop(world, 2, "same")
            world.chat([user("a title")])


def named_sessions(world: World) -> None:
    for name in ("s-1", "s-2", "s-1"):
        with scope("agent", session=name):
            loop(world, 2)


def tasks(world: World) -> None:
    async def one(client: openai.AsyncOpenAI, name: str) -> None:
        history: list[Any] = []
        for turn in range(3):
            history.append(user(f"{name} {turn}"))
            done = await client.chat.completions.create(model="gpt-5", messages=history)
            history.append(says(done.choices[0].message.content or ""))

    async def all_of_them() -> None:
        async with openai.AsyncOpenAI(base_url=world.url, api_key="none", max_retries=0) as client:
            await asyncio.gather(*(one(client, name) for name in ("a", "b", "same", "same", "same")))

    asyncio.run(all_of_them())


def threads_of_a_graph(world: World) -> None:
    model = ChatOpenAI(base_url=world.url, api_key=SecretStr("none"), model="gpt-5", max_retries=0)
    graph: Any = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "model")
    agent = graph.compile(checkpointer=InMemorySaver())
    for _ in range(2):
        for thread in ("t-1", "t-2"):
            agent.invoke({"messages": [("user", "hello")]}, {"configurable": {"thread_id": thread}})


def sessions_within_a_span(world: World) -> None:
    with scope("evaluation", "chain"):
        for name in ("s-1", "s-2", "s-3"):
            with scope("agent", session=name):
                loop(world, 2)


def a_session_within_another(world: World) -> None:
    with scope("outer", session="s-1"):
        world.chat([user("outer")])
        with scope("inner", session="s-2"):
            loop(world, 2)


PROGRAMS: list[tuple[Callable[[World], None], list[int]]] = [
    (lambda world: loop(world, 4), [4]),
    (lambda world: loop(world, 30), [30]),
    (two_interleaved, [3, 3]),
    (other_words, [2, 2, 2]),
    (equal_first_requests, [1, 1, 1, 1, 1]),
    (equal_requests_with_examples, [1, 1, 1]),
    (branches, [5]),
    (trimmed, [8]),
    (summarised, [4]),
    (changing_instructions, [4]),
    (rewritten_answers, [4]),
    (a_failed_call_again, [4]),
    (streams, [3]),
    (streams_that_are_left, [3]),
    (previous_responses, [3]),
    (kept_conversations, [2, 2]),
    (items_of_responses, [3]),
    (scopes_without_a_session, [3, 3]),
    (named_sessions, [2, 4]),
    (tasks, [3, 3, 3, 3, 3]),
    (threads_of_a_graph, [2, 2]),
    (sessions_within_a_span, [2, 2, 2]),
    (a_session_within_another, [3]),
]


@pytest.mark.parametrize(("program", "expected"), PROGRAMS, ids=lambda value: getattr(value, "__name__", ""))
def test_budget_and_trajectory_agree_which_calls_are_one_conversation(
    world: World, program: Callable[[World], None], expected: list[int]
) -> None:
    program(world)
    assert (world.counted(), world.told()) == (expected, expected)


def test_a_budget_of_a_session_bounds_a_plain_loop(world: World, server: ModelServer) -> None:
    world.put("session.max_calls = 2")
    with pytest.raises(GuardrailRejected, match="this session has made 2 of the 2 model calls allowed"):
        loop(world, 4)
    assert len(server.requests) == 2
    loop(world, 2, "another")  # is a conversation of its own


def test_a_budget_of_a_session_bounds_the_tools_of_a_plain_loop(world: World) -> None:
    world.put("session.max_tool_calls = 2")
    ran: list[str] = []
    history: list[Any] = [user("weather?")]
    for turn in range(2):
        message = world.client.chat.completions.create(model="gpt-5", messages=history).choices[0].message
        history.append(message.to_dict())
        for call in message.tool_calls or ():
            run_tool("weather", lambda: ran.append("x"), call_id=call.id)
            history.append({"role": "tool", "tool_call_id": call.id, "content": f"sunny {turn}"})
    [call] = world.client.chat.completions.create(model="gpt-5", messages=history).choices[0].message.tool_calls or ()
    with pytest.raises(GuardrailRejected, match="this session has made 2 of the 2 tool calls allowed"):
        run_tool("weather", lambda: ran.append("x"), call_id=call.id)
    assert len(ran) == 2


def test_an_answer_is_known_as_the_application_got_it(world: World, server: ModelServer) -> None:
    @execution_intercept(kinds=["llm"])
    def masked(call: Any) -> Any:
        yield call
        return ModelResponse(messages=[Message("assistant", [Text("masked")])])

    world.put("session.max_calls = 2")
    with use(masked):
        assert world.chat([user("one")]) == "masked"
    history = [user("one"), says("masked")]
    world.chat([*history, user("more")])
    with pytest.raises(GuardrailRejected):
        world.chat([*history, user("other")])
    assert len(server.requests) == 2


def test_what_is_not_sampled_is_counted_by_the_same_conversations(world: World, capture: Capture) -> None:
    world.put("session.max_calls = 2")
    capture.provider.sampler = ALWAYS_OFF
    with pytest.raises(GuardrailRejected, match="this session has made 2"):
        loop(world, 3)
    for _ in range(2):
        with scope("agent"):
            world.chat([user("one")])
            world.chat([user("two")])
            with pytest.raises(GuardrailRejected):
                world.chat([user("three")])


SWITCHED_OFF = """
import openai, spanrelay

client, sent = openai.OpenAI(max_retries=0), []


def ask(*texts):
    turns = [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(texts)]
    try:
        sent.append(client.chat.completions.create(model="m", messages=turns).choices[0].message.content)
        return sent[-1]
    except spanrelay.GuardrailRejected:
        sent.append("refused")


first = ask("one")
second = ask("one", first, "two")
ask("one", first, "two", second, "three")
for _ in range(2):
    with spanrelay.scope("agent"):
        for _ in range(3):
            ask("hello")
print(" ".join(str(text == "refused") for text in sent))
"""


def test_without_opentelemetry_a_conversation_and_a_scope_are_sessions(tmp_path: Path, server: ModelServer) -> None:
    (tmp_path / "spanrelay.toml").write_text("[plugins.policy]\nsession.max_calls = 2\n")
    run = programs.run(SWITCHED_OFF, tmp_path, server, OTEL_SDK_DISABLED="true")
    assert run.out.split() == ["False", "False", "True"] * 3, run.err
