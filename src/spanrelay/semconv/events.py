"""Events that carry the conversation of a model call: log records, told in the names of a span's attributes.

Those of version 1.36 of OpenTelemetry's GenAI conventions and before are one a message; those after it are one a call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from spanrelay.semconv import names
from spanrelay.semconv.values import as_list, as_object, decode

_CHOICE = "gen_ai.choice"
_ROLES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
"""The events of a request: one a message."""

TELLING = frozenset({*_ROLES, _CHOICE, names.OPERATION_DETAILS})
"""The names of the events that carry conversation."""


class Event(NamedTuple):
    """What an event says."""

    name: str
    body: Any
    attributes: Mapping[str, Any]


def name_of(name: object, attributes: Mapping[str, Any]) -> str | None:
    """Return the name of an event: before the format had a field for it, it was an attribute."""
    found = name or attributes.get("event.name")
    return found if isinstance(found, str) else None


def attributes_of(events: Iterable[Event]) -> dict[str, Any]:
    """Return what the events of one span say in the names of a span's attributes."""
    found: dict[str, Any] = {}
    sent: list[dict[str, Any]] = []
    choices: list[dict[str, Any]] = []
    for event in events:
        body = _object(event.body)
        if event.name == names.OPERATION_DETAILS:
            details = {**body, **event.attributes}
            found.update({key: value for key, value in details.items() if key.startswith("gen_ai.")})
        elif event.name == _CHOICE:
            choices.append(body)
        elif event.name in _ROLES:
            sent.append(_message(body, _ROLES[event.name]))
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
