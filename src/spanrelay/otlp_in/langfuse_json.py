"""Observations as Langfuse gives them: its API, downloads of its UI and its export to blob storage have the same rows.

They differ in how keys are written (`traceId`, `trace_id`) and in what is JSON and what the text of it. Of a span that
came over OTLP, Langfuse moves what it was given and gave out of the attributes, and keeps the others in the metadata,
each as text. The session stands in every observation, or in the row of its trace alone, which is a span here then.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from spanrelay import semconv
from spanrelay.otlp_in.sdk_json import nanoseconds
from spanrelay.otlp_in.telemetry import Origin, Span, Unreadable
from spanrelay.otlp_in.texts import untexted
from spanrelay.records import JSON, Kind
from spanrelay.semconv import frameworks, names, vocabularies
from spanrelay.semconv.values import as_list, as_object, decode, first, text

MARKS = (b'"parentObservationId"', b'"parent_observation_id"', b'"htmlPath"', b'"bookmarked"')

_TYPE = vocabularies.LANGFUSE.mark
_GIVEN, _GAVE = vocabularies.LANGFUSE.given[0], vocabularies.LANGFUSE.gave[0]
_SESSION, _USER, _COST = "langfuse.session.id", "langfuse.user.id", "langfuse.observation.cost_details"
_MODEL: Mapping[str, tuple[str, ...]] = {
    "langfuse.observation.model.name": ("model", "providedModelName", "provided_model_name"),
    "langfuse.observation.model.parameters": ("modelParameters", "model_parameters"),
    "langfuse.observation.usage_details": ("usageDetails", "usage_details", "usage"),
    "langfuse.observation.prompt.name": ("promptName", "prompt_name"),
    "langfuse.observation.prompt.version": ("promptVersion", "prompt_version"),
}
"""What is told of a model call, by the names in spans of Langfuse's SDKs; of others' spans their attributes tell it."""
_ABOUT = ("attributes", "resourceAttributes", "scope")
"""Of the metadata, what Langfuse keeps of a span itself; the rest is the program's."""
_WORDS = {kind: word for word, kind in vocabularies.LANGFUSE.kinds.items() if word != "span"}
_HEX = re.compile("[0-9a-fA-F]+")

Row = dict[str, JSON]


def is_export(value: JSON) -> bool:
    """Whether a JSON value is an observation, a trace, a page of them, or a trace with its observations."""
    return isinstance(value, dict) and any(map(_is_row, _rows(cast("Row", value))))


def is_score(value: JSON) -> bool:
    """Whether a JSON value is a score, which Langfuse exports beside them."""
    return isinstance(value, dict) and {"id", "timestamp", "source", "value"} <= value.keys()


def read(value: dict[str, JSON], fault: Callable[[str], None]) -> Iterator[Span]:
    """Yield the spans of what `is_export`; `fault` is told of each that cannot be read, and the rest is read."""
    for row in _rows(value):
        about = _about(row) if _is_trace(row) else {}
        # What is listed by its id alone is in a row of its own.
        inner = [item for item in as_list(row.get("observations")) if isinstance(item, dict)]
        for observation in inner if _is_trace(row) else (row,):
            try:
                yield _span(cast("Row", observation), about)
            except Unreadable as error:
                fault(f"observation {str(as_object(observation).get('id'))[:40]!r} of Langfuse: {error}")
        if about and not inner:
            try:
                yield _span_of_trace(row, about)
            except Unreadable as error:
                fault(f"trace {str(row.get('id'))[:40]!r} of Langfuse: {error}")


def _rows(value: Row) -> list[Row]:
    """Return the rows of a page, of a download of a trace with all that belongs to it, or the one that this is."""
    if isinstance(value.get("data"), list):
        found = as_list(value["data"])
    elif not _is_trace(value) and isinstance(value.get("observations"), list):
        found = [value.get("trace"), *as_list(value["observations"])]
    else:
        found = [value]
    return [cast("Row", row) for row in found if isinstance(row, dict)]


def _is_row(row: Row) -> bool:
    return _is_trace(row) or (
        {"id", "type"} <= row.keys()
        and ({"traceId", "startTime"} <= row.keys() or {"trace_id", "start_time"} <= row.keys())
    )


def _is_trace(row: Row) -> bool:
    return {"id", "timestamp", "tags"} <= row.keys()


def _about(row: Row) -> dict[str, Any]:
    """Return whose a trace or an observation is, as attributes."""
    said = {_SESSION: text(_either(row, "sessionId", "session_id")), _USER: text(_either(row, "userId", "user_id"))}
    return {key: value for key, value in said.items() if value is not None}


