"""Builds the running whole from Settings: the composition root.

Idempotent: the same provider is never adopted twice. Observation that cannot be set up is left off, in one line.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.trace import ProxyTracerProvider

from spanrelay import config, conversation, propagation, semconv, termination, tracing
from spanrelay._exit import at_exit
from spanrelay._guard import guarded, losses
from spanrelay._voice import say
from spanrelay.config import Settings
from spanrelay.errors import TrajectoryUnavailable
from spanrelay.exporters.outbox import abandon_deliveries
from spanrelay.instrumentation.choice import choose, switch_on
from spanrelay.instrumentation.foreign import stand_down, stands_down, tells_again
from spanrelay.instrumentation.threads import carry_context_into_threads
from spanrelay.observation import mailbox
from spanrelay.observation.masking import mask_bytes
from spanrelay.pipeline.stream import abandon_all
from spanrelay.plugins import unguarded
from spanrelay.plugins.configured import install_configured
from spanrelay.plugins.demand import demand
from spanrelay.records import JSON
from spanrelay.report import last_words, report_losses
from spanrelay.scopes import Scope
from spanrelay.telemetry.front import hear_of, is_shut_down, open_latches, put_in_front, shows_no_start
from spanrelay.telemetry.metrics import CallMetrics
from spanrelay.telemetry.processor import EXIT_SECONDS, RelaySpanProcessor
from spanrelay.telemetry.sampling import RecordUnsampled
from spanrelay.telemetry.signals import of_sdk, signals
from spanrelay.telemetry.succession import sdk_provider, succession
from spanrelay.telemetry.worker import Errand, Sink, Worker

if TYPE_CHECKING:
    from spanrelay.telemetry.details import DetailsWriter

_log = logging.getLogger("spanrelay")
_lock = threading.Lock()
_runtimes: dict[int, Runtime] = {}
_announced: set[str] = set()


MAX_TOLD = 10
"""Sessions that a message names."""

LONGEST = 1e9
"""Seconds that stand for no limit: no lock waits for longer than some times that."""

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
        if _runtimes.get(id(self.provider)) is not self:
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
            _take_over(_logs.get_logger_provider())
        self._undo = put_in_front(self.processor, self.provider)
        if self._undo is None:
            _log.warning(
                "the tracer provider %r is not built like the SDK's; spans are completed before they end, "
                "and spans of other instrumentation are not sanitized",
                type(self.provider).__qualname__,
            )
            return
        self._settle()
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
        _take_over(self.provider)
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
        return self.provider.force_flush(max(1, int(_seconds(timeout) * 1000)))

    def trajectories(
        self, session: str | None = None, *, span: tuple[int, int] | None = None, timeout: float | None = 30.0
    ) -> list[dict[str, JSON]]:
        """Return the trajectories of a session, or of a span, given its trace and its own id; else of all there are.

        An empty list where there is none. `spanrelay.trajectories` does so for all providers.

        Raises:
            TypeError, ValueError: as `spanrelay.trajectories` does.
            TrajectoryUnavailable: trajectories are not recorded, or could not be read in time.
        """
        seconds = _seconds(timeout)
        _check_session(session)
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
        seconds = _seconds(timeout)
        if self.worker is None:
            return []
        return self.worker.send(Errand(lambda sink: sink.sessions(), list[str](), list[str]())).wait(seconds)

    def shutdown(self) -> None:
        """Finish trajectories and export, and step aside. Policy stays in force."""
        self.provider.shutdown()
        self.deactivate()

    def deactivate(self) -> None:
        """Step aside without finishing the provider."""
        if _runtimes.get(id(self.provider)) is self:
            signals.uncover()
        if self._undo is not None:
            self._undo()
            self._undo = None
            _give_back(self.provider)
        if self._let_foreign_spans_back is not None:
            self._let_foreign_spans_back()
            self._let_foreign_spans_back = None
        if self.worker is not None:
            self.worker.shutdown(EXIT_SECONDS)
        if self.settings.events_have_content:
            _give_back(_logs.get_logger_provider())
        conversation.forget()
        tracing.abandon(self.provider)
        tracing.forget_provider(self.provider)
        tracing.recording.unrecorded = tracing.recording.tells_again = tracing.recording.stands_down = None
        tracing.write_by(Settings().semconv)
        _runtimes.pop(id(self.provider), None)


def activate(
    settings: Settings | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    instrument: bool | Collection[str] = True,
) -> Runtime | None:
    """Record the calls of this process: adopt the SDK's tracer provider, whoever built it, or build one.

    Every installed instrumentor of ours is switched on, for SDKs that are imported already and for those that will be.

    Args:
        settings: What to record and where; by default read from the environment.
        tracer_provider: The provider to adopt, which records from now on whatever was given no provider of its own:
            scopes, managed calls, instrumentors. By default the one that was named before, else the global one.
        instrument: The instrumentors to switch on: True for all that are installed, names as `["openai"]`, or False.
            Where a configuration file has put policy in force it is all, so that no SDK escapes it.

    Returns:
        The runtime, or None where recording is off (`OTEL_SDK_DISABLED`) or there is no SDK provider to adopt.

    Raises:
        TypeError: `settings` are no `Settings`, or `instrument` is neither a bool nor names.
        ConfigurationError: a variable of the environment is not valid, a configuration file cannot be put in force,
            or no instrumentor of a name is installed; the message names it.
    """
    if settings is not None and not isinstance(settings, Settings):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass dicts
        raise TypeError(
            f"activate() takes a spanrelay.Settings, not a {type(settings).__name__!r}: "
            "activate(Settings(content='spans'))"
        )
    chosen = choose(instrument)
    given = settings
    if settings is None:
        config.warn_of_unknown_names()
        settings = config.load_strictly()
        if not termination.is_worker():
            config.tell_that_nothing_is_recorded(settings)
    _hold_policy(settings)
    provider = tracer_provider or tracing.named_provider()
    runtime = adopt(settings, provider)
    if runtime is not None and tracer_provider is not None:
        tracing.name_provider(tracer_provider)
    switch_on(chosen)  # whether anything is recorded or not: policy from code needs them too
    if given is not None:
        _warn_of_differences(settings, _runtimes.get(id(sdk_provider(provider or trace.get_tracer_provider()))))
    return runtime


def _hold_policy(settings: Settings) -> None:
    install_configured(settings.config_file)
    if demand.policy:
        from spanrelay.plugins.coverage import cover  # looks through what is installed

        cover()
    elif not (settings.disabled or settings.quiet):
        unguarded.watch()


def _warn_of_differences(settings: Settings, runtime: Runtime | None) -> None:
    """Say which of `settings` are not used because what is active was activated with others."""
    used = settings if runtime is None else runtime.settings
    names = [field.name for field in fields(used) if getattr(used, field.name) != getattr(settings, field.name)]
    if names:
        _log.warning(
            "SpanRelay is already active with other settings, which stay in force; ignored: %s", ", ".join(names)
        )


def adopt(settings: Settings, tracer_provider: TracerProvider | None = None) -> Runtime | None:
    """Do what `activate` says, but in silence where something is active already, with whatever settings."""
    install_configured(settings.config_file)  # recording may be off; policy never is
    tracing.recording.trajectory = _trajectory_around
    if settings.disabled:
        return None
    carrier = config.trace_of_environment()
    if carrier:
        propagation.join(carrier)
    with _lock:
        given = tracer_provider or _global_provider()
        provider = sdk_provider(given)
        if provider is None:
            _log.warning(
                "the tracer provider %r is not the SDK's; "
                "it is given the spans of calls, and no trajectories are written",
                type(given).__qualname__,
            )
            return None
        if id(provider) not in _runtimes:
            if is_shut_down(provider):
                _log.warning(
                    "the tracer provider %r was shut down before activate(): its spans are not exported; make another",
                    type(provider).__qualname__,
                )
            begin(provider, settings)
            _at_exit()
            if settings.sigterm != "off":
                termination.spare()
            if settings.sigterm == "on" and not termination.handle():
                _log.warning("SIGTERM is not handled: activate() was not called on the main thread")
            carry_context_into_threads()
        _face(given, _runtimes[id(provider)])
        return _runtimes[id(provider)]


def begin(provider: TracerProvider, settings: Settings) -> Runtime:
    """Record what `provider` makes spans of, and do nothing else of what `activate` does for the process."""
    runtime = Runtime(provider, settings)
    tracing.recording.trajectory = _trajectory_around
    _runtimes[id(provider)] = runtime
    runtime.start()
    return runtime


def active() -> list[Runtime]:
    """Return what has been activated and not ended, the first first."""
    return list(_runtimes.values())


def _face(provider: trace.TracerProvider, runtime: Runtime) -> None:
    """Know `provider`, another's, for one that hands on to the SDK's, also to others than now (Logfire's does)."""
    if provider is not runtime.provider and not tracing.is_adopted(provider):
        tracing.adopt(provider)
        hear_of(provider, "set_provider", lambda: _follow(provider, runtime.settings))


def _follow(provider: trace.TracerProvider, settings: Settings) -> None:
    if id(sdk_provider(provider)) in _runtimes:
        return
    for runtime in list(_runtimes.values()):
        if runtime.processor.closed:
            runtime.deactivate()
    tracing.turn_all()
    adopt(settings, cast("TracerProvider", provider))


def _succeed(built: object, own: TracerProvider) -> None:
    """Go on with `own`, which the program has set and which has become one with what was built for it."""
    with _lock:
        runtime = _runtimes.pop(id(built), None)
        if runtime is not None and id(own) not in _runtimes:
            _runtimes[id(own)] = runtime
            runtime.move(own)
        elif runtime is not None and runtime.worker is not None:
            runtime.worker.shutdown(EXIT_SECONDS)  # `own` has a runtime already
        if id(own) in _runtimes:
            _face(trace.get_tracer_provider(), _runtimes[id(own)])
    tracing.turn_all()


def _measure() -> None:
    """Measure calls from now on, where the program has set a meter provider that somebody reads."""
    with _lock:
        for worker in [runtime.worker for runtime in _runtimes.values() if runtime.settings.metrics]:
            if worker is not None and worker.measure is None and _metrics_are_recorded():
                worker.measure = CallMetrics().record


succession.then = _succeed
succession.measured = _measure


def _global_provider() -> trace.TracerProvider:
    provider = trace.get_tracer_provider()
    if isinstance(provider, ProxyTracerProvider):
        build_sdk()
        succession.expect()
        provider = trace.get_tracer_provider()
    return provider


def build_sdk() -> None:
    """Build the SDK's providers from the environment, as `opentelemetry-instrument` would.

    Raises:
        ConfigurationError: a variable of OpenTelemetry's is not valid; the message names it.
    """
    from spanrelay.sdk import SpanRelayConfigurator  # imports the SDK's configurator, which is not small

    SpanRelayConfigurator().configure_strictly()


def _worker(settings: Settings, announce: Callable[[], None]) -> Worker | None:
    measure = CallMetrics(convention=settings.semconv).record if settings.metrics and _metrics_are_recorded() else None
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


def _metrics_are_recorded() -> bool:
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


def _take_over(provider: object) -> None:
    """Leave a provider's end to `finish`: left to itself it ends before handlers of the program that make spans."""
    for name in ("_atexit_handler", "_at_exit_handler"):  # the second is a logger provider's
        handler = getattr(provider, name, None)
        if handler is not None:
            atexit.unregister(handler)


def _give_back(provider: object) -> None:
    for name in ("_atexit_handler", "_at_exit_handler"):
        handler = getattr(provider, name, None)
        if handler is not None:  # it has not ended yet
            atexit.register(handler)


_exit_registered = False


def _at_exit() -> None:
    global _exit_registered
    if not _exit_registered:
        _exit_registered = True
        at_exit(finish)
        _take_over(metrics.get_meter_provider())
        termination.does(finish, lambda: flush(termination.SECONDS), _waits)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_end_with_multiprocessing)
        if "--multiprocessing-fork" not in sys.orig_argv:  # a child that is spawned ends as other programs do
            _end_with_multiprocessing()


