"""Every way to ask the SDK, as one function each: sync and async, whole and streamed, and by a chat."""

from __future__ import annotations

import asyncio
from typing import Any

from google import genai
from google.oauth2.credentials import Credentials

MODEL = "gemini-3-flash"


def client_of(address: str, **options: Any) -> Any:
    """A client that asks once."""
    http = {"base_url": address, "retry_options": {"attempts": 1}}
    return genai.Client(api_key="none", vertexai=False, http_options={**http, **options})


def vertex_client_of(address: str) -> Any:
    """A client of Vertex AI."""
    place: dict[str, Any] = {"project": "p", "location": "global", "credentials": Credentials(token="none")}
    return genai.Client(vertexai=True, http_options={"base_url": address, "retry_options": {"attempts": 1}}, **place)


def whole(address: str, contents: Any, **config: Any) -> str:
    with client_of(address) as client:
        return client.models.generate_content(model=MODEL, contents=contents, config=config).text or ""


def streamed(address: str, contents: Any, **config: Any) -> str:
    with client_of(address) as client:
        chunks = client.models.generate_content_stream(model=MODEL, contents=contents, config=config)
        return "".join(chunk.text or "" for chunk in chunks)


def chat(address: str, contents: Any, **config: Any) -> str:
    with client_of(address) as client:
        return client.chats.create(model=MODEL, config=config).send_message(contents).text or ""


async def _whole(address: str, contents: Any, config: Any) -> str:
    async with client_of(address).aio as client:
        return (await client.models.generate_content(model=MODEL, contents=contents, config=config)).text or ""


async def _streamed(address: str, contents: Any, config: Any) -> str:
    async with client_of(address).aio as client:
        chunks = await client.models.generate_content_stream(model=MODEL, contents=contents, config=config)
        return "".join([chunk.text or "" async for chunk in chunks])


def awhole(address: str, contents: Any, **config: Any) -> str:
    return asyncio.run(_whole(address, contents, config))


def astreamed(address: str, contents: Any, **config: Any) -> str:
    return asyncio.run(_streamed(address, contents, config))


WAYS = (whole, streamed, chat, awhole, astreamed)
