"""What of a run's input and output is recorded: what the user said last, and what the rails made of the answer.

Read once when a run begins and once when it ends.
"""

from __future__ import annotations

from typing import Any


def given(prompt: Any, messages: Any) -> Any:
    """Return the prompt, or the content of the last message that is neither context nor event."""
    if not messages:
        return prompt
    said = [message for message in messages if message.get("role") not in ("context", "event")]
    return (said or messages)[-1].get("content")


def gave(result: Any) -> Any:
    """Return what a run gave: the text, the message, or the verdict of a check."""
    status = getattr(result, "status", None)
    if status is not None:
        verdict = {"status": getattr(status, "value", status), "content": result.content}
        return {**verdict, "rail": result.rail} if result.rail else verdict
    if isinstance(result, tuple):
        result = result[0]
    response = getattr(result, "response", result)
    if isinstance(response, list) and len(response) == 1:
        response = response[0]
    return response.get("content") if isinstance(response, dict) else response
