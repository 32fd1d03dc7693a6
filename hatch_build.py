"""The extras of the distribution `spanrelay`: from a clone they install the instrumentors that stand beside it.

Until the packages are published nobody can get them by name; what is built elsewhere, or with `SPANRELAY_RELEASE=1`,
names them as an index does.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ExtrasHook(MetadataHookInterface):
    """Takes the extras from `[tool.hatch.metadata.hooks.custom.extras]`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill `optional-dependencies`; `all` is every other extra that is named in `parts`."""
        extras: dict[str, list[str]] = {**self.config["extras"]}
        extras["all"] = list(dict.fromkeys(each for part in self.config["all"] for each in extras[part]))
        metadata["optional-dependencies"] = {
            name: [self._found(requirement) for requirement in requirements] for name, requirements in extras.items()
        }

    def _found(self, requirement: str) -> str:
        """Return a requirement, of a package that stands in the clone with its address."""
        folder = Path(self.root) / "instrumentors" / requirement
        ours = re.fullmatch(r"spanrelay-[a-z-]+", requirement) and folder.is_dir()
        return (
            f"{requirement} @ {folder.as_uri()}" if ours and os.environ.get("SPANRELAY_RELEASE") != "1" else requirement
        )
