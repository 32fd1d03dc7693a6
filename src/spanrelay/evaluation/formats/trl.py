"""Rows as TRL's SFT trainer reads them: `messages` that a chat template takes, and the tools as JSON in `tools`.

As of TRL 1.16: it reads `tools` also as text, which keeps rows with other tools in one column. Newer chat templates
refuse a system prompt anywhere but at the beginning: a later one is what a user says, as in Harbor's rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spanrelay import _json
from spanrelay.assembly.atif import ToolCall
from spanrelay.evaluation.conversations import Conversation, Turn
from spanrelay.evaluation.formats.row import NO_MEDIA, Origin, Row, has_media, split_prompts, text_of
from spanrelay.records import JSON


def refusal(conversation: Conversation) -> str | None:
    """Return why the format has no form for a conversation; None where it has one."""
    if conversation.unanswered:
        return "a call has no result"
    return NO_MEDIA if has_media(conversation.turns) else None


def rows(conversation: Conversation, origin: Origin, *, reasoning: bool) -> Iterator[Row]:
    """Yield the one row of a conversation, with which one it is in columns that the trainer does not read."""
    row: dict[str, Any] = {
        "messages": _messages(conversation, reasoning),
        "tools": _json.dumps_text(conversation.tools),
        "id": conversation.name,
        "parent_id": conversation.parent or "",
        "session_id": conversation.session,
        "agent": conversation.document.agent.name,
        "model": conversation.answers[-1].model_name or conversation.document.agent.model_name or "",
    }
    yield Row(row, conversation.tokens)


def _messages(conversation: Conversation, reasoning: bool) -> list[dict[str, JSON]]:
    prompts, turns = split_prompts(conversation.turns)
    head: list[dict[str, JSON]] = [{"role": "system", "content": "\n\n".join(prompts)}] if prompts else []
    return head + [_message(turn, reasoning) for turn in turns]


def _message(turn: Turn, reasoning: bool) -> dict[str, JSON]:
    if turn.role == "tool" and turn.answers is not None:
        return {"role": "tool", "name": turn.answers.function_name, "content": text_of(turn.content)}
    role = "user" if turn.role == "system" else turn.role
    message: dict[str, JSON] = {"role": role, "content": text_of(turn.content)}
    if turn.calls:
        message["tool_calls"] = [_call(call) for call in turn.calls]
    if reasoning and turn.step.reasoning_content and turn.role == "assistant":
        message["reasoning_content"] = turn.step.reasoning_content
    return message


def _call(call: ToolCall) -> dict[str, JSON]:
    return {"type": "function", "function": {"name": call.function_name, "arguments": call.arguments}}
