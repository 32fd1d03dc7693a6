"""Files of telemetry: which form each has, and what is in it, piece by piece.

A piece that cannot be read is a finding with the file and the line, and the rest is read. One piece is held at a time.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import orjson

from spanrelay import _json
from spanrelay.errors import SpanRelayError
from spanrelay.otlp_in import (
    databases,
    hooks,
    jaeger_json,
    langfuse_json,
    otlp_json,
    phoenix_json,
    protobuf,
    sdk_json,
    span_tables,
    trajectories,
    transcripts,
)
from spanrelay.otlp_in.telemetry import Telemetry, Unreadable
from spanrelay.records import JSON

MAX_PIECE = 256 << 20
"""Bytes of one line, one message, or one JSON value over many lines; of a longer one nothing is read."""

_CHUNK = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Finding:
    """What could not be read, and where: `place` is the file, with its line or the number of a message."""

    place: str
    fault: str

    def __str__(self) -> str:
        return f"{self.place}: {self.fault}"


Found = Callable[[Finding], None]


class Piece(NamedTuple):
    """What is read at once: a line, a JSON value over several, or a message of protobuf."""

    place: str
    data: bytes
    is_json: bool


_TELLING = (b"resourceSpans", b"resource_spans", b"scopeSpans", b"resourceLogs", b"resource_logs", b"scopeLogs",
            b"resourceMetrics", b"resource_metrics", b'"span_id"', *transcripts.MARKS, *trajectories.MARKS,
            *jaeger_json.MARKS, *langfuse_json.MARKS, *span_tables.MARKS, *hooks.MARKS)  # fmt: skip
_GLIMPSE = 1 << 16


def is_telemetry(path: Path) -> bool:
    """Whether a file that was found in a folder looks like telemetry, by its beginning."""
    try:
        with path.open("rb") as stream:
            head = _Ahead(_unpacked(stream)).peek(_GLIMPSE)
    except (EOFError, zlib.error, OSError, ValueError, SpanRelayError, *_zstd_errors()):
        return path.suffix in (".gz", ".zst")  # what is wrong with it is to be said
    if _is_text(head[:64]):
        return any(mark in head for mark in _TELLING)
    if databases.is_database(head):
        return databases.has_sessions(path)
    return _is_protobuf(head[:16])


def _is_protobuf(head: bytes) -> bool:
    """Whether a file begins as an export request does, or as a length with one behind it."""
    if head[:1] == b"\0":
        return head[4:5] == _FIELD
    if head[:1] == _FIELD:
        return True
    size = next((at for at, byte in enumerate(head[:5]) if byte < 0x80), None)
    return size is not None and head[size + 1 : size + 2] == _FIELD


_FIELD = b"\n"
"""How a request begins: its first field, a message. A line feed is the same byte."""


def pieces_of(path: Path, found: Found) -> Iterator[Piece]:
    """Yield the pieces of a file. Raises `SpanRelayError` where it cannot be opened."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise SpanRelayError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    with stream:
        if databases.is_database(stream.peek(64)):
            yield from _rows(path, found)
        else:
            yield from pieces_of_stream(stream, str(path), found)


def _rows(path: Path, found: Found) -> Iterator[Piece]:
    try:
        for place, data in databases.rows_of(path):
            yield Piece(f"{path}: {place}", data, True)
    except ValueError as error:
        found(Finding(str(path), str(error)))


def pieces_of_stream(stream: IO[bytes], name: str, found: Found) -> Iterator[Piece]:
    """Yield the pieces of a stream, whatever its form: OTLP JSON or protobuf, the SDK's own JSON, compressed or not."""
    place = _Place(name, found)
    try:
        yield from _pieces(_Ahead(_unpacked(stream)), place)
    except (EOFError, zlib.error, gzip.BadGzipFile, OSError, ValueError, *_zstd_errors()) as error:
        # What came before has been read: a file that was cut, as a rule.
        place.fault(f"the file ends here, or is damaged: {error or type(error).__name__}")


def read(piece: Piece, found: Found) -> Iterator[Telemetry]:
    """Yield what is in a piece; `found` is told of what cannot be read."""

    def fault(text: str) -> None:
        found(Finding(piece.place, text))

    try:
        if piece.is_json:
            yield from _of_value(_loads(piece.data), piece.place, fault)
        else:
            yield from protobuf.read(piece.data, fault)
    except ValueError as error:
        fault(str(error) if isinstance(error, Unreadable) else f"is not JSON: {error}")
    except RecursionError:
        fault("it is nested too deep to be read")


