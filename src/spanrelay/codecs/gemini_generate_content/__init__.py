"""Gemini's API for generated content (`models/…:generateContent`), of the Developer API and of Vertex AI.

The path of a request names its model and says whether the answer is streamed: what is called wire here has both as
`model` and `stream` beside what is in the body. One wire content is one message, and each of its parts one part.

A message's finish reason is in the words that other APIs share, a response's in Gemini's: it says `STOP` for an answer
that asks for functions, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from spanrelay.codecs.bodies import patch_request
from spanrelay.codecs.gemini_generate_content.messages import (
    patch_content,
    patch_parts,
    read_content,
    write_content,
    write_parts,
)
from spanrelay.codecs.gemini_generate_content.stream import ContentAccumulator, stream_events, stream_texts
from spanrelay.codecs.gemini_generate_content.tools import patch_definitions, read_definitions, sift_tools
from spanrelay.codecs.gemini_shapes import (
    both,
    decode_usage,
    encode_usage,
    field,
    models_beside,
    put_field,
    spelled,
    spellings,
)
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.openai_shapes import decode_error
from spanrelay.codecs.parameters import Table, Writer, read_parameters, without_doubles, write_parameters
from spanrelay.codecs.patching import patch_sequence, put, same_role
from spanrelay.codecs.tokens import read_chosen_tokens
from spanrelay.conversation import Turns
from spanrelay.records import JSON, ErrorInfo, Message, ModelRequest, ModelResponse, Part, Text

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
    "doubt_about",
    "encode_request",
    "encode_response",
    "is_whole",
    "models_beside",
    "operation",
    "required",
    "sift_tools",
    "single_parameters",
    "stream_events",
    "stream_texts",
    "turns",
]

operation = "generate_content"
answers_with = "candidates"
required = (("model",), ("contents",))
fails_by_status = False
turns = Turns("contents", read_content, marks="parts")

# --- reading requests --------------------------------------------------------------------------------------


def _read_level(value: JSON) -> JSON:
    level = field(as_mapping(value), "thinkingLevel")
    return level.lower() if isinstance(level, str) else None


_FORMATS = {"application/json": "json", "text/plain": "text"}

_GENERATION: Table = both(
    {
        "temperature": ("temperature", None),
        "topP": ("top_p", None),
        "topK": ("top_k", None),
        "maxOutputTokens": ("max_tokens", None),
        "stopSequences": ("stop_sequences", None),
        "candidateCount": ("choice_count", None),
        "seed": ("seed", None),
        "presencePenalty": ("presence_penalty", None),
        "frequencyPenalty": ("frequency_penalty", None),
        "responseMimeType": ("output_type", lambda kind: _FORMATS.get(kind, kind) if isinstance(kind, str) else None),
        "thinkingConfig": ("reasoning_effort", _read_level),
        "responseLogprobs": ("logprobs", None),
        "logprobs": ("top_logprobs", None),
        "responseModalities": ("modalities", None),
    }
)
"""Of `generationConfig`."""

_BESIDE: Table = both(
    {
        "toolConfig": ("tool_choice", lambda config: _read_choice(field(as_mapping(config), "functionCallingConfig"))),
        "serviceTier": ("service_tier", None),
        "cachedContent": ("cached_content", None),
    }
)
"""Of the request itself."""

_MODES = {"AUTO": "auto", "ANY": "required", "NONE": "none"}


def _read_choice(calling: Any) -> JSON:
    fields = as_mapping(calling)
    mode = fields.get("mode")
    if len(fields) == 1 and isinstance(mode, str):
        return _MODES.get(mode, mode.lower())
    return fields or None


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request for content; see `Codec.decode_request`."""
    get = wire.get
    return ModelRequest(
        as_str(get("model")),
        turns.messages(get("contents")),
        _read_instructions(field(wire, "systemInstruction")),
        read_definitions(get("tools")),
        {
            **read_parameters(_generation(wire), _GENERATION),
            **read_parameters(wire, _BESIDE),
        },
        get("stream") is True,
    )


