"""What a model of the SDK is asked and says, as the JSON of OpenAI's Responses API, and back.

Only what policy changed goes back: everything else stays the very object that the SDK handed over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from spanrelay.errors import MiddlewareError

_SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_output_tokens": "max_tokens",
    "tool_choice": "tool_choice",
    "parallel_tool_calls": "parallel_tool_calls",
    "truncation": "truncation",
    "metadata": "metadata",
    "store": "store",
    "reasoning": "reasoning",
}
"""Parameters of the API, and what `ModelSettings` calls them."""

ARGUMENTS = ("system_instructions", "input", "model_settings", "tools", "output_schema", "handoffs", "tracing")
"""What a model is called with, in this order where it is not by name."""


def request_of(model: Any, asked: Mapping[str, Any], *, stream: bool) -> dict[str, Any]:
    """Return the request that `asked`, a model's arguments by name, stands for."""
    name = getattr(model, "model", None)
    wire: dict[str, Any] = {"model": str(name) if name else type(model).__name__, "input": asked["input"]}
    if asked["system_instructions"]:
        wire["instructions"] = asked["system_instructions"]
    tools = [*map(_tool, asked["tools"]), *map(_handoff, asked["handoffs"])]
    if tools:
        wire["tools"] = tools
    for parameter, setting in _SETTINGS.items():
        value = getattr(asked["model_settings"], setting, None)
        if value is not None:
            wire[parameter] = value
    if asked.get("previous_response_id"):
        wire["previous_response_id"] = asked["previous_response_id"]
    if stream:
        wire["stream"] = True
    return wire


def _tool(tool: Any) -> dict[str, Any]:
    schema = getattr(tool, "params_json_schema", None)
    if schema is None:
        return {"type": tool.name}
    return {"type": "function", "name": tool.name, "description": tool.description, "parameters": schema}


def _handoff(handoff: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "name": handoff.tool_name,
        "description": handoff.tool_description,
        "parameters": handoff.input_json_schema,
    }


def changed(asked: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return `asked` with what differs between two requests.

    Raises:
        MiddlewareError: something differs that the SDK has no argument for.
    """
    made, settings = dict(asked), dict[str, Any]()
    for key in {**before, **after}:
        if before.get(key) == after.get(key):
            continue
        if key == "instructions":
            made["system_instructions"] = after.get(key)
        elif key == "input":
            made["input"] = after[key]
        elif key == "tools":
            made["tools"], made["handoffs"] = _left(asked, before.get(key) or [], after.get(key) or [])
        elif key in _SETTINGS:
            settings[_SETTINGS[key]] = after.get(key)
        else:
            raise MiddlewareError(
                f"policy cannot change {key!r} of a call of {before['model']!r}: the model is an object of the "
                "application's; change instructions, input, tools or settings, or refuse the call"
            )
    if settings:
        made["model_settings"] = dataclasses.replace(asked["model_settings"], **settings)
    return made


def _left(asked: Mapping[str, Any], before: list[Any], after: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return the tools and handoffs that are left of those offered."""
    if any(tool not in before for tool in after):
        raise MiddlewareError("policy may remove tools from a request but not add any: nothing could run them")
    offered = [*asked["tools"], *asked["handoffs"]]
    kept = [tool for tool, told in zip(offered, before, strict=True) if told in after]
    count = len(asked["tools"])
    return [tool for tool in offered[:count] if tool in kept], [each for each in offered[count:] if each in kept]


def response_of(response: Any, model: str) -> dict[str, Any]:
    """Return the body that an SDK's `ModelResponse` stands for."""
    usage = response.usage
    body: dict[str, Any] = {"object": "response", "model": model, "status": "completed", "output": response.output}
    if response.response_id is not None:
        body["id"] = response.response_id
    if usage.requests or usage.total_tokens:
        body["usage"] = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "input_tokens_details": usage.input_tokens_details,
            "output_tokens_details": usage.output_tokens_details,
        }
    return body


def model_response(body: Mapping[str, Any]) -> Any:
    """Return the SDK's `ModelResponse` for a body."""
    from agents.items import ModelResponse
    from agents.usage import Usage
    from openai.types.responses import Response

    read = Response.construct(**cast("dict[str, Any]", body))
    usage = Usage()
    if read.usage is not None:
        used = read.usage
        usage = Usage(1, used.input_tokens, output_tokens=used.output_tokens, total_tokens=used.total_tokens)
    return ModelResponse(output=read.output, usage=usage, response_id=body.get("id"))


def event(told: Mapping[str, Any]) -> Any:
    """Return the SDK's object for an event of a stream."""
    from openai._models import construct_type
    from openai.types.responses import ResponseStreamEvent

    return construct_type(type_=ResponseStreamEvent, value=told)
