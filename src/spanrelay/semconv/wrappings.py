"""What frameworks record of a model call as they have it at hand: requests and answers of APIs, LangChain's objects.

Each becomes messages by the names of the chat APIs, as JSON, which `messages` reads. Nothing here raises.
"""

from __future__ import annotations

from spanrelay._json import dumps_text
from spanrelay.records import JSON
from spanrelay.semconv.values import as_list, as_object, decode


def request_in(value: object) -> str:
    """Return the messages of a request, in whatever they were wrapped; a bare text is a user's."""
    given = _inner(decode(value), ("messages", "input", "contents"))
    items = as_list(given) if isinstance(given, list) else [given]
    return dumps_text(_messages([item for item in items if not _tool_in(item)], "user"))


def tools_in(value: object) -> list[JSON]:
    """Return the tools that stand among the messages of a request, as Langfuse writes those of LangChain."""
    given = decode(value)
    return [tool for item in as_list(given) if (tool := _tool_in(item))]


def _tool_in(item: JSON) -> dict[str, JSON]:
    """Return the definition of a tool that is written as a message of one, if `item` is such; else nothing."""
    fields = as_object(item)
    defined = as_object(fields.get("content")) if fields.get("role") == "tool" and "tool_call_id" not in fields else {}
    return defined if "name" in defined or "function" in defined else {}


def answer_in(value: object) -> str:
    """Return the messages of an answer, one a choice, in whatever they were wrapped; a bare text is the model's."""
    told = decode(value)
    given = _inner(told, ("choices", "generations", "output", "messages", "message"))
    items = _messages(given if isinstance(given, list) else [given], "assistant")
    return dumps_text([_folded(items)] if given is as_object(told).get("output") else items)


def _inner(value: JSON, keys: tuple[str, ...]) -> JSON:
    """Return what is under the first of `keys` that an object has."""
    fields = as_object(value)
    return next((fields[key] for key in keys if fields.get(key)), value)


def _messages(items: list[JSON], speaker: str) -> list[JSON]:
    """Return messages, also out of a batch of lists as LangChain has them, of which the first is meant."""
    first = items[0] if items else None
    return [_message(item, speaker) for item in (as_list(first) if isinstance(first, list) else items)]


def _message(item: JSON, speaker: str) -> JSON:
    """Return one message, a choice or a generation around it taken off."""
    around = as_object(item)
    if not around:
        return {"role": speaker, "content": item}
    content = as_object(around.get("content"))
    fields = _unwrapped(as_object(around.get("message")) or (content if "parts" in content else around))
    reason = around.get("finish_reason") or as_object(around.get("generation_info")).get("finish_reason")
    found = {"role": speaker, **_ITEMS.get(str(fields.get("type")), _as_it_is)(fields)}
    return {**found, "finish_reason": reason} if reason else found


def _unwrapped(fields: dict[str, JSON]) -> dict[str, JSON]:
    """Return the fields of a message, out of the constructor or the type and data in which LangChain keeps one."""
    kind = str(fields.get("type"))
    if "lc" in fields:
        kind = str((as_list(fields.get("id")) or [""])[-1]).removesuffix("Chunk").removesuffix("Message").lower()
        fields = as_object(fields.get("kwargs"))
    elif isinstance(fields.get("data"), dict):
        fields = as_object(fields["data"])
    content = fields.get("content")
    if fields.get("tool_calls") and isinstance(content, list):  # some providers' content repeats the calls as blocks
        fields = {**fields, "content": [each for each in content if as_object(each).get("type") not in _CALLS]}
    return fields if "role" in fields or kind not in _CLASSES else {**fields, "role": kind}


_CALLS = ("tool_use", "function_call")
_CLASSES = frozenset(("system", "human", "ai", "tool", "function", "developer"))


def _as_it_is(fields: dict[str, JSON]) -> dict[str, JSON]:
    return fields


def _asked_for(item: dict[str, JSON]) -> dict[str, JSON]:
    call = {"id": _call_of(item), "name": item.get("name"), "arguments": item.get("arguments")}
    return {"role": "assistant", "tool_calls": [call]}


def _answered(item: dict[str, JSON]) -> dict[str, JSON]:
    output = item.get("output")
    content = [output] if isinstance(output, dict) and "type" in output else output
    return {"role": "tool", "tool_call_id": _call_of(item), "content": content}


def _call_of(item: dict[str, JSON]) -> JSON:
    return item.get("call_id") or item.get("callId")


def _thought(item: dict[str, JSON]) -> dict[str, JSON]:
    return {"role": "assistant", "content": [{**item, "type": "reasoning"}]}


_ITEMS = {
    "function_call": _asked_for,
    "function_call_output": _answered,
    "function_call_result": _answered,
    "reasoning": _thought,
}
"""What stands between messages in OpenAI's Responses API, and among the items of its Agents SDK for JavaScript."""


def _folded(items: list[JSON]) -> JSON:
    """Return one answer for the items that one is in OpenAI's Responses API."""
    content: list[JSON] = []
    calls: list[JSON] = []
    for item in map(as_object, items):
        said = item.get("content")
        content += as_list(said) or ([{"type": "text", "content": said}] if said else [])
        calls += as_list(item.get("tool_calls"))
    return {"role": "assistant", "content": content, "tool_calls": calls}
