"""What a path of Gemini's APIs asks for: `models/gemini-x:generateContent` and its siblings, in all their spellings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from spanrelay.codecs import gemini_embeddings, gemini_generate_content, gemini_plain
from spanrelay.codecs.gemini_shapes import model_name
from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.codecs.offers import offers_of
from spanrelay.instrumentation.requests import normal
from spanrelay.instrumentation.targets import Route

_CONTENT = Route(gemini_generate_content, ends_with_done=False)
_EMBEDDING = Route(gemini_embeddings, "embedder")
PLAIN = Route(gemini_plain, answers=False)
"""Any other action, where the request names a model or offers one tools."""

_ROUTES = {
    "generateContent": _CONTENT,
    "streamGenerateContent": _CONTENT,
    "embedContent": _EMBEDDING,
    "batchEmbedContents": _EMBEDDING,
}

_OF_MODEL = re.compile(r"(?:^|/)(?:models|tunedModels|endpoints)/[^/]+$")


class Place(NamedTuple):
    """Where a request goes: which action on which model; None where the path names no model."""

    route: Route
    model: str | None
    action: str


def place_of(path: str, body: Mapping[str, Any]) -> Place:
    """Return what `path`, as the SDK is given it, asks for."""
    place = _named(path)
    # Vertex AI has one action for all models that are none of Gemini's.
    if place.action == "predict" and any("content" in as_mapping(each) for each in as_list(body.get("instances"))):
        return place._replace(route=_EMBEDDING)
    return place


def wire_of(place: Place, body: Mapping[str, Any], *, streamed: bool) -> dict[str, Any]:
    """Return a request as codecs and policy read it: the model of its path, or whichever it names, in its body."""
    if place.model is not None:
        wire = {"model": place.model, **{key: value for key, value in body.items() if key != "model"}}
    else:
        wire = dict(body)
        named = next((body[key] for key in ("model", "baseModel") if body.get(key) is not None), None)
        if named is not None:
            wire["model"] = model_name(named) if isinstance(named, str) else named
    if streamed:
        wire["stream"] = True
    return wire


def body_of(wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a request: what `wire_of` has put into it stands elsewhere."""
    return {key: value for key, value in wire.items() if key not in ("model", "stream")}


def asks_within(body: Mapping[str, Any]) -> bool:
    """Whether a request that names no model on its first level names one deeper, or offers tools to one."""
    return bool(offers_of(gemini_plain, body)) or any(True for _ in gemini_plain.models_beside(body))


@lru_cache(maxsize=256)
def _named(path: str) -> Place:
    """Return what a path names; a server reads it decoded, without what a query says."""
    resource, _, action = normal(path.partition("?")[0]).rpartition(":")
    if not resource:
        resource, action = action, ""
    resource = resource.strip("/")
    model = model_name(resource) if _OF_MODEL.search(resource) else None
    if model is None and action in _ROUTES:
        # Not as Google names models: a gateway's `models/openai/gpt-5`. What is asked for is a model all the same.
        model = resource.partition("models/")[2] or resource
    route = _ROUTES.get(action, PLAIN) if model is not None else PLAIN
    return Place(route, model, action)
