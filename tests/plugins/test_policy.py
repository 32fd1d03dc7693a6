"""The plugin `policy`: lists judge what is sent, and every sending is counted, whoever asked for it."""

from __future__ import annotations

import asyncio
import enum
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import openai
import pydantic
import pytest
from tests.plugins.conftest import Shelf

from spanrelay import (
    CodecError,
    ConfigurationError,
    GuardrailRejected,
    arun_model,
    arun_tool,
    execution_intercept,
    request_intercept,
    run_model,
    run_tool,
    scope,
    stream_model,
    use,
)
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.policy import Price
from spanrelay.plugins.policy.counts import Counts
from spanrelay.plugins.policy.limits import Limits
from spanrelay.plugins.policy.stores import MemoryStore
from spanrelay.records import Usage
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import error, reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.model_server import Usage as Reported

HELLO: Any = [{"role": "user", "content": "hello"}]
ANSWER = reply("ok", usage=Reported(60, 40))


def ask(client: openai.OpenAI, model: str = "gpt-5", **options: Any) -> Any:
    return client.chat.completions.create(model=model, messages=HELLO, **options)


def tool(name: str) -> Any:
    return run_tool(name, lambda: f"{name} ran")


# --- parameters ---

PARAMETERS = """
[plugins.policy.parameters."gpt-5*"]
temperature = 0.25
max_tokens = 100
[plugins.policy.parameters."*"]
seed = 7
"""


@pytest.mark.parametrize(
    ("model", "given", "sent"),
    [
        ("gpt-5-mini", {}, {"temperature": 0.25, "max_completion_tokens": 100}),
        ("GPT-5", {"temperature": 1.0, "seed": 1}, {"temperature": 0.25, "max_completion_tokens": 100, "seed": 1}),
        ("gpt-5", {"max_tokens": 900}, {"temperature": 0.25, "max_tokens": 100}),
        ("o4", {"temperature": 1.0}, {"temperature": 1.0, "seed": 7}),
    ],
)
def test_parameters_are_those_of_the_first_pattern_of_the_model(
    client: Any, server: ModelServer, policy: Any, model: str, given: dict[str, Any], sent: dict[str, Any]
) -> None:
    policy(PARAMETERS)
    ask(client, model, **given)
    [request] = server.requests
    assert {key: value for key, value in request.body.items() if key not in ("model", "messages")} == sent


def test_a_limit_has_the_name_that_servers_of_other_models_know(client: Any, server: ModelServer, policy: Any) -> None:
    policy('parameters."*" = { max_tokens = 100 }')
    for model, key in (("llama3.2", "max_tokens"), ("gpt-5", "max_completion_tokens")):
        ask(client, model)
        assert server.requests[-1].body[key] == 100
        assert len(server.requests[-1].body) == 3


@pytest.mark.parametrize(
    ("told", "given", "sent"),
    [
        (
            "max_tokens = 100",
            {"max_completion_tokens": 100, "max_tokens": 900},
            {"max_completion_tokens": 100},
        ),
        ("max_tokens = 100", {"max_completion_tokens": 900, "max_tokens": 100}, {"max_completion_tokens": 100}),
        ("seed = 7", {"seed": 7, "extra_body": {"random_seed": 8}}, {"seed": 7}),
        (
            'reasoning_effort = "low"',
            {"reasoning_effort": "low", "extra_body": {"reasoning": {"effort": "high", "exclude": True}}},
            {"reasoning_effort": "low", "reasoning": {"exclude": True}},
        ),
        (
            'reasoning_effort = "low"',
            {"reasoning_effort": "high", "extra_body": {"reasoning": {"effort": "high", "exclude": True}}},
            {"reasoning_effort": "low", "reasoning": {"exclude": True}},
        ),
        (
            "seed = 7",
            {"max_completion_tokens": 1, "max_tokens": 2},
            {"max_completion_tokens": 1, "max_tokens": 2, "seed": 7},
        ),
    ],
)
def test_a_parameter_that_a_request_says_twice_is_said_once(
    client: openai.OpenAI, server: ModelServer, policy: Any, told: str, given: Any, sent: Any
) -> None:
    policy(f'parameters."*" = {{ {told} }}')
    ask(client, **given)
    [request] = server.requests
    assert {key: value for key, value in request.body.items() if key not in ("model", "messages")} == sent


def test_an_effort_that_the_conversation_sets_anew_is_left_out(
    client: openai.OpenAI, server: ModelServer, policy: Any
) -> None:
    policy('parameters."*" = { reasoning_effort = "low" }')
    format_: Any = {"format": {"type": "text"}}
    items: Any = [
        {"type": "configuration_update", "reasoning": {"effort": "high"}},
        {"type": "configuration_update", "reasoning": {"effort": "high"}, "text": format_},
        {"type": "configuration_update", "text": format_},
        HELLO[0],
    ]
    client.responses.create(model="gpt-5", input=items, reasoning={"effort": "low"})
    update = {"type": "configuration_update", "text": format_}
    assert server.requests[0].body["input"] == [update, update, HELLO[0]]
    assert len(items) == 4


