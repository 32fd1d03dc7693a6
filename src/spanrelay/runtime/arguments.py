"""What a program asks with: a time limit and the name of a session.

What is neither is refused at once, before anything waits.
"""

from __future__ import annotations

from spanrelay.scopes import Scope

LONGEST = 1e9
"""Seconds that stand for no limit: no lock waits for longer than some times that."""


def seconds_of(timeout: object) -> float:
    """Return a time limit that a program gives as one that can be waited for; None is none.

    Raises:
        TypeError, ValueError: it is no number of seconds.
    """
    if timeout is None:
        return LONGEST
    asked = f"timeout={timeout!r} must be seconds, 0 or more, or None to wait as long as it takes"
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
        raise TypeError(asked)
    if not timeout >= 0:  # what is no number is not either
        raise ValueError(asked)
    return min(timeout, LONGEST)


def check_session(session: object) -> None:
    """Refuse what is not the name of a session; None stands for all.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(session, Scope):
        raise TypeError(
            f"scope {session.name!r} is not the name of a session: ask it, with scope.trajectory(), or name its session"
        )
    if session is not None and not isinstance(session, str):
        raise TypeError(f"session={session!r} must be the name of a session, as in scope(session='ticket-42')")
