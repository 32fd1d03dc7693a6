"""The stream of Mistral's conversations: typed events, added up to the body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanrelay.codecs.narrowing import as_list
from spanrelay.codecs.texts import Slot, Texts

_ENTRIES = {
    "message.output.delta": "message.output",
    "function.call.delta": "function.call",
    "tool.execution.started": "tool.execution",
    "tool.execution.delta": "tool.execution",
    "tool.execution.done": "tool.execution",
    "agent.handoff.started": "agent.handoff",
    "agent.handoff.done": "agent.handoff",
}
"""What an event is a piece of."""


class ConversationAccumulator:
    """Adds up the events of one stream; pieces of a text or of arguments are joined once, at the end."""

    __slots__ = ("_body", "_entries")

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._entries: dict[Any, tuple[dict[str, Any], dict[str, list[Any]]]] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        kind = event.get("type")
        if kind in _ENTRIES:
            self._add_entry(_ENTRIES[kind], event)
        elif kind == "conversation.response.error":
            self._body["error"] = {key: event[key] for key in ("message", "code") if key in event}
        elif kind in ("conversation.response.started", "conversation.response.done"):
            self._body.update((key, event[key]) for key in ("conversation_id", "usage") if key in event)
        elif kind is None or kind == "conversation.response":  # what a gateway answers in place of events
            self._body.update(event)

    def _add_entry(self, kind: str, event: Mapping[str, Any]) -> None:
        fields, pieces = self._entries.setdefault(event.get("output_index", 0), ({"type": kind}, {}))
        for key, value in event.items():
            if key in _PIECES:
                pieces.setdefault(key, []).append(value)
            elif key not in ("type", "output_index", "content_index"):
                fields[key] = value

    def result(self) -> dict[str, Any]:
        """Return the body so far."""
        if not self._entries:
            return dict(self._body)
        outputs = [
            {**fields, **{key: _joined(each) for key, each in pieces.items()}}
            for _, (fields, pieces) in sorted(self._entries.items(), key=_place)
        ]
        return {"object": "conversation.response", **self._body, "outputs": outputs}


_PIECES = ("content", "arguments")


def _place(item: tuple[Any, Any]) -> int:
    return item[0] if isinstance(item[0], int) else 0


def _joined(pieces: list[Any]) -> Any:
    """Return texts as one, and texts among other parts as parts of their own."""
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    parts: list[Any] = []
    for piece in pieces:
        if not isinstance(piece, str):
            parts += cast("list[Any]", piece) if isinstance(piece, list) else [piece]
        elif parts and isinstance(parts[-1], dict) and cast("dict[str, Any]", parts[-1]).get("type") == "text":
            parts[-1] = {**parts[-1], "text": f"{parts[-1].get('text', '')}{piece}"}
        else:
            parts.append({"type": "text", "text": piece})
    return parts


def accumulator() -> ConversationAccumulator:
    """Return a fresh accumulator for one stream."""
    return ConversationAccumulator()


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that add up to the body `wire`, for an answer that is not from the provider."""
    yield {
        "type": "conversation.response.started",
        **{key: wire[key] for key in ("conversation_id",) if key in wire},
    }
    for index, entry in enumerate(as_list(wire.get("outputs"))):
        yield {**entry, "type": _EVENTS.get(entry.get("type"), str(entry.get("type"))), "output_index": index}
    if wire.get("error"):
        yield {"type": "conversation.response.error", **wire["error"]}
    else:
        yield {"type": "conversation.response.done", **{key: wire[key] for key in ("usage",) if key in wire}}


_EVENTS = {entry: event for event, entry in reversed(_ENTRIES.items())}


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the text of an event: a piece of what the model says."""
    kind = event.get("type")
    texts = Texts(all_ended=kind in ("conversation.response.done", "conversation.response.error"))
    if kind == "message.output.delta" and isinstance(event.get("content"), str):
        texts.deltas.append(Slot((event.get("output_index", 0), "content"), event, "content"))
    return texts


def is_whole(wire: Mapping[str, Any]) -> bool:
    """Whether an answer, as far as its events have come, is at its end."""
    return "usage" in wire