def _waits() -> bool:
    """Whether this process has recorded anything itself, and it is not finished yet."""
    return not last_words.said and any(runtime.recorded for runtime in list(_runtimes.values()))


_kept_in_children = False


def _end_with_multiprocessing() -> None:
    """Finish when multiprocessing ends a child that it forked: that is by `os._exit`, and `atexit` never runs."""
    global _kept_in_children
    util: Any = sys.modules.get("multiprocessing.util")
    if util is None:
        return
    _end_last(util)
    if not _kept_in_children:
        _kept_in_children = True
        util.register_after_fork(util, _end_last)  # a child begins by forgetting the finalizers there are


def _end_last(util: Any) -> None:
    util.Finalize(None, _finish_child, exitpriority=-1000)


def _finish_child() -> None:
    if termination.is_worker():  # known only now: a fork server imports the program before it says so
        finish()


def finish() -> None:
    """Finish every provider, then say what was lost, if anything was. Runs at exit."""
    with termination.finishing():
        with guarded("saying what was used and not recorded"):
            unguarded.report()
        try:
            _finish_all()
        except BaseException as error:
            _give_up()
            if not isinstance(error, KeyboardInterrupt):  # which asks for the end that this is
                raise
        finally:
            with last_words.lock:
                last_words.said = True
            report_losses()
            losses.tell_late(_tell_late)


