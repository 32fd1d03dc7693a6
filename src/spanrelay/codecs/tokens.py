"""The tokens of an answer, by the names that providers and serving engines have for them.

OpenAI tells log probabilities; vLLM, with `return_token_ids`, ids beside a choice; NeMo Gym both, within a message;
Gemini both, token by token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from spanrelay.codecs.narrowing import as_float, as_list, as_mapping
from spanrelay.records import Tokens

TOLD_BY_TOKEN = ("logprobs", "token_ids")
"""The keys of a streamed choice that say of each chunk what it adds."""

_PROMPT = "prompt_token_ids"


def added(known: Any, more: Any) -> Any:
    """Return what a chunk says of its tokens behind what those before it have said: lists, and objects of lists.

    `known` is what this returned before, and grows.
    """
    if isinstance(more, Mapping):
        grown = cast("dict[str, Any]", known) if isinstance(known, dict) else {}
        for key, value in cast("Mapping[str, Any]", more).items():
            grown[key] = added(grown.get(key), value)
        return grown
    if not isinstance(more, list):
        return known
    tokens = cast("list[Any]", known) if isinstance(known, list) else []
    tokens += cast("list[Any]", more)
    return tokens


def read_tokens(wire: Mapping[str, Any], choice: Mapping[str, Any]) -> Tokens | None:
    """Return the tokens of a chat's or a completion's choice, None where nothing is told of them."""
    message = as_mapping(choice.get("message"))
    prompt = wire.get(_PROMPT) or choice.get(_PROMPT) or message.get(_PROMPT)
    completion = choice.get("token_ids") or message.get("generation_token_ids")
    told = choice.get("logprobs")
    numbers = _of_choice(as_mapping(told)) if told else message.get("generation_log_probs")
    return _tokens(prompt, completion, numbers) if prompt or completion or numbers else None


def _of_choice(told: Mapping[str, Any]) -> list[Any]:
    tokens = told.get("content") or told.get("refusal")
    return numbers_of(tokens) if tokens else as_list(told.get("token_logprobs"))


def read_item_tokens(items: list[Any]) -> Tokens | None:
    """Return the tokens of the items of a Responses answer."""
    numbers: list[Any] = []
    prompt = completion = told = None
    for item in map(as_mapping, items):
        for part in map(as_mapping, as_list(item.get("content"))):
            numbers += numbers_of(part.get("logprobs"))
        prompt = prompt or item.get(_PROMPT)
        completion = completion or item.get("generation_token_ids")
        told = told or item.get("generation_log_probs")
    said = numbers or told
    return _tokens(prompt, completion, said) if prompt or completion or said else None


def read_chosen_tokens(chosen: list[Any]) -> Tokens | None:
    """Return the tokens that Gemini says it has chosen."""
    tokens = [as_mapping(each) for each in chosen]
    ids = [token.get("tokenId", token.get("token_id")) for token in tokens]
    return _tokens(None, ids, [token.get("logProbability", token.get("log_probability")) for token in tokens])


def numbers_of(tokens: Any) -> list[Any]:
    """Return the log probability of each token of a list."""
    return [as_mapping(token).get("logprob") for token in as_list(tokens)]


def _tokens(prompt: Any, completion: Any, numbers: Any) -> Tokens | None:
    found = Tokens(_ids(prompt), _ids(completion), _numbers(numbers))
    return found if found != Tokens() else None


def _ids(value: Any) -> list[int] | None:
    items = as_list(value)
    return cast("list[int]", items) if items and all(type(item) is int for item in items) else None


def _numbers(value: Any) -> list[float] | None:
    """Return log probabilities; none at all where one is missing, since each stands for a token by its place."""
    numbers = [as_float(item) for item in as_list(value)]
    if not numbers or any(number is None or not math.isfinite(number) for number in numbers):
        return None
    return cast("list[float]", numbers)