def test_a_compaction_is_given_no_parameter_that_its_api_does_not_have(
    client: openai.OpenAI, server: ModelServer, policy: Any
) -> None:
    policy('parameters."*" = { temperature = 0.0, max_tokens = 10, service_tier = "flex" }')
    client.responses.compact(model="gpt-5", input="hi")
    assert server.requests[0].body == {"model": "gpt-5", "input": "hi", "service_tier": "flex"}


def test_parameters_are_found_by_the_deployment_that_runs_too(
    client: openai.OpenAI, server: ModelServer, policy: Any
) -> None:
    policy('parameters."gpt-5*" = { seed = 7 }')
    with openai.AzureOpenAI(
        azure_endpoint=server.address, api_version="v", api_key="none", azure_deployment="gpt-5-eu"
    ) as azure:
        ask(azure, "any")
        ask(azure, "gpt-5")
    assert [request.body["seed"] for request in server.requests] == [7, 7]


def test_parameters_are_what_is_sent_whatever_else_changes_the_request(
    client: Any, server: ModelServer, policy: Any
) -> None:
    @request_intercept(kinds=["llm"])
    def other(call: Any) -> Any:
        return replace(call.request, model="gpt-5", parameters={"temperature": 2.0})

    policy(PARAMETERS)
    handle = use(other)
    try:
        ask(client, "o4")
    finally:
        handle.remove()
    [request] = server.requests
    assert (request.body["model"], request.body["temperature"]) == ("gpt-5", 0.25)
    assert "seed" not in request.body


@request_intercept(kinds=["llm"], stop=True)
def last_of_all(call: Any) -> None:
    """Let no request intercept run after this one."""


@execution_intercept(kinds=["llm"])
def to_another_model(call: Any) -> Any:
    yield call.with_request(replace(call.request, model="gpt-5", parameters={"temperature": 2.0}))


@execution_intercept(kinds=["llm"])
def to_another_wire(call: Any) -> Any:
    call.wire |= {"model": "gpt-5", "temperature": 2.0}
    yield call


@pytest.mark.parametrize("other", [last_of_all, to_another_model, to_another_wire])
@pytest.mark.parametrize("model", ["gpt-5", "gpt-x"])
def test_parameters_are_what_is_sent_whatever_middleware_keeps_them_out(
    client: Any, server: ModelServer, policy: Any, other: Any, model: str
) -> None:
    policy('parameters."gpt-5*" = { temperature = 0.25 }\nparameters."gpt-x" = { temperature = 0.25 }')
    with use(other):
        ask(client, model, temperature=1.0)
    assert [request.body["temperature"] for request in server.requests] == [0.25]


