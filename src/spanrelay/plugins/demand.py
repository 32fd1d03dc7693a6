"""Whether policy is demanded of this process, and how a program ends that cannot have it.

Once policy was asked for, nothing here may let the program go on without it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from spanrelay._voice import marked, say


class Demand:
    """What the program owes to its files.

    `policy`: a file has put policy in force. `stops`: and the program must end before a call escapes it.
    `held`: and every instrumentor is watched, so that none may be taken out again. `stops_unguarded`: and what no
    instrumentor guards may not ask a model. `guarded`: the distributions that an instrumentor of ours is in force for.
    `others_load`: other instrumentation is being switched on, perhaps before the turn of ours has come.
    """

    __slots__ = ("guarded", "held", "others_load", "policy", "stops", "stops_unguarded")

    def __init__(self) -> None:
        self.policy = False
        self.stops = False
        self.stops_unguarded = False
        self.held = False
        self.others_load = False
        self.guarded: set[str] = set()


demand = Demand()
"""What the files of this process ask for."""


def end_boot(message: str) -> NoReturn:
    """End a program before its first line, with `message` on stderr.

    Raises:
        SystemExit: unless Python itself is still starting; it would print a traceback of its own then.
    """
    if _python_is_starting():
        end_now(message)
    raise SystemExit(marked(message))


def end_now(message: str) -> NoReturn:
    """End the process here and now: an exception could be caught, and the import tried again."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    say(message)
    os._exit(1)


def _python_is_starting() -> bool:
    spec = getattr(sys.modules.get("sitecustomize"), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
