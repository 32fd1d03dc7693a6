"""The Converse wire shape of Amazon Bedrock: a reply as one body, or as the frames of an AWS event stream.

Written from the wire alone: no SDK is imported here, and the frames are not those of the codec under test.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from spanrelay_testkit.exchange import Reply, Request, Usage, pieces

CONTENT_TYPE = "application/vnd.amazon.eventstream"
ROUTE = re.compile(r"/model/(.+)/(converse|converse-stream)$")


def model_of(request: Request) -> str:
    """The model in the path."""
    found = ROUTE.search(request.path)
    return unquote(found[1]) if found else "unknown-model"


def is_streamed(request: Request) -> bool:
    """Whether the route is that of streams."""
    return request.path.endswith("-stream")


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


def events(reply: Reply, request: Request, number: int) -> Iterator[bytes]:
    """The frames of the stream."""
    yield frame("messageStart", {"role": "assistant"})
    for index, block in enumerate(content(reply, number)):
        for start, delta in deltas(block, reply.chunk_words):
            if start is not None:
                yield frame("contentBlockStart", {"start": start, "contentBlockIndex": index})
            yield frame("contentBlockDelta", {"delta": delta, "contentBlockIndex": index})
        yield frame("contentBlockStop", {"contentBlockIndex": index})
    if reply.in_stream_error is not None:
        yield exception("modelStreamErrorException", {"message": reply.in_stream_error["message"]})
        return
    yield frame("messageStop", {"stopReason": stop_reason(reply)})
    usage = usage_object(reply, request)
    told = {"metrics": {"latencyMs": 1}}
    yield frame("metadata", told if usage is None else {**told, "usage": usage})


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


def error_body(message: str) -> dict[str, Any]:
    """The body of a failure."""
    return {"message": message}
