"""Models that a request names elsewhere than in its `model`: of a tool, of a session, of a grader, or to fall back on.

Only places that are known to hold a model are looked into: what the application calls `model` in data of its own,
such as metadata, names none.
"""

from __future__ import annotations

import posixpath
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
    "transcription_session",
    "input_audio_transcription",
    "data_source",
    "testing_criteria",
    "grader",
    "method",
    "moderation",
    "guardrails",
    "agent",
    "agent_config",
    "multiagent",
    "settings",
    "target",
    "audio",
    "svg",
    "compound_custom",
    "parameters",
    "configuration",
    "llm",
    "tts",
    "stt",
    "judge_definition",
    "interaction",
    "voice",
)
"""Keys of requests under which models are named."""
_LISTS = ("models", "fallbacks", "fallback_models", "context_window_fallbacks", "content_policy_fallbacks")
"""Those of them that list names: what gateways fall back on."""
_KEYS = ("model", "model_name", "answering_model", "reasoning_model")
"""Keys whose value is a model; Mistral's guardrails and judges have the second one, Groq's compounds the others."""
_BESIDE = ("model_name", "model_id", "base_model", "safety_model")
"""Keys of a request itself whose value is a model too; Together's batches, tunings and chats have the last three."""
_ROLES = ("model_to_evaluate", "model_a", "model_b")
"""Keys whose value is a model in a part, as in Together's evaluations, or an object that names one."""
_BODIES = ("params", "body")
"""Keys of a request of a batch under which its body stands: Anthropic's and Mistral's."""
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

    At Bedrock that of an ARN is its end, and an inference profile names the model that it is of behind a geography;
    so is a model or an endpoint of Google's known by its end, and a model of Ollama's library without that.
    """
    return _names_of(model) if type(model) is str else (model,)


@lru_cache(maxsize=1024)
def _names_of(model: str) -> tuple[str, ...]:
    if ".." in model:
        model = posixpath.normpath(model)  # as a server may read it, where it stands in a path
    name = model.rpartition("/")[2] if _ENDS_IN_NAME.search(model) else model
    bare = name[found.end() :] if (found := _BEFORE_NAME.match(name)) else name
    return tuple(dict.fromkeys(each for each in (model, name, bare) if each))


_ENDS_IN_NAME = re.compile(
    r"^arn:|(?:^|/)(?:tunedModels|endpoints)/[^/]+$|^(?:publishers/[^/]+/|projects/(?:[^/]+/)+)?models/[^/]+$",
    re.IGNORECASE,
)
"""What is no name but says where one stands: an ARN, and a resource of Google's."""
_BEFORE_NAME = re.compile(
    r"(?:us|us-gov|eu|apac|au|ca|jp|sa|global)\.(?=[a-z0-9]+\.)"
    r"|(?:(?:https?://)?(?:registry\.)?ollama\.(?:ai|com)/)?library/(?=.)",
    re.IGNORECASE,
)
"""A geography of Bedrock's, and the library of Ollama's that a name without one is taken from."""


def models_within(wire: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the models that `wire` names beneath its first level; one may be no text."""
    if isinstance(wire.get("model"), Mapping):
        yield from _models_in(wire["model"], 0)
    yield from (wire[key] for key in _BESIDE if wire.get(key) is not None)
    for key in wire:
        if len(key) == len("model") and key != "model" and key.casefold() == "model":
            yield wire[key]  # several servers read members in any case, and the last one counts
    for key in _HOLDERS:
        if wire.get(key) is not None:
            yield from _models_in(wire[key], 0, listed=key in _LISTS)
    yield from _models_in_messages(wire.get("messages"))
    for each in as_list(wire.get("requests")):  # of a batch, each with the body of a request
        for key in _BODIES:
            body = as_mapping(as_mapping(as_written(each)).get(key))
            yield from _named_as_model(body.get("model"), 0)
            yield from models_within(body)
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
    named = model_id(model)
    yield from () if named is None else (named,)
    if isinstance(model, Mapping):
        yield from _models_in(model, depth + 1)


def model_id(model: Any) -> Any:
    """Return the name of a model that is named by an object, as Anthropic's agents do; of any other, what is there."""
    fields = as_mapping(model)
    return fields.get("id", model)


def _models_in(value: Any, depth: int, *, listed: bool = False) -> Iterator[Any]:
    if depth > MAX_DEPTH:
        return
    value = as_written(value)
    if isinstance(value, Mapping):
        for key, each in cast("Mapping[str, Any]", value).items():
            if key in _KEYS:
                yield from _named_as_model(each, depth)
            elif key in _ROLES and isinstance(each, str):
                yield each
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
