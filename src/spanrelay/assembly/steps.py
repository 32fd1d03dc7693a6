"""Records to the steps of a document: content, media, tool calls, results, metrics, errors.

No I/O but through the `MediaStore` it is given. Nothing is invented: what a record does not say is left out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import mimetypes
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Protocol

from spanrelay import _json
from spanrelay._masking import mask_text
from spanrelay.assembly import atif
from spanrelay.assembly.transcript import Turn
from spanrelay.records import (
    JSON,
    ErrorInfo,
    Media,
    Opaque,
    Part,
    PromptCache,
    Reasoning,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolDefinition,
    Usage,
)
from spanrelay.semconv.names import FINISH_REASON_NAMES, REFUSED_TOOL_CALL

MAX_TEXT = 1_000_000
"""Characters that one message or result may have; the rest is cut, and its hash is named."""

MAX_MEDIA = 32 * 1024 * 1024
"""Bytes that one media file may have; a larger one is named, not written."""


class MediaStore(Protocol):
    """Keeps media beside a document."""

    def put(self, data: bytes, folder: str, extension: str) -> str:
        """Write `data` and return its path relative to the document."""
        ...


def timestamp(nanoseconds: int) -> str:
    """Return nanoseconds since the epoch as RFC 3339 in UTC, to the microsecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06}Z"


@lru_cache(64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


_HALF_WORD = re.compile(r"(?<![A-Za-z0-9_.:+/=-])[A-Za-z0-9_.:+/=-]{1,100}$")


def cut(text: str) -> str:
    """Return `text`, shortened beyond `MAX_TEXT` characters to a head that says what is missing.

    No word is cut, unless it is longer than any key: half a key would not be known for one.
    """
    if len(text) <= MAX_TEXT:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    half = _HALF_WORD.search(text, MAX_TEXT - 101, MAX_TEXT)
    head = text[: half.start() if half else MAX_TEXT]
    return f"{head}…[truncated {len(text) - len(head)} characters, sha256={digest}]"


# ── content


def content_of(parts: Sequence[Part], media: MediaStore | None, glue: str = "\n\n") -> str | list[atif.ContentPart]:
    """Return parts as the content of a step: text, or a list of parts where images or sounds are among them."""
    if len(parts) == 1 and type(parts[0]) is Text:  # as most are
        return cut(parts[0].text)
    if not any(isinstance(part, Media) for part in parts):
        return joined([cut(text) for part in parts if (text := _text_of(part))], glue)
    found: list[atif.ContentPart] = []
    for part in parts:
        if isinstance(part, Media):
            found.append(_media_part(part, media))
        elif text := _text_of(part):
            found.append(atif.ContentPart("text", cut(text)))
    if any(part.type != "text" for part in found):
        return found
    return joined([part.text or "" for part in found], glue)


def joined(texts: list[str], glue: str = "") -> str:
    """Return texts as one. A credential that one begins with would not be known behind the last letter of another."""
    return glue.join(texts if glue or len(texts) < 2 else map(mask_text, texts))


def _text_of(part: Part) -> str:
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Opaque):
        return _opaque_text(part)
    return ""


def _opaque_text(part: Opaque) -> str:
    if isinstance(part.data, dict):
        for name in (part.type, "text"):
            if isinstance(part.data.get(name), str):
                return part.data[name]
    return f"[{part.type}]"


def _media_part(part: Media, store: MediaStore | None) -> atif.ContentPart:
    kind, mime, uri = part.modality, part.mime_type or "", part.uri or ""
    data = part.data
    if uri.startswith("data:"):
        mime, data, uri = _split_data_url(uri, mime)
    mime = atif.AUDIO_ALIASES.get(mime, mime) or (mimetypes.guess_type(uri)[0] or "")
    known = mime in (atif.IMAGE_TYPES if kind == "image" else atif.AUDIO_TYPES if kind == "audio" else ())
    if not data:
        return _remote(part, mime, uri, known)
    path = _stored(data, mime, {"image": "images", "audio": "audio"}.get(kind) if known else None, store)
    if path is None:
        return _placeholder(part, mime, f"{len(data) * 3 // 4} bytes, not kept")
    return _sourced(kind, mime, path) if known else _placeholder(part, mime, path)


