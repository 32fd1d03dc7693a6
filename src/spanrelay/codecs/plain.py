"""A request that names a model or offers one tools, on a route that no other codec is for: images, speech, sessions.

Of the request only the model is read, the one text that it may hold, and how an answer is drawn where it says that; of
the answer its usage and its error. The requests of a batch are those of other codecs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from spanrelay.codecs import Codec, anthropic_messages, openai_chat, openai_responses
from spanrelay.codecs.bodies import one_event, patch_request, whole_body
from spanrelay.codecs.chat_dialects import mistral_chat
from spanrelay.codecs.naming import model_id
from spanrelay.codecs.narrowing import as_int, as_mapping, as_str, as_written
from spanrelay.codecs.offers import Keeps, Sieve, drop_without, each
from spanrelay.codecs.offers import Table as Offers
from spanrelay.codecs.openai_responses import decode_response as decode_responses_answer
from spanrelay.codecs.openai_shapes import decode_error, decode_usage, encode_error, write_stop
from spanrelay.codecs.parameters import SETTABLE, Table, read_parameters, without_doubles
from spanrelay.codecs.patching import put
from spanrelay.errors import CodecError
from spanrelay.records import Message, ModelRequest, ModelResponse, Text, Usage

operation = "generate_content"
accumulator = whole_body
stream_events = one_event
required = (("model",),)
read_model = model_id
_TEXTS = ("prompt", "input")
"""Where the text of a request stands, if it is one text."""
_PARAMETERS: Table = {
    **{key: row for key, row in openai_chat.PARAMETERS.items() if row[0] in SETTABLE and key != "reasoning"},
    "max_output_tokens": ("max_tokens", None),
    "max_tokens_to_sample": ("max_tokens", None),
    "stop_sequences": ("stop_sequences", None),
}
"""The parameters that a request may say; which of them its route takes beside, nobody knows."""
_BODIES: Mapping[str, Codec] = {"params": cast("Codec", anthropic_messages), "body": mistral_chat}
"""Keys of a request of a batch under which its body stands, by the API that has them so."""


# --- tools in requests -------------------------------------------------------------------------------------


def _read_prompt(sieve: Sieve, value: Any, place: str) -> Any:
    return openai_responses.OFFERS["prompt"](sieve, value, place) if isinstance(value, Mapping) else value


def read_holder(sieve: Sieve, value: Any, place: str) -> Any:
    """Read an object that offers tools to who works by it: the agent, the model of a session, of an evaluation."""
    return _sifted(sieve, cast("Mapping[str, Any]", value), f"{place}.") if isinstance(value, Mapping) else value


def _read_batch(sieve: Sieve, value: Any, place: str) -> Any:
    """Read the requests of a batch, each with the body of one as its `params`, or its `body`."""
    if not isinstance(value, (list, tuple)):
        return value

    def read(item: Any, here: str) -> Any:
        written = as_written(item)
        held = {key: body for key in _BODIES if (body := as_mapping(written).get(key)) is not None}
        left = {key: read_holder(sieve, body, f"{here}.{key}") for key, body in held.items()}
        return item if all(left[key] is held[key] for key in held) else {**written, **left}

    return each(value, place, read)


def _sifted(sieve: Sieve, wire: Mapping[str, Any], within: str = "") -> Mapping[str, Any]:
    out = anthropic_messages.without_toolsets(sieve.request(wire, OFFERS, within), wire)
    out = drop_without(out, wire, ("tools", "prompt"), "tool_choice", "parallel_tool_calls")
    return drop_without(out, wire, ("functions",), "function_call")


_HOLDERS = (
    "session",
    "agent",
    "target",
    "delegation",
    "responses",
    "data_source",
    "sampling_params",
    "config",
    "configuration",
    "llm",
    "interaction",
)
OFFERS: Offers = {
    **dict.fromkeys(_HOLDERS, read_holder),
    "input": openai_responses.OFFERS["input"],
    "items": openai_responses.OFFERS["input"],
    "prompt": _read_prompt,
    "requests": _read_batch,
    **anthropic_messages.OFFERS,
    **openai_chat.OFFERS,
}
"""Every key of a request that names or offers a tool: who does so on a route that nobody knows does it as elsewhere."""


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    return _sifted(Sieve(keeps), wire)


# --- requests and responses --------------------------------------------------------------------------------


def decode_request(wire: Mapping[str, Any]) -> ModelRequest:
    """Read the model, and a prompt or an input that is one text."""
    place = _place_of_text(wire)
    messages = [] if place is None else [Message("user", [Text(wire[place])])]
    parameters = read_parameters(wire, _PARAMETERS)
    stream = wire.get("stream") is True
    return ModelRequest(as_str(model_id(wire.get("model"))), messages, parameters=parameters, stream=stream)


def single_parameters(wire: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    """Return `wire` with each of `names` said once; see `Codec`."""
    return without_doubles(wire, names, _PARAMETERS, inner_keys={})


def with_requests(
    wire: Mapping[str, Any], change: Callable[[Codec, Mapping[str, Any]], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """Return a batch with what `change` makes of the body of each of its requests that holds a conversation."""
    requests = wire.get("requests")
    if not isinstance(requests, (list, tuple)):
        return wire

    def read(item: Any, _: str) -> Any:
        written = as_mapping(as_written(item))
        held = {key: as_mapping(as_written(written[key])) for key in _BODIES if written.get(key) is not None}
        left = {key: change(_BODIES[key], body) for key, body in held.items() if "messages" in body}
        return item if all(body is held[key] for key, body in left.items()) else {**written, **left}

    left = each(requests, "requests", read)
    return wire if left is requests else {**wire, "requests": left}


def _place_of_text(wire: Mapping[str, Any]) -> str | None:
    return next((key for key in _TEXTS if isinstance(wire.get(key), str)), None)


def encode_request(request: ModelRequest, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return `wire` changed where model or text differ; see `Codec.encode_request`.

    Parameters that it does not say are left out: whether the route has them, nobody knows.

    Raises:
        CodecError: there are instructions, tools or several messages, for which no form is known.
    """
    old = decode_request(wire)
    said = {name: value for name, value in request.parameters.items() if name in old.parameters}
    out = patch_request(old, replace(request, parameters=said), wire, _PARAMETERS, writers={"stop": write_stop})
    if request.messages != old.messages:
        out[_place_of_text(wire) or "prompt"] = _text_of(request.messages)
    if request.system or request.tools:
        raise CodecError("this request holds a model and one text; remove `system` and `tools`, or edit `call.wire`")
    return out


