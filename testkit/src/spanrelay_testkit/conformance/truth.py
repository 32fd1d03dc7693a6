"""What a span and a step of a trajectory have to say, held against the exchange's truth: the one home of comparison.

Each function yields complaints, one sentence each; none where all is said. Providers are not told apart here: where
one's words differ, the truth says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from spanrelay._json import loads_or_text
from spanrelay.semconv import names
from spanrelay_testkit.conformance.exchanges import Exchange

Object = Mapping[str, Any]

USAGE: dict[str, tuple[str, ...]] = {
    "input_tokens_total": names.INPUT_TOKENS,
    "output_tokens_total": names.OUTPUT_TOKENS,
    "cached_input_tokens": names.CACHE_READ_TOKENS,
    "cache_creation_input_tokens": names.CACHE_WRITE_TOKENS,
    "reasoning_tokens": names.REASONING_TOKENS,
    "total_tokens": names.TOTAL_TOKENS,
}
"""What the truth says of usage, and the attributes of it; inputs and outputs are whole, however a provider counts."""
TEXTS = frozenset({"text", "content", "input", "prompt", "contents", "message", "output", "texts", "query", "thinking"})
"""Where requests have texts that people, models and tools said."""
PROMPTS = (
    "messages",
    "input",
    "contents",
    "prompt",
    "message",
    "system",
    "systemInstruction",
    "system_instruction",
    "instructions",
    "chat_history",
    "inputText",
    "preamble",
    "texts",
)
"""The fields of a request that hold a conversation, or what is embedded."""


def shown(value: Any) -> str:
    """A value in few words."""
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:120]} … ({len(text)} characters)"


def unless_same(what: str, found: Any, expected: Any) -> Iterator[str]:
    """Complain where two values differ."""
    if found != expected:
        yield f"{what}: {shown(found)}, not {shown(expected)}"


def of_span(span: ReadableSpan, exchange: Exchange, provider: str) -> Iterator[str]:
    """Hold a span against the truth."""
    truth, attributes = exchange.truth, dict(span.attributes or {})
    yield from unless_same("provider", attributes.get(names.PROVIDER), provider)
    yield from unless_same("request model", attributes.get(names.REQUEST_MODEL), truth["request_model"])
    yield from unless_same("streamed", attributes.get(names.REQUEST_STREAM, False), exchange.asks_for_stream)
    if truth["error"] is None:
        yield from unless_same("incomplete", attributes.get(names.INCOMPLETE), None)
    yield from _error(span, attributes, truth)
    if exchange.api == "images":  # is sent on as it is, and of its answer nothing is read
        return
    yield from unless_same("response model", attributes.get(names.RESPONSE_MODEL), truth["response_model"] or None)
    yield from unless_same("response id", attributes.get(names.RESPONSE_ID), truth["response_id"] or None)
    yield from _counted(attributes, truth) if exchange.api == "count_tokens" else _usage(attributes, truth)
    yield from _finish_reasons(attributes, truth)
    yield from _embeddings(attributes, truth)
    yield from _messages(attributes, truth)
    yield from of_request(attributes, exchange)


def _counted(attributes: Object, truth: Object) -> Iterator[str]:
    """Tokens that were counted are in the answer; none were used."""
    told = json.loads(attributes.get(names.RESPONSE_PARAMETERS, "{}"))
    yield from unless_same("counted", told.get("input_tokens"), truth["input_tokens"])
    yield from unless_same("used", [name for places in USAGE.values() for name in places if name in attributes], [])


def _usage(attributes: Object, truth: Object) -> Iterator[str]:
    for field, places in USAGE.items():
        expected = usage_of(truth, field)
        found = attributes.get(places[0])
        if expected is None and found is not None:
            if field == "total_tokens":  # where the provider has none, the sum is as good
                yield from unless_same(field, found, truth.get("total_tokens_computed"))
                continue
            expected = 0  # nothing and none at all are the same to whoever adds up
        yield from unless_same(field, found, expected)


def usage_of(truth: Object, field: str) -> int | None:
    """What the truth says of usage; of cached tokens also where Together says it."""
    found = truth.get(field)
    if field == "cached_input_tokens" and found is None and isinstance(truth["usage_raw"], Mapping):
        return truth["usage_raw"].get("cached_tokens")
    return found


def _finish_reasons(attributes: Object, truth: Object) -> Iterator[str]:
    found = list(attributes.get(names.FINISH_REASONS, ()))
    expected = [reason for reason in truth["finish_reasons"] if reason]
    if expected or not truth["status"]:
        if len(found) != len(expected) or any(map(_is_another, found, expected)):
            yield from unless_same("finish reasons", found, expected)
    elif truth["error"] is None:  # an API that has a status in place of a reason
        wanted = {"completed": "stop", "requires_action": "tool_calls"}.get(truth["status"])
        wanted = "tool_calls" if truth["tool_calls"] and wanted else wanted
        yield from unless_same("finish reasons", found, [wanted] if wanted else [])


FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "finish": "stop",
    "finished": "stop",
    "eos": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "model_length": "length",
    "safety": "content_filter",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "refusal": "content_filter",
}
"""Words of providers, in lower case, for which OpenTelemetry has one of its own."""


def _is_another(found: str, word: str) -> bool:
    """Whether `found` is neither the provider's word nor OpenTelemetry's for it."""
    return found not in (word, word.lower(), FINISH_REASONS.get(word.lower()))


def _embeddings(attributes: Object, truth: Object) -> Iterator[str]:
    if "embedding_count" in truth:
        told = json.loads(attributes.get(names.RESPONSE_PARAMETERS, "{}"))
        for field in ("embedding_count", "embedding_dimensions"):
            yield from unless_same(field, told.get(field), truth[field])


def _messages(attributes: Object, truth: Object) -> Iterator[str]:
    messages = json.loads(attributes.get(names.OUTPUT_MESSAGES, "[]"))
    choices = choices_of(truth)
    said = [choice for choice in choices if choice["text"] or choice["tool_calls"]]
    if len(messages) < len(said):
        yield f"messages: {len(messages)}, not {len(said)}"
    for message, choice in zip(messages, choices, strict=False):
        yield from _parts(message["parts"], choice)
    if messages:
        yield from _server_calls(messages[0]["parts"], truth)


def choices_of(truth: Object) -> Sequence[Object]:
    """What the model said, once for each choice."""
    return truth["choices"] or [truth]


def _parts(parts: Sequence[Object], choice: Object) -> Iterator[str]:
    yield from unless_same("text", _joined(parts, "text", "content"), choice["text"])
    yield from unless_same(
        "reasoning", squeezed(_joined(parts, "reasoning", "content")), squeezed(choice["reasoning_text"])
    )
    refusal = choice["refusal"] or ""
    found = _joined(parts, "refusal", "refusal")
    if found or not (isinstance(refusal, str) and refusal == choice["text"]):  # told in one place or the other
        yield from unless_same("refusal", found, refusal)
    calls = [(part["name"], part.get("arguments"), part["id"]) for part in parts if part["type"] == "tool_call"]
    yield from of_calls(calls, choice["tool_calls"])


def of_calls(found: Sequence[tuple[str, Any, str | None]], expected: Sequence[Object]) -> Iterator[str]:
    """Hold tool calls, as name, arguments and id, against those of the truth.

    One without a name is no call: servers send such with each message. An id that the provider left out is anybody's.
    """
    named = [call for call in expected if call["name"]]
    wanted = [(call["name"], arguments_of(call)) for call in named]
    yield from unless_same("tool calls", [call[:2] for call in found], wanted)
    for (_, _, given), call in zip(found, named, strict=False):
        if call["id"]:
            yield from unless_same("tool call id", given, call["id"])


def arguments_of(call: Object) -> Any:
    """The arguments of a call: what its text parses to, or the text."""
    if call["arguments_raw"] is None:
        return call["arguments"]
    return loads_or_text(call["arguments_raw"]) if call["arguments_raw"] else ""


def _server_calls(parts: Sequence[Object], truth: Object) -> Iterator[str]:
    calls = [part for part in parts if part["type"] != "tool_call"]
    found = {identity: part for part in calls if (identity := identity_of(part)) is not None}
    for call in truth["server_tool_calls"]:
        if call.get("id") is None:
            continue
        part = found.get(call["id"])
        if part is None:
            yield f"server tool call {call['type']!r} {call['id']!r} is missing"
        elif call.get("name") and part["type"] == "server_tool_call":
            yield from unless_same("server tool", part["name"], call["name"])


def identity_of(part: Object) -> str | None:
    """The id of a part, also of one that was kept as it was on the wire."""
    data = part.get("data") if part["type"] == "generic" else part
    if not isinstance(data, Mapping):
        return None
    return data.get("id") or data.get("tool_use_id") or data.get("call_id")


def _joined(parts: Sequence[Object], kind: str, key: str) -> str:
    return "".join(part[key] or "" for part in parts if part["type"] == kind)


def squeezed(text: str | None) -> str:
    """A text without line breaks: the truth runs paragraphs of a summary together."""
    return (text or "").replace("\n", "")


def _error(span: ReadableSpan, attributes: Object, truth: Object) -> Iterator[str]:
    error = truth["error"]
    if error is None:
        yield from unless_same("status", span.status.status_code, StatusCode.UNSET)
        yield from unless_same("error", attributes.get(names.ERROR_TYPE), None)
        return
    yield from unless_same("status", span.status.status_code, StatusCode.ERROR)
    if names.ERROR_TYPE not in attributes:
        yield "an error without error.type"
    if error["http_status"] is not None and not error["in_stream"]:
        yield from unless_same("HTTP status", attributes.get(names.HTTP_STATUS_CODE), error["http_status"])
    if error["code"] is not None:
        yield from unless_same("error code", attributes.get(names.ERROR_CODE), str(error["code"]))
    if error["message"] and error["message"] not in (span.status.description or ""):
        yield f"error message: {shown(span.status.description)}, not {shown(error['message'])}"


# ── the request


def of_request(attributes: Object, exchange: Exchange) -> Iterator[str]:
    """Hold what a span says that was asked against the recorded body: every text, and every tool that was offered."""
    if not exchange.converses or not isinstance(exchange.body, Mapping):
        return
    told = set(
        strings_in(
            [json.loads(attributes.get(name, "[]")) for name in (names.INPUT_MESSAGES, names.SYSTEM_INSTRUCTIONS)]
        )
    )
    for text in dict.fromkeys(prompts_of(exchange.body)):
        if text not in told and not any(text in each for each in told):
            yield f"asked, but not told: {shown(text)}"
    offered = json.loads(attributes.get(names.TOOL_DEFINITIONS, "[]"))
    for name in tools_in(exchange.body):
        if not any(name == each.get("name") for each in offered):
            yield f"offered, but not told: tool {name!r}"


def prompts_of(body: Object) -> Iterator[str]:
    """Yield the texts of a request that somebody said."""
    for name in PROMPTS:
        yield from _said(body.get(name), name)


def _said(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, str):
        if value.strip() and (key in TEXTS or key in PROMPTS):
            yield value
    elif isinstance(value, Mapping):
        # What tools gave and were given is JSON of their own, and pictures and files are no texts.
        for name, inner in value.items():
            if name in TEXTS or (isinstance(inner, (list, Mapping)) and name not in ("source", "args", "response")):
                yield from _said(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _said(inner, key)


def strings_in(value: Any) -> Iterator[str]:
    """Yield every string inside JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from strings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner)