def test_a_parameter_that_an_api_does_not_have_is_not_sent_without(
    client: Any, server: ModelServer, policy: Any
) -> None:
    policy('[plugins.policy.parameters."*"]\nseed = 3')
    with pytest.raises(CodecError, match="seed"):
        client.responses.create(model="gpt-5", input="hello")
    assert server.requests == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[plugins.policy.parameters."*"]\ntemprature = 1.0', 'parameters."*".temprature: is not known'),
        ('[plugins.policy.parameters."*"]\nseed = "x"', 'parameters."*".seed'),
        ('[plugins.policy.parameters."*"]\n', 'parameters."*": sets nothing'),
        ('[plugins.policy.parameters."*"]\ntop_p = nan', 'parameters."*".top_p: is a number that JSON has no form for'),
        ('[plugins.policy.parameters."*"]\ntemperature = inf', 'parameters."*".temperature: is a number that JSON'),
    ],
)
def test_parameters_that_are_none_are_told(policy: Any, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        policy(text)
    assert told in str(refused.value)


# --- lists ---


@pytest.mark.parametrize(
    ("lists", "name", "reason"),
    [
        ('deny = ["delete_*"]', "delete_all", "tool 'delete_all' is denied by 'delete_*'"),
        ('deny = ["delete_*"]', "DELETE_all", "tool 'DELETE_all' is denied by 'delete_*'"),
        ('deny = ["delete_*"]', "undelete_all", None),
        ('allow = ["get_*", "list"]', "list", None),
        ('allow = ["get_*", "list"]', "get_weather", None),
        ('allow = ["get_*", "list"]', "lists", "tool 'lists' is not among those allowed"),
        ('allow = ["*"]\ndeny = ["x"]', "x", "tool 'x' is denied by 'x'"),
        ("allow = []", "x", "tool 'x' is not among those allowed"),
        ('deny = ["[ab]?"]', "b1", "tool 'b1' is denied by '[ab]?'"),
        ('deny = ["a.c"]', "abc", None),
    ],
)
def test_tools_are_judged_by_name(capture: Capture, policy: Any, lists: str, name: str, reason: str | None) -> None:
    policy(f"[plugins.policy.tools]\n{lists}")
    ran: list[str] = []

    async def later() -> None:
        ran.append(name)

    for call in (lambda: run_tool(name, lambda: ran.append(name)), lambda: asyncio.run(arun_tool(name, later))):
        if reason is None:
            call()
        else:
            with pytest.raises(GuardrailRejected) as refused:
                call()
            assert (refused.value.reason, refused.value.name) == (reason, "policy.tools")
    assert len(ran) == (2 if reason is None else 0)


def test_a_denied_model_is_never_reached(policy: Any, client: openai.OpenAI, server: ModelServer) -> None:
    policy('models.deny = ["gpt-4*"]')
    assert ask(client).choices[0].message.content == "ok"
    for stream in (False, True):
        with pytest.raises(GuardrailRejected, match="model 'GPT-4o' is denied by 'gpt-4\\*'"):
            ask(client, "GPT-4o", stream=stream)
    with pytest.raises(GuardrailRejected):
        client.embeddings.create(model="gpt-4-embed", input="x")
    assert [request.body["model"] for request in server.requests] == ["gpt-5"]


class Named(pydantic.BaseModel):
    """What the SDK writes as JSON, wherever it stands in a body."""

    model: str


IMAGES: Any = [{"type": "image_generation", "model": "gpt-4-image"}]
GRADER: Any = {"type": "score_model", "name": "a", "model": "gpt-4", "input": []}
NAMING_WITHIN: dict[str, Callable[[openai.OpenAI], Any]] = {
    "a tool": lambda client: client.responses.create(model="gpt-5", input="hi", tools=IMAGES),
    "a tool in the input": lambda client: client.responses.create(
        model="gpt-5", input=[cast("Any", {"type": "additional_tools", "role": "developer", "tools": IMAGES})]
    ),
    "what to fall back on": lambda client: ask(client, extra_body={"models": ["gpt-5", "gpt-4"]}),
    "what a proxy falls back on": lambda client: ask(client, extra_body={"fallbacks": ["gpt-4"]}),
    "what a proxy falls back on, with a request of its own": lambda client: ask(
        client, extra_body={"fallbacks": [{"model": "gpt-4", "messages": HELLO}]}
    ),
    "what a proxy falls back on, by model": lambda client: ask(
        client, extra_body={"fallbacks": [{"gpt-5": ["gpt-4"]}]}
    ),
    "what a proxy falls back on when it is too long": lambda client: ask(
        client, extra_body={"context_window_fallbacks": [{"gpt-5": ["gpt-4"]}]}
    ),
    "a member in another case": lambda client: ask(client, extra_body={"Model": "gpt-4"}),
    "a query in another case": lambda client: ask(client, extra_query={"Model": "gpt-4"}),
    "the query of a client": lambda client: ask(client.with_options(default_query={"model": "gpt-4"})),
    "a deployment in another case": lambda client: ask(
        client.with_options(base_url=f"{client.base_url}Deployments/gpt-4")
    ),
    "an object of a class": lambda client: ask(client, extra_body={"session": Named(model="gpt-4")}),
    "a session": lambda client: client.realtime.client_secrets.create(session={"type": "realtime", "model": "gpt-4"}),
    "a grader": lambda client: client.fine_tuning.alpha.graders.run(grader=GRADER, model_sample="x"),
    "an evaluation": lambda client: client.evals.create(data_source_config={"type": "logs"}, testing_criteria=[GRADER]),
    "a run of one": lambda client: client.evals.runs.create(
        "e", data_source={"type": "completions", "source": {"type": "file_id", "id": "f"}, "model": "gpt-4"}
    ),
}


@pytest.mark.parametrize("place", NAMING_WITHIN)
def test_a_model_that_is_named_within_a_request_is_judged(
    policy: Any, client: openai.OpenAI, server: ModelServer, place: str
) -> None:
    for lists in ('models.deny = ["gpt-4*"]', 'models.allow = ["gpt-5"]'):
        policy(lists)
        with pytest.raises(GuardrailRejected, match="model 'gpt-4"):
            NAMING_WITHIN[place](client)
    assert not server.requests


def test_a_copy_of_a_client_is_judged_by_its_own_query(policy: Any, client: openai.OpenAI, server: ModelServer) -> None:
    policy('models.deny = ["gpt-4*"]')
    ask(client)
    with pytest.raises(GuardrailRejected, match="model 'gpt-4' is denied"):
        ask(client.with_options(default_query={"model": "gpt-4"}))
    ask(client.with_options(default_query={"model": "gpt-5", "v": "1"}))
    assert len(server.requests) == 2


@pytest.mark.parametrize("dash", "\u2010\u2011\u2012\u2013\u2014\u2212\uff0d")
def test_a_dash_is_a_dash(policy: Any, client: openai.OpenAI, server: ModelServer, dash: str) -> None:
    for denied, asked in ((f"gpt{dash}4*", "gpt-4o"), ("gpt-4*", f"gpt{dash}4o")):
        policy(f'models.deny = ["{denied}"]')
        with pytest.raises(GuardrailRejected, match="is denied by"):
            ask(client, asked)
    assert not server.requests


@pytest.mark.parametrize("models", ["gpt-4", ["gpt-4"], [{"model": "gpt-4"}], [4], ("gpt-4",)])
def test_what_to_fall_back_on_is_judged_in_every_form(
    policy: Any, client: openai.OpenAI, server: ModelServer, models: Any
) -> None:
    policy('models.deny = ["gpt-4*"]')
    with pytest.raises(GuardrailRejected, match=r"model 'gpt-4' is denied|the name of a model is a 'int', not text"):
        ask(client, extra_body={"models": models})
    assert not server.requests


def test_data_of_the_applications_that_is_called_model_names_none(
    policy: Any, client: openai.OpenAI, server: ModelServer
) -> None:
    policy('models.deny = ["gpt-4*"]')
    schema = {"type": "object", "properties": {"car": {"default": {"model": "gpt-4"}}}}
    ask(
        client,
        metadata={"model": "gpt-4"},
        tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}],
    )
    tool: Any = {"type": "function", "name": "f", "parameters": schema, "strict": False}
    client.responses.create(model="gpt-5", input="hi", tools=[tool], metadata={"model": "gpt-4"})
    assert len(server.requests) == 2


