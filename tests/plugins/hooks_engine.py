"""Interceptors for tests of the plugin `agent_hooks`, which a file names as factories."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai

Verdict = dict[str, Any]
ALLOW: Verdict = {"decision": "allow"}


class Engine:
    """Answers by a table from points to verdicts, and remembers what it was asked.

    Args:
        verdicts: By interception point; where there is none it allows.
    """

    last: Engine

    def __init__(self, verdicts: dict[str, Any] | None = None) -> None:
        self.verdicts = verdicts or {}
        self.asked: list[dict[str, Any]] = []
        type(self).last = self

    def intercept(self, context: dict[str, Any]) -> Any:
        self.asked.append(context)
        return self.verdicts.get(context["interception_point"], ALLOW)


class Breaks:
    """Raises when it is asked."""

    def intercept(self, context: dict[str, Any]) -> Verdict:
        raise OSError("the policy store is gone")


class Late:
    """Is still thinking when its time is over."""

    async def intercept(self, context: dict[str, Any]) -> Verdict:
        import asyncio

        await asyncio.Event().wait()
        return ALLOW


class Asks:
    """Asks a model whether the model may be asked."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def intercept(self, context: dict[str, Any]) -> Verdict:
        async with openai.AsyncOpenAI(base_url=self._url, api_key="none", max_retries=0) as client:
            told: Any = [{"role": "user", "content": "judge: " + json.dumps(context["target"])}]
            answer = await client.chat.completions.create(model="judge", messages=told)
        fine = answer.choices[0].message.content == "fine"
        return ALLOW if fine else {"decision": "deny", "reason": "the judge says no"}


class Nothing:
    """Is no interceptor."""


def refuses_to_be_made(secret: str) -> Callable[..., Any]:
    raise ValueError(secret)
