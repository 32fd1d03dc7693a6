"""What a verdict may transform: the messages of a request, an answer, arguments and input, as JSON and back.

What a verdict leaves as it was stays the very object that it was made from, with all that its JSON does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast, get_args

from spanrelay.errors import MiddlewareError
from spanrelay.records import JSON, Message, ModelRequest, ModelResponse, Part, Role, SpanRecord, Text, ToolCall
from spanrelay.semconv.messages import read_parts, write_parts

Wire = dict[str, Any]

# --- requests of models ---


def messages_of(request: ModelRequest) -> list[Wire]:
    """Return the messages of a request, its instructions first where the API sends them apart."""
    told = [_written(message.role, message.parts) for message in request.messages]
    return [_written("system", request.system), *told] if request.system else told


def with_messages(request: ModelRequest, wanted: Any) -> ModelRequest:
    """Return the request with the messages that a verdict leaves.

    Raises:
        MiddlewareError: they are no messages.
    """
    if not isinstance(wanted, list):
        raise _misfit("messages", "a list")
    items = list(cast("list[Any]", wanted))
    system = request.system
    if system:  # its instructions stand apart, as the first message
        first = items[0] if items else None
        system = _parts_of(items.pop(0)) if isinstance(first, dict) and _role_of(first) == "system" else []
    before = [(_written(message.role, message.parts), message) for message in request.messages]
    return replace(request, system=system, messages=[_read(item, at, before) for at, item in enumerate(items)])


def tools_of(request: ModelRequest) -> list[Wire]:
    """Return the tools that a request offers."""
    return [
        {
            "name": tool.name,
            **({"description": tool.description} if tool.description is not None else {}),
            **({"schema": tool.parameters} if isinstance(tool.parameters, dict) else {}),
        }
        for tool in request.tools
    ]


def _written(role: str, parts: list[Part]) -> Wire:
    only = parts[0] if len(parts) == 1 else None
    return {"role": role, "content": only.text if isinstance(only, Text) else write_parts(parts)}


def _read(item: Any, at: int, before: list[tuple[Wire, Message]]) -> Message:
    here = before[at : at + 1]
    same = next((message for told, message in (*here, *before) if told == item), None)
    if same is not None:
        return same
    role, parts = _role_of(item), _parts_of(item)
    return replace(here[0][1], parts=parts) if here and here[0][1].role == role else Message(role, parts)


def _role_of(item: Any) -> Role:
    role = cast("Wire", item).get("role") if isinstance(item, dict) else None
    if role not in get_args(Role):
        raise _misfit("a message's role", f"one of {', '.join(get_args(Role))}")
    return cast("Role", role)


def _parts_of(item: Wire) -> list[Part]:
    content: Any = item.get("content")
    if isinstance(content, str):
        return [Text(content)]
    record = SpanRecord(0, 0)
    parts = read_parts(cast("list[JSON]", content), record) if isinstance(content, list) else []
    if not isinstance(content, list) or not record.content:
        raise _misfit("a message's content", "text, or a list of parts")
    return parts


# --- answers of models ---


def answer_of(response: ModelResponse, message: Message, at: int) -> Wire:
    """Return one choice of an answer."""
    reasons = response.finish_reasons
    return {
        "content": message.text if any(isinstance(part, Text) for part in message.parts) else None,
        "tool_calls": [_call_of(call) for call in message.tool_calls],
        "finish_reason": (reasons[at] if at < len(reasons) else message.finish_reason) or "unknown",
    }


def with_answer(message: Message, told: Wire, wanted: Any) -> Message:
    """Return the choice that a verdict leaves of `message`, which was told as `told`.

    Raises:
        MiddlewareError: it is none.
    """
    if not isinstance(wanted, dict):
        raise _misfit("the answer", "an object")
    answer = cast("Wire", wanted)
    if answer.get("content") != told["content"]:
        message = message.saying(_text_of(answer.get("content")))
    if answer.get("tool_calls") != told["tool_calls"]:
        known = {call.id: call for call in message.tool_calls}
        calls = [_read_call(call, known) for call in _list_of(answer.get("tool_calls"))]
        message = replace(message, parts=[*(p for p in message.parts if not isinstance(p, ToolCall)), *calls])
    return message


def usage_of(response: ModelResponse) -> dict[str, int] | None:
    """Return the tokens of an answer, where the provider told them."""
    usage = response.usage
    if usage is None:
        return None
    counted = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
    return {name: tokens for name, tokens in counted.items() if tokens is not None}


def _call_of(call: ToolCall) -> Wire:
    named: Wire = {"name": call.name, "args": arguments_of(call.arguments)}
    return named if call.id is None else {"id": call.id, **named}


def _read_call(item: Any, known: Mapping[str | None, ToolCall]) -> ToolCall:
    call = cast("Wire", item) if isinstance(item, dict) else {}
    if not isinstance(call.get("name"), str):
        raise _misfit("a tool call", "an object with a name and args")
    before = known.get(call.get("id")) or ToolCall(call.get("id"), call["name"])
    return replace(before, name=call["name"], arguments=with_arguments(before.arguments, call.get("args")))


def _text_of(value: Any) -> str:
    if not isinstance(value, str):
        raise _misfit("the content of an answer", "text")
    return value


def _list_of(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _misfit("tool_calls", "a list")
    return cast("list[Any]", value)


# --- tools and agents ---


def arguments_of(arguments: JSON) -> Wire:
    """Return a tool's arguments as the object that the contract wants; other JSON is its `value`."""
    if arguments is None:
        return {}
    return cast("Wire", arguments) if isinstance(arguments, dict) else {"value": arguments}


def with_arguments(arguments: JSON, wanted: Any) -> JSON:
    """Return the arguments that a verdict leaves, in the form that they had."""
    if arguments is None or isinstance(arguments, dict) or not isinstance(wanted, dict):
        return wanted
    return cast("Wire", wanted).get("value")


def content_of(given: JSON) -> JSON:
    """Return what an agent is given: the value of its only argument, or all by name."""
    if isinstance(given, dict) and len(given) == 1:
        return next(iter(cast("Wire", given).values()))
    return given


def with_content(given: JSON, wanted: JSON) -> JSON:
    """Return the input that a verdict leaves, by the names that it had."""
    if isinstance(given, dict) and len(given) == 1:
        return {next(iter(cast("Wire", given))): wanted}
    return wanted


def _misfit(what: str, expected: str) -> MiddlewareError:
    return MiddlewareError(f"a verdict transforms {what} into something else; it must stay {expected}")