WITHOUT_A_MODEL: dict[str, Callable[[openai.OpenAI], Any]] = {
    "images.generate": lambda client: client.images.generate(prompt="a sky"),
    "images.edit": lambda client: client.images.edit(prompt="a sky", image=b"abc"),
    "images/variations": lambda client: client.post("/images/variations", cast_to=object, body={"n": 1}),
    "moderations.create": lambda client: client.moderations.create(input="hi"),
    "videos": lambda client: client.post("/videos", cast_to=object, body={"prompt": "a sky"}),
}


@pytest.mark.parametrize("way", WITHOUT_A_MODEL)
def test_a_model_of_the_providers_choice_is_not_among_those_allowed(
    policy: Any, client: openai.OpenAI, server: ModelServer, way: str
) -> None:
    policy('models.allow = ["gpt-5*"]')
    with pytest.raises(GuardrailRejected, match="the request names no model, and only some are allowed"):
        WITHOUT_A_MODEL[way](client)
    assert not server.requests
    policy('models.deny = ["gpt-4*"]')
    with pytest.raises(openai.NotFoundError):
        WITHOUT_A_MODEL[way](client)
    assert len(server.requests) == 1


def test_a_model_that_an_intercept_or_a_fallback_puts_there_is_judged_too(
    policy: Any, client: openai.OpenAI, server: ModelServer
) -> None:
    policy('models.allow = ["gpt-5*"]')

    @request_intercept
    def other(call: Any) -> Any:
        return replace(call.request, model="gpt-4")

    @execution_intercept
    def fallback(call: Any) -> Any:
        yield call
        return (yield call.with_request(replace(call.request, model="gpt-4")))

    with use(other), pytest.raises(GuardrailRejected, match="'gpt-4' is not among those allowed"):
        ask(client)
    assert server.requests == []
    with use(fallback), pytest.raises(GuardrailRejected, match="'gpt-4' is not among those allowed"):
        ask(client)
    assert [request.body["model"] for request in server.requests] == ["gpt-5"]


FUNCTIONS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("get", "delete")
]


@pytest.mark.parametrize("lists", ['deny = ["delete"]', 'allow = ["get"]'])
def test_what_is_offered_to_a_model_passes_is_removed_or_refuses(
    policy: Any, client: openai.OpenAI, server: ModelServer, lists: str
) -> None:
    for offered, expected in (("pass", ["get", "delete"]), ("remove", ["get"])):
        policy(f'[plugins.policy.tools]\n{lists}\noffered = "{offered}"')
        ask(client, tools=FUNCTIONS)
        assert [each["function"]["name"] for each in server.requests[-1].body["tools"]] == expected
    policy(f'[plugins.policy.tools]\n{lists}\noffered = "refuse"')
    with pytest.raises(GuardrailRejected, match="the request offers a tool to the model: tool 'delete' is"):
        ask(client, tools=FUNCTIONS)
    assert len(server.requests) == 2


