"""The text of an exception with the lines that it came by, cut to a length that every exporter carries.

Written when it is raised, since nothing may hold its frames. Runs no code of the application's but `str(error)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from traceback import FrameSummary, StackSummary, walk_tb

MAX_LENGTH = 16_000
"""Characters that are kept of a stack trace, or of a message: its beginning and its end."""

_MAX_CHAIN = 8
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def stacktrace_of(error: BaseException, name: str, message: str) -> str:
    """Return the stack trace of `error`, whose type is called `name`, as Python would print it."""
    return cut("".join(reversed(list(_chain(error, f"{name}: {message}" if message else name)))))


def cut(text: str) -> str:
    """Return the beginning and the end of a text that is longer than `MAX_LENGTH`.

    No word is cut: half a key would not be known for one.
    """
    if len(text) <= MAX_LENGTH:
        return text
    head, tail = text[: MAX_LENGTH // 2], text[-MAX_LENGTH // 2 :]
    head = head[: max(head.rfind(" "), head.rfind("\n")) + 1]
    starts = [at for at in (tail.find(" "), tail.find("\n")) if at >= 0]
    return f"{head}…{tail[min(starts) :] if starts else ''}"


def _chain(error: BaseException | None, last_line: str) -> Iterator[str]:
    """Yield the trace of an exception, and before each of those that led to it what they are to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen and len(seen) < _MAX_CHAIN:
        seen.add(id(error))
        yield f"{_frames(error)}{last_line}\n" if len(seen) > 1 else _frames(error) + last_line
        cause, context = error.__cause__, None if error.__suppress_context__ else error.__context__
        link, error = (_CONTEXT, context) if cause is None else (_CAUSE, cause)
        if error is not None and id(error) not in seen and len(seen) < _MAX_CHAIN:
            yield link
            last_line = _last_line(error)


def _frames(error: BaseException) -> str:
    if error.__traceback__ is None:
        return ""
    # Without columns: the marks beneath each line would cost a parse of it.
    frames = [
        FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name, lookup_line=False)
        for frame, line in walk_tb(error.__traceback__)
    ]
    return "Traceback (most recent call last):\n" + "".join(StackSummary.from_list(frames).format())


def _last_line(error: BaseException) -> str:
    try:
        return f"{type(error).__qualname__}: {error}"
    except Exception:  # an exception of the application's that has no text
        return type(error).__qualname__
