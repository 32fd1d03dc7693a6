"""Attribute values, whoever wrote them, as what a record holds: text, counts, JSON, without envelopes.

Nothing here raises: a value that is not what its name promises is None, or stays what it was.
"""

from __future__ import annotations

import ast
import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from spanrelay._guard import pass_on
from spanrelay._json import MAX_DEPTH, TOO_DEEP, clean_text, dumps_text, loads, loads_or_text
from spanrelay.records import JSON
from spanrelay.semconv.names import JSON_MIME, TEXT_MIME, AttributeValue

_MAX_LITERAL = 100_000  # ast.literal_eval takes memory many times the size of its input
_INT64 = 1 << 63
_SCALARS = frozenset((int, float, bool))
_TOLD = frozenset((str, bytes, float, bool, type(None)))
_MAX_CARRIED = 20
"""Levels of nesting. A message of protobuf may be nested 100 levels, of which each of JSON takes up to three."""
_OPENING = frozenset(("{", "["))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- writing -----------------------------------------------------------------------------------------------


def attribute_value(value: JSON) -> AttributeValue:
    """Return a scalar or a list of texts as it is if OTLP can carry it, and other JSON as a JSON string."""
    kind = type(value)
    if kind is str:
        return clean_text(value)
    if kind is float or kind is bool or (kind is int and -_INT64 <= value < _INT64):
        return value
    if kind is list and all(type(item) is str for item in value):
        return [clean_text(item) for item in value]
    return dumps_text(value)


def write_json(value: JSON) -> str:
    """Return `value` as JSON, but a text that is no JSON as it is; `loads_or_text` is the way back."""
    if type(value) is str and loads_or_text(value) is value:
        return clean_text(value)
    return dumps_text(value)


def write_value(attributes: dict[str, AttributeValue], key: str, mime_key: str, value: JSON) -> None:
    """Write `value` under `key` as text or as JSON, and which of the two under `mime_key`."""
    if type(value) is str:
        attributes[key] = clean_text(value)
        attributes[mime_key] = TEXT_MIME
    else:
        attributes[key] = dumps_text(value)
        attributes[mime_key] = JSON_MIME


