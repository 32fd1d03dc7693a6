"""Streams of Gemini's interactions: steps that begin, go on by deltas, and end, added up to the interaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.codecs.texts import Slot, Texts


class _Step:
    """What has come of one step."""

    __slots__ = ("arguments", "fields", "texts")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields: dict[str, Any] = dict(fields)
        self.texts: list[str] = []
        self.arguments: list[str] = []

    def add(self, delta: Mapping[str, Any]) -> None:
        kind, text = delta.get("type"), delta.get("text")
        if kind == "text" and isinstance(text, str):
            self.texts.append(text)
        elif kind == "thought_summary":
            self.fields["summary"] = [*as_list(self.fields.get("summary")), delta.get("content")]
        elif kind == "thought_signature":
            self.fields["signature"] = f"{self.fields.get('signature') or ''}{delta.get('signature') or ''}"
        elif isinstance(delta.get("arguments"), str):
            self.arguments.append(delta["arguments"])
        elif kind in ("image", "audio", "video", "document"):
            self._close()
            self.fields["content"] = [*as_list(self.fields.get("content")), dict(delta)]
        else:
            self.fields.update({key: value for key, value in delta.items() if key != "type" and value is not None})

    def _close(self) -> None:
        if self.texts:
            text = {"type": "text", "text": "".join(self.texts)}
            self.fields["content"] = [*as_list(self.fields.get("content")), text]
            self.texts = []

    def result(self) -> dict[str, Any]:
        out = dict(self.fields)
        if self.texts:
            out["content"] = [*as_list(out.get("content")), {"type": "text", "text": "".join(self.texts)}]
        if self.arguments:
            out["arguments"] = "".join(self.arguments)
        return out


class InteractionAccumulator:
    """Adds up the events of one streamed interaction; see `Accumulator`."""

    __slots__ = ("_body", "_steps")

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._steps: dict[int, _Step] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        kind, index = event.get("event_type"), event.get("index")
        if kind == "step.delta" and index in self._steps:
            self._steps[cast("int", index)].add(as_mapping(event.get("delta")))
        elif kind == "step.start" and isinstance(index, int):
            self._steps[index] = _Step(as_mapping(event.get("step")))
        elif isinstance(event.get("interaction"), Mapping):
            self._body.update(event["interaction"])
        elif kind == "interaction.status_update" and event.get("status"):
            self._body["status"] = event["status"]
        if event.get("error"):
            self._body["error"] = event["error"]
        elif kind is None and "event_type" not in event:
            self._body.update(event)  # one body, where a stream was asked for

    def result(self) -> dict[str, Any]:
        """Return the interaction so far."""
        if not self._steps:
            return dict(self._body)
        return {**self._body, "steps": [step.result() for _, step in sorted(self._steps.items())]}


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that add up to the interaction `wire`, for an answer that is not from the provider."""
    if wire.get("error") and not wire.get("steps"):
        yield {"event_type": "error", "error": wire["error"]}
        return
    head = {key: value for key, value in wire.items() if key not in ("steps", "usage")}
    yield {"interaction": {**head, "status": "in_progress"}, "event_type": "interaction.created"}
    for index, step in enumerate(as_list(wire.get("steps"))):
        fields = as_mapping(step)
        content = as_list(fields.get("content"))
        if fields.get("type") == "model_output" and all(as_mapping(part).get("type") == "text" for part in content):
            yield {"index": index, "step": {"type": "model_output"}, "event_type": "step.start"}
            for part in content:
                yield {"index": index, "delta": dict(as_mapping(part)), "event_type": "step.delta"}
        else:
            yield {"index": index, "step": step, "event_type": "step.start"}
        yield {"index": index, "event_type": "step.stop"}
    usage = {} if wire.get("usage") is None else {"usage": wire["usage"]}
    yield {"interaction": {**head, **usage}, "event_type": "interaction.completed"}


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the text of an event."""
    texts = Texts(all_ended=event.get("event_type") in ("interaction.completed", "error"))
    index, delta = event.get("index"), event.get("delta")
    if event.get("event_type") == "step.stop":
        texts.ended.add(index)
    if isinstance(delta, dict):
        fields = cast("dict[str, Any]", delta)
        holder = fields if fields.get("type") == "text" else fields.get("content")
        if isinstance(holder, dict) and isinstance(cast("dict[str, Any]", holder).get("text"), str):
            texts.deltas.append(Slot((index, "text"), holder, "text"))
    return texts
