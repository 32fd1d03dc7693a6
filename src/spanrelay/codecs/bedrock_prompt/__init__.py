"""Bodies of models at Amazon Bedrock that take one text: Titan, Llama, Mistral, Cohere, Jurassic, older Claudes.

One table for all: which key of a request is the text, how its parameters are called, and where in an answer each of
its texts stands. What is in a body says whose it is, since an ARN does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from spanrelay.codecs.narrowing import as_int, as_list, as_mapping, as_str
from spanrelay.codecs.offers import sift_no_tools
from spanrelay.codecs.parameters import Table, read_parameters, without_doubles, write_parameters
from spanrelay.codecs.patching import put
from spanrelay.errors import CodecError
from spanrelay.records import ErrorInfo, Message, ModelRequest, ModelResponse, Text, Usage

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "fails_by_status",
    "is_prompt",
    "operation",
    "required",
    "sift_tools",
    "single_parameters",
    "stream_events",
]

operation = "text_completion"
required = (("model",), ("inputText", "prompt", "message"))
fails_by_status = False
sift_tools = sift_no_tools

# --- requests ----------------------------------------------------------------------------------------------

_TEXTS = ("inputText", "prompt", "message")
_MORE = frozenset({"messages", "chat_history", "tools", "tool_results", "texts"})
_CONFIG = "textGenerationConfig"
_PARAMETERS: Table = {
    "max_tokens": ("max_tokens", None),
    "maxTokens": ("max_tokens", None),
    "max_gen_len": ("max_tokens", None),
    "max_tokens_to_sample": ("max_tokens", None),
    f"{_CONFIG}.maxTokenCount": ("max_tokens", None),
    "temperature": ("temperature", None),
    f"{_CONFIG}.temperature": ("temperature", None),
    "top_p": ("top_p", None),
    "p": ("top_p", None),
    "topP": ("top_p", None),
    f"{_CONFIG}.topP": ("top_p", None),
    "top_k": ("top_k", None),
    "k": ("top_k", None),
    "topKReturn": ("top_k", None),
    "stop_sequences": ("stop_sequences", None),
    "stopSequences": ("stop_sequences", None),
    "stop": ("stop_sequences", None),
    f"{_CONFIG}.stopSequences": ("stop_sequences", None),
    "num_generations": ("choice_count", None),
    "numResults": ("choice_count", None),
    "seed": ("seed", None),
}
"""By the key; Titan's stand in an object of their own."""
_SPELLED: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "inputText",
        {
            "max_tokens": f"{_CONFIG}.maxTokenCount",
            "temperature": f"{_CONFIG}.temperature",
            "top_p": f"{_CONFIG}.topP",
            "stop_sequences": f"{_CONFIG}.stopSequences",
        },
    ),
    ("max_gen_len", {"max_tokens": "max_gen_len"}),
    ("max_tokens_to_sample", {"max_tokens": "max_tokens_to_sample"}),
    ("maxTokens", {"max_tokens": "maxTokens", "top_p": "topP", "stop_sequences": "stopSequences"}),
    ("message", {"top_p": "p", "top_k": "k"}),
)
"""How those whose body has a key call a parameter that it does not have yet."""


def is_prompt(wire: Mapping[str, Any]) -> bool:
    """Whether a body is one of these: of a conversation, or with tools, it is none."""
    return wire.keys().isdisjoint(_MORE) and any(isinstance(wire.get(key), str) for key in _TEXTS)


def _flat(wire: Mapping[str, Any]) -> dict[str, Any]:
    config = as_mapping(wire.get(_CONFIG))
    return {**wire, **{f"{_CONFIG}.{key}": value for key, value in config.items()}}