def _finish_all() -> None:
    with guarded("ending streams at exit"):
        abandon_all()
    runtimes = list(_runtimes.values())
    for runtime in runtimes:
        with guarded("finishing at exit"):
            runtime.provider.shutdown()
    # Left to itself the meter provider would end after the report, and its last collection be lost unsaid.
    end_metrics = getattr(metrics.get_meter_provider(), "_atexit_handler", None)
    if end_metrics is not None:
        with guarded("finishing metrics at exit"):
            end_metrics()
    if any(runtime.settings.events_have_content for runtime in runtimes):
        end_logs = getattr(_logs.get_logger_provider(), "_at_exit_handler", None)
        if end_logs is not None:
            with guarded("finishing events of calls at exit"):
                end_logs()
    for settings in {runtime.settings for runtime in _runtimes.values()}:
        termination.finish_children(settings)


def _tell_late(reason: str) -> None:
    say(f"lost or left out after the end of recording: {reason}")


def _give_up() -> None:
    """Count what waits as lost: whoever interrupts the end does not wait for it."""
    abandon_deliveries()
    for runtime in list(_runtimes.values()):
        if runtime.worker is not None:
            with guarded("finishing at exit"):
                runtime.worker.shutdown(0.0)


def _seconds(timeout: object) -> float:
    """Return a time limit that a program gives as one that can be waited for; None is none.

    Raises:
        TypeError, ValueError: it is no number of seconds.
    """
    if timeout is None:
        return LONGEST
    asked = f"timeout={timeout!r} must be seconds, 0 or more, or None to wait as long as it takes"
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
        raise TypeError(asked)
    if not timeout >= 0:  # what is no number is not either
        raise ValueError(asked)
    return min(timeout, LONGEST)