def _span(row: Row, about: dict[str, Any]) -> Span:
    start = nanoseconds(_either(row, "startTime", "start_time"))
    if not start:
        raise Unreadable("it has no 'startTime'")
    parent = text(_either(row, "parentObservationId", "parent_observation_id"))
    metadata = _object(row.get("metadata"))
    scope = _object(metadata.get("scope"))
    name = str(row.get("name") or "")
    return Span(
        *(_identity(_either(row, "traceId", "trace_id"), 16, "traceId"), _identity(row.get("id"), 8, "id")),
        *(_identity(parent, 8, "parentObservationId") if parent is not None else None, False),
        *(name, start, max(nanoseconds(_either(row, "endTime", "end_time")), start)),
        attributes={**about, **_about(row), **_attributes(row, metadata)},
        events=[],
        error=text(_either(row, "statusMessage", "status_message")) or "" if row.get("level") == "ERROR" else None,
        origin=Origin(_object(metadata.get("resourceAttributes")), text(scope.get("name")), text(scope.get("version"))),
    )


def _span_of_trace(row: Row, about: dict[str, Any]) -> Span:
    """Return a span that tells whose a trace is, beside the spans of its observations."""
    start = nanoseconds(row.get("timestamp"))
    resource = _object(_object(row.get("metadata")).get("resourceAttributes"))
    trace = _identity(row.get("id"), 16, "id")
    return Span(
        *(trace, _hashed(f"{trace:032x}", 8), None, False, str(row.get("name") or ""), start, start),
        *(about, [], None, Origin(resource)),
    )


def _attributes(row: Row, metadata: dict[str, Any]) -> dict[str, Any]:
    told = {key: untexted(key, value) for key, value in _object(metadata.get("attributes")).items()}
    given, gave = row.get("input"), row.get("output")
    found: dict[str, Any] = {_COST: _either(row, "costDetails", "cost_details")}
    if not told:
        found |= {key: first(row, keys) for key, keys in _MODEL.items()}
        found |= {f"langfuse.observation.metadata.{key}": metadata[key] for key in metadata if key not in _ABOUT}
    if _begins_with_system(given):
        told.pop(names.SYSTEM_INSTRUCTIONS, None)  # newer versions put them before the messages
    found |= _content(told, given, gave, str(row.get("type")).lower())
    return {**told, **{key: value for key, value in found.items() if value not in (None, "")}}


def _content(told: dict[str, Any], given: JSON, gave: JSON, word: str) -> dict[str, Any]:
    """Return what a span was given and gave, where the dialect of its other attributes has it."""
    kind = semconv.kind_of(told)
    if names.AI_OPERATION in told:
        return _content_of_vercel(kind, given, gave)
    if told and given is None and gave is None:
        return {}
    vocabulary = frameworks.vocabulary_of(told)
    if vocabulary is None and kind == "llm" and isinstance(decode(given), str):
        vocabulary = vocabularies.WHOLE
    if vocabulary is not None:
        return dict.fromkeys(vocabulary.given[:1], given) | dict.fromkeys(vocabulary.gave[:1], gave)
    return {_TYPE: word if kind is None else _WORDS.get(kind, word), _GIVEN: given, _GAVE: gave}


def _content_of_vercel(kind: Kind | None, given: JSON, gave: JSON) -> dict[str, Any]:
    if kind == "tool":
        return {names.AI_TOOL_ARGUMENTS[0]: given, names.AI_TOOL_RESULT[0]: gave}
    answer = decode(gave)
    said = as_object(answer)
    calls = said.get("tool_calls") if "tool_calls" in said else answer if isinstance(answer, list) else None
    return {
        names.AI_MESSAGES if kind == "llm" else names.AI_PROMPT: given,
        names.AI_TEXT[0]: gave if calls is None else said.get("content"),
        names.AI_CALLS[0]: calls,
    }


def _begins_with_system(given: JSON) -> bool:
    return as_object(next(iter(as_list(decode(given))), None)).get("role") == "system"


def _either(row: Row, name: str, other: str) -> JSON:
    found = row.get(name)
    return row.get(other) if found is None else found


def _object(value: JSON) -> dict[str, Any]:
    return dict(as_object(decode(value)))


def _identity(value: JSON, size: int, name: str) -> int:
    """Return an id: OpenTelemetry's, or one made of whatever text the older SDKs have there."""
    if not isinstance(value, str) or not value:
        raise Unreadable(f"{name!r} is {str(value)[:40]!r}: expected an id")
    return int(value, 16) if len(value) == 2 * size and _HEX.fullmatch(value) else _hashed(value, size)


def _hashed(value: str, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=size).digest(), "big")
