"""The stream of Cohere's chat, version 1: objects, of which the last holds the answer whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.codecs.texts import Slot, Texts


class CohereV1Accumulator:
    """Adds up the objects of one stream; the pieces of a text are joined once, at the end."""

    __slots__ = ("_body", "_texts")

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._texts: list[str] = []

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one object."""
        kind = event.get("event_type")
        if kind == "text-generation":
            text = event.get("text")
            if isinstance(text, str):
                self._texts.append(text)
        elif kind == "stream-start":
            self._body.update({key: event[key] for key in ("generation_id",) if key in event})
        elif kind in _LISTS:
            for key in _LISTS[kind]:
                if key in event:
                    self._body[key] = [*as_list(self._body.get(key)), *as_list(event[key])]
        elif kind == "stream-end":
            self._body.update(as_mapping(event.get("response")))
            self._body.update({key: event[key] for key in ("finish_reason", "error") if event.get(key) is not None})
        elif kind is None:  # an error, or what a gateway answers in place of events
            self._body.update(event)

    def result(self) -> dict[str, Any]:
        """Return the body so far."""
        if not self._texts:
            return dict(self._body)
        # The whole answer repeats the text; where intercepts changed the pieces, these are what the program got.
        return {**self._body, "text": "".join(self._texts)}


_LISTS = {
    "search-queries-generation": ("search_queries",),
    "search-results": ("search_results", "documents"),
    "tool-calls-generation": ("tool_calls",),
    "citation-generation": ("citations",),
}
"""What an object tells beside the text, by its type; an answer has it all again."""


def accumulator() -> CohereV1Accumulator:
    """Return a fresh accumulator for one stream."""
    return CohereV1Accumulator()


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the objects that add up to the body `wire`, for an answer that is not from the provider."""
    if "text" not in wire and "tool_calls" not in wire:
        yield dict(wire)
        return
    yield {"is_finished": False, "event_type": "stream-start", "generation_id": wire.get("generation_id")}
    if wire.get("text"):
        yield {"is_finished": False, "event_type": "text-generation", "text": wire["text"]}
    for kind, keys in _LISTS.items():
        told = {key: wire[key] for key in keys if wire.get(key)}
        if told:
            yield {"is_finished": False, "event_type": kind, **told}
    reason = wire.get("finish_reason")
    yield {"is_finished": True, "event_type": "stream-end", "response": dict(wire), "finish_reason": reason}


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the texts of an object: a piece of what the model says, or all of it again at the end."""
    texts = Texts(all_ended=event.get("event_type") == "stream-end")
    if isinstance(event.get("text"), str) and isinstance(event, dict):
        texts.deltas.append(Slot((0, "text"), event, "text"))
    response = event.get("response")
    if isinstance(response, dict) and isinstance(cast("dict[str, Any]", response).get("text"), str):
        texts.wholes.append(Slot((0, "text"), response, "text"))
    return texts


def is_whole(wire: Mapping[str, Any]) -> bool:
    """Whether an answer, as far as its objects have come, is at its end."""
    return wire.get("finish_reason") is not None
