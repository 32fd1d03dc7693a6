"""A run that grows in a folder, as the exporter writes it: a journal first, a document in the end."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from spanrelay._json import dumps
from spanrelay.assembly.sinks import write_whole
from spanrelay.assembly.spool import SUFFIX, Spool, line_of


class Growing:
    """Writes the steps of a document one by one."""

    def __init__(self, folder: Path, content: dict[str, Any], name: str = "run") -> None:
        self.path = folder / f"{name}.json"
        self._part = Spool(folder / f"{name}{SUFFIX}")
        head = {key: content[key] for key in ("schema_version", "session_id", "agent")}
        self._write({"op": "open", "doc": "root", "head": {"trajectory_id": "root", **head}})
        self._steps = iter(copy.deepcopy(content["steps"]))

    @property
    def part(self) -> Path:
        return self._part.path

    def step(self, *, answered: bool = True) -> None:
        """Write one step, with what its tools gave where they have `answered`."""
        step = next(self._steps)
        results = step.pop("observation", {"results": []})["results"]
        self._write({"op": "step", "doc": "root", "step": step})
        for result in results if answered else ():
            self.result(step["step_id"], result)

    def result(self, step: int, result: dict[str, Any]) -> None:
        known = {name: value for name, value in result.items() if name != "subagent_trajectory_ref"}
        self._write({"op": "result", "doc": "root", "step": step, "result": known})

    def finish(self) -> None:
        document = self._part.render()
        assert document is not None
        write_whole(self.path, dumps(document), sync=False)
        self.close()

    def abandon(self) -> None:
        """Let the journal go, as a program does that is killed."""
        self._part.close()

    def close(self) -> None:
        self._part.close(remove=True)

    def _write(self, operation: dict[str, Any]) -> None:
        self._part.write(line_of(operation))
