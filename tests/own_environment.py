"""Programs in an environment of their own, for packages that no other test should have beside it, and their spans."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.programs import Run

ROOT = Path(__file__).parents[1]


def programs_of(name: str, ours: Iterable[str], others: Iterable[str]) -> Path:
    """Return where the programs of environment `name` are, made or brought up to date.

    Args:
        name: Of the environment, in the user's cache folder.
        ours: Instrumentors of this repository, as `openai`.
        others: Requirements of other packages.
    """
    home = Path.home() / ".cache" / "spanrelay" / f"{name}-venv-{sys.version_info[0]}.{sys.version_info[1]}"
    if not (home / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
    parts = [ROOT, *(ROOT / "instrumentors" / f"spanrelay-{name}" for name in ours)]
    editable = [option for part in parts for option in ("--editable", part)]
    pip = [home / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", ROOT / "constraints.txt", *editable, *others], check=True)
    return home / "bin"


class Traced(Run):
    """What a program left, with the spans that went to the console."""

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The spans in the order of their starts."""
        decoder, found, at = json.JSONDecoder(), list[dict[str, Any]](), 0
        while (at := self.out.find('{\n    "name"', at)) >= 0:
            span, at = decoder.raw_decode(self.out, at)
            found.append(span)
        return sorted(found, key=lambda span: span["start_time"])

    def tree(self, parent: str | None = None) -> list[Any]:
        """The spans as `[kind and name, [what is beneath]]`."""
        return [
            [
                f"{span['attributes'].get('openinference.span.kind')} {span['name']}",
                self.tree(span["context"]["span_id"]),
            ]
            for span in self.spans
            if (span["parent_id"] and span["parent_id"].removeprefix("0x")) == (parent and parent.removeprefix("0x"))
        ]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The attributes of each span of a kind."""
        found = [span["attributes"] for span in self.spans]
        return [attributes for attributes in found if attributes.get("openinference.span.kind") == kind]
