"""What holds for the tools in requests of every API, whatever stands where they do."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanrelay._json import dumps
from spanrelay.codecs import (
    anthropic_messages,
    cohere_v1,
    cohere_v2,
    gemini_generate_content,
    gemini_plain,
    langchain,
    mistral_conversations,
    ollama_chat,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
    plain,
)
from spanrelay.codecs.offers import Offer, offers_of

CODECS = [
    anthropic_messages,
    cohere_v1,
    cohere_v2,
    gemini_generate_content,
    gemini_plain,
    langchain,
    mistral_conversations,
    ollama_chat,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
]
KEYS = st.sampled_from(
    [
        *("type", "name", "tools", "function", "functions", "custom", "tool_choice", "function_call", "server_label"),
        *("allowed_tools", "tool_names", "require_approval", "connector_id", "input", "prompt", "web_search_options"),
        *("functionDeclarations", "toolConfig", "functionCallingConfig", "allowedFunctionNames", "request", "requests"),
        *("function_declarations", "toolSpec", "mcp_servers", "tool_configuration", "parallel_tool_calls"),
        *("messages", "content", "tool", "definition", "configs", "default_config", "enabled", "mcp_server_name"),
        *(
            "Tools",
            "compound_custom",
            "enabled_tools",
            "tool_name",
            "tool_references",
            "tool_changes",
            "server_name",
            "include",
            "connectors",
            "id",
        ),
    ]
)
WORDS = st.sampled_from(
    [
        *("function", "custom", "namespace", "mcp", "allowed_tools", "web_search", "tool_search_output", "good", "bad"),
        *("additional_tools", "mcp_list_tools", "auto", "required"),
        *("mcp_toolset", "tool_addition", "tool_definition", "tool_reference", "mcp_tool_listing", "compaction"),
        *("tool_result", "tool_search_tool_result", "mcp_toolset_reference", "connector"),
    ]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
requests = st.dictionaries(KEYS, anything, max_size=6)
many = settings(max_examples=150, deadline=None, derandomize=True, database=None)
each_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.__name__.split(".")[-1])


def is_bad(offer: Offer) -> bool:
    return offer.names[:1] == ("bad",)


@each_codec
@many
@given(wire=requests)
def test_a_request_all_of_whose_tools_are_kept_is_the_very_same(codec: ModuleType, wire: dict[str, Any]) -> None:
    before = dumps(wire)
    assert codec.sift_tools(wire, lambda offer: True) is wire
    codec.sift_tools(wire, lambda offer: False)
    assert dumps(wire) == before


@each_codec
@many
@given(wire=requests)
def test_what_is_taken_away_is_not_there_any_more_and_the_rest_is(codec: ModuleType, wire: dict[str, Any]) -> None:
    left = codec.sift_tools(wire, lambda offer: not is_bad(offer))
    assert not any(is_bad(offer) for offer in offers_of(codec, left))
    nothing = codec.sift_tools(wire, lambda offer: False)
    assert [offer for offer in offers_of(codec, nothing) if offer.kind != "prompt"] == []


def test_a_kind_of_tool_with_nothing_in_it_is_taken_out_too() -> None:
    wire = {"tools": [{"google_search": None, "code_execution": {}}]}
    left = langchain.sift_tools(wire, lambda offer: offer.kind != "google_search")
    assert left == {"tools": [{"code_execution": {}}]}


OFF = {"enabled": False}


@pytest.mark.parametrize(
    "kind", [{"type": "mcp_toolset", "mcp_server_name": "crm"}, {"type": "agent_toolset_20260401"}], ids=str
)
def test_each_tool_that_a_set_of_an_agents_enables_is_an_offer(kind: dict[str, str]) -> None:
    configs = [{"name": "bad", "enabled": True}, {"name": "good", "enabled": True}, {"name": "other", **OFF}]
    wire: Any = {"model": "claude", "tools": [{**kind, "default_config": OFF, "configs": configs}]}
    assert [offer.names[0] for offer in offers_of(plain, wire) if not offer.group] == ["bad", "good"]
    left = plain.sift_tools(wire, lambda offer: not is_bad(offer))["tools"][0]["configs"]
    assert left == [{"name": "bad", **OFF}, *configs[1:]]
    bad: Any = {"model": "claude", "tools": [{**kind, "default_config": OFF, "configs": configs[:1]}]}
    assert "tools" not in plain.sift_tools(bad, lambda offer: not is_bad(offer))
    [offer] = offers_of(plain, {"model": "claude", "tools": [kind]})
    assert offer.unnamed


@pytest.mark.parametrize("codec", [openai_chat, openai_responses, langchain])
def test_every_key_of_the_table_is_read(codec: Any) -> None:
    offering = [{"type": "function", "name": "bad", "function": {"name": "bad"}}]
    for key in codec.OFFERS:
        value: Any = [{"type": "additional_tools", "tools": offering}] if key == "input" else offering
        value = {"prompt": {"id": "p"}, "compound_custom": {"tools": {"enabled_tools": ["bad"]}}}.get(key, value)
        assert offers_of(codec, {key: value}), key
