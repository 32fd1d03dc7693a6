"""Reads a request's body: all of it within the limit, its content encoding undone, as JSON."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any, Protocol

from spanrelay import _json
from spanrelay.gateway.limits import TooLarge
from spanrelay.instrumentation.requests import Body, object_in

Receive = Callable[[], Awaitable[dict[str, Any]]]
_STEP = 1 << 20


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
    """A body that is sent on as it comes. `failure` is what ended it early, which the client library would hide."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._pieces = pieces(receive, limit)
        self.failure: TooLarge | Gone | None = None

    def __aiter__(self) -> Upload:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece."""
        try:
            return await self._pieces.__anext__()
        except (TooLarge, Gone) as error:
            self.failure = error
            raise


def plain(data: bytes, encoding: str, limit: int) -> bytes:
    """Return a body without its content encodings.

    Raises:
        Unknown: one of them is not known here, or the bytes are not of it.
        TooLarge: it has more than `limit` bytes.
    """
    for each in reversed([part.strip().casefold() for part in encoding.split(",")]):
        if each not in ("", "identity"):
            data = _decompressed(data, each, limit)
    return data


def _decompressed(data: bytes, encoding: str, limit: int) -> bytes:
    decode, found, size = decoder(encoding), list[bytes](), 0
    try:
        for at in range(0, len(data), _STEP >> 4):  # small steps, so that a bomb is noticed before it has gone off
            found.append(decode(data[at : at + (_STEP >> 4)]))
            size += len(found[-1])
            if size > limit:
                raise TooLarge
    except TooLarge:
        raise
    except Exception as error:  # each library has errors of its own
        raise Unknown(f"its body is not {encoding!r} as it says ({type(error).__name__})") from error
    return b"".join(found)


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
    raise Unknown(f"its content encoding {encoding!r} is not known; send it as gzip, br, zstd or without one")


def json_of(data: bytes, kind: str, *, strictly: bool) -> Body:
    """Return the JSON object in a body, or the fields of a form.

    Args:
        data: The body, without content encoding.
        kind: Its content type.
        strictly: Whether policy is to judge it: what two readers may read in two ways is then unreadable.
    """
    if is_form(kind):
        return _fields(data, kind)
    if strictly:
        found = object_in(data)
        return found if isinstance(found, Body) else Body(found)
    try:
        value: Any = _json.loads(data)
    except (ValueError, RecursionError):
        return Body({}, "its body is not JSON")
    return Body(value) if isinstance(value, dict) else Body({}, "its body is not a JSON object")


def is_form(kind: str) -> bool:
    """Whether a content type is that of a form, which has texts and files."""
    return kind.startswith("multipart/form-data")


def _fields(data: bytes, kind: str) -> Body:
    """Return the texts of a form, as that which names a model, and leave its files alone."""
    told = Message()
    told["content-type"] = kind
    boundary = told.get_boundary()
    if not boundary or not data.startswith(b"--" + boundary.encode("latin-1", "replace")):
        return Body({}, "its body is not the form that its content type says")
    found: dict[str, Any] = {}
    doubled = False
    for part in data.split(b"--" + boundary.encode("latin-1", "replace"))[1:-1]:
        head, _, value = part.lstrip(b"\r\n").partition(b"\r\n\r\n")
        headers = BytesHeaderParser().parsebytes(head)
        name = headers.get_param("name", header="content-disposition")
        if isinstance(name, str) and headers.get_filename() is None:
            doubled = doubled or name in found
            found[name] = value.removesuffix(b"\r\n").decode("utf-8", "replace")
    return Body(found, "a field of its form is there twice; pass it once" if doubled else None)