def _remote(part: Media, mime: str, uri: str, known: bool) -> atif.ContentPart:
    if "://" in uri and (known or (part.modality == "image" and not mime)):
        return _sourced(part.modality, mime or "image/png", uri)
    return _placeholder(part, mime, uri or part.file_id or "no content")


def _sourced(kind: str, mime: str, path: str) -> atif.ContentPart:
    return atif.ContentPart(kind, source=atif.MediaSource(mime, path))


def _placeholder(part: Media, mime: str, what: str) -> atif.ContentPart:
    named = " ".join(word for word in (part.modality, part.name, mime) if word)
    return atif.ContentPart("text", f"[{named}: {what}]")


def _split_data_url(url: str, mime: str) -> tuple[str, str, str]:
    """Return the media type, the base64 data, and no URI."""
    head, _, data = url[5:].partition(",")
    named = head.split(";")[0] or mime
    return (named, data, "") if head.endswith(";base64") else (named, "", "")


def _stored(data: str, mime: str, folder: str | None, store: MediaStore | None) -> str | None:
    if store is None or len(data) * 3 // 4 > MAX_MEDIA:
        return None
    try:
        raw = base64.b64decode(data, validate=False)
    except (binascii.Error, ValueError):
        return None
    return store.put(raw, folder or "assets", mimetypes.guess_extension(mime) or ".bin")


def result_content(content: object, media: MediaStore | None) -> str | list[atif.ContentPart] | None:
    """Return a tool's answer as content: text as it is, parts as parts, other JSON as its text."""
    if content is None or isinstance(content, str):
        return cut(content) if content else content
    if isinstance(content, list) and content and all(isinstance(p, (Text, Media, Opaque)) for p in content):
        return content_of(content, media, glue="")
    return cut(_json.dumps_text(content))


# ── what an agent is asked

AGENT_SPAN = "agent_span"
"""The `message_source` of a question that no model call repeats: its agent's span alone has it."""

NEXT_REQUEST = "next_request"
"""The `message_source` of what was said and left out, and is known from the request that repeats it."""

_QUESTIONS = ("input", "question", "query", "prompt", "task", "message", "text")
"""What programs call the one text that they give an agent."""


def asked_of(record: SpanRecord) -> list[Part]:
    """Return the parts of what an agent's span says it was asked; none where that is no question of a user's."""
    messages = record.request.messages if record.request is not None else []
    if messages:
        return messages[-1].parts if messages[-1].role == "user" else []
    given = record.input
    if isinstance(given, dict) and len(given) == 1:
        ((name, value),) = given.items()
        given = value if name in _QUESTIONS and isinstance(value, str) else _last_message(value)
    return [Text(given)] if isinstance(given, str) and given.strip() else []


def _last_message(messages: JSON) -> JSON:
    """Return the text of the last of `messages` if a user said it, in the forms of the APIs and of LangChain."""
    last: JSON = messages[-1] if isinstance(messages, list) and messages else None
    if isinstance(last, list) and len(last) == 2:
        role, content = last
    elif isinstance(last, dict):
        fields = last["kwargs"] if isinstance(last.get("kwargs"), dict) else last
        role, content = fields.get("role") or fields.get("type"), fields.get("content")
    else:
        return None
    return content if role in ("user", "human") else None


# ── calls


def arguments_of(value: JSON) -> tuple[dict[str, JSON], dict[str, JSON]]:
    """Return a call's arguments as the object ATIF wants, and what its `extra` says of them: wrapped, or unknown."""
    arguments, wrapped = _as_object(value)
    if value is None:
        return arguments, {"content_captured": False}
    return arguments, {"arguments_wrapped": True} if wrapped else {}


