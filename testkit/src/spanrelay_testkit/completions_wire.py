"""The legacy completions wire shape: a reply as one body or as the events of a stream.

Written from the wire alone: no SDK is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spanrelay_testkit.chat_wire import usage_object
from spanrelay_testkit.exchange import CREATED, Reply, Request, pieces, sse


def answer(reply: Reply, request: Request, number: int, choices: list[dict[str, Any]]) -> dict[str, Any]:
    """The object that carries `choices`, whole or one piece of them."""
    return {
        "id": f"cmpl-{number}",
        "object": "text_completion",
        "created": CREATED,
        "model": reply.model or request.model,
        "choices": choices,
    }


def choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    """One choice."""
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def body(reply: Reply, request: Request, number: int) -> dict[str, Any]:
    """The answer that is no stream."""
    choices = [choice(at, said.text or "", said.finish) for at, said in enumerate(reply.candidates)]
    usage = usage_object(reply, request)
    made = answer(reply, request, number, choices)
    return made if usage is None else {**made, "usage": usage}


def events(reply: Reply, request: Request, number: int) -> Iterator[bytes]:
    """The events of the stream, `[DONE]` included."""
    for at, said in enumerate(reply.candidates):
        for piece in pieces(said.text or "", reply.chunk_words):
            yield sse(answer(reply, request, number, [choice(at, piece, None)]))
        if reply.in_stream_error is None:
            yield sse(answer(reply, request, number, [choice(at, "", said.finish)]))
    if reply.in_stream_error is not None:
        yield sse({"error": dict(reply.in_stream_error)})
        return
    usage = usage_object(reply, request)
    if usage is not None and (request.get("stream_options") or {}).get("include_usage"):
        yield sse({**answer(reply, request, number, []), "usage": usage})
    yield sse("[DONE]")
