"""The agents of a session, the main one and those that it delegates to: each its scope and its conversation.

What an agent does next stands below its span, in whatever task that is noticed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from opentelemetry.context import Context

from spanrelay import _json
from spanrelay.records import AgentInfo, ErrorInfo, Message, ModelRequest, Part, SpanRecord, Text
from spanrelay.scopes import Scope, inherit
from spanrelay.semconv.names import OPERATION_OF_KIND, span_name
from spanrelay.tracing import Tracing
from spanrelay_claude_agent_sdk import content
from spanrelay_claude_agent_sdk.exchanges import Exchange

SYNTHETIC = "<synthetic>"
"""The model of messages that the CLI makes itself, errors of the provider among them."""

TOTAL_TOKENS = "claude_agent_sdk.usage.total_tokens"


def agent_scope(name: str, parent: Scope | None, system: Sequence[Part]) -> Scope:
    """Return the scope of an agent, not opened yet."""
    operation = OPERATION_OF_KIND["agent"]
    record = inherit(SpanRecord(0, 0, name=span_name("agent", operation, name), kind="agent"), parent)
    record.operation = operation
    record.agent = AgentInfo(name)
    record.request = ModelRequest(system=list(system))
    return Scope(record, parent, name)


class Actor:
    """An agent at work.

    Args:
        system: What it was told to be, as far as the application said it.
        tracing: Opens the spans of its model calls.
    """

    def __init__(self, system: Sequence[Part], tracing: Tracing) -> None:
        self.history: list[Message] = []
        self.system = system
        self.scope: Scope | None = None
        self.context = Context()
        self.model: str | None = None
        self.exchange: Exchange | None = None
        self._asking = False
        self._tracing = tracing
        self._ready = time.time_ns()

    def enter(self, scope: Scope, context: Context) -> None:
        """Do what comes next in `scope`."""
        self.scope, self.context = scope, context
        self.ready()

    def ready(self) -> None:
        """Nothing is in the way of its next model call."""
        self._ready = time.time_ns()

    def asks(self) -> None:
        """The CLI asks the model now."""
        self.ready()
        self._asking = True

    def heard(self, said: Any) -> None:
        """Take what a user's message says, results of tools among it."""
        self.history.extend(content.said_by_user(content.blocks_of(said)))
        self.ready()

    def says(self, message: Mapping[str, Any], error: str | None = None) -> None:
        """Take a piece of what the model says."""
        if error is not None or message.get("model") == SYNTHETIC:
            self._failed(message, error)
            return
        self._exchange(message).add(message)

    def streams(self, event: Mapping[str, Any]) -> None:
        """Take an event of the provider's stream."""
        if event.get("type") == "message_start":
            message = event.get("message")
            known = cast("Mapping[str, Any]", message) if isinstance(message, Mapping) else {}
            self._exchange(known).began(known)
        elif self.exchange is not None and event.get("type") == "message_stop":
            self.rest("cancelled")
        elif self.exchange is not None:
            self.exchange.delta(event)

    def _exchange(self, message: Mapping[str, Any]) -> Exchange:
        message_id = message.get("id")
        if self.exchange is not None and self.exchange.id == message_id:
            return self.exchange
        self.rest()
        self.model = message.get("model") or self.model
        return self._open(message_id, self.model)

    def _open(self, message_id: str | None, model: str | None) -> Exchange:
        self._asking = False
        self.exchange = exchange = Exchange(message_id, model, self.history, self.system, self._ready)
        if self.scope is not None:
            exchange.open(self._tracing, self.scope, self.context)
        return exchange

    def _failed(self, message: Mapping[str, Any], error: str | None) -> None:
        """The CLI says in the model's place that the provider failed, or that there was nothing to ask."""
        self.rest()
        if error is None:
            self.history.append(Message("assistant", content.parts_of(content.blocks_of(message.get("content")))))
            return
        exchange = self._open(None, self.model)
        exchange.add(message)
        self.rest(error=ErrorInfo(error, content.text_of(message.get("content"))))

    def concluded(self, said: str) -> None:
        """Take the last words of an agent whose messages the CLI does not pass on."""
        last = self.history[-1] if self.history else None
        if said and (last is None or last.role != "assistant" or last.text.strip() != said.strip()):
            self.rest()
            self._open(None, self.model).add({"content": said, "stop_reason": "end_turn"})

    def rest(self, incomplete: str | None = None, error: ErrorInfo | None = None) -> None:
        """End the model call that is open, if one is; where it is cut off it may not have said anything yet."""
        if incomplete is not None and self._asking and self.exchange is None:
            self._open(None, self.model)
        exchange, self.exchange = self.exchange, None
        if exchange is not None and exchange.scope is not None:
            exchange.close(incomplete, error)
            self.ready()


class SubAgent(Actor):
    """An agent that another one delegates to, with a span of its own below the tool that began it."""

    def __init__(
        self, name: str, system: Sequence[Part], above: Scope | None, below: Context, tracing: Tracing
    ) -> None:
        super().__init__(system, tracing)
        self.task_id: Any = None
        """The CLI's id of it, which its hooks carry."""
        scope = agent_scope(name, above, system)
        self.enter(scope, scope.open(tracing, below))

    def given(self, prompt: str) -> bool:
        """Take what it was asked to do, which the CLI may say twice; return whether `prompt` is that."""
        if not self.history:
            self.heard(prompt)
            if self.scope is not None:
                self.scope.record.input = prompt
        return len(self.history) == 1 and self.history[0].text == prompt

    def used(self, usage: Any) -> None:
        """Take what the CLI says that it used: of its model calls it does not say the output."""
        tokens = cast("Mapping[str, Any]", usage).get("total_tokens") if isinstance(usage, Mapping) else None
        if isinstance(tokens, int) and self.scope is not None and self.scope.span is not None:
            self.scope.span.set_attribute(TOTAL_TOKENS, tokens)

    def close(self, said: str | None = None, incomplete: str | None = None) -> None:
        """End it with its last words."""
        if said is not None:
            self.concluded(said)
        self.rest(incomplete)
        scope, self.scope = self.scope, None
        if scope is not None:
            scope.record.incomplete = incomplete
            scope.record.output = _json.loads(_json.dumps(said if said is not None else self._last_words()))
            scope.close()

    def _last_words(self) -> str | None:
        last = self.history[-1] if self.history else None
        return last.text if last is not None and last.role == "assistant" and last.text else None


def system_of(options: Any) -> list[Part]:
    """Return what the application itself tells the main agent; the CLI's own instructions are not known."""
    told = getattr(options, "system_prompt", None)
    return [Text(told)] if isinstance(told, str) and told else []


def system_of_agent(options: Any, name: str) -> list[Part]:
    """Return what the application tells one of its sub-agents."""
    told = getattr((getattr(options, "agents", None) or {}).get(name), "prompt", None)
    return [Text(told)] if isinstance(told, str) and told else []
