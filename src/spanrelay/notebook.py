"""What a program's last run looks like, as an object that notebooks and terminals show by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from spanrelay import config
from spanrelay.assembly.atif import Trajectory
from spanrelay.cli.outline import Limits, outline
from spanrelay.cli.printing import plain_lines
from spanrelay.errors import ConfigurationError, SpanRelayError, TrajectoryUnavailable
from spanrelay.records import JSON
from spanrelay.runtime import trajectories
from spanrelay.view import document, page
from spanrelay.view.beside import Beside

_COLUMNS = 100


class Shown:
    """A trajectory, shown as a page in a notebook and as a tree elsewhere.

    Attributes:
        document: The ATIF document, the caller's own.
    """

    def __init__(self, document: dict[str, JSON], folder: Path) -> None:
        self.document = document
        self._folder = folder

    def __repr__(self) -> str:
        return "\n".join(plain_lines(outline(Trajectory.from_json(self.document), Limits()), _COLUMNS))

    def _repr_html_(self) -> str:
        """Return the page of `spanrelay view` in a frame of its own, that reaches nothing of the notebook."""
        path = self._folder / "run.json"
        try:
            shown = document.read(Trajectory.from_json(self.document), path, Beside(path, _elsewhere))
            made = b"".join(page.render("document.html", page=shown)).decode()
        except ConfigurationError:  # the package that escapes is not installed
            return f"<pre>{escape(repr(self))}</pre>"
        style = "width:100%;height:70vh;border:0"
        return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{escape(made)}"></iframe>'


def show(session: str | None = None, timeout: float | None = 30.0) -> Shown:
    """Return this process's last run, which a notebook shows as a page, and IPython and the terminal as a tree.

    Args:
        session: Whose run: that of `scope(session=…)`; by default whichever was active last.
        timeout: Seconds to wait, at most, for what has ended already to be read; None waits as long as it takes.

    Raises:
        TypeError, ValueError: `session` is not a string, or `timeout` not a number of seconds, 0 or more.
        TrajectoryUnavailable: nothing has been recorded of it, or at all.
    """
    found = trajectories(session, timeout)
    if not found:
        whose = "" if session is None else f" of session {session!r}"
        raise TrajectoryUnavailable(f"nothing has been recorded{whose} yet: no model has answered and no tool has run")
    return Shown(max(found, key=_last_moment), Path(config.load()[0].trajectory_directory))


def _last_moment(document: Mapping[str, JSON]) -> str:
    """Return when a document's last step was; times are all written alike."""
    steps = document.get("steps")
    moments = [step.get("timestamp") for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    return max((str(moment) for moment in moments if moment), default="")


def _elsewhere(path: Path) -> Trajectory:
    raise SpanRelayError(f"{str(path)!r} is not shown in a notebook")
