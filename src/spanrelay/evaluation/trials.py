"""What Harbor says of the trial that a trajectory lies in: its task, and what it was judged.

Reads `result.json` above `agent/trajectory.json`, as Harbor 0.26 writes it; what it has not is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from spanrelay import _json


@dataclass(slots=True)
class Trial:
    """One try of an agent at a task. `result` is its reward, or the exception that ended it."""

    name: str | None = None
    task: str | None = None
    run: str | None = None
    started: str | None = None
    model: str | None = None
    provider: str | None = None
    result: str | None = None

    @property
    def failure(self) -> str | None:
        """Why the trial did not succeed; None where it did, or nobody has judged it."""
        if self.result is None:
            return None
        try:
            return f"its reward is {self.result}" if float(self.result) <= 0 else None
        except ValueError:
            return "its trial was ended by an exception"


def trial_of(path: Path) -> Trial | None:
    """Return the trial that a trajectory lies in; None where it lies in none."""
    for folder in list(path.resolve().parents)[:3]:
        try:
            told = _json.loads((folder / "result.json").read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(told, dict) and "trial_name" in told:
            return _read(cast("dict[str, Any]", told))
    return None


def _read(told: dict[str, Any]) -> Trial:
    return Trial(
        name=_text(told.get("trial_name")),
        task=_text(told.get("task_name")),
        run=_text(_within(told, "config", "job_id")) or _text(told.get("trial_name")),
        started=_text(told.get("started_at")),
        model=_text(_within(told, "agent_info", "model_info", "name")),
        provider=_text(_within(told, "agent_info", "model_info", "provider")),
        result=_text(_within(told, "exception_info", "exception_type")) or _reward(told),
    )


def _reward(told: dict[str, Any]) -> str | None:
    reward = _within(told, "verifier_result", "rewards", "reward")
    return str(float(reward)) if isinstance(reward, (int, float)) else None


def _within(value: Any, *names: str) -> Any:
    for name in names:
        value = cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
