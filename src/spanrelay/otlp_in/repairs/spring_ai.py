"""Spring AI's log records: the texts of a model call's request and answer, without roles and not even as JSON."""

from __future__ import annotations

from typing import Any

from spanrelay.otlp_in.repairs.roles import SPRING_PROMPT
from spanrelay.otlp_in.telemetry import LogRecord
from spanrelay.semconv import names

_SCOPE = "org.springframework.ai.chat.observation."
_PROMPT, _COMPLETION = "Chat Model Prompt Content:\n", "Chat Model Completion:\n"


def tells(log: LogRecord) -> bool:
    """Whether a log record has the texts of a model call."""
    return (log.origin.scope or "").startswith(_SCOPE)


def attributes_of(log: LogRecord) -> dict[str, Any]:
    """Return what such a log record says of its span, as attributes of that."""
    body = log.body if isinstance(log.body, str) else ""
    if body.startswith(_PROMPT):
        return {SPRING_PROMPT: _inner(body.removeprefix(_PROMPT))}
    told = _inner(body.removeprefix(_COMPLETION)) if body.startswith(_COMPLETION) else ""
    choices = [{"role": "assistant", "parts": [{"type": "text", "content": text}]} for text in told.split('", "')]
    return {names.OUTPUT_MESSAGES: choices} if told else {}


def _inner(texts: str) -> str:
    """Return what is between the brackets and quotes around `["one", "another"]`; inner quotes are as they were."""
    return texts.strip().removeprefix("[").removesuffix("]").removeprefix('"').removesuffix('"')
