"""A program in the foreground: its terminal and its signals are its own, and so is how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from spanrelay.errors import SpanRelayError


def run_to_end(
    command: Sequence[str], environment: Mapping[str, str], started: Callable[[subprocess.Popen[bytes]], object]
) -> int:
    """Run a program to its end, with what the terminal sends; returns what `Popen.returncode` says.

    Args:
        command: The program's file and its arguments.
        environment: All of what it gets.
        started: Is called once it runs.

    Raises:
        SpanRelayError: it cannot be started.
    """
    with _signals_to() as pass_to:
        try:
            process = subprocess.Popen(command, env=dict(environment))
        except OSError as error:
            raise SpanRelayError(f"{command[0]!r} cannot be started: {error.strerror or error}") from error
        pass_to(process)
        started(process)
        return process.wait()


@contextmanager
def _signals_to() -> Generator[Callable[[subprocess.Popen[bytes]], None]]:
    """Let the program, and not this process, do what signals ask.

    What the terminal sends reaches both; what is sent to this process alone is passed on.
    """
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        if started:
            started[0].send_signal(number)
        else:
            early.append(number)

    def leave(number: int, frame: object) -> None:
        """Do nothing; a handler is not handed down to the program, as being ignored would be."""

    handlers: dict[str, Callable[[int, object], None]] = {
        "SIGINT": leave,
        "SIGQUIT": leave,
        "SIGTERM": pass_on,
        "SIGHUP": pass_on,
    }
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name, handler in handlers.items():
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)

    def pass_to(process: subprocess.Popen[bytes]) -> None:
        started.append(process)
        for number in early:
            process.send_signal(number)

    try:
        yield pass_to
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a program and all that it has started: some are begun by another program, which passes no signals on."""
    if sys.platform == "win32":
        process.terminate()
        return
    for pid in (process.pid, *_descendants(process.pid)):  # itself first: it would end by itself where its child does
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)


def _descendants(pid: int) -> list[int]:
    """Return the processes that one has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for each, parent in _parents():
        children.setdefault(parent, []).append(each)
    found, left = list[int](), [pid]
    while left:
        new = children.get(left.pop(), [])
        found += new
        left += new
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """Yield the processes of this machine, each with the one that started it."""
    stats = list(Path("/proc").glob("[0-9]*/stat"))
    for path in stats:
        with suppress(OSError, ValueError):  # it may have ended
            yield int(path.parent.name), int(path.read_text().rpartition(")")[2].split()[1])
    if not stats:  # not Linux
        with suppress(OSError, ValueError):
            listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False)
            for line in listed.stdout.splitlines():
                each, parent = map(int, line.split())
                yield each, parent


def end_as(status: int) -> int:
    """Return an exit status, or end as the program did: by a signal."""
    if status >= 0 or sys.platform == "win32":
        return status
    sys.stdout.flush()
    with suppress(OSError):  # of SIGKILL and SIGSTOP nobody can say anything
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    return 128 - status  # where that signal is ignored whatever anybody says
