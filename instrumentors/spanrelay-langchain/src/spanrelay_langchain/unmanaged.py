"""Calls that are recorded and no matter of policy: a scope around each, current while it works.

What is given and what comes of it is read at the call, and only where somebody reads the span.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from opentelemetry.context import attach, detach

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.records import JSON
from spanrelay.scopes import Scope, place_now
from spanrelay.tracing import Tracing


def within(entered: Scope, tracing: Tracing, send: Callable[[], Any], shown: Callable[[Any], Any]) -> Any:
    """Make a call in a scope; `shown` says what of its result is recorded."""
    token = attach(entered.open(tracing, place_now()))
    try:
        result = send()
    except BaseException as error:
        entered.close(error)
        raise
    finally:
        detach(token)
    _leave(entered, result, shown)
    return result


async def awithin(
    entered: Scope, tracing: Tracing, send: Callable[[], Awaitable[Any]], shown: Callable[[Any], Any]
) -> Any:
    """Make a call in a scope as `within` does, awaiting it."""
    token = attach(entered.open(tracing, place_now()))
    try:
        result = await send()
    except BaseException as error:
        entered.close(error)
        raise
    finally:
        detach(token)
    _leave(entered, result, shown)
    return result


def _leave(entered: Scope, result: Any, shown: Callable[[Any], Any]) -> None:
    if entered.span is not None and entered.span.is_recording():
        with guarded("keeping what a call gave"):
            entered.record.output = kept(shown(result))
    entered.close()


def kept(value: Any) -> JSON:
    """Return a value as JSON that nobody changes any more."""
    return _json.loads(_json.dumps(value))
