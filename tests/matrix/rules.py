"""The policy and the sanitizer that every cell of the matrix has in force, and the plugin that registers them.

A distribution of the tests' own is made of this very file, so it imports nothing of the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import spanrelay
from spanrelay.records import Message, ModelResponse, Text

EMAIL = re.compile(r"[\w.]+@[\w.]+\w")
SMALL = "gpt-5-mini"


@spanrelay.guardrail
def no_forbidden(call: Any) -> str | None:
    """Refuse what speaks of the forbidden."""
    return "it is forbidden" if "forbidden" in call.request.messages[-1].text else None


@spanrelay.request_intercept(kinds=["llm"])
def without_secrets(call: Any) -> None:
    """Take secrets out of what is sent, in place."""
    for message in call.request.messages:
        message.parts = [
            Text(part.text.replace("secret", "***")) if isinstance(part, Text) else part for part in message.parts
        ]


@spanrelay.execution_intercept(kinds=["llm"])
def known_or_small(call: Any) -> Iterator[Any]:
    """Answer what is known by heart; send what fails to a smaller model."""
    if "known" in call.request.messages[-1].text:
        return ModelResponse(messages=[Message("assistant", [Text("by heart")], finish_reason="stop")])
    try:
        return (yield call)
    except Exception:
        return (yield call.with_request(replace(call.request, model=SMALL)))


@spanrelay.stream_intercept(hold_back=20)
def without_emails(call: Any, text: str) -> str:
    """Mask addresses wherever chunks are cut, and end the stream where it becomes dangerous."""
    if "danger" in text:
        raise spanrelay.GuardrailRejected("too dangerous", "without_emails")
    return EMAIL.sub("[email]", text)


@spanrelay.sanitizer
def private(field: Any) -> Any:
    """Mask addresses in what is recorded."""
    return _masked(field.value)


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return EMAIL.sub("[email]", value)
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list) else value


RULES = {
    "guardrail": no_forbidden,
    "request intercept": without_secrets,
    "execution intercept": known_or_small,
    "stream intercept": without_emails,
    "sanitizer": private,
}


@dataclass
class Config:
    """`[plugins.matrix_rules]`: which of the rules."""

    family: str


class Rules:
    """Registers one of the rules."""

    name = "matrix_rules"
    config_model = Config

    def validate(self, config: Config) -> list[Any]:
        """Anything goes."""
        return []

    def register(self, context: Any) -> None:
        """Put the rule in force."""
        context.use(RULES[context.config.family])
