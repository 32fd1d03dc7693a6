"""Streams of generated content: each event is a body with a piece of the answer, and they add up to one body.

Adding an event only files its texts; they are joined once, at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, cast

from spanrelay.codecs.gemini_shapes import field, spelled
from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.codecs.texts import Slot, Texts

_TEXT_KEYS = frozenset({"text", "thought", "thoughtSignature", "thought_signature"})
"""Keys of a part that is nothing but text: its pieces are one text."""
_LISTS = frozenset(
    {"chosenCandidates", "topCandidates", "citations", "citationSources", "groundingChunks", "groundingSupports"}
)
"""Lists of which each event has the next entries."""


class _Parts:
    """The parts of one candidate, texts in pieces."""

    __slots__ = ("_pieces", "_text", "items", "open")

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.open: list[str] | None = None
        """The pieces of a text that is no thought, where that is what comes next most probably."""
        self._pieces: list[str] = []
        """The pieces of the text that the last item is; empty where it is none."""
        self._text: Mapping[str, Any] = {}

    def add(self, part: Any) -> None:
        """Take in one part of an event."""
        fields = as_mapping(part)
        text = fields.get("text")
        if isinstance(text, str) and fields.keys() <= _TEXT_KEYS:
            self._add_text(text, fields)
        elif not self._goes_on(field(fields, "functionCall"), fields):
            self._close()
            self.items.append(part)

    def _add_text(self, text: str, part: Mapping[str, Any]) -> None:
        known, signed = self._text, field(part, "thoughtSignature")
        if not (text or signed):
            return
        other = bool(known.get("thought")) is not bool(part.get("thought"))
        if not known or other or (signed and field(known, "thoughtSignature")):
            self._close()
            self._text = part
        elif signed:
            self._text = {**known, **part}
        self._pieces.append(text)
        self.open = None if part.get("thought") else self._pieces

    def _close(self) -> None:
        if self._text:
            self.items.append({**self._text, "text": "".join(self._pieces)})
        self._pieces, self._text, self.open = [], {}, None

    def _goes_on(self, call: Any, part: Mapping[str, Any]) -> bool:
        """Take in a piece of a function call whose arguments are streamed; False for a part that is whole."""
        if not isinstance(call, Mapping):
            return False
        piece = cast("Mapping[str, Any]", call)
        before = as_mapping(self.items[-1]) if self.items and not self._text else {}
        key = spelled(before, "functionCall")
        known = as_mapping(before.get(key))
        if piece.get("name") is None and field(known, "willContinue"):
            self.items[-1] = {**before, **part, key: _told_of(piece, known)}
            return True
        if not (field(piece, "partialArgs") or field(piece, "willContinue")):
            return False
        self._close()
        self.items.append({**part, spelled(part, "functionCall"): _told_of(piece, {})})
        return True

    def result(self) -> list[Any]:
        """Return the parts so far."""
        last = [{**self._text, "text": "".join(self._pieces)}] if self._text else []
        return [_without_marks(item) for item in self.items] + last


def _told_of(call: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function call with a piece of it more."""
    args = dict(as_mapping(known.get("args")))
    for piece in map(as_mapping, as_list(field(call, "partialArgs"))):
        _set_at(args, _steps(field(piece, "jsonPath")), piece)
    told = {key: value for key, value in call.items() if key not in ("partialArgs", "partial_args")}
    begun = {key: value for key, value in known.items() if key not in ("willContinue", "will_continue")}
    return {**begun, **told, "args": {**args, **as_mapping(call.get("args"))}}


def _without_marks(item: Any) -> Any:
    """Return a part without the mark that more of it comes."""
    key = spelled(as_mapping(item), "functionCall")
    call = as_mapping(as_mapping(item).get(key))
    if not call.keys() & {"willContinue", "will_continue"}:
        return item
    return {**item, key: {name: value for name, value in call.items() if name not in ("willContinue", "will_continue")}}


_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]")


def _steps(path: Any) -> list[str | int]:
    found = _STEP.findall(path) if isinstance(path, str) else []
    return [int(index) if index else name or quoted for name, index, quoted in found]


_MOST_ITEMS = 10_000


def _set_at(args: Any, steps: list[str | int], piece: Mapping[str, Any]) -> None:
    """Put a piece of an argument where its path leads; a text goes on."""
    if not steps:
        return
    holder = args
    for step, following in pairwise(steps):
        holder = _child(holder, step, [] if isinstance(following, int) else {})
    last = steps[-1]
    before = _child(holder, last, None)
    text = field(piece, "stringValue")
    if isinstance(text, str):
        value: Any = f"{before}{text}" if isinstance(before, str) else text
    else:
        value = next((v for v in (field(piece, "numberValue"), field(piece, "boolValue")) if v is not None), None)
    _put(holder, last, value)


def _child(holder: Any, step: str | int, blank: Any) -> Any:
    """Return what stands at a step, made where there is nothing; an odd path leads nowhere."""
    known: Any = None
    if isinstance(holder, dict) and isinstance(step, str):
        known = cast("dict[str, Any]", holder).get(step)
    elif isinstance(holder, list) and isinstance(step, int) and step < len(cast("list[Any]", holder)):
        known = holder[step]
    if known is None and blank is not None:
        _put(holder, step, blank)
        return blank
    return known


