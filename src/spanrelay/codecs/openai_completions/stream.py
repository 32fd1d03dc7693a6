"""The stream of the legacy Completions API: chunks added up, and a body told as chunks.

The texts of a choice are joined in the order in which they came; a chunk is never changed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.codecs.openai_shapes import error_event
from spanrelay.codecs.texts import Slot, Texts
from spanrelay.codecs.tokens import TOLD_BY_TOKEN, added


class CompletionsAccumulator:
    """Adds up the chunks of one streamed completion; see `Accumulator`."""

    __slots__ = ("_body", "_choices", "_texts")

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._texts: dict[int, list[str]] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one chunk."""
        failure = error_event(event)
        if failure is not None:
            self._body["error"] = dict(failure)
            return
        for key, value in event.items():
            if key != "choices" and (value or key not in self._body):
                self._body[key] = value
        for choice in map(as_mapping, as_list(event.get("choices"))):
            number = choice.get("index", 0)
            index = number if isinstance(number, int) else 0
            fields = self._choices.setdefault(index, {"index": index, "finish_reason": None})
            for key, value in choice.items():
                if value is not None and key != "index":
                    fields[key] = added(fields.get(key), value) if key in TOLD_BY_TOKEN else value
            if isinstance(choice.get("text"), str):
                self._texts.setdefault(index, []).append(choice["text"])

    def result(self) -> dict[str, Any]:
        """Return the body so far."""
        choices = [
            {**fields, "text": "".join(self._texts.get(index, []))} for index, fields in sorted(self._choices.items())
        ]
        return {**self._body, "choices": choices}


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one chunk for each choice and one with the usage."""
    head = {key: value for key, value in wire.items() if key not in ("choices", "usage")}
    for index, choice in enumerate(map(as_mapping, as_list(wire.get("choices")))):
        yield {**head, "choices": [{**choice, "index": index}]}
    if wire.get("usage") is not None or not wire.get("choices"):
        yield {**head, "choices": [], "usage": wire.get("usage")}


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the texts of a chunk, one a choice."""
    texts = Texts(all_ended=not event.get("choices"))
    for choice in as_list(event.get("choices")):
        if isinstance(choice, dict):
            known = cast("dict[str, Any]", choice)
            if isinstance(known.get("text"), str):
                texts.deltas.append(Slot((known.get("index", 0),), known, "text"))
            if known.get("finish_reason") is not None:
                texts.ended.add(known.get("index", 0))
    return texts
