"""Ends that Python's own exit does not see: by a signal that nobody handles, by `os._exit`, and of killed children.

The work is done on a thread of its own and for a limited time, because what a signal interrupts may hold locks.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType
from typing import Any

from spanrelay._guard import guarded
from spanrelay.config import Settings

SECONDS = 6.0
"""The longest that the end of the process is put off; finishing takes no more than about 5 s by itself."""

_SECONDS_FOR_CHILDREN = 1.0
"""What the trajectories of children that were killed may add to that."""

_AGAIN = 0.05
"""Seconds after which a thread that has not heard a signal is sent it again."""

_SIGNALS = (signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
"""What asks a process to end: whoever stops it, and the terminal that is closed."""

_FIRST_PROCESS = 1
"""The process that a container starts with; no signal that it does not handle ends it, not even one of its own."""


class _Forking(threading.local):
    """What a thread that forks remembers of its signals."""

    mask: set[int] | None = None


class _End:
    """What there is to do: `finish` at the end, and `flush` where the process goes on; and how far it is.

    `waits` tells whether anything has been recorded in this process that nobody has finished yet, `ending` which thread
    of which process ends it by itself.
    """

    def __init__(self) -> None:
        self.finish: Callable[[], object] = bool
        self.flush: Callable[[], object] = bool
        self.waits: Callable[[], bool] = bool
        self.handled = self.spared = False
        self.begin()

    def begin(self) -> None:
        """Know nothing: a child begins so."""
        self.finishing = self.watched = self.begun = False
        self.asked: int | None = None
        self.ending: tuple[int, int] | None = None


_end = _End()
_forking = _Forking()


def does(finish: Callable[[], object], flush: Callable[[], object], waits: Callable[[], bool]) -> None:
    """Say what is to be done where a signal ends the process, what where it does not, and whether there is a need."""
    _end.finish, _end.flush, _end.waits = finish, flush, waits


def handle() -> bool:
    """Handle what asks the process to end from now on, unless somebody does; False off the main thread: none can be."""
    if threading.current_thread() is not threading.main_thread():
        return False
    for number in _SIGNALS if hasattr(os, "fork") else ():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _on_signal)
    if signal.getsignal(signal.SIGTERM) is _on_signal:
        if not _end.handled:
            _end.handled = True
            signal.signal = _kept(signal.signal)
            os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
        if "--multiprocessing-fork" in sys.orig_argv:
            _watch()
    return True


def _kept(set_handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `signal.signal`: whoever leaves a signal to the system, as servers do in their workers, leaves it to us.

    What the system would do is what we do, later.
    """

    @functools.wraps(set_handler)
    def set_or_keep(signalnum: int, handler: Any) -> Any:
        ours = handler == signal.SIG_DFL and signalnum in _SIGNALS and not _end.begun
        return set_handler(signalnum, _on_signal if ours else handler)

    return set_or_keep


def spare() -> None:
    """Let a process that ends itself, by `os._exit` or a signal to itself, do so once everything is finished.

    Queues of work end each child so that they fork: RQ after each job, Celery after some.
    """
    if not _end.spared:
        _end.spared = True
        os._exit = _after(os._exit, "os", "os._exit", _is_status)
        signal.raise_signal = _after(signal.raise_signal, "signal", "a signal of its own", _is_left_to_the_system)


def _after(end: Callable[..., Any], module: str, what: str, ends: Callable[..., bool]) -> Callable[..., Any]:
    """Wrap a function of `module` that ends the process, where it does, so that everything is finished before."""

    @functools.wraps(end)
    def finish_and_end(*how: Any, **named: Any) -> Any:
        try:
            me = os.getpid(), threading.get_ident()
            if _end.begun and _end.ending not in (None, me):
                time.sleep(SECONDS)  # the thread that came first ends the process
            elif not (_end.begun or _end.finishing) and _is_right(ends, how, named) and _end.waits():
                _end.begun, _end.ending = True, me
                _do(_end.finish, what)
        finally:  # whatever a signal handler raises meanwhile: a child must not come back
            end(*how, **named)

    finish_and_end.__module__ = module  # by which it is pickled, as the target of a process is
    return finish_and_end


