"""Streams of LangChain chat models: message chunks and protocol events added up, and an answer cut into chunks.

Adding a chunk only files its fragments; they are joined once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanrelay._json import dumps_text, loads_or_text
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.codecs.texts import Slot, Texts, part_slots


class _Call:
    """The fragments of one tool call."""

    __slots__ = ("fields", "fragments")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.fragments: list[str] = []

    def add(self, chunk: Mapping[str, Any]) -> None:
        for key in ("name", "id"):
            if chunk.get(key) and not self.fields.get(key):
                self.fields[key] = chunk[key]
        arguments = chunk.get("args")
        if isinstance(arguments, str):
            self.fragments.append(arguments)

    def result(self) -> dict[str, Any]:
        """Return the call; arguments that are no JSON object stay text."""
        text = "".join(self.fragments)
        arguments = loads_or_text(text) if text else {}
        valid = isinstance(arguments, dict)
        return {
            "name": self.fields.get("name") or "",
            "args": arguments if valid else text,
            "id": self.fields.get("id"),
            "type": "tool_call" if valid else "invalid_tool_call",
        }


class _Blocks:
    """Content that comes as a list of blocks: those of one index and type are one, and their texts are joined."""

    __slots__ = ("_blocks", "_known")

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []
        self._known: dict[tuple[Any, Any], dict[str, Any]] = {}

    def add(self, block: Any) -> None:
        if isinstance(block, str):
            block = {"type": "text", "text": block}
        fields = as_mapping(block)
        key = (fields.get("index"), fields.get("type"))
        known = self._known.get(key) if key[0] is not None else None
        if known is None:
            known = dict(fields)
            self._blocks.append(known)
            self._known[key] = known
            return
        for name, value in fields.items():
            before = known.get(name)
            joined = name in _JOINED and isinstance(before, str) and isinstance(value, str)
            known[name] = f"{before}{value}" if joined else value

    def result(self) -> list[dict[str, Any]]:
        return self._blocks


_JOINED = frozenset({"text", "reasoning", "thinking", "signature", "reasoning_content"})
"""Fields whose texts are fragments of one text."""


class ChunkAccumulator:
    """Adds up the chunks of one streamed answer, or its protocol events; see `Accumulator`."""

    __slots__ = ("_blocks", "_calls", "_extra", "_message", "_texts", "_usage", "_whole_calls")

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._texts: list[str] = []
        self._blocks: _Blocks | None = None
        self._calls: dict[Any, _Call] = {}
        self._whole_calls: list[Any] = []
        self._usage: dict[str, Any] = {}
        self._extra: dict[str, dict[str, Any]] = {"additional_kwargs": {}, "response_metadata": {}}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one chunk, one whole message, or one protocol event."""
        named = event.get("event")
        if named is not None:
            self._add_event(named, event)
            return
        self._add_content(event.get("content"))
        for key, into in self._extra.items():
            _merge(into, as_mapping(event.get(key)))
        _add_usage(self._usage, as_mapping(event.get("usage_metadata")))
        pieces = as_list(event.get("tool_call_chunks"))
        if pieces:
            for piece in map(as_mapping, pieces):
                self._add_piece(piece)
        else:
            self._whole_calls += [*as_list(event.get("tool_calls")), *as_list(event.get("invalid_tool_calls"))]
        for key in ("id", "name"):
            if event.get(key) and key not in self._message:
                self._message[key] = event[key]

    def _add_piece(self, piece: Mapping[str, Any]) -> None:
        index = as_int(piece.get("index"))
        key = index if index is not None else piece.get("id") or len(self._calls)
        self._calls.setdefault(key if isinstance(key, (int, str)) else str(key), _Call()).add(piece)

    def _add_content(self, content: Any) -> None:
        if isinstance(content, str):
            if content:
                self._texts.append(content)
            return
        for block in as_list(content):
            self._blocks = self._blocks or _Blocks()
            self._blocks.add(block)

    def _add_event(self, name: Any, event: Mapping[str, Any]) -> None:
        if name == "message-start" and event.get("id"):
            self._message["id"] = event["id"]
        elif name == "content-block-delta":
            delta = as_mapping(event.get("delta"))
            kind = (as_str(delta.get("type")) or "").removesuffix("-delta")
            if kind in ("text", "reasoning") and isinstance(delta.get(kind), str):
                self._add_content([{"type": kind, kind: delta[kind], "index": event.get("index")}])
        elif name == "content-block-finish":
            self._finish_block(event)
        elif name == "message-finish":
            _add_usage(self._usage, as_mapping(event.get("usage")))
            _merge(self._extra["response_metadata"], as_mapping(event.get("metadata")))

    def _finish_block(self, event: Mapping[str, Any]) -> None:
        """Take in a whole block; the deltas of a text have said it already."""
        block = as_mapping(event.get("content"))
        kind = block.get("type")
        if kind in ("tool_call", "invalid_tool_call"):
            self._whole_calls.append({key: block.get(key) for key in ("name", "args", "id", "type")})
        elif kind not in ("text", "reasoning"):
            self._add_content([{**block, "index": event.get("index")}])

    def result(self) -> dict[str, Any]:
        """Return the answer so far, as one generation."""
        calls = [*self._whole_calls, *(call.result() for call in self._calls.values())]
        message: dict[str, Any] = {
            "content": self._content(),
            **self._extra,
            "type": "ai",
            "name": None,
            "id": None,
            **self._message,
            "tool_calls": [call for call in calls if as_mapping(call).get("type") != "invalid_tool_call"],
            "invalid_tool_calls": [call for call in calls if as_mapping(call).get("type") == "invalid_tool_call"],
            "usage_metadata": self._usage or None,
        }
        return {"generations": [{"message": message, "generation_info": None}]}

    def _content(self) -> Any:
        text = "".join(self._texts)
        if self._blocks is None:
            return text
        blocks: list[Any] = self._blocks.result()
        return [{"type": "text", "text": text}, *blocks] if text else blocks


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        before = into.get(key)
        if key in _JOINED and isinstance(before, str) and isinstance(value, str):
            into[key] = before + value
        elif value or key not in into:
            into[key] = value


