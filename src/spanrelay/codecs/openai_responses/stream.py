"""Streams of the Responses API: events added up to the body, and a body cut into events.

Adding an event only files its fragments; they are joined only where the stream was cut before its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, cast

from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.codecs.openai_shapes import error_event
from spanrelay.codecs.texts import Slot, Texts

_FINAL = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
}
"""Status of a response to the event that ends its stream."""

_DELTAS = {
    "response.output_text.delta": ("content", "content_index"),
    "response.refusal.delta": ("refusal", "content_index"),
    "response.reasoning_text.delta": ("reasoning", "content_index"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index"),
    "response.function_call_arguments.delta": ("arguments", ""),
    "response.mcp_call_arguments.delta": ("arguments", ""),
    "response.custom_tool_call_input.delta": ("input", ""),
    "response.code_interpreter_call_code.delta": ("code", ""),
}
"""Event type to the field its fragment belongs to, and the key of its place in that field."""

_PARTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "content": ("content", {"type": "output_text", "text": "", "annotations": []}, "text"),
    "refusal": ("content", {"type": "refusal", "refusal": ""}, "refusal"),
    "reasoning": ("content", {"type": "reasoning_text", "text": ""}, "text"),
    "summary": ("summary", {"type": "summary_text", "text": ""}, "text"),
}
"""Field to the array of the item that holds it, an empty part of it, and the key of the part's text."""

_ITEM_KINDS = {
    "content": "message",
    "refusal": "message",
    "reasoning": "reasoning",
    "summary": "reasoning",
    "arguments": "function_call",
    "input": "custom_tool_call",
    "code": "code_interpreter_call",
}


class ResponsesAccumulator:
    """Adds up the events of one streamed answer; see `Accumulator`."""

    __slots__ = ("_done", "_error", "_final", "_fragments", "_items", "_response")

    def __init__(self) -> None:
        self._response: Mapping[str, Any] = {}
        self._final: Mapping[str, Any] | None = None
        self._items: dict[int, Mapping[str, Any]] = {}
        self._done: set[int] = set()
        self._fragments: dict[tuple[int, str, int], list[str]] = {}
        self._error: Any = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        kind = event.get("type")
        if not isinstance(kind, str) or event.get("object") == "error":
            self._error = event.get("error") or error_event(event) or self._error
            return
        place = _DELTAS.get(kind)
        if place is not None:
            field, index_key = place
            self._add_fragment(event, field, event.get(index_key, 0))
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._add_item(event, done=kind.endswith("done"))
        elif kind in _FINAL.values():
            self._final = as_mapping(event.get("response"))
        elif kind == "error":
            self._error = event.get("error") or _without(event, "type", "sequence_number")
        elif isinstance(event.get("response"), Mapping):
            self._response = event["response"]

    def _add_fragment(self, event: Mapping[str, Any], field: str, index: Any) -> None:
        number, text = event.get("output_index", 0), event.get("delta")
        if not isinstance(text, str) or number.__class__ is not int or index.__class__ is not int:
            return
        key = (number, field, index)
        fragments = self._fragments.get(key)
        if fragments is None:
            self._fragments[key] = [text]
        else:
            fragments.append(text)

    def _add_item(self, event: Mapping[str, Any], done: bool) -> None:
        number = event.get("output_index", len(self._items))
        if number.__class__ is int:
            self._items[number] = as_mapping(event.get("item"))
            if done:
                self._done.add(number)

    def result(self) -> dict[str, Any]:
        """Return the body so far: the one that the stream ended with, or what its parts add up to."""
        body = dict(self._response if self._final is None else self._final)
        if not body.get("output") and (self._items or self._fragments):
            body["output"] = self._output()
        if self._error is not None and not body.get("error"):
            body["error"] = self._error
        return body

    def _output(self) -> list[dict[str, Any]]:
        fragments: dict[int, dict[tuple[str, int], str]] = {}
        for (number, field, index), texts in sorted(self._fragments.items()):
            fragments.setdefault(number, {})[field, index] = "".join(texts)
        return [self._item(number, fragments.get(number, {})) for number in sorted({*self._items, *fragments})]

    def _item(self, number: int, fragments: Mapping[tuple[str, int], str]) -> dict[str, Any]:
        item = dict(self._items.get(number) or _blank_item(fragments))
        if number in self._done:
            return item
        for (field, index), text in fragments.items():
            if field in _PARTS:
                _set_part(item, field, index, text)
            else:
                item[field] = text
        return item


def _without(event: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in keys}


def _blank_item(fragments: Mapping[tuple[str, int], str]) -> dict[str, Any]:
    """Return an item for fragments whose item was never announced."""
    kind = _ITEM_KINDS[next(iter(fragments))[0]] if fragments else "message"
    return {"type": kind, "role": "assistant"} if kind == "message" else {"type": kind}


