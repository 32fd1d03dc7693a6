"""Models that a request names elsewhere than in its `model`: of a tool, of a session, of a grader, or to fall back on.

Only places that are known to hold a model are looked into: what the application calls `model` in data of its own,
such as metadata, names none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

from spanrelay._json import MAX_DEPTH
from spanrelay.codecs.narrowing import as_list, as_mapping, as_written

_HOLDERS = (
    "tools",
    "models",
    "fallbacks",
    "fallback_models",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "plugins",
    "session",
    "input_audio_transcription",
    "data_source",
    "testing_criteria",
    "grader",
    "method",
    "moderation",
    "agent",
    "agent_config",
    "multiagent",
    "settings",
    "target",
    "audio",
    "svg",
)
"""Keys of requests under which models are named."""
_LISTS = ("models", "fallbacks", "fallback_models", "context_window_fallbacks", "content_policy_fallbacks")
"""Those of them that list names: what gateways fall back on."""
_ITEMS = ("input", "items")
"""Keys of requests that hold items of a conversation, which may bring tools."""
_DATA = frozenset(
    {
        "metadata",
        "parameters",
        "function",
        "input_schema",
        "parametersJsonSchema",
        "parameters_json_schema",
        "responseJsonSchema",
        "response_json_schema",
        "schema",
        "format",
        "item",
        "source",
        "input",
        "input_messages",
        "variables",
        "headers",
    }
)
"""Keys beneath those that hold the application's own data."""


def names_of(model: Any) -> tuple[Any, ...]:
    """Return what a model goes by, its own name first; it may be no text.

    At Bedrock that of an ARN is its end, and an inference profile names the model that it is of behind a geography.
    """
    return _names_of(model) if type(model) is str else (model,)


@lru_cache(maxsize=1024)
def _names_of(model: str) -> tuple[str, ...]:
    name = model.rpartition("/")[2] if model.casefold().startswith("arn:") else model
    bare = name[found.end() :] if (found := _GEOGRAPHY.match(name)) else name
    return tuple(dict.fromkeys(each for each in (model, name, bare) if each))


_GEOGRAPHY = re.compile(r"(?:us|us-gov|eu|apac|au|ca|jp|sa|global)\.(?=[a-z0-9]+\.)", re.IGNORECASE)


def models_within(wire: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the models that `wire` names beneath its first level; one may be no text."""
    for key in wire:
        if len(key) == len("model") and key != "model" and key.casefold() == "model":
            yield wire[key]  # several servers read members in any case, and the last one counts
    for key in _HOLDERS:
        if wire.get(key) is not None:
            yield from _models_in(wire[key], 0, listed=key in _LISTS)
    yield from _models_in_messages(wire.get("messages"))
    for each in as_list(wire.get("requests")):  # of a batch, each with the body of a request
        params = as_mapping(as_mapping(as_written(each)).get("params"))
        yield from (params["model"],) if "model" in params else ()
        yield from models_within(params)
    for key in _ITEMS:
        items = wire.get(key)
        for each in cast("list[Any]", items) if isinstance(items, (list, tuple)) else ():
            item = as_written(each)
            if isinstance(item, Mapping) and "tools" in item:
                yield from _models_in(cast("Mapping[str, Any]", item)["tools"], 0)


def _models_in_messages(messages: Any) -> Iterator[Any]:
    """Yield the models of tools that messages of Anthropic's API bring."""
    for message in as_list(messages):
        content = as_mapping(as_written(message)).get("content")
        for block in as_list(content) if isinstance(content, (list, tuple)) else ():
            written = as_mapping(as_written(block))
            if written.get("type") in ("tool_addition", "compaction"):
                yield from _models_in([written.get("tool"), written.get("tool_changes")], 0)


def _named_as_model(model: Any, depth: int) -> Iterator[Any]:
    """Yield what is named as a model: a name, or an object by its `id` with how it is to answer."""
    if not isinstance(model, Mapping):
        yield from () if model is None else (model,)
        return
    fields = cast("Mapping[str, Any]", model)
    yield from (fields["id"],) if "id" in fields else ()
    yield from _models_in(fields, depth + 1)


def _models_in(value: Any, depth: int, *, listed: bool = False) -> Iterator[Any]:
    if depth > MAX_DEPTH:
        return
    value = as_written(value)
    if isinstance(value, Mapping):
        for key, each in cast("Mapping[str, Any]", value).items():
            if key == "model":
                yield from _named_as_model(each, depth)
            elif listed and isinstance(each, (list, tuple)) and "model" not in value:
                yield from _models_in(each, depth + 1, listed=True)  # by the model that it stands in for
            elif key not in _DATA or (
                key == "input" and isinstance(each, Mapping)
            ):  # of sound: what is said in, not words
                yield from _models_in(each, depth + 1)
    elif isinstance(value, (list, tuple)):
        for each in cast("list[Any]", value):
            if listed and not isinstance(each, Mapping):
                yield each
            else:
                yield from _models_in(each, depth + 1, listed=listed)
    elif listed:
        yield value
