"""The end of the process, after all that the program registers with `atexit` itself: that may still make spans.

Imported with `spanrelay`, before the program registers anything: Python runs last what was registered first.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable

_work: list[Callable[[], object]] = []
_reports: list[Callable[[], object]] = []


def at_exit(work: Callable[[], object], *, last: bool = False) -> None:
    """Do `work` at the end, once however often it is given; `last` is for what tells how the rest went."""
    work_of_kind = _reports if last else _work
    if work not in work_of_kind:
        work_of_kind.append(work)


@atexit.register
def _end() -> None:
    for work in (*_work, *_reports):
        work()