def _loads(data: bytes) -> JSON:
    """Return a JSON value. OTLP has no integer of more than 64 bits, which `_json` looks for in its many digits."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _json.clean(_json.loads(data))  # NaN and lone surrogates, as some write them


class _Place:
    """Where reading is, for pieces and findings."""

    def __init__(self, name: str, found: Found) -> None:
        self._name, self._found = name, found
        self.line = 0
        self.unit = ":"

    @property
    def name(self) -> str:
        return f"{self._name}{self.unit}{self.line}" if self.line else self._name

    def fault(self, text: str) -> None:
        self._found(Finding(self.name, text))


class _Ahead:
    """A stream whose next bytes can be looked at."""

    def __init__(self, stream: IO[bytes]) -> None:
        # One read at a time gives what there is of a compressed file that was cut, before it says so.
        self._read = cast("io.BufferedReader", stream).read1 if hasattr(stream, "read1") else stream.read
        self._held = b""
        self._at = 0

    def peek(self, size: int) -> bytes:
        while len(self._held) - self._at < size:
            more = self._read(max(_CHUNK, size))
            if not more:
                break
            self._held, self._at = self._held[self._at :] + more, 0
        return self._held[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        taken = self.peek(size)
        self._at += len(taken)
        return taken

    def skip(self, size: int) -> None:
        while size > 0 and (taken := self.take(min(size, _CHUNK))):
            size -= len(taken)

    def lines(self) -> Iterator[bytes | None]:
        """Yield the lines; None for one that is too long to be held."""
        parts: list[bytes] = []
        size = 0
        while True:
            if self._at >= len(self._held):
                self._held, self._at = self._read(_CHUNK), 0
                if not self._held:
                    break
            end = self._held.find(b"\n", self._at)
            part = self._held[self._at : end + 1 if end >= 0 else len(self._held)]
            self._at += len(part)
            size += len(part)
            if size <= MAX_PIECE:
                parts.append(part)
            else:
                parts.clear()
            if end >= 0:
                yield b"".join(parts) if size <= MAX_PIECE else None
                parts, size = [], 0
        if size:
            yield b"".join(parts) if size <= MAX_PIECE else None


def _unpacked(stream: IO[bytes]) -> IO[bytes]:
    """Return the stream as it was before it was compressed."""
    buffered = stream if hasattr(stream, "peek") else io.BufferedReader(cast("io.RawIOBase", stream))
    head = cast("io.BufferedReader", buffered).peek(4)[:4]
    if head[:2] == _GZIP:
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    if head == _ZSTD:
        return _unpacked_zstd(buffered)
    return buffered


def _zstd_errors() -> tuple[type[Exception], ...]:
    zstandard = sys.modules.get("zstandard")
    return (zstandard.ZstdError,) if zstandard is not None else ()


def _unpacked_zstd(stream: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise SpanRelayError(
            "this file is compressed with zstd: `pip install zstandard` lets it be read, or unpack it first"
        ) from error
    return cast("IO[bytes]", _Parts(_parts_of_frames(stream, zstandard.ZstdDecompressor().decompressobj)))


class _Parts:
    """Parts of a stream, read one at a time."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts

    def read1(self, _size: int) -> bytes:
        return next(self._parts, b"")


_STEP = 4096
"""Bytes that are unpacked at once; each may become thirty thousand."""


def _parts_of_frames(stream: IO[bytes], begin: Callable[[], Any]) -> Iterator[bytes]:
    """Yield what frames of zstd hold. The reader of its package takes a cut for the end, and says nothing.

    Raises:
        EOFError: the stream ends within a frame.
    """
    frame, parts, held = None, list[bytes](), 0
    try:
        while data := stream.read(_STEP):
            while data:
                frame = frame or begin()
                parts.append(frame.decompress(data))
                held += len(parts[-1])
                data, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
            if held >= _CHUNK:
                yield b"".join(parts)
                parts, held = [], 0
        if frame is not None:
            raise EOFError("it is cut within a frame of zstd")
    except Exception:
        if held:
            yield b"".join(parts)
        raise
    yield b"".join(parts)


def _pieces(ahead: _Ahead, place: _Place) -> Iterator[Piece]:
    head = ahead.peek(64)
    if not head:
        return
    if _is_text(head):
        yield from _texts(ahead, place)
    elif not _is_protobuf(head):
        place.fault("not telemetry: expected OTLP as JSON or protobuf, or spans that Python's SDK printed")
    elif head[:1] == _FIELD:
        data = ahead.take(MAX_PIECE + 1)
        if len(data) > MAX_PIECE:
            place.fault(f"a message of more than {MAX_PIECE >> 20} MiB: it is left out")
        else:
            yield Piece(place.name, data, False)
    else:
        yield from _messages(ahead, place, _length_of_collector if head[:1] == b"\0" else _length_of_varint)


def _is_text(head: bytes) -> bool:
    """Whether a file begins as JSON does, perhaps behind a byte order mark and blank space.

    A line feed begins protobuf too: that of a message behind it is a length.
    """
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    if text[:1] not in (b"{", b"["):
        return False
    if head[:1] != b"\n":
        return True
    return text[1:].lstrip(b" \t\r\n")[:1] in (b'"', b"{", b"[", b"}", b"]", b"")


# ── protobuf


