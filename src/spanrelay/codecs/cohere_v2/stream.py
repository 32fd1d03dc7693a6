"""The stream of Cohere's chat, version 2: typed events, added up to the body, and a body told in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.codecs.texts import Slot, Texts


class CohereAccumulator:
    """Adds up the events of one stream; fragments of a text or of arguments are joined once, at the end."""

    __slots__ = ("_blocks", "_body", "_calls", "_citations", "_message", "_plan")

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._message: dict[str, Any] | None = None
        self._plan: list[str] = []
        self._blocks: dict[Any, tuple[dict[str, Any], dict[str, list[str]]]] = {}
        self._calls: dict[Any, tuple[dict[str, Any], list[str]]] = {}
        self._citations: list[Any] = []

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        kind, told = event.get("type"), as_mapping(event.get("delta"))
        message = as_mapping(told.get("message"))
        if kind == "content-delta" or kind == "content-start":
            self._add_content(_index(event), as_mapping(message.get("content")))
        elif kind == "message-start":
            self._message = dict(message)
            if "id" in event:
                self._body["id"] = event["id"]
        elif kind == "message-end":
            self._body.update(told)
        elif kind == "tool-plan-delta":
            self._plan += [plan] if isinstance(plan := message.get("tool_plan"), str) else []
        elif kind == "tool-call-start" or kind == "tool-call-delta":
            self._add_call(_index(event), as_mapping(message.get("tool_calls")))
        elif kind == "citation-start":
            self._citations.append(message.get("citations"))
        elif kind is None:  # an error, or what a gateway answers in place of events
            self._body.update(event)

    def _add_content(self, index: Any, content: Mapping[str, Any]) -> None:
        fields, texts = self._blocks.setdefault(index, ({}, {}))
        for key, value in content.items():
            if key in _TEXTS and isinstance(value, str):
                texts.setdefault(key, []).append(value)
            else:
                fields[key] = value

    def _add_call(self, index: Any, call: Mapping[str, Any]) -> None:
        fields, arguments = self._calls.setdefault(index, ({}, []))
        for key, value in call.items():
            if key == "function" and isinstance(value, Mapping):
                told = dict(cast("Mapping[str, Any]", value))
                given = told.pop("arguments", None)
                arguments += [given] if isinstance(given, str) else []
                fields[key] = {**as_mapping(fields.get(key)), **told}
            else:
                fields[key] = value

    def result(self) -> dict[str, Any]:
        """Return the body so far."""
        body = dict(self._body)
        if self._message is None and not (self._blocks or self._calls or self._plan):
            return body
        message: dict[str, Any] = {"role": "assistant", **(self._message or {})}
        message = {key: value for key, value in message.items() if value not in ("", [])}
        if self._plan:
            message["tool_plan"] = "".join(self._plan)
        if self._calls:
            message["tool_calls"] = [_call_of(*call) for call in self._calls.values()]
        if self._blocks:
            message["content"] = [
                {"type": "text", **fields, **{key: "".join(pieces) for key, pieces in texts.items()}}
                for fields, texts in self._blocks.values()
            ]
        if self._citations:
            message["citations"] = self._citations
        return {**body, "message": message}


_TEXTS = frozenset({"text", "thinking"})


def _index(event: Mapping[str, Any]) -> Any:
    index = event.get("index")
    return index if isinstance(index, (int, str)) else None


def _call_of(fields: dict[str, Any], arguments: list[str]) -> dict[str, Any]:
    return {**fields, "function": {**as_mapping(fields.get("function")), "arguments": "".join(arguments)}}


def accumulator() -> CohereAccumulator:
    """Return a fresh accumulator for one stream."""
    return CohereAccumulator()


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that add up to the body `wire`, for an answer that is not from the provider."""
    message = wire.get("message")
    if not isinstance(message, Mapping):
        yield dict(wire)
        return
    known = cast("Mapping[str, Any]", message)
    told = ("content", "tool_plan", "tool_calls", "citations")
    start: dict[str, Any] = {"role": "assistant", **{key: value for key, value in known.items() if key not in told}}
    head = {"id": wire["id"]} if "id" in wire else {}
    yield {**head, "type": "message-start", "delta": {"message": {**start, "content": [], "tool_calls": []}}}
    if known.get("tool_plan"):
        yield {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": known["tool_plan"]}}}
    for index, call in enumerate(as_list(known.get("tool_calls"))):
        yield {"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": call}}}
        yield {"type": "tool-call-end", "index": index}
    for index, part in enumerate(_parts_of(known.get("content"))):
        fields = as_mapping(part)
        empty = {key: "" if key in _TEXTS else value for key, value in fields.items()}
        yield _content("content-start", index, empty)
        for key in _TEXTS & fields.keys():
            yield _content("content-delta", index, {key: fields[key]})
        yield {"type": "content-end", "index": index}
    for index, citation in enumerate(as_list(known.get("citations"))):
        yield {"type": "citation-start", "index": index, "delta": {"message": {"citations": citation}}}
    yield {
        "type": "message-end",
        "delta": {key: value for key, value in wire.items() if key not in ("id", "message")},
    }


def _parts_of(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) and content else as_list(content)


def _content(kind: str, index: int, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": {"message": {"content": content}}}


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the texts of an event: what the model says and thinks, and what it plans."""
    kind, index = event.get("type"), _index(event)
    texts = Texts(all_ended=kind == "message-end")
    if kind == "content-end":
        texts.ended.add(index)
    delta = event.get("delta")
    message = cast("dict[str, Any]", delta).get("message") if isinstance(delta, dict) else None
    if not isinstance(message, dict):
        return texts
    fields = cast("dict[str, Any]", message)
    content = fields.get("content")
    if isinstance(content, dict):
        told = cast("dict[str, Any]", content)
        texts.deltas += [Slot((index, key), told, key) for key in sorted(_TEXTS) if isinstance(told.get(key), str)]
    if isinstance(fields.get("tool_plan"), str) and kind == "tool-plan-delta":
        texts.deltas.append(Slot(("plan",), fields, "tool_plan"))
    return texts


def is_whole(wire: Mapping[str, Any]) -> bool:
    """Whether an answer, as far as its events have come, is at its end."""
    return wire.get("finish_reason") is not None
