"""Event streams of AWS: frames of named headers and a payload, to events and back.

Reading never raises, wherever the bytes were cut: what comes after the last whole frame is left out. Checksums are
looked at by whoever hands the stream on.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from spanrelay import _json
from spanrelay._guard import pass_on

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; those that are missing begin with their length."""
_TEXT = 7
CONTENT_TYPE = "application/vnd.amazon.eventstream"


def frames(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what each whole frame in `data` is, an event's or an exception's name, and its payload."""
    at = 0
    while at + 16 <= len(data):
        total, header_size, _ = _PRELUDE.unpack_from(data, at)
        end = at + total
        if total < 16 + header_size or end > len(data):
            return
        start = at + 12 + header_size
        yield _kind(data[at + 12 : start]), data[start : end - 4]
        at = end


@lru_cache(maxsize=256)
def _kind(headers: bytes) -> str:
    """Return what a frame is: those of a stream have few different headers."""
    named = _headers(headers)
    kind = named.get(b":event-type") or named.get(b":exception-type") or named.get(b":error-code") or b""
    return kind.decode("utf-8", "replace")


def last(data: bytes) -> bytes:
    """Return the last whole frame in `data`, or nothing."""
    at, found = 0, b""
    while at + 16 <= len(data):
        end = at + max(16, _PRELUDE.unpack_from(data, at)[0])
        if end > len(data):
            break
        found, at = data[at:end], end
    return found


def _headers(data: bytes) -> dict[bytes, bytes]:
    """Return the headers whose value is text."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        size = data[at]
        name, at = data[at + 1 : at + 1 + size], at + 1 + size
        if at >= len(data):
            break
        kind, at = data[at], at + 1
        length = _SIZES.get(kind)
        if length is None:
            length, at = int.from_bytes(data[at : at + 2], "big"), at + 2
        if kind == _TEXT:
            found[name] = data[at : at + length]
        at += length
    return found


def events(data: bytes) -> list[dict[str, Any]]:
    """Return the event of each frame in `data`, as `{name: payload}`; of a chunk of a model's own, that one's."""
    kinds, payloads = list[str](), list[bytes]()
    for kind, payload in frames(data):
        kinds.append(kind)
        payloads.append(payload)
    if "chunk" not in kinds:
        return [{kind: told} for kind, told in zip(kinds, _objects(payloads), strict=True)]
    found = _objects(payloads)
    inner = iter(_objects([_bytes_of(told) for kind, told in zip(kinds, found, strict=True) if kind == "chunk"]))
    return [next(inner) if kind == "chunk" else {kind: told} for kind, told in zip(kinds, found, strict=True)]


def _objects(payloads: list[bytes]) -> list[dict[str, Any]]:
    """Return the JSON object in each of `payloads`: all at once, at a third of the cost, unless one is none."""
    try:
        found: list[Any] = _json.loads_strict(b"[" + b",".join(payloads) + b"]")
    except ValueError:
        found = []
    if len(found) == len(payloads) and set(map(type, found)) <= {dict}:
        return found
    return [_json.loads_object(payload) for payload in payloads]


def _bytes_of(told: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(told.get("bytes") or "")
    except (binascii.Error, TypeError, ValueError) as error:
        pass_on(error)
        return b"{}"


def frame(kind: str, payload: Mapping[str, Any]) -> bytes:
    """Return one event as its frame."""
    headers = b"".join(
        bytes((len(name),)) + name + b"\x07" + len(value).to_bytes(2, "big") + value
        for name, value in (
            (b":event-type", kind.encode()),
            (b":content-type", b"application/json"),
            (b":message-type", b"event"),
        )
    )
    body = _json.dumps(payload)
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    data = prelude + _CRC.pack(zlib.crc32(prelude)) + headers + body
    return data + _CRC.pack(zlib.crc32(data))


def chunk(event: Mapping[str, Any]) -> bytes:
    """Return an event of a model's own as its frame."""
    return frame("chunk", {"bytes": base64.b64encode(_json.dumps(event)).decode()})
