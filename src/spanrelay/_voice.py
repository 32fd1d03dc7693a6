"""How the log reads where a program has not set up any: each line on stderr begins with whose it is.

Where anybody handles records, of the root or of ours, they are left as they are: they carry the logger's name.
"""

from __future__ import annotations

import copy
import logging


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
