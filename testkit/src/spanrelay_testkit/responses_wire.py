"""The Responses wire shape: a reply as one body or as the events of a stream.

Written from the wire alone: no SDK is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from spanrelay_testkit.exchange import CREATED, Reply, Request, Usage, pieces, sse

ECHOED: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Settings that a response repeats from its request, with the server's defaults."""

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons in chat's words that make a response incomplete, in the words of this API."""


def usage_object(reply: Reply, request: Request) -> dict[str, Any] | None:
    """Usage under this API's names; None when the reply has none."""
    usage = reply.counted(request) if reply.usage == "counted" else reply.usage
    if not isinstance(usage, Usage):
        return None if usage is None else dict(usage)
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def content_part(kind: str, text: str) -> dict[str, Any]:
    """One part of a message: `output_text` or `refusal`."""
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def message_item(reply: Reply, number: int) -> dict[str, Any]:
    """The message that the model writes."""
    content = [content_part("output_text", reply.text)] if reply.text is not None else []
    content += [content_part("refusal", reply.refusal)] if reply.refusal is not None else []
    return {
        "id": f"msg_{number}",
        "type": "message",
        "status": "completed",
        "content": content,
        "role": "assistant",
    }


def output(reply: Reply, number: int) -> list[dict[str, Any]]:
    """The finished items, in the order in which the model makes them."""
    items: list[dict[str, Any]] = []
    if reply.reasoning is not None:
        summary = [{"type": "summary_text", "text": reply.reasoning}]
        items.append({"id": f"rs_{number}", "type": "reasoning", "summary": summary})
    if reply.text is not None or reply.refusal is not None:
        items.append(message_item(reply, number))
    items.extend(
        {
            "id": f"fc_{number}_{at}",
            "type": "function_call",
            "status": "completed",
            "arguments": call.arguments_text,
            "call_id": call.id or f"call_{number}_{at}",
            "name": call.name,
            **({"namespace": call.namespace} if call.namespace is not None else {}),
        }
        for at, call in enumerate(reply.tool_calls, 1)
    )
    return items


def response(request: Request, reply: Reply, number: int, status: str) -> dict[str, Any]:
    """The response object before anything has been said."""
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": reply.model or request.model,
        "output": [],
        **{name: request.get(name, default) for name, default in ECHOED.items()},
        "usage": None,
    }


def body(reply: Reply, request: Request, number: int) -> dict[str, Any]:
    """The finished response."""
    reason = INCOMPLETE.get(reply.finish)
    made = response(request, reply, number, "incomplete" if reason else "completed")
    made["output"] = output(reply, number)
    made["incomplete_details"] = {"reason": reason} if reason else None
    made["usage"] = usage_object(reply, request)
    return made


def events(reply: Reply, request: Request, number: int) -> Iterator[bytes]:
    """The events of the stream; the last one carries the finished response."""
    numbers = count()

    def event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, "sequence_number": next(numbers), **fields}, event=kind)

    opened = response(request, reply, number, "in_progress")
    yield event("response.created", response=opened)
    yield event("response.in_progress", response=opened)
    for index, item in enumerate(output(reply, number)):
        yield event("response.output_item.added", output_index=index, item=unfinished(item))
        for kind, fields in steps(item, reply.chunk_words):
            yield event(kind, item_id=item["id"], output_index=index, **fields)
        yield event("response.output_item.done", output_index=index, item=item)
    if reply.in_stream_error is not None:
        # The event's own type is `error`; the API has no field for the error's.
        said = {name: value for name, value in reply.in_stream_error.items() if name != "type"}
        yield event("error", **{"code": None, "message": "", "param": None, **said})
        return
    finished = body(reply, request, number)
    yield event(f"response.{finished['status']}", response=finished)


def unfinished(item: dict[str, Any]) -> dict[str, Any]:
    """The item as it is announced, with nothing in it yet."""
    empty: dict[str, Any] = {"message": {"content": []}, "reasoning": {"summary": []}}.get(
        item["type"], {"arguments": ""}
    )
    status = {"status": "in_progress"} if "status" in item else {}
    return {**item, **empty, **status}


def steps(item: dict[str, Any], words: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """How one item grows: type of the event and its fields."""
    if item["type"] == "message":
        yield from message_steps(item, words)
    elif item["type"] == "reasoning":
        yield from reasoning_steps(item, words)
    else:
        for piece in pieces(item["arguments"], words):
            yield "response.function_call_arguments.delta", {"delta": piece}
        yield "response.function_call_arguments.done", {"arguments": item["arguments"], "name": item["name"]}


def message_steps(item: dict[str, Any], words: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Parts of a message, text or refusal, piece by piece."""
    for at, part in enumerate(item["content"]):
        kind, name = part["type"], "refusal" if part["type"] == "refusal" else "text"
        where: dict[str, Any] = {"content_index": at}
        extra: dict[str, Any] = {} if name == "refusal" else {"logprobs": []}
        yield "response.content_part.added", {**where, "part": content_part(kind, "")}
        for piece in pieces(part[name], words):
            yield f"response.{kind}.delta", {**where, "delta": piece, **extra}
        yield f"response.{kind}.done", {**where, name: part[name], **extra}
        yield "response.content_part.done", {**where, "part": part}


def reasoning_steps(item: dict[str, Any], words: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The summaries of the model's reasoning, piece by piece."""
    for at, part in enumerate(item["summary"]):
        where: dict[str, Any] = {"summary_index": at}
        yield "response.reasoning_summary_part.added", {**where, "part": {**part, "text": ""}}
        for piece in pieces(part["text"], words):
            yield "response.reasoning_summary_text.delta", {**where, "delta": piece}
        yield "response.reasoning_summary_text.done", {**where, "text": part["text"]}
        yield "response.reasoning_summary_part.done", {**where, "part": part}
