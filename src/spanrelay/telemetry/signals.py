"""Stands in front of what the process logs and measures: the global providers, those of now and those set later.

Imports nothing of the SDK before there is a provider of it: a program that neither logs nor measures pays nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from opentelemetry import _logs, metrics
from opentelemetry._logs import _internal as logs_api
from opentelemetry.metrics import _internal as metrics_api

from spanrelay._guard import guarded
from spanrelay.telemetry.front import hear_of, is_of_sdk, put_in_front_of_logs, put_in_front_of_metrics


class Signals:
    """The logger and the meter provider of the process."""

    def __init__(self) -> None:
        self.free()
        self._covers = 0
        self._undo: list[Callable[[], None]] = []
        self._known: set[int] = set()

    def free(self) -> None:
        """Take a lock that nobody holds: a forked child has none of its parent's threads."""
        self._lock = threading.Lock()

    def cover(self) -> None:
        """Stand in front of both, until `uncover` has been called as often."""
        with self._lock:
            self._covers += 1
            if self._covers == 1:
                self._undo += [
                    hear_of(logs_api, "_set_logger_provider", self.look),
                    hear_of(metrics_api, "_set_meter_provider", self.look),
                ]
        self.look()

    def uncover(self) -> None:
        """Step aside when nobody needs this any more."""
        with self._lock:
            self._covers -= 1
            if self._covers:
                return
            undo, self._undo = self._undo, []
            self._known.clear()
        for each in reversed(undo):
            each()

    def look(self) -> None:
        """Stand in front of providers that have come since, where somebody needs that."""
        if not self._covers:
            return
        with guarded("wrapping log and metric exporters"), self._lock:
            self._stand(_logs.get_logger_provider(), _logs_front)
            self._stand(metrics.get_meter_provider(), _metrics_front)

    def _stand(self, given: Any, put: Callable[[Any], Callable[[], None] | None]) -> None:
        provider = of_sdk(given)
        if provider is not None and id(provider) not in self._known:
            undo = put(provider)
            if undo is not None:
                self._known.add(id(provider))
                self._undo.append(undo)


def of_sdk(provider: Any) -> Any:
    """Return a logger or meter provider if it is the SDK's, else the SDK's that it hands on to; None without one."""
    if is_of_sdk(provider):
        return provider
    return next((each for each in getattr(provider, "__dict__", {}).values() if is_of_sdk(each)), None)


def _logs_front(provider: Any) -> Callable[[], None] | None:
    from spanrelay.telemetry.logs import RelayLogProcessor  # imports the SDK's logs

    return put_in_front_of_logs(RelayLogProcessor(), provider)


def _metrics_front(provider: Any) -> Callable[[], None] | None:
    from spanrelay.telemetry.measurements import hide, shown  # imports the SDK's metrics

    return put_in_front_of_metrics(hide, shown, provider)


signals = Signals()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=signals.free)
