"""The Chat Completions API (`/chat/completions`), as OpenAI and the many servers compatible with it speak it.

One wire message is one record, in order: encoding patches the wire message by message and relies on it.

What has no field of its own in a record: a refusal is `Opaque("refusal", …)`, the legacy `function_call` a
`ToolCall` of type `function_call`, a custom tool's call one of type `custom` with its raw input as arguments,
the transcript of a spoken answer its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from spanrelay.codecs.anthropic_messages.offers import read_servers, without_toolsets
from spanrelay.codecs.bodies import patch_identity, patch_messages, patch_request, patch_tools
from spanrelay.codecs.functions import patch_function, read_function, write_function
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.codecs.offers import GONE, Keeps, Offer, Sieve, drop_without, each, read_choice, read_tools
from spanrelay.codecs.offers import Table as Offers
from spanrelay.codecs.openai_chat.messages import patch_message, read_assistant, read_message, write_message
from spanrelay.codecs.openai_chat.stream import ChatAccumulator, stream_events, stream_texts
from spanrelay.codecs.openai_shapes import (
    CHOICES_PARAMETERS,
    FORMAT_WRITERS,
    SAMPLING,
    blank_choices,
    decode_choice_error,
    decode_error,
    decode_usage,
    encode_error,
    finished,
    patch_outcome,
    read_format,
    write_stop,
)
from spanrelay.codecs.parameters import Table, Writer, read_parameters, without_doubles
from spanrelay.codecs.patching import patch_sequence
from spanrelay.codecs.tokens import read_tokens
from spanrelay.conversation import Turns
from spanrelay.records import (
    JSON,
    Message,
    ModelRequest,
    ModelResponse,
)

__all__ = [
    "accumulator",
    "decode_request",
    "decode_response",
    "doubt_about",
    "encode_request",
    "encode_response",
    "fails_by_status",
    "is_whole",
    "operation",
    "required",
    "sift_tools",
    "single_parameters",
    "stream_events",
    "stream_texts",
    "turns",
]

operation = "chat"
answers_with = "choices"
required = (("model",), ("messages",))
fails_by_status = False
turns = Turns("messages", read_message)

# --- reading requests and responses ------------------------------------------------------------------------


def _read_effort(value: JSON) -> JSON:
    return as_mapping(value).get("effort")


PARAMETERS: Table = {
    **SAMPLING,
    "max_completion_tokens": ("max_tokens", None),
    "max_tokens": ("max_tokens", None),
    "random_seed": ("seed", None),
    "reasoning_effort": ("reasoning_effort", None),
    "reasoning": ("reasoning_effort", _read_effort),
    "response_format": ("output_type", read_format),
    "tool_choice": ("tool_choice", None),
    "service_tier": ("service_tier", None),
    "parallel_tool_calls": ("parallel_tool_calls", None),
    "logprobs": ("logprobs", None),
    "top_logprobs": ("top_logprobs", None),
    "logit_bias": ("logit_bias", None),
    "modalities": ("modalities", None),
    "verbosity": ("verbosity", None),
    "store": ("store", None),
    "user": ("user", None),
}
"""The keys of OpenAI's. Others do not know all of them: see `chat_dialects`."""


def decode_request(wire: Mapping[str, Any], parameters: Table = PARAMETERS) -> ModelRequest:
    """Read the body of a chat request; see `Codec.decode_request`."""
    get = wire.get
    model = get("model")
    tools = get("tools")
    return ModelRequest(
        model if model.__class__ is str else None,
        turns.messages(get("messages")),
        [],
        [read_function(tool) for tool in as_list(tools)] if tools else [],
        read_parameters(wire, parameters),
        get("stream") is True,
    )


def decode_response(wire: Mapping[str, Any]) -> ModelResponse:
    """Read the body of a chat answer; see `Codec.decode_response`."""
    get = wire.get
    choices = as_list(get("choices"))
    messages = [_read_choice(choice) for choice in choices]
    reasons = [message.finish_reason for message in messages if message.finish_reason is not None]
    return ModelResponse(
        as_str(get("id")),
        as_str(get("model")),
        messages,
        reasons,
        decode_usage(get("usage") or _usage_elsewhere(wire)),
        decode_error(wire) or decode_choice_error(choices),
        {key: wire[key] for key in CHOICES_PARAMETERS if get(key) is not None},
        read_tokens(wire, as_mapping(choices[0])) if choices else None,
    )


def _usage_elsewhere(wire: Mapping[str, Any]) -> object:
    """Return the usage of an answer that has none of its own: Groq's streams have it, and Moonshot's last choice."""
    choices = as_list(wire.get("choices"))
    return as_mapping(wire.get("x_groq")).get("usage") or (as_mapping(choices[-1]).get("usage") if choices else None)


def _read_choice(choice: Any) -> Message:
    choice = as_mapping(choice)
    message = read_assistant(as_mapping(choice.get("message")))
    message.finish_reason = as_str(choice.get("finish_reason"))
    return message


# --- writing requests --------------------------------------------------------------------------------------


_WRITERS: dict[str, Writer] = {**FORMAT_WRITERS, "stop": write_stop}

_INNER_KEYS = {"reasoning": "effort"}


def single_parameters(
    wire: Mapping[str, Any], names: Iterable[str], parameters: Table = PARAMETERS
) -> Mapping[str, Any]:
    """Return `wire` with each of `names` said once; see `Codec`."""
    return without_doubles(wire, names, parameters, inner_keys=_INNER_KEYS)


