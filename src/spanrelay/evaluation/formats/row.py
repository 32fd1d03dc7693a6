"""A row of a training file, where it comes from, and the texts that several formats write alike."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spanrelay.assembly.atif import ContentPart, ToolCall
from spanrelay.evaluation.conversations import Content, Turn
from spanrelay.evaluation.trials import Trial
from spanrelay.records import JSON


@dataclass(slots=True)
class Origin:
    """The file that a conversation is from, and the trial of Harbor's that it belongs to."""

    path: Path
    trial: Trial | None = None


@dataclass(slots=True)
class Row:
    """One line of a file, and its length in tokens as the model counted; None where it has not."""

    content: dict[str, JSON]
    tokens: int | None


NO_MEDIA = "it has pictures or sounds, for which the format has no place"


def has_media(turns: Iterable[Turn]) -> bool:
    """Whether any of the turns has a picture or a sound."""
    parts: list[ContentPart] = [part for turn in turns if not isinstance(turn.content, str) for part in turn.content]
    return any(part.type != "text" for part in parts)


def text_of(content: Content) -> str:
    """The text of a message without media."""
    return content if isinstance(content, str) else "\n".join(part.text or "" for part in content)


def split_prompts(turns: list[Turn]) -> tuple[list[str], list[Turn]]:
    """The system prompts that a conversation begins with, and the turns behind them."""
    count = next((at for at, turn in enumerate(turns) if turn.role != "system"), len(turns))
    return [text_of(turn.content) for turn in turns[:count]], turns[count:]


def spelled(turn: Turn, *, reasoning: bool) -> str:
    """A model's answer as text: its reasoning, its words, and its calls, as models spell them."""
    thought = turn.step.reasoning_content if reasoning else None
    parts = [f"<think>{thought}</think>"] if thought else []
    message = text_of(turn.content)
    parts += [message] if message else []
    parts += [f"<tool_call>\n{_spelled_call(call)}\n</tool_call>" for call in turn.calls]
    return "\n".join(parts)


def _spelled_call(call: ToolCall) -> str:
    return json.dumps({"name": call.function_name, "arguments": call.arguments}, ensure_ascii=False)


def spelled_tools(tools: list[dict[str, JSON]], prompt: str) -> str:
    """A system prompt with the functions on offer before it."""
    if not tools:
        return prompt
    offered = f"<tools>\n{json.dumps(tools, ensure_ascii=False, indent=2)}\n</tools>"
    return f"{offered}\n\n{prompt}" if prompt else offered
