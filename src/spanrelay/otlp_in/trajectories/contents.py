"""What the steps of a document say, as parts and records; the other way is `assembly.steps`.

An image or a sound that lies beside its document is read from there, and nothing outside of the document's folder.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, cast

from spanrelay.assembly.atif import ContentPart, MediaSource, Metrics, ObservationResult, Step, ToolCall
from spanrelay.assembly.steps import MAX_MEDIA
from spanrelay.codecs.narrowing import as_float, as_int, as_mapping, as_str
from spanrelay.records import JSON, ErrorInfo, Media, Part, Reasoning, Text, Tokens, ToolResult, Usage
from spanrelay.records import ToolCall as AskedCall


def parts_of(content: str | list[ContentPart] | None, folder: Path) -> list[Part]:
    """Return the content of a step or of a result as parts; none where it is empty."""
    if isinstance(content, str):
        return [Text(content)] if content else []
    return [_part(part, folder) for part in content or []]


def _part(part: ContentPart, folder: Path) -> Part:
    if part.source is None:
        return Text(part.text or "")
    modality = cast("Literal['image', 'audio']", part.type)
    data = _beside(part.source, folder)
    if data is not None:
        return Media(modality, part.source.media_type, data=data)
    return Media(modality, part.source.media_type, uri=part.source.path)


def _beside(source: MediaSource, folder: Path) -> str | None:
    """Return, as base64, the file that a document refers to within its own folder; None where there is none."""
    try:
        root = folder.resolve()
        path = (root / source.path).resolve()
        if "://" in source.path or not path.is_relative_to(root) or not path.is_file():
            return None
        return base64.b64encode(path.read_bytes()).decode() if path.stat().st_size <= MAX_MEDIA else None
    except (OSError, ValueError):  # no path at all, or none that we may read
        return None


def answer_of(step: Step, folder: Path) -> list[Part]:
    """Return the answer of a model: its thoughts, its words, and the tools that it asks for."""
    thoughts: list[Part] = [Reasoning(step.reasoning_content)] if step.reasoning_content else []
    return [*thoughts, *parts_of(step.message, folder), *(asked_of(call) for call in step.tool_calls or [])]


def asked_of(call: ToolCall) -> AskedCall:
    """Return a call as the model asked for it: what our documents wrap is unwrapped."""
    extra = call.extra or {}
    arguments: JSON = call.arguments
    if extra.get("arguments_wrapped") is True and len(call.arguments) == 1:
        arguments = next(iter(call.arguments.values()))
    elif extra.get("content_captured") is False:
        arguments = None
    return AskedCall(call.tool_call_id, call.function_name, arguments, server=extra.get("server_side") is True)


def results_of(step: Step) -> dict[str, list[ObservationResult]]:
    """Return the results of a step by the ids of its calls.

    One that names no call is that of its place where there are as many as calls, and else of the last call; where
    there is none, its id is empty.
    """
    results, calls = step.observation.results if step.observation else [], step.tool_calls or []
    found: dict[str, list[ObservationResult]] = {}
    for place, result in enumerate(results):
        call = result.source_call_id
        if call is None and calls:
            call = calls[place if len(results) == len(calls) else -1].tool_call_id
        found.setdefault(call or "", []).append(result)
    return found


def content_of(results: Iterable[ObservationResult], folder: Path) -> str | list[Part] | None:
    """Return what a call gave, as a model is shown it: text as it is, parts where there is more than one."""
    given = [result.content for result in results if result.content is not None]
    if len(given) == 1 and isinstance(given[0], str):
        return given[0]
    return [part for content in given for part in parts_of(content, folder)] if given else None


def result_of(results: Iterable[ObservationResult], folder: Path) -> ToolResult:
    """Return what a tool's own span says it gave: parts that are not text stand there as the document has them."""
    results = list(results)
    content: JSON = content_of(results, folder)
    if isinstance(content, list):
        written = [result.to_json().get("content") for result in results]
        content = written[0] if len(written) == 1 else written
    extra = extra_of(results)
    return ToolResult(content, extra.get("is_error") is True, extra.get("annotation"), as_int(extra.get("exit_code")))


def extra_of(results: Iterable[ObservationResult]) -> dict[str, Any]:
    """Return what is said beside results."""
    return {name: value for result in results for name, value in (result.extra or {}).items()}


def error_of(extra: dict[str, Any] | None) -> ErrorInfo | None:
    """Return the failure that an `extra` tells of."""
    told = as_mapping((extra or {}).get("error"))
    if not told:
        return None
    message, code = as_str(told.get("message")) or "", as_str(told.get("code"))
    return ErrorInfo(as_str(told.get("type")) or "error", message, code, as_int(told.get("status_code")))


def usage_of(metrics: Metrics | None) -> Usage | None:
    """Return the tokens and the cost of a model call."""
    if metrics is None:
        return None
    extra = metrics.extra or {}
    more = {field: as_int(extra.get(name)) for name, field in _MORE_TOKENS.items()}
    cached = metrics.cached_tokens if metrics.cached_tokens is not None else as_int(extra.get("cached_tokens_reported"))
    usage = Usage(metrics.prompt_tokens, metrics.completion_tokens, cache_read_tokens=cached, **more)
    usage.cost_usd = metrics.cost_usd
    return usage if usage != Usage() else None


_MORE_TOKENS = {
    "cache_creation_input_tokens": "cache_write_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
}
"""Members of the `extra` of metrics, by the fields of a usage."""


def tokens_of(metrics: Metrics | None) -> Tokens | None:
    """Return the tokens of a model call themselves, which no dialect has a name for."""
    if metrics is None:
        return None
    tokens = Tokens(metrics.prompt_token_ids, metrics.completion_token_ids, metrics.logprobs)
    return tokens if tokens != Tokens() else None


def first_chunk_of(metrics: Metrics | None) -> float | None:
    """Return the seconds until the first of an answer came."""
    waited = as_float(((metrics.extra if metrics else None) or {}).get("time_to_first_token_ms"))
    return waited / 1000 if waited is not None else None
