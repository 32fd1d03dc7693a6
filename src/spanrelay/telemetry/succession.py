"""Lets the providers that the program sets take the place of those that were built for it: two become one.

OpenTelemetry keeps the first provider for good, and under `opentelemetry-instrument` that is never the program's.
Touches private names of the SDK, as `front` does, and imports nothing heavy.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer, TracerProvider

from spanrelay._guard import guarded
from spanrelay.telemetry.front import hear_of, move_processors, stand_before

_log = logging.getLogger("spanrelay")


class Succession:
    """The global tracer provider, where it was built for the program, until the program sets one of its own."""

    def __init__(self) -> None:
        self.taken = False
        """Whether the program has set one of its own."""
        self.then: Callable[[Any, TracerProvider], None] = lambda built, own: None
        """Called with the provider that was built and the program's, once they are one."""
        self._built: Any = None
        self._undo: Callable[[], None] | None = None

    def expect(self) -> None:
        """Say that the global provider was built for the program: the first that it sets takes its place."""
        self._built = trace.get_tracer_provider()
        if self._undo is None:
            self._undo = hear_of(trace, "_set_tracer_provider", bool, self._take)

    def _take(self, provider: Any) -> bool:
        """Make `provider` the global one, or leave that to OpenTelemetry."""
        built, own = self._built, sdk_provider(provider)
        if built is None or provider is built or trace.get_tracer_provider() is not built:
            return False
        if own is None:
            _log.warning(
                "the program's tracer provider %r is not built on OpenTelemetry's SDK and cannot take the place of the "
                "one that there is; what SpanRelay records does not go through it",
                type(provider).__qualname__,
            )
            return False
        self._built, self.taken = None, True
        with guarded("making one of two tracer providers"):
            if isinstance(built, TracerProvider):
                _unite(built, own)
            else:
                stand_before(own)
        trace._TRACER_PROVIDER = provider
        self.then(built, own)
        return True


succession = Succession()


def sdk_provider(provider: Any) -> TracerProvider | None:
    """Return `provider` if it is the SDK's, else the SDK's that it hands everything on to, if there is one."""
    if isinstance(provider, TracerProvider):
        return provider
    return next((each for each in getattr(provider, "__dict__", {}).values() if isinstance(each, TracerProvider)), None)


def _unite(built: Any, own: Any) -> None:
    """Let `own` stand for both, with the processors of `built` behind its own, and what stands in front before all.

    Tracers, and spans that are open, go on with `own`'s resource, sampler, limits, ids and processors.
    """
    ours, theirs = built._active_span_processor, own._active_span_processor
    move_processors(ours, theirs)
    for scope, tracer in list(built._tracers.items()):
        twin = own.get_tracer(scope.name, scope.version, scope.schema_url, scope.attributes)
        if isinstance(twin, Tracer):
            tracer.__dict__ = twin.__dict__
    atexit.unregister(built.shutdown)
    # The very same state and no copy of it: what either is told later, both know.
    built.__dict__ = own.__dict__
    ours.__class__, ours.__dict__ = type(theirs), theirs.__dict__
