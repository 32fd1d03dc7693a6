"""The events of a Converse stream, added up to the body that the call would have got whole, and made of one.

An event is an object whose one key says what it is, as the SDK hands it out and as Nova's own streams have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanrelay._json import dumps_text, loads_or_text
from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.codecs.texts import Slot, Texts


class ConverseAccumulator:
    """Adds up the events of one stream; fragments of a text or of arguments are joined once, at the end."""

    __slots__ = ("_blocks", "_body", "_failure", "_role")

    def __init__(self) -> None:
        self._blocks: dict[Any, dict[str, Any]] = {}
        self._body: dict[str, Any] = {}
        self._role: Any = None
        self._failure: dict[str, Any] | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        try:  # most say some text of a block that has begun
            told = event["contentBlockDelta"]
            delta = told["delta"]
            if len(delta) == 1:
                self._blocks[told["contentBlockIndex"]]["text"].append(delta["text"] + "")
                return
        except (KeyError, TypeError, AttributeError):
            pass
        for kind, value in event.items():
            fields = as_mapping(value)
            if kind == "contentBlockDelta":
                self._add_delta(self._block(fields), as_mapping(fields.get("delta")))
            elif kind == "contentBlockStart":
                self._start(self._block(fields), as_mapping(fields.get("start")))
            elif kind == "messageStart":
                self._role = fields.get("role")
            elif kind in ("messageStop", "metadata"):
                self._body.update(fields)
                self._body.pop("p", None)
            elif kind.endswith("Exception"):
                self._failure = {"__type": kind, **fields}

    def _block(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        index = fields.get("contentBlockIndex")
        return self._blocks.setdefault(index if isinstance(index, (int, str)) else None, {})

    def _start(self, block: dict[str, Any], start: Mapping[str, Any]) -> None:
        for key, value in start.items():
            block[key] = dict(as_mapping(value))

    def _add_delta(self, block: dict[str, Any], delta: Mapping[str, Any]) -> None:
        for key, value in delta.items():
            if key == "text":
                _append(block, "text", value)
            elif key == "toolUse":
                _append(block.setdefault("toolUse", {}), "input", as_mapping(value).get("input"))
            elif key == "reasoningContent":
                _add_reasoning(block.setdefault("reasoningContent", {}), as_mapping(value))
            elif key == "citation":
                block.setdefault("citations", []).append(value)
            elif isinstance(value, list):
                held = block.setdefault(key, {})
                held["content"] = [*as_list(held.get("content")), *cast("list[Any]", value)]
            else:
                block.setdefault(key, {}).update(as_mapping(value))

    def result(self) -> dict[str, Any]:
        """Return the body as far as events have come; that of a failure where nothing else has."""
        if not self._blocks and not self._body and self._role is None:
            return dict(self._failure or {})
        content = [_block_of(block) for block in self._blocks.values()]
        body = {"output": {"message": {"role": self._role or "assistant", "content": content}}, **self._body}
        return {**body, **self._failure} if self._failure else body


def _append(holder: dict[str, Any], key: str, value: Any) -> None:
    if isinstance(value, str):
        held = holder.get(key)
        if isinstance(held, list):
            held.append(value)
        else:
            holder[key] = [value]


def _add_reasoning(content: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for key in ("text", "signature", "redactedContent"):
        _append(content, key, delta.get(key))


def _joined(value: Any) -> Any:
    return "".join(cast("list[str]", value)) if isinstance(value, list) else value


def _block_of(block: dict[str, Any]) -> dict[str, Any]:
    out = dict(block)
    if "citations" in out:
        return {
            "citationsContent": {"content": [{"text": _joined(out.get("text", ""))}], "citations": out["citations"]}
        }
    if "text" in out:
        out["text"] = _joined(out["text"])
    if isinstance(out.get("toolUse"), dict):
        call = dict(cast("dict[str, Any]", out["toolUse"]))
        given = _joined(call.get("input"))
        call["input"] = (loads_or_text(given) if given else {}) if isinstance(given, str) or given is None else given
        out["toolUse"] = call
    if "reasoningContent" in out:
        out["reasoningContent"] = _reasoning_of(as_mapping(out["reasoningContent"]))
    return out


def _reasoning_of(held: Mapping[str, Any]) -> dict[str, Any]:
    if "redactedContent" in held:
        return {"redactedContent": _joined(held["redactedContent"])}
    shown = {key: _joined(held[key]) for key in ("text", "signature") if key in held}
    return {"reasoningText": {"text": "", **shown}}


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that add up to the body `wire`, for an answer that is not from the provider."""
    message = as_mapping(as_mapping(wire.get("output")).get("message"))
    yield {"messageStart": {"role": message.get("role") or "assistant"}}
    for index, block in enumerate(as_list(message.get("content"))):
        for start, delta in _pieces(as_mapping(block)):
            if start is not None:
                yield {"contentBlockStart": {"start": start, "contentBlockIndex": index}}
            if delta is not None:
                yield {"contentBlockDelta": {"delta": delta, "contentBlockIndex": index}}
        yield {"contentBlockStop": {"contentBlockIndex": index}}
    stop = {key: wire[key] for key in ("stopReason", "additionalModelResponseFields") if key in wire}
    yield {"messageStop": {"stopReason": "end_turn", **stop}}
    told = {key: value for key, value in wire.items() if key not in ("output", *stop, "stopReason")}
    if told:
        yield {"metadata": told}


def _pieces(block: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """Yield the start and the deltas of one block."""
    for key, value in block.items():
        fields = as_mapping(value)
        if key == "text":
            yield None, {"text": value}
        elif key == "toolUse":
            given = fields.get("input")
            head = {name: each for name, each in fields.items() if name != "input"}
            yield {"toolUse": head}, {"toolUse": {"input": given if isinstance(given, str) else dumps_text(given)}}
        elif key == "reasoningContent":
            shown = as_mapping(fields.get("reasoningText"))
            for name, each in (shown or fields).items():
                yield None, {"reasoningContent": {name: each}}
        elif key == "citationsContent":
            for item in as_list(fields.get("content")):
                yield None, dict(as_mapping(item))
            for citation in as_list(fields.get("citations")):
                yield None, {"citation": citation}
        elif key == "toolResult":
            head = {name: each for name, each in fields.items() if name != "content"}
            yield {"toolResult": head}, {"toolResult": as_list(fields.get("content"))}
        else:
            yield None, {key: value}


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the texts of an event: what the model says and thinks, by block."""
    texts = Texts(all_ended="messageStop" in event or "metadata" in event)
    ended = event.get("contentBlockStop")
    if isinstance(ended, Mapping):
        texts.ended.add(cast("Mapping[str, Any]", ended).get("contentBlockIndex"))
    moved = event.get("contentBlockDelta")
    if not isinstance(moved, dict):
        return texts
    fields = cast("dict[str, Any]", moved)
    index, delta = fields.get("contentBlockIndex"), fields.get("delta")
    if isinstance(delta, dict):
        holder = cast("dict[str, Any]", delta)
        if isinstance(holder.get("text"), str):
            texts.deltas.append(Slot((index, "text"), holder, "text"))
        thought = holder.get("reasoningContent")
        if isinstance(thought, dict) and isinstance(cast("dict[str, Any]", thought).get("text"), str):
            texts.deltas.append(Slot((index, "reasoning"), thought, "text"))
    return texts


def is_whole(wire: Mapping[str, Any]) -> bool:
    """Whether an answer, as far as its events have come, is at its end."""
    return wire.get("stopReason") is not None