def tools_in(body: Object) -> Iterator[str]:
    """Yield the names of the functions that a request offers, in the forms of all APIs."""
    config = body.get("toolConfig") or {}
    for tool in [*(body.get("tools") or ()), *(config.get("tools") or ())]:
        if not isinstance(tool, Mapping):
            continue
        declared = tool.get("functionDeclarations") or tool.get("function_declarations")
        for one in declared or [tool.get("function") or tool.get("toolSpec") or tool]:
            if isinstance(one, Mapping) and isinstance(one.get("name"), str):
                yield one["name"]


# ── the trajectory


def of_step(step: Object, exchange: Exchange) -> Iterator[str]:
    """Hold the step of a model call against the truth; of several choices a step has the first."""
    truth = exchange.truth
    choice = choices_of(truth)[0]
    yield from unless_same("step: source", step["source"], "agent")
    yield from unless_same("step: model", step.get("model_name"), truth["response_model"] or truth["request_model"])
    said = choice["text"] or (choice["refusal"] if isinstance(choice["refusal"], str) else "") or ""
    message = text_of(step["message"])
    if said not in message or bool(said) < bool(message and not message.startswith("[")):
        yield from unless_same("step: message", message, said)
    yield from unless_same(
        "step: reasoning", squeezed(step.get("reasoning_content")), squeezed(choice["reasoning_text"])
    )
    yield from of_calls(list(_calls_of(step, truth)), [_as_object(call) for call in choice["tool_calls"]])
    yield from _metrics(step.get("metrics") or {}, truth)
    error = step.get("extra", {}).get("error")
    yield from unless_same("step: failed", error is not None, truth["error"] is not None)
    expected = (truth["error"] or {}).get("message")
    if error is not None and expected and expected not in error["message"]:
        yield from unless_same("step: error", error["message"], expected)


