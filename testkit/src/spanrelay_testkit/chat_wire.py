"""The chat completions wire shape: a reply as one body or as the events of a stream.

Written from the wire alone: no SDK is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spanrelay_testkit.exchange import CREATED, Reply, Request, ToolCall, Usage, pieces, sse


def usage_object(reply: Reply, request: Request) -> dict[str, Any] | None:
    """Usage under chat's names; None when the reply has none."""
    usage = reply.counted(request) if reply.usage == "counted" else reply.usage
    if not isinstance(usage, Usage):
        return None if usage is None else dict(usage)
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def call_object(call: ToolCall, fallback_id: str, arguments: str) -> dict[str, Any]:
    """One tool call."""
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id or fallback_id, "type": "function", "function": function}


def call_id(number: int, choice: int, at: int) -> str:
    """`call_3_1`; later choices add their own number."""
    return f"call_{number}_{at + 1}" if choice == 0 else f"call_{number}_{choice + 1}_{at + 1}"


def message(reply: Reply, number: int, choice: int) -> dict[str, Any]:
    """The assistant message of one choice."""
    made: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.reasoning is not None:
        made["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        made["tool_calls"] = [
            call_object(call, call_id(number, choice, at), call.arguments_text)
            for at, call in enumerate(reply.tool_calls)
        ]
    return {**made, "refusal": reply.refusal, "annotations": []}


def body(reply: Reply, request: Request, number: int) -> dict[str, Any]:
    """The answer that is no stream."""
    made: dict[str, Any] = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": CREATED,
        "model": reply.model or request.model,
        "choices": [
            {
                "index": index,
                "message": message(choice, number, index),
                "logprobs": None,
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(reply.candidates)
        ],
        "service_tier": "default",
        "system_fingerprint": "fp_testkit",
    }
    usage = usage_object(reply, request)
    return made if usage is None else {**made, "usage": usage}


def deltas(reply: Reply, number: int, choice: int) -> Iterator[dict[str, Any]]:
    """What one choice says, delta by delta."""
    yield {"role": "assistant", "content": None if reply.text is None else "", "refusal": None}
    for piece in pieces(reply.reasoning or "", reply.chunk_words):
        yield {"reasoning_content": piece}
    for piece in pieces(reply.text or "", reply.chunk_words):
        yield {"content": piece}
    for piece in pieces(reply.refusal or "", reply.chunk_words):
        yield {"refusal": piece}
    for at, call in enumerate(reply.tool_calls):
        yield {"tool_calls": [{"index": at, **call_object(call, call_id(number, choice, at), "")}]}
        for piece in pieces(call.arguments_text, reply.chunk_words):
            yield {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}


def events(reply: Reply, request: Request, number: int) -> Iterator[bytes]:
    """The events of the stream, `[DONE]` included."""
    asked_for = bool((request.get("stream_options") or {}).get("include_usage"))
    with_usage = asked_for or request.model.startswith("mistral")  # Mistral tells it unasked
    head: dict[str, Any] = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": reply.model or request.model,
        "service_tier": "default",
        "system_fingerprint": "fp_testkit",
    }
    tail: dict[str, Any] = {"usage": None} if with_usage else {}

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse({**head, "choices": [choice], **tail})

    for index, choice in enumerate(reply.candidates):
        for delta in deltas(choice, number, index):
            yield chunk(index, delta)
        if reply.in_stream_error is None:
            yield chunk(index, {}, choice.finish)
    if reply.in_stream_error is not None:
        yield sse({"error": dict(reply.in_stream_error)})
        return
    usage = usage_object(reply, request)
    if with_usage and usage is not None:
        yield sse({**head, "choices": [], "usage": usage})
    yield sse("[DONE]")
