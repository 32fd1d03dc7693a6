"""Lets the providers that the program sets take the place of those that were built for it: two become one.

OpenTelemetry keeps the first provider for good, and under `opentelemetry-instrument` that is never the program's.
Imports nothing heavy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import _internal as logs_api
from opentelemetry.metrics import _internal as metrics_api
from opentelemetry.sdk.trace import TracerProvider

from spanrelay._guard import guarded
from spanrelay.telemetry.front import hear_of, stand_before
from spanrelay.telemetry.signals import of_sdk, signals

_log = logging.getLogger("spanrelay")


class _Global:
    """One of OpenTelemetry's three global providers, where it was built for the program.

    `within` finds the SDK's provider that another's hands on to, if there is one.
    """

    def __init__(self, what: str, module: Any, within: Callable[[Any], Any]) -> None:
        self.what = what
        self._module, self._name, self._within = module, f"_{what.upper()}_PROVIDER", within
        self._built: Any = None
        self._undo: Callable[[], None] | None = None
        self.then: Callable[[Any, Any], None] = lambda built, own: None

    def expect(self, then: Callable[[Any, Any], None]) -> None:
        """Say that the provider there is, if any, was built for the program: the first that it sets takes its place."""
        self._built, self.then = getattr(self._module, self._name), then
        if self._undo is None:
            self._undo = self.hears(self._take)

    def _take(self, provider: Any) -> bool:
        """Make `provider` the global one, or leave that to OpenTelemetry."""
        built, own = self._built, self._within(provider)
        if built is None or provider is built or getattr(self._module, self._name) is not built:
            return False
        if own is None:
            _log.warning(
                "the program's %s provider %r is not built on OpenTelemetry's SDK and cannot take the place of the "
                "one that there is; what SpanRelay records does not go through it",
                self.what,
                type(provider).__qualname__,
            )
            return False
        self._built = None
        with guarded("making one of two providers"):
            self._unite(built, own)
        setattr(self._module, self._name, provider)
        self.then(built, own)
        return True

    def join(self, built: Any) -> bool:
        """Let what is built now go behind the provider that the program has set before; False where there is none."""
        own = self._within(getattr(self._module, self._name))
        if own is None or own is built:
            return False
        with guarded("making one of two providers"):
            self._unite(built, own)
        return True

    def hears(self, instead: Callable[[Any], bool]) -> Callable[[], None]:
        """Give `instead` each provider that is set, as `hear_of` says."""
        return hear_of(self._module, f"_set_{self.what}_provider", bool, instead)

    def _unite(self, built: Any, own: Any) -> None:
        from spanrelay.telemetry import union  # few programs have a provider of their own

        if self._within(built) is built:
            getattr(union, f"unite_{self.what}s")(built, own)
        elif self.what == "tracer":
            stand_before(own)


class Succession:
    """The global providers, where they were built for the program, until it sets its own."""

    def __init__(self) -> None:
        self.taken = False
        """Whether the program has set a tracer provider of its own."""
        self.then: Callable[[Any, TracerProvider], None] = lambda built, own: None
        """Called with the tracer provider that was built and the program's, once they are one."""
        self.measured: Callable[[], None] = lambda: None
        """Called when the program has set a meter provider."""
        self._tracer = _Global("tracer", trace, sdk_provider)
        self._meter = _Global("meter", metrics_api, of_sdk)
        self._logger = _Global("logger", logs_api, of_sdk)

    def expect(self) -> None:
        """Say that the global providers were built for the program: the first that it sets take their place."""
        self._tracer.expect(self._traced)
        self._meter.expect(self._looked)
        self._logger.expect(self._looked)

    @contextmanager
    def building(self) -> Generator[None]:
        """Within the block, let a meter or logger provider that is built stand behind one that the program has set."""
        undo = [each.hears(each.join) for each in (self._meter, self._logger)]
        try:
            yield
        finally:
            for each in reversed(undo):
                each()

    def _traced(self, built: Any, own: Any) -> None:
        self.taken = True
        self.then(built, own)

    def _looked(self, built: Any, own: Any) -> None:
        signals.look()
        self.measured()


def sdk_provider(provider: Any) -> TracerProvider | None:
    """Return `provider` if it is the SDK's, else the SDK's that it hands everything on to, if there is one."""
    if isinstance(provider, TracerProvider):
        return provider
    return next((each for each in getattr(provider, "__dict__", {}).values() if isinstance(each, TracerProvider)), None)


succession = Succession()
