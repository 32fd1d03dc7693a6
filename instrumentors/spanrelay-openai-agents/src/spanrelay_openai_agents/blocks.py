"""Blocks of the application's own: `with trace(...)` and `with custom_span(...)`, each a CHAIN span that is current.

A block is entered and left by the application; leaving it somewhere else than it was entered must do no harm.
"""

from __future__ import annotations

import sys
from typing import Any

from opentelemetry.context import Context, attach, get_current

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.scopes import Scope, place_now, scope
from spanrelay.tracing import Tracing

_BLOCK = "__spanrelay_block__"


class Block:
    """What the application made with `trace(...)` or `custom_span(...)`, before, while and after it is entered."""

    __slots__ = ("_data", "_handled", "_inner", "_name", "_outer", "_scope", "_session")

    def __init__(self, name: str, session: str | None, data: Any) -> None:
        self._name = name
        self._session = session
        self._data = data
        self._handled: BaseException | None = None
        self._scope: Scope | None = None
        self._outer: Context | None = None
        self._inner: Context | None = None

    def enter(self, tracing: Tracing, *, current: bool) -> None:
        """Open the span, and make it current if the block is to be."""
        if self._scope is not None:
            return
        outer = place_now()
        self._handled = sys.exc_info()[1]
        self._scope = scope(self._name, "chain", session=self._session).make()
        inner = self._scope.open(tracing, outer)
        if current:
            self._outer, self._inner = outer, inner
            attach(inner)

    def leave(self) -> None:
        """End the span, and make current what was so before, where the block is still current."""
        # The SDK is not told what ends its blocks; an error is one that was not there when the block began.
        raised = sys.exc_info()[1]
        error = None if raised is self._handled else raised
        self._handled = None
        entered, self._scope = self._scope, None
        if entered is None:
            return
        if self._outer is not None and get_current() is self._inner:
            attach(self._outer)
        self._outer = self._inner = None
        if self._data:
            entered.record.input = _json.loads(_json.dumps(self._data))
        entered.close(error)


class Blocks:
    """Wraps what makes blocks, and what enters and leaves them; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def trace(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Remember what a trace of the application is called: one that is not recorded forgets it."""
        made = wrapped(*args, **kwargs)
        with guarded("reading what a trace is called"):
            known = dict(zip(("workflow_name", "trace_id", "group_id"), args, strict=False)) | kwargs
            if not known.get("disabled"):
                setattr(made, _BLOCK, Block(known["workflow_name"], known.get("group_id") or None, None))
        return made

    def span(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Remember what a span of the application is called."""
        made = wrapped(*args, **kwargs)
        with guarded("reading what a span is called"):
            known = dict(zip(("name", "data"), args, strict=False)) | kwargs
            if not known.get("disabled"):
                setattr(made, _BLOCK, Block(known["name"], None, known.get("data")))
        return made

    def start(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Enter a block."""
        result = wrapped(*args, **kwargs)
        block = getattr(instance, _BLOCK, None)
        if block is not None:
            with guarded("entering a block of the application"):
                block.enter(self._tracing, current=bool(args[0] if args else kwargs.get("mark_as_current")))
        return result

    def finish(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Leave a block."""
        block = getattr(instance, _BLOCK, None)
        if block is not None:
            with guarded("leaving a block of the application"):
                block.leave()
        return wrapped(*args, **kwargs)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The application's names for what makes blocks, and the classes of blocks that are recorded and that are not.

    The SDK makes traces of its own by another name: those are not the application's.
    """
    blocks = Blocks(tracing)
    made = [
        Patch(module, name, wrapper, required=False)
        for module in ("agents", "agents.tracing")
        for name, wrapper in (("trace", blocks.trace), ("custom_span", blocks.span))
    ]
    entered = [
        Patch(module, f"{kind}.{method}", wrapper, required=False)
        for module, kinds in (
            ("agents.tracing.traces", ("TraceImpl", "NoOpTrace")),
            ("agents.tracing.spans", ("SpanImpl", "NoOpSpan")),
        )
        for kind in kinds
        for method, wrapper in (("start", blocks.start), ("finish", blocks.finish))
    ]
    return (*made, *entered)
