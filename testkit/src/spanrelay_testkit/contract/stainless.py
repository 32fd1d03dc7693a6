"""The ways of asking that SDKs have which Stainless generates: plain, streamed, raw, and with a body that streams.

`Ask` is one method of an SDK: `ask(client)(messages, **options)` calls it with the model and the messages as it takes
them. Its raw kinds, `with_raw_response` and `with_streaming_response`, are an `Ask` each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from spanrelay_testkit.half import Form, Half, Outcome

Ask: TypeAlias = Callable[[Any], Callable[..., Any]]
TextOf: TypeAlias = Callable[[Any], str]


def chat_text(chunk: Any) -> str:
    """The text in a chunk of chat completions; some SDKs hand out an error event as a chunk without choices."""
    return "".join(choice.delta.content or "" for choice in getattr(chunk, "choices", None) or ())


def text_of(answer: Any) -> str:
    """The text of a whole answer of any of OpenAI's APIs."""
    if hasattr(answer, "output_text"):
        return answer.output_text
    [choice] = answer.choices
    return choice.message.content if hasattr(choice, "message") else choice.text


async def joined(half: Half, stream: Any, text: TextOf) -> Outcome:
    """Read a stream to its end."""
    chunks = [chunk async for chunk in half.each(stream)]
    return Outcome("".join(map(text, chunks)), (type(stream), *{type(chunk) for chunk in chunks}))


def whole(ask: Ask) -> Form:
    """`create(...)` and its answer."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        answer = await half.settle(ask(client)(messages))
        return Outcome(text_of(answer), (type(answer),))

    return run


def streamed(ask: Ask, text: TextOf) -> Form:
    """`create(stream=True)`, read to its end."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        return await joined(half, await half.settle(ask(client)(messages, stream=True)), text)

    return run


def raw(ask: Ask) -> Form:
    """`with_raw_response.create(...)`, then `parse()`."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        response = await half.settle(ask(client)(messages))
        answer = await half.settle(response.parse())
        return Outcome(text_of(answer), (type(response), type(answer)))

    return run


def raw_stream(ask: Ask, text: TextOf) -> Form:
    """`with_raw_response.create(stream=True)`, then `parse()` and the stream it gives."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        response = await half.settle(ask(client)(messages, stream=True))
        return await joined(half, await half.settle(response.parse()), text)

    return run


def streaming_response(ask: Ask) -> Form:
    """`with_streaming_response.create(...)`, whose body is read inside the block."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        async with half.entered(ask(client)(messages)) as response:
            answer = await half.settle(response.parse())
        return Outcome(text_of(answer), (type(response), type(answer)))

    return run


def streaming_response_stream(ask: Ask, text: TextOf) -> Form:
    """`with_streaming_response.create(stream=True)`."""

    async def run(half: Half, client: Any, messages: Any) -> Outcome:
        async with half.entered(ask(client)(messages, stream=True)) as response:
            return await joined(half, await half.settle(response.parse()), text)

    return run
