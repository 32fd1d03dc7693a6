"""Reads a request's body: all of it within the limit, its content encoding undone, as JSON or as a form."""

from __future__ import annotations

import asyncio
import io
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from spanrelay import _json
from spanrelay.gateway import forms
from spanrelay.gateway.limits import TooLarge
from spanrelay.instrumentation.requests import Body, object_in

Receive = Callable[[], Awaitable[dict[str, Any]]]
_NO_JSON = Body({}, "its body is not JSON")


class Gone(Exception):
    """The client has left before it had sent all."""


class Unknown(Exception):
    """A content encoding that nobody here can undo."""


class Decoder(Protocol):
    """Undoes a content encoding, piece by piece."""

    def __call__(self, data: bytes, /) -> bytes:
        """Return what `data` adds."""
        ...


async def pieces(receive: Receive, limit: int) -> AsyncIterator[bytes]:
    """Yield a body as it comes.

    Raises:
        TooLarge: it has more than `limit` bytes.
        Gone: the client has left.
    """
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        data: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(data)
        if size > limit:
            raise TooLarge
        if data:
            yield data


async def whole(receive: Receive, limit: int) -> bytes:
    """Return a body, as `pieces` yields it."""
    message = await receive()
    if message.get("more_body", False) or message["type"] == "http.disconnect":
        return b"".join([piece async for piece in pieces(_after(message, receive), limit)])
    data: bytes = message.get("body", b"")
    if len(data) > limit:
        raise TooLarge
    return data


def _after(first: dict[str, Any], receive: Receive) -> Receive:
    """Return what gives `first`, and then what `receive` gives."""
    waiting = [first]

    async def following() -> dict[str, Any]:
        return waiting.pop() if waiting else await receive()

    return following


class Upload:
    """A body that is sent on as it comes.

    Attributes:
        failure: What ended it early, which the client library would hide.
        over: Whether all of it has come.
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        self._pieces = pieces(receive, limit)
        self.failure: TooLarge | Gone | None = None
        self.over = asyncio.Event()

    def __aiter__(self) -> Upload:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece."""
        try:
            return await self._pieces.__anext__()
        except (TooLarge, Gone) as error:
            self.failure = error
            raise
        except StopAsyncIteration:
            self.over.set()
            raise


class Read(NamedTuple):
    """A body that was read.

    Attributes:
        body: What it says. Where it may name a model that cannot be read, `names_model` says so.
        data: Its bytes without encodings.
        is_form: Whether it is the fields of a form.
    """

    body: Body
    data: bytes
    is_form: bool = False


def read(data: bytes, encoding: str, kind: str, limit: int, *, strictly: bool) -> Read:
    """Return what a body says.

    Args:
        data: The body as it came.
        encoding: Its content encodings.
        kind: Its content type, or all that it is said to be.
        limit: The most bytes that it may have without encodings.
        strictly: Whether policy is to judge it. Servers differ in what they take for JSON whatever its type says, and
            in how they read what may be read in two ways: what could name a model to any of them is then JSON or a
            form without doubt, or unreadable.

    Raises:
        TooLarge: it has more than `limit` bytes.
    """
    try:
        data = unpacked(data, encoding, limit) if encoding else data
    except Unknown as error:
        return Read(Body({}, str(error), names_model=strictly), b"")
    if not strictly:
        return _read_as_said(data, kind)
    kind = kind.casefold() if forms.is_none(kind) else kind
    looks = data[:64].lstrip(_BEFORE_JSON)[:1]
    if not data:
        return Read(Body({}), data)
    if not forms.is_none(kind) and looks not in (b"{", b"["):
        return Read(forms.fields_of(data, kind, strictly=True), data, is_form=True)
    if not kind or "json" in kind or looks in (b"{", b"["):
        found = object_in(data)
        body = Body(found.wire, found.unreadable, names_model=True) if isinstance(found, Body) else Body(found)
        return Read(body, data)
    return Read(_NO_JSON, data)


_BEFORE_JSON = b" \t\r\n\x00\xef\xbb\xbf\xfe\xff"
"""What readers skip before JSON: blanks, and marks of an encoding."""


def _read_as_said(data: bytes, kind: str) -> Read:
    """Return what a body says to who only looks on."""
    if data[:1] != b"{" and not forms.is_none(kind):
        return Read(forms.fields_of(data, kind, strictly=False), data, is_form=True)
    try:
        value: Any = _json.loads(data)
    except (ValueError, RecursionError):
        value = None
    return Read(Body(value if isinstance(value, dict) else {}), data)


def unpacked(data: bytes, encoding: str, limit: int) -> bytes:
    """Return a body without its content encodings.

    Raises:
        TooLarge: it has more than `limit` bytes.
        Unknown: an encoding is not known, or the body is not in it.
    """
    for each in reversed([part.strip().casefold() for part in encoding.split(",")]):
        if each not in ("", "identity"):
            try:
                data = _decompressed(data, each, limit + 1)
            except Unknown:
                raise
            except Exception as error:  # each library has errors of its own
                raise Unknown(f"its body is not {each!r} as it says ({type(error).__name__})") from error
            if len(data) > limit:
                raise TooLarge
    return data


def _decompressed(data: bytes, encoding: str, most: int) -> bytes:
    """Return at most `most` bytes or little more, so that a bomb is noticed before it has gone off.

    Raises:
        ValueError: it is cut: what there is of it may be read as something else, or as nothing.
    """
    if encoding in ("gzip", "x-gzip", "deflate"):
        return _in_members(data, partial(zlib.decompressobj, zlib.MAX_WBITS | 32), most)
    if encoding == "br":
        import brotli

        stream = brotli.Decompressor()
        read = stream.process(data, output_buffer_limit=most)
        if len(read) < most and not stream.is_finished():
            raise ValueError(_CUT)
        return read
    if encoding == "zstd":
        import zstandard

        read = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read(most)
        # A reader says nothing of where it ended; who does say it has no limit.
        return read if len(read) == most else _in_members(data, zstandard.ZstdDecompressor().decompressobj, most)
    raise _unknown(encoding)


_CUT = "it ends before its end"
_STEP = 4096
"""Bytes that are unpacked at once. What comes behind a member is copied, and there may be very many small ones."""


def _in_members(data: bytes, begin: Callable[[], Any], most: int) -> bytes:
    """Return what all members hold, which servers read as one.

    Raises:
        ValueError: it is cut.
    """
    view, at, parts, left = memoryview(data), 0, list[bytes](), most
    while at < len(view) and left > 0:
        member = begin()
        while not member.eof and at < len(view) and left > 0:
            piece = view[at : at + _STEP]
            parts.append(member.decompress(piece))
            left -= len(parts[-1])
            at += len(piece) - len(member.unused_data)
        if not member.eof and left > 0:
            raise ValueError(_CUT)
    return b"".join(parts)


def _unknown(encoding: str) -> Unknown:
    return Unknown(f"its content encoding {encoding!r} is not known; send it as gzip, br, zstd or without one")


def decoder(encoding: str) -> Decoder:
    """Return what undoes a content encoding.

    Raises:
        Unknown: nobody here can.
    """
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress
    if encoding == "br":
        import brotli

        return brotli.Decompressor().process
    if encoding == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress
    raise _unknown(encoding)
