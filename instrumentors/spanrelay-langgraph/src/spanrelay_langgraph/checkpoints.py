"""Checkpointers, where somebody asked for them: each reading and each writing of a thread's state is a span.

What is stored is not recorded: a checkpoint is the whole state of a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from opentelemetry.context import Context, attach, detach

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.records import SpanRecord
from spanrelay.scopes import Scope, current_scope, inherit, place_now
from spanrelay.semconv.names import AttributeValue
from spanrelay.tracing import Tracing

SAVER = "langgraph.checkpointer"
FOUND = "langgraph.checkpoint.found"
CHECKPOINT = "langgraph.checkpoint.id"
NAMESPACE = "langgraph.checkpoint.namespace"
CHANNELS = "langgraph.checkpoint.channels"

_SYNC = {"get_tuple": "get checkpoint", "put": "put checkpoint", "put_writes": "put writes"}
_ASYNC = {f"a{method}": name for method, name in _SYNC.items()}
"""The methods of a checkpointer, and what their spans are called."""


class CheckpointScope(Scope):
    """One call of a checkpointer."""

    __slots__ = ("saver",)

    def __init__(self, name: str, saver: Any, parent: Scope | None) -> None:
        super().__init__(inherit(SpanRecord(0, 0, name=name, kind="chain"), parent), parent, name)
        self.saver = saver

    def begun(self, tracing: Tracing, args: Any, kwargs: Any) -> Context:
        """Start the span with what the call says of itself, and return the context to make it in."""
        context = self.open(tracing, place_now())
        if self.span is not None and self.span.is_recording():
            self.span.set_attributes(_facts(self.saver, args, kwargs))
        return context


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The methods of every checkpointer, now and to come."""
    savers = Checkpointers(tracing)
    wrappers = {method: savers.calling(name) for method, name in _SYNC.items()}
    wrappers |= {method: savers.acalling(name) for method, name in _ASYNC.items()}
    return tuple(
        Patch("langgraph.checkpoint.base", f"BaseCheckpointSaver.{method}", wrapper, required=False, derived=True)
        for method, wrapper in wrappers.items()
    )


class Checkpointers:
    """The wrappers around the methods of checkpointers; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def calling(self, name: str) -> Callable[..., Any]:
        """Return the wrapper of a method whose spans are called `name`."""

        def call(wrapped: Any, saver: Any, args: Any, kwargs: Any) -> Any:
            outer = current_scope()
            if _is_within(saver, outer):
                return wrapped(*args, **kwargs)
            entered = CheckpointScope(name, saver, outer)
            token = attach(entered.begun(self._tracing, args, kwargs))
            try:
                result = wrapped(*args, **kwargs)
            except BaseException as error:
                entered.close(error)
                raise
            finally:
                detach(token)
            _leave(entered, name, result)
            return result

        return call

    def acalling(self, name: str) -> Callable[..., Any]:
        """Return the wrapper of an async method likewise."""

        async def acall(wrapped: Any, saver: Any, args: Any, kwargs: Any) -> Any:
            outer = current_scope()
            if _is_within(saver, outer):
                return await wrapped(*args, **kwargs)
            entered = CheckpointScope(name, saver, outer)
            token = attach(entered.begun(self._tracing, args, kwargs))
            try:
                result = await wrapped(*args, **kwargs)
            except BaseException as error:
                entered.close(error)
                raise
            finally:
                detach(token)
            _leave(entered, name, result)
            return result

        return acall


def _is_within(saver: Any, scope: Scope | None) -> bool:
    """Whether this very checkpointer is at work: async may be sync, and a class may ask the one it derives from."""
    return isinstance(scope, CheckpointScope) and scope.saver is saver


def _facts(saver: Any, args: Any, kwargs: Any) -> dict[str, AttributeValue]:
    """Return what a call says of itself; the first argument is a configuration, the second what is written."""
    facts: dict[str, AttributeValue] = {SAVER: type(saver).__name__}
    with guarded("reading what a checkpointer is asked"):
        config = args[0] if args else kwargs["config"]
        named = cast("Mapping[str, Any]", config.get("configurable") or {})
        if named.get("checkpoint_id"):
            facts[CHECKPOINT] = str(named["checkpoint_id"])
        if named.get("checkpoint_ns"):
            facts[NAMESPACE] = str(named["checkpoint_ns"])
        written = args[1] if len(args) > 1 else kwargs.get("checkpoint", kwargs.get("writes"))
        if isinstance(written, Mapping):
            facts[CHECKPOINT] = str(cast("Mapping[str, Any]", written)["id"])
        elif written is not None:
            facts[CHANNELS] = ", ".join(sorted({str(channel) for channel, _ in written}))
    return facts


def _leave(entered: CheckpointScope, name: str, result: Any) -> None:
    if name == _SYNC["get_tuple"] and entered.span is not None:
        entered.span.set_attribute(FOUND, result is not None)
    entered.close()
