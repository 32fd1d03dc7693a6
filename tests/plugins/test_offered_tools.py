"""Every place of a request that names or offers a tool, sent by the real SDK under each setting of `tools.offered`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from spanrelay import GuardrailRejected, request_intercept, run_model, use
from spanrelay.codecs import langchain, openai_responses
from spanrelay_testkit.model_server import ModelServer

DENIED = 'tools.deny = ["delete_*", "web_search*"]'
REFUSED: Any = None


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}}


def nested(name: str, kind: str = "function") -> dict[str, Any]:
    return {"type": kind, kind: {"name": name}}


def namespace(*names: str) -> dict[str, Any]:
    return {"type": "namespace", "name": "crm", "description": "of customers", "tools": [*map(function, names)]}


def mcp(allowed: Any, **more: Any) -> dict[str, Any]:
    server = {"type": "mcp", "server_label": "wiki", "server_url": "http://x", "require_approval": "never"}
    return {**server, **({} if allowed is None else {"allowed_tools": allowed}), **more}


@dataclass(frozen=True)
class Form:
    """One way to offer or name a tool.

    `left` is what "remove" leaves, or REFUSED where that cannot be; `passes` says whether "pass" lets it through.
    """

    name: str
    given: dict[str, Any]
    left: dict[str, Any] | None
    passes: bool = True

    def __str__(self) -> str:
        return self.name


OK, BAD = nested("get_x"), nested("delete_x")
CHAT = [
    Form("function", {"tools": [OK, BAD]}, {"tools": [OK]}),
    Form("custom tool", {"tools": [OK, nested("delete_x", "custom")]}, {"tools": [OK]}),
    Form("a flat function", {"tools": [OK, function("delete_x")]}, {"tools": [OK]}),
    Form("two names", {"tools": [OK, {**OK, "name": "delete_x"}, {**BAD, "name": "get_x"}]}, {"tools": [OK]}),
    Form("no type", {"tools": [OK, {**BAD, "type": None}]}, {"tools": [OK]}),
    Form("a function of another type", {"tools": [OK, {**BAD, "type": "any"}]}, {"tools": [OK]}, passes=False),
    Form("a key in another case", {"tools": [OK], "Tools": [BAD]}, {"tools": [OK]}),
    Form(
        "a compound",
        {"compound_custom": {"tools": {"enabled_tools": ["web_search", "visit"]}}},
        {"compound_custom": {"tools": {"enabled_tools": ["visit"]}}},
        passes=False,
    ),
    Form("alone", {"tools": [BAD], "tool_choice": "auto", "parallel_tool_calls": False}, {}),
    Form(
        "legacy functions", {"functions": [{"name": "get_x"}, {"name": "delete_x"}]}, {"functions": [{"name": "get_x"}]}
    ),
    Form("legacy function alone", {"functions": [{"name": "delete_x"}], "function_call": "auto"}, {}),
    Form(
        "legacy function_call",
        {"functions": [{"name": "get_x"}], "function_call": {"name": "delete_x"}},
        {"functions": [{"name": "get_x"}]},
    ),
    Form("web_search_options", {"web_search_options": {}}, {}, passes=False),
    Form("choice of a function", {"tools": [OK, BAD], "tool_choice": BAD}, {"tools": [OK]}),
    Form("choice of a function not offered", {"tools": [OK], "tool_choice": BAD}, {"tools": [OK]}),
    Form("choice of a custom tool", {"tools": [OK], "tool_choice": nested("delete_x", "custom")}, {"tools": [OK]}),
    Form("choice by its bare name", {"tools": [OK], "tool_choice": "delete_x"}, {"tools": [OK]}),
    Form(
        "choice of some",
        {
            "tools": [OK, BAD],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [OK, BAD]}},
        },
        {
            "tools": [OK],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [OK]}},
        },
    ),
    Form(
        "choice of none that is left",
        {
            "tools": [OK, BAD],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [BAD]}},
        },
        {"tools": [OK], "tool_choice": "none"},
    ),
    Form("no list of tools", {"tools": {"0": BAD}}, {}, passes=False),
    Form("a function without a name", {"tools": [OK, {"type": "function", "function": {}}]}, {"tools": [OK]}),
]
HELLO = {"role": "user", "content": "hello"}
GET, DELETE, SEARCH = function("get_x"), function("delete_x"), {"type": "web_search"}
RESPONSES = [
    Form("function", {"tools": [GET, DELETE]}, {"tools": [GET]}),
    Form("alone", {"tools": [DELETE], "tool_choice": "required", "max_tool_calls": 2}, {}),
    Form("hosted", {"tools": [GET, {"type": "web_search_2025_08_26"}]}, {"tools": [GET]}, passes=False),
    Form(
        "choice of a hosted", {"tools": [GET], "tool_choice": {"type": "web_search_preview"}}, {"tools": [GET]}, False
    ),
    Form(
        "choice of a function",
        {"tools": [GET, DELETE], "tool_choice": {"type": "function", "name": "delete_x"}},
        {"tools": [GET]},
    ),
    Form(
        "choice of a custom tool",
        {"tools": [GET], "tool_choice": {"type": "custom", "name": "delete_x"}},
        {"tools": [GET]},
    ),
    Form(
        "choice of some",
        {
            "tools": [GET, DELETE, SEARCH],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "get_x"}, {"type": "function", "name": "delete_x"}, SEARCH],
            },
        },
        {
            "tools": [GET],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "get_x"}]},
        },
        passes=False,
    ),
    Form("namespace", {"tools": [namespace("get_x", "delete_x")]}, {"tools": [namespace("get_x")]}),
    Form(
        "within a tool of another type",
        {"tools": [GET, {"type": "tool_search", "tools": [GET, namespace("delete_x")]}]},
        {"tools": [GET, {"type": "tool_search", "tools": [GET]}]},
    ),
    Form("namespace emptied", {"tools": [GET, namespace("delete_x")]}, {"tools": [GET]}),
    Form(
        "more tools in the input",
        {"input": [HELLO, {"type": "additional_tools", "role": "developer", "tools": [GET, SEARCH]}]},
        {"input": [HELLO, {"type": "additional_tools", "role": "developer", "tools": [GET]}]},
        passes=False,
    ),
    Form(
        "more tools in the input emptied",
        {"input": [HELLO, {"type": "additional_tools", "role": "developer", "tools": [namespace("delete_x")]}]},
        {"input": [HELLO]},
    ),
    Form(
        "tools found by a search",
        {"input": [HELLO, {"type": "tool_search_output", "call_id": "c", "tools": [DELETE]}]},
        {"input": [HELLO, {"type": "tool_search_output", "call_id": "c", "tools": []}]},
    ),
    Form(
        "tools that a server listed",
        {
            "input": [
                HELLO,
                {
                    "type": "mcp_list_tools",
                    "id": "i",
                    "server_label": "wiki",
                    "tools": [{"name": "get_x", "input_schema": {}}, {"name": "delete_x", "input_schema": {}}],
                },
            ]
        },
        {
            "input": [
                HELLO,
                {
                    "type": "mcp_list_tools",
                    "id": "i",
                    "server_label": "wiki",
                    "tools": [{"name": "get_x", "input_schema": {}}],
                },
            ]
        },
        passes=False,
    ),
    Form("MCP tools by name", {"tools": [mcp(["get_x", "delete_x"])]}, {"tools": [mcp(["get_x"])]}, passes=False),
    Form(
        "MCP tools by filter",
        {"tools": [mcp({"tool_names": ["delete_x", "get_x"], "read_only": True})]},
        {"tools": [mcp({"tool_names": ["get_x"], "read_only": True})]},
        passes=False,
    ),
    Form(
        "MCP server emptied",
        {"tools": [GET, mcp(["delete_x"])], "tool_choice": {"type": "mcp", "server_label": "wiki"}},
        {"tools": [GET]},
        passes=False,
    ),
    Form(
        "choice of an MCP tool",
        {"tools": [mcp(["get_x"])], "tool_choice": {"type": "mcp", "server_label": "wiki", "name": "delete_x"}},
        {"tools": [mcp(["get_x"])]},
        passes=False,
    ),
    Form("MCP server with tools of any name", {"tools": [GET, mcp(None)]}, {"tools": [GET]}, passes=False),
    Form("MCP filter without names", {"tools": [GET, mcp({"read_only": True})]}, {"tools": [GET]}, passes=False),
    Form("stored prompt", {"prompt": {"id": "pmpt_1"}}, REFUSED, passes=False),
]


def send(client: openai.OpenAI, api: str, given: dict[str, Any]) -> None:
    if api == "chat":
        beside = {key: given[key] for key in ("Tools", "compound_custom") if key in given}
        given = {key: value for key, value in given.items() if key not in beside}
        client.chat.completions.create(model="m", messages=[HELLO], extra_body=beside or None, **given)  # type: ignore[arg-type]
    else:
        client.responses.create(**{"model": "m", "input": "hello", **given})


def tools_of(server: ModelServer, api: str) -> dict[str, Any]:
    """What arrived, without what every request here has."""
    [request] = server.requests
    plain = {"model": "m", "messages": [HELLO], "input": "hello"}
    return {key: value for key, value in request.body.items() if plain.get(key) != value}


FORMS = [("chat", form) for form in CHAT] + [("responses", form) for form in RESPONSES]
UNREADABLE = ("no list of tools", "a function without a name")
"""Forms that no list lets pass: nobody can say what they offer."""
each_form = pytest.mark.parametrize(("api", "form"), FORMS, ids=[f"{api} {form}" for api, form in FORMS])


@each_form
def test_offered_refuse_sends_no_request_that_names_a_denied_tool(
    client: openai.OpenAI, server: ModelServer, policy: Any, api: str, form: Form
) -> None:
    policy(f'{DENIED}\ntools.offered = "refuse"')
    with pytest.raises(GuardrailRejected, match="the request offers a tool to the model: ") as refused:
        send(client, api, form.given)
    assert refused.value.name == "policy.offered_tools"
    assert server.requests == []


@each_form
def test_offered_remove_sends_what_is_left_as_the_api_takes_it(
    client: openai.OpenAI, server: ModelServer, policy: Any, api: str, form: Form
) -> None:
    policy(f'{DENIED}\ntools.offered = "remove"')
    if form.left is REFUSED:
        with pytest.raises(GuardrailRejected):
            send(client, api, form.given)
        assert server.requests == []
    else:
        send(client, api, form.given)
        assert tools_of(server, api) == form.left


@each_form
def test_offered_pass_refuses_what_the_provider_runs_and_nothing_else(
    client: openai.OpenAI, server: ModelServer, policy: Any, api: str, form: Form
) -> None:
    policy(DENIED)
    if form.passes:
        send(client, api, form.given)
        assert tools_of(server, api) == form.given
    else:
        with pytest.raises(GuardrailRejected, match="the request offers a tool to the model: "):
            send(client, api, form.given)
        assert server.requests == []


@pytest.mark.parametrize(("api", "form"), [(api, form) for api, form in FORMS if form.name not in UNREADABLE], ids=str)
def test_a_request_without_a_denied_tool_is_sent_as_it_is(
    client: openai.OpenAI, server: ModelServer, policy: Any, api: str, form: Form
) -> None:
    policy('tools.deny = ["drop_*"]\ntools.unnamed = "pass"\ntools.offered = "remove"')
    send(client, api, form.given)
    assert tools_of(server, api) == form.given


def test_the_application_s_own_lists_are_never_changed(client: openai.OpenAI, server: ModelServer, policy: Any) -> None:
    @request_intercept(priority=1_000_001)
    def edits(call: Any) -> None:
        call.wire["tools"][0]["tools"][0]["description"] = "changed"

    policy(f'{DENIED}\ntools.offered = "remove"')
    tools: Any = [namespace("get_x", "delete_x")]
    with use(edits):
        client.responses.create(model="m", input="hello", tools=tools)
    assert tools == [namespace("get_x", "delete_x")]
    assert tools_of(server, "responses")["tools"][0]["tools"] == [{**function("get_x"), "description": "changed"}]


@pytest.mark.parametrize("allowed", ["get_x", "wiki", "mcp"])
def test_a_tool_of_a_server_is_allowed_by_its_name_or_by_that_of_the_server(
    client: openai.OpenAI, server: ModelServer, policy: Any, allowed: str
) -> None:
    policy(f'tools.allow = ["{allowed}"]')
    send(client, "responses", {"tools": [mcp(["get_x"])]})
    with pytest.raises(GuardrailRejected, match=r"not among those allowed \(tools\[0\]\)"):
        send(client, "responses", {"tools": [SEARCH]})


def test_a_connector_is_judged_by_what_it_connects_to_however_it_is_labelled(
    client: openai.OpenAI, server: ModelServer, policy: Any
) -> None:
    policy('tools.deny = ["connector_gmail"]\ntools.unnamed = "pass"')
    connector = {"type": "mcp", "server_label": "harmless", "connector_id": "connector_gmail"}
    with pytest.raises(GuardrailRejected, match="'connector_gmail' is denied"):
        send(client, "responses", {"tools": [connector]})


def test_a_model_in_a_stored_prompt_is_nothing_that_a_list_lets_pass(
    client: openai.OpenAI, server: ModelServer, policy: Any
) -> None:
    policy('models.deny = ["secret-*"]')
    with pytest.raises(GuardrailRejected, match="leaves its model to a stored prompt"):
        client.responses.create(prompt={"id": "pmpt_1"})
    client.responses.create(model="m", prompt={"id": "pmpt_1"})
    assert len(server.requests) == 1


# --- other codecs ---

BOUND = {"name": "delete_x", "input_schema": {"type": "object"}}
LANGCHAIN = [
    ({"tools": [OK, BAD]}, {"tools": [OK]}),
    ({"tools": [BOUND], "tool_choice": {"type": "tool", "name": "delete_x"}}, {}),
    ({"tools": [{"type": "web_search_20250305", "name": "search"}]}, {}),
    (
        {"tools": [{"function_declarations": [{"name": "delete_x"}, {"name": "get_x"}]}]},
        {"tools": [{"function_declarations": [{"name": "get_x"}]}]},
    ),
    ({"tools": [{"web_search": {}}, {"code_execution": {}}]}, {"tools": [{"code_execution": {}}]}),
    ({"tools": [{"toolSpec": {"name": "delete_x"}}]}, {}),
    ({"tools": [OK], "tool_choice": "delete_x"}, {"tools": [OK]}),
    ({"functions": [{"name": "delete_x"}], "function_call": {"name": "delete_x"}}, {}),
    ({"mcp_servers": [{"name": "wiki", "url": "x", "tool_configuration": {"allowed_tools": ["delete_x"]}}]}, {}),
    (
        {"mcp_servers": [{"name": "wiki", "url": "x", "tool_configuration": {"allowed_tools": ["get_x", "delete_x"]}}]},
        {"mcp_servers": [{"name": "wiki", "url": "x", "tool_configuration": {"allowed_tools": ["get_x"]}}]},
    ),
    ({"tools": [OK, mcp(["delete_x"])]}, {"tools": [OK]}),
]


@pytest.mark.parametrize(("given", "left"), LANGCHAIN)
def test_what_langchain_binds_is_read_in_the_form_of_each_provider(
    policy: Any, given: dict[str, Any], left: dict[str, Any]
) -> None:
    seen: list[Any] = []
    request = {"model": "m", "messages": [{"type": "human", "content": "hello"}], **given}

    def ask(wire: Any) -> Any:
        seen.append({key: value for key, value in wire.items() if key not in ("model", "messages")})
        return langchain.encode_response(openai_responses.decode_response({"output": []}))

    policy(f'{DENIED}\ntools.offered = "remove"')
    run_model(ask, request, codec="langchain")
    assert seen == [left]


class Item(BaseModel):
    """What the SDK writes as JSON, wherever it stands in a body."""

    type: str = "additional_tools"
    role: str = "developer"
    tools: list[Any]


def test_an_item_of_a_class_offers_tools_too(policy: Any, client: openai.OpenAI, server: ModelServer) -> None:
    body = {"model": "gpt-5", "input": [HELLO, Item(tools=[GET, SEARCH])]}
    policy('tools.deny = ["web_search*"]\ntools.offered = "refuse"')
    with pytest.raises(GuardrailRejected, match=r"'web_search\w*' is denied"):
        client.post("/responses", body=body, cast_to=object)
    assert not server.requests
    policy('tools.deny = ["web_search*"]\ntools.offered = "remove"')
    client.post("/responses", body=body, cast_to=object)
    [request] = server.requests
    assert request.body["input"][1]["tools"] == [GET]