def _place_of(wire: Mapping[str, Any]) -> str | None:
    return next((key for key in _TEXTS if isinstance(wire.get(key), str)), None)


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read a request; see `Codec.decode_request`."""
    place = _place_of(wire)
    messages = [Message("user", [Text(wire[place])])] if place is not None else []
    parameters = read_parameters(_flat(wire), _PARAMETERS)
    return ModelRequest(as_str(wire.get("model")), messages, [], [], parameters, wire.get("stream") is True)


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    Raises:
        CodecError: it is more than one text, or has tools, or a parameter that no such body has.
    """
    old = decode_request(wire)
    out = dict(wire)
    if request.model != old.model:
        put(out, "model", request.model)
    if request.stream != old.stream:
        out["stream"] = request.stream
    if request.parameters != old.parameters:
        _patch_parameters(out, old, request)
    if request.messages != old.messages or request.system:
        out[_place_of(wire) or "prompt"] = _text_of(request)
    if request.tools:
        raise CodecError("a body of one text has no form for tools; leave them out")
    return out


def _text_of(request: ModelRequest) -> str:
    parts = [*request.system, *(part for message in request.messages for part in message.parts)]
    if not all(isinstance(part, Text) for part in parts) or len(request.messages) > 1:
        raise CodecError("a body of one text has no form for several messages, or for anything but text")
    return "".join(cast("Text", part).text for part in parts)


def _patch_parameters(out: dict[str, Any], old: ModelRequest, new: ModelRequest) -> None:
    before = _flat(out)
    spelled = next((names for key, names in _SPELLED if key in out), {})
    table = {key: row for key, row in _PARAMETERS.items() if row[0] not in spelled or key in (*before, spelled[row[0]])}
    after = dict(before)
    write_parameters(after, old.parameters, new.parameters, table, writers={}, inner_keys={})
    _put_flat(out, before, after)


