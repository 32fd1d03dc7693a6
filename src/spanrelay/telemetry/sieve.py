"""Sanitizers at work on one field: what they are shown, what they may answer, what comes of a failure.

Fails closed: where a sanitizer breaks the field is left out, and nothing of what it was is said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeGuard, cast

import orjson

from spanrelay import _json
from spanrelay._guard import losses
from spanrelay.records import JSON, ErrorInfo, Kind, Mark
from spanrelay.semconv import names
from spanrelay.semconv.values import structure
from spanrelay.telemetry.observers import Field, FieldName, Observer, Watchers

_log = logging.getLogger("spanrelay")
_reported: set[tuple[Observer, str]] = set()


class Dropped:
    """In the place of a field that is left out."""


DROPPED = Dropped()


def _is_object(value: object) -> TypeGuard[dict[str, JSON]]:
    return isinstance(value, dict)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)


def _is_anything(value: object) -> bool:
    return value is not None


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in cast("list[object]", value))


def _is_message(value: JSON) -> bool:
    return _is_object(value) and value.get("role") in names.ROLES and _is_list_of_objects(value.get("parts"))


def _is_exchange(value: object) -> bool:
    """Whether `value` is what the field `request` or `response` holds."""
    if not _is_object(value):
        return False
    messages = value.get("messages", [])
    return (
        isinstance(messages, list)
        and all(_is_message(message) for message in messages)
        and _is_list_of_objects(value.get("instructions", []))
        and _is_list_of_objects(value.get("tools", []))
        and _is_object(value.get("parameters", {}))
    )


def _is_error(value: object) -> bool:
    return _is_object(value) and _is_text(value.get("type")) and _is_text(value.get("message"))


def _is_mark(value: object) -> bool:
    return _is_object(value) and _is_text(value.get("name")) and _is_object(value.get("attributes"))


def _is_pair(value: object) -> bool:
    return _is_object(value) and value.get("value") is not None


_FITS: dict[FieldName, Callable[[object], bool]] = {
    "request": _is_exchange,
    "response": _is_exchange,
    "arguments": _is_anything,
    "result": _is_anything,
    "input": _is_anything,
    "output": _is_anything,
    "mark": _is_mark,
    "metadata": _is_object,
    "error": _is_error,
    "resource": _is_object,
    "name": _is_text,
    "attribute": _is_pair,
}


class Sieve:
    """Puts the fields of one span through the sanitizers that see it."""

    __slots__ = ("_kind", "_span_name", "_watchers")

    def __init__(self, watchers: Watchers, span_name: str, kind: Kind | None) -> None:
        self._watchers = watchers
        self._span_name = span_name
        self._kind: Kind | None = kind

    def wants(self, field: FieldName) -> bool:
        """Whether any sanitizer is to see `field`."""
        return bool(self._watchers.chain(field, self._kind))

    def put(self, field: FieldName, value: JSON) -> JSON:
        """Return what is recorded for `value`, or `DROPPED`."""
        chain = self._watchers.chain(field, self._kind)
        if not chain or value is None:
            return value
        value = _json.loads(_json.dumps(value))
        for sanitizer in chain:
            try:
                value = sanitizer.function(Field(field, value, self._span_name, self._kind))
                if not _FITS[field](value):
                    raise TypeError(f"{type(value).__name__} is not such a field")
                # Plain JSON or nothing: an object that hides what its `repr` tells must not come this way.
                value = orjson.loads(orjson.dumps(value))
            except Exception as error:
                _report(sanitizer, field, error)
                return DROPPED
        return value

    def keep(self, field: FieldName, value: JSON) -> JSON:
        """As `put`, with None in place of `DROPPED`."""
        value = self.put(field, value)
        return None if value is DROPPED else value


def _report(sanitizer: Observer, field: str, error: Exception) -> None:
    """Count a field that is left out; what the sanitizer says of it may hold the very text it was to hide."""
    losses.add(f"fields left out because the sanitizer {sanitizer.name!r} failed")
    if (sanitizer, field) not in _reported:
        _reported.add((sanitizer, field))
        _log.warning(
            "sanitizer %r failed on %r with %s at %s; the field is left out",
            sanitizer.name,
            field,
            type(error).__name__,
            _place_of(error),
        )


def _place_of(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


# --- fields that spans of every kind have ------------------------------------------------------------------


def put_error(error: ErrorInfo | None, sieve: Sieve) -> ErrorInfo | None:
    """Return what is recorded of a failure; that there was one always is."""
    if error is None or not sieve.wants("error"):
        return error
    value = sieve.put("error", {"type": error.type, "message": error.message})
    if value is DROPPED:
        return ErrorInfo("error", status_code=error.status_code)
    return replace(error, type=value["type"], message=value["message"])


def put_mark(mark: Mark, sieve: Sieve) -> Mark | None:
    """Return what is recorded of a mark; None where it is left out."""
    attributes = _exception(mark.attributes, sieve) if mark.name == names.EXCEPTION_EVENT else mark.attributes
    value = sieve.put("mark", {"name": mark.name, "attributes": structure(attributes)})
    return None if value is DROPPED else Mark(value["name"], mark.time, value["attributes"])


def _exception(attributes: dict[str, JSON], sieve: Sieve) -> dict[str, JSON]:
    """Return the attributes of an exception's event, whose text is that of an error."""
    if not sieve.wants("error"):
        return attributes
    kind, message = attributes.get(names.EXCEPTION_TYPE), attributes.get(names.EXCEPTION_MESSAGE)
    value = sieve.put("error", {"type": str(kind or "error"), "message": str(message or "")})
    if value is not DROPPED and value["message"] == message:
        return attributes
    # The stack trace ends with the message.
    rest = {key: value for key, value in attributes.items() if not key.startswith("exception.")}
    if value is not DROPPED:
        rest.update({names.EXCEPTION_TYPE: value["type"], names.EXCEPTION_MESSAGE: value["message"]})
    return rest


def put_name(sieve: Sieve, name: str, kind: Kind | None, operation: str | None = None) -> str:
    """Return what is recorded of a span's name; where it is left out, what the span does."""
    value = sieve.put("name", name)
    return (operation or kind or "span") if value is DROPPED else value