def _messages(ahead: _Ahead, place: _Place, length_of: Callable[[_Ahead], int | None]) -> Iterator[Piece]:
    """Yield messages that stand behind each other, each with its length before it."""
    place.unit = ": message "
    while ahead.peek(1):
        place.line += 1
        size = length_of(ahead)
        if size is None:
            place.fault("no length of a message: expected OTLP as JSON or protobuf")
            return
        if size > MAX_PIECE:
            place.fault(f"a message of {size >> 20} MiB, more than {MAX_PIECE >> 20}: it is left out")
            ahead.skip(size)
            continue
        data = ahead.take(size)
        if len(data) < size:
            place.fault(f"the file ends within a message: {len(data)} of {size} bytes")
            return
        yield Piece(place.name, data, False)


def _length_of_collector(ahead: _Ahead) -> int | None:
    """Return the length that the Collector's file exporter writes before a message: four bytes, the highest first."""
    head = ahead.take(4)
    return int.from_bytes(head, "big") if len(head) == 4 else None


def _length_of_varint(ahead: _Ahead) -> int | None:
    size = shift = 0
    while shift < 35:
        byte = ahead.take(1)
        if not byte:
            return None
        size |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return size
        shift += 7
    return None


# ── JSON


def _texts(ahead: _Ahead, place: _Place) -> Iterator[Piece]:
    """Yield JSON values, one a line; one over several lines is put together until it is whole."""
    lines = ahead.lines()
    for line in lines:
        place.line += 1
        if line is None:
            place.fault(f"a line of more than {MAX_PIECE >> 20} MiB: it is left out")
            continue
        text = line.removeprefix(b"\xef\xbb\xbf").strip() if place.line == 1 else line.strip()
        if not text:
            continue
        if _begins_value(text):
            yield from _of_many_lines(text, lines, place)
        else:
            yield Piece(place.name, text, True)


def _begins_value(text: bytes) -> bool:
    """Whether a line is the beginning of a value that goes on in the next: printed with indentation."""
    return text[:1] in (b"{", b"[") and text[-1:] in (b"{", b"[", b",")


def _of_many_lines(first: bytes, lines: Iterator[bytes | None], place: _Place) -> Iterator[Piece]:
    """Yield the value that goes over several lines: it ends where its brackets do."""
    begun, parts, size, depth = place.name, [first], len(first), _Depth()
    depth.add(first)
    for line in lines:
        place.line += 1
        if line is None or size > MAX_PIECE:
            break
        parts.append(line)
        size += len(line)
        depth.add(line)
        if depth.value <= 0:
            yield Piece(begun, b"".join(parts), True)
            return
    yield Piece(begun, b"".join(parts) if size <= MAX_PIECE else b"", True)  # which says what is wrong with it


class _Depth:
    """How many brackets of JSON are open, texts aside."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, line: bytes) -> None:
        outside = line
        if b'"' in line:
            # Every second piece between quotes is text; printed JSON has no text over several lines.
            outside = b"".join(line.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
        self.value += outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")


def _of_value(value: JSON, place: str, fault: Callable[[str], None]) -> Iterator[Telemetry]:
    if isinstance(value, list):
        for item in cast("list[JSON]", value):
            yield from _of_value(item, place, fault) if not isinstance(item, list) else ()
    elif otlp_json.is_request(value):
        yield from otlp_json.read(value, fault)
    elif jaeger_json.is_traces(value):
        yield from jaeger_json.read(value, fault)
    elif langfuse_json.is_export(value):
        yield from langfuse_json.read(value, fault)
    elif (page := phoenix_json.page_of(value)) is not None:
        yield from _of_value(page, place, fault)
    else:
        try:
            item = _item_of(value, place)
        except Unreadable as error:
            fault(str(error))
            return
        if item is not None:
            yield item
        elif not (_is_aside(value) or langfuse_json.is_score(value)):
            fault(
                f"{_glimpse(value)} is not telemetry: expected 'resourceSpans', 'resourceLogs', a span of the SDK, "
                "traces of Jaeger, observations of Langfuse, a row of a table of spans, a line of a coding agent's "
                "transcript, or a trajectory"
            )


def _item_of(value: JSON, place: str) -> Telemetry | None:
    if phoenix_json.is_span(value):
        return phoenix_json.span_of(value)
    if sdk_json.is_span(value):
        return sdk_json.span_of(value)
    if span_tables.is_row(value):
        return span_tables.span_of(value)
    return trajectories.line_of(value, place) or hooks.line_of(value, place) or transcripts.line_of(value, place)


def _is_aside(value: JSON) -> bool:
    """Whether this is said beside telemetry by who captured it: an object whose only keys begin with an underscore."""
    return isinstance(value, dict) and all(str(key).startswith("_") for key in cast("dict[str, Any]", value))


def _glimpse(value: JSON) -> str:
    if isinstance(value, dict):
        keys = ", ".join(repr(key) for key in list(cast("dict[str, Any]", value))[:3])
        return f"an object with {keys}"
    return f"a value of type {type(value).__name__}"
