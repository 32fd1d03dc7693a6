"""Where policy stands among other middleware: within it, so that it sees what is sent."""

from __future__ import annotations

INNERMOST = 1_000_000
"""The priority of what counts: within every other intercept, so that each of their sendings passes it."""
OUTSIDE_COUNTS = INNERMOST - 1
"""The priority of what refuses a sending, which then does not count."""
OUTERMOST = -INNERMOST
"""The priority of what sees the answer as the application gets it."""
