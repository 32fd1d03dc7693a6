"""What a check finds: a level, what it is, why it matters, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from spanrelay.config import Settings
from spanrelay.doctor.declaration import Declaration
from spanrelay.doctor.hiding import Hiding

Level: TypeAlias = Literal["pass", "warn", "fail"]

LEVELS: tuple[Level, ...] = ("pass", "warn", "fail")
"""The better first."""

STATUS: dict[Level, int] = {"pass": 0, "warn": 3, "fail": 1}
"""The exit status by the worst that was found; 1 is a fault and 2 wrong usage, as of every command here."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check says.

    Attributes:
        level: Whether it is as it should be, may be wrong, or is wrong.
        what: What there is, in one line.
        why: Why that matters; nothing where it is as it should be.
        cure: What to do.
        check: The check that says it, by its name in the table.
    """

    level: Level
    what: str
    why: str = ""
    cure: str = ""
    check: str = ""

    def hidden(self, hiding: Hiding) -> Finding:
        """Return it without secrets."""
        return replace(self, what=hiding(self.what), why=hiding(self.why), cure=hiding(self.cure))

    def as_json(self) -> dict[str, str]:
        """Return it as `--json` prints it."""
        return {"level": self.level, "check": self.check, "what": self.what, "why": self.why, "do": self.cure}


@dataclass(frozen=True, slots=True)
class Case:
    """What is looked at.

    Attributes:
        environment: The variables that a program started here would get.
        settings: What they say.
        problems: What is wrong with them, in words.
        offline: Whether nothing may be sent.
        declared: What the file of `OTEL_CONFIG_FILE` says, where there is one: exporters and sampler are what it says.
    """

    environment: Mapping[str, str]
    settings: Settings
    problems: tuple[str, ...] = ()
    offline: bool = False
    declared: Declaration | None = None


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level of some findings."""
    found = {finding.level for finding in findings}
    return "fail" if "fail" in found else "warn" if "warn" in found else "pass"
