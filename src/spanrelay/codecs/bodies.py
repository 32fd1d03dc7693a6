"""What codecs do alike with a body: the fields that every request has, and a body that comes whole.

Each codec calls these from functions of its own; nothing here knows one API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from spanrelay.codecs.narrowing import as_list
from spanrelay.codecs.parameters import Table, Writer, write_parameters
from spanrelay.codecs.patching import patch_sequence, put, same_role, same_tool
from spanrelay.records import Message, ModelRequest, ModelResponse, ToolDefinition

# --- requests ----------------------------------------------------------------------------------------------


def patch_request(
    old: ModelRequest,
    new: ModelRequest,
    wire: Mapping[str, Any],
    parameters: Table,
    *,
    writers: Mapping[str, Writer] | None = None,
    inner_keys: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return `wire`, read as `old`, with model, stream flag and parameters of `new`; see `write_parameters`.

    Raises:
        CodecError: the API has no such parameter.
    """
    out = dict(wire)
    if new.model != old.model:
        put(out, "model", new.model)
    if new.stream != old.stream:
        out["stream"] = new.stream
    if new.parameters != old.parameters:
        write_parameters(
            out, old.parameters, new.parameters, parameters, writers=writers or {}, inner_keys=inner_keys or {}
        )
    return out


def patch_messages(
    out: dict[str, Any],
    old: ModelRequest,
    new: ModelRequest,
    *,
    patch: Callable[[Message, Message, Any], list[Any]],
    build: Callable[[Message], list[Any]],
) -> None:
    """Write the messages of `new` into `out` where they differ from those of `old`; `system` stands before them."""
    messages = [Message("system", new.system), *new.messages] if new.system else new.messages
    if messages != old.messages:
        known = as_list(out.get("messages"))
        out["messages"] = patch_sequence(old.messages, messages, known, patch=patch, build=build, alike=same_role)


def patch_tools(
    out: dict[str, Any],
    old: ModelRequest,
    new: ModelRequest,
    *,
    patch: Callable[[ToolDefinition, ToolDefinition, Any], list[Any]],
    build: Callable[[ToolDefinition], list[Any]],
) -> None:
    """Write the tools of `new` into `out` where they differ from those of `old`."""
    if new.tools != old.tools:
        known = as_list(out.get("tools"))
        tools = patch_sequence(old.tools, new.tools, known, patch=patch, build=build, alike=same_tool)
        put(out, "tools", tools or None)


# --- answers -----------------------------------------------------------------------------------------------


def patch_identity(wire: Mapping[str, Any], old: ModelResponse, new: ModelResponse) -> dict[str, Any]:
    """Return `wire`, read as `old`, with the id and the model of `new`, which an answer never loses."""
    out = dict(wire)
    for key in ("id", "model"):
        value = getattr(new, key)
        if value is not None and value != getattr(old, key):
            out[key] = value
    return out


class WholeBody:
    """The accumulator of an API that does not stream: the last event is the body."""

    __slots__ = ("_body",)

    def __init__(self) -> None:
        self._body: Mapping[str, Any] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in the body."""
        self._body = event

    def result(self) -> dict[str, Any]:
        """Return the body."""
        return dict(self._body)


def whole_body() -> WholeBody:
    """Return an accumulator for the one event of `one_event`."""
    return WholeBody()


def one_event(wire: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the body itself: the API does not stream."""
    yield dict(wire)