def _is_right(ends: Callable[..., bool], how: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Whether a call ends the process: not one that is wrong, after which the program goes on."""
    try:
        return ends(*how, **named)
    except Exception:  # as the function that is called will say
        return False


def _is_status(status: Any) -> bool:
    return -(1 << 31) <= operator.index(status) < 1 << 31  # what C calls an int


def _is_left_to_the_system(given: Any, /) -> bool:
    if os.getpid() == _FIRST_PROCESS:
        return False  # to which the system does nothing: it goes on, and ends as other programs do
    number = operator.index(given)
    return number in (signal.SIGINT, *_SIGNALS) and signal.getsignal(number) is signal.SIG_DFL


@contextlib.contextmanager
def finishing() -> Generator[None]:
    """Let a signal that comes within the block, in which everything is finished, end the process after it."""
    _end.finishing = True
    try:
        yield
    finally:
        _end.finishing = False
        if _end.asked is not None:
            _kill(_end.asked)


def _on_signal(number: int, frame: FrameType | None) -> None:
    chained = signal.getsignal(number) is not _on_signal
    if chained or os.getpid() == _FIRST_PROCESS:
        _do(_end.flush, _name(number))  # somebody else handles it and passed it on, or nothing would come of it
        return
    if _end.begun:
        return  # the watcher was too eager
    _end.begun = True
    if not _end.watched:
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait
    if _end.finishing:
        _end.asked = number
        return
    _do(_end.finish, _name(number))
    _kill(number)


def _kill(number: int) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


# Forks. Pools end their workers as soon as the last result is there, and wait for ever for one that has not heard.


def _before_fork() -> None:
    # Python forgets a signal that the child gets before it knows that it is one.
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _after_fork() -> None:
    if _forking.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)
        _forking.mask = None


def _in_child() -> None:
    if _end.watched:
        signal.set_wakeup_fd(-1)  # its other end is the parent's
    _end.begin()
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(util, _watch)
    _after_fork()


def _watch(_: object = None) -> None:
    """Make sure that a worker of multiprocessing hears SIGTERM.

    A signal that comes just before a system call that waits does not interrupt it, and Python handles it after that:
    in a worker without work, never.
    """
    if _end.watched or signal.getsignal(signal.SIGTERM) is not _on_signal:
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        os.close(reader)
        os.close(writer)
        return
    _end.watched = True
    threading.Thread(target=_wake, args=(reader,), name="spanrelay-watcher", daemon=True).start()


def _wake(reader: int) -> None:
    while (heard := os.read(reader, 1)) and heard[0] != signal.SIGTERM:
        pass
    main = threading.main_thread().ident
    while main is not None and not _end.begun and signal.getsignal(signal.SIGTERM) is _on_signal:
        signal.pthread_kill(main, signal.SIGTERM)
        time.sleep(_AGAIN)


def _name(number: int) -> str:
    return signal.Signals(number).name


def _do(work: Callable[[], object], why: str) -> None:
    if not _within(SECONDS, work):
        # Not through sys.stderr, whose lock may be held by what was interrupted.
        with contextlib.suppress(OSError):
            ended = f"spanrelay: {why} ended the program"
            os.write(2, f"{ended} before everything could be sent and written\n".encode())


def _within(seconds: float, work: Callable[[], object]) -> bool:
    """Do `work` on a thread of its own; False where it takes longer than `seconds`."""
    if sys.is_finalizing():  # everything has been done, and a thread would begin without end
        return True
    thread = threading.Thread(target=work, name="spanrelay-end", daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        return "shutdown" in str(error)  # of the interpreter, and everything has been done; else there is no room
    thread.join(seconds)
    return not thread.is_alive()


def finish_children(*settings: Settings) -> None:
    """Finish the trajectories whose process has died, children of this one that were killed for instance."""
    folders = {Path(each.trajectory_directory) for each in settings if _writes(each)}
    left = [] if is_worker() else [folder for folder in folders if _has_parts(folder)]
    if not left:
        return
    from spanrelay.assembly.sinks import recover

    def work() -> None:
        for folder in left:
            with guarded("finishing trajectories of processes that were killed"):
                recover(folder)

    _within(_SECONDS_FOR_CHILDREN, work)  # what is too much is left to the next run


def _writes(settings: Settings) -> bool:
    return not {"memory", "off"} & {settings.trajectories, settings.content}


def _has_parts(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # there is none that could be read, and who was to write there has said so
        return any(folder.glob("*.atif.part"))
    return False


def is_worker() -> bool:
    """Whether multiprocessing started this process."""
    process: Any = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None
