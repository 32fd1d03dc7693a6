"""Shapes that the APIs of Cohere share: sampling, usage that is counted and billed apart, errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spanrelay.codecs.narrowing import as_int, as_mapping, as_str
from spanrelay.codecs.openai_shapes import patch_counts, read_format, write_format
from spanrelay.codecs.parameters import Table, Writer
from spanrelay.codecs.patching import put
from spanrelay.errors import CodecError
from spanrelay.records import ErrorInfo, Message, ModelResponse, Usage

SAMPLING: Table = {
    "temperature": ("temperature", None),
    "p": ("top_p", None),
    "k": ("top_k", None),
    "max_tokens": ("max_tokens", None),
    "frequency_penalty": ("frequency_penalty", None),
    "presence_penalty": ("presence_penalty", None),
    "seed": ("seed", None),
    "stop_sequences": ("stop_sequences", None),
    "response_format": ("output_type", read_format),
    "safety_mode": ("safety_mode", None),
}
"""The parameters of both versions."""
WRITERS: dict[str, Writer] = {"response_format": write_format}

_PLACES = {
    "input_tokens": (("tokens", "input_tokens"),),
    "output_tokens": (("tokens", "output_tokens"),),
    "cache_read_tokens": (("cached_tokens",),),
}


def read_usage(wire: object) -> Usage | None:
    """Read what was counted, or where only that is told what was billed, which is less; None where there is neither."""
    told = as_mapping(wire)
    counted = as_mapping(told.get("tokens")) or as_mapping(told.get("billed_units"))
    given, made, cached = (
        as_int(value)
        for value in (counted.get("input_tokens"), counted.get("output_tokens"), told.get("cached_tokens"))
    )
    return None if given is None and made is None and cached is None else Usage(given, made, None, cached)


def write_usage(old: Usage | None, new: Usage | None, wire: object) -> dict[str, Any] | None:
    """Return the usage object `wire`, read as `old`, changed so that it reads as `new`."""
    return patch_counts(old, new, wire, _PLACES)


def read_error(wire: Mapping[str, Any]) -> ErrorInfo | None:
    """Read an error body: a message that is a text, which no answer has."""
    message = wire.get("message")
    if isinstance(message, str) and not any(key in wire for key in ("text", "finish_reason", "results", "embeddings")):
        return ErrorInfo("error", message)
    failure = as_str(wire.get("error"))
    return ErrorInfo("error", failure) if failure else None


_REASONS = {
    "stop": "COMPLETE",
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "tool_call": "TOOL_CALL",
    "content_filter": "ERROR",
    "error": "ERROR",
}
"""What other APIs say for the words of this one."""


def patch_answer(
    out: dict[str, Any],
    old: ModelResponse,
    new: ModelResponse,
    patch: Callable[[Message, Message], None],
    *,
    id_key: str,
    usage_key: str,
) -> None:
    """Write into `out`, read as `old`, what `new` says otherwise; `patch` writes the one message into it.

    Raises:
        CodecError: there are several messages, or one holds something that an answer has no form for.
    """
    if new.id is not None and new.id != old.id:
        out[id_key] = new.id
    reason = None
    if new.messages != old.messages:
        if len(new.messages) > 1:
            raise CodecError(f"an answer of Cohere's is one message, not {len(new.messages)}; keep one")
        was, now = (each.messages[0] if each.messages else Message("assistant") for each in (old, new))
        patch(Message("assistant", was.parts), Message("assistant", now.parts))
        reason = now.finish_reason
    if new.finish_reasons != old.finish_reasons and new.finish_reasons:
        reason = new.finish_reasons[0]
    if reason is not None:
        out["finish_reason"] = _REASONS.get(reason, reason)
    if new.usage != old.usage:
        put(out, usage_key, write_usage(old.usage, new.usage, out.get(usage_key)))
    if new.error != old.error:
        set_error(out, new.error)


def set_error(out: dict[str, Any], error: ErrorInfo | None) -> None:
    """Write the error of an answer, beside what there is of it."""
    put(out, "error", error and error.message)
