"""What stands in files beside a document: pictures, and the documents of sub-agents.

A document names files, and whoever wrote it may name any: nothing outside of its own folder is read, however that is
spelled or linked.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spanrelay.assembly.atif import ContentPart, Trajectory
from spanrelay.errors import SpanRelayError

LARGEST = 4 << 20
"""Bytes of a picture that a page takes in."""
TOGETHER = 32 << 20
"""Bytes of all pictures of a page."""
_HEAD = 16
_BEGINNINGS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
"""How the files of each kind of picture begin; what a document calls them does not count."""


@dataclass(frozen=True, slots=True)
class Medium:
    """A picture, a sound or whatever a message holds beside its text.

    `address` is a `data:` URL made of nothing but the kind of picture that the bytes are and the bytes in base64; None
    where only words stand for it.
    """

    words: str
    address: str | None = None


class Beside:
    """The files in the folder of a document.

    Args:
        document: The document's own file.
        read: Returns the document in another file; raises `SpanRelayError`.
    """

    def __init__(self, document: Path, read: Callable[[Path], Trajectory]) -> None:
        self._root = document.parent.resolve()
        self._read = read
        self._left = TOGETHER
        self._documents: dict[Path, Trajectory | str] = {}

    def find(self, name: str, folder: Path) -> Path | None:
        """Return the file of that name, as seen from `folder`; None where there is none, or it is outside."""
        try:
            found = (folder / name).resolve()
            return found if found.is_relative_to(self._root) and found.is_file() else None
        except (OSError, ValueError, RuntimeError):  # no name that a file can have, or links in a circle
            return None

    def document(self, path: Path) -> Trajectory | str:
        """Return the document in a file, read once; else why it cannot be shown."""
        if path not in self._documents:
            try:
                self._documents[path] = self._read(path)
            except SpanRelayError as error:
                self._documents[path] = str(error)
        return self._documents[path]

    def medium(self, part: ContentPart, folder: Path) -> Medium:
        """Return what a page shows of a part that is no text."""
        name = part.source.path if part.source else ""
        words = f"{part.type} {name}"
        if part.type != "image":
            return Medium(words)
        if "://" in name:
            return Medium(f"{words} (on the network: not fetched)")
        path = self.find(name, folder)
        if path is None:
            return Medium(f"{words} (not beside the document)")
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST + 1)
        except OSError as error:
            return Medium(f"{words} (cannot be read: {error.strerror})")
        kind = _kind_of(data[:_HEAD])
        if kind is None:
            return Medium(f"{words} (not a picture that a page shows: PNG, JPEG, GIF or WebP)")
        if len(data) > LARGEST:
            return Medium(f"{words} (larger than {LARGEST >> 20} MB)")
        if len(data) > self._left:
            return Medium(f"{words} (the pictures before it have {TOGETHER >> 20} MB)")
        self._left -= len(data)
        return Medium(words, f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}")


def _kind_of(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for beginning, kind in _BEGINNINGS.items() if head.startswith(beginning)), None)
