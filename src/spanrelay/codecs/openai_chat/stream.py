"""Streams of the Chat Completions API: chunks added up to the body, and a body cut into chunks.

Adding a chunk only files its fragments; they are joined once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, groupby
from typing import Any, cast

from spanrelay._json import loads_object
from spanrelay.codecs.narrowing import as_int, as_list, as_mapping
from spanrelay.codecs.openai_shapes import error_event
from spanrelay.codecs.texts import Slot, Texts, part_slots
from spanrelay.codecs.tokens import TOLD_BY_TOKEN, added

_JOINED = frozenset({"content", "refusal", "reasoning_content", "reasoning"})
"""Fields of a delta whose texts are fragments of one text."""


class _Call:
    """The fragments of one tool call."""

    __slots__ = ("fields", "fragments", "inner")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.inner: dict[str, dict[str, Any]] = {}
        self.fragments: dict[tuple[str, str], list[str]] = {}

    def add(self, delta: Mapping[str, Any]) -> None:
        for key, value in delta.items():
            if isinstance(value, Mapping):
                self._add_inner(key, cast("Mapping[str, Any]", value))
            elif key != "index" and (value or key not in self.fields):
                self.fields[key] = value

    def _add_inner(self, kind: str, value: Mapping[str, Any]) -> None:
        inner = self.inner.setdefault(kind, {})
        for name, text in value.items():
            if name in ("arguments", "input") and isinstance(text, str):
                self.fragments.setdefault((kind, name), []).append(text)
            elif text or name not in inner:
                inner[name] = text

    def is_whole(self) -> bool:
        """Whether it has a name, and arguments that are a JSON object."""
        text = "".join(self.fragments.get(("function", "arguments"), ()))
        named = bool(as_mapping(self.inner.get("function")).get("name"))
        return named and text.endswith("}") and (text == "{}" or bool(loads_object(text.encode("utf-8", "replace"))))

    def result(self) -> dict[str, Any]:
        out: dict[str, Any] = {**self.fields, **{kind: dict(inner) for kind, inner in self.inner.items()}}
        for (kind, name), fragments in self.fragments.items():
            out[kind][name] = "".join(fragments)
        if not out.get("type"):
            out["type"] = "function"
        return out


class _Calls:
    """The tool calls of one choice: fragments interleave, repeat their id, or leave out id or index."""

    __slots__ = ("_calls", "_latest")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._latest: dict[int | None, _Call] = {}

    def add(self, deltas: list[Any]) -> None:
        """Take in the fragments of one chunk, in which no two are of one call where they have no ids."""
        met: list[_Call] = []
        for delta in map(as_mapping, deltas):
            index = as_int(delta.get("index"))
            call = self._known(index, delta)
            if call is None or (not delta.get("id") and call in met):
                call = _Call()
                self._calls.append(call)
            met.append(call)
            self._latest[index] = self._latest[None] = call
            call.add(delta)

    def _known(self, index: int | None, delta: Mapping[str, Any]) -> _Call | None:
        """Return the call that a fragment continues, or None where it starts one."""
        call_id = delta.get("id")
        if index is None and call_id:
            return next((call for call in self._calls if call.fields.get("id") == call_id), None)
        call = self._latest.get(index)
        if call is None:
            return None
        function = as_mapping(delta.get("function"))
        if call_id and call.fields.get("id") not in (None, "", call_id):
            # Some servers number every call 0 and send each whole: another id with a name is another call.
            return None if function.get("name") else call
        # Others give no ids either: arguments after a name and whole arguments are another call's.
        begins = not call_id and function.get("name") and function.get("arguments")
        return None if begins and call.is_whole() else call

    def result(self) -> list[dict[str, Any]]:
        return [call.result() for call in self._calls]


class _Choice:
    """The fragments of one choice."""

    __slots__ = ("calls", "fields", "fragments", "message")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.message: dict[str, Any] = {"role": "assistant", "content": None}
        self.fragments: dict[str, list[str]] = {}
        self.calls: _Calls | None = None

    def add(self, choice: Mapping[str, Any]) -> None:
        for key, value in choice.items():
            if key == "delta":
                if isinstance(value, Mapping):
                    self._add_delta(cast("Mapping[str, Any]", value))
            elif value is None or key == "message":
                continue
            elif key in TOLD_BY_TOKEN:
                self.fields[key] = added(self.fields.get(key), value)
            else:
                self.fields[key] = value

    def _add_delta(self, delta: Mapping[str, Any]) -> None:
        for key, value in delta.items():
            if value is None:
                continue
            if key in _JOINED and value.__class__ is str:
                fragments = self.fragments.get(key)
                if fragments is None:
                    self.fragments[key] = [value]
                else:
                    fragments.append(value)
            elif value or key not in self.message:
                self._add_rare(key, value)

    def _add_rare(self, key: str, value: Any) -> None:
        if key == "tool_calls":
            self.calls = self.calls or _Calls()
            self.calls.add(as_list(value))
        elif isinstance(value, list):
            parts = self.message.get(key)
            if not isinstance(parts, list):
                parts = self.message[key] = []
            cast("list[Any]", parts).extend([*_text_part(self.fragments.pop(key, None)), *cast("list[Any]", value)])
        elif isinstance(value, Mapping):
            self._add_object(key, cast("Mapping[str, Any]", value))
        else:
            self.message[key] = value

    def _add_object(self, key: str, value: Mapping[str, Any]) -> None:
        """Add a fragment of `audio` or of the legacy `function_call`, whose texts are fragments too."""
        known = dict(as_mapping(self.message.get(key)))
        for name, item in value.items():
            before = known.get(name)
            joined = name in ("data", "transcript", "arguments") and isinstance(before, str)
            known[name] = f"{before}{item}" if joined and isinstance(item, str) else item
        self.message[key] = known

    def result(self, index: int) -> dict[str, Any]:
        message = dict(self.message)
        for key, fragments in self.fragments.items():
            if isinstance(message.get(key), list):
                message[key] = [*message[key], *_text_part(fragments)]
            else:
                message[key] = "".join(fragments)
        if isinstance(message["content"], list):
            message["content"] = _joined_parts(message["content"])
        if self.calls is not None:
            message["tool_calls"] = self.calls.result()
        return {"index": index, "finish_reason": None, **self.fields, "message": message}


def _text_part(fragments: list[str] | None) -> list[Any]:
    """Return the content part of a text that came outside parts: Mistral's answer after its thinking."""
    text = "".join(fragments or ())
    return [{"type": "text", "text": text}] if text else []


