"""The streams of the first version of the API: JSON objects, one a line, which the SDK reads by `iter_lines`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

from spanrelay import _json
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import AsyncTap, SyncTap


def by_lines(call: ModelCall, response: Any) -> Any:
    """Tap the lines of a response, and return it."""
    httpx = sys.modules[type(response).__module__.partition(".")[0]]
    if isinstance(response.stream, httpx.SyncByteStream) and not hasattr(response.stream, "__aiter__"):
        tap: Any = SyncTap(call, _parsed(response.iter_lines()), response.close, form="events")
        response.iter_lines = lambda: _written(tap)
    else:
        tap = AsyncTap(call, _aparsed(response.aiter_lines()), response.aclose, form="events")
        response.aiter_lines = lambda: _awritten(tap)
    call.tap = tap
    return response


def _parsed(lines: Iterator[str]) -> Iterator[Any]:
    for line in lines:
        found = _value_in(line)
        if found is not _NONE:
            yield found


async def _aparsed(lines: AsyncIterator[str]) -> AsyncIterator[Any]:
    async for line in lines:
        found = _value_in(line)
        if found is not _NONE:
            yield found


_NONE: Any = object()


def _value_in(line: str) -> Any:
    """Return the JSON of a line; the SDK passes over those that have none."""
    try:
        return _json.loads(line.encode()) if line else _NONE
    except ValueError:
        return _NONE


def _written(tap: Any) -> Iterator[str]:
    for event in tap:
        yield _json.dumps_text(event)


async def _awritten(tap: Any) -> AsyncIterator[str]:
    async for event in tap:
        yield _json.dumps_text(event)
