"""Cohere's wire shape, version 2: a reply as one body or as typed events, embeddings, and rankings.

Written from the wire alone: no SDK is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spanrelay_testkit import embeddings_wire
from spanrelay_testkit.exchange import Reply, Request, ToolCall, Usage, pieces, sse

FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}


def body(reply: Reply, request: Request, number: int) -> dict[str, Any]:
    """The answer that is no stream."""
    if request.api == "embed":
        texts = request.get("texts", [])
        vectors = [embeddings_wire.vector(text, embeddings_wire.DIMENSIONS) for text in texts]
        meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": len(texts)}}
        return {
            "id": f"embed-{number}",
            "embeddings": {"float": vectors},
            "texts": texts,
            "meta": meta,
            "response_type": "embeddings_by_type",
        }
    if request.api == "rerank":
        return _ranking(request, number)
    content = [] if reply.reasoning is None else [{"type": "thinking", "thinking": reply.reasoning}]
    content += [] if reply.text is None else [{"type": "text", "text": reply.text}]
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reply.tool_calls:
        message["tool_calls"] = [_call(call, number, at) for at, call in enumerate(reply.tool_calls)]
    return {"id": f"cohere-{number}", "message": message, **_end(reply, request)}


def _ranking(request: Request, number: int) -> dict[str, Any]:
    """The documents in the order in which they were given, each half as good as the one before."""
    count = min(int(request.get("top_n") or 1000), len(request.get("documents", [])))
    results = [{"index": at, "relevance_score": 0.5**at} for at in range(count)]
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    return {"id": f"rerank-{number}", "results": results, "meta": meta}


def _call(call: ToolCall, number: int, at: int, arguments: str | None = None) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments_text if arguments is None else arguments}
    return {"id": call.id or f"call_{number}_{at + 1}", "type": "function", "function": function}


def _end(reply: Reply, request: Request) -> dict[str, Any]:
    usage = reply.counted(request) if reply.usage == "counted" else reply.usage
    end: dict[str, Any] = {"finish_reason": FINISH.get(reply.finish, "COMPLETE")}
    if isinstance(usage, Usage):
        counts = {"input_tokens": usage.input, "output_tokens": usage.output}
        end["usage"] = {"billed_units": counts, "tokens": counts, "cached_tokens": usage.cached}
    return end


def events(reply: Reply, request: Request, number: int) -> Iterator[bytes]:
    """The events of the stream, `[DONE]` included."""
    start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield _event("message-start", {"message": start}, id=f"cohere-{number}")
    for at, call in enumerate(reply.tool_calls):
        yield _event("tool-call-start", {"message": {"tool_calls": _call(call, number, at, "")}}, index=at)
        for piece in pieces(call.arguments_text, reply.chunk_words):
            yield _event("tool-call-delta", {"message": {"tool_calls": {"function": {"arguments": piece}}}}, index=at)
        yield _event("tool-call-end", index=at)
    told = [("thinking", reply.reasoning), ("text", reply.text)]
    for at, (kind, text) in enumerate(each for each in told if each[1] is not None):
        yield _event("content-start", {"message": {"content": {"type": kind, kind: ""}}}, index=at)
        for piece in pieces(text or "", reply.chunk_words):
            yield _event("content-delta", {"message": {"content": {kind: piece}}}, index=at)
        if reply.in_stream_error is None:
            yield _event("content-end", index=at)
    if reply.in_stream_error is not None:
        failed = {"finish_reason": "ERROR", "error": reply.in_stream_error["message"]}
        yield _event("message-end", failed)
        return
    yield _event("message-end", _end(reply, request))
    yield sse("[DONE]")


def _event(kind: str, delta: dict[str, Any] | None = None, **more: Any) -> bytes:
    return sse({"type": kind, **more, **({} if delta is None else {"delta": delta})}, kind)