def _joined_parts(parts: list[Any]) -> list[Any]:
    """Return content parts, of which each chunk of a stream has a fragment: Mistral's thinking comes so."""
    out: list[Any] = []
    for kind, group in groupby(parts, key=lambda part: as_mapping(part).get("type")):
        run = list(group)
        told: list[Any] = [as_mapping(part).get(kind) for part in run] if kind in ("text", "thinking") else []
        if kind == "text" and all(isinstance(text, str) for text in told):
            out.append({**run[0], **run[-1], "text": "".join(told)})
        elif kind == "thinking" and all(isinstance(inner, list) for inner in told):
            out.append({**run[0], **run[-1], "thinking": _joined_parts([*chain.from_iterable(told)])})
        else:
            out += run
    return out


class ChatAccumulator:
    """Adds up the chunks of one streamed answer; see `Accumulator`."""

    __slots__ = ("_body", "_choices")

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one chunk."""
        # Most add nothing but text to text, and this is done for each of hundreds: a call more for each is felt.
        try:
            [choice] = event["choices"]
            delta = choice["delta"]
            if (
                len(delta) == 1
                and choice["finish_reason"] is None
                and ("logprobs" not in choice or choice["logprobs"] is None)
                and "token_ids" not in choice
                and ("usage" not in event or event["usage"] is None)
            ):
                fragment = delta["content"]
                if type(fragment) is str:
                    self._choices[choice["index"]].fragments["content"].append(fragment)
                    return
        except (TypeError, KeyError, ValueError, AttributeError):
            pass
        self._add_more(event)

    def _add_more(self, event: Mapping[str, Any]) -> None:
        """Take in a chunk that begins something, ends it, or says what is no text."""
        body, failure = self._body, error_event(event)
        if failure is not None:
            body["error"] = dict(failure)
            return
        for key, value in event.items():
            if key == "choices":
                for choice in as_list(value):
                    self._add_choice(choice)
            elif value or key not in body:
                body[key] = value

    def _add_choice(self, choice: Any) -> None:
        if not isinstance(choice, Mapping):
            return
        number = choice.get("index", 0)
        index = number if number.__class__ is int else 0
        known = self._choices.get(index)
        if known is None:
            known = self._choices[index] = _Choice()
        known.add(cast("Mapping[str, Any]", choice))

    def result(self) -> dict[str, Any]:
        """Return the body so far."""
        choices = [choice.result(index) for index, choice in sorted(self._choices.items())]
        body: dict[str, Any] = {**self._body, "object": "chat.completion", "choices": choices}
        if "object" not in self._body and "error" in self._body and not choices:
            return dict(self._body)
        return body


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the chunks that add up to the body `wire`, for an answer that is not from the provider.

    The usage comes in a last chunk without choices, as with `stream_options.include_usage`.
    """
    if wire.get("error") and not wire.get("choices"):
        yield dict(wire)
        return
    head = {key: value for key, value in wire.items() if key not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk"
    for index, choice in enumerate(map(as_mapping, as_list(wire.get("choices")))):
        rest = {key: value for key, value in choice.items() if key not in ("message", "finish_reason", "index")}
        for delta in _deltas(as_mapping(choice.get("message"))):
            yield {**head, "choices": [{"index": index, "delta": delta, "finish_reason": None}]}
        end = {"index": index, "delta": {}, **rest, "finish_reason": choice.get("finish_reason")}
        yield {**head, "choices": [end]}
    if wire.get("usage") is not None or not wire.get("choices"):
        yield {**head, "choices": [], "usage": wire.get("usage")}


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the message field by field, and its tool calls one by one."""
    yield {"role": message.get("role") or "assistant"}
    for key, value in message.items():
        if key == "tool_calls":
            for index, call in enumerate(as_list(value)):
                yield {"tool_calls": [{**as_mapping(call), "index": index}]}
        elif key != "role" and value is not None:
            yield {key: value}


def stream_texts(event: Mapping[str, Any]) -> Texts:
    """Return the texts of a chunk: content, refusal and reasoning of each choice."""
    texts = Texts(all_ended=not event.get("choices"))
    for choice in as_list(event.get("choices")):
        if not isinstance(choice, dict):
            continue
        known = cast("dict[str, Any]", choice)
        index, delta = known.get("index", 0), known.get("delta")
        if known.get("finish_reason") is not None:
            texts.ended.add(index)
        if isinstance(delta, dict):
            fields = cast("dict[str, Any]", delta)
            texts.deltas += [
                Slot((index, name), fields, name) for name in sorted(_JOINED) if isinstance(fields.get(name), str)
            ]
            parts = [*part_slots(fields.get("content"), index, "content")]
            texts.deltas += parts
            if isinstance(fields.get("content"), str) or any(slot.key == (index, "content") for slot in parts):
                texts.ended.add((index, "thinking"))  # which comes before the answer
    return texts
