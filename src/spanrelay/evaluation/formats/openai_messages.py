"""Rows as OpenAI's supervised fine-tuning reads them: `messages` and `tools`, and no other member.

As of the type `FineTuneChatRequestInput` of its API; a key that it does not know fails the whole file.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spanrelay import _json
from spanrelay.assembly.atif import ContentPart, ToolCall
from spanrelay.evaluation.conversations import Conversation, Turn
from spanrelay.evaluation.formats.row import Origin, Row, has_media, text_of
from spanrelay.records import JSON

_MOST_BYTES = 20 * 1024 * 1024
"""Of a picture, as far as the API takes them."""


def refusal(conversation: Conversation) -> str | None:
    """Return why the format has no form for a conversation; None where it has one."""
    if conversation.unanswered:
        return "a call has no result"
    if has_media(turn for turn in conversation.turns if turn.role != "user"):
        return "pictures or sounds stand elsewhere than in what a user says"
    parts = [part for turn in conversation.turns if not isinstance(turn.content, str) for part in turn.content]
    return "it has sounds, for which the format has no place" if any(part.type == "audio" for part in parts) else None


def rows(conversation: Conversation, origin: Origin, *, reasoning: bool) -> Iterator[Row]:
    """Yield the one row of a conversation; reasoning has no place in it."""
    row: dict[str, Any] = {"messages": [_message(turn, origin.path.parent) for turn in conversation.turns]}
    if conversation.tools:
        row["tools"] = conversation.tools
    yield Row(row, conversation.tokens)


def _message(turn: Turn, folder: Path) -> dict[str, JSON]:
    if turn.role == "tool" and turn.answers is not None:
        return {"role": "tool", "tool_call_id": turn.answers.tool_call_id, "content": text_of(turn.content)}
    if turn.role == "user" and has_media([turn]) and not isinstance(turn.content, str):
        return {"role": "user", "content": [_part(part, folder) for part in turn.content]}
    message: dict[str, JSON] = {"role": turn.role, "content": text_of(turn.content)}
    if turn.calls:
        message["tool_calls"] = [_call(call) for call in turn.calls]
    return message


def _call(call: ToolCall) -> dict[str, JSON]:
    arguments: JSON = call.arguments
    if (call.extra or {}).get("arguments_wrapped"):  # as our documents have what was no object
        arguments = call.arguments.get("raw", call.arguments.get("value"))
    text = arguments if "raw" in call.arguments and isinstance(arguments, str) else _json.dumps_text(arguments)
    return {"id": call.tool_call_id, "type": "function", "function": {"name": call.function_name, "arguments": text}}


def _part(part: ContentPart, folder: Path) -> dict[str, JSON]:
    if part.source is None:
        return {"type": "text", "text": part.text or ""}
    path = part.source.path
    if "://" not in path:
        path = f"data:{part.source.media_type};base64,{base64.b64encode(_bytes(folder / path)).decode()}"
    return {"type": "image_url", "image_url": {"url": path}}


def _bytes(path: Path) -> bytes:
    """The picture beside a document. Raises `OSError` where it is not there, or is too large."""
    if path.stat().st_size > _MOST_BYTES:
        raise OSError(0, "a picture is larger than 20 MiB", str(path))
    return path.read_bytes()
