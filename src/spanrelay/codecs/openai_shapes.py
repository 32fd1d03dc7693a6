"""Shapes that all APIs of the OpenAI family share: parameters, usage counted in prompt tokens, errors, data URLs.

A shape that only one of the APIs has belongs into the codec of that API.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from spanrelay.codecs.narrowing import as_float, as_int, as_ints, as_list, as_mapping, as_str
from spanrelay.codecs.parameters import Table, Writer
from spanrelay.codecs.patching import put
from spanrelay.records import JSON, ErrorInfo, Media, ModelResponse, Usage


def _read_stop(stop: JSON) -> JSON:
    return stop if isinstance(stop, list) else [stop]


SAMPLING: Table = {
    "temperature": ("temperature", None),
    "top_p": ("top_p", None),
    "top_k": ("top_k", None),
    "frequency_penalty": ("frequency_penalty", None),
    "presence_penalty": ("presence_penalty", None),
    "seed": ("seed", None),
    "stop": ("stop_sequences", _read_stop),
    "n": ("choice_count", None),
}
"""The parameters by which an answer is drawn, but for how long it may be."""


def write_stop(value: JSON, old: Any) -> JSON:
    """Write what ends an answer; one text where there was one."""
    return value[0] if isinstance(old, str) and len(as_list(value)) == 1 else value


def read_format(value: JSON) -> JSON:
    """Return the type of answer that is asked for: `json` where any JSON is."""
    kind = as_mapping(value).get("type")
    return {"json_object": "json", "json_schema": "json"}.get(kind, kind) if isinstance(kind, str) else None


def write_format(value: JSON, _old: Any) -> JSON:
    """Write the type of answer that is asked for."""
    return {"type": "json_object" if value == "json" else value}


FORMAT_WRITERS: Mapping[str, Writer] = {"response_format": write_format}

_PLACES: dict[str, tuple[tuple[str, ...], ...]] = {
    "input_tokens": (("prompt_tokens",),),
    "output_tokens": (("completion_tokens",),),
    "total_tokens": (("total_tokens",),),
    "cache_read_tokens": (
        ("prompt_tokens_details", "cached_tokens"),
        ("prompt_cache_hit_tokens",),
        ("num_cached_tokens",),
        ("cached_tokens",),
    ),
    "cache_write_tokens": (
        ("prompt_tokens_details", "cache_write_tokens"),
        ("prompt_tokens_details", "cache_creation_tokens"),
        ("cache_creation_input_tokens",),
    ),
    "reasoning_tokens": (("completion_tokens_details", "reasoning_tokens"), ("reasoning_tokens",)),
    "input_audio_tokens": (("prompt_tokens_details", "audio_tokens"),),
    "output_audio_tokens": (("completion_tokens_details", "audio_tokens"),),
    "cost_usd": (("cost",), ("cost_in_usd_ticks",)),
}
"""Where each count stands on the wire, the official place first, then those of DeepSeek, Mistral, Together,
OpenRouter and xAI."""


_OFFICIAL = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
)
_OFFICIAL_DETAILS = frozenset({"cached_tokens", "audio_tokens"})
"""What OpenAI's `usage` has in it, and the details of its prompt: where nothing else is, no other place has a count."""


WHOLE_USAGE: Mapping[str, Any] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
"""The counts that a `usage` object always has."""


def decode_usage(wire: object) -> Usage | None:
    """Read a `usage` object of chat, completions or embeddings; None where there is none."""
    if not isinstance(wire, Mapping) or not wire:
        return None
    usage: Mapping[str, Any] = wire
    get = usage.get
    prompt = as_mapping(get("prompt_tokens_details"))
    completion = as_mapping(get("completion_tokens_details"))
    given, made, total, cached, written, reasoning, heard, spoken = as_ints(
        get("prompt_tokens"),
        get("completion_tokens"),
        get("total_tokens"),
        prompt.get("cached_tokens"),
        prompt.get("cache_write_tokens"),
        completion.get("reasoning_tokens"),
        prompt.get("audio_tokens"),
        completion.get("audio_tokens"),
    )
    if not (usage.keys() <= _OFFICIAL and prompt.keys() <= _OFFICIAL_DETAILS):
        cached = cached if cached is not None else _elsewhere(usage, "cache_read_tokens")
        written = written if written is not None else _elsewhere(usage, "cache_write_tokens")
        reasoning = reasoning if reasoning is not None else _elsewhere(usage, "reasoning_tokens")
    return with_reasoning(
        Usage(
            given,
            made,
            total,
            cached,
            written,
            reasoning,
            heard,
            spoken,
            # Few providers tell it: others are spared the call.
            _cost_of(usage) if "cost" in usage or "cost_in_usd_ticks" in usage else None,
        )
    )


def with_reasoning(usage: Usage) -> Usage:
    """Return `usage` with its reasoning among the output, which xAI's chat API counts beside the completion.

    Its total, which has both, tells that it did: 10120 prompt + 1499 completion + 2809 reasoning = 14428.
    """
    given, made, reasoning = usage.input_tokens, usage.output_tokens, usage.reasoning_tokens
    if reasoning and given is not None and made is not None and usage.total_tokens == given + made + reasoning:
        usage.output_tokens = made + reasoning
    return usage


_TICKS = 1e10
"""What xAI counts a US dollar as."""


def _cost_of(usage: Mapping[str, Any]) -> float | None:
    """Return what the provider says the call cost, in US dollars: OpenRouter's, Perplexity's or xAI's word for it."""
    cost = usage.get("cost")
    if cost is not None and isinstance(cost, Mapping):
        cost = as_mapping(cost).get("total_cost")
    ticks = None if cost is not None else as_float(usage.get("cost_in_usd_ticks"))
    return as_float(cost) if ticks is None else ticks / _TICKS