def _add_usage(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add the usage of a chunk: what it adds to those before it, or a running total, which says its input again."""
    if more.get("input_tokens") and more["input_tokens"] == into.get("input_tokens"):
        into.clear()
    _add_counts(into, more)


def _add_counts(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping):
            inner = dict(as_mapping(into.get(key)))
            _add_counts(inner, cast("Mapping[str, Any]", value))
            into[key] = inner
        elif isinstance(value, int) and isinstance(into.get(key, 0), int):
            into[key] = into.get(key, 0) + value
        else:
            into[key] = value


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the chunks that add up to the first generation of `wire`, for an answer not from the provider."""
    generation = as_mapping(next(iter(as_list(wire.get("generations"))), None))
    message = as_mapping(generation.get("message"))
    head = {"type": "AIMessageChunk", "id": message.get("id")}
    extra = {key: message[key] for key in ("additional_kwargs", "name") if message.get(key)}
    yield {**head, "content": message.get("content") or "", **extra}
    pieces = list(_pieces(message))
    if pieces:
        yield {**head, "content": "", "tool_call_chunks": pieces}
    yield {
        **head,
        "content": "",
        "response_metadata": message.get("response_metadata") or {},
        "usage_metadata": message.get("usage_metadata"),
        "chunk_position": "last",
    }


def _pieces(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    calls = [*as_list(message.get("tool_calls")), *as_list(message.get("invalid_tool_calls"))]
    for index, call in enumerate(map(as_mapping, calls)):
        arguments = call.get("args")
        text = arguments if isinstance(arguments, str) else dumps_text(arguments)
        yield {"name": call.get("name"), "args": text, "id": call.get("id"), "index": index, "type": "tool_call_chunk"}


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the texts of a chunk or of a protocol event: content and reasoning."""
    if "event" in event:
        return _event_texts(event)
    metadata = as_mapping(event.get("response_metadata"))
    texts = Texts(all_ended=event.get("chunk_position") == "last" or bool(metadata.get("finish_reason")))
    holder, content = cast("dict[str, Any]", event), event.get("content")
    if isinstance(content, str):
        texts.deltas.append(Slot((0, "content"), holder, "content"))
    for place, block in enumerate(as_list(content)):
        texts.deltas += _slots(block, as_mapping(block).get("index", place))
    extra = event.get("additional_kwargs")
    if isinstance(extra, dict) and isinstance(extra.get("reasoning_content"), str):
        texts.deltas.append(Slot((0, "reasoning_content"), cast("dict[str, Any]", extra), "reasoning_content"))
    return texts


def _event_texts(event: Mapping[str, Any]) -> Texts:
    texts, name, index = Texts(all_ended=event.get("event") == "message-finish"), event.get("event"), event.get("index")
    if name == "content-block-delta":
        texts.deltas = _slots(event.get("delta"), index)
    elif name == "content-block-finish":
        texts.ended.add(index)
        texts.wholes = _slots(event.get("content"), index)
    return texts


def _slots(block: Any, index: Any) -> list[Slot]:
    if not isinstance(block, dict):
        return []
    fields = cast("dict[str, Any]", block)
    names = ("text", "reasoning", "thinking")
    texts = [Slot((index, name), fields, name) for name in names if isinstance(fields.get(name), str)]
    return [*texts, *part_slots(fields.get("thinking"), index, "thinking")]
