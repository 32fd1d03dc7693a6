"""What a model is asked and says, as the JSON of the Chat Completions API, and back.

Only what policy changed goes back: everything else stays the very object that the framework handed over. Nothing is
read before somebody looks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, cast

from spanrelay import _json
from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.errors import MiddlewareError

_SETTINGS = {
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "logit_bias",
    "stop": "stop_sequences",
    "tool_choice": "tool_choice",
    "parallel_tool_calls": "parallel_tool_calls",
    "service_tier": "service_tier",
    "reasoning_effort": "thinking",
}
"""Parameters of the API, and what `ModelSettings` calls them."""

_REASONS = {"tool_call": "tool_calls"}
"""Finish reasons of the API by those of the framework, where they differ."""


class Asked(Mapping[str, Any]):
    """What a model is asked, as JSON.

    Args:
        model: The model.
        messages: The conversation.
        settings: `ModelSettings`, or None.
        parameters: `ModelRequestParameters`.
        stream: Whether a stream is asked for.
    """

    __slots__ = ("_model", "_parameters", "_read", "messages", "settings", "sources", "stream")

    def __init__(self, model: Any, messages: Any, settings: Any, parameters: Any, *, stream: bool) -> None:
        self._model = model
        self.messages = messages
        self.settings = settings
        self._parameters = parameters
        self.stream = stream
        self._read: dict[str, Any] | None = None
        self.sources: list[tuple[Any, Any]] = []
        """Of each message of the JSON: the framework's message and the part of it that it came of."""

    def __getitem__(self, key: str) -> Any:
        if key == "model":
            return self._model.model_name
        if key == "stream" and self._read is None and self.stream:
            return True
        return self._json()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._json())

    def __len__(self) -> int:
        return len(self._json())

    def _json(self) -> dict[str, Any]:
        if self._read is None:
            self._read = self._made()
        return self._read

    def _made(self) -> dict[str, Any]:
        wire: dict[str, Any] = {"model": self._model.model_name, "messages": self._messages()}
        tools = [*self._parameters.function_tools, *self._parameters.output_tools]
        if tools:
            wire["tools"] = [_tool(tool) for tool in tools]
        settings = {**(self._model.settings or {}), **(self.settings or {})}
        for parameter, setting in _SETTINGS.items():
            if settings.get(setting) is not None:
                wire[parameter] = _json.loads(_json.dumps(settings[setting]))
        if self.stream:
            wire["stream"] = True
        return wire

    def _messages(self) -> list[dict[str, Any]]:
        wire: list[dict[str, Any]] = []
        self.sources = []
        instructions = self._instructions()
        if instructions:
            wire.append({"role": "system", "content": instructions})
            self.sources.append((None, None))
        for message in self.messages:
            if message.kind == "response":
                wire.append(_said(message.parts))
                self.sources.append((message, None))
                continue
            for part in message.parts:
                told = _told(part)
                if told is not None:
                    wire.append(told)
                    self.sources.append((message, part))
        return wire

    def _instructions(self) -> str | None:
        parts = self._parameters.instruction_parts
        if parts is None:
            return next((m.instructions for m in reversed(self.messages) if m.kind == "request"), None)
        return "\n\n".join(part.content for part in parts)

    def edited(self, wire: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return messages, settings and parameters with what differs in `wire`.

        Raises:
            MiddlewareError: something differs that the framework has no place for.
        """
        messages, settings, parameters = self.messages, self.settings, self._parameters
        before = self._json()
        for key in {**before, **wire}:
            was, now = before.get(key), wire.get(key)
            if was == now:
                continue
            if key == "messages":
                messages, parameters = self._told_otherwise(as_list(was), as_list(now), parameters)
            elif key == "tools":
                parameters = _with_tools(parameters, as_list(was), as_list(now))
            elif key in _SETTINGS or key == "max_tokens":
                settings = self._set(settings, _SETTINGS.get(key, key), now)
            else:
                raise MiddlewareError(
                    f"policy cannot change {key!r} of a call of {self['model']!r}: the model is an object of the "
                    "application's; change messages, tools or settings, or refuse the call"
                )
        return messages, settings, parameters

    def _set(self, settings: Any, name: str, value: Any) -> dict[str, Any]:
        """Return the settings with another value of one, or without it."""
        if value is not None:
            return {**(settings or {}), name: value}
        if (self._model.settings or {}).get(name) is not None:
            raise MiddlewareError(
                f"policy cannot take {name!r} from a call of {self['model']!r}, which the model itself has in its "
                "settings; give it another value, or refuse the call"
            )
        return {key: known for key, known in (settings or {}).items() if key != name}

    def _told_otherwise(self, before: list[Any], after: list[Any], parameters: Any) -> tuple[list[Any], Any]:
        """Return the messages for `after`, and the parameters with their instructions: what is equal is the object."""
        from pydantic_ai.messages import InstructionPart

        sources = list(zip(before, self.sources, strict=True))
        if before and self.sources[0][0] is None:
            sources.pop(0)
            first = as_mapping(after[0]) if after else {}
            told = first.get("role") == "system"
            if first != before[0]:
                said = [InstructionPart(_text(first.get("content")))] if told else []
                parameters = dataclasses.replace(parameters, instruction_parts=said)
            # Another list: this one is recorded, and may be sent again.
            after = after[1:] if told else after
        return _rebuilt(sources, after), parameters


def _rebuilt(sources: list[tuple[Any, tuple[Any, Any]]], after: list[Any]) -> list[Any]:
    """Return messages for the JSON `after`, of `sources` where it is equal; parts of one request stay together."""
    from pydantic_ai.messages import ModelRequest

    names = {call["id"]: call["function"]["name"] for item in after for call in as_list(item.get("tool_calls"))}
    messages: list[Any] = []
    owner: Any = None
    unused = list(sources)
    for item in after:
        found = next((source for source in unused if source[0] == item), None)
        if found is not None:
            unused.remove(found)
        message, part = found[1] if found is not None else (None, None)
        if as_mapping(item).get("role") == "assistant":
            messages.append(message or _response(item))
            owner = None
            continue
        part = part or _part(item, names)
        if owner is None or (message is not None and message is not owner):
            owner = message or owner
            messages.append(dataclasses.replace(message, parts=[part]) if message is not None else ModelRequest([part]))
            owner = message or messages[-1]
        else:
            messages[-1].parts = [*messages[-1].parts, part]
    return messages


def _with_tools(parameters: Any, before: list[Any], after: list[Any]) -> Any:
    """Return the parameters with the tools that are left of those offered."""
    if any(tool not in before for tool in after):
        raise MiddlewareError("policy may remove tools from a request but not add any: nothing could run them")

    def left(tools: list[Any]) -> list[Any]:
        return [tool for tool in tools if _tool(tool) in after]

    return dataclasses.replace(
        parameters, function_tools=left(parameters.function_tools), output_tools=left(parameters.output_tools)
    )


def _tool(tool: Any) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters_json_schema}
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


# --- messages as JSON ----------------------------------------------------------------------------------------


def _told(part: Any) -> dict[str, Any] | None:
    """Return the message that a part of a request is; None where it tells a model nothing."""
    kind = part.part_kind
    if kind == "system-prompt":
        return {"role": "system", "content": part.content}
    if kind == "user-prompt":
        content = part.content if isinstance(part.content, str) else [_content(item) for item in part.content]
        return {"role": "user", "content": content}
    if kind == "tool-return":
        return {"role": "tool", "tool_call_id": part.tool_call_id, "content": part.model_response_str()}
    if hasattr(part, "model_response"):
        called = getattr(part, "tool_name", None)
        where = {"role": "tool", "tool_call_id": part.tool_call_id} if called else {"role": "user"}
        return {**where, "content": part.model_response()}
    content = getattr(part, "content", None)
    return {"role": "system", "content": content} if isinstance(content, str) else None


def _content(item: Any) -> dict[str, Any]:
    """Return a part of what a user says."""
    if isinstance(item, str):
        return {"type": "text", "text": item}
    text = getattr(item, "content", None)
    if isinstance(text, str):
        return {"type": "text", "text": text}
    url = getattr(item, "url", None) or getattr(item, "data_uri", None)
    kind = str(getattr(item, "kind", "unknown"))
    media = str(getattr(item, "media_type", ""))
    if kind == "image-url" or media.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    if kind == "video-url" or media.startswith("video/"):
        return {"type": "video_url", "video_url": {"url": url}}
    if kind == "binary" and media.startswith("audio/"):
        return {"type": "input_audio", "input_audio": {"data": item.base64, "format": media.partition("/")[2]}}
    return {"type": "file", "file": {"file_data": url}} if url else {"type": kind}


def _said(parts: Any) -> dict[str, Any]:
    """Return the message that a model's answer is."""
    texts = [part.content for part in parts if part.part_kind == "text"]
    thoughts = [part.content for part in parts if part.part_kind == "thinking"]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    calls = [_call(part) for part in parts if part.part_kind == "tool-call"]
    if calls:
        message["tool_calls"] = calls
    return message


def _call(part: Any) -> dict[str, Any]:
    function = {"name": part.tool_name, "arguments": part.args_as_json_str()}
    return {"id": part.tool_call_id, "type": "function", "function": function}


def body_of(response: Any) -> dict[str, Any]:
    """Return the body that a `ModelResponse` stands for."""
    reason = response.finish_reason
    message = _said(response.parts)
    choice = {"index": 0, "message": message, "finish_reason": _REASONS.get(reason, reason)}
    body: dict[str, Any] = {"object": "chat.completion", "model": response.model_name, "choices": [choice]}
    if response.provider_response_id is not None:
        body["id"] = response.provider_response_id
    usage = usage_of(response.usage)
    if usage is not None:
        body["usage"] = usage
    return body


def usage_of(usage: Any) -> dict[str, Any] | None:
    """Return the API's form of a `RequestUsage`; None where it says nothing."""
    if not (usage.input_tokens or usage.output_tokens):
        return None
    told: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cache_read_tokens or usage.cache_write_tokens:
        cached = {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens}
        told["prompt_tokens_details"] = {key: count for key, count in cached.items() if count}
    return told


# --- JSON as messages ----------------------------------------------------------------------------------------


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(as_mapping(item).get("text") or "") for item in as_list(content))


