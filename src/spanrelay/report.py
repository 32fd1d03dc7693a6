"""What a process says last: what was lost or left out, and what policy on trial would have done.

It is said once, on stderr, and nothing of ours follows it.
"""

from __future__ import annotations

import os
import threading

from spanrelay._guard import losses
from spanrelay._voice import say
from spanrelay.pipeline.trial import take_report


class LastWords:
    """Whether it has been said what was lost, which nothing of ours follows: a disk that is slow may go on for long."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Know of nothing: a child says its own, and none of its parent's threads holds the lock there."""
        self.lock = threading.Lock()
        self.said = False


last_words = LastWords()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=last_words.begin)


def report_losses() -> None:
    """Print to stderr, one line each, what was lost since the last report and what policy on trial would have done."""
    lost = losses.take()
    if lost:
        told = ", ".join(counted(count, reason) for reason, count in sorted(lost.items()))
        say(f"lost or left out: {told}")
    tried = take_report()
    if tried is not None:
        say(tried)


def counted(count: int, reason: str) -> str:
    """Return `2 spans not exported` or `1 span not exported`: the first word in -s is the noun, as `Losses` asks."""
    if count != 1:
        return f"{count} {reason}"
    words = reason.split(" ")
    at = next((at for at, word in enumerate(words) if word.endswith("s")), None)
    if at is not None:
        words[at] = words[at][:-3] + "y" if words[at].endswith("ies") else words[at][:-1]
    return f"1 {' '.join(words)}"
