"""What a program asks of all that is recorded: to write it out, and for trajectories.

Whoever asks waits no longer than told, and never from inside what would wait for itself.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from opentelemetry import _logs, metrics

from spanrelay import config
from spanrelay.errors import TrajectoryUnavailable
from spanrelay.observation import mailbox
from spanrelay.records import JSON
from spanrelay.runtime.arguments import seconds_of
from spanrelay.runtime.recorder import Runtime, active
from spanrelay.scopes import Scope
from spanrelay.telemetry.front import open_latches
from spanrelay.telemetry.signals import of_sdk

MAX_TOLD = 10
"""Sessions that a message names."""


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
        TypeError, ValueError: `timeout` is not a number of seconds, 0 or more, or None.
    """
    seconds = seconds_of(timeout)
    if mailbox.inside.value or sys.is_finalizing():  # then no thread runs any more that could be waited for
        return False
    deadline = time.monotonic() + seconds
    flushed = [runtime.flush(max(0.0, deadline - time.monotonic())) for runtime in active()]
    flushed.append(mailbox.flush(max(0.0, deadline - time.monotonic())))
    if active():  # what has just been read is measured and told by now
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
        TypeError, ValueError: `session` is not a string, or `timeout` not a number of seconds, 0 or more.
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
        TypeError, ValueError: `session` is not a string, or `timeout` not a number of seconds, 0 or more.
        TrajectoryUnavailable: there is none, or more than one; trajectories are not recorded; or time ran out.
    """
    if session is None:  # pyright: ignore[reportUnnecessaryComparison] - programs give what another call returned
        raise TypeError("session=None names no session; spanrelay.trajectories() returns those of all")
    found = trajectories(session, timeout)
    if not found:
        known = [name for runtime in active() for name in runtime.sessions(timeout)]
        raise TrajectoryUnavailable(f"nothing has been recorded of session {session!r}; {_told_sessions(known)}")
    if len(found) > 1:
        raise TrajectoryUnavailable(
            f"session {session!r} has {len(found)} trajectories, of runs at the same time that share nothing; "
            f"spanrelay.trajectories({session!r}) returns all, scope.trajectory() that of a scope"
        )
    return found[0]


def trajectory_around(scope: Scope, timeout: float | None) -> dict[str, JSON]:
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
    seconds = seconds_of(timeout)
    open_latches()  # under the launcher recording begins with the first span
    runtimes = active()
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
