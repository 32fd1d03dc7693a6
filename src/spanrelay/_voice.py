"""How we speak: the log where a program has not set up any, whose lines begin with whose they are, and stderr.

Where anybody handles records, of the root or of ours, they are left as they are: they carry the logger's name.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import sys


class _Voice(logging.Handler):
    """Stands in for `logging.lastResort`, which prints the bare message among the lines of the program."""

    def emit(self, record: logging.LogRecord) -> None:
        last = logging.lastResort
        handled = logging.root.handlers or any(handler is not self for handler in _log.handlers)
        if last is None or handled or record.levelno < last.level:
            return
        line = copy.copy(record)
        line.msg, line.args = f"spanrelay: {record.getMessage()}", None
        last.handle(line)


_log = logging.getLogger("spanrelay")
_log.addHandler(_Voice())


def say(line: str) -> None:
    """Print a line to stderr; nowhere where there is none, and above all not among what the program prints."""
    if sys.stderr is not None:  # None where the program began without
        with contextlib.suppress(OSError, ValueError):  # full, or closed by now
            print(line, file=sys.stderr, flush=True)
