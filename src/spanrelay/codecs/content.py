"""Content of messages as the OpenAI family and who follows it have it: a text, or an array of parts by their types.

A part that nobody can read is the record's `Opaque`, and goes back as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, TypeAlias, cast

from spanrelay._json import dumps_text
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.openai_shapes import split_data_url
from spanrelay.records import JSON, Media, Opaque, Part, Text

Readers: TypeAlias = Mapping[str, Callable[[Mapping[str, Any]], Part]]
"""How a part is read, by its type."""


def read_parts(content: object, readers: Readers, unknown: Callable[[Any], Part]) -> list[Part]:
    """Read a message's content; an array gives exactly one part for each item, by `unknown` where none reads it."""
    if not content:
        return []
    if isinstance(content, str):
        return [Text(content)]
    if isinstance(content, list):
        return [_read_part(part, readers, unknown) for part in cast("list[Any]", content)]
    return [Opaque("content", content)]


def _read_part(part: Any, readers: Readers, unknown: Callable[[Any], Part]) -> Part:
    try:
        read = readers[part["type"]]
    except (TypeError, KeyError, IndexError):
        return unknown(part)
    return read(part)


def opaque(part: Any) -> Opaque:
    """Return a part that nobody can read."""
    return Opaque(as_str(as_mapping(part).get("type")) or "unknown", part)


def read_text(part: Mapping[str, Any]) -> Part:
    """Read a part that is a text."""
    text = part.get("text")
    return Text(text) if isinstance(text, str) else opaque(part)


def read_input_audio(part: Mapping[str, Any]) -> Part:
    """Read a part that is sound, as data."""
    audio = as_mapping(part.get("input_audio"))
    data, kind = audio.get("data"), audio.get("format")
    if not isinstance(data, str):
        return opaque(part)
    return Media("audio", f"audio/{kind}" if isinstance(kind, str) else None, None, data)


def write_input_audio(part: Media) -> dict[str, Any]:
    """Write sound that has its data."""
    kind = (part.mime_type or "audio/wav").partition("/")[2]
    return {"type": "input_audio", "input_audio": {"data": part.data, "format": kind}}


def read_document(part: Mapping[str, Any], file: Mapping[str, Any], uri: str | None = None) -> Part:
    """Read a part that is a file at `uri`, or one of which `file` has data, id and name."""
    data, file_id = as_str(file.get("file_data")), as_str(file.get("file_id"))
    if data is None and uri is None and file_id is None:
        return opaque(part)
    mime_type, data = (split_data_url(data) or (None, data)) if data is not None else (None, None)
    return Media("document", mime_type, uri, data, file_id, as_str(file.get("filename")))


def text_of(value: JSON) -> str:
    """Return arguments or a result as the string the wire wants."""
    if value is None:
        return ""
    return value if isinstance(value, str) else dumps_text(value)


def parts_of(content: Any, kinds: Container[type]) -> list[Part] | None:
    """Return `content` if it is a list of parts, all of `kinds`."""
    parts = as_list(content)
    return parts if parts and all(type(part) in kinds for part in parts) else None
