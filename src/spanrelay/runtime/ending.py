"""The end of the process: every provider is finished, and what was lost is said last, however the process ends."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from opentelemetry import _logs, metrics

from spanrelay import termination
from spanrelay._exit import at_exit
from spanrelay._guard import guarded, losses
from spanrelay._voice import say
from spanrelay.exporters.outbox import abandon_deliveries
from spanrelay.pipeline.stream import abandon_all
from spanrelay.plugins import unguarded
from spanrelay.report import last_words, report_losses
from spanrelay.runtime.asking import flush
from spanrelay.runtime.recorder import active, take_over
from spanrelay.telemetry.processor import EXIT_SECONDS

_exit_registered = False


def finish_at_exit() -> None:
    """See to it, once in a process, that `finish` runs however the process ends."""
    global _exit_registered
    if not _exit_registered:
        _exit_registered = True
        at_exit(finish)
        take_over(metrics.get_meter_provider())
        termination.does(finish, lambda: flush(termination.SECONDS), _waits)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_end_with_multiprocessing)
        if "--multiprocessing-fork" not in sys.orig_argv:  # a child that is spawned ends as other programs do
            _end_with_multiprocessing()


def _waits() -> bool:
    """Whether this process has recorded anything itself, and it is not finished yet."""
    return not last_words.said and any(runtime.recorded for runtime in active())


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
    runtimes = active()
    end = time.monotonic() + EXIT_SECONDS
    for runtime in runtimes:  # all write at the same time, on a disk that may hang for each of them
        runtime.processor.close(end)
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
    termination.finish_children(*{runtime.settings for runtime in active()})


def _tell_late(reason: str) -> None:
    say(f"lost or left out after the end of recording: {reason}")


def _give_up() -> None:
    """Count what waits as lost: whoever interrupts the end does not wait for it."""
    abandon_deliveries()
    for runtime in active():
        if runtime.worker is not None:
            with guarded("finishing at exit"):
                runtime.worker.shutdown(0.0)
