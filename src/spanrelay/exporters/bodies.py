"""Reads what a server answers, no more than an answer may be: requests reads for as long as anything comes.

Knows private names of requests, which has no public way to read less of an answer than all of it.
"""

from __future__ import annotations

import time
from typing import Any

MOST_BYTES = 1_000_000
"""The longest answer; those of collectors have some hundred bytes."""

SECONDS = 10.0
"""How long an answer may come in, where its request has no time limit."""

_PIECE = 65_536


def bound_answers(session: Any) -> None:
    """Let answers to what `session` sends be read as far as `MOST_BYTES`, and within the time limit of the request."""
    hooks: Any = getattr(session, "hooks", None)
    if hooks is not None:  # else it is not one of requests
        hooks["response"].insert(0, _read)


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
