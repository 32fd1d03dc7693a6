"""Sanitizers at work on one field: what they are shown, what they may answer, what comes of a failure.

Fails closed: where a sanitizer breaks the field is left out, and nothing of what it was is said.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeGuard, cast

import orjson

from spanrelay import _json
from spanrelay._guard import losses, pass_on
from spanrelay.observation.observers import Field, FieldName, Observer, Watchers, closed, sanitizing
from spanrelay.records import JSON, ErrorInfo, Kind, Mark
from spanrelay.semconv import names
from spanrelay.semconv.values import readable

_log = logging.getLogger("spanrelay")
_reported: set[tuple[Observer, str]] = set()
_KEYS_KEPT = 4096


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
        and _is_prompt(value.get("prompt", {}))
    )


def _is_prompt(value: object) -> bool:
    """Whether `value` is what a request was made of: a template, which may not be known, and its variables."""
    if not _is_object(value):
        return False
    template = value.get("template")
    known = value.keys() <= {"template", "variables"}
    return known and (template is None or _is_text(template)) and _is_object(value.get("variables", {}))


def _is_error(value: object) -> bool:
    return _is_object(value) and _is_text(value.get("type")) and _is_text(value.get("message"))


def _is_mark(value: object) -> bool:
    return _is_object(value) and _is_text(value.get("name")) and _is_object(value.get("attributes"))


def _is_pair(value: object) -> bool:
    return _is_object(value) and value.get("value") is not None


_JSON = (_is_anything, "JSON other than None")
_OBJECT = (_is_object, "a dict")
_FITS: dict[FieldName, tuple[Callable[[object], bool], str]] = {
    "request": (
        _is_exchange,
        "a dict of 'messages', 'instructions', 'tools', 'parameters' and 'prompt' in their own shapes",
    ),
    "response": (_is_exchange, "a dict of 'messages' and 'parameters' in their own shapes"),
    "arguments": _JSON,
    "result": _JSON,
    "input": _JSON,
    "output": _JSON,
    "mark": (_is_mark, "a dict of the str 'name' and the dict 'attributes'"),
    "metadata": _OBJECT,
    "error": (_is_error, "a dict of the str 'type' and the str 'message'"),
    "resource": _OBJECT,
    "name": (_is_text, "a str"),
    "identifiers": _OBJECT,
    "body": _JSON,
    "attribute": (_is_pair, "a dict of 'key' and 'value'"),
}
"""What a sanitizer may answer, and that in words."""


class _Misfit(Exception):
    """A sanitizer's answer is no such field. What is said of it holds nothing of its value."""


def _answer(sanitizer: Observer, field: Field, fitting: bytes | None) -> bytes:
    """Return what a sanitizer makes of `field` as JSON: plain JSON that fits, as `fitting` is known to.

    Raises:
        _Misfit: it makes something else of it.
        Exception: what the sanitizer raises.
    """
    answer = sanitizer.function(field)
    try:
        # Plain JSON or nothing: an object that hides what its `repr` tells must not come this way.
        data = orjson.dumps(answer)
    except orjson.JSONEncodeError:
        data = _of_long_numbers(answer)
        if closed(answer):
            raise _Misfit("returned a coroutine, which nothing awaits here: it must be a plain function") from None
    if data is not None and data == fitting:  # most sanitizers leave most fields as they are
        return data
    fits, expected = _FITS[field.name]
    returned = "None" if answer is None else f"a {type(answer).__name__!r}"
    if not fits(answer):
        raise _Misfit(f"returned {returned}, where {expected} is expected (field.value, or a changed one)")
    if data is None:
        raise _Misfit(f"returned {returned} that is not JSON throughout; return plain JSON only")
    return data


