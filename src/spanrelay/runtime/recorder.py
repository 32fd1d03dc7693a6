"""What records one tracer provider: its worker and its processor, what they change for it and give back.

Activation begins it and the end of the process finishes its provider; nothing here decides when.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry import _logs, metrics
from opentelemetry.sdk.trace import SpanLimits, TracerProvider

from spanrelay import config, conversation, semconv, termination, tracing
from spanrelay._guard import guarded
from spanrelay._masking import mask_bytes
from spanrelay._voice import say
from spanrelay.config import Settings
from spanrelay.errors import TrajectoryUnavailable
from spanrelay.instrumentation.foreign import stand_down, stands_down, tells_again
from spanrelay.observation import mailbox
from spanrelay.records import JSON
from spanrelay.report import last_words
from spanrelay.runtime.arguments import check_session, seconds_of
from spanrelay.telemetry.front import put_in_front, shows_no_start
from spanrelay.telemetry.metrics import CallMetrics
from spanrelay.telemetry.overheard import overheard
from spanrelay.telemetry.processor import EXIT_SECONDS, RelaySpanProcessor
from spanrelay.telemetry.sampling import RecordUnsampled
from spanrelay.telemetry.signals import of_sdk, signals
from spanrelay.telemetry.succession import succession
from spanrelay.telemetry.worker import Errand, Sink, Worker

if TYPE_CHECKING:
    from spanrelay.telemetry.details import DetailsWriter

_log = logging.getLogger("spanrelay")
_announced: set[str] = set()

runtimes: dict[int, Runtime] = {}
"""What is active, by the ids of its providers."""

MAX_ATTRIBUTES = 10_000
"""OpenInference spreads a conversation over attributes; the SDK's default of 128 evicts its beginning."""