def _generation(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a request says of the generation, in both spellings, of which that in camel case counts."""
    held = [as_mapping(wire[key]) for key in spellings(wire, "generationConfig")]
    return {**held[1], **held[0]} if len(held) > 1 else held[0] if held else {}


def _read_instructions(instruction: Any) -> list[Part]:
    if isinstance(instruction, str):
        return [Text(instruction)]
    return read_content(instruction).parts if isinstance(instruction, Mapping) else []


# --- writing requests --------------------------------------------------------------------------------------


def _write_choice(value: JSON, old: Any) -> JSON:
    modes = {name: mode for mode, name in _MODES.items()}
    calling = {"mode": modes.get(value, value.upper())} if isinstance(value, str) else value
    out = dict(as_mapping(old))
    put_field(out, "functionCallingConfig", calling)
    return out or None


def _write_level(value: JSON, old: Any) -> JSON:
    out = dict(as_mapping(old))
    put_field(out, "thinkingLevel", value.upper() if isinstance(value, str) else value)
    return out or None


_WRITERS: dict[str, Writer] = both(
    {
        "responseMimeType": lambda value, _old: {"json": "application/json", "text": "text/plain"}.get(value, value),
        "thinkingConfig": _write_level,
        "toolConfig": _write_choice,
    }
)


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: the record holds something that a request for content has no form for.
    """
    old = decode_request(wire)
    out = patch_request(old, ModelRequest(request.model, parameters=old.parameters, stream=request.stream), wire, {})
    if request.parameters != old.parameters:
        _patch_parameters(out, old.parameters, request.parameters)
    if request.messages != old.messages:
        out["contents"] = patch_sequence(
            old.messages,
            request.messages,
            as_list(wire.get("contents")),
            patch=patch_content,
            build=write_content,
            alike=same_role,
        )
    if request.system != old.system:
        put_field(out, "systemInstruction", _patch_instructions(old.system, request.system, out))
    if request.tools != old.tools:
        put(out, "tools", patch_definitions(old.tools, request.tools, wire.get("tools")))
    return out


def _patch_parameters(out: dict[str, Any], old: Mapping[str, JSON], new: Mapping[str, JSON]) -> None:
    beside = {row[0] for row in _BESIDE.values()}
    generation = dict(_generation(out))
    for holder, table, mine in ((out, _BESIDE, True), (generation, _GENERATION, False)):
        was, now = ({name: value for name, value in all_.items() if (name in beside) is mine} for all_ in (old, new))
        write_parameters(holder, was, now, table, writers=_WRITERS, inner_keys={})
    _put_generation(out, generation)


def _put_generation(out: dict[str, Any], generation: Mapping[str, Any]) -> None:
    """Put what is said of the generation under one key, that in use."""
    key = spelled(out, "generationConfig")
    for each in both({"generationConfig": None}):
        put(out, each, generation or None if each == key else None)


def single_parameters(wire: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    """Return `wire` with each of `names` said once, in one spelling; see `Codec`."""
    names = list(names)
    single = without_doubles(wire, names, _BESIDE, inner_keys={})
    generation = _generation(wire)
    once = without_doubles(generation, names, _GENERATION, inner_keys={})
    if once is generation and len(spellings(wire, "generationConfig")) < 2:
        return single
    out = dict(single)
    _put_generation(out, once)
    return out


def _patch_instructions(old: list[Part], new: list[Part], wire: Mapping[str, Any]) -> Any:
    if not new:
        return None
    known = field(wire, "systemInstruction")
    if not isinstance(known, Mapping):
        return {"parts": write_parts(new)}
    return {**known, "parts": patch_parts(old, new, known.get("parts"))}


# --- reading answers ---------------------------------------------------------------------------------------

_REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "MALFORMED_FUNCTION_CALL": "error",
    "MALFORMED_RESPONSE": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "MODEL_ARMOR",
            "JAILBREAK",
        ),
        "content_filter",
    ),
}
"""Gemini's words, of why an answer ends and why a prompt is blocked, to those that other APIs share."""


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read the body of an answer; see `Codec.decode_response`. A prompt that is blocked has no candidate."""
    candidates = as_list(wire.get("candidates"))
    messages = [_read_candidate(candidate) for candidate in candidates]
    reasons = (as_str(field(as_mapping(candidate), "finishReason")) for candidate in candidates)
    blocked = as_str(field(as_mapping(field(wire, "promptFeedback")), "blockReason"))
    if blocked and not candidates:
        messages = [Message("assistant", [], None, _REASONS.get(blocked, blocked))]
    return ModelResponse(
        as_str(field(wire, "responseId")),
        as_str(field(wire, "modelVersion")),
        messages,
        [reason for reason in reasons if reason is not None],
        decode_usage(field(wire, "usageMetadata")),
        decode_error(wire),
        {"block_reason": blocked} if blocked else {},
        read_chosen_tokens(_chosen(candidates[0])) if candidates else None,
    )


def _chosen(candidate: Any) -> list[Any]:
    return as_list(field(as_mapping(field(as_mapping(candidate), "logprobsResult")), "chosenCandidates"))


def _read_candidate(candidate: Any) -> Message:
    candidate = as_mapping(candidate)
    message = read_content(as_mapping(candidate.get("content")))
    message.role = "assistant"
    message.finish_reason = _normal_reason(as_str(field(candidate, "finishReason")), message)
    return message


def _normal_reason(reason: str | None, message: Message) -> str | None:
    """Return a finish reason in the words that others share; Gemini's own where they have none."""
    if reason == "STOP" and any(not call.server for call in message.tool_calls):
        return "tool_calls"
    return None if reason is None else _REASONS.get(reason, reason)


