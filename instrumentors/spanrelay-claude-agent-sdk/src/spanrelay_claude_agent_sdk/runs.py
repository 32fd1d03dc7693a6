"""The two ways of a run: `query`, from its first message to its end, and each turn of a `ClaudeSDKClient`.

What the SDK raises leaves as the same object, and no context is held while the application has a message.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import Any, cast

import anyio
from opentelemetry.context import attach, detach

from spanrelay.errors import SpanRelayError
from spanrelay.instrumentation.patching import Patch
from spanrelay.tracing import Tracing
from spanrelay_claude_agent_sdk.joining import session_of
from spanrelay_claude_agent_sdk.run import RunCall
from spanrelay_claude_agent_sdk.sessions import Session


class Runs:
    """Wraps both ways; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def query(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> AsyncGenerator[Any, None]:
        """Begin a run when its first message is asked for."""
        named = {**dict(zip(("prompt", "options", "transport"), args, strict=False)), **kwargs}
        return self._messages(wrapped, **named)

    async def _messages(
        self, wrapped: Any, prompt: Any, options: Any, transport: Any = None
    ) -> AsyncGenerator[Any, None]:
        session = Session(options, self._tracing, whole=True)
        errand = await session.begin(prompt if isinstance(prompt, str) else None)
        if errand.error is not None:
            raise errand.error
        if not errand.sent:
            for message in _answer(errand.result):
                yield message
            return
        outgoing = errand.outgoing if isinstance(prompt, str) else _passing(prompt, session)
        messages = wrapped(prompt=outgoing, options=options, transport=transport)
        run = cast("Any", session.run)
        context = session.within(run.context)
        error: BaseException | None = None
        try:
            while True:
                token = attach(context)
                try:
                    message = await anext(messages)
                except StopAsyncIteration:
                    break
                finally:
                    detach(token)
                yield message
        except GeneratorExit:
            run.left()
            raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            trace = error.__traceback__ if error is not None else None
            try:
                await _close(messages, context)
            finally:
                await _over(run, session.refusal or error)
            if error is not None:
                error.__traceback__ = trace
        await run.ended()
        if session.refusal is not None:
            raise session.refusal

    async def connect(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Connect a client: with a prompt, its first turn begins."""
        prompt = args[0] if args else kwargs.get("prompt")
        session = Session(client.options, self._tracing, whole=False)
        if isinstance(prompt, str):
            prompt = await session.submit(prompt)
        elif prompt is not None:
            prompt = _passing(prompt, session)
        token = attach(session.within(session.context))
        try:
            return await wrapped(prompt)
        except BaseException as error:
            session.failed(error)
            raise
        finally:
            detach(token)

    async def turn(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Begin a turn of a client."""
        named = {**dict(zip(("prompt", "session_id"), args, strict=False)), **kwargs}
        session, prompt = session_of(client._query), named.pop("prompt")
        if session is None:
            return await wrapped(prompt, **named)
        if not isinstance(prompt, str):
            return await wrapped(_passing(prompt, session, refusing=True), **named)
        outgoing = await session.submit(prompt)
        try:
            return await wrapped(outgoing, **named)
        except BaseException as error:
            session.failed(error)
            raise

    async def interrupt(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Interrupt a client's turn."""
        session = session_of(client._query)
        if session is not None:
            session.interrupted()
        return await wrapped(*args, **kwargs)


async def _close(messages: Any, context: Any) -> None:
    token = attach(context)
    try:
        await messages.aclose()
    finally:
        detach(token)


async def _over(run: RunCall, error: BaseException | None) -> None:
    run.ends(error)
    with anyio.move_on_after(5, shield=True):
        await run.settled()


async def _passing(
    prompt: AsyncIterable[Any], session: Session, *, refusing: bool = False
) -> AsyncGenerator[Any, None]:
    """Pass on the application's messages as policy leaves them.

    The SDK only logs what a stream of prompts raises; where it does, a refusal ends the stream, and the run raises it.
    """
    async for message in prompt:
        try:
            passed = await _passed(message, session)
        except SpanRelayError as refusal:
            if refusing:
                raise
            session.refusal = refusal
            return
        yield passed


async def _passed(message: Any, session: Session) -> Any:
    said = message.get("message") if isinstance(message, Mapping) else None
    if not isinstance(said, Mapping) or message.get("type") != "user":
        return message
    given = said.get("content")
    left = await session.submit(given)
    return message if left is given else {**message, "message": {**said, "content": left}}


def _answer(said: Any) -> tuple[Any, Any]:
    """Return the messages by which the CLI would have said what policy answered."""
    from claude_agent_sdk import AssistantMessage, ResultMessage, TextBlock

    text = said if isinstance(said, str) else str(said)
    result = ResultMessage(
        subtype="success",
        duration_ms=0,
        duration_api_ms=0,
        is_error=False,
        num_turns=0,
        session_id="",
        result=text,
    )
    return AssistantMessage(content=[TextBlock(text)], model="<synthetic>"), result


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """What `query` makes for each call, whatever name it was imported by, and the client's methods."""
    runs = Runs(tracing)
    return (
        Patch("claude_agent_sdk._internal.client", "InternalClient.process_query", runs.query),
        Patch("claude_agent_sdk.client", "ClaudeSDKClient.connect", runs.connect),
        Patch("claude_agent_sdk.client", "ClaudeSDKClient.query", runs.turn),
        Patch("claude_agent_sdk.client", "ClaudeSDKClient.interrupt", runs.interrupt, required=False),
    )