def test_a_refused_tool_may_answer_with_the_reason(policy: Callable[[str], Activation], capture: Capture) -> None:
    called: list[int] = []
    policy('tools.deny = ["delete_*"]\ntools.refused = "answer"')
    answer = run_tool("delete_file", lambda: called.append(1), call_id="c1")
    assert answer == "guardrail 'policy.tools' refused the call: tool 'delete_file' is denied by 'delete_*'"
    assert called == []
    policy('tools.deny = ["delete_*"]')
    with pytest.raises(GuardrailRejected):
        run_tool("delete_file", lambda: called.append(1))


@pytest.mark.parametrize("lists", ['deny = ["web_search*"]', 'allow = ["get"]'])
def test_a_tool_that_the_provider_runs_is_refused_where_it_is_offered(
    policy: Any, client: openai.OpenAI, server: ModelServer, lists: str
) -> None:
    policy(f"[plugins.policy.tools]\n{lists}")
    with pytest.raises(GuardrailRejected, match="tool 'web_search"):
        client.responses.create(model="gpt-5", input="x", tools=[{"type": "web_search_preview"}])
    assert server.requests == []


def test_what_is_merely_offered_costs_no_span_of_a_guardrail(
    policy: Any, client: openai.OpenAI, server: ModelServer, capture: Capture
) -> None:
    policy('tools.deny = ["delete", "web_search*"]\nsession.max_calls = 1')
    with scope("agent", session="s"):
        with pytest.raises(GuardrailRejected, match="'web_search_preview' is denied") as refused:
            client.responses.create(model="gpt-5", input="x", tools=[{"type": "web_search_preview"}], stream=True)
        assert refused.value.name == "policy.offered_tools"
        ask(client, tools=FUNCTIONS)  # the refused call does not count
    assert len(server.requests) == 1
    assert not any("offered_tools" in span.name for span in capture.spans)


@pytest.mark.parametrize("text", ["", 'tools.offered = "refuse"', "prices = { m = { input = 1.0, output = 1.0 } }"])
def test_a_policy_that_allows_everything_is_told(policy: Any, text: str) -> None:
    [diagnostic] = policy(text).diagnostics
    assert diagnostic.level == "warning"
    assert "plugins.policy: allows everything, so it has no effect; write a list such as" in str(diagnostic)
    assert policy(f"enabled = false\n{text}").diagnostics == ()


def test_a_refusal_is_a_guardrail_span(policy: Any, capture: Capture) -> None:
    policy('tools.deny = ["x"]')
    with pytest.raises(GuardrailRejected):
        tool("x")
    verdict = next(span for span in capture.spans if "gen_ai.guardrail.verdict.type" in (span.attributes or {}))
    assert (verdict.attributes or {})["gen_ai.guardrail.verdict.reason"] == "tool 'x' is denied by 'x'"


# --- names as people mean them ---


class Liar(str):
    """A text that says of itself what is not so."""

    def casefold(self) -> str:
        return "ok"

    def __eq__(self, other: object) -> bool:
        return other == "ok"

    def __hash__(self) -> int:
        return hash("ok")

    def __str__(self) -> str:
        return "ok"


class Spoken(str, enum.Enum):
    SECRET = "secret-1"


class Model(enum.Enum):
    SECRET = "secret-1"


SAME = [
    "\uff53ecret-1",
    "secret\uff0d1",
    "s\u200becret-1",
    "secret-1\ufeff",
    "\u2060secret-1\ufe0f",
    " secret-1",
    "secret-1\u3000\n",
    "secret\x00-1",
    "\x07secret\u0085-1",
    "SECRET-1",
    "\u017fecret-1",
    Liar("secret-1"),
    Spoken.SECRET,
]


@pytest.mark.parametrize("name", SAME, ids=ascii)
def test_what_people_take_for_one_name_is_one(
    policy: Any, client: openai.OpenAI, server: ModelServer, name: Any
) -> None:
    policy('models.deny = ["Secret-*"]\ntools.deny = ["\uff33ecret-1 "]')
    with pytest.raises(GuardrailRejected, match="is denied by 'Secret-") as refused:
        ask(client, name)
    assert repr(str.__str__(name)) in refused.value.reason
    assert server.requests == []
    with pytest.raises(GuardrailRejected, match="is denied by"):
        tool(name)


@pytest.mark.parametrize("lists", ['models.deny = ["secret-*"]', 'models.allow = ["*"]'])
@pytest.mark.parametrize("model", [["secret-1"], 7, True, {"id": "secret-1"}])
def test_a_name_that_is_no_text_is_refused_while_there_is_a_list(
    policy: Any, client: openai.OpenAI, server: ModelServer, lists: str, model: Any
) -> None:
    policy(lists)
    with pytest.raises(GuardrailRejected, match=r"the name of a model is a '\w+', not text"):
        ask(client, model)
    assert server.requests == []