def _check_session(session: object) -> None:
    if isinstance(session, Scope):
        raise TypeError(
            f"scope {session.name!r} is not the name of a session: ask it, with scope.trajectory(), or name its session"
        )
    if session is not None and not isinstance(session, str):
        raise TypeError(f"session={session!r} must be the name of a session, as in scope(session='ticket-42')")


def flush(timeout: float | None = 30.0) -> bool:
    """Write out what has been recorded so far: export spans, tell subscribers, bring trajectories up to date on disk.

    Then the global meter and logger providers, where they are the SDK's, export what was measured and logged.
    `force_flush` of a tracer provider that is recorded does what is said first for that provider.

    Args:
        timeout: Seconds that it may take at most, or None. While it waits, so does the caller: in async code,
            `await asyncio.to_thread(spanrelay.flush)`.

    Returns:
        False where something could not be written or sent, or not in time; and at once from inside a subscriber, a
        sanitizer or a metadata injector, which would wait for itself.

    Raises:
        TypeError, ValueError: `timeout` is no number of seconds.
    """
    seconds = _seconds(timeout)
    if mailbox.inside.value or sys.is_finalizing():  # then no thread runs any more that could be waited for
        return False
    deadline = time.monotonic() + seconds
    flushed = [runtime.flush(max(0.0, deadline - time.monotonic())) for runtime in list(_runtimes.values())]
    flushed.append(mailbox.flush(max(0.0, deadline - time.monotonic())))
    if _runtimes:  # what has just been read is measured and told by now
        flushed += [
            _flush_beside(each, deadline) for each in (metrics.get_meter_provider(), _logs.get_logger_provider())
        ]
    return all(flushed)


