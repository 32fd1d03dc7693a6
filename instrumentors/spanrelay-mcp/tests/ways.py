"""How the tests connect a client to a server, with either generation of the SDK: in memory, over HTTP, over stdio."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
import uvicorn
from mcp import ClientSession, StdioServerParameters
from mcp.client import streamable_http
from mcp.client.stdio import stdio_client
from mcp.shared.memory import create_client_server_memory_streams

FIRST = version("mcp").startswith("1.")
"""Whether the SDK is of the first generation."""
if FIRST:
    from mcp.server.fastmcp import FastMCP as Server
    from mcp.shared.exceptions import McpError as MCPError
else:
    from mcp import MCPError
    from mcp.server.mcpserver import MCPServer as Server

__all__ = [
    "FIRST",
    "MCPError",
    "Server",
    "each_way",
    "field",
    "in_memory",
    "over_http",
    "over_newest",
    "over_stdio",
    "seconds",
]

Way: TypeAlias = Callable[..., AbstractAsyncContextManager[ClientSession]]


def field(found: Any, first: str, later: str) -> Any:
    """Return a field of a result, which has another name in each generation."""
    return getattr(found, first if FIRST else later)


def seconds(count: float) -> Any:
    """Return a time limit as the SDK wants it."""
    if not FIRST:
        return count
    from datetime import timedelta

    return timedelta(seconds=count)


def _low(server: Any) -> Any:
    return getattr(server, "_mcp_server", None) or getattr(server, "_lowlevel_server", server)


class _Tapped:
    """A stream that shows each message to `tap` before it is sent."""

    def __init__(self, stream: Any, tap: Callable[[Any], None]) -> None:
        self._stream, self._tap = stream, tap

    async def send(self, message: Any) -> None:
        self._tap(message)
        await self._stream.send(message)

    async def __aenter__(self) -> Any:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._stream.__aexit__(*raised)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.asynccontextmanager
async def in_memory(server: Any, tap: Callable[[Any], None] | None = None, **options: Any) -> AsyncIterator[Any]:
    """Connect over streams of messages in memory; `tap` is shown each message that the client sends."""
    low = _low(server)
    async with create_client_server_memory_streams() as ((read, write), there), anyio.create_task_group() as group:
        group.start_soon(low.run, *there, low.create_initialization_options())
        if tap is not None:
            write = _Tapped(write, tap)
        async with ClientSession(read, write, **options) as session:
            await session.initialize()
            yield session
        group.cancel_scope.cancel()


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI application on loopback; yields its URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=running.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()
        listening.close()


def http_client(url: str) -> Any:
    """Return the streams of a client of streamable HTTP."""
    older: Any = getattr(streamable_http, "streamablehttp_client", None)
    return getattr(streamable_http, "streamable_http_client", older)(url)


@contextlib.asynccontextmanager
async def over_newest(server: Any) -> AsyncIterator[Any]:
    """Connect over streamable HTTP in the newest version of the protocol that the SDK has."""
    from mcp import Client

    with served(server.streamable_http_app()) as url:
        async with Client(http_client(f"{url}/mcp")) as client:
            yield client


@contextlib.asynccontextmanager
async def over_http(server: Any, tap: Callable[[Any], None] | None = None, **options: Any) -> AsyncIterator[Any]:
    """Connect over streamable HTTP, server and client each on a loop of its own; `tap` as for `in_memory`."""
    is_over = False
    with served(server.streamable_http_app()) as url:
        try:
            async with http_client(f"{url}/mcp") as (read, write, *_):
                sending: Any = write if tap is None else _Tapped(write, tap)
                async with ClientSession(read, sending, **options) as session:
                    await session.initialize()
                    yield session
                    is_over = True
        except Exception as error:
            if not (FIRST and is_over and _came_late(error)):
                raise


def _came_late(error: BaseException) -> bool:
    """Whether the first generation had an answer for a session that had just ended, of which it makes an error."""
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return isinstance(error, anyio.ClosedResourceError) or (bool(inner) and all(map(_came_late, inner)))


@contextlib.asynccontextmanager
async def over_stdio(program: Path, *command: str, **options: Any) -> AsyncIterator[Any]:
    """Connect to a process that runs `program`."""
    command = command or (sys.executable,)
    parameters = StdioServerParameters(command=command[0], args=[*command[1:], str(program)])
    async with stdio_client(parameters) as (read, write), ClientSession(read, write, **options) as session:
        await session.initialize()
        yield session


each_way = pytest.mark.parametrize("connected", [in_memory, over_http], ids=["memory", "http"])

newer = pytest.mark.skipif(FIRST, reason="the first generation of the SDK makes no spans and has no such client")

assert find_spec("spanrelay_mcp")