class Runtime:
    """What `activate()` built around one tracer provider."""

    def __init__(self, provider: TracerProvider, settings: Settings) -> None:
        self.provider = provider
        self.settings = settings
        self.worker = _worker(settings, self._announce)
        self.processor = RelaySpanProcessor(
            self.worker,
            dialect=semconv.written_as(settings.dialect, settings.semconv),
            content=settings.spans_have_content,
            pending_limit=settings.pending_bytes,
            told_content=settings.content != "off",
        )
        self._undo: Callable[[], None] | None = None
        self._let_foreign_spans_back: Callable[[], None] | None = None

    def __repr__(self) -> str:
        """What is recorded and where it goes: a notebook shows this beneath a cell that ends with `activate()`."""
        if runtimes.get(id(self.provider)) is not self:
            return "<SpanRelay, not recording>"
        return f"<SpanRelay: {'; '.join([self._trajectories_go(), *self._spans_go()])}>"

    def _trajectories_go(self) -> str:
        if "off" in (self.settings.trajectories, self.settings.content):
            return "no trajectories"
        if self.settings.trajectories == "memory":
            return "trajectories stay in memory: spanrelay.trajectories()"
        return f"trajectories, with message content, are written to {self.settings.trajectory_directory}"

    def _spans_go(self) -> list[str]:
        content = "with message content" if self.settings.spans_have_content else "without message content"
        return [f"spans go to {to} {content}" for to in self._destinations()]

    def start(self) -> None:
        """Stand in front of the provider's span processors."""
        tracing.recording.dialect = self.processor.dialect
        tracing.write_by(self.settings.semconv)
        tracing.recording.content = self.settings.spans_have_content
        tracing.recording.propagate = self.settings.propagate
        tracing.recording.chains, tracing.recording.checkpoints = self.settings.chains, self.settings.checkpoints
        signals.cover()
        if self.settings.events_have_content:
            take_over(_logs.get_logger_provider())
        self._undo = put_in_front(self.processor, self.provider)
        if self._undo is None:
            _log.warning(
                "the tracer provider %r is not built like the SDK's; spans are completed before they end, "
                "and spans of other instrumentation are not sanitized",
                type(self.provider).__qualname__,
            )
            return
        self._settle()
        if self.settings.content != "off":
            overheard.listeners.add(self.processor)
        if self.settings.foreign_spans == "keep":
            tracing.recording.tells_again = tells_again
        if self.worker is not None and self.settings.metrics:
            tracing.recording.unrecorded = _unrecorded(self.worker)

    def move(self, provider: TracerProvider) -> None:
        """Go on with `provider`, which has become one with the provider so far."""
        self.provider = provider
        if self._let_foreign_spans_back is not None:
            self._let_foreign_spans_back()
        self._settle()

    def _settle(self) -> None:
        tracing.adopt(self.provider)
        tracing.recording.fills = shows_no_start
        take_over(self.provider)
        _raise_limits(self.provider)
        for exporter in self._exporters():
            if getattr(exporter, "follows_settings", False):
                exporter.history = self.settings.history
        if self.settings.foreign_spans == "stand_down":
            self._let_foreign_spans_back = stand_down(self.provider)
            if self.settings.events_have_content:
                tracing.recording.stands_down = stands_down
        if self.settings.trajectories == "all":
            _record_everything(self.provider)
        if succession.taken and not (self.settings.quiet or termination.is_worker()):
            self._tell_of_succession()

    def _tell_of_succession(self) -> None:
        """Say once in a process whose provider records."""
        succession.taken = False
        also = "".join(f", and to {to}" for to in self._destinations())
        say(
            "the program has set a tracer provider of its own: spans have its resource and sampler, and go "
            f"to its exporters{also}"
        )

    def _destinations(self) -> list[str]:
        return [to for each in self._exporters() if (to := getattr(each, "destination", None))]

    def _exporters(self) -> list[Any]:
        return [getattr(processor, "span_exporter", None) for processor in self.processor.behind]

    def _announce(self) -> None:
        """Say once in a process, of each folder in which there is something to find, where it is."""
        folder = self.settings.trajectory_directory
        if self.settings.quiet or folder in _announced:
            return
        _announced.add(folder)
        if termination.is_worker() and len(list(Path(folder).glob("*.json"))) > 1:
            return  # one of a pool is enough
        with guarded("saying where trajectories are"), last_words.lock:
            if not last_words.said:  # what was lost is, and nobody looks for more behind that
                say("; ".join([self._trajectories_go(), *self._spans_go()]))

    @property
    def recorded(self) -> bool:
        """Whether this process has recorded anything here: a child that was forked begins anew."""
        return self.worker.begun if self.worker is not None else self.processor.used_by == os.getpid()

    def flush(self, timeout: float | None = 30.0) -> bool:
        """Do for this provider what `spanrelay.flush` does for all."""
        return self.provider.force_flush(max(1, int(seconds_of(timeout) * 1000)))

    def trajectories(
        self, session: str | None = None, *, span: tuple[int, int] | None = None, timeout: float | None = 30.0
    ) -> list[dict[str, JSON]]:
        """Return the trajectories of a session, or of a span, given its trace and its own id; else of all there are.

        An empty list where there is none. `spanrelay.trajectories` does so for all providers.

        Raises:
            TypeError, ValueError: as `spanrelay.trajectories` does.
            TrajectoryUnavailable: trajectories are not recorded, or could not be read in time.
        """
        seconds = seconds_of(timeout)
        check_session(session)
        self._check_recorded()
        assert self.worker is not None
        if mailbox.inside.record:
            raise TrajectoryUnavailable(
                "trajectories could not be read: a sanitizer or metadata injector would wait for itself"
            )
        read = Errand(lambda sink: sink.documents(session, span), list[dict[str, JSON]](), None)
        found = self.worker.send(read).wait(seconds)
        if found is None:
            why = read.fault or f"within {seconds:g} s; allow more with timeout=…"
            raise TrajectoryUnavailable(f"trajectories could not be read {why}")
        return found

    def _check_recorded(self) -> None:
        for row, value in (("trajectories", self.settings.trajectories), ("content", self.settings.content)):
            if value == "off":
                raise TrajectoryUnavailable(f"no trajectories are recorded: {config.variable_of(row)} is {value!r}")

    def sessions(self, timeout: float | None = 30.0) -> list[str]:
        """Return the sessions that there are trajectories of, the latest last; where none is known the trace's id."""
        seconds = seconds_of(timeout)
        if self.worker is None:
            return []
        return self.worker.send(Errand(lambda sink: sink.sessions(), list[str](), list[str]())).wait(seconds)

    def shutdown(self) -> None:
        """Finish trajectories and export, and step aside. Policy stays in force."""
        self.provider.shutdown()
        self.deactivate()

    def deactivate(self) -> None:
        """Step aside without finishing the provider."""
        if runtimes.get(id(self.provider)) is self:
            signals.uncover()
        if self._undo is not None:
            self._undo()
            self._undo = None
            give_back(self.provider)
        if self._let_foreign_spans_back is not None:
            self._let_foreign_spans_back()
            self._let_foreign_spans_back = None
        if self.worker is not None:
            self.worker.shutdown(EXIT_SECONDS)
        if self.settings.events_have_content:
            give_back(_logs.get_logger_provider())
        conversation.forget()
        tracing.abandon(self.provider)
        tracing.forget_provider(self.provider)
        tracing.recording.unrecorded = tracing.recording.tells_again = tracing.recording.stands_down = None
        tracing.write_by(Settings().semconv)
        runtimes.pop(id(self.provider), None)