def _as_object(value: JSON) -> tuple[dict[str, JSON], bool]:
    if isinstance(value, str) and value:
        parsed = _json.loads_or_text(value)
        if isinstance(parsed, dict):
            return parsed, False
        return ({"raw": cut(value)}, True) if parsed is value else ({"value": parsed}, True)
    if value is None or value == "":
        return {}, False
    return (value, False) if isinstance(value, dict) else ({"value": value}, True)


def definition_of(tool: ToolDefinition) -> dict[str, JSON]:
    """Return a tool's definition as an OpenAI function-tool object, or its wire JSON where it is no function."""
    if tool.type != "function" and isinstance(tool.raw, dict) and isinstance(tool.raw.get("type"), str):
        return tool.raw
    function: dict[str, JSON] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    return {"type": "function", "function": function}


# ── metrics and errors


def metrics_of(record: SpanRecord) -> atif.Metrics | None:
    """Return the metrics of a model call, None where nothing is known: its usage, and its tokens if it tells them."""
    response = record.response
    metrics = _usage_metrics(response.usage if response else None, record.time_to_first_chunk)
    tokens = response.tokens if response is not None and record.content else None
    if tokens is not None:
        metrics = metrics or atif.Metrics()
        metrics.prompt_token_ids, metrics.completion_token_ids = tokens.prompt_ids, tokens.completion_ids
        metrics.logprobs = tokens.logprobs
    if record.prompt_cache is not None:
        metrics = metrics or atif.Metrics()
        metrics.extra = {**(metrics.extra or {}), "prompt_cache": _told(record.prompt_cache)}
    return metrics


def _told(cache: PromptCache) -> dict[str, JSON]:
    return {key: list(value) if key == "marks" else value for key, value in asdict(cache).items() if value}


def _usage_metrics(usage: Usage | None, first_chunk: float | None) -> atif.Metrics | None:
    """Return usage as ATIF counts it: cached tokens are reads only, never more than the prompt's.

    What ATIF has no field for is left out where it is 0: few models think or speak.
    """
    extra: dict[str, JSON] = {}
    if first_chunk is not None:
        extra["time_to_first_token_ms"] = round(first_chunk * 1000, 3)
    if usage is None:
        return atif.Metrics(extra=extra) if extra else None
    if usage.cache_write_tokens:
        extra["cache_creation_input_tokens"] = usage.cache_write_tokens
    if usage.reasoning_tokens:
        extra["reasoning_tokens"] = usage.reasoning_tokens
    if usage.input_audio_tokens:
        extra["input_audio_tokens"] = usage.input_audio_tokens
    if usage.output_audio_tokens:
        extra["output_audio_tokens"] = usage.output_audio_tokens
    given, made, cached = usage.input_tokens, usage.output_tokens, usage.cache_read_tokens
    if (given or 0) < 0 or (made or 0) < 0 or (cached or 0) < 0:
        given, made, cached = map(_natural, (given, made, cached))
    if cached and cached > (given or 0):
        extra["cached_tokens_reported"], cached = cached, None
    cost = usage.cost_usd
    if cost is not None and not (math.isfinite(cost) and cost >= 0):
        cost = None
    if given is made is cached is cost is None and not extra:
        return None
    return atif.Metrics(given, made, cached, cost, extra=extra or None)


def _natural(value: int | None) -> int | None:
    return value if value is not None and value >= 0 else None


def error_of(error: ErrorInfo) -> dict[str, JSON]:
    """Return a failure as the `error` object of an `extra`."""
    found: dict[str, JSON] = {"type": error.type, "message": cut(error.message)}
    if error.code is not None:
        found["code"] = error.code
    if error.status_code is not None:
        found["status_code"] = error.status_code
    return found


