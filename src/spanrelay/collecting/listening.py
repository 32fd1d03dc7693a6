"""Serves an application over HTTP, in a running loop or from a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from spanrelay.collecting.tls import Tls
from spanrelay.gateway.listening import listening_at
from spanrelay.gateway.protocol import Protocol

_CONNECTIONS = 2_000


async def serve(app: Any, listening: socket.socket, tls: Tls | None = None) -> Callable[[], Any]:
    """Serve an application at a socket; return what ends that."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="critical",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=5,
        **({} if tls is None else tls.for_http()),
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not task.done():
        await asyncio.sleep(0.005)

    async def stop() -> None:
        server.should_exit = True
        await task

    return stop


@contextmanager
def serving(app: Any, host: str, port: int, tls: Tls | None = None) -> Generator[int]:
    """Serve an application from a thread of its own meanwhile, and yield the port.

    Raises:
        ConfigurationError: nobody can listen there.
    """
    listening = listening_at(host, port, what="collector")
    taken = int(listening.getsockname()[1])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="spanrelay-status", daemon=True)
    thread.start()
    stop = asyncio.run_coroutine_threadsafe(serve(app, listening, tls), loop).result()
    try:
        yield taken
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
