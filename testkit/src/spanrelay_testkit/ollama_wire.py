"""Ollama's wire shape: a reply as one body, or as objects, one a line.

Written from the wire alone: no SDK is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from spanrelay_testkit import embeddings_wire
from spanrelay_testkit.exchange import Reply, Request, Usage, pieces

CONTENT_TYPE = "application/x-ndjson"
CREATED_AT = "2026-01-01T00:00:00Z"


def body(reply: Reply, request: Request, number: int) -> dict[str, Any]:
    """The answer that is no stream."""
    if request.api == "api/embed":
        texts = embeddings_wire.inputs(request)
        vectors = [embeddings_wire.vector(text, embeddings_wire.DIMENSIONS) for text in texts]
        return {"model": request.model, "embeddings": vectors, "prompt_eval_count": len(texts)}
    said = _part(request, reply.text or "", reply.reasoning)
    if reply.tool_calls:
        said["message"]["tool_calls"] = _calls(reply)
    return {**_head(reply, request), **said, **_end(reply, request)}


def events(reply: Reply, request: Request, number: int) -> Iterator[bytes]:
    """The objects of the stream, the last with the counts."""
    head = _head(reply, request)
    for piece in pieces(reply.reasoning or "", reply.chunk_words):
        yield _line({**head, **_part(request, "", piece), "done": False})
    for piece in pieces(reply.text or "", reply.chunk_words):
        yield _line({**head, **_part(request, piece), "done": False})
    if reply.tool_calls:
        part = _part(request, "")
        part["message"]["tool_calls"] = _calls(reply)
        yield _line({**head, **part, "done": False})
    if reply.in_stream_error is not None:
        yield _line({"error": reply.in_stream_error["message"]})
        return
    yield _line({**head, **_part(request, ""), **_end(reply, request)})


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _head(reply: Reply, request: Request) -> dict[str, Any]:
    return {"model": reply.model or request.model, "created_at": CREATED_AT}


def _part(request: Request, text: str, thinking: str | None = None) -> dict[str, Any]:
    thought = {} if thinking is None else {"thinking": thinking}
    if request.api == "api/generate":
        return {"response": text, **thought}
    return {"message": {"role": "assistant", "content": text, **thought}}


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {"function": {"name": call.name, "arguments": json.loads(call.arguments_text or "{}")}}
        for call in reply.tool_calls
    ]


def _end(reply: Reply, request: Request) -> dict[str, Any]:
    usage = reply.counted(request) if reply.usage == "counted" else reply.usage
    counts = {"prompt_eval_count": usage.input, "eval_count": usage.output} if isinstance(usage, Usage) else {}
    return {"done": True, "done_reason": "length" if reply.finish == "length" else "stop", **counts}