def _text_of(messages: list[Message]) -> str:
    if len(messages) == 1 and all(isinstance(part, Text) for part in messages[0].parts):
        return messages[0].text
    raise CodecError(f"this request holds one text, not {len(messages)} messages; edit `call.wire` instead")


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read id, model, usage and error of an answer, or of the last event of a stream.

    Tokens that were counted, and not used, are a parameter.
    """
    usage = _usage_of(wire) or _usage_of(as_mapping(wire.get("response")))
    counted = as_int(wire.get("input_tokens"))
    return ModelResponse(
        as_str(wire.get("id")),
        as_str(wire.get("model")),
        usage=usage,
        error=decode_error(wire),
        parameters={} if counted is None else {"input_tokens": counted},
    )


def _usage_of(wire: Mapping[str, Any]) -> Usage | None:
    counts = as_mapping(wire.get("usage"))
    if "prompt_tokens" in counts:
        return decode_usage(counts)
    return decode_responses_answer({"usage": counts}).usage if counts else None


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` with another model or error.

    Raises:
        CodecError: something else differs, or there is no answer and none can be made of a record.
    """
    if wire is None:
        if response.error is None:
            raise CodecError("an answer on this route cannot be made from a record; return its JSON instead")
        return {"error": encode_error(response.error, {})}
    old = decode_response(wire)
    out = dict(wire)
    if response.model != old.model:
        put(out, "model", response.model)
    if response.error != old.error:
        put(out, "error", response.error and encode_error(response.error, wire.get("error")))
    if replace(response, model=old.model, error=old.error) != old:
        raise CodecError("only the model and the error of this answer can be changed; return its JSON instead")
    return out
