"""Reads what a server answers, no more than an answer may be: requests reads for as long as anything comes.

Knows private names of requests and of Python's HTTP client, which have no public way to read less of an answer than all
of it, nor to pass over what is said before it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import lru_cache
from http.client import HTTPResponse, parse_headers
from typing import Any

MOST_BYTES = 1_000_000
"""The longest answer; those of collectors have some hundred bytes."""

SECONDS = 10.0
"""How long an answer may come in, where its request has no time limit."""

_PIECE = 65_536


def bound_answers(session: Any) -> None:
    """Let answers to what `session` sends be read as far as `MOST_BYTES`, and within the time limit of the request."""
    hooks: Any = getattr(session, "hooks", None)
    if hooks is None:
        return  # it is not one of requests
    hooks["response"].insert(0, _read)
    for adapter in session.adapters.values():
        for name in ("get_connection_with_tls_context", "get_connection"):  # the second before requests 2.32
            found = getattr(adapter, name, None)
            if found is not None:
                setattr(adapter, name, _bounding(found))


def _bounding(find_pool: Callable[..., Any]) -> Callable[..., Any]:
    """Let the connections of the pool that is found read their answers as `_Answer` does."""

    def find(*arguments: Any, **named: Any) -> Any:
        pool = find_pool(*arguments, **named)
        kind: Any = getattr(pool, "ConnectionCls", None)
        if getattr(kind, "response_class", None) is HTTPResponse:
            pool.ConnectionCls = _bounded(kind)
        return pool

    return find


@lru_cache(maxsize=16)
def _bounded(kind: type) -> type:
    return type(kind.__name__, (kind,), {"response_class": _Answer})


class _Answer(HTTPResponse):
    """An answer that has one time limit as a whole: by itself each of its pieces has that.

    What a server says before it, `103 Early Hints` for instance, is passed over. Taken for the answer it would leave
    the answer standing, to be read as that to the next request.
    """

    def __init__(self, sock: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        seconds = sock.gettimeout()
        self.fp: Any = io.BufferedReader(_Timed(self.fp.detach(), sock, SECONDS if seconds is None else seconds))

    def _read_status(self) -> tuple[str, int, str]:
        read: Callable[[], tuple[str, int, str]] = super()._read_status  # type: ignore[misc]  # typeshed leaves it out
        said = read()
        while 100 <= said[1] < 200 and said[1] != 101:
            parse_headers(self.fp)
            said = read()
        return said


class _Timed(io.RawIOBase):
    """Reads from a socket, until an answer has taken `seconds`."""

    def __init__(self, raw: Any, sock: Any, seconds: float) -> None:
        self._raw, self._socket = raw, sock
        self._seconds, self._end = seconds, time.monotonic() + seconds
        self._begun = False

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        """Read what has come; see `RawIOBase`."""
        left = self._end - time.monotonic()
        if left > 0:
            self._socket.settimeout(left)
            try:
                count = self._raw.readinto(buffer)
            except TimeoutError:
                if not self._begun:
                    raise
            else:
                self._begun = True
                return count
        raise TimeoutError(f"its answer has no end after {self._seconds:.3g} s")

    def close(self) -> None:
        """Let the socket go."""
        self._raw.close()
        super().close()


def _read(response: Any, *_: object, timeout: object = None, **__: object) -> None:
    if not hasattr(response.raw, "read1"):
        return  # urllib3 of before 2.1
    import requests

    seconds = timeout if isinstance(timeout, (int, float)) else SECONDS
    deadline = time.monotonic() + seconds
    body = bytearray()
    try:
        while piece := response.raw.read1(_PIECE, decode_content=True):
            body += piece
            if len(body) > MOST_BYTES:
                raise OSError(f"its answer has more than {MOST_BYTES:,} bytes")
            if time.monotonic() > deadline:
                raise OSError(f"its answer has no end after {seconds:.3g} s")
    except AttributeError:
        return  # what stands in for a connection cannot read in pieces, as that of a test
    except Exception as error:  # of urllib3, or of ours; one that exporters do not send again by themselves
        response.close()
        raise requests.exceptions.ChunkedEncodingError(error) from error
    response._content, response._content_consumed = bytes(body), True