def single_parameters(wire: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    """Return `wire` with each of `names` said once; see `Codec`."""
    before = _flat(wire)
    after = without_doubles(before, names, _PARAMETERS, inner_keys={})
    if after is before:
        return wire
    out = dict(wire)
    _put_flat(out, before, after)
    return out


def _put_flat(out: dict[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Write into `out`, which is `before` where it is flat, what differs `after`."""
    for key in {**before, **after}:
        if before.get(key) is after.get(key):
            continue
        holder, _, inner = key.rpartition(".")
        if holder:
            config = dict(as_mapping(out.get(holder)))
            put(config, inner, after.get(key))
            out[holder] = config
        else:
            put(out, key, after.get(key))


# --- answers -----------------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """Where answers of one maker stand: each text under `text` of an item of `items`, or of the body itself."""

    items: str
    text: str
    reason: str
    used: tuple[str, str] = ("", "")


_FORMS = (
    _Form("results", "outputText", "completionReason", ("inputTextTokenCount", "tokenCount")),
    _Form("", "outputText", "completionReason", ("inputTextTokenCount", "totalOutputTextTokenCount")),
    _Form("", "generation", "stop_reason", ("prompt_token_count", "generation_token_count")),
    _Form("outputs", "text", "stop_reason"),
    _Form("generations", "text", "finish_reason"),
    _Form("completions", "data", "finishReason"),
    _Form("", "completion", "stop_reason"),
    _Form("", "text", "finish_reason"),
)


def _form_of(wire: Mapping[str, Any]) -> _Form | None:
    for form in _FORMS:
        if isinstance(wire.get(form.items), list) if form.items else form.text in wire:
            return form
    return None


def _items_of(wire: Mapping[str, Any], form: _Form) -> list[Mapping[str, Any]]:
    return [as_mapping(item) for item in as_list(wire[form.items])] if form.items else [wire]


def _told(value: Any, *within: str) -> str | None:
    """Return the text that is `value`, or that Jurassic's object has."""
    for key in within:
        value = as_mapping(value).get(key) if isinstance(value, Mapping) else value
    return as_str(value)


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read an answer; see `Codec.decode_response`."""
    form = _form_of(wire)
    response = ModelResponse(as_str(wire.get("id")), error=_error_of(wire) if form is None else None)
    if form is None:
        return response
    for item in _items_of(wire, form):
        text, reason = _told(item.get(form.text), "text"), _told(item.get(form.reason), "reason")
        response.messages.append(Message("assistant", [] if text is None else [Text(text)], finish_reason=reason))
    response.finish_reasons = [each.finish_reason for each in response.messages if each.finish_reason is not None]
    response.usage = _usage_of(wire, form)
    return response


def _error_of(wire: Mapping[str, Any]) -> ErrorInfo | None:
    told, kind = as_str(wire.get("message")), as_str(wire.get("__type"))
    return None if told is None else ErrorInfo(kind or "error", told)


def _usage_of(wire: Mapping[str, Any], form: _Form) -> Usage | None:
    given, made = as_int(wire.get(form.used[0])), None
    counts = [count for item in _items_of(wire, form) if (count := as_int(item.get(form.used[1]))) is not None]
    made = sum(counts) if counts else None
    return None if given is None and made is None else Usage(given, made)


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs; see `Codec.encode_response`.

    Raises:
        CodecError: there is no body to change: whose it would have to be, nobody can tell.
    """
    if wire is not None and response == decode_response(wire):
        return dict(wire)
    form = None if wire is None else _form_of(wire)
    if wire is None or form is None:
        raise CodecError("nobody can tell whose body this answer has to be; answer with the model's own JSON")
    old, out = decode_response(wire), dict(wire)
    if response.messages == old.messages:
        return out
    if len(response.messages) != len(old.messages):
        raise CodecError("an answer of these models cannot get more texts, or fewer; change those that there are")
    items = [dict(item) for item in _items_of(wire, form)]
    for item, was, now in zip(items, old.messages, response.messages, strict=True):
        _patch_item(item, form, was, now)
    return {**out, form.items: items} if form.items else {**out, **items[0]}


def _patch_item(item: dict[str, Any], form: _Form, was: Message, now: Message) -> None:
    if any(not isinstance(part, Text) for part in now.parts):
        raise CodecError("an answer of these models has no form for anything but text")
    for key, inner, old, new in (
        (form.text, "text", was.text, now.text),
        (form.reason, "reason", was.finish_reason, now.finish_reason),
    ):
        if new != old:
            held = item.get(key)
            item[key] = {**cast("Mapping[str, Any]", held), inner: new} if isinstance(held, Mapping) else new


# --- streams -----------------------------------------------------------------------------------------------


class PromptAccumulator:
    """Adds up the events of one stream: texts are joined once, at the end, and of all else the last word counts."""

    __slots__ = ("_body", "_form", "_items", "_texts")

    def __init__(self) -> None:
        self._form: _Form | None = None
        self._body: dict[str, Any] = {}
        self._items: list[dict[str, Any]] = []
        self._texts: list[list[str]] = []

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        self._form = self._form or _form_of(event)
        form = self._form
        if form is None or (form.items and not isinstance(event.get(form.items), list)):
            self._body.update(event)
            return
        for index, item in enumerate(_items_of(event, form)):
            if index == len(self._items):
                self._items.append({})
                self._texts.append([])
            text = _told(item.get(form.text), "text")
            if text is not None:
                self._texts[index].append(text)
            self._items[index].update({key: value for key, value in item.items() if value is not None})
        if form.items:
            self._body.update({key: value for key, value in event.items() if key != form.items})

    def result(self) -> dict[str, Any]:
        """Return the body."""
        form = self._form
        if form is None:
            return dict(self._body)
        items = [
            {**item, form.text: "".join(texts)} if texts else item
            for item, texts in zip(self._items, self._texts, strict=True)
        ]
        return {**self._body, form.items: items} if form.items else {**self._body, **items[0]}


def accumulator() -> PromptAccumulator:
    """Return a fresh accumulator for one stream."""
    return PromptAccumulator()


def stream_events(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the body itself: one event may say it all."""
    yield dict(wire)