def test_a_name_that_json_has_no_form_for_is_the_sdks_to_refuse(
    policy: Any, client: openai.OpenAI, server: ModelServer
) -> None:
    policy('models.deny = ["secret-*"]')
    with pytest.raises(TypeError, match="not JSON serializable"):
        ask(client, cast("Any", Model.SECRET))
    assert server.requests == []


def test_a_letter_of_another_script_is_another_letter(policy: Any, client: openai.OpenAI, server: ModelServer) -> None:
    policy('models.deny = ["secret-*"]')
    ask(client, "s\u0435cret-1")
    policy('models.allow = ["secret-*"]')
    with pytest.raises(GuardrailRejected, match="is not among those allowed"):
        ask(client, "s\u0435cret-1")


def test_parameters_and_prices_are_found_by_such_names(policy: Any, client: Any, server: ModelServer) -> None:
    policy(
        'session.max_cost_usd = 0.0001\nprices."\uff4f4" = { input = 1.0, output = 1.0 }\n'
        '[plugins.policy.parameters."O4"]\nseed = 3'
    )
    with scope("agent", session="s"):
        ask(client, "o\uff14")
        with pytest.raises(GuardrailRejected, match=r"has cost 0\.0001 of the 0\.0001 US dollars"):
            ask(client, "o\uff14")
    assert server.requests[0].body["seed"] == 3


# --- budgets ---


def test_a_session_makes_as_many_calls_as_it_may(policy: Any, client: openai.OpenAI, server: ModelServer) -> None:
    policy("session = { max_calls = 2, max_tool_calls = 1 }")
    with scope("agent", session="s-1"):
        for _ in range(2):
            ask(client)
        with pytest.raises(GuardrailRejected, match="this session has made 2 of the 2 model calls allowed") as refused:
            ask(client)
        assert refused.value.name == "policy.limits"
        tool("a")
        with pytest.raises(GuardrailRejected, match="this session has made 1 of the 1 tool calls allowed"):
            tool("b")
    with scope("agent", session="s-2"):
        ask(client)
    assert len(server.requests) == 3


def test_without_a_session_a_trace_is_one(policy: Any, client: openai.OpenAI) -> None:
    policy("session.max_calls = 1")
    for _ in range(2):
        with scope("agent"):
            ask(client)
            with pytest.raises(GuardrailRejected):
                ask(client)


def test_every_sending_counts(policy: Any, client: openai.OpenAI, server: ModelServer) -> None:
    policy("process.max_calls = 5")

    @execution_intercept
    def three_times(call: Any) -> Any:
        yield call
        yield call
        return (yield call)

    @execution_intercept
    def together(call: Any) -> Any:
        return (yield [call.branch(), call.branch()])[0]

    with use(three_times):
        ask(client)
        with pytest.raises(GuardrailRejected, match="this process has made 5 of the 5"):
            ask(client)
    assert len(server.requests) == 5
    policy("process.max_calls = 6")
    with use(together), pytest.raises(GuardrailRejected):
        ask(client)
    assert len(server.requests) == 6


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_are_those_the_provider_reports(policy: Any, client: openai.OpenAI, stream: bool) -> None:
    policy("process.max_tokens = 150")
    options: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    for _ in range(2):
        answer = ask(client, **options)
        if stream:
            list(answer)
    with pytest.raises(GuardrailRejected, match="this process has used 200 of the 150 tokens allowed"):
        ask(client)


def test_tokens_that_nobody_reports_are_estimated(policy: Any, client: openai.OpenAI) -> None:
    policy("process.max_tokens = 20")
    list(ask(client, stream=True))
    with pytest.raises(GuardrailRejected, match=r"this process has used \d\d of the 20 tokens allowed"):
        ask(client)


def test_of_embeddings_no_answer_is_estimated_beside_what_is_reported(
    policy: Any, client: openai.OpenAI, server: ModelServer
) -> None:
    policy("session.max_tokens = 1")
    with scope("work", session="s"):
        assert client.embeddings.create(model="e", input="hello").usage.prompt_tokens == 1
        with pytest.raises(GuardrailRejected, match="used 1 of the 1 tokens"):
            ask(client)


