"""The end of the process, after all that the program registers with `atexit` itself: that may still make spans.

Imported with `spanrelay`, before the program registers anything: Python runs last what was registered first.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable

_work: list[Callable[[], object]] = []


def at_exit(work: Callable[[], object]) -> None:
    """Do `work` at the end, once however often it is given."""
    if work not in _work:
        _work.append(work)


@atexit.register
def _end() -> None:
    for work in _work:
        work()
