"""Server-sent events: the frames of a streamed HTTP answer, to JSON and back.

Reading never raises, wherever the bytes were cut; a frame is complete only with its blank line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from spanrelay._guard import pass_on
from spanrelay._json import dumps, loads, loads_strict

DONE = b"data: [DONE]\n\n"
"""The frame that ends a stream of the OpenAI family."""

_ENDED = b"\n" + DONE

_END = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
_LAST_EVENT = re.compile(
    rb'(?:^|[\r\n])(?:event: ?|data: ?\{"type": ?")(?:response\.(?:completed|incomplete|failed)|message_stop)["\r\n]'
)
_BEGUN = re.compile(rb"(?:^|[\r\n])data:[^\r\n]*\{")
_ONE_BODY = re.compile(rb"(?:\xef\xbb\xbf)?\s*[{\[]")
_NOTHING_YET = re.compile(rb"(?:\xef(?:\xbb(?:\xbf\s*)?)?|\s*)\Z")
# Lines end in LF, CR or both, and a stream may mix them. An LF that comes late after its CR begins the next frame.
_BORDER = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")


def events(data: bytes) -> list[dict[str, Any]]:
    """Return the JSON object of each event in `data`.

    Comments, `[DONE]`, other fields and what is not a JSON object are skipped. A last event without its
    blank line counts if its JSON is whole.
    """
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found = _array(_joined_frames(data)) if data.startswith(b"data: ") else None
    if found is None:
        found = _array(_joined_lines(data))
    if found is None:
        found = map(_event, data.split(b"\n\n"))
    return [event for event in found if isinstance(event, dict)]


def _joined_frames(data: bytes) -> bytes:
    """Return the events of a stream of bare `data:` frames as the inside of a JSON array."""
    return data[6:].replace(b"\n\ndata: ", b",").rstrip().removesuffix(b",[DONE]")


def _joined_lines(data: bytes) -> bytes:
    """Return all `data:` lines as the inside of a JSON array, which they are if each is a whole event."""
    return b",".join([line[5:] for line in data.split(b"\n") if line[:5] == b"data:" and line[-6:] != b"[DONE]"])


def _array(inside: bytes) -> Iterable[Any] | None:
    """Read all events at once, at half the cost; None where one is cut or is not alone on its line."""
    try:
        return loads_strict(b"[" + inside + b"]")
    except ValueError:
        return None


def _event(frame: bytes) -> dict[str, Any] | None:
    if frame.startswith(b"data:") and b"\n" not in frame:
        payload = frame[5:]
    else:
        lines = [line[5:].removeprefix(b" ") for line in frame.split(b"\n") if line.startswith(b"data:")]
        payload = b"\n".join(lines)
    try:
        event: object = loads_strict(payload)
    except ValueError:
        event = _lenient(payload)
    return cast("dict[str, Any]", event) if isinstance(event, dict) else None


def _lenient(payload: bytes) -> object:
    """Read what orjson refuses (NaN, lone surrogates), and give up on the rest: an empty or cut frame."""
    if not payload.lstrip().startswith(b"{"):
        return None
    try:
        return loads(payload)
    except (ValueError, RecursionError) as error:
        pass_on(error)
        return None


def is_one_body(data: bytes | bytearray) -> bool:
    """Whether `data` begins as one JSON body does: no line of an event stream that anybody reads begins so."""
    return _ONE_BODY.match(data) is not None


def says_nothing_yet(data: bytes | bytearray) -> bool:
    """Whether what follows `data` decides if it is one JSON body."""
    return _NOTHING_YET.match(data) is not None


def frame(event: Mapping[str, Any]) -> bytes:
    """Return `event` as one frame; one that has a `type` names it in an `event:` line, as its API does."""
    kind = event.get("type")
    # A chat chunk has no type of its own.
    name = f"event: {kind}\n".encode() if isinstance(kind, str) and "\n" not in kind else b""
    return name + b"data: " + dumps(event) + b"\n\n"


def says_end(data: bytes) -> bool:
    """Whether `data`, the last of a stream, holds what ends one: `[DONE]`, or the last of an API's typed events."""
    if data.endswith(_ENDED):  # as nearly all do
        return True
    return find_end(data) >= 0 or _LAST_EVENT.search(data) is not None


def find_end(data: bytes, *, begins_line: bool = True) -> int:
    """Return where the last line that ends a stream starts, or -1: text in an event may say the same.

    Args:
        data: Bytes of a stream.
        begins_line: Whether its first byte is the first of a line.
    """
    at = -1
    for found in _END.finditer(data):
        start = found.end() - len(found.group().lstrip(b"\r\n"))
        if start or begins_line:
            at = start
    return at


def without_cut_event(data: bytes) -> bytes:
    """Return `data`, which holds no whole event, up to the line where the readable beginning of one starts."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return data  # readers of events raise
    found = _BEGUN.search(data)
    return data if found is None else data[: found.end() - len(found.group().lstrip(b"\r\n"))]


class Splitter:
    """Cuts a stream of bytes at the borders of its events, losing no byte.

    `rest` is what has come of the event that is not complete yet.
    """

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that `data` completes, each with the blank line that ends it."""
        rest = self.rest + data
        if b"\r" not in rest:
            *whole, self.rest = rest.split(b"\n\n")
            return [frame + b"\n\n" for frame in whole]
        frames: list[bytes] = []
        start = 0
        for border in _BORDER.finditer(rest):
            frames.append(rest[start : border.end()])
            start = border.end()
        self.rest = rest[start:]
        return frames
