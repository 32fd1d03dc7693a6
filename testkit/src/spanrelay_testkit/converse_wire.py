"""The Converse wire shape of Amazon Bedrock, and that of Nova's own bodies: one body, or frames of an AWS event stream.

Written from the wire alone: no SDK is imported here, and the frames are not those of the codec under test.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from spanrelay_testkit.exchange import Reply, Request, Usage, pieces

CONTENT_TYPE = "application/vnd.amazon.eventstream"


def stop_reason(reply: Reply) -> str:
    """Why the answer ended, in Converse's words."""
    return {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}.get(reply.finish, reply.finish)


def usage_object(reply: Reply, request: Request) -> dict[str, Any] | None:
    """Usage under Converse's names; None when the reply has none."""
    usage = reply.counted(request) if reply.usage == "counted" else reply.usage
    if not isinstance(usage, Usage):
        return None if usage is None else dict(usage)
    counted = {"inputTokens": usage.input - usage.cached, "outputTokens": usage.output}
    return {**counted, "totalTokens": usage.input + usage.output, "cacheReadInputTokens": usage.cached}


def arguments_of(text: str) -> Any:
    """The arguments of a call as the wire carries them: an object."""
    try:
        return json.loads(text)
    except ValueError:
        return {"raw": text}


def content(reply: Reply, number: int) -> list[dict[str, Any]]:
    """The blocks of the answer."""
    blocks: list[dict[str, Any]] = []
    if reply.reasoning is not None:
        blocks.append({"reasoningContent": {"reasoningText": {"text": reply.reasoning, "signature": "sig"}}})
    text = reply.text if reply.text is not None else reply.refusal
    if text is not None:
        blocks.append({"text": text})
    for at, call in enumerate(reply.tool_calls):
        given = {"name": call.name, "input": arguments_of(call.arguments_text)}
        blocks.append({"toolUse": {"toolUseId": call.id or f"tooluse_{number}_{at + 1}", **given}})
    return blocks


def body(reply: Reply, request: Request, number: int) -> dict[str, Any]:
    """The answer that is no stream."""
    made: dict[str, Any] = {
        "metrics": {"latencyMs": 1},
        "output": {"message": {"content": content(reply, number), "role": "assistant"}},
        "stopReason": stop_reason(reply),
    }
    usage = usage_object(reply, request)
    return made if usage is None else {**made, "usage": usage}


def deltas(block: dict[str, Any], words: int) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any]]]:
    """The start and the deltas of one block."""
    if "toolUse" in block:
        call = dict(block["toolUse"])
        given = json.dumps(call.pop("input"))
        start: dict[str, Any] | None = {"toolUse": call}
        for piece in pieces(given, words):
            yield start, {"toolUse": {"input": piece}}
            start = None
    elif "text" in block:
        for piece in pieces(block["text"], words):
            yield None, {"text": piece}
    else:
        shown = block["reasoningContent"]["reasoningText"]
        for piece in pieces(shown["text"], words):
            yield None, {"reasoningContent": {"text": piece}}
        yield None, {"reasoningContent": {"signature": shown["signature"]}}


def told(reply: Reply, request: Request, number: int) -> Iterator[tuple[str, Any]]:
    """What the events of the stream are, and say."""
    yield "messageStart", {"role": "assistant"}
    for index, block in enumerate(content(reply, number)):
        for start, delta in deltas(block, reply.chunk_words):
            if start is not None:
                yield "contentBlockStart", {"start": start, "contentBlockIndex": index}
            yield "contentBlockDelta", {"delta": delta, "contentBlockIndex": index}
        yield "contentBlockStop", {"contentBlockIndex": index}
    if reply.in_stream_error is not None:
        return
    yield "messageStop", {"stopReason": stop_reason(reply)}
    usage = usage_object(reply, request)
    measured = {"metrics": {"latencyMs": 1}}
    yield "metadata", measured if usage is None else {**measured, "usage": usage}


def events(reply: Reply, request: Request, number: int) -> Iterator[bytes]:
    """The frames of the stream; those of a model's own body are chunks, of which AWS counts the tokens in the last."""
    for kind, payload in told(reply, request, number):
        if request.api == "converse":
            yield frame(kind, payload)
        else:
            metrics = {"amazon-bedrock-invocationMetrics": {"invocationLatency": 1}} if kind == "metadata" else {}
            event = json.dumps({kind: payload, **metrics}).encode()
            yield frame("chunk", {"bytes": base64.b64encode(event).decode()})
    if reply.in_stream_error is not None:
        yield exception("modelStreamErrorException", {"message": reply.in_stream_error["message"]})


def frame(kind: str, payload: Any) -> bytes:
    """One event."""
    return framed({":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, payload)


def exception(kind: str, payload: Any) -> bytes:
    """One failure that comes as an event."""
    return framed({":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}, payload)


def framed(headers: dict[str, str], payload: Any) -> bytes:
    """Headers and JSON as one frame of an AWS event stream, with its two checksums."""
    named = b"".join(
        struct.pack(f">B{len(name)}sBH", len(name), name.encode(), 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    data = json.dumps(payload, separators=(",", ":")).encode()
    prelude = struct.pack(">II", len(named) + len(data) + 16, len(named))
    head = prelude + struct.pack(">I", zlib.crc32(prelude))
    return head + named + data + struct.pack(">I", zlib.crc32(head + named + data))
