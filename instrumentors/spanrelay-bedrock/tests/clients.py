"""Clients of Bedrock for tests, in both colours, and their streams as iterators."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from spanrelay_testkit.half import Half

with contextlib.suppress(ModuleNotFoundError):  # not beside the oldest botocore
    import_module("aiobotocore.client")

MODEL = "amazon.nova-lite-v1:0"
ACCESS = {
    "region_name": "us-east-1",
    "aws_access_key_id": "none",
    "aws_secret_access_key": "none",
    "aws_session_token": "none",
}


def settings_of(url: str, timeout: float | None = None, max_retries: int = 0) -> dict[str, Any]:
    """Return what a client is made with."""
    patience = {} if timeout is None else {"read_timeout": timeout, "connect_timeout": timeout}
    parts = urlsplit(url)
    config = Config(retries={"max_attempts": max_retries}, **patience)
    return {**ACCESS, "endpoint_url": f"{parts.scheme}://{parts.netloc}", "config": config}


class AioClient:
    """A client of aiobotocore's, entered with its first call."""

    def __init__(self, url: str, service: str = "bedrock-runtime", **options: Any) -> None:
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        made = settings_of(url, **options)
        made["config"] = AioConfig().merge(made["config"])
        self._manager = get_session().create_client(service, **made)
        self._client: Any = None

    async def real(self) -> Any:
        """Return the client itself."""
        if self._client is None:
            self._client = await self._manager.__aenter__()
        return self._client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(**params: Any) -> Any:
            return await getattr(await self.real(), name)(**params)

        return ask

    async def close(self) -> None:
        """Leave the client."""
        if self._client is not None:
            await self._manager.__aexit__(None, None, None)


def open_client(half: Half, url: str, service: str = "bedrock-runtime", **options: Any) -> Any:
    """Return a client of either colour."""
    if half.asynchronous:
        return AioClient(url, service, **options)
    return boto3.client(service, **settings_of(url, **options))


class Events:
    """The events of a stream as an iterator that can be closed, and left by a `with` block."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._events: Any = None

    def __next__(self) -> Any:
        self._events = iter(self.stream) if self._events is None else self._events
        return next(self._events)

    async def __anext__(self) -> Any:
        self._events = aiter(self.stream) if self._events is None else self._events
        return await anext(self._events)

    def close(self) -> None:
        """Close the stream."""
        self.stream.close()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Events:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


def nova(messages: Any) -> bytes:
    """Return a body of Nova's own."""
    return json.dumps({"schemaVersion": "messages-v1", "messages": messages}).encode()


def text_of(event: Any) -> str:
    """Return what an event says, of Converse or of Nova's own."""
    told = json.loads(event["chunk"]["bytes"]) if "chunk" in event else event
    return told.get("contentBlockDelta", {}).get("delta", {}).get("text", "")


def said_in(answer: Any) -> str:
    """Return the text of an answer's body."""
    return "".join(block.get("text", "") for block in answer["output"]["message"]["content"])