def _of_long_numbers(answer: object) -> bytes | None:
    """Return as JSON what orjson refuses for its integers of more than 64 bits; None where it is not JSON."""
    try:
        return json.dumps(answer, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        pass_on(error)
        return None


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

    def steady(self, field: FieldName) -> object | None:
        """Return what stands for the sanitizers of `field` if each message of it can be put by itself, and once."""
        chain = self._watchers.chain(field, self._kind)
        return chain if all(sanitizer.steady for sanitizer in chain) else None

    def put(self, field: FieldName, value: JSON) -> JSON:
        """Return what is recorded for `value`, or `DROPPED`."""
        chain = self._watchers.chain(field, self._kind)
        if not chain or value is None:
            return value
        value = _json.loads(_json.dumps(value))
        fitting: bytes | None = None
        outer, sanitizing.value = sanitizing.value, True
        try:
            for sanitizer in chain:
                try:
                    fitting = _answer(sanitizer, Field(field, value, self._span_name, self._kind), fitting)
                    value = _json.loads(fitting)  # which no sanitizer before has a hold of
                except Exception as error:
                    _report(sanitizer, field, error)
                    return DROPPED
        finally:
            sanitizing.value = outer
        return value

    def identify(self, given: Mapping[str, JSON]) -> dict[str, JSON]:
        """Return what is recorded of names and ids; those that are left out are None."""
        if not self.wants("identifiers"):
            return dict(given)
        said = {key: value for key, value in given.items() if value}
        left = (self.keep("identifiers", said) if said else None) or {}
        return {key: left.get(key) if value else value for key, value in given.items()}

    def rename(self, key: str) -> str | None:
        """Return what is recorded of the key of an attribute whose value is shown elsewhere; None: it is left out."""
        if key in names.KNOWN or not self.wants("identifiers"):
            return key
        known = self._watchers.keys
        if (key, self._kind) not in known:
            if len(known) >= _KEYS_KEPT:
                known.clear()
            left = self.put("identifiers", {key: ""})
            known[key, self._kind] = None if left is DROPPED else next(iter(left), None)
        return known[key, self._kind]

    def keep(self, field: FieldName, value: JSON) -> JSON:
        """As `put`, with None in place of `DROPPED`."""
        value = self.put(field, value)
        return None if value is DROPPED else value


def _report(sanitizer: Observer, field: str, error: Exception) -> None:
    """Count a field that is left out; what the sanitizer says of it may hold the very text it was to hide."""
    pass_on(error)
    losses.add(f"fields left out because the sanitizer {sanitizer.name!r} failed")
    if (sanitizer, field) not in _reported:
        _reported.add((sanitizer, field))
        told = str(error) if isinstance(error, _Misfit) else f"raised {type(error).__name__} {_place_of(error)}"
        _log.warning("sanitizer %r, given %r, %s; the field is left out", sanitizer.name, field, told)


def _place_of(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_code is _answer.__code__:
        return "when it was called with the field as its one argument"
    return f"at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


# --- fields that spans of every kind have ------------------------------------------------------------------


def put_error(error: ErrorInfo | None, sieve: Sieve) -> ErrorInfo | None:
    """Return what is recorded of a failure; that there was one always is."""
    if error is None:
        return error
    if error.code is not None:
        error = replace(error, code=sieve.identify({names.ERROR_CODE: error.code})[names.ERROR_CODE])
    if not sieve.wants("error"):
        return error
    value = sieve.put("error", {"type": error.type, "message": error.message})
    if value is DROPPED:
        return ErrorInfo("error", status_code=error.status_code, stacktrace=error.stacktrace and "")
    stacktrace = error.stacktrace
    if stacktrace:
        stacktrace = _stacktrace(stacktrace, sieve) if value["message"] == error.message else ""
    return replace(error, type=value["type"], message=value["message"], stacktrace=stacktrace)


def _stacktrace(text: str, sieve: Sieve) -> str:
    """Return what is recorded of a stack trace that nobody will see as part of an event before it leaves."""
    value = sieve.keep("mark", {"name": names.EXCEPTION_EVENT, "attributes": {names.EXCEPTION_STACKTRACE: text}})
    return "" if value is None else str(value["attributes"].get(names.EXCEPTION_STACKTRACE) or "")


def put_mark(mark: Mark, sieve: Sieve) -> Mark | None:
    """Return what is recorded of a mark; None where it is left out."""
    attributes = _exception(mark.attributes, sieve) if mark.name == names.EXCEPTION_EVENT else mark.attributes
    value = sieve.put("mark", {"name": mark.name, "attributes": readable(attributes)})
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
