"""Every way of asking a model: both doors, both colours, whole, streamed and raw."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import httpx
import openai

from spanrelay import arun_model, astream_model, run_model, stream_model
from spanrelay_testkit.half import Half

SYNC, ASYNC = Half(asynchronous=False), Half(asynchronous=True)
MODEL, DENIED = "gpt-5", "gpt-forbidden"


@dataclass
class Clients:
    """What asks: made once for all cells, since a client costs more than a call."""

    url: str
    sync: openai.OpenAI = field(init=False)
    later: openai.AsyncOpenAI = field(init=False)
    http: httpx.Client = field(init=False)
    ahttp: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.sync = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0)
        self.later = openai.AsyncOpenAI(base_url=self.url, api_key="none", max_retries=0)
        self.http, self.ahttp = httpx.Client(base_url=self.url), httpx.AsyncClient(base_url=self.url)

    async def close(self) -> None:
        """Close every client; `later` and `ahttp` on the loop that used them."""
        self.sync.close()
        self.http.close()
        await self.later.close()
        await self.ahttp.aclose()


Ask: TypeAlias = Callable[[Clients, str, list[str]], Awaitable[None]]
"""`(clients, question, heard)`: ask, and put what comes of the answer into `heard` as it comes."""


@dataclass(frozen=True)
class Way:
    """One way of asking."""

    door: Literal["managed", "openai"]
    name: str
    ask: Ask | None
    """None where one cannot ask in this way."""
    streams: bool = False


def wire(question: str, **more: Any) -> dict[str, Any]:
    """The provider's JSON, with a field that no record of ours knows."""
    message = {"role": "user", "content": question, "x_note": {"order": [2, 1]}}
    return {"model": DENIED if "forbidden" in question else MODEL, "x_unknown": [1], "messages": [message], **more}


def _text(chunk: Any) -> str:
    """The text of an answer or of a chunk, as JSON or as an object of the SDK's."""
    if not isinstance(chunk, dict):
        chunk = chunk.model_dump()
    said = [choice.get("message") or choice["delta"] for choice in chunk["choices"]]
    return "".join(each.get("content") or "" for each in said)


# --- managed: functions of the application's own post to the server ---


class Events:
    """The events of a streamed answer, sync and async; `close` lets the connection go."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.close, self.aclose = response.close, response.aclose

    def __iter__(self) -> Iterator[Any]:
        return (json.loads(line[6:]) for line in self._response.iter_lines() if line.startswith("data: {"))

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for line in self._response.aiter_lines():
            if line.startswith("data: {"):
                yield json.loads(line[6:])


async def managed(clients: Clients, question: str, heard: list[str]) -> None:
    def post(body: dict[str, Any]) -> Any:
        return clients.http.post("chat/completions", json=body).raise_for_status().json()

    heard.append(_text(run_model(post, wire(question))))


async def managed_async(clients: Clients, question: str, heard: list[str]) -> None:
    async def post(body: dict[str, Any]) -> Any:
        return (await clients.ahttp.post("chat/completions", json=body)).raise_for_status().json()

    heard.append(_text(await ASYNC.settle(arun_model(post, wire(question)))))


async def managed_stream(clients: Clients, question: str, heard: list[str]) -> None:
    def post(body: dict[str, Any]) -> Events:
        request = clients.http.build_request("POST", "chat/completions", json=body)
        return Events(clients.http.send(request, stream=True).raise_for_status())

    async for event in SYNC.each(stream_model(post, wire(question, stream=True))):
        heard.append(_text(event))


async def managed_async_stream(clients: Clients, question: str, heard: list[str]) -> None:
    async def post(body: dict[str, Any]) -> Events:
        request = clients.ahttp.build_request("POST", "chat/completions", json=body)
        return Events((await clients.ahttp.send(request, stream=True)).raise_for_status())

    async for event in ASYNC.each(await ASYNC.settle(astream_model(post, wire(question, stream=True)))):
        heard.append(_text(event))


# --- openai: the SDK's own methods, instrumented ---


def _create(half: Half, clients: Clients, form: str) -> Callable[..., Any]:
    completions: Any = (clients.later if half.asynchronous else clients.sync).chat.completions
    return (getattr(completions, form) if form else completions).create


def _arguments(question: str, *, stream: bool) -> dict[str, Any]:
    """The arguments of `create` that make it send `wire(question)`."""
    known = wire(question)
    unknown = known.pop("x_unknown")
    return {**known, "extra_body": {"x_unknown": unknown}, **({"stream": True} if stream else {})}


def openai_way(half: Half, form: str = "", *, stream: bool = False) -> Ask:
    """`create`, `with_raw_response.create` or `with_streaming_response.create`."""

    async def ask(clients: Clients, question: str, heard: list[str]) -> None:
        made = _create(half, clients, form)(**_arguments(question, stream=stream))
        if form == "with_streaming_response":
            async with half.entered(made) as response:
                await hear(half, await half.settle(response.parse()), heard)
        elif form:
            await hear(half, await half.settle((await half.settle(made)).parse()), heard)
        else:
            await hear(half, await half.settle(made), heard)

    async def hear(half: Half, answer: Any, heard: list[str]) -> None:
        if not stream:
            heard.append(_text(answer))
            return
        async for chunk in half.each(answer):
            heard.append(_text(chunk))

    return ask


WAYS = [
    Way("managed", "sync", managed),
    Way("managed", "async", managed_async),
    Way("managed", "stream", managed_stream, streams=True),
    Way("managed", "async stream", managed_async_stream, streams=True),
    Way("managed", "raw", None),
    *(
        Way("openai", " ".join(filter(None, (colour, form, what))), openai_way(half, name, stream=stream), stream)
        for form, name in [("", ""), ("raw", "with_raw_response"), ("streaming response", "with_streaming_response")]
        for stream, what in [(False, ""), (True, "stream")]
        for half, colour in [(SYNC, "" if stream or form else "sync"), (ASYNC, "async")]
    ),
]
