"""The table: which family of policy or observation stands around which way of asking, and who put it there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tests.matrix.rules import RULES
from tests.matrix.ways import WAYS, Way

from spanrelay import scope, use
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation

FAMILIES = tuple(RULES)
PLACES = ("global", "scope-local", "plugin file", "built-in plugin")
BUILT_IN = {
    "guardrail": '[plugins.policy]\nmodels.deny = ["*-forbidden"]\n',
    "sanitizer": '[plugins.pii_redaction.builtin]\naction = "mask"\ndetector = "email"\n',
}


@dataclass(frozen=True)
class Cell:
    """One cell of the table."""

    family: str
    way: Way
    place: str

    def __str__(self) -> str:
        return f"{self.family} | {self.way.door} {self.way.name} | {self.place}"

    @property
    def missing(self) -> str | None:
        """Why there is nothing to test in this cell; None where there is."""
        if self.way.ask is None:
            return "what the application's own function returned is handed back, and no SDK wraps it in a response"
        if self.family == "stream intercept" and not self.way.streams:
            return "the answer comes in one piece, and there are no chunks to stand between"
        if self.place == "built-in plugin" and self.family not in BUILT_IN:
            return f"no built-in plugin has rules of its own for a {self.family}"
        return None

    @contextmanager
    def in_force(self, folder: Path) -> Iterator[None]:
        """Put the family's rule in force, and an agent `cell` around what is done; take it out afterwards."""
        rule = RULES[self.family]
        if self.place == "scope-local":
            with scope("cell") as cell:
                use(rule, scope=cell)
                yield
        elif self.place == "global":
            with use(rule), scope("cell"):
                yield
        else:
            activation = Activation([PolicyFile(str(self._file(folder)), "chosen")])
            activation.start()
            try:
                with scope("cell"):
                    yield
            finally:
                activation.close()

    def _file(self, folder: Path) -> Path:
        file = folder / "spanrelay.toml"
        own = f'[plugins.matrix_rules]\nfamily = "{self.family}"\n'
        file.write_text(own if self.place == "plugin file" else BUILT_IN[self.family])
        return file

    @property
    def rule_name(self) -> str:
        """What the rule is called where it is in force."""
        if self.place == "built-in plugin":
            return "policy.models"
        return ("matrix_rules." if self.place == "plugin file" else "") + RULES[self.family].name


TABLE = [Cell(*each) for each in product(FAMILIES, WAYS, PLACES)]
CELLS = [cell for cell in TABLE if cell.missing is None]
