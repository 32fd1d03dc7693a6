"""The arguments of LiteLLM's functions, which are OpenAI's or Cohere's request in LiteLLM's own spelling.

What is no part of a request stays out of the record: keys, addresses, clients, and what LiteLLM keeps to itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, cast

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import Codec
from spanrelay.codecs.naming import models_within
from spanrelay.codecs.narrowing import as_mapping

_APART = frozenset(
    (
        "acompact_responses",
        "acompletion",
        "aembedding",
        "aocr",
        "api_base",
        "api_key",
        "api_type",
        "api_version",
        "arerank",
        "aresponses",
        "base_url",
        "caching",
        "client",
        "default_headers",
        "deployment_id",
        "drop_params",
        "enable_json_schema_validation",
        "extra_body",
        "extra_headers",
        "extra_query",
        "file",
        "headers",
        "image",
        "input_reference",
        "mask",
        "max_retries",
        "model_list",
        "openai_ephemeral_key",
        "organization",
        "request_timeout",
        "sdp_body",
        "shared_session",
        "timeout",
    )
)
"""Arguments that are no part of a request, or files: `extra_body` is one, and read by itself."""
_NAMING = frozenset(("fallbacks", "context_window_fallbacks", "models"))
"""Arguments of LiteLLM's own that name models."""
_NAMING_ONE = ("model_id", "oci_endpoint_id")
"""Arguments of one provider's own that name what runs, whatever `model` says: at Bedrock, SageMaker and Oracle."""
_NAMING_WITHIN = frozenset(("session", "transcription_session", "agent_config", "data_source", "testing_criteria"))
"""Arguments that may name models in LiteLLM's spelling within."""
_ROUTES = {
    "azure": re.compile(r".*/"),
    "bedrock": re.compile(r".*?(?=arn:)|.*/"),
    "snowflake": re.compile(r".*/"),
    "vertex_ai": re.compile(r"(?:bge|gemini|gemma|openai)/"),
}
"""By provider, what before its name of a model tells LiteLLM how to ask: `converse/`, a region, `o_series/`."""
_ROUTE = re.compile(r"responses/")
"""The same for all others."""


def wire_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that the arguments stand for, as plain JSON."""
    owned = sys.modules["litellm.types.utils"].all_litellm_params
    found = {
        name: value
        for name, value in asked.items()
        if value is not None and name not in _APART and (name not in owned or name in _NAMING)
    }
    found.update({name: _without_keys(found[name]) for name in _NAMING if name in found})
    body = asked.get("extra_body")
    return cast("dict[str, Any]", _json.plain({**found, **(body if isinstance(body, dict) else {})}))


def changed(asked: Mapping[str, Any], before: Mapping[str, Any], outgoing: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with what policy changed; what it left alone stays the application's own object."""
    body = asked.get("extra_body")
    apart = set(cast("dict[str, Any]", body)) if isinstance(body, dict) else set[str]()
    kept = {name: value for name, value in asked.items() if name not in before or name in outgoing}
    other = {name: value for name, value in outgoing.items() if name not in before or before[name] != value}
    if isinstance(other.get("model"), str) and "model" not in apart:
        key = "model" if asked.get("deployment_id") is None else "deployment_id"
        other[key] = _as_litellm_has_it(other.pop("model"), before.get("model"), running(asked))
    for name in _NAMING & other.keys():
        other[name] = _with_keys(other[name], asked.get(name))
    kept.update({name: value for name, value in other.items() if name not in apart})
    if apart:
        kept["extra_body"] = {name: outgoing[name] for name in apart if name in outgoing}
    return kept


def doubt_about(codec: Codec, asked: Mapping[str, Any]) -> str | None:
    """Return why nobody can say which tools a request offers, or None: providers differ in whose they take."""
    body = as_mapping(asked.get("extra_body"))
    for key in getattr(codec, "OFFERS", ()):
        if key in body and asked.get(key) not in (None, body[key]):
            return f"it says {key!r} in an argument and in 'extra_body'; say it once"
    return None


def resolved(asked: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the model as its provider knows it, and LiteLLM's name of the provider."""
    model, litellm = running(asked), sys.modules["litellm"]
    if model is None:
        return None, asked.get("custom_llm_provider") or "litellm"
    base = asked.get("api_base") or asked.get("base_url")
    of = "azure" if asked.get("deployment_id") is not None else asked.get("custom_llm_provider")
    with guarded("asking LiteLLM for the provider of a model"):
        try:
            found, provider, *_ = litellm.get_llm_provider(model, of, base)
            return _without_route(found, provider), provider
        except litellm.exceptions.BadRequestError:
            pass  # the call fails by the same, in LiteLLM's words
    return model, "litellm"


def _without_route(model: str, provider: str) -> str:
    """Return the name by which a provider is asked for a model."""
    for route in (_ROUTE, _ROUTES.get(provider)):
        if route is not None and (found := route.match(model)):
            model = model[found.end() :] or model
    return model


def named_beside(asked: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the models that LiteLLM may ask in this very call, whatever its `model` is.

    What it falls back on in a window that is too small it asks by itself, past its own function.
    """
    instead: Any = as_mapping(asked.get("context_window_fallback_dict")).values()
    larger = [resolved({**asked, "model": model, "deployment_id": None})[0] for model in instead]
    return (*(asked[name] for name in _NAMING_ONE if asked.get(name) is not None), *larger)


def named_within(wire: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the models that a request names deeper, such as that of a session, as their providers know them."""
    within = tuple(models_within(wire)) if wire.keys() & _NAMING_WITHIN else ()
    return tuple(resolved({"model": each})[0] for each in within if isinstance(each, str))


def running(asked: Mapping[str, Any]) -> Any:
    """Return the model that LiteLLM asks: a deployment for any other, and what an alias stands for."""
    model, deployment = asked.get("model"), asked.get("deployment_id")
    if deployment is not None:
        return deployment
    aliases = as_mapping(sys.modules["litellm"].model_alias_map)
    return aliases.get(model, model) if isinstance(model, str) else model


def _as_litellm_has_it(model: str, original: Any, asked: Any) -> str:
    """Return another model for the one that was asked for: by the same provider, unless it names one itself."""
    prefix = asked.removesuffix(original) if isinstance(asked, str) and isinstance(original, str) else ""
    names_another = (
        isinstance(original, str)
        and "/" not in original
        and model.partition("/")[0] in sys.modules["litellm"].provider_list
    )
    return model if not prefix or model.startswith(prefix) or names_another else prefix + model


def _without_keys(named: Any) -> Any:
    """Return what names models without what else a deployment says of itself, such as its key."""
    if isinstance(named, dict):
        of = cast("dict[str, Any]", named)
        return {"model": of["model"]} if "model" in of else {name: _without_keys(each) for name, each in of.items()}
    return [_without_keys(each) for each in named] if isinstance(named, list) else named


def _with_keys(changed: Any, given: Any) -> Any:
    """Return what policy left of a list of deployments, each as the application gave it."""
    if not isinstance(changed, list) or not isinstance(given, list):
        return changed
    return [next((whole for whole in given if _without_keys(whole) == each), each) for each in changed]