def is_whole(wire: Mapping[str, Any]) -> bool:
    """Whether an answer has come to its end; see `Codec.is_whole`."""
    candidates = as_list(wire.get("candidates"))
    if not candidates:
        return bool(field(as_mapping(field(wire, "promptFeedback")), "blockReason"))
    return all(field(as_mapping(candidate), "finishReason") for candidate in candidates)


def doubt_about(candidate: Mapping[str, Any]) -> str | None:
    """Return what a candidate lacks, or None."""
    content = candidate.get("content")
    if content is not None and not isinstance(content, Mapping):
        return "has a 'content' that is not an object"
    parts = as_mapping(content).get("parts")
    if parts is not None and not (
        isinstance(parts, list) and all(isinstance(part, Mapping) for part in as_list(parts))
    ):
        return "has 'parts' that are not a list of objects"
    return None


# --- writing answers ---------------------------------------------------------------------------------------

_WIRE_REASONS = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "tool_call": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "error": "OTHER",
}


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs, or a whole body; see `Codec.encode_response`.

    Raises:
        CodecError: the record holds something that an answer has no form for.
    """
    if wire is None:
        if response.error is not None and not response.messages:
            return {"error": _write_error(response.error, {})}
        wire = {"responseId": uuid4().hex}
    old = decode_response(wire)
    out = dict(wire)
    for name, now, was in (("responseId", response.id, old.id), ("modelVersion", response.model, old.model)):
        if now is not None and now != was:
            put_field(out, name, now)
    if response.messages != old.messages:
        out["candidates"] = _patch_candidates(old.messages, response.messages, as_list(wire.get("candidates")))
    if response.finish_reasons != old.finish_reasons:
        out["candidates"] = _set_reasons(as_list(out.get("candidates")), response.finish_reasons)
    if response.usage != old.usage:
        put_field(out, "usageMetadata", encode_usage(old.usage, response.usage, field(wire, "usageMetadata")))
    if response.error != old.error:
        put(out, "error", response.error and _write_error(response.error, wire.get("error")))
    return out


def _write_error(error: ErrorInfo, wire: Any) -> dict[str, Any]:
    """Return the `error` object of Google's APIs."""
    out = dict(as_mapping(wire))
    code = error.status_code if error.status_code is not None else error.code
    out["code"] = int(code) if isinstance(code, str) and code.isdecimal() else code if isinstance(code, int) else 500
    out["message"] = error.message
    out["status"] = error.type
    return out


def _patch_candidates(old: list[Message], new: list[Message], candidates: list[Any]) -> list[Any]:
    known = old if candidates else []  # of a prompt that was blocked there is no candidate to change
    patched = patch_sequence(
        known, new, candidates, patch=_patch_candidate, build=_write_candidate, alike=lambda _old, _new: True
    )
    if len(new) == len(known):
        return patched
    return [{**as_mapping(candidate), "index": index} for index, candidate in enumerate(patched)]


def _patch_candidate(old: Message, new: Message, candidate: Any) -> list[Any]:
    out = dict(as_mapping(candidate))
    if new.finish_reason != old.finish_reason:
        put_field(out, "finishReason", _wire_reason(new.finish_reason))
    if new.parts != old.parts:
        content = as_mapping(out.get("content"))
        out["content"] = {"role": "model", **content, "parts": patch_parts(old.parts, new.parts, content.get("parts"))}
    return [out]


def _write_candidate(message: Message) -> list[Any]:
    content = {"role": "model", "parts": write_parts(message.parts)}
    return [{"content": content, "finishReason": _wire_reason(message.finish_reason or "stop"), "index": 0}]


def _wire_reason(reason: str | None) -> str | None:
    return None if reason is None else _WIRE_REASONS.get(reason, reason)


def _set_reasons(candidates: list[Any], reasons: list[str]) -> list[Any]:
    """Return `candidates` with the finish reasons of the record where there is one for each."""
    if len(candidates) != len(reasons):
        return candidates
    return [
        {**as_mapping(candidate), spelled(as_mapping(candidate), "finishReason"): _wire_reason(reason)}
        for candidate, reason in zip(candidates, reasons, strict=True)
    ]


def accumulator() -> ContentAccumulator:
    """Return a fresh accumulator for one stream."""
    return ContentAccumulator()