def active() -> list[Runtime]:
    """Return what has been activated and not ended, the first first."""
    return list(runtimes.values())


def _worker(settings: Settings, announce: Callable[[], None]) -> Worker | None:
    measure = CallMetrics(convention=settings.semconv).record if settings.metrics and metrics_are_recorded() else None
    tell = _details_writer(settings).write if settings.events_have_content else None
    if settings.trajectories == "off" or settings.content == "off":
        if measure is None and tell is None:
            return None
        return Worker(lambda: None, measure, tell=tell, pending_limit=settings.pending_bytes)
    # Here and not on the worker's thread: a fork in the middle of an import would leave the child half of it.
    from spanrelay.assembly.exporter import TrajectoryKeeper, TrajectoryWriter
    from spanrelay.assembly.sinks import recover

    def sink() -> Sink:
        if settings.trajectories == "memory":
            return TrajectoryKeeper(settings.trajectory_bytes, mask_bytes, settings.atif_version)
        with guarded("finishing trajectories of processes that were killed"):
            recover(Path(settings.trajectory_directory))
        return TrajectoryWriter(
            settings.trajectory_directory,
            max_bytes=settings.trajectory_bytes,
            mask=mask_bytes,
            on_first=announce,
            version=settings.atif_version,
            name=settings.trajectory_name,
        )

    return Worker(
        sink,
        measure,
        tell=tell,
        unsampled=settings.trajectories == "all",
        sync=settings.trajectory_sync,
        pending_limit=settings.pending_bytes,
    )


def _details_writer(settings: Settings) -> DetailsWriter:
    from spanrelay.telemetry.details import DetailsWriter  # imports the SDK's logs

    return DetailsWriter(settings.semconv)


def metrics_are_recorded() -> bool:
    """Whether anybody reads the meter provider: measuring for nobody is not free."""
    return bool(getattr(of_sdk(metrics.get_meter_provider()), "_metric_readers", ()))


def _raise_limits(provider: TracerProvider) -> None:
    limits: SpanLimits | None = getattr(provider, "_span_limits", None)
    if limits is None or config.limits_are_set():
        return
    default = SpanLimits()
    for name in ("max_attributes", "max_span_attributes", "max_event_attributes", "max_link_attributes"):
        if getattr(limits, name, None) == getattr(default, name):
            setattr(limits, name, MAX_ATTRIBUTES)


def _record_everything(provider: TracerProvider) -> None:
    sampler = RecordUnsampled(provider.sampler)
    provider.sampler = sampler
    for tracer in list(provider._tracers.values()):
        tracer.sampler = sampler


def _unrecorded(worker: Worker) -> Callable[[tracing.Recorded], None]:
    def count(recorded: tracing.Recorded) -> None:
        recorded.record.start, recorded.record.end = 0, recorded.elapsed()
        worker.unrecorded(recorded)

    return count


def take_over(provider: object) -> None:
    """Leave a provider's end to `finish`: left to itself it ends before handlers of the program that make spans."""
    for name in ("_atexit_handler", "_at_exit_handler"):  # the second is a logger provider's
        handler = getattr(provider, name, None)
        if handler is not None:
            atexit.unregister(handler)


def give_back(provider: object) -> None:
    """Let a provider end by itself again, which `take_over` had kept from it."""
    for name in ("_atexit_handler", "_at_exit_handler"):
        handler = getattr(provider, name, None)
        if handler is not None:  # it has not ended yet
            atexit.register(handler)
