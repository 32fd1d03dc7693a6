"""How we speak: the log where a program has not set up any, and stderr. Every line begins with whose it is.

Where anybody handles records, of the root or of ours, they are left as they are: they carry the logger's name.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
from collections.abc import Callable


class _Voice(logging.Handler):
    """Stands in for `logging.lastResort`, which prints the bare message among the lines of the program."""

    def emit(self, record: logging.LogRecord) -> None:
        last = logging.lastResort
        handled = logging.root.handlers or any(handler is not self for handler in _log.handlers)
        if last is None or handled or record.levelno < last.level:
            return
        told = copy.copy(record)
        told.msg, told.args = marked(last.format(record)), None
        told.exc_info = told.exc_text = told.stack_info = None  # is in the text
        last.handle(told)


_log = logging.getLogger("spanrelay")
_log.addHandler(_Voice())


def marked(text: str) -> str:
    """Return `text` with `spanrelay: ` before each line: a program's other lines may come between them."""
    return "\n".join(f"spanrelay: {line}".rstrip() for line in text.splitlines())


mask: Callable[[str], str] = str
"""What takes credentials out of what we say; set by the module that knows them."""


def say(text: str) -> None:
    """Print to stderr; nowhere where there is none, and above all not among what the program prints."""
    if sys.stderr is not None:  # None where the program began without
        with contextlib.suppress(OSError, ValueError):  # full, or closed by now
            # In one piece: `print` writes the end of the line by itself, and other threads write between.
            sys.stderr.write(f"{marked(mask(text))}\n")
            sys.stderr.flush()
