"""Refused tools in loops that no framework runs: their results go no further, and what was refused properly does."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, ToolCallLimitMiddleware
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from pydantic import BaseModel, SecretStr

from spanrelay import GuardrailRejected, guardrail, run_tool, use
from spanrelay.assembly.exporter import AtifSpanExporter
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.policy import PolicyPlugin, approve_with
from spanrelay.plugins.policy.loops import MAX_KNOWN
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Request, raw, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

DENY = '[plugins.policy]\ntools.deny = ["get_*"]\n'
TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
ITEMS: Any = [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": False}]
ASKED = {"role": "user", "content": "weather?"}


def answer(request: Request) -> Any:
    """Ask for the tool first, and then answer."""
    turns = request.get("messages") or request.get("input")
    last = turns[-1] if isinstance(turns, list) else {}
    if last.get("role") in ("tool", "function") or str(last.get("type")).endswith("_output"):
        return reply("it is sunny")
    return reply(tool_calls=[tool_call("get_weather", city="Oslo")])


def round_of(names: list[str], ids: list[str]) -> list[Any]:
    """A conversation whose last answer asks for tools at the same time, and their results."""
    calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for name, id_ in zip(names, ids, strict=True)
    ]
    results = [{"role": "tool", "tool_call_id": id_, "content": "ran"} for id_ in ids]
    return [ASKED, {"role": "assistant", "tool_calls": calls}, *results]


class Shelf:
    def __init__(self) -> None:
        self._plugin = PolicyPlugin()

    def take(self, name: str) -> Any:
        return self._plugin, []


class World:
    """A provider, and a policy that can be exchanged."""

    def __init__(self, folder: Path, server: ModelServer) -> None:
        self._path = folder / "spanrelay.toml"
        self._path.write_text(DENY)
        self.url, self.requests = server.url, server.requests
        self.activation = Activation([PolicyFile(str(self._path), "chosen")], Shelf())  # type: ignore[arg-type]
        self.client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)

    def put(self, text: str) -> None:
        self._path.write_text(text)
        self.activation.reload()

    def chat(self, messages: list[Any], **options: Any) -> Any:
        options = {"tools": TOOLS, **options}
        return self.client.chat.completions.create(model="gpt-5", messages=messages, **options).choices[0].message

    def ask(self) -> list[Any]:
        """Return a conversation whose last answer asks for the tool."""
        return [ASKED, self.chat([ASKED]).to_dict()]


@pytest.fixture
def world(tmp_path: Path, capture: Capture) -> Iterator[World]:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    with ModelServer(answer) as server:
        made = World(tmp_path, server)
        made.activation.start()
        yield made
        made.activation.close()
        made.client.close()
    instrumentor.uninstrument()


@pytest.mark.parametrize("place", [0, 99])
def test_every_result_of_an_answer_is_looked_at_however_many_there_are(world: World, place: int) -> None:
    names = ["get_weather" if index == place else "find" for index in range(100)]
    with pytest.raises(GuardrailRejected, match="'get_weather' is denied"):
        world.chat(round_of(names, [f"call_{index}" for index in range(100)]))
    assert world.requests == []


@pytest.mark.parametrize(
    ("lists", "told"),
    [('deny = ["crm"]', "tool 'crm' is denied"), ('allow = ["crm"]', None), ('allow = ["c"]', "'find' is not among")],
)
@pytest.mark.parametrize("kind", ["function_call", "custom_tool_call"])
def test_a_call_goes_by_the_name_of_its_namespace_too(world: World, lists: str, told: str | None, kind: str) -> None:
    world.put(f"[plugins.policy.tools]\n{lists}")
    call = {"type": kind, "call_id": "call_1", "namespace": "crm", "name": "find", "arguments": "{}", "input": ""}
    asked: Any = [ASKED, call, {"type": f"{kind}_output", "call_id": "call_1", "output": "ran"}]
    if told is None:
        world.client.responses.create(model="gpt-5", input=asked)
    else:
        with pytest.raises(GuardrailRejected, match=told):
            world.client.responses.create(model="gpt-5", input=asked)
    assert len(world.requests) == (told is None)


@pytest.mark.parametrize("names", [["get_weather", "find"], ["find", "get_weather"]])
def test_calls_that_share_an_id_are_all_looked_at(world: World, names: list[str]) -> None:
    with pytest.raises(GuardrailRejected, match="'get_weather' is denied"):
        world.chat(round_of(names, ["call_0", "call_0"]))
    assert world.requests == []


def result(history: list[Any], content: str = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": history[1]["tool_calls"][0]["id"], "content": content}


REFUSED = (
    "result of a refused tool that ran where SpanRelay did not see it \\(call 'call_[^']+'\\): tool 'get_weather' is"
)


def test_the_result_of_a_refused_tool_is_not_sent_on(world: World) -> None:
    history = world.ask()
    with pytest.raises(GuardrailRejected, match=f"{REFUSED} denied by 'get_\\*'; keep it") as refused:
        world.chat([*history, result(history)])
    assert refused.value.name == "policy.unseen_tools"
    with pytest.raises(GuardrailRejected, match=REFUSED):
        world.chat([*history, result(history), {"role": "user", "content": "go on"}])
    assert len(world.requests) == 1


class Written(BaseModel, extra="allow"):
    """What the SDK writes as JSON, wherever it stands in a body."""


FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "a tuple": tuple,
    "tuples within": lambda turns: [
        {**turn, "tool_calls": tuple(turn["tool_calls"])} if "tool_calls" in turn else turn for turn in turns
    ],
    "objects of a class": lambda turns: [Written(**turn) for turn in turns],
    "an object within": lambda turns: [
        {**turn, "tool_calls": [Written(**call) for call in turn["tool_calls"]]} if "tool_calls" in turn else turn
        for turn in turns
    ],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_request_is_read_in_every_form_that_the_sdk_writes(world: World, form: Any) -> None:
    messages = form(round_of(["get_weather"], ["c1"]))
    for ask in (
        lambda: world.client.post("/chat/completions", body={"model": "m", "messages": messages}, cast_to=object),
        lambda: world.chat([ASKED], extra_body={"messages": messages}),
    ):
        with pytest.raises(GuardrailRejected, match="'get_weather' is denied"):
            ask()
    assert not world.requests


def test_what_is_not_among_those_allowed_is_refused_too(world: World) -> None:
    world.put('[plugins.policy]\ntools.allow = ["search"]\n')
    history = world.ask()
    with pytest.raises(GuardrailRejected, match=f"{REFUSED} not among those allowed"):
        world.chat([*history, result(history)])


RULES = """
[[plugins.policy.tools.rules]]
tool = "get_*"
argument = "/city"
eq = "{}"
"""


@pytest.mark.parametrize("lists", ["", DENY.replace("get_", "drop_")])
def test_rules_judge_what_the_answer_gives_a_tool(world: World, lists: str) -> None:
    world.put(lists + RULES.format("Oslo"))
    history = world.ask()
    refused = "did not see it .* refused by tools.rules\\[0\\]: '/city' eq 'Oslo'; keep it"
    with pytest.raises(GuardrailRejected, match=refused) as refusal:
        world.chat([*history, result(history)])
    assert refusal.value.name == "policy.unseen_rules"
    world.put(lists + RULES.format("Rome"))
    assert world.chat([*history, result(history)]).content == "it is sunny"


def test_rules_judge_a_tool_once_where_it_is_executed(world: World) -> None:
    world.put(RULES.format("Oslo"))
    history = world.ask()
    with pytest.raises(GuardrailRejected):
        run_tool("get_weather", lambda city: city, {"city": "Oslo"}, call_id=history[1]["tool_calls"][0]["id"])
    assert world.chat([*history, result(history, "refused")]).content == "it is sunny"


def test_rules_judge_results_that_the_request_names_by_their_calls_alone(world: World) -> None:
    world.put(RULES.format("Oslo"))
    first = world.client.responses.create(input=[ASKED], model="gpt-5", tools=ITEMS)
    call = next(item for item in first.output if item.type == "function_call")
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    with pytest.raises(GuardrailRejected, match="'/city' eq 'Oslo'"):
        world.client.responses.create(input=[output], previous_response_id=first.id, model="gpt-5")


def test_a_rule_on_trial_lets_the_result_of_a_loop_pass(world: World, capture: Capture) -> None:
    world.put(RULES.format("Oslo") + 'mode = "observe"\n')
    history = world.ask()
    assert world.chat([*history, result(history)]).content == "it is sunny"
    [told] = [
        span.attributes["spanrelay.policy.would_refuse"]
        for span in capture.spans
        if "would_refuse" in str(span.attributes)
    ]
    assert "policy.unseen_rules_observe: " in told[0]


def test_streams_of_a_loop_with_rules_are_judged(world: World) -> None:
    world.put(RULES.format("Oslo"))
    stream: Any = world.client.chat.completions.create(model="gpt-5", messages=[ASKED], tools=TOOLS, stream=True)
    chunks = [chunk.choices[0].delta for chunk in stream if chunk.choices]
    calls = [call for delta in chunks for call in delta.tool_calls or []]
    asked = {
        "id": calls[0].id,
        "type": "function",
        "function": {"name": "get_weather", "arguments": "".join(call.function.arguments or "" for call in calls)},
    }
    history = [ASKED, {"role": "assistant", "content": None, "tool_calls": [asked]}]
    with pytest.raises(GuardrailRejected, match="'/city' eq 'Oslo'"):
        world.chat([*history, result(history)])


@pytest.mark.parametrize("options", [{}, {"tools": openai.omit}])
def test_streams_are_judged_and_marked_alike(world: World, options: Any) -> None:
    stream: Any = world.client.chat.completions.create(model="gpt-5", messages=[ASKED], tools=TOOLS, stream=True)
    calls = [call for chunk in stream for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    said = {"role": "assistant", "tool_calls": [{"id": calls[0].id, "type": "function", "function": _whole(calls)}]}
    history = [ASKED, said]
    with pytest.raises(GuardrailRejected, match=REFUSED):
        world.chat([*history, result(history)], stream=True, **options)


def _whole(calls: list[Any]) -> dict[str, str]:
    return {"name": calls[0].function.name, "arguments": "".join(call.function.arguments or "" for call in calls)}


def test_async_calls_are_judged_alike(world: World) -> None:
    history = world.ask()

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=world.url, api_key="none", max_retries=0) as client:
            await client.chat.completions.create(model="gpt-5", messages=[*history, result(history)], tools=TOOLS)

    with pytest.raises(GuardrailRejected, match=REFUSED):
        asyncio.run(ask())


def test_the_legacy_role_of_functions_is_judged_by_its_name(world: World) -> None:
    said = {"role": "assistant", "content": None, "function_call": {"name": "get_weather", "arguments": "{}"}}
    with pytest.raises(GuardrailRejected, match=r"result of a refused tool .* see it: tool 'get_weather' is denied"):
        world.chat([ASKED, said, {"role": "function", "name": "get_weather", "content": "sunny"}])


def without_ids(*names: str) -> list[dict[str, Any]]:
    """A conversation with a provider that gives calls no ids."""
    calls = [{"type": "function", "function": {"name": name, "arguments": "{}"}} for name in names]
    said = {"role": "assistant", "content": None, "tool_calls": [{"id": "", **call} for call in calls]}
    return [ASKED, said, *({"role": "tool", "tool_call_id": "", "content": f"of {name}"} for name in names)]


def test_results_without_ids_are_those_of_the_calls_in_their_order(world: World) -> None:
    for names in (("get_weather",), ("search", "get_weather")):
        with pytest.raises(
            GuardrailRejected, match=r"result of a refused tool .* see it: tool 'get_weather' is denied"
        ):
            world.chat(without_ids(*names))
    world.chat(without_ids("search", "look"))
    # Only the first has its result yet.
    world.chat(without_ids("search", "get_weather")[:3])


def test_a_refused_call_without_an_id_is_taken_for_no_other(world: World) -> None:
    message = without_ids("get_weather")[1]
    body = {"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}
    said = [raw(json.dumps(body).encode()), reply("done")]
    with ModelServer(said) as server, openai.OpenAI(base_url=server.url, api_key="none") as client:
        client.chat.completions.create(model="gpt-5", messages=[ASKED], tools=TOOLS)  # type: ignore[list-item]
        history: Any = without_ids("search")
        client.chat.completions.create(model="gpt-5", messages=history, tools=TOOLS)
        assert len(server.requests) == 2


@pytest.mark.parametrize("offered", ["in the input", "before"])
def test_calls_of_tools_that_are_offered_elsewhere_are_known(world: World, offered: str) -> None:
    more: Any = {"type": "additional_tools", "role": "developer", "tools": ITEMS}
    create: Any = world.client.responses.create
    first = create(model="gpt-5", input=[ASKED, more])
    if offered == "before":
        first = create(model="gpt-5", input=[ASKED], previous_response_id=first.id)
    call = next(item for item in first.output if item.type == "function_call")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    with pytest.raises(GuardrailRejected, match=REFUSED):
        create(model="gpt-5", input=[output], previous_response_id=first.id)


@pytest.mark.parametrize("kept", ["items", "previous_response_id"])
def test_results_of_the_responses_api_are_judged(world: World, kept: str) -> None:
    options: Any = {"model": "gpt-5", "tools": ITEMS}
    first = world.client.responses.create(input=[ASKED], **options)
    call = next(item for item in first.output if item.type == "function_call")
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    with pytest.raises(GuardrailRejected, match=REFUSED):
        if kept == "items":
            world.client.responses.create(input=[ASKED, call.to_dict(), output], **options)  # type: ignore[list-item]
        else:
            world.client.responses.create(input=[output], previous_response_id=first.id, **options)


def test_custom_tools_and_interleaved_items_are_judged(world: World) -> None:
    calls: Any = [
        {"type": "custom_tool_call", "call_id": "c1", "name": "get_code", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "y"},
    ]
    with pytest.raises(GuardrailRejected, match="\\(call 'c1'\\): tool 'get_code' is denied"):
        world.client.responses.create(model="gpt-5", input=[ASKED, *calls])  # type: ignore[list-item]
    first = world.client.responses.create(model="gpt-5", input=[ASKED], tools=ITEMS)  # type: ignore[list-item]
    call = next(item for item in first.output if item.type == "function_call")
    mixed: Any = [
        call.to_dict(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
        {"type": "function_call", "call_id": "c2", "name": "search", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c2", "output": "found"},
    ]
    with pytest.raises(GuardrailRejected, match=REFUSED):
        world.client.responses.create(model="gpt-5", input=[ASKED, *mixed])  # type: ignore[list-item]


APPROVAL = {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "weather", "name": "get_weather"}
SERVER: Any = [{"type": "mcp", "server_label": "weather", "server_url": "http://weather.invalid"}]


@pytest.mark.parametrize("lists", ['deny = ["get_*"]', 'deny = ["weather"]', 'rules = [{ tool = "get_*" }]'])
@pytest.mark.parametrize("unseen", ["refuse", "pass"])
def test_a_request_does_not_let_the_provider_run_a_refused_tool(world: World, lists: str, unseen: str) -> None:
    world.put(f'[plugins.policy.tools]\nunnamed = "pass"\nunseen = "{unseen}"\n{lists}')
    approved = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    done = {"type": "mcp_call", "id": "mcp_1", "server_label": "weather", "name": "get_weather", "arguments": "{}"}

    def ask(*items: Any) -> Any:
        given: Any = [ASKED, {**APPROVAL, "arguments": "{}"}, *items]
        return world.client.responses.create(model="gpt-5", input=given)

    with pytest.raises(GuardrailRejected, match="approves the call 'mcpr_1'"):
        ask(approved)
    ask({**approved, "approve": False})
    ask(approved, {**done, "output": "it is sunny"}, ASKED)
    assert len(world.requests) == 2


CLIENT_ITEMS: Any = [
    {"type": "configuration_update", "reasoning": {"effort": "low"}},
    {"type": "compaction_trigger"},
    {"type": "additional_tools", "role": "developer", "tools": []},
]
OTHER_CALL = {"type": "mcp_call", "id": "mcp_1", "server_label": "weather", "name": "find", "arguments": "{}"}


@pytest.mark.parametrize("unseen", ["refuse", "pass"])
@pytest.mark.parametrize(
    "behind",
    [
        *([item] for item in CLIENT_ITEMS),
        [{"type": "item_reference", "id": "msg_1"}],
        [{"role": "assistant", "content": "I will look"}],
        [{"role": "assistant", "content": "I will look"}, ASKED],
        [OTHER_CALL, ASKED],
        [{**OTHER_CALL, "name": "get_weather", "approval_request_id": "mcpr_2"}, ASKED],
    ],
    ids=str,
)
def test_nothing_but_the_call_that_came_of_it_makes_an_approval_one_of_before(
    world: World, unseen: str, behind: list[Any]
) -> None:
    world.put(f'[plugins.policy.tools]\nunnamed = "pass"\nunseen = "{unseen}"\ndeny = ["get_*"]')
    approved = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    given: Any = [ASKED, {**APPROVAL, "arguments": "{}"}, approved]
    with pytest.raises(GuardrailRejected, match="approves the call 'mcpr_1'"):
        world.client.responses.create(model="gpt-5", input=[*given, *behind])
    done = {**OTHER_CALL, "name": "get_weather", "approval_request_id": "mcpr_1", "output": "sunny"}
    world.client.responses.create(model="gpt-5", input=[*given, done, ASKED])
    assert len(world.requests) == 1


@pytest.mark.parametrize("item", CLIENT_ITEMS, ids=str)
def test_an_item_of_the_clients_own_is_no_answer_that_a_result_is_before(world: World, item: Any) -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "call_1", "output": "ran"}
    given: Any = [ASKED, call, result, item, ASKED]
    with pytest.raises(GuardrailRejected, match="'get_weather' is denied"):
        world.client.responses.create(model="gpt-5", input=given)


def test_an_approval_is_judged_by_what_the_answer_asked_for(world: World) -> None:
    world.put('[plugins.policy]\ntools.deny = ["get_*"]\ntools.unnamed = "pass"\n')
    asked = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5", "status": "completed"}
    body = json.dumps({**asked, "output": [{**APPROVAL, "arguments": "{}"}], "tools": [], "tool_choice": "auto"})
    with ModelServer([raw(body.encode())]) as server, openai.OpenAI(base_url=server.url, api_key="none") as client:
        create = partial(client.responses.create, model="gpt-5", tools=SERVER)
        create(input="weather?")
        approved: Any = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
        with pytest.raises(GuardrailRejected, match="approves the call 'mcpr_1'"):
            create(input=[approved], previous_response_id="resp_1")
        assert len(server.requests) == 1


@pytest.mark.parametrize("lists", ['deny = ["get_*"]', 'deny = ["weather"]', 'allow = ["find"]'])
@pytest.mark.parametrize("call_id", [{}, {"call_id": "call_1"}])
def test_a_result_goes_by_the_name_that_it_says(world: World, lists: str, call_id: dict[str, str]) -> None:
    world.put(f"[plugins.policy.tools]\n{lists}")
    given = {"type": "function_call_output", "output": "ran", **call_id}
    with pytest.raises(GuardrailRejected, match=r"'get_weather'|'weather'"):
        asked: Any = [{**given, "name": "get_weather", "namespace": "weather"}]
        world.client.responses.create(model="gpt-5", input=asked, previous_response_id="resp_1")
    allowed: Any = [ASKED, {**given, "name": "find", "namespace": "crm"}]
    assert world.client.responses.create(model="gpt-5", input=allowed)
    assert len(world.requests) == 1


def test_a_result_that_comes_after_the_next_answer_is_judged_by_its_call(world: World) -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}
    said = {"role": "assistant", "content": "It takes a while."}
    result = {"type": "function_call_output", "call_id": "call_1", "output": "ran"}
    late: Any = [ASKED, call, said, ASKED, said, ASKED, result]
    with pytest.raises(GuardrailRejected, match="'get_weather' is denied"):
        world.client.responses.create(model="gpt-5", input=late)


def test_nothing_beside_the_conversation_hides_a_result(world: World) -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}
    asked: Any = [ASKED, call, {"type": "function_call_output", "call_id": "call_1", "output": "ran"}]
    with pytest.raises(GuardrailRejected, match="'get_weather' is denied"):
        world.client.responses.create(model="gpt-5", input=asked, extra_body={"messages": [ASKED]})


def test_an_allowed_tool_in_the_same_loop_passes(world: World) -> None:
    world.put('[plugins.policy]\ntools.deny = ["delete_*"]\n')
    history = world.ask()
    assert world.chat([*history, result(history)]).content == "it is sunny"


def test_a_conversation_from_before_goes_on(world: World) -> None:
    said = {"id": "old", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    old: list[Any] = [
        ASKED,
        {"role": "assistant", "tool_calls": [said]},
        {"role": "tool", "tool_call_id": "old", "content": "sunny"},
    ]
    world.chat([*old, {"role": "assistant", "content": "sunny"}, {"role": "user", "content": "and now?"}])
    for more in ([], [{"role": "assistant", "content": "It is"}]):
        with pytest.raises(GuardrailRejected, match="\\(call 'old'\\)"):
            world.chat([*old, *more])


@pytest.mark.parametrize("between", [[], [{"role": "user", "content": "hm"}, {"role": "assistant", "content": "yes?"}]])
def test_an_answer_that_the_application_wrote_itself_hides_no_result(world: World, between: list[Any]) -> None:
    history = world.ask()
    call_id = history[1]["tool_calls"][0]["id"]
    history += [result(history), {"role": "assistant", "content": "Something went wrong."}, *between]
    with pytest.raises(GuardrailRejected, match=REFUSED):
        world.chat([*history, {"role": "user", "content": "and now?"}])
    items: Any = [
        ASKED,
        {"type": "function_call", "call_id": call_id, "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": call_id, "output": "sunny"},
        *history[3:],
        {"role": "user", "content": "and now?"},
    ]
    with pytest.raises(GuardrailRejected, match=REFUSED):
        world.client.responses.create(model="gpt-5", input=items)
    assert len(world.requests) == 1


@pytest.mark.parametrize("lenient", ['mode = "observe"', 'tools.unseen = "warn"'])
def test_a_conversation_that_went_on_by_a_milder_policy_goes_on(world: World, lenient: str) -> None:
    world.put(f"{DENY}{lenient}\n")
    history = world.ask()
    history += [result(history)]
    history += [world.chat(history).to_dict(), {"role": "user", "content": "and now?"}]
    world.put(DENY)
    assert world.chat(history)


def test_a_conversation_with_a_refusal_goes_on_however_many_tools_run_meanwhile(world: World) -> None:
    history = world.ask()
    with pytest.raises(GuardrailRejected) as refusal:
        run_tool("get_weather", lambda: "sunny", call_id=history[1]["tool_calls"][0]["id"])
    history += [result(history, str(refusal.value))]
    history += [world.chat(history).to_dict(), {"role": "user", "content": "and now?"}]
    for number in range(MAX_KNOWN + 1):
        run_tool("find", lambda: "found", call_id=f"find_{number}")
    assert world.chat(history)


def test_an_execution_that_names_no_call_excuses_no_call_that_the_model_makes_later(world: World) -> None:
    with pytest.raises(GuardrailRejected, match="is denied by"):
        run_tool("get_weather", lambda: "sunny")
    history = world.ask()
    with pytest.raises(GuardrailRejected, match=REFUSED):
        world.chat([*history, result(history)])
    with pytest.raises(GuardrailRejected, match="is denied by"):
        run_tool("get_weather", lambda: "sunny")
    assert world.chat([*history, result(history)]) and world.chat([*history, result(history)])


def test_an_execution_of_another_tool_excuses_no_result_of_the_same_id(world: World) -> None:
    run_tool("find", lambda: "found", call_id="call_0")
    with pytest.raises(GuardrailRejected, match=REFUSED):
        world.chat(round_of(["get_weather"], ["call_0"]))
    assert world.requests == []


@pytest.mark.usefixtures("frameworks")
def test_what_a_framework_answered_excuses_no_result_of_another_tool_of_the_same_id(world: World) -> None:
    @tool
    def find() -> str:
        """Find."""
        return "found"

    asked = AIMessage("", tool_calls=[{"name": "find", "args": {}, "id": "call_0", "type": "tool_call"}])
    graph: Any = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([find]))
    graph.set_entry_point("tools")
    assert graph.compile().invoke({"messages": [asked]})["messages"][-1].content == "found"
    with pytest.raises(GuardrailRejected, match=REFUSED):
        world.chat(round_of(["get_weather"], ["call_0"]))
    assert world.requests == []


def test_an_execution_that_names_no_call_excuses_no_other_tools_result_of_the_same_id(world: World) -> None:
    with pytest.raises(GuardrailRejected, match="is denied by"):
        run_tool("get_weather", lambda: "sunny")
    assert world.chat(round_of(["get_weather"], ["call_0"]))
    with pytest.raises(GuardrailRejected, match="'get_code' is denied"):
        world.chat(round_of(["get_code"], ["call_0"]))


def test_what_an_approver_let_pass_is_that_result_of_that_tool(world: World) -> None:
    world.put('[plugins.policy]\non_refusal = "ask"\ntools.deny = ["get_*"]\n')
    reasons: list[str] = []

    def decide(request: Any) -> Any:
        reasons.append(request.reason)
        return {"decision": "allow" if len(reasons) == 1 else "deny"}

    handle = approve_with(decide)
    rounds = [round_of([name], ["call_0"]) for name in ("get_weather", "get_weather", "get_code")]
    try:
        assert world.chat(rounds[0]) and world.chat(rounds[0])
        rounds[1][-1]["content"] = "ran once more"
        for others in rounds[1:]:
            with pytest.raises(GuardrailRejected, match="the approver denies it"):
                world.chat(others)
    finally:
        handle.remove()
    assert len(reasons) == 3 and "'get_code'" in reasons[-1]


@pytest.mark.parametrize("asks", [0, 1])
def test_what_an_approver_let_pass_by_one_file_is_refused_by_another_all_the_same(
    world: World, tmp_path: Path, asks: int
) -> None:
    world.activation.close()
    files: list[PolicyFile] = []
    for number in range(2):
        path = tmp_path / f"file-{number}.toml"
        path.write_text(DENY + ('on_refusal = "ask"\n' if number == asks else ""))
        files.append(PolicyFile(str(path), "chosen"))
    both = Activation(files, Shelf())  # type: ignore[arg-type]
    both.start()
    try:
        history = world.ask()
        with approve_with(lambda request: True):
            for _ in range(2):
                with pytest.raises(GuardrailRejected, match=REFUSED):
                    world.chat([*history, result(history)])
    finally:
        both.close()
    assert len(world.requests) == 1


def test_what_an_approver_let_pass_by_a_rule_is_refused_by_the_list_all_the_same(world: World) -> None:
    world.put(f'{DENY}[[plugins.policy.tools.rules]]\ntool = "get_*"\non_refusal = "ask"\n')
    history = world.ask()
    with approve_with(lambda request: True), pytest.raises(GuardrailRejected, match="is denied by"):
        world.chat([*history, result(history)])
    world.put('[[plugins.policy.tools.rules]]\ntool = "get_*"\non_refusal = "ask"\n')
    with approve_with(lambda request: True):
        world.chat([*history, result(history)])
    assert world.chat([*history, result(history)])  # nobody is asked again


@pytest.mark.parametrize("refused", ["answer", "raise"])
@pytest.mark.parametrize("named", [True, False])
def test_what_became_of_a_refusal_is_sent_on(world: World, refused: str, named: bool) -> None:
    world.put(f'{DENY}tools.refused = "{refused}"\n')
    history = world.ask()
    call = history[1]["tool_calls"][0]
    try:
        told = run_tool("get_weather", lambda: "sunny", call_id=call["id"] if named else None)
    except GuardrailRejected as refusal:
        told = str(refusal)
    world.put(f'{DENY}tools.refused = "{refused}"\n')  # a reload forgets nothing
    for _ in range(2):
        assert world.chat([*history, result(history, told)]).content == "it is sunny"
    if not named:  # one execution stands for one result
        history = world.ask()
        with pytest.raises(GuardrailRejected, match=REFUSED):
            world.chat([*history, result(history)])


def test_an_execution_that_something_else_has_refused_did_not_run(world: World) -> None:
    @guardrail(kinds=["tool"], priority=-5)
    def nothing_today(call: Any) -> str:
        return "not today"

    history = world.ask()
    with use(nothing_today), pytest.raises(GuardrailRejected):
        run_tool("get_weather", lambda: "sunny", call_id=history[1]["tool_calls"][0]["id"])
    assert world.chat([*history, result(history, "not today")]).content == "it is sunny"


def test_it_may_warn_once_or_pass(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.put(f'{DENY}tools.unseen = "warn"\n')
    with caplog.at_level(logging.WARNING, "spanrelay"):
        for _ in range(2):
            history = world.ask()
            assert world.chat([*history, result(history)]).content == "it is sunny"
    assert len([record for record in caplog.records if "'get_weather' is denied" in record.message]) == 1
    caplog.clear()
    world.put(f'{DENY}tools.unseen = "pass"\n')
    history = world.ask()
    assert world.chat([*history, result(history)]).content == "it is sunny"
    assert caplog.records == []


def test_the_trajectory_shows_the_call_and_the_refusal(world: World, capture: Capture, tmp_path: Path) -> None:
    history = world.ask()
    with pytest.raises(GuardrailRejected):
        world.chat([*history, result(history)])
    exporter = AtifSpanExporter(tmp_path / "trajectories")
    exporter.export(capture.spans)
    exporter.shutdown()
    [path] = (tmp_path / "trajectories").glob("*.json")
    _, asked, refused = json.loads(path.read_text())["steps"]
    assert asked["tool_calls"][0]["extra"]["refused"] == "tool 'get_weather' is denied by 'get_*'"
    assert "ran where SpanRelay did not see it" in refused["extra"]["error"]["message"]


@pytest.mark.parametrize("run", ["invoke", "ainvoke"])
def test_a_framework_that_shows_the_refusal_to_the_model_goes_on(world: World, capture: Capture, run: str) -> None:
    def get_weather(city: str) -> str:
        """The weather."""
        raise AssertionError("a refused tool has run")

    instrumentors = [LangChainInstrumentor(), LangGraphInstrumentor()]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.provider)
    try:
        world.put(f'{DENY}tools.refused = "answer"\n')
        agent: Any = create_agent(
            ChatOpenAI(base_url=world.url, api_key=SecretStr("none"), model="gpt-5"), [get_weather]
        )
        asked: Any = {"messages": [("user", "weather?")]}
        done = agent.invoke(asked) if run == "invoke" else asyncio.run(agent.ainvoke(asked))
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
    assert [message.content for message in done["messages"]][-1] == "it is sunny"
    assert "is denied by 'get_*'" in str(world.requests[-1].body["messages"][-1])


@pytest.fixture
def frameworks(capture: Capture) -> Iterator[None]:
    instrumentors = [LangChainInstrumentor(), LangGraphInstrumentor()]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.provider)
    yield
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("run", ["invoke", "ainvoke"])
@pytest.mark.parametrize("lists", [DENY, '[plugins.policy]\ntools.allow = ["search"]\n'])
def test_an_agent_whose_model_asks_for_a_tool_that_it_has_not_goes_on(world: World, run: str, lists: str) -> None:
    def search(query: str) -> str:
        """Search."""
        raise AssertionError("nobody asked for it")

    world.put(lists)
    agent: Any = create_agent(ChatOpenAI(base_url=world.url, api_key=SecretStr("none"), model="gpt-5"), [search])
    asked: Any = {"messages": [("user", "weather?")]}
    done = agent.invoke(asked) if run == "invoke" else asyncio.run(agent.ainvoke(asked))
    assert done["messages"][-1].content == "it is sunny"
    assert "get_weather is not a valid tool" in str(world.requests[-1].body["messages"][-1])


@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("run", ["invoke", "ainvoke"])
def test_a_classic_agent_whose_model_asks_for_a_tool_that_it_has_not_goes_on(world: World, run: str) -> None:
    @tool
    def search(query: str) -> str:
        """Search."""
        raise AssertionError("nobody asked for it")

    model: Any = ChatOpenAI(base_url=world.url, api_key=SecretStr("none"), model="gpt-5")
    prompt = ChatPromptTemplate.from_messages([("human", "{input}"), ("placeholder", "{agent_scratchpad}")])
    classic = pytest.importorskip("langchain_classic.agents", reason="langchain-classic is not here on Python 3.10")
    agent = classic.AgentExecutor(agent=classic.create_tool_calling_agent(model, [search], prompt), tools=[search])
    asked = {"input": "weather?"}
    done = agent.invoke(asked) if run == "invoke" else asyncio.run(agent.ainvoke(asked))
    assert done["output"] == "it is sunny"
    assert "get_weather is not a valid tool" in str(world.requests[-1].body["messages"][-1])


@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("decision", [{"type": "reject"}, {"type": "respond", "message": "look outside"}])
def test_an_agent_goes_on_where_a_person_answers_in_place_of_a_tool(world: World, decision: Any) -> None:
    def get_weather(city: str) -> str:
        """The weather."""
        raise AssertionError("a refused tool has run")

    rule: Any = {"allowed_decisions": ["reject", "respond"]}
    people = HumanInTheLoopMiddleware(interrupt_on={"get_weather": rule})
    agent: Any = create_agent(
        ChatOpenAI(base_url=world.url, api_key=SecretStr("none"), model="gpt-5"),
        [get_weather],
        middleware=[people],
        checkpointer=InMemorySaver(),
    )
    thread: Any = {"configurable": {"thread_id": "1"}}
    agent.invoke({"messages": [("user", "weather?")]}, thread)
    done = agent.invoke(Command(resume={"decisions": [decision]}), thread)
    assert done["messages"][-1].content == "it is sunny"


@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("run", ["invoke", "ainvoke"])
def test_an_agent_goes_on_where_a_limit_answers_in_place_of_a_tool(world: World, run: str) -> None:
    def get_weather(city: str) -> str:
        """The weather."""
        raise AssertionError("a refused tool has run")

    model = ChatOpenAI(base_url=world.url, api_key=SecretStr("none"), model="gpt-5")
    agent: Any = create_agent(model, [get_weather], middleware=[ToolCallLimitMiddleware(run_limit=0)])
    asked: Any = {"messages": [("user", "weather?")]}
    done = agent.invoke(asked) if run == "invoke" else asyncio.run(agent.ainvoke(asked))
    assert done["messages"][-1].content == "it is sunny"
