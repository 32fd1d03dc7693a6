"""Dead letters: what a target refused for good, each with the reason beside it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from spanrelay import _json
from spanrelay.assembly.sinks import write_whole
from spanrelay.collecting.delivery.targets import Parcel

_REASON = ".reason.json"


class Letters:
    """A folder of dead letters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, parcel: Parcel, to: str, reason: str) -> None:
        """Keep what was refused. Raises `OSError`."""
        path = self._path_of(parcel.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if parcel.data is not None:
            write_whole(path, parcel.data, sync=False)
        said = {
            "document": parcel.name,
            "to": to,
            "reason": reason,
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "removed": None if parcel.data is not None else parcel.time,
        }
        write_whole(path.with_name(path.name + _REASON), _json.dumps(said) + b"\n", sync=False)

    def names(self) -> Iterator[tuple[str, int]]:
        """Yield what is kept here, with how it waits in a journal."""
        for path in sorted(self._folder.rglob(f"*{_REASON}")):
            said = _json.loads(path.read_bytes())
            yield str(said["document"]), int(said["removed"] or 1)

    def find(self, name: str) -> Parcel | None:
        """Return what was refused; None where that was a removal, or there is nothing of it."""
        path = self._path_of(name)
        return Parcel(name, path.read_bytes(), path.stat().st_mtime_ns) if path.exists() else None

    def remove(self, name: str) -> None:
        """Remove what has been delivered after all."""
        path = self._path_of(name)
        for each in (path, path.with_name(path.name + _REASON)):
            each.unlink(missing_ok=True)

    def _path_of(self, name: str) -> Path:
        return self._folder / name
