"""The dialogue of a request as it is sent, of which only the end is read.

Nothing of the application's is consumed or changed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from spanrelay import _json
from spanrelay.assembly.transcript import SYSTEM_ROLES, Turn, turns_of
from spanrelay.records import Message

MESSAGE_FIELDS = ("messages", "input")
"""Where the wire APIs have the messages of a request."""
FIRST_LOOK = 6
"""Messages at the end of a request that are read at first: as a rule they hold the last answer."""


class WireHistory:
    """The dialogue of a request that nobody has read, and of which only the end is read here."""

    def __init__(self, wire: Mapping[str, Any], codec: Any) -> None:
        turns = getattr(codec, "turns", None)  # what else a request has is nothing to the model
        self._field = turns.field if turns else next((name for name in MESSAGE_FIELDS if wire.get(name)), "")
        given: Any = wire.get(self._field)
        # Anything else than a list may be read once only, by the SDK.
        self._items: Sequence[Any] = (
            [given] if isinstance(given, str) else given if isinstance(given, (list, tuple)) else ()
        )
        beside = getattr(codec, "items_beside", None)
        if beside is not None:
            self._items = [*self._items, *beside(wire)]
        self._codec = codec
        self._start = self._end_of_head()
        self._last: list[Turn] | None = None

    def __len__(self) -> int:
        return len(self._items) - self._start

    def fingerprint(self, index: int) -> int:
        """Return the exact fingerprint of one message."""
        return hash(_json.dumps(self._items[self._start + index]))

    def backward(self) -> Iterator[Turn]:
        """Yield the turns, the last first."""
        if self._last is None:
            self._last = self._read_last()
        last = self._last
        yield from reversed(last)
        if len(self) > FIRST_LOOK:
            turns = self._turns(self._start)
            yield from reversed(turns[: len(turns) - len(last)])

    def _read_last(self) -> list[Turn]:
        if len(self) <= FIRST_LOOK:
            return self._turns(self._start)
        turns = self._turns(len(self._items) - FIRST_LOOK)
        while turns and turns[0].role == "assistant":  # an answer that the cut may have gone through
            turns.pop(0)
        return turns

    def _turns(self, start: int) -> list[Turn]:
        return turns_of(self._read(self._items[start:]))

    def _read(self, items: Sequence[Any]) -> list[Message]:
        # Objects of the SDK's and of the application's may stand among them, which the SDK writes as JSON.
        given = items[0] if len(items) == 1 and isinstance(items[0], str) else _json.plain(list(items))
        return cast("list[Message]", self._codec.decode_request({self._field: given}).messages) if items else []

    def _end_of_head(self) -> int:
        for index in range(len(self._items)):
            if any(message.role not in SYSTEM_ROLES for message in self._read(self._items[index : index + 1])):
                return index
        return len(self._items)