def test_an_error_of_the_provider_costs_a_call_and_no_tokens(
    policy: Any, capture: Capture, server: ModelServer
) -> None:
    policy("process = { max_tokens = 5, max_calls = 9 }")
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    with (
        ModelServer([error(429), ANSWER]) as failing,
        openai.OpenAI(base_url=failing.url, api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(openai.RateLimitError):
            ask(client)
        ask(client)
        with pytest.raises(GuardrailRejected, match="this process has used 100 of the 5 tokens"):
            ask(client)
    instrumentor.uninstrument()


def test_a_cost_is_counted_by_prices(policy: Any, client: openai.OpenAI) -> None:
    policy('session.max_cost_usd = 0.0002\n[plugins.policy.prices."gpt-5*"]\ninput = 1.0\noutput = 2\n')
    with scope("agent", session="s"):
        ask(client)
        ask(client, "gpt-5-mini")
        with pytest.raises(
            GuardrailRejected, match=r"this session has cost 0\.00028 of the 0\.0002 US dollars allowed"
        ):
            ask(client)


def test_a_cost_that_nobody_knows_is_not_taken_for_none(policy: Any, client: openai.OpenAI) -> None:
    policy('session.max_cost_usd = 1.0\n[plugins.policy.prices."gpt-5*"]\ninput = 1.0\noutput = 2\n')
    with scope("agent", session="s"):
        ask(client, "o9")
        with pytest.raises(GuardrailRejected, match="has used model 'o9', whose price is not known"):
            ask(client)


def test_a_price_tells_cached_tokens_apart() -> None:
    usage = Usage(input_tokens=1_000_000, cache_read_tokens=400_000, output_tokens=100_000)
    assert Price(1.0, 10.0, 0.1).of(usage) == pytest.approx(0.6 + 0.04 + 1.0)
    assert Price(1.0, 10.0).of(usage) == pytest.approx(2.0)


def test_a_rate_is_of_any_minute(policy: Any, client: openai.OpenAI, shelf: Shelf) -> None:
    policy("process.max_calls_per_minute = 2")
    ask(client)
    shelf.now += 30
    ask(client)
    for wait in (0.0, 29.9):
        shelf.now += wait
        with pytest.raises(GuardrailRejected, match="this process has made the 2 model calls allowed within a minute"):
            ask(client)
    shelf.now += 0.1
    ask(client)
    with pytest.raises(GuardrailRejected):
        ask(client)


def test_a_reload_changes_limits_and_forgives_nothing(policy: Any, client: openai.OpenAI) -> None:
    policy("process.max_calls = 1")
    ask(client)
    policy("process.max_calls = 2")
    ask(client)
    with pytest.raises(GuardrailRejected, match="2 of the 2"):
        ask(client)


def test_of_many_threads_as_many_pass_as_are_allowed(policy: Any, capture: Capture) -> None:
    policy("process.max_tool_calls = 5")
    ran: list[int] = []
    start = threading.Barrier(12)

    def call() -> None:
        start.wait()
        with_refusals.append(_refused(lambda: run_tool("t", lambda: ran.append(1))))

    with_refusals: list[bool] = []
    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(ran), sum(with_refusals)) == (5, 7)


def _refused(call: Callable[[], Any]) -> bool:
    try:
        call()
    except GuardrailRejected:
        return True
    return False


def test_sessions_used_longest_ago_are_forgotten() -> None:
    store = MemoryStore(3)
    counts = Counts(lambda: 0.0, store)
    limits = Limits(max_calls=1)
    for key in ("a", "b", "c", "a", "d"):
        counts.admit([(key, limits, "this session")], tool=False)
    assert len(store) == 3
    assert counts.refusal([("a", limits, "this session")], tool=False) is not None
    assert counts.refusal([("b", limits, "this session")], tool=False) is None


def own_model(way: str, client: openai.OpenAI) -> Any:
    """Ask a model by `way` of ours, whose function sends by a client that we see too."""
    request = {"model": "gpt-5", "messages": HELLO}

    async def asynchronous(wire: dict[str, Any]) -> Any:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key="none", max_retries=0) as other:
            return await other.chat.completions.create(**wire)

    if way == "arun_model":
        return asyncio.run(arun_model(asynchronous, request))
    if way == "stream_model":
        streamed = {**request, "stream": True, "stream_options": {"include_usage": True}}
        return list(stream_model(lambda wire: client.chat.completions.create(**wire), streamed))
    if way == "agent":
        with scope("agent"):
            return own_model("run_model", client)
    return run_model(lambda wire: client.chat.completions.create(**wire), request)


@pytest.mark.parametrize("way", ["run_model", "arun_model", "stream_model", "agent"])
@pytest.mark.parametrize(
    ("limit", "allowed"), [("max_calls = 2", 2), ("max_calls_per_minute = 2", 2), ("max_tokens = 150", 2)]
)
def test_a_call_of_the_program_s_own_counts_once_whatever_client_sends_it(
    client: openai.OpenAI, server: ModelServer, policy: Any, way: str, limit: str, allowed: int
) -> None:
    policy(f"process.{limit}")
    for _ in range(allowed):
        assert own_model(way, client)
    with pytest.raises(GuardrailRejected, match="this process has"):
        own_model(way, client)
    assert len(server.requests) == allowed


