"""Shapes that all of Gemini's APIs share: a field in either spelling, token counts by modality, the model's name.

A service takes a field as `maxOutputTokens` and as `max_output_tokens`, and requests mix both: whoever reads one name
alone misses the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

from spanrelay.codecs.narrowing import as_int, as_list, as_mapping
from spanrelay.codecs.patching import put
from spanrelay.records import Usage

_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
Value = TypeVar("Value")


@lru_cache(maxsize=512)
def snake(name: str) -> str:
    """Return `maxOutputTokens` as `max_output_tokens`."""
    return _CAPITAL.sub(r"_\1", name).lower()


def both(table: Mapping[str, Value]) -> dict[str, Value]:
    """Return `table`, whose keys are in camel case, with each key in the other spelling too, behind all of those."""
    return {**table, **{snake(key): value for key, value in table.items()}}


def field(wire: Mapping[str, Any], name: str) -> Any:
    """Return the field `name`, which is in camel case, in whichever spelling it is there; None where it is not."""
    value = wire.get(name)
    return wire.get(snake(name)) if value is None else value


def spelled(wire: Mapping[str, Any], name: str) -> str:
    """Return the key under which `wire` has the field `name`, or is to have it."""
    other = snake(name)
    return other if wire.get(name) is None and wire.get(other) is not None else name


def spellings(wire: Mapping[str, Any], name: str) -> list[str]:
    """Return every key under which `wire` has the field `name`: who judges a field must see it in both."""
    return [key for key in dict.fromkeys((name, snake(name))) if wire.get(key) is not None]


def put_field(out: dict[str, Any], name: str, value: Any) -> None:
    """Set the field `name` in the spelling that is in use, or remove it in both where `value` is None."""
    key = spelled(out, name)
    if value is None:
        out.pop(snake(name), None)
    put(out, key, value)


# --- models ------------------------------------------------------------------------------------------------

_MODEL = re.compile(r"(?:^|/)models/([^/]+)$")


def model_name(resource: str) -> str:
    """Return what people call the model of a resource: `gemini-x` of `models/gemini-x` and of Vertex AI's long form.

    What is no model of a publisher, as a tuned model or an endpoint, keeps its whole name.
    """
    found = _MODEL.search(resource)
    return found[1] if found else resource


_RANKING = ("tools", "retrieval", "vertexRagStore", "ragRetrievalConfig", "ranking")
_NAMED = (
    ("generationConfig", "routingConfig", "manualMode", "modelName"),
    *((*_RANKING, ranker, "modelName") for ranker in ("llmRanker", "rankService")),
)
"""Where a request for content names models beside the path's: what a router is to take, and what ranks its sources."""


def models_beside(wire: Mapping[str, Any], places: Iterable[tuple[str, ...]] = _NAMED) -> Iterator[Any]:
    """Yield the models that stand at `places`, which are asked whatever the path names; one may be no text."""
    for place in places:
        for named in _within(wire, *place):
            yield model_name(named) if isinstance(named, str) else named


def _within(value: Any, *path: str) -> Iterator[Any]:
    """Yield whatever stands at the end of `path`, by every spelling of each of its fields, in each item of a list."""
    if not path:
        yield value
        return
    if isinstance(value, (list, tuple)):
        for each in cast("list[Any]", value):
            yield from _within(each, *path)
        return
    fields = as_mapping(value)
    for key in spellings(fields, path[0]):
        yield from _within(fields[key], *path[1:])


# --- usage -------------------------------------------------------------------------------------------------


def _sum(*counts: int | None) -> int | None:
    told = [count for count in counts if count is not None]
    return sum(told) if told else None


def _of_audio(*details: Any) -> int | None:
    """Return the tokens of sound in lists of counts by modality; None where there are none."""
    return _sum(
        *(
            as_int(field(as_mapping(each), "tokenCount"))
            for listed in details
            for each in as_list(listed)
            if as_mapping(each).get("modality") == "AUDIO"
        )
    )


def decode_usage(wire: object) -> Usage | None:
    """Read a `usageMetadata` object.

    Gemini counts thoughts beside the candidates, and what its own tools put into the prompt beside the prompt; what
    came out of a cache is in the prompt.
    """
    if not isinstance(wire, Mapping) or not wire:
        return None
    usage: Mapping[str, Any] = wire
    thoughts = as_int(field(usage, "thoughtsTokenCount"))
    return Usage(
        _sum(as_int(field(usage, "promptTokenCount")), as_int(field(usage, "toolUsePromptTokenCount"))),
        _sum(as_int(field(usage, "candidatesTokenCount")), thoughts),
        as_int(field(usage, "totalTokenCount")),
        as_int(field(usage, "cachedContentTokenCount")),
        None,
        thoughts,
        _of_audio(field(usage, "promptTokensDetails"), field(usage, "toolUsePromptTokensDetails")),
        _of_audio(field(usage, "candidatesTokensDetails")),
    )


def encode_usage(old: Usage | None, new: Usage | None, wire: object) -> dict[str, Any] | None:
    """Return the `usageMetadata` object `wire`, read as `old`, changed so that it reads as `new`."""
    if new is None:
        return None
    out, before = dict(as_mapping(wire)), old or Usage()
    if new.reasoning_tokens != before.reasoning_tokens:
        put_field(out, "thoughtsTokenCount", new.reasoning_tokens)
    if (new.output_tokens, new.reasoning_tokens) != (before.output_tokens, before.reasoning_tokens):
        put_field(out, "candidatesTokenCount", _without(new.output_tokens, new.reasoning_tokens))
    if new.input_tokens != before.input_tokens:
        beside = as_int(field(out, "toolUsePromptTokenCount"))
        put_field(out, "promptTokenCount", _without(new.input_tokens, beside))
    for name, key in (("total_tokens", "totalTokenCount"), ("cache_read_tokens", "cachedContentTokenCount")):
        if getattr(new, name) != getattr(before, name):
            put_field(out, key, getattr(new, name))
    return out


def _without(total: int | None, part: int | None) -> int | None:
    return None if total is None else max(total - (part or 0), 0)