def origin_of(record: SpanRecord, trace_id: int) -> dict[str, JSON]:
    """Return which span a step, a call or a result comes from: the `otel` object of its `extra`.

    The trace is named where it is not `trace_id`, the document's.
    """
    found = reference_of(record, trace_id)
    if record.parent_id is not None:
        found["parent_span_id"] = f"{record.parent_id:016x}"
    if record.parent_trace_id is not None:
        found["parent_trace_id"] = f"{record.parent_trace_id:032x}"
    if record.scope_name:
        found["scope"] = record.scope_name
    if record.dialect:
        found["dialect"] = record.dialect
    return found


def reference_of(record: SpanRecord, trace_id: int) -> dict[str, JSON]:
    """Return which span told of a step that is not its own: a short `otel` object."""
    if record.trace_id == trace_id:
        return {"span_id": f"{record.span_id:016x}"}
    return {"trace_id": f"{record.trace_id:032x}", "span_id": f"{record.span_id:016x}"}


def duration_of(record: SpanRecord) -> dict[str, JSON]:
    """Return how long a span took, in seconds, as a member of an `extra`; empty while it is open."""
    return {} if record.end is None else {"duration_sec": round((record.end - record.start) / 1e9, 6)}


_SAID_ELSEWHERE = ("reasoning_effort", "previous_response_id", "conversation_id", "encoding_formats")
"""Parameters that a step has a field for, or that only say where a request goes on."""


def parameters_of(record: SpanRecord) -> dict[str, JSON]:
    """Return the parameters that a model call was made with."""
    given = record.request.parameters if record.request is not None else None
    if not given:
        return {}
    return {name: value for name, value in given.items() if name not in _SAID_ELSEWHERE}


def about(record: SpanRecord) -> dict[str, JSON]:
    """Return whom and what a span says it is for: user and metadata, as members of an `extra`."""
    user: dict[str, JSON] = {"user": str(record.user_id)} if record.user_id else {}
    return {**user, "metadata": dict(record.metadata)} if record.metadata else user


def place_of(record: SpanRecord) -> dict[str, JSON]:
    """Return what ran, and where, as members of an `extra`: `service` and `environment`."""
    named = {"name": record.service_name, "version": record.service_version}
    service = {key: str(value) for key, value in named.items() if value}
    if str(service.get("name", "")).startswith("unknown_service"):
        del service["name"]
    found: dict[str, JSON] = {"service": service} if service else {}
    return {**found, "environment": record.environment} if record.environment else found


# ── the answer of a model


def answer_of(record: SpanRecord) -> Turn | None:
    """Return the model's answer, its first choice, as a turn; None where there is none."""
    response = record.response
    if response is None or not response.messages:
        return None
    message = response.messages[0]
    return Turn("assistant", message.parts, message.name)


def agent_step(record: SpanRecord, answer: Turn | None, media: MediaStore | None, trace_id: int) -> atif.Step:
    """Return the step of one model call, without its tool calls.

    Where a middleware answered no model was called: the step then counts none and has no metrics.
    """
    parts = answer.parts if answer else []
    step = atif.Step(0, "agent", content_of(parts, media, glue=""), llm_call_count=1)
    response, request = record.response, record.request
    step.model_name = (response and response.model) or (request and request.model) or None
    thoughts = [part.text for part in parts if isinstance(part, Reasoning) and part.text]
    if thoughts:
        step.reasoning_content = cut("\n\n".join(thoughts))
    effort = request.parameters.get("reasoning_effort") if request else None
    if isinstance(effort, (str, float, int)) and not isinstance(effort, bool):
        step.reasoning_effort = effort
    step.metrics = metrics_of(record)
    step.extra = _step_extra(record, media, trace_id)
    if record.answered_by is not None:
        step.llm_call_count, step.metrics = 0, None
        if step.reasoning_content is not None:  # the schema lets it stand beside a call only
            step.extra["reasoning_content"], step.reasoning_content = step.reasoning_content, None
    return step