def test_each_call_beneath_one_of_the_program_s_own_but_the_first_counts(
    client: openai.OpenAI, server: ModelServer, policy: Any
) -> None:
    policy("process.max_calls = 2")
    assert run_model(lambda wire: [ask(client), ask(client)][0], {"model": "gpt-5", "messages": HELLO})
    with pytest.raises(GuardrailRejected, match="2 of the 2 model calls"):
        ask(client)
    assert len(server.requests) == 2


# --- what is wrong is told ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("session.max_calls = -1", "plugins.policy.session.max_calls: is not a number of at least 0; write one"),
        ("process.max_cost_usd = nan", "plugins.policy.process.max_cost_usd: is not a number of at least 0"),
        ('tools.deny = [""]', "plugins.policy.tools.deny: has an empty pattern; remove it, or write '*'"),
        ('tools.allow = ["\u200b"]', "plugins.policy.tools.allow: has an empty pattern"),
        ('models.deny = ["gpt-[4*"]', "plugins.policy.models.deny: has a pattern with a '[' that no ']' closes; close"),
        ('models.deny = ["gpt-[]"]', "plugins.policy.models.deny: has a pattern with a '[' that no ']' closes; close"),
        ('models.deny = ["gpt-[9-4]"]', "plugins.policy.models.deny: has a pattern with a range that nothing is in"),
        ('parameters." " = { seed = 1 }', 'plugins.policy.parameters." ": has an empty pattern'),
        ('prices."[x" = { input = 1, output = 1 }', "plugins.policy.prices.\"[x\": has a pattern with a '['"),
        ('tools.rules = [{ tool = " " }]', "plugins.policy.tools.rules[0].tool: has an empty pattern"),
        ("session.max_call = 1", "plugins.policy.session.max_call: is not known; did you mean 'max_calls'?"),
        (
            'tools.offered = "hide"',
            "plugins.policy.tools.offered: is not one of the choices; write 'pass', 'remove' or",
        ),
        ("prices.x = { input = 1 }", "plugins.policy.prices.x.output: is missing; write a number"),
        ("prices.x = { input = 1, output = -1 }", 'plugins.policy.prices."x".output: is not a number of at least 0'),
    ],
)
def test_what_makes_no_sense_is_told(policy: Any, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        policy(text)
    assert said in str(error.value)


@pytest.mark.parametrize("pattern", ["gpt-[45]*", "gpt-[!5]", "gpt-[]]", "gpt-[[]", "gpt-[!]]", "gpt-[a-]"])
def test_a_pattern_with_a_set_of_characters_is_no_fault(policy: Any, pattern: str) -> None:
    assert policy(f'models.deny = ["{pattern}"]').diagnostics == ()


def test_a_cost_limit_without_prices_is_doubtful(policy: Any) -> None:
    [doubt] = policy("session.max_cost_usd = 1.0").diagnostics
    assert (doubt.level, doubt.key) == ("warning", "plugins.policy.prices")


# --- users ---


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("max_calls = 2", "has made 2 of the 2 model calls"),
        ("max_tokens = 150", "has used 200 of the 150 tokens"),
        ('max_cost_usd = 0.0002\n[plugins.policy.prices."*"]\ninput = 1.0\noutput = 2', "has cost 0.00028 of the"),
        ("max_calls_per_minute = 2", "has made the 2 model calls allowed within a minute"),
    ],
)
@pytest.mark.parametrize("whose", ["user", "process"])
def test_a_user_and_the_process_use_as_much_as_they_may(
    policy: Any, client: openai.OpenAI, whose: str, text: str, used: str
) -> None:
    policy(f"[plugins.policy.{whose}]\n{text}")
    for session in ("s-1", "s-2"):
        with scope("agent", session=session, user="ann"):
            ask(client)
    with scope("agent", user="ann"), pytest.raises(GuardrailRejected, match=f"this {whose} {re.escape(used)}"):
        ask(client)
    with scope("agent", user="bob"):
        assert _refused(lambda: ask(client)) is (whose == "process")


def test_a_user_is_the_scopes_else_the_one_named_to_the_provider(policy: Any, client: openai.OpenAI) -> None:
    policy("user.max_calls = 1")
    with scope("agent", user="ann"):
        ask(client, user="bob")
    ask(client, user="bob", safety_identifier="carol")
    ask(client, user="bob")
    for named in ({"user": "bob"}, {"safety_identifier": "carol"}):
        with pytest.raises(GuardrailRejected, match="this user has made 1 of the 1"):
            ask(client, **named)


def test_those_who_name_no_user_share_one_budget(policy: Any, client: openai.OpenAI) -> None:
    policy("user.max_calls = 1\nuser.max_tool_calls = 1")
    ask(client)
    tool("x")
    for call in (lambda: ask(client), lambda: tool("x")):
        with pytest.raises(GuardrailRejected, match="the group of calls without a user has made 1 of the 1"):
            call()