def _elsewhere(usage: Mapping[str, Any], name: str) -> int | None:
    """Return the count from the first of its unofficial places that has one."""
    for place in _PLACES[name][1:]:
        holder = usage if len(place) == 1 else as_mapping(usage.get(place[0]))
        count = as_int(holder.get(place[-1]))
        if count is not None:
            return count
    return None


def encode_usage(old: Usage | None, new: Usage | None, wire: object) -> dict[str, Any] | None:
    """Return the `usage` object `wire`, read as `old`, changed so that it reads as `new`."""
    return patch_counts(old, new, wire, _PLACES)


def patch_counts(
    old: Usage | None, new: Usage | None, wire: object, places: Mapping[str, tuple[tuple[str, ...], ...]]
) -> dict[str, Any] | None:
    """Return the usage object `wire` changed where `new` differs from `old`; `places`: what stands where."""
    if new is None:
        return None
    out = dict(as_mapping(wire))
    before = old or Usage()
    for name, alternatives in places.items():
        value = getattr(new, name)
        if value == getattr(before, name):
            continue
        for place in alternatives:
            _set_in(out, place, None)
        _set_in(out, alternatives[0], value)
    return out


def _set_in(out: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    if len(place) == 1:
        put(out, place[0], value)
        return
    inner = dict(as_mapping(out.get(place[0])))
    put(inner, place[1], value)
    if inner or place[0] in out:
        out[place[0]] = inner


def decode_error(wire: Mapping[str, Any]) -> ErrorInfo | None:
    """Read the error of an error body or of an `error` event; None where `wire` is neither.

    `{"error": {…}}` of OpenAI, `{"error": "…"}`, and the flat `{"object": "error", "message": …}` count.
    """
    error = wire.get("error")
    if not error:
        return _decode_flat_error(wire)
    if not isinstance(error, Mapping):
        return ErrorInfo("error", error if isinstance(error, str) else str(error))
    fields: Mapping[str, Any] = error
    code = fields.get("code")
    status = as_int(fields.get("status_code")) or as_int(fields.get("status"))
    return ErrorInfo(
        as_str(fields.get("type")) or as_str(fields.get("status")) or as_str(code) or "error",
        as_str(fields.get("message")) or "",
        None if code is None else str(code),
        status if status is not None or not isinstance(code, int) else as_int(code),
    )


def _decode_flat_error(wire: Mapping[str, Any]) -> ErrorInfo | None:
    if wire.get("object") != "error" and wire.get("type") != "error":
        return None
    code = wire.get("code")
    kind = as_str(wire.get("type"))
    return ErrorInfo(
        (kind if kind != "error" else as_str(code)) or "error",
        as_str(wire.get("message")) or "",
        None if code is None else str(code),
        as_int(code),
    )


def decode_choice_error(choices: Iterable[Any]) -> ErrorInfo | None:
    """Read the error of the first choice that failed: OpenRouter's has one, and Mistral's finish reason says so."""
    for choice in map(as_mapping, choices):
        if choice.get("error") or choice.get("finish_reason") == "error":
            return decode_error(choice) or ErrorInfo("error", "the provider ended the answer with an error")
    return None


def finished(wire: Mapping[str, Any]) -> bool:
    """Whether each choice of an answer has its finish reason, and none failed."""
    reasons = [as_mapping(choice).get("finish_reason") for choice in as_list(wire.get("choices"))]
    return bool(reasons) and all(reason and reason != "error" for reason in reasons)


def error_event(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the error that an event of a stream is where it is one as a whole: older vLLM's, which no SDK raises."""
    return event if event.get("object") == "error" and not event.get("error") else None


def encode_error(error: ErrorInfo, wire: object) -> dict[str, Any]:
    """Return the `error` object `wire` with the fields of `error`."""
    out = dict(as_mapping(wire))
    out["message"] = error.message
    out["type"] = error.type
    out["code"] = error.code
    put(out, "status_code", error.status_code)
    return out


def split_data_url(url: str) -> tuple[str | None, str] | None:
    """Return MIME type and base64 data of a `data:` URL; None for any other URL."""
    if not url.startswith("data:"):
        return None
    head, _, data = url[5:].partition(",")
    return head.partition(";")[0] or None, data


def image_from_url(url: str) -> Media:
    """Return the image at `url`, which may be a `data:` URL."""
    split = split_data_url(url)
    return Media("image", None, url) if split is None else Media("image", split[0], None, split[1])


def media_url(media: Media) -> str | None:
    """Return the URL of `media`, a `data:` URL where it holds its data; None where it has neither."""
    if media.data is None:
        return media.uri
    return f"data:{media.mime_type or 'application/octet-stream'};base64,{media.data}"


CHOICES_PARAMETERS = ("service_tier", "system_fingerprint")
"""What an answer of choices says of how it was made."""


def blank_choices(prefix: str, kind: str) -> dict[str, Any]:
    """Return an answer of no choices yet, with an id that begins with `prefix`."""
    return {"id": f"{prefix}-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": "", "choices": []}


def patch_outcome(out: dict[str, Any], old: ModelResponse, new: ModelResponse, parameters: Iterable[str]) -> None:
    """Write into `out` what `new` says of usage, error and `parameters` where `old`, read from it, says otherwise."""
    if new.usage != old.usage:
        put(out, "usage", encode_usage(old.usage, new.usage, out.get("usage", WHOLE_USAGE)))
    if new.error != old.error:
        put(out, "error", new.error and encode_error(new.error, out.get("error")))
    for key in parameters:
        if new.parameters.get(key) != old.parameters.get(key):
            put(out, key, new.parameters.get(key))
