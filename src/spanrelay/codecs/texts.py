"""The texts in one event of a stream: what a stream intercept may read and change.

A text comes as deltas, which its key ties together, and in some APIs whole again at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from spanrelay.codecs.narrowing import as_list


class Slot:
    """One text in an event. `key` is `(output or choice, …)`: which text of the answer it belongs to."""

    __slots__ = ("_field", "_holder", "key")

    def __init__(self, key: tuple[Any, ...], holder: Any, field: str | int) -> None:
        self.key = key
        self._holder = holder
        self._field = field

    @property
    def text(self) -> str:
        """The text as it stands."""
        return self._holder[self._field]

    def set(self, text: str) -> None:
        """Write another text into the event."""
        self._holder[self._field] = text


@dataclass(slots=True)
class Texts:
    """What an event says: `deltas` go on, `wholes` repeat, `ended` names outputs, and keys, whose texts are over.

    `all_ended` is true for an event after which no text comes.
    """

    deltas: list[Slot] = field(default_factory=list[Slot])
    wholes: list[Slot] = field(default_factory=list[Slot])
    ended: set[Any] = field(default_factory=set[Any])
    all_ended: bool = False

    def closes(self, key: tuple[Any, ...]) -> bool:
        """Whether no more of the text `key` comes."""
        return self.all_ended or key[0] in self.ended or key in self.ended


class StreamTexts(Protocol):
    """What a codec offers for stream intercepts on text."""

    def stream_texts(self, event: Mapping[str, Any], /) -> Texts:
        """Return the texts of `event`, to be changed in place."""
        ...


def part_slots(parts: Any, index: Any, name: str) -> Iterator[Slot]:
    """Yield the texts of content parts: Mistral streams its thinking in them, and at times its answer."""
    for place, part in enumerate(as_list(parts)):
        if isinstance(part, str):
            yield Slot((index, name), parts, place)
        elif isinstance(part, dict):
            fields = cast("dict[str, Any]", part)
            if isinstance(fields.get("text"), str):
                yield Slot((index, name), fields, "text")
            yield from part_slots(fields.get("thinking"), index, "thinking")
