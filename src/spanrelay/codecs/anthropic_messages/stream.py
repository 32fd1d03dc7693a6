"""Streams of the Messages API: events added up to the body, and a body cut into events.

Adding a fragment only files it; fragments are joined once, when somebody asks for the body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanrelay._json import dumps_text, loads_or_text
from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.codecs.texts import Slot, Texts

_JOINED = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "input"),
}
"""Type of a delta to the key of its fragment, and the key of the block that the fragments add up to."""
_BLOCKS = {"text": "text", "thinking": "thinking", "input": "tool_use"}
"""The type of a block of which the beginning did not come, by what its fragments add up to."""
_TEXTS = ("text", "thinking")


class MessagesAccumulator:
    """Adds up the events of one streamed message; see `Accumulator`."""

    __slots__ = ("_blocks", "_body", "_fragments")

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._fragments: dict[tuple[int, str], list[str]] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        try:  # most say some text of a block of which some has come
            delta, index = event["delta"], event["index"]
            if event["type"] == "content_block_delta" and delta["type"] == "text_delta" and type(index) is int:
                self._fragments[index, "text"].append(delta["text"] + "")
                return
        except (KeyError, TypeError):
            pass
        kind = event.get("type")
        if kind == "content_block_delta":
            self._add_delta(event)
        elif kind == "content_block_start":
            self._begin(event)
        elif kind == "message_start":
            self._body.update(as_mapping(event.get("message")))
        elif kind in ("message_delta", "message_stop"):
            self._add_rest(event)
        elif kind == "error" or event.get("error"):
            self._body["error"] = event.get("error") or {key: event[key] for key in event if key != "type"}
            self._body.setdefault("type", "error")

    def _add_delta(self, event: Mapping[str, Any]) -> None:
        index, delta = event.get("index", 0), event.get("delta")
        if index.__class__ is not int or not isinstance(delta, Mapping):
            return
        known = cast("Mapping[str, Any]", delta)
        kind = known.get("type")
        place = _JOINED.get(kind) if isinstance(kind, str) else None
        if place is None:
            self._add_other(index, known)
            return
        fragment, key = known.get(place[0]), (index, place[1])
        if not isinstance(fragment, str):
            return
        fragments = self._fragments.get(key)
        if fragments is None:
            self._fragments[key] = [fragment]
        else:
            fragments.append(fragment)

    def _add_other(self, index: int, delta: Mapping[str, Any]) -> None:
        """Take in what comes whole: a citation, one of several; a signature; what nobody knows yet."""
        block = self._blocks.setdefault(index, {})
        if "citation" in delta:
            block["citations"] = [*as_list(block.get("citations")), delta["citation"]]
        else:
            block.update({key: value for key, value in delta.items() if key != "type"})

    def _begin(self, event: Mapping[str, Any]) -> None:
        index = event.get("index", len(self._blocks))
        if index.__class__ is int:
            block = dict(as_mapping(event.get("content_block")))
            self._blocks[index] = block
            if block.get("type") == "fallback" and as_mapping(block.get("to")).get("model"):
                self._body["model"] = block["to"]["model"]  # which serves the rest of the answer

    def _add_rest(self, event: Mapping[str, Any]) -> None:
        """Take in what is known at the end; counts are totals, and those that are not told again stand."""
        self._body.update(as_mapping(event.get("delta")))
        usage = {key: value for key, value in as_mapping(event.get("usage")).items() if value is not None}
        if usage:
            self._body["usage"] = {**as_mapping(self._body.get("usage")), **usage}
        for key, value in event.items():
            if key not in ("type", "delta", "usage") and value is not None:
                self._body[key] = value

    def result(self) -> dict[str, Any]:
        """Return the body so far."""
        body = dict(self._body)
        if self._blocks or self._fragments:
            indices = sorted({*self._blocks, *(index for index, _ in self._fragments)})
            body["content"] = [self._block(index) for index in indices]
        return body

    def _block(self, index: int) -> dict[str, Any]:
        block = dict(self._blocks.get(index, {}))
        for key, kind in _BLOCKS.items():
            fragments = self._fragments.get((index, key))
            if fragments is None:
                continue
            block.setdefault("type", kind)
            joined = "".join(fragments)
            if key != "input":
                block[key] = f"{block.get(key) or ''}{joined}"
            elif joined:
                block[key] = loads_or_text(joined)
        return block


# --- a body as events --------------------------------------------------------------------------------------

_LATE = ("stop_reason", "stop_sequence", "stop_details", "container")
"""What is told of a message at its end only."""


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that add up to the body `wire`, for an answer that is not from the provider."""
    if wire.get("error") and not wire.get("content"):
        yield dict(wire)
        return
    usage, late = as_mapping(wire.get("usage")), {key: wire[key] for key in _LATE if key in wire}
    head = {key: value for key, value in wire.items() if key not in (*late, "error")}
    begun = {**usage, "output_tokens": 0} if "output_tokens" in usage else dict(usage)
    yield {"type": "message_start", "message": {**head, "content": [], **dict.fromkeys(late), "usage": begun}}
    for index, block in enumerate(map(as_mapping, as_list(wire.get("content")))):
        yield from _block_events(index, block)
    if wire.get("error"):
        yield {"type": "error", "error": wire["error"]}
        return
    yield {"type": "message_delta", "delta": late, "usage": dict(usage)}
    yield {"type": "message_stop"}


def _block_events(index: int, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    begun, deltas = dict(block), list[dict[str, Any]]()
    for key in _TEXTS:
        if isinstance(block.get(key), str) and block.get("type") == key:
            begun[key] = ""
            deltas.append({"type": f"{key}_delta", key: block[key]})
    if block.get("type") in ("tool_use", "server_tool_use", "mcp_tool_use") and block.get("input"):
        given = block["input"]
        begun["input"] = {}
        deltas.append(
            {"type": "input_json_delta", "partial_json": given if isinstance(given, str) else dumps_text(given)}
        )
    if block.get("type") == "thinking" and isinstance(block.get("signature"), str):
        begun["signature"] = ""
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    yield {"type": "content_block_start", "index": index, "content_block": begun}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


# --- texts for stream intercepts ---------------------------------------------------------------------------


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the texts of an event: what a block begins with, and what is added to it."""
    kind = event.get("type")
    texts = Texts(all_ended=not isinstance(kind, str) or kind in ("message_delta", "message_stop", "error"))
    index = event.get("index", 0)
    if kind == "content_block_stop":
        texts.ended.add(index)
    holder = event.get("delta" if kind == "content_block_delta" else "content_block")
    if isinstance(holder, dict) and kind in ("content_block_delta", "content_block_start"):
        fields = cast("dict[str, Any]", holder)
        texts.deltas += [
            Slot((index, key), fields, key) for key in _TEXTS if isinstance(fields.get(key), str) and fields[key]
        ]
    return texts