def encode_request(request: ModelRequest, wire: Mapping[str, Any], parameters: Table = PARAMETERS) -> dict[str, Any]:
    """Return `wire` changed where `request` differs; see `Codec.encode_request`.

    `system` becomes a system message at the start.

    Raises:
        CodecError: the record holds something that a chat request has no form for.
    """
    old = decode_request(wire, parameters)
    out = patch_request(old, request, wire, parameters, writers=_WRITERS, inner_keys=_INNER_KEYS)
    patch_messages(out, old, request, patch=patch_message, build=write_message)
    patch_tools(out, old, request, patch=patch_function, build=write_function)
    return out


# --- tools in requests -------------------------------------------------------------------------------------


def _read_search(sieve: Sieve, value: Any, place: str) -> Any:
    """Read the options of a web search, which are what asks for one."""
    return value if sieve.keeps(Offer(("web_search", place), "web_search", place)) else None


def _read_compound(sieve: Sieve, value: Any, place: str) -> Any:
    """Read how a compound of Groq's is to work, which names the tools that the provider runs for it."""
    told = as_mapping(as_mapping(value).get("tools"))
    names = as_list(told.get("enabled_tools"))
    where = f"{place}.tools.enabled_tools"
    left = each(names, where, lambda name, here: name if sieve.keeps(Offer((name,), "compound", here)) else GONE)
    return value if left is names else {**value, "tools": {**told, "enabled_tools": left}}


OFFERS: Offers = {
    "tools": read_tools,
    "functions": read_tools,
    "web_search_options": _read_search,
    "tool_choice": read_choice,
    "function_call": read_choice,
    "mcp_servers": read_servers,
    "compound_custom": _read_compound,
}
"""Every key of a request that names or offers a tool; MCP servers for a gateway that asks Anthropic's models."""


def sift_tools(wire: Mapping[str, Any], keeps: Keeps) -> Mapping[str, Any]:
    """Return `wire` without the tools that are not kept; see `Codec.sift_tools`."""
    return without_leftovers(Sieve(keeps).request(wire, OFFERS), wire)


def without_leftovers(out: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `out`, from which tools were taken, without what the API does not take without any."""
    out = out if out is before else without_toolsets(out, before)
    out = drop_without(out, before, ("tools",), "tool_choice", "parallel_tool_calls")
    return drop_without(out, before, ("functions",), "function_call")


# --- what an answer lacks -----------------------------------------------------------------------------------


def doubt_about(choice: Mapping[str, Any]) -> str | None:
    """Return what a choice lacks, or None."""
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return "has no object as 'message'"
    for call in as_list(cast("Mapping[str, Any]", message).get("tool_calls")):
        if not isinstance(call, Mapping) or not isinstance(
            cast("Mapping[str, Any]", call).get("function", {}), Mapping
        ):
            return "has a tool call that is not an object, or whose 'function' is not one"
    return None


# --- writing responses -------------------------------------------------------------------------------------


def encode_response(response: ModelResponse, wire: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return `wire` changed where `response` differs, or a whole body; see `Codec.encode_response`.

    Raises:
        CodecError: the record holds something that a chat answer has no form for.
    """
    if wire is None:
        if response.error is not None and not response.messages:
            return {"error": encode_error(response.error, {})}
        wire = blank_choices("chatcmpl", "chat.completion")
    old = decode_response(wire)
    out = patch_identity(wire, old, response)
    if response.messages != old.messages:
        out["choices"] = _patch_choices(old.messages, response.messages, as_list(wire.get("choices")))
    if response.finish_reasons != old.finish_reasons:
        out["choices"] = _set_finish_reasons(as_list(out.get("choices")), response.finish_reasons)
    patch_outcome(out, old, response, CHOICES_PARAMETERS)
    return out


def _patch_choices(old: list[Message], new: list[Message], choices: list[Any]) -> list[Any]:
    patched = patch_sequence(old, new, choices, patch=_patch_choice, build=_write_choice, alike=lambda _old, _new: True)
    if len(new) == len(old):
        return patched
    return [{**as_mapping(choice), "index": index} for index, choice in enumerate(patched)]


def _patch_choice(old: Message, new: Message, choice: Any) -> list[Any]:
    out = dict(as_mapping(choice))
    if new.finish_reason != old.finish_reason:
        out["finish_reason"] = new.finish_reason
    was, now = (Message("assistant", message.parts, message.name) for message in (old, new))
    if was != now:
        message = {"role": "assistant", "content": None, **as_mapping(out.get("message"))}
        out["message"] = patch_message(was, now, message)[0]
    return [out]


def _write_choice(message: Message) -> list[Any]:
    reason = message.finish_reason or ("tool_calls" if message.tool_calls else "stop")
    blank = {"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": reason}
    return _patch_choice(Message("assistant", [], None, message.finish_reason), message, blank)


def _set_finish_reasons(choices: list[Any], reasons: list[str]) -> list[Any]:
    """Return `choices` with the finish reasons of the record where there is one for each."""
    if len(choices) != len(reasons):
        return choices
    return [{**as_mapping(choice), "finish_reason": reason} for choice, reason in zip(choices, reasons, strict=True)]


is_whole = finished


def accumulator() -> ChatAccumulator:
    """Return a fresh accumulator for one stream."""
    return ChatAccumulator()
