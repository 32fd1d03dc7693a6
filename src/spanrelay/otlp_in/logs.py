"""Log records that carry conversation become attributes of the spans they belong to, as if they had stood there.

What a span says itself stays. A record belongs to the span whose ids it has; what has none, or whose span is not here,
tells nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import gcd
from typing import Any

from spanrelay._json import dumps_sorted
from spanrelay.otlp_in.repairs import spring_ai
from spanrelay.otlp_in.telemetry import LogRecord, Span
from spanrelay.semconv import names
from spanrelay.semconv.values import as_list, as_object, decode

_CHOICE = "gen_ai.choice"
_ROLES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
"""The events of a request up to version 1.36 of the conventions: one a message."""


def join(spans: list[Span], logs: list[LogRecord]) -> None:
    """Give spans what the log records of theirs say; those of one moment stay in the order in which they are given."""
    told: dict[tuple[int, int], list[LogRecord]] = {}
    for record in logs:
        if record.trace_id and record.span_id and tells(record):
            told.setdefault((record.trace_id, record.span_id), []).append(record)
    for span in spans if told else ():
        for name, value in _attributes_of(_once(told.get((span.trace_id, span.span_id), []))).items():
            span.attributes.setdefault(name, value)


def tells(record: LogRecord) -> bool:
    """Whether a record carries conversation."""
    name = name_of(record)
    return name in _ROLES or name in (_CHOICE, names.OPERATION_DETAILS) or spring_ai.tells(record)


def name_of(record: LogRecord) -> str | None:
    """Return the name of a record's event: before the format had a field for it, it was an attribute."""
    name = record.name or record.attributes.get("event.name")
    return name if isinstance(name, str) else None


def _once(records: list[LogRecord]) -> list[LogRecord]:
    """Return records that came several times, all of them, once; one message may be there twice by itself."""
    keys = [dumps_sorted((record.time, name_of(record), record.body, record.attributes)) for record in records]
    times = gcd(*Counter(keys).values())
    if times < 2:
        return records
    left = {key: count // times for key, count in Counter(keys).items()}
    kept: list[LogRecord] = []
    for key, record in zip(keys, records, strict=True):
        if left[key]:
            left[key] -= 1
            kept.append(record)
    return kept


def _attributes_of(records: list[LogRecord]) -> dict[str, Any]:
    """Return what the records of one span say in the names of a span's attributes."""
    found: dict[str, Any] = {}
    sent: list[dict[str, Any]] = []
    choices: list[dict[str, Any]] = []
    for record in records:
        name, body = name_of(record), _object(record.body)
        if name == names.OPERATION_DETAILS:
            details = {**body, **record.attributes}
            found.update({key: value for key, value in details.items() if key.startswith("gen_ai.")})
        elif name == _CHOICE:
            choices.append(body)
        elif name in _ROLES:
            sent.append(_message(body, _ROLES[name]))
        else:
            found.update(spring_ai.attributes_of(record))
    if sent:
        found.setdefault(names.INPUT_MESSAGES, sent)
    if choices:
        found.setdefault(names.OUTPUT_MESSAGES, [_answer(choice) for choice in sorted(choices, key=_index)])
    return found


def _object(value: object) -> dict[str, Any]:
    return as_object(decode(value))


def _message(body: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Return a message of a request in the form of the Chat Completions API; what is empty was left out."""
    message: dict[str, Any] = {"role": role, **body}
    if not as_list(message.get("tool_calls")):
        message.pop("tool_calls", None)
    if role == "tool":
        message["tool_call_id"] = str(message.pop("id", None) or message.get("tool_call_id") or "")
    return message


def _answer(choice: dict[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in choice.items() if key in ("content", "tool_calls")}
    message = _message({**said, **_object(choice.get("message"))}, "assistant")
    return {**message, "finish_reason": choice.get("finish_reason")}


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0