_ASKS_FOR_TOOLS = {word for word, name in FINISH_REASON_NAMES.items() if name == "tool_call"}
_ORDINARY = {"stop", "end_turn", "completed", "COMPLETE", "STOP", "tool_call", *_ASKS_FOR_TOOLS}


def _step_extra(record: SpanRecord, media: MediaStore | None, trace_id: int) -> dict[str, JSON]:
    extra: dict[str, JSON] = {**duration_of(record), "otel": origin_of(record, trace_id)}
    response = record.response
    error = record.error or (response.error if response else None)
    if error is not None:
        extra["error"] = error_of(error)
    if record.incomplete:
        extra["incomplete"] = record.incomplete
    if record.answered_by is not None:
        extra["answered_by"] = str(record.answered_by)
    if record.would_refuse or record.would_change:
        extra |= trial_of(record)
    if not (record.content and _tells_answer(record)):
        extra["content_captured"] = False
    if record.truncated:
        extra["truncated"] = True
    if record.missing:
        extra["missing_messages"] = record.missing
    if response is not None:
        unusual = [reason for reason in response.finish_reasons if reason not in _ORDINARY]
        if unusual:
            extra["finish_reason"] = unusual[0] if len(unusual) == 1 else unusual
        if len(response.messages) > 1:
            extra["alternatives"] = [_alternative(m.parts, media) for m in response.messages[1:]]
    return extra


def _tells_answer(record: SpanRecord) -> bool:
    """Whether a call's answer was recorded, as far as there was one: none is not an empty one."""
    response = record.response
    failed = record.error is not None or (response is not None and response.error is not None)
    return bool(failed or record.incomplete or (response is not None and response.messages))


def trial_of(record: SpanRecord) -> dict[str, JSON]:
    """Return what policy on trial would have done to a call."""
    told = {"would_refuse": record.would_refuse, "would_change": record.would_change}
    return {key: list(verdicts) for key, verdicts in told.items() if verdicts}


def _alternative(parts: list[Part], media: MediaStore | None) -> dict[str, JSON]:
    turn = Turn("assistant", parts)
    content = content_of(parts, media, glue="")
    found: dict[str, Any] = {"message": content if isinstance(content, str) else [part.to_json() for part in content]}
    if turn.calls:
        found["tool_calls"] = [{"function_name": c.name, "arguments": c.arguments} for c in turn.calls]
    return found


def refusal_of(record: SpanRecord, call: ToolCall) -> str | None:
    """Return why policy refuses a call that an answer asks for, as the events of its span say."""
    for mark in record.marks:
        said = mark.attributes
        if mark.name == REFUSED_TOOL_CALL and (said.get("call_id") or None, said.get("tool_name")) == (
            call.id,
            call.name,
        ):
            return str(said.get("reason"))
    return None


def tool_error(record: SpanRecord) -> dict[str, JSON]:
    """Return what marks a tool's result as failed; empty where the tool succeeded."""
    if record.error is not None:
        return {"is_error": True, "error": error_of(record.error)}
    return {"is_error": True} if record.result is not None and record.result.is_error else {}


def annotation_of(record: SpanRecord) -> dict[str, JSON]:
    """Return what is said about a tool's result, for the `extra` of its observation."""
    result = record.result
    said = {} if result is None else {"annotation": result.annotation, "exit_code": result.exit_code}
    return {name: value for name, value in said.items() if value is not None}


def executed_content(record: SpanRecord, media: MediaStore | None) -> str | list[atif.ContentPart] | None:
    """Return what a tool's own span says it gave: its result, else the text of its failure."""
    if record.result is not None and record.result.content is not None:
        return result_content(record.result.content, media)
    return record.error.message or record.error.type if record.error is not None else None


def answer_extra(part: ToolCallResponse) -> dict[str, JSON]:
    """Return what marks a result that a request carries."""
    return {"is_error": True} if part.is_error else {}
