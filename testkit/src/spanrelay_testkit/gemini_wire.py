"""The wire shape of Gemini's generated content and embeddings: a reply as one body or as the events of a stream.

Written from the wire alone: no SDK is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from spanrelay_testkit.exchange import Reply, Request, Usage, pieces, sse

REASONS = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


def usage_object(reply: Reply, request: Request) -> dict[str, Any] | None:
    """Usage under Gemini's names, thoughts beside the candidates; None when the reply has none."""
    usage = reply.counted(request) if reply.usage == "counted" else reply.usage
    if not isinstance(usage, Usage):
        return None if usage is None else dict(usage)
    made = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output - usage.reasoning,
        "totalTokenCount": usage.input + usage.output,
    }
    beside = {"cachedContentTokenCount": usage.cached, "thoughtsTokenCount": usage.reasoning}
    return {**made, **{name: count for name, count in beside.items() if count}}


def calls(reply: Reply) -> Iterator[dict[str, Any]]:
    """The parts that ask for functions; the API gives them no ids."""
    for call in reply.tool_calls:
        arguments = json.loads(call.arguments) if isinstance(call.arguments, str) else dict(call.arguments)
        identity = {"id": call.id} if call.id else {}
        yield {"functionCall": {**identity, "name": call.name, "args": arguments}}


def parts(reply: Reply) -> list[dict[str, Any]]:
    """The parts of one candidate."""
    thoughts = [{"text": reply.reasoning, "thought": True}] if reply.reasoning is not None else []
    texts = [{"text": text} for text in (reply.text, reply.refusal) if text is not None]
    return [*thoughts, *texts, *calls(reply)]


def head(reply: Reply, request: Request, number: int) -> dict[str, Any]:
    """What every event repeats."""
    return {"modelVersion": reply.model or request.model, "responseId": f"response-{number}"}


def body(reply: Reply, request: Request, number: int) -> dict[str, Any]:
    """The answer that is no stream."""
    usage = usage_object(reply, request)
    candidates = [
        {
            "content": {"parts": parts(choice), "role": "model"},
            "finishReason": REASONS.get(choice.finish, choice.finish),
            "index": index,
        }
        for index, choice in enumerate(reply.candidates)
    ]
    made = {"candidates": candidates, **head(reply, request, number)}
    return made if usage is None else {**made, "usageMetadata": usage}


def streamed_parts(reply: Reply) -> Iterator[dict[str, Any]]:
    """What one candidate says, piece by piece; functions are asked for whole."""
    for piece in pieces(reply.reasoning or "", reply.chunk_words):
        yield {"text": piece, "thought": True}
    for piece in pieces((reply.text or "") + (reply.refusal or ""), reply.chunk_words):
        yield {"text": piece}
    yield from calls(reply)


def events(reply: Reply, request: Request, number: int) -> Iterator[bytes]:
    """The events of the stream, which has no end marker: the last one has the finish reasons and the usage."""
    rest = head(reply, request, number)

    def event(index: int, content: dict[str, Any], **more: Any) -> bytes:
        return sse({"candidates": [{"content": {**content, "role": "model"}, "index": index, **more}], **rest})

    for index, choice in enumerate(reply.candidates):
        for part in streamed_parts(choice):
            yield event(index, {"parts": [part]})
    if reply.in_stream_error is not None:
        yield sse({"error": {**error_of(reply.in_stream_error)}})
        return
    usage = usage_object(reply, request)
    rest |= {} if usage is None else {"usageMetadata": usage}
    for index, choice in enumerate(reply.candidates):
        yield event(index, {}, finishReason=REASONS.get(choice.finish, choice.finish))


def error_of(error: Any) -> dict[str, Any]:
    """An error object, whose code is an HTTP status here."""
    code = error.get("code")
    return {"code": code if isinstance(code, int) else 503, "message": error.get("message"), "status": "UNAVAILABLE"}


def embeddings(request: Request) -> dict[str, Any]:
    """A vector for each input."""
    return {"embeddings": [{"values": [0.25, -0.5, 0.125]} for _ in request.get("requests", [None])]}