def clean_attributes(attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Return attributes that OTLP can carry: names and texts without lone surrogates."""
    return {
        key if key.isascii() else clean_text(key): value
        if type(value) in _SCALARS or (type(value) is str and value.isascii())
        else _clean(value)
        for key, value in attributes.items()
    }


def _clean(value: AttributeValue) -> AttributeValue:
    if isinstance(value, str):
        return clean_text(value)
    return [_clean(item) for item in value] if isinstance(value, (list, tuple)) else value  # pyright: ignore[reportReturnType] - of the same kind as before


def told_text(value: object) -> str:
    """Return the text that a program gives, as it was written; of anything else its JSON."""
    if type(value) is str:
        return value
    return str.__str__(cast("str", value)) if issubclass(type(value), str) else dumps_text(value)


def told_attributes(attributes: object) -> dict[str, JSON]:
    """Return the attributes that a program gives as plain values under texts; what cannot be read is told as a text.

    Not even a cycle, a depth that nobody can walk, or an object that raises when it is looked at makes it raise.
    """
    try:
        given = list(cast("Mapping[object, object]", attributes).items())
    except Exception as error:
        pass_on(error)
        return {"value": _told_value(attributes)}
    return {told_text(key): _told_value(value) for key, value in given}


def _told_value(value: object) -> JSON:
    kind = type(value)
    if kind in _TOLD:
        return value
    if (kind is list or kind is tuple) and _TOLD.issuperset(map(type, cast("list[object]", value))):
        return value
    return told_text(value) if issubclass(kind, str) else _carried(loads(dumps_text(value)), 0)


def _carried(value: JSON, depth: int) -> JSON:
    """Return plain JSON as OTLP can carry it: what is nested deeper, and an integer of more than 64 bits, as text."""
    if type(value) is int and not -_INT64 <= value < _INT64:
        return dumps_text(value)
    if not isinstance(value, (dict, list)):
        return value
    if depth == _MAX_CARRIED:
        return dumps_text(value)
    if isinstance(value, dict):
        return {key: _carried(item, depth + 1) for key, item in cast("dict[str, JSON]", value).items()}
    return [_carried(item, depth + 1) for item in cast("list[JSON]", value)]


# --- reading scalars ---------------------------------------------------------------------------------------


def text(value: object) -> str | None:
    """Return `value` if it is a text that says something."""
    return value if isinstance(value, str) and value else None


def count(value: object) -> int | None:
    """Return a count of tokens, also where it was written as a float or as digits."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isdecimal() and len(value) < 19:
        return int(value)
    return None


def number(value: object) -> float | None:
    """Return a number that is not a boolean."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def as_object(value: JSON) -> dict[str, JSON]:
    """Return `value` if it is an object, else an empty one."""
    return cast("dict[str, JSON]", value) if isinstance(value, dict) else {}


def as_list(value: JSON) -> list[JSON]:
    """Return `value` if it is a list, else an empty one."""
    return cast("list[JSON]", value) if isinstance(value, list) else []


def at(value: JSON, place: str) -> JSON:
    """Return what is in nested objects at `a.b`, or None; a number is a place in a list."""
    for key in place.split("."):
        items = cast("list[JSON]", value) if isinstance(value, list) else []
        value = as_object(value).get(key) if not key.isdecimal() else items[int(key)] if int(key) < len(items) else None
    return value


def question_of(value: JSON) -> str | None:
    """Return what a retriever was asked: its input, or the text that is named as the question in it."""
    return text(value) or text(first(as_object(value), ("query", "input", "question")))


def first(attributes: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the value of the first of `names` that is there."""
    for name in names:
        value = attributes.get(name)
        if value is not None:
            return value
    return None


# --- reading JSON ------------------------------------------------------------------------------------------


def structure(value: object, write_bytes: Callable[[bytes], str] = _base64, depth: int = 0) -> JSON:
    """Return a structured attribute value (mappings, sequences, bytes) as dicts, lists and base64 text."""
    if depth > MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, object]", value).items()
        return {str(key): structure(item, write_bytes, depth + 1) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [structure(item, write_bytes, depth + 1) for item in cast("Sequence[object]", value)]
    return write_bytes(value) if isinstance(value, bytes) else value


def readable(value: object) -> JSON:
    """Return a structured attribute value as `structure` does, but bytes that are a text as that text."""
    return structure(value, _text_or_base64)


def _text_or_base64(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _base64(data)


def decode(value: object) -> JSON:
    """Return the JSON in `value` if it is the text of a JSON object or array, else `value` itself."""
    if not isinstance(value, str):
        return structure(value)
    if value[:1] not in _OPENING and value.lstrip()[:1] not in _OPENING:
        return value
    try:
        return loads(value)
    except (ValueError, RecursionError) as error:
        pass_on(error)
        return value


def unquoted(value: object) -> JSON:
    """Return `decode(value)`, and the text in one that is JSON in quotes: so some write what a tool gave."""
    return loads_or_text(value) if isinstance(value, str) and value[:1] == '"' else decode(value)


def decode_loosely(value: object) -> JSON:
    """Return `decode(value)`, and the dict in a text that is the `repr` of a Python dict."""
    decoded = decode(value)
    if isinstance(decoded, str) and decoded[:1] == "{" and len(decoded) <= _MAX_LITERAL:
        return _literal(decoded)
    return decoded


def _literal(value: str) -> JSON:
    """Return the Python literal in `value` as JSON, or `value` where it is none."""
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        pass_on(error)
        return value
    return loads(dumps_text(found)) if isinstance(found, dict) else value


def looks_cut(value: object, decoded: JSON) -> bool:
    """Whether a text that starts as a JSON container could not be decoded, as after a length limit."""
    return isinstance(value, str) and isinstance(decoded, str) and value.lstrip()[:1] in _OPENING


def indexed(attributes: Mapping[str, Any], prefix: str) -> dict[int, dict[str, Any]]:
    """Return the attributes `prefix.N.rest` as `{N: {rest: value}}`, in the order of N."""
    dotted = f"{prefix}."
    start = len(dotted)
    groups: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if key.startswith(dotted):
            index, _, rest = key[start:].partition(".")
            if index.isdecimal() and len(index) < 10:
                groups.setdefault(int(index), {})[rest] = value
    return dict(sorted(groups.items()))


def read_value(attributes: Mapping[str, Any], key: str, mime_key: str) -> JSON:
    """Return what `write_value` wrote; without a MIME type, JSON containers and Python dicts are decoded."""
    value = attributes.get(key)
    mime = attributes.get(mime_key)
    if mime == TEXT_MIME:
        return value
    if mime == JSON_MIME and isinstance(value, str):
        return loads_or_text(value)
    return decode_loosely(value)


# --- envelopes: what frameworks wrap around a tool's arguments and result -----------------------------------


def unwrap_arguments(value: JSON) -> tuple[JSON, str | None]:
    """Return a tool's arguments and the call's id, out of LangChain's wrappings if there are any.

    They are a `ToolCall` (`{"name", "args", "id", "type": "tool_call"}`) and the callback's arguments as
    Traceloop writes them (`{"input_str", "inputs", "kwargs": {"tool_call_id"}}`).
    """
    if not isinstance(value, dict):
        return value, None
    wrapped = cast("dict[str, JSON]", value)
    if "input_str" in wrapped:
        inputs = wrapped.get("inputs")
        given = decode_loosely(wrapped["input_str"]) if inputs is None else inputs
        return given, text(_get(wrapped.get("kwargs"), "tool_call_id"))
    if wrapped.get("type") == "tool_call" and "args" in wrapped:
        return wrapped["args"], text(wrapped.get("id"))
    return value, None


def unwrap_result(value: JSON) -> tuple[JSON, str | None, bool]:
    """Return a tool's result, the call's id, and whether it is an error, out of a LangChain `ToolMessage`.

    A message comes as its constructor (`{"lc", "id", "kwargs"}`), as `{"type": "tool", "data"}`, or as its
    plain fields, each perhaps inside `{"output": …, "kwargs": …}`.
    """
    if isinstance(value, dict) and set(value) == {"output", "kwargs"}:
        value = value["output"]
    fields = _tool_message(value)
    if fields is None:
        return value, None, False
    return fields.get("content"), text(fields.get("tool_call_id")), fields.get("status") == "error"


def _tool_message(value: JSON) -> dict[str, JSON] | None:
    """Return the fields of a LangChain `ToolMessage`, however it is wrapped."""
    if not isinstance(value, dict):
        return None
    message = cast("dict[str, JSON]", value)
    fields = message
    if "lc" in message:
        fields = message.get("kwargs")
    elif message.get("type") == "tool" and "data" in message:
        fields = message["data"]
    if isinstance(fields, dict) and "tool_call_id" in fields and "content" in fields:
        return cast("dict[str, JSON]", fields)
    return None


def _get(value: JSON, key: str) -> JSON:
    """Return `value[key]` if `value` is an object that has it."""
    return cast("dict[str, JSON]", value).get(key) if isinstance(value, dict) else None
