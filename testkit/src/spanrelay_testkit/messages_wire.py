"""Anthropic's Messages wire shape: a reply as one body or as the events of a stream.

Written from the wire alone: no SDK is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from spanrelay_testkit.exchange import Reply, Request, Usage, pieces, sse

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
"""The words of chat completions to this API's; any other word goes out as it is."""


def usage_object(reply: Reply, request: Request) -> dict[str, Any]:
    """Usage under this API's names, its input without what was cached; without any counts where the reply has none."""
    usage = reply.counted(request) if reply.usage == "counted" else reply.usage
    if not isinstance(usage, Usage):
        return {} if usage is None else dict(usage)
    return {
        "input_tokens": usage.input - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        "service_tier": "standard",
    }


def given(text: str) -> Any:
    """Arguments as the object that a body has; what is no JSON object stays a text, which no provider sends."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def blocks(reply: Reply, number: int) -> Iterator[dict[str, Any]]:
    """The content of a reply."""
    if reply.reasoning is not None:
        yield {"type": "thinking", "thinking": reply.reasoning, "signature": f"sig_{number}"}
    text = reply.text if reply.text is not None else reply.refusal
    if text is not None:
        yield {"type": "text", "text": text}
    for at, call in enumerate(reply.tool_calls):
        call_id = call.id or f"toolu_{number}_{at + 1}"
        yield {"type": "tool_use", "id": call_id, "name": call.name, "input": given(call.arguments_text)}


def head(reply: Reply, request: Request, number: int) -> dict[str, Any]:
    """What every message begins with."""
    return {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": reply.model or request.model}


def stop_reason(reply: Reply) -> str:
    """Why the answer ended, in this API's words."""
    return "refusal" if reply.refusal is not None else STOP_REASONS.get(reply.finish, reply.finish)


def body(reply: Reply, request: Request, number: int) -> dict[str, Any]:
    """The answer that is no stream."""
    return {
        **head(reply, request, number),
        "content": list(blocks(reply, number)),
        "stop_reason": stop_reason(reply),
        "stop_sequence": None,
        "usage": usage_object(reply, request),
    }


def deltas(block: dict[str, Any], reply: Reply) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins, and what is added to it."""
    if block["type"] == "text":
        return {**block, "text": ""}, [
            {"type": "text_delta", "text": piece} for piece in pieces(block["text"], reply.chunk_words)
        ]
    if block["type"] == "thinking":
        told = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"], reply.chunk_words)]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*told, signed]
    text = block["input"] if isinstance(block["input"], str) else json.dumps(block["input"])
    parts = ["", *pieces(text, reply.chunk_words)]
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]


def events(reply: Reply, request: Request, number: int) -> Iterator[bytes]:
    """The events of the stream."""

    def event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, **fields}, kind)

    usage = usage_object(reply, request)
    begun = {**usage, "output_tokens": 1} if usage else {}
    message = {**head(reply, request, number), "content": [], "stop_reason": None, "stop_sequence": None}
    yield event("message_start", message={**message, "usage": begun})
    for index, block in enumerate(blocks(reply, number)):
        start, added = deltas(block, reply)
        yield event("content_block_start", index=index, content_block=start)
        for delta in added:
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    if reply.in_stream_error is not None:
        yield event("error", error=dict(reply.in_stream_error))
        return
    ended = {"stop_reason": stop_reason(reply), "stop_sequence": None}
    yield event("message_delta", delta=ended, usage={"output_tokens": 0, **usage})
    yield event("message_stop")
