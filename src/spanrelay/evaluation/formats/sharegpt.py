"""Rows of ShareGPT's form, with the roles that every reader of it knows: `system`, `human` and `gpt`, in turn.

Unsloth knows no others, and LLaMA-Factory wants them to alternate: calls and results are text in them, spelled as
models with chat templates of the Hermes family spell them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from spanrelay import _json
from spanrelay.evaluation.conversations import Conversation, Turn
from spanrelay.evaluation.formats.row import (
    NO_MEDIA,
    Origin,
    Row,
    has_media,
    spelled,
    spelled_tools,
    split_prompts,
    text_of,
)


def refusal(conversation: Conversation) -> str | None:
    """Return why the format has no form for a conversation; None where it has one."""
    if has_media(conversation.turns):
        return NO_MEDIA
    told = pairwise(turn.role == "assistant" for turn in conversation.turns)
    return "two answers have nothing between them" if any(first and second for first, second in told) else None


def rows(conversation: Conversation, origin: Origin, *, reasoning: bool) -> Iterator[Row]:
    """Yield the one row of a conversation; what stands between two answers is one turn."""
    prompts, turns = split_prompts(conversation.turns)
    prompt = spelled_tools(conversation.tools, "\n\n".join(prompts))
    told: list[dict[str, str]] = [{"from": "system", "value": prompt}] if prompt else []
    for turn in turns:
        speaker = "gpt" if turn.role == "assistant" else "human"
        value = spelled(turn, reasoning=reasoning) if speaker == "gpt" else _heard(turn)
        if speaker == "human" and told and told[-1]["from"] == "human":
            told[-1]["value"] += f"\n{value}"
        else:
            told.append({"from": speaker, "value": value})
    row: dict[str, Any] = {"conversations": told, "id": conversation.name, "parent_id": conversation.parent or ""}
    yield Row(row, conversation.tokens)


def _heard(turn: Turn) -> str:
    if turn.role != "tool" or turn.answers is None:
        return text_of(turn.content)
    told = {"name": turn.answers.function_name, "content": text_of(turn.content)}
    return f"<tool_response>\n{_json.dumps_text(told)}\n</tool_response>"
