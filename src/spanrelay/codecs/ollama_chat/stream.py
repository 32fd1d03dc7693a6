"""The stream of Ollama's APIs: objects, one a line, each with the next piece of the answer; the last has the counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanrelay.codecs.narrowing import as_list
from spanrelay.codecs.texts import Slot, Texts


class OllamaAccumulator:
    """Adds up the objects of one stream; the pieces of a text are joined once, at the end."""

    __slots__ = ("_body", "_lists", "_message", "_texts")

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._message: dict[str, Any] | None = None
        self._texts: dict[tuple[bool, str], list[str]] = {}
        self._lists: dict[str, list[Any]] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one object."""
        for key, value in event.items():
            if key == "message" and isinstance(value, Mapping):
                self._add_message(cast("Mapping[str, Any]", value))
            elif key in _TEXTS and isinstance(value, str):
                self._texts.setdefault((False, key), []).append(value)
            elif key == "logprobs" and isinstance(value, list):
                self._lists.setdefault(key, []).extend(cast("list[Any]", value))
            elif value is not None or key not in self._body:
                self._body[key] = value

    def _add_message(self, message: Mapping[str, Any]) -> None:
        if self._message is None:
            self._message = {}
        for key, value in message.items():
            if key in _TEXTS and isinstance(value, str):
                self._texts.setdefault((True, key), []).append(value)
            elif key == "tool_calls" and isinstance(value, list):
                self._message[key] = [*as_list(self._message.get(key)), *cast("list[Any]", value)]
            elif value is not None or key not in self._message:
                self._message[key] = value

    def result(self) -> dict[str, Any]:
        """Return the body so far."""
        out = {**self._body, **self._lists}
        out.update((key, "".join(pieces)) for (within, key), pieces in self._texts.items() if not within)
        if self._message is not None:
            texts = {key: "".join(pieces) for (within, key), pieces in self._texts.items() if within}
            out["message"] = {**self._message, **texts}
        return out


_TEXTS = frozenset({"content", "thinking", "response"})


def accumulator() -> OllamaAccumulator:
    """Return a fresh accumulator for one stream."""
    return OllamaAccumulator()


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the answer in one object, and one that says that it is over."""
    message = wire.get("message")
    answer = {key: wire[key] for key in ("message", "response", "thinking") if key in wire}
    if wire.get("done") is not True or not answer:
        yield dict(wire)
        return
    head = {key: wire[key] for key in ("model", "created_at") if key in wire}
    yield {**head, **answer, "done": False}
    silent: dict[str, Any] = {} if message is None else {"message": {"role": "assistant", "content": ""}}
    if "response" in wire:
        silent["response"] = ""
    yield {key: value for key, value in wire.items() if key not in answer} | silent


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the texts of an object: what the model says and thinks."""
    texts = Texts(all_ended=event.get("done") is True)
    for holder in (event, event.get("message")):
        if isinstance(holder, dict):
            fields = cast("dict[str, Any]", holder)
            texts.deltas += [Slot((0, key), fields, key) for key in _TEXTS & fields.keys() if _is_text(fields[key])]
    return texts


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
