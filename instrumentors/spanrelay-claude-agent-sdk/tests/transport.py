"""A CLI for faults: what it says is a test's, in the SDK's own protocol, with no process behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
from claude_agent_sdk import Transport

SESSION = "11111111-2222-4333-8444-555555555555"


def assistant(*blocks: dict[str, Any], message_id: str = "msg_1", **more: Any) -> dict[str, Any]:
    """A piece of a message of the model's."""
    message = {"id": message_id, "role": "assistant", "model": "claude-test", "content": list(blocks)}
    usage = {"input_tokens": 12, "cache_read_input_tokens": 5, "output_tokens": 1}
    return {
        "type": "assistant",
        "message": {**message, "usage": usage},
        "parent_tool_use_id": None,
        "session_id": SESSION,
        "uuid": "u",
        **more,
    }


def told(call_id: str, said: str, **more: Any) -> dict[str, Any]:
    """The result of a tool, as the model is told."""
    content = [{"type": "tool_result", "tool_use_id": call_id, "content": said, **more}]
    return {"type": "user", "message": {"role": "user", "content": content}, "session_id": SESSION}


def init() -> dict[str, Any]:
    """The beginning of a session."""
    return {"type": "system", "subtype": "init", "session_id": SESSION, "model": "claude-test"}


def result(said: str | None = "Done.", **more: Any) -> dict[str, Any]:
    """The end of a turn."""
    known = {"subtype": "success", "duration_ms": 1, "duration_api_ms": 1, "is_error": False, "num_turns": 1}
    return {"type": "result", **known, "session_id": SESSION, "result": said, "total_cost_usd": 0.5, **more}


class Ask:
    """In a script: ask the hooks of one event, and go on when they have answered."""

    def __init__(self, event: str, **said: Any) -> None:
        self.event = event
        self.said = {"hook_event_name": event, "session_id": SESSION, **said}


class Script(Transport):
    """Says one thing after the other when it has been prompted.

    An exception is raised, a function called, an event waited for, and hooks are asked.
    """

    def __init__(self, *steps: Any, honours: bool = True) -> None:
        self.steps = steps
        self.honours = honours
        """Whether it says that hooks which fail can block."""
        self.answers: list[Any] = []
        self.written: list[dict[str, Any]] = []
        self.closed = False
        self._says: asyncio.Queue[Any] = asyncio.Queue()
        self._hooks: dict[str, list[str]] = {}
        self._answered: dict[str, anyio.Event] = {}

    async def connect(self) -> None:
        """Nothing has to be started."""

    async def write(self, data: str) -> None:
        said = json.loads(data)
        self.written.append(said)
        if said["type"] == "control_request":
            await self._control(said)
        elif said["type"] == "control_response":
            self.answers.append(said["response"])
            self._answered[said["response"]["request_id"]].set()
        elif said["type"] == "user":
            await self._says.put("prompted")

    async def _control(self, said: dict[str, Any]) -> None:
        for event, matchers in (said["request"].get("hooks") or {}).items():
            self._hooks[event] = [one for matcher in matchers for one in matcher["hookCallbackIds"]]
        response: dict[str, Any] = {"subtype": "success", "request_id": said["request_id"]}
        response["response"] = {"hook_on_failure_supported": self.honours}
        await self._says.put({"type": "control_response", "response": response})

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        while (said := await self._says.get()) is not None:
            if said != "prompted":
                yield said
                continue
            for step in self.steps:
                async for message in self._step(step):
                    yield message
            return

    async def _step(self, step: Any) -> AsyncIterator[dict[str, Any]]:
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, anyio.Event):
            await step.wait()
        elif isinstance(step, Ask):
            for index, callback in enumerate(self._hooks.get(step.event, [])):
                request_id = f"{step.event}-{len(self._answered)}-{index}"
                self._answered[request_id] = anyio.Event()
                request = {"subtype": "hook_callback", "callback_id": callback, "input": step.said}
                request["tool_use_id"] = step.said.get("tool_use_id")
                yield {"type": "control_request", "request_id": request_id, "request": request}
                await self._answered[request_id].wait()
        elif callable(step):
            step()
        else:
            yield step

    async def close(self) -> None:
        self.closed = True
        self._says.put_nowait(None)

    def is_ready(self) -> bool:
        return not self.closed

    async def end_input(self) -> None:
        """Nothing reads the input to its end."""
