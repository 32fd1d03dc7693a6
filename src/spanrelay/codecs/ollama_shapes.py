"""Shapes that the APIs of Ollama share: options, counts, errors, and how an answer says that it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanrelay.codecs.narrowing import as_int, as_mapping, as_str
from spanrelay.codecs.openai_shapes import patch_counts
from spanrelay.codecs.parameters import Table, Writer, read_parameters, write_parameters
from spanrelay.codecs.patching import put
from spanrelay.records import JSON, ErrorInfo, ModelRequest, ModelResponse, Usage


def _read_stop(stop: JSON) -> JSON:
    return stop if isinstance(stop, list) else [stop]


def _read_format(value: JSON) -> JSON:
    return "json" if value else None


_OPTIONS: Table = {
    "temperature": ("temperature", None),
    "top_p": ("top_p", None),
    "top_k": ("top_k", None),
    "num_predict": ("max_tokens", None),
    "frequency_penalty": ("frequency_penalty", None),
    "presence_penalty": ("presence_penalty", None),
    "seed": ("seed", None),
    "stop": ("stop_sequences", _read_stop),
}
"""What stands in `options`."""
_PARAMETERS: Table = {
    "format": ("output_type", _read_format),
    "think": ("reasoning_effort", None),
    "logprobs": ("logprobs", None),
    "top_logprobs": ("top_logprobs", None),
    "dimensions": ("dimensions", None),
}
_BESIDE = frozenset(row[0] for row in _PARAMETERS.values())
_WRITERS: dict[str, Writer] = {"format": lambda value, _old: "json" if value else None}
_COUNTS = {"input_tokens": (("prompt_eval_count",),), "output_tokens": (("eval_count",),)}


def read_options(wire: Mapping[str, Any]) -> dict[str, JSON]:
    """Read the parameters of a request."""
    options = wire.get("options")
    told = read_parameters(as_mapping(options), _OPTIONS) if options else {}
    return {**told, **read_parameters(wire, _PARAMETERS)}


def patch_fields(old: ModelRequest, new: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire`, read as `old`, with model, stream flag and parameters of `new`.

    Raises:
        CodecError: the API has no such parameter.
    """
    out = dict(wire)
    if new.model != old.model:
        put(out, "model", new.model)
    if new.stream != old.stream:
        out["stream"] = new.stream
    if new.parameters != old.parameters:
        write_parameters(out, *_of(old, new, outer=True), _PARAMETERS, writers=_WRITERS, inner_keys={})
        options = dict(as_mapping(wire.get("options")))
        write_parameters(options, *_of(old, new, outer=False), _OPTIONS, writers={}, inner_keys={})
        if options or "options" in wire:
            out["options"] = options
    return out


def _of(old: ModelRequest, new: ModelRequest, *, outer: bool) -> tuple[dict[str, JSON], dict[str, JSON]]:
    """Return the parameters of both that stand beside `options`, or in it."""
    was, now = (
        {name: value for name, value in each.parameters.items() if (name in _BESIDE) is outer} for each in (old, new)
    )
    return was, now


def read_usage(wire: Mapping[str, Any]) -> Usage | None:
    """Read the counts of an answer; None where it has none. Nothing says how much of the prompt was cached."""
    given, made = as_int(wire.get("prompt_eval_count")), as_int(wire.get("eval_count"))
    return None if given is None and made is None else Usage(given, made)


def read_error(wire: Mapping[str, Any]) -> ErrorInfo | None:
    """Read the error of a body or of an event: a text."""
    error = wire.get("error")
    return ErrorInfo("error", error if isinstance(error, str) else str(error)) if error else None


def read_reasons(wire: Mapping[str, Any]) -> list[str]:
    """Read why an answer ended."""
    reason = as_str(wire.get("done_reason"))
    return [] if reason is None else [reason]


def patch_outcome(out: dict[str, Any], old: ModelResponse, new: ModelResponse) -> None:
    """Write into `out` what `new` says of model, reason, counts and error where `old`, read from it, says otherwise."""
    if new.model is not None and new.model != old.model:
        out["model"] = new.model
    if new.finish_reasons != old.finish_reasons:
        put(out, "done_reason", next(iter(new.finish_reasons), None))
    if new.usage != old.usage:
        counts = {"prompt_eval_count": None, "eval_count": None} if new.usage is None else {}
        for key, value in {**counts, **(patch_counts(old.usage, new.usage, out, _COUNTS) or {})}.items():
            put(out, key, value)
    if new.error != old.error:
        put(out, "error", new.error and new.error.message)


def is_whole(wire: Mapping[str, Any]) -> bool:
    """Whether an answer, as far as its events have come, is at its end."""
    return wire.get("done") is True


def blank(**fields: Any) -> dict[str, Any]:
    """Return an answer of nothing yet."""
    return {"model": "", "created_at": "1970-01-01T00:00:00Z", **fields, "done": True, "done_reason": "stop"}
