"""Reads the fields of a form, as that which names a model, and leaves its files alone but for those of a batch.

Readers of forms differ in what they forgive. What one of them may read otherwise than the next is unreadable here.
"""

from __future__ import annotations

from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any
from urllib.parse import parse_qsl

from spanrelay.instrumentation import batches
from spanrelay.instrumentation.requests import Body, object_in

_PLAIN_TRANSFER = ("7bit", "8bit", "binary")


def is_none(kind: str) -> bool:
    """Whether a content type is none of a form."""
    return not kind.casefold().startswith(("multipart/", "application/x-www-form-urlencoded"))


def fields_of(data: bytes, kind: str, *, strictly: bool) -> Body:
    """Return the texts of a form, and what it has as JSON; to be judged `strictly`, what may be read otherwise too."""
    try:
        pairs = _parts(data, kind) if kind.casefold().startswith("multipart/") else _pairs(data)
    except ValueError as error:
        return _doubted({}, f"its form cannot be read without doubt: {error}", strictly=strictly)
    fields = [pair for pair in pairs if not isinstance(pair[1], _File)]
    found = dict(fields)
    if len(found) != len(fields):
        return _doubted(found, "a field of its form is there twice; pass it once", strictly=strictly)
    if not (strictly and batches.is_batch(found)):
        return Body(found)
    return batches.with_files(Body(found), [value for _, value in pairs if isinstance(value, _File)])


def _doubted(found: dict[str, Any], why: str, *, strictly: bool) -> Body:
    return Body(found, why, names_model=True) if strictly else Body(found)


def _pairs(data: bytes) -> list[tuple[str, Any]]:
    if b";" in data:
        raise ValueError("it has a ';', at which some readers end a field")
    return list(parse_qsl(data.decode(), keep_blank_values=True, strict_parsing=True))


def _parts(data: bytes, kind: str) -> list[tuple[str, Any]]:
    told = Message()
    told["content-type"] = kind
    boundary = told.get_boundary()
    if not boundary or kind.casefold().count("boundary") != 1:
        raise ValueError("its content type does not say one boundary")
    mark = b"\r\n--" + boundary.encode()
    before, *parts = (b"\r\n" + data).split(mark)
    if before or not parts or parts.pop().strip() != b"--" or not all(part.startswith(b"\r\n") for part in parts):
        raise ValueError("it does not go from one boundary to the next, from its beginning to its end")
    return [_part(part[2:]) for part in parts]


class _File(bytes):
    """What a form has as a file."""


def _part(part: bytes) -> tuple[str, Any]:
    """Return the name of a field and what it says."""
    head, _, value = part.partition(b"\r\n\r\n")
    headers = BytesHeaderParser().parsebytes(head)
    said = headers.get_params(header="content-disposition") or []
    names = [value for key, value in said if key.casefold() == "name"]
    name = names[0] if len(names) == 1 and len(headers.get_all("content-disposition", [])) == 1 else None
    if not isinstance(name, str) or headers.get("content-transfer-encoding", "8bit").casefold() not in _PLAIN_TRANSFER:
        raise ValueError("one of its parts does not say its name and its text plainly")
    if any(key.casefold() == "filename" for key, _ in said):
        if name.casefold() in ("model", "model[]"):
            raise ValueError("one of its files is a field 'model'")
        return name, _File(value)
    if headers.get_content_type() != "application/json":
        return name, value.decode()
    found = object_in(value)
    if isinstance(found, Body):
        raise ValueError(found.unreadable)
    return name, found
