"""What a path of Gemini's APIs asks for: `models/gemini-x:generateContent` and its siblings, in all their spellings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from spanrelay.codecs import gemini_embeddings, gemini_generate_content, gemini_plain
from spanrelay.codecs.gemini_shapes import model_name
from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.instrumentation.requests import normal
from spanrelay.instrumentation.targets import Route

_CONTENT = Route(gemini_generate_content)
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
