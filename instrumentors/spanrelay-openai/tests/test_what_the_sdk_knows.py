"""Every parameter, tool and item that the installed SDK has types for is one that we know where policy reads it."""

from __future__ import annotations

from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params, response_input_item_param, tool_param

from spanrelay.codecs import openai_chat, openai_completions, openai_embeddings, openai_responses

ALWAYS = {"model", "stream", "stream_options", "metadata", "safety_identifier"}
CACHED = {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
OTHERS: list[tuple[Any, Any, set[str]]] = [
    (
        openai_chat,
        chat_create_params.CompletionCreateParamsNonStreaming,
        {"messages", "audio", "moderation", "prediction", *CACHED},
    ),
    (
        openai_responses,
        response_create_params.ResponseCreateParamsNonStreaming,
        {
            *("instructions", "moderation", "access_programs", "background_options", "context_management"),
            *("image", "include", *CACHED),
        },
    ),
    (
        openai_completions,
        completion_create_params.CompletionCreateParamsNonStreaming,
        {"prompt", "best_of", "echo", "suffix"},
    ),
    (openai_embeddings, embedding_create_params.EmbeddingCreateParams, {"input"}),
]
"""What a request has beside parameters and tools: of models `moderation` and `audio` may name one, which is read."""


@pytest.mark.parametrize(("codec", "params", "others"), OTHERS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_parameter_of_the_sdks_is_one_that_we_know(codec: Any, params: Any, others: set[str]) -> None:
    parameters = codec.PARAMETERS if codec is openai_chat else codec._PARAMETERS
    known = ALWAYS | others | parameters.keys() | getattr(codec, "OFFERS", {}).keys()
    assert set(get_type_hints(params)) - known == set(), "say in which table it belongs"


HOLDERS = {"namespace", "mcp"}
"""Tools that hold or name others, which are read one by one."""
SINGLE = {
    *("function", "custom", "apply_patch", "code_interpreter", "computer", "computer_use_preview", "file_search"),
    *("image_generation", "local_shell", "programmatic_tool_calling", "shell", "tool_search", "web_search"),
    *("web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"),
}
"""Tools that go by their name or type alone."""
NO_CALL = {"compaction", "program", "program_output", "item_reference", "mcp_approval_request", "mcp_approval_response"}
"""Items that hold no tool, and no call or result but one that is read as an approval, or the provider's own."""


def types_in(union: Any) -> set[str]:
    """Return the types on the wire of the objects of a union."""
    if get_origin(union) is Union:
        return {kind for each in get_args(union) for kind in types_in(each)}
    return set(words_in(get_type_hints(union).get("type")))


def words_in(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [word for each in get_args(hint) for word in words_in(each)]


def test_each_type_of_tool_of_the_sdks_is_one_that_we_know() -> None:
    assert types_in(tool_param.ToolParam) - HOLDERS - SINGLE == set(), "say whether it holds or names others"


def test_each_type_of_item_of_the_sdks_is_one_that_we_know() -> None:
    messages = openai_responses.messages
    read = messages._ITEM_READERS.keys() | openai_responses._ITEM_OFFERS.keys() | messages._CLIENT_ITEMS.keys()
    items = types_in(response_input_item_param.ResponseInputItemParam)
    assert items - read - NO_CALL == set(), "say whose it is, and what it holds"
