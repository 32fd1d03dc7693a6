"""The only place where our own errors are swallowed: counted, logged once, never shown to the user.

Observation fails open: what reads, projects or writes a record does so under `guarded`. Policy never does. What a
signal handler of the application raises while our code runs is not ours: it passes.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import CodeType, FrameType, TracebackType
from typing import Any

from spanrelay import _voice as _voice  # whoever logs anything of ours has imported this

_log = logging.getLogger("spanrelay")

MAX_FRAMES = 12
"""Frames of a traceback that our log shows, counted from where the error was raised."""


class Losses:
    """Counts what was lost and why, so that the end of the process can say so. Thread-safe."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Know of nothing: a child begins so, since what its parent lost is its parent's to say."""
        self._counts: Counter[str] = Counter()
        self._lock = threading.RLock()  # a signal handler may lose something while we count
        self._late: Callable[[str], object] | None = None
        self._thread = threading.local()

    def add(self, reason: str, count: int = 1) -> None:
        """Count `count` losses for `reason`, a phrase in the plural such as `open spans forgotten`.

        Its noun is the first word that ends in -s, so that one loss can be told in the singular.
        """
        if not count:
            return
        apart: Counter[str] | None = getattr(self._thread, "apart", None)
        if apart is not None:
            apart[reason] += count
            return
        with self._lock:
            first = reason not in self._counts
            self._counts[reason] += count
        if first and self._late is not None:
            self._late(reason)

    @contextmanager
    def apart(self) -> Generator[Counter[str]]:
        """Count what this thread loses in a block by itself; whoever asks for that says it, unless the block fails."""
        counts = self._thread.apart = Counter[str]()
        try:
            yield counts
        except BaseException:
            self._thread.apart = None
            for reason, count in counts.items():
                self.add(reason, count)
            raise
        finally:
            self._thread.apart = None

    def tell_late(self, tell: Callable[[str], object]) -> None:
        """From now on call `tell` with each reason once: nobody asks for the counts any more."""
        self._late = tell

    def counted(self) -> bool:
        """Whether anything is lost so far."""
        return bool(self._counts)

    def take(self) -> dict[str, int]:
        """Return the counts so far by reason, and start again from nothing."""
        with self._lock:
            counts = dict(self._counts)
            self._counts.clear()
        return counts


losses = Losses()
"""The losses of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=losses.begin)

strict = False
"""Tests set this: a swallowed error is then raised, so that swallowing can never hide a fault of ours."""

_seen: set[str] = set()


class guarded:
    """Swallow and count an `Exception` of ours: `with guarded("decoding a response"): ...`.

    The first failure of each kind of work is logged with its traceback, later ones only counted.
    """

    __slots__ = ("_work",)

    def __init__(self, work: str) -> None:
        self._work = work

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        if strict or broke_in(error):
            return False
        swallow(self._work, error)
        return True


def failed(work: str, error: Exception) -> None:
    """Do of a failure of ours what `guarded` does: for an `except` where three calls for each span would cost much."""
    if strict:
        raise error
    swallow(work, error)


def swallow(work: str, error: BaseException) -> None:
    """Count `error` as a failure of `work`, and log the first of its kind.

    Raises:
        BaseException: `error` itself, where it broke in.
    """
    pass_on(error)
    losses.add(f"failures while {work}")
    if work not in _seen:
        _seen.add(work)
        _log.warning("SpanRelay failed while %s; the application is not affected\n%s", work, traced(error))


worded: Callable[[BaseException], str | None] | None = None
"""Set once there are sanitizers: returns what our log may tell of an error's words, None where that is all of them."""


def traced(error: BaseException) -> str:
    """Return the traceback of `error` as text, the last `MAX_FRAMES` frames of each exception in its chain.

    What sanitizers would leave out of a record is left out here.
    """
    if worded is not None and (told := _told(error, worded)) is not None:
        return told
    short = traceback.TracebackException.from_exception(error, limit=-MAX_FRAMES)
    return "".join(short.format()).rstrip()


def _told(error: BaseException, words_of: Callable[[BaseException], str | None]) -> str | None:
    """Return the traceback of `error` with other words where any in its chain has to have others."""
    chain = [error]
    while (inner := _behind(chain[-1])) is not None and not any(inner is each for each in chain):
        chain.append(inner)
    words = [words_of(each) for each in chain]
    if all(each is None for each in words):
        return None
    parts: list[str] = []
    for each, said in zip(reversed(chain), reversed(words), strict=True):
        frames = traceback.format_list(traceback.extract_tb(each.__traceback__)[-MAX_FRAMES:])
        named = type(each).__qualname__
        shown = str(each) if said is None else said
        last = f"{named}: {shown}" if shown else named
        parts.append("".join(["Traceback (most recent call last):\n", *frames, last]))
    return "\n\nand then:\n\n".join(parts)


def _behind(error: BaseException) -> BaseException | None:
    """Return the exception that stands behind another in its traceback."""
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def has_begun(thread: threading.Thread) -> bool:
    """Start a thread; False where the system has no room for one more, or the interpreter ends: ask again later.

    Gevent lets others run meanwhile, on the same thread, whom a reentrant lock does not keep out: note the thread
    before it begins, or they begin one more.
    """
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


def pass_on(error: BaseException | None) -> None:
    """Raise `error` again where it broke in: for places that swallow without counting."""
    if error is not None and broke_in(error):
        raise error


def holds(question: Callable[[Any], bool], value: object) -> bool:
    """Whether `question` says so of an object of the application's: not where the object raises when it is asked.

    A lazy object has to be made before it tells its class, which may fail.
    """
    try:
        return question(value)
    except Exception as error:
        pass_on(error)
        return False


def broke_in(error: BaseException) -> bool:
    """Whether `error` was raised by what nobody called: a signal handler, a trace or a profile function.

    Python runs them in the middle of whatever runs, so that their exception seems to be its own. They are known by
    their arguments, one of which is the very frame that they broke into; a handler that has thrown its arguments
    away, by its being registered.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        inner = trace.tb_next.tb_frame
        if _was_given(inner, trace.tb_frame) or inner.f_code in _handlers():
            return True
        trace = trace.tb_next
    return False


def _was_given(frame: FrameType, caller: FrameType) -> bool:
    """Whether `frame` was called with a signal's number and the frame of its caller, or with that and an event."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x04)  # the last is *args
    known = frame.f_locals
    given: list[Any] = []
    for name in code.co_varnames[:count]:
        value = known.get(name)
        # Not `isinstance`, which asks the application's object for its class: that may raise, or do anything.
        given += value if type(value) is tuple else (value,)
    return any(
        (one is caller and issubclass(type(other), str)) or (other is caller and issubclass(type(one), int))
        for one, other in pairwise(given)
    )


def _handlers() -> Iterator[CodeType]:
    """Yield the code of each signal handler that is registered."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while hasattr(handler, "func"):  # functools.partial
            handler = handler.func
        if callable(handler):
            called = handler if hasattr(handler, "__code__") else type(handler).__call__
            code = getattr(getattr(called, "__func__", called), "__code__", None)
            if code is not None:
                yield code