def _part(item: Any, names: Mapping[str, str]) -> Any:
    """Return the part of a request that a message which policy wrote is."""
    from pydantic_ai.messages import SystemPromptPart, ToolReturnPart, UserPromptPart

    wire = as_mapping(item)
    role, content = wire.get("role"), wire.get("content")
    if role == "system":
        return SystemPromptPart(_text(content))
    if role == "tool":
        call_id = str(wire.get("tool_call_id"))
        return ToolReturnPart(names.get(call_id, ""), _text(content), call_id)
    if role != "user":
        raise MiddlewareError(f"policy made {item!r} of a message; expected role system, user, assistant or tool")
    return UserPromptPart(content if isinstance(content, str) else [_item(each) for each in as_list(content)])


def _item(told: Any) -> Any:
    """Return a part of what a user says, of JSON that policy wrote or left."""
    from pydantic_ai.messages import BinaryContent, ImageUrl

    part = as_mapping(told)
    if part.get("type") == "text":
        return str(part.get("text") or "")
    url = as_mapping(part.get("image_url")).get("url") or as_mapping(part.get("file")).get("file_data")
    if isinstance(url, str):
        return BinaryContent.from_data_uri(url) if url.startswith("data:") else ImageUrl(url)
    raise MiddlewareError(
        f"policy changed a message with a part of type {part.get('type')!r}, which it can only leave as it is; "
        "change another message, or refuse the call"
    )