def text_of(message: str | Sequence[Object]) -> str:
    """The text of a step's message."""
    if isinstance(message, str):
        return message
    return "".join(part.get("text") or "" for part in message)


def _calls_of(step: Object, truth: Object) -> Iterator[tuple[str, Any, str | None]]:
    """Yield the calls that the program was asked for: those that the provider runs itself say so."""
    server = {call.get("id") for call in truth["server_tool_calls"]}
    for call in step.get("tool_calls") or ():
        extra = call.get("extra") or {}
        if extra.get("server_side") or extra.get("dispatch") or call["tool_call_id"] in server:
            continue
        yield call["function_name"], call["arguments"], extra.get("original_id") or call["tool_call_id"]


def _as_object(call: Object) -> Object:
    """A call of the truth as ATIF has it, whose arguments are always an object."""
    arguments = arguments_of(call)
    if not isinstance(arguments, Mapping):
        arguments = {"raw": arguments} if arguments and isinstance(arguments, str) else {}
    return {**call, "arguments": arguments, "arguments_raw": None}


def _metrics(metrics: Object, truth: Object) -> Iterator[str]:
    for field, name in (("input_tokens_total", "prompt_tokens"), ("output_tokens_total", "completion_tokens")):
        yield from unless_same(f"step: {name}", metrics.get(name), usage_of(truth, field))
    cached = metrics.get("cached_tokens") or (metrics.get("extra") or {}).get("cached_tokens_reported") or 0
    yield from unless_same("step: cached_tokens", cached, usage_of(truth, "cached_input_tokens") or 0)