def _set_part(item: dict[str, Any], field: str, index: int, text: str) -> None:
    array, blank, key = _PARTS[field]
    parts = [*as_list(item.get(array))]
    while len(parts) < min(index, 1000):  # a wild index must not fill the memory
        parts.append({"type": "output_text", "text": "", "annotations": []} if array == "content" else blank)
    parts[index : index + 1] = [{**blank, key: text}]
    item[array] = parts


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that add up to the body `wire`, for an answer that is not from the provider."""
    if wire.get("error") and "output" not in wire:
        yield {"type": "error", "error": wire["error"], "sequence_number": 0}
        return
    numbers = count()
    for event in _events(wire):
        yield {**event, "sequence_number": next(numbers)}


def _events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    start = {**wire, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": start}
    yield {"type": "response.in_progress", "response": start}
    for index, item in enumerate(as_list(wire.get("output"))):
        if isinstance(item, Mapping):
            yield from _item_events(cast("Mapping[str, Any]", item), index)
    status = wire.get("status")
    # One that says nothing of its status is an answer that policy has made.
    final = "response.completed" if status is None else _FINAL.get(status) if isinstance(status, str) else None
    # A background response that still runs has no last event; its state so far is told instead.
    yield {"type": final or "response.in_progress", "response": dict(wire)}


def _item_events(item: Mapping[str, Any], index: int) -> Iterator[dict[str, Any]]:
    kind = item.get("type")
    empty = {"message": {"content": []}, "function_call": {"arguments": ""}}
    start = {**item, **empty.get(kind, {})} if isinstance(kind, str) else dict(item)
    if "status" in start:
        start["status"] = "in_progress"
    yield {"type": "response.output_item.added", "output_index": index, "item": start}
    place = {"item_id": item.get("id"), "output_index": index}
    if kind == "message":
        for number, part in enumerate(map(as_mapping, as_list(item.get("content")))):
            yield from _part_events(part, {**place, "content_index": number})
    elif kind == "function_call" and isinstance(item.get("arguments"), str):
        name = "response.function_call_arguments"
        yield {"type": f"{name}.delta", **place, "delta": item["arguments"]}
        yield {"type": f"{name}.done", **place, "name": item.get("name"), "arguments": item["arguments"]}
    yield {"type": "response.output_item.done", "output_index": index, "item": dict(item)}


def _part_events(part: Mapping[str, Any], place: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    names = {"output_text": ("response.output_text", "text"), "refusal": ("response.refusal", "refusal")}
    kind = part.get("type")
    name, key = names.get(kind, ("", "")) if isinstance(kind, str) else ("", "")
    if not name or not isinstance(part.get(key), str):
        return
    extra = {"logprobs": []} if key == "text" else {}
    yield {"type": "response.content_part.added", **place, "part": {**part, key: ""}}
    yield {"type": f"{name}.delta", **place, **extra, "delta": part[key]}
    yield {"type": f"{name}.done", **place, **extra, key: part[key]}
    yield {"type": "response.content_part.done", **place, "part": dict(part)}


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the texts of an event: output text, refusals and reasoning, as deltas or whole."""
    texts = Texts()
    known = cast("dict[str, Any]", event)
    kind = known.get("type")
    if not isinstance(kind, str):
        texts.all_ended = True
        return texts
    field, index_key = _DELTAS.get(kind, ("", ""))
    if field in _PARTS:
        if isinstance(known.get("delta"), str):
            texts.deltas.append(Slot((known.get("output_index", 0), field, known.get(index_key, 0)), known, "delta"))
        return texts
    if kind.endswith(".done"):
        texts.ended.add(known.get("output_index", 0))
        texts.wholes += [Slot((0,), known, name) for name in _WHOLE if isinstance(known.get(name), str)]
    texts.wholes += _part_texts(known.get("part"))
    texts.wholes += _item_texts(known.get("item"))
    response = known.get("response")
    if isinstance(response, dict):
        texts.all_ended = kind in _FINAL.values()
        for item in as_list(cast("dict[str, Any]", response).get("output")):
            texts.wholes += _item_texts(item)
    texts.all_ended = texts.all_ended or kind == "error"
    return texts


_WHOLE = ("text", "refusal")


def _part_texts(part: Any) -> list[Slot]:
    if not isinstance(part, dict):
        return []
    known = cast("dict[str, Any]", part)
    return [Slot((0,), known, name) for name in _WHOLE if isinstance(known.get(name), str)]


def _item_texts(item: Any) -> list[Slot]:
    if not isinstance(item, dict):
        return []
    known = cast("dict[str, Any]", item)
    return [slot for name in ("content", "summary") for part in as_list(known.get(name)) for slot in _part_texts(part)]