def _parts(message: Mapping[str, Any]) -> list[Any]:
    from pydantic_ai.messages import TextPart, ThinkingPart, ToolCallPart

    parts: list[Any] = []
    if message.get("reasoning_content"):
        parts.append(ThinkingPart(str(message["reasoning_content"])))
    if message.get("content"):
        parts.append(TextPart(_text(message["content"])))
    for call in as_list(message.get("tool_calls")):
        function = as_mapping(as_mapping(call).get("function"))
        identity = {"tool_call_id": call["id"]} if call.get("id") else {}
        parts.append(ToolCallPart(str(function.get("name")), cast("Any", function.get("arguments")), **identity))
    return parts


def _response(message: Mapping[str, Any]) -> Any:
    from pydantic_ai.messages import ModelResponse

    return ModelResponse(_parts(message))


def response_of(body: Mapping[str, Any]) -> Any:
    """Return the `ModelResponse` that a body stands for."""
    from pydantic_ai.messages import ModelResponse

    choice = as_mapping(next(iter(as_list(body.get("choices"))), None))
    told = {"provider_response_id": body.get("id"), "model_name": body.get("model") or None}
    return ModelResponse(
        _parts(as_mapping(choice.get("message"))),
        usage=read_usage(as_mapping(body.get("usage"))),
        finish_reason=read_reason(choice.get("finish_reason")),
        **cast("Any", told),
    )


def read_reason(reason: Any) -> Any:
    """Return the framework's name of a finish reason."""
    names = {theirs: ours for ours, theirs in _REASONS.items()}
    known = names.get(reason, reason)
    return known if known in ("stop", "length", "content_filter", "tool_call", "error") else None


def read_usage(usage: Mapping[str, Any]) -> Any:
    """Return the framework's form of a usage."""
    from pydantic_ai.usage import RequestUsage

    cached = as_mapping(usage.get("prompt_tokens_details")).get("cached_tokens")
    return RequestUsage(
        input_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        cache_read_tokens=cached or 0,
    )
