"""Which requests may be answered from a cache, and by which key: all that an answer depends on is in it.

In doubt a request has no key: a call too many is the price of one, and an answer to another question never is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, cast

from spanrelay import _json
from spanrelay.codecs import (
    anthropic_messages,
    bedrock_converse,
    gemini_generate_content,
    openai_chat,
    openai_completions,
    openai_responses,
)
from spanrelay.codecs.narrowing import as_mapping
from spanrelay.codecs.offers import BY_APPLICATION, offers_of
from spanrelay.pipeline.identity import Identity

VERSION = 1
"""Of what is in a key and in an entry: what was kept by another is not found."""

_SAMPLING: dict[Any, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    openai_chat.decode_request: lambda wire: wire,
    openai_completions.decode_request: lambda wire: wire,
    openai_responses.decode_request: lambda wire: wire,
    anthropic_messages.decode_request: lambda wire: wire,
    bedrock_converse.decode_request: lambda wire: as_mapping(wire.get("inferenceConfig")),
    gemini_generate_content.decode_request: lambda wire: as_mapping(wire.get("generationConfig")),
}
"""Where a request says how its answer is drawn, by how its codec reads it."""
_STATE = ("previous_response_id", "conversation", "background", "container", "cachedContent")
"""Keys of what the provider keeps, and of what runs there: the request does not say all that the answer depends on."""
_REFERENCE = re.compile(
    rb'"(?:file_id|fileId|file_uri|fileUri|file_url)":"|"s3Location":\{|"type":"item_reference"|"type":"container_upload"'
)
"""Of files that others keep, in JSON: within a text there is a backslash before each quote."""
_BESIDE = frozenset({"stream", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "cache_control"})
"""Keys that are said otherwise in a key, or that only tell the provider what to cache."""
_MARK = re.compile(rb'"(?:cache_control|cachePoint)":')
_DATA = frozenset({"input", "input_schema", "inputSchema", "json", "arguments", "parameters"})
"""Keys of what the application's tools take, where a word means what they say."""
_OF_APPLICATIONS = ("bash_", "text_editor_", "computer_", "memory_")
"""Anthropic's kinds of tools that the application runs."""


class Bypassed(Exception):
    """A request is not looked up; the text says why."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Which answers may be given again, and to whom.

    Attributes:
        namespace: Answers of another are never given.
        nondeterministic: Whether requests count whose answers may differ each time.
        models: Matches the names of models of which it does not matter.
        per_credential: Whether an answer is given only to who asks with the same credential.
    """

    namespace: str
    nondeterministic: bool = False
    models: re.Pattern[str] | None = None
    per_credential: bool = True


def key_of(call: Any, terms: Terms) -> bytes:
    """Return the key of a request: a digest of all that its answer depends on.

    Raises:
        Bypassed: it has none.
    """
    wire: Mapping[str, Any] = call.outgoing()
    sampling = _SAMPLING.get(call.codec.decode_request)
    if sampling is None:
        raise Bypassed("unknown_api")
    if call.streams and call.rewriting is not None:
        raise Bypassed("stream_intercepts")  # what they leave of a stream is not what the provider said
    if call.unreadable is not None:
        raise Bypassed("unreadable")
    if not (terms.nondeterministic or _is_fixed(sampling(wire)) or _is_named(wire, call, terms)):
        raise Bypassed("nondeterministic")
    if _has_state(call, wire):
        raise Bypassed("stateful")
    if any(not offer.group and not _runs_here(offer.kind) for offer in offers_of(call.codec, wire)):
        raise Bypassed("server_tools")
    identity: Identity | None = call.identity()
    if identity is None or (terms.per_credential and identity.credential is None):
        raise Bypassed("unknown_credential")
    try:
        body = _canonical(wire)
        beside = _json.dumps_canonical(
            [
                *(VERSION, terms.namespace, call.record.provider, call.record.server_address, call.record.server_port),
                *(identity.place, identity.credential if terms.per_credential else None),
                *(call.deployment, call.named_beside, call.streams),
            ]
        )
    except TypeError:
        raise Bypassed("not_json") from None
    if _REFERENCE.search(body):
        raise Bypassed("files")
    return blake2b(b"%d " % len(beside) + beside + body, digest_size=32).digest()


def _is_fixed(sampling: Mapping[str, Any]) -> bool:
    """Whether the same answer is asked for each time."""
    temperature, seed = sampling.get("temperature"), sampling.get("seed")
    return (type(temperature) in (int, float) and temperature == 0) or type(seed) is int


def _is_named(wire: Mapping[str, Any], call: Any, terms: Terms) -> bool:
    model = call.deployment or wire.get("model")
    return terms.models is not None and isinstance(model, str) and terms.models.match(model) is not None


def _has_state(call: Any, wire: Mapping[str, Any]) -> bool:
    if any(wire.get(key) for key in _STATE) or isinstance(wire.get("prompt"), Mapping):  # a stored one
        return True
    if call.codec.decode_request is openai_responses.decode_request:
        return wire.get("store") is not False  # it keeps answers unless it is told not to
    return bool(wire.get("store"))


def _runs_here(kind: str) -> bool:
    return kind in BY_APPLICATION or kind.startswith(_OF_APPLICATIONS)


def _canonical(wire: Mapping[str, Any]) -> bytes:
    """Return the request as JSON without what tells the provider to cache it, which no model sees."""
    said = {key: value for key, value in wire.items() if key not in _BESIDE}
    body = _json.dumps_canonical(said)
    return _json.dumps_canonical(_unmarked(said)) if _MARK.search(body) else body


def _unmarked(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        return [_unmarked(item) for item in items if not (isinstance(item, Mapping) and [*item] == ["cachePoint"])]
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return {
            key: item if key in _DATA else _unmarked(item) for key, item in members.items() if key != "cache_control"
        }
    return value
