"""What of inputs and outputs is recorded: what the user said last, and the text of what came back.

Read once when a run begins and once when it ends, or once a chunk.
"""

from __future__ import annotations

from typing import Any


def given(value: Any) -> Any:
    """Return what the user said last: the input itself, or the content of the last message in a chat request."""
    single = getattr(value, "input_message", None)
    if isinstance(single, str):
        return single
    messages = getattr(value, "messages", None)
    return messages[-1].content if isinstance(messages, list) and messages else value


def gave(value: Any) -> Any:
    """Return the text of a chat response or of a chunk of one; anything else as it is."""
    choices = getattr(value, "choices", None)
    if not isinstance(choices, list):
        return value
    texts = [_text_of(choice) for choice in choices]
    return "".join(text for text in texts if text)


def joined(chunks: list[Any]) -> Any:
    """Return what chunks add up to: one text where all are texts, else the list."""
    return "".join(chunks) if chunks and all(isinstance(chunk, str) for chunk in chunks) else chunks


def _text_of(choice: Any) -> Any:
    said = getattr(choice, "message", None) or getattr(choice, "delta", None)
    return getattr(said, "content", None)