def _put(holder: Any, step: str | int, value: Any) -> None:
    if isinstance(holder, dict) and isinstance(step, str):
        holder[step] = value
    elif isinstance(holder, list) and isinstance(step, int) and step < _MOST_ITEMS:
        items = cast("list[Any]", holder)
        items.extend([None] * (step + 1 - len(items)))
        items[step] = value


class _Candidate:
    """What has come of one candidate."""

    __slots__ = ("fields", "inner", "parts")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.inner: dict[str, Any] = {}
        self.parts = _Parts()

    def add(self, candidate: Mapping[str, Any]) -> None:
        for key, value in candidate.items():
            if key == "content":
                self._add_content(value)
            elif isinstance(value, Mapping):
                self.fields[key] = _added(as_mapping(self.fields.get(key)), cast("Mapping[str, Any]", value))
            elif value is not None and value != "":
                self.fields[key] = value

    def _add_content(self, content: Any) -> None:
        for key, value in as_mapping(content).items():
            if key == "parts":
                for part in as_list(value):
                    self.parts.add(part)
            else:
                self.inner[key] = value

    def result(self) -> dict[str, Any]:
        parts = self.parts.result()
        content = {**({"parts": parts} if parts else {}), **self.inner}
        return {**({"content": content} if content else {}), **self.fields}


def _added(known: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata with more of it: lists of entries grow, whatever else is said again replaces what was said."""
    out = {**known, **more}
    for key in _LISTS & known.keys() & more.keys():
        out[key] = [*as_list(known[key]), *as_list(more[key])]
    return out


class ContentAccumulator:
    """Adds up the events of one streamed answer; see `Accumulator`."""

    __slots__ = ("_body", "_candidates")

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._candidates: dict[int, _Candidate] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        # Most add nothing but text to text, and say the usage so far.
        try:
            [candidate] = event["candidates"]
            [part] = candidate["content"]["parts"]
            body, text = self._body, part["text"]
            if (
                len(part) == 1
                and len(candidate) == 2
                and len(event) == 4
                and type(text) is str
                and event["modelVersion"] == body["modelVersion"]
                and event["responseId"] == body["responseId"]
            ):
                usage = event["usageMetadata"]
                pieces: Any = self._candidates[candidate["index"]].parts.open
                pieces.append(text)
                body["usageMetadata"] = usage
                return
        except (TypeError, KeyError, ValueError, AttributeError):  # of no open text, too
            pass
        self._add_more(event)

    def _add_more(self, event: Mapping[str, Any]) -> None:
        """Take in an event that begins something, ends it, or says what is no text."""
        for key, value in event.items():
            if key == "candidates":
                for candidate in as_list(value):
                    self._add_candidate(candidate)
            elif value or key not in self._body:
                self._body[key] = value  # usage is that of the whole answer so far, and the last word counts

    def _add_candidate(self, candidate: Any) -> None:
        if not isinstance(candidate, Mapping):
            return
        fields = cast("Mapping[str, Any]", candidate)
        number = fields.get("index", 0)
        index = number if number.__class__ is int else 0
        known = self._candidates.get(index)
        if known is None:
            known = self._candidates[index] = _Candidate()
        known.add(fields)

    def result(self) -> dict[str, Any]:
        """Return the body so far."""
        candidates = [candidate.result() for _, candidate in sorted(self._candidates.items())]
        return {**({"candidates": candidates} if candidates else {}), **self._body}


# --- events of a body --------------------------------------------------------------------------------------


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that add up to the body `wire`, for an answer that is not from the provider."""
    candidates = as_list(wire.get("candidates"))
    head = {key: value for key, value in wire.items() if key not in ("candidates", "usageMetadata", "usage_metadata")}
    if not candidates or wire.get("error"):
        yield dict(wire)
        return
    for number, candidate in enumerate(map(as_mapping, candidates)):
        index = {"index": candidate.get("index", number)}
        content = as_mapping(candidate.get("content"))
        role = {key: value for key, value in content.items() if key != "parts"}
        for part in as_list(content.get("parts")):
            yield {"candidates": [{"content": {"parts": [part], **role}, **index}], **head}
        end = {**candidate, **index}
        if content:
            end["content"] = role
        last = number == len(candidates) - 1
        usage = {key: wire[key] for key in ("usageMetadata", "usage_metadata") if last and key in wire}
        yield {"candidates": [end], **usage, **head}


# --- texts of an event -------------------------------------------------------------------------------------


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the texts of an event: the answer and the thoughts of each candidate."""
    texts = Texts()
    for candidate in as_list(event.get("candidates")):
        if not isinstance(candidate, dict):
            continue
        known = cast("dict[str, Any]", candidate)
        index = known.get("index", 0)
        if field(known, "finishReason"):
            texts.ended.add(index)
        for part in as_list(as_mapping(known.get("content")).get("parts")):
            if isinstance(part, dict) and isinstance(cast("dict[str, Any]", part).get("text"), str):
                thought = cast("dict[str, Any]", part).get("thought") is True
                texts.deltas.append(Slot((index, "thought" if thought else "text"), part, "text"))
                if not thought:
                    texts.ended.add((index, "thought"))
    return texts
