"""What of a partition may still be needed: its offsets, in segments."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from spanrelay import _json
from spanrelay.collecting import forgetting
from spanrelay.collecting.intake import Request

_SIZE = 1_000
"""Records of a segment. Segments begin at its multiples, so that an offset is in the same one whoever reads it."""


class Segments:
    """The segments of a partition that have been read and not been let go of; a broker keeps what is in them.

    Args:
        beside: The folder of what is noted of partitions, which whoever reads a partition next finds as well.
        name: What the partition's files are called.
        first: The offset where reading begins.
    """

    def __init__(self, beside: Path, name: str, first: int) -> None:
        self._first = first
        self._before = first // _SIZE - 1
        """The segment before the first, which is number 1: a store of what is read has no room for large numbers."""
        self._numbers: set[int] = set()
        self._forgotten, self._aside = beside / f"{name}.forgotten", beside / f"{name}.unreadable.jsonl"

    @property
    def needed(self) -> int:
        """The offset from which on records may be needed."""
        oldest = min(self._numbers, default=1)
        return max(self._first, (oldest + self._before) * _SIZE)

    def number_of(self, offset: int) -> int:
        """Return the number of the segment that an offset is in, which is there from now on."""
        number = offset // _SIZE - self._before
        self._numbers.add(number)
        return number

    def numbers(self) -> list[int]:
        """Return the numbers of the segments that are there; records go into the last."""
        return sorted(self._numbers)

    def remove(self, number: int) -> None:
        """Let a segment go."""
        self._numbers.discard(number)

    def set_aside(self, request: Request, fault: str) -> bool:
        """Keep a record that could not be read, in a line with the reason: the partition goes on."""
        entry = {"record": request.name, "fault": fault, "data": base64.b64encode(request.data).decode()}
        with self._aside.open("ab") as file:
            file.write(_json.dumps(entry) + b"\n")
        return True

    def forget(self, traces: Mapping[str, int]) -> None:
        """Note traces whose documents are written for good."""
        forgetting.note(self._forgotten, {key: number + self._before for key, number in traces.items()})

    def forgotten(self) -> dict[str, int]:
        """Return what was noted by whoever read the partition before."""
        noted = forgetting.noted(self._forgotten, self._before + 1)
        return {key: number - self._before for key, number in noted.items()}
