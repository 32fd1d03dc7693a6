"""What of a graph's input and output is recorded: the last message where there are messages, else the value.

Read once when a run begins and once when it ends, never for the chunks of its stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langgraph.types import Command

_USER = frozenset({"user", "human"})


def given(value: Any) -> Any:
    """Return what a run was given: the answer that resumes it, the user's last message, or the input itself."""
    if isinstance(value, Command):
        command = cast("Command[Any]", value)
        return command.resume if command.resume is not None else given(command.update)
    messages = _messages(value)
    if not messages:
        return value
    asked = next((message for message in reversed(messages) if _role(message) in _USER), messages[-1])
    return _said(asked)


def gave(value: Any) -> Any:
    """Return what a run gave: its last message, or the output itself."""
    messages = _messages(value)
    return _said(messages[-1]) if messages else value


def _messages(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        found = cast("Mapping[str, Any]", value).get("messages")
    else:
        # Graphs over a pydantic model or a dataclass, and graphs that are nothing but messages.
        found = value if _is_messages(value) else getattr(value, "messages", None)
    return list(found) if isinstance(found, (list, tuple)) else [] if found is None else [found]


def _is_messages(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(hasattr(item, "content") for item in cast("list[Any]", value))
    )


def _role(message: Any) -> Any:
    if isinstance(message, str):
        return "user"
    if isinstance(message, tuple):
        return cast("tuple[Any, ...]", message)[0]
    if isinstance(message, Mapping):
        known = cast("Mapping[str, Any]", message)
        return known.get("role", known.get("type"))
    return getattr(message, "type", None)


def _said(message: Any) -> Any:
    """Return the text of a message, its parts where it has others, or all of it where it has none."""
    if isinstance(message, tuple):
        content: Any = cast("tuple[Any, ...]", message)[-1]
    elif isinstance(message, Mapping):
        content = cast("Mapping[str, Any]", message).get("content")
    else:
        content = getattr(message, "content", message)
    return content or message