def _flush_beside(provider: object, deadline: float) -> bool:
    """Let a provider of metrics or logs export, on a thread of its own: exporters may take longer than told."""
    force_flush = getattr(of_sdk(provider), "force_flush", None)
    if force_flush is None:
        return True
    done: list[bool] = []

    def work() -> None:
        with suppress(Exception):  # of the program's exporter, of which the SDK has said more in its log
            done.append(force_flush(max(1, int((deadline - time.monotonic()) * 1000))) is not False)

    thread = threading.Thread(target=work, name="spanrelay-flush", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter ends, and starts no threads any more
        work()
        return done == [True]
    thread.join(max(0.0, deadline - time.monotonic()))
    return done == [True]


def trajectories(session: str | None = None, timeout: float | None = 30.0) -> list[dict[str, JSON]]:
    """Return the trajectories that this process has recorded so far, each an ATIF document as it would be in its file.

    Args:
        session: That of `scope(session=…)`, or the `session_id` of a document; by default all.
        timeout: Seconds to wait, at most, for what has ended already to be read; None waits as long as it takes.

    Raises:
        TypeError, ValueError: an argument is none of these.
        TrajectoryUnavailable: trajectories are not recorded, or could not be read in time.
    """
    return _gather(lambda runtime, left: runtime.trajectories(session, timeout=left), timeout)


def trajectory(session: str, timeout: float | None = 30.0) -> dict[str, JSON]:
    """Return the trajectory of a session that this process has recorded, so far: the ATIF document, as in its file.

    It is the caller's own to change. What waits to be read is read first, on another thread, while the caller waits:
    in async code, `await asyncio.to_thread(spanrelay.trajectory, session)`.

    Args:
        session: That of `scope(session=…)`, or the `session_id` of a document.
        timeout: Seconds to wait, at most, for what has ended already to be read; None waits as long as it takes.

    Raises:
        TypeError, ValueError: an argument is none of these.
        TrajectoryUnavailable: there is none, or more than one; trajectories are not recorded; or time ran out.
    """
    if session is None:  # pyright: ignore[reportUnnecessaryComparison] - programs give what another call returned
        raise TypeError("session=None names no session; spanrelay.trajectories() returns those of all")
    found = trajectories(session, timeout)
    if not found:
        known = [name for runtime in list(_runtimes.values()) for name in runtime.sessions(timeout)]
        raise TrajectoryUnavailable(f"nothing has been recorded of session {session!r}; {_told_sessions(known)}")
    if len(found) > 1:
        raise TrajectoryUnavailable(
            f"session {session!r} has {len(found)} trajectories, of runs at the same time that share nothing; "
            f"spanrelay.trajectories({session!r}) returns all, scope.trajectory() that of a scope"
        )
    return found[0]


def _trajectory_around(scope: Scope, timeout: float | None) -> dict[str, JSON]:
    """Return the trajectory that a scope is told of in; see `Scope.trajectory`."""
    if scope.span is None:
        raise TrajectoryUnavailable(f"scope {scope.name!r} has no trajectory: it has not been entered")
    context, session = scope.span.get_span_context(), scope.record.session_id
    place = (context.trace_id, context.span_id)
    found = _gather(lambda runtime, left: runtime.trajectories(session, span=place, timeout=left), timeout)
    if found:
        return found[0]
    raise TrajectoryUnavailable(
        f"nothing has been recorded of scope {scope.name!r} yet: "
        + (
            "no model has answered and no tool has run in it"
            if context.trace_flags.sampled
            else f"it is not sampled; {config.variable_of('trajectories')}=all records what is not"
        )
    )


def _gather(ask: Callable[[Runtime, float], list[dict[str, JSON]]], timeout: float | None) -> list[dict[str, JSON]]:
    seconds = _seconds(timeout)
    open_latches()  # under the launcher recording begins with the first span
    runtimes = list(_runtimes.values())
    if not runtimes:
        disabled = f"{config.variable_of('disabled')} is true" if config.load()[0].disabled else ""
        raise TrajectoryUnavailable(f"no trajectories are recorded: {disabled or 'call spanrelay.activate() first'}")
    deadline = time.monotonic() + seconds
    found: list[dict[str, JSON]] = []
    refusals: list[TrajectoryUnavailable] = []
    for runtime in runtimes:
        try:
            found += ask(runtime, max(0.0, deadline - time.monotonic()))
        except TrajectoryUnavailable as refusal:
            refusals.append(refusal)
    if refusals and not found:
        raise refusals[0]
    return found


def _told_sessions(known: list[str]) -> str:
    if not known:
        return "nor of any other: a trajectory begins with the first answer of a model, or run of a tool"
    latest = ", ".join(map(repr, reversed(known[-MAX_TOLD:])))
    more = f" and {len(known) - MAX_TOLD} before" if len(known) > MAX_TOLD else ""
    return f"there are {latest}{more}"
