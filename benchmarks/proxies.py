"""The programs of the row `gateway`, each in a process of its own: `python -m benchmarks.proxies ROLE [UPSTREAM]`.

Each prints its port, then, for every line on its input, what it has used so far, as JSON. `upstream` is a provider that
costs little, `bare` a proxy in few lines of the libraries that the gateway stands on, `bare-span` the same with a plain
span around each request, `ours` and `ours-trajectories` the gateway.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import uvicorn
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from yarl import URL

import spanrelay
from benchmarks.floor import ATTRIBUTES, EncodingExporter
from spanrelay import gateway
from spanrelay.gateway.listening import listening_at

CHUNKS = 200
"""Of a streamed answer, each of which goes out on its own."""

_MESSAGE = {"role": "assistant", "content": "It is four degrees in Oslo, and it rains in Bergen. " * 15}
_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-5-mini-2025-08-07",
    "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 220, "completion_tokens": 80, "total_tokens": 300},
}


def _http(kind: str, more: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more}\r\n\r\n".encode()


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    kind = {"object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps({**_ANSWER, **kind, "usage": None}).encode() + b"\n\n"


_BODY = json.dumps(_ANSWER).encode()
_WHOLE = _http("application/json", f"content-length: {len(_BODY)}") + _BODY
_PIECES = [_chunked(_event("word ")) for _ in range(CHUNKS)]
_PIECES[-1] = _chunked(_event("end", "stop") + b"data: [DONE]\n\n") + b"0\r\n\r\n"
_PIECES[0] = _http("text/event-stream", "transfer-encoding: chunked") + _PIECES[0]


class Upstream(asyncio.Protocol):
    """Answers every request alike: at once, or in pieces where its body asks for a stream."""

    def connection_made(self, transport: Any) -> None:
        """Begin to listen."""
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer when a request is whole."""
        self._data += data
        head, blank, body = self._data.partition(b"\r\n\r\n")
        if blank and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            self._data = b""
            if b'"stream":true' in body:
                self._write(0)
            else:
                self._transport.write(_WHOLE)

    def _write(self, at: int) -> None:
        self._transport.write(_PIECES[at])
        if at + 1 < len(_PIECES):
            asyncio.get_running_loop().call_later(0.001, self._write, at + 1)


async def _serve_upstream(told: Callable[[int], None]) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    told(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class Bare:
    """A proxy that passes everything on and looks at nothing."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._client: aiohttp.ClientSession

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Pass on one request, and what comes back."""
        if scope["type"] == "lifespan":
            await receive()
            self._client = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
            return await send({"type": "lifespan.startup.complete"})
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"] if name != b"host"]
        url = URL(self._upstream + scope["path"], encoded=True)
        async with self._client.request(scope["method"], url, headers=headers, data=body) as response:
            passed = [each for each in response.raw_headers if each[0].lower() != b"transfer-encoding"]
            await send({"type": "http.response.start", "status": response.status, "headers": passed})
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})
        return None


class Spanned(Bare):
    """A bare proxy that makes a plain span of each request: what any instrumentation must pay."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._tracer = _encoding_provider().get_tracer("benchmark")

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Pass on one request, under a span."""
        with self._tracer.start_as_current_span("chat gpt-5-mini", attributes=ATTRIBUTES):
            await super().__call__(scope, receive, send)


def _encoding_provider() -> TracerProvider:
    """Return a provider whose spans are encoded as for a collector, as they come."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(EncodingExporter(), max_queue_size=1 << 16))
    return provider


def _serve_bare(proxy: Bare, told: Callable[[int], None]) -> None:
    listening = listening_at("127.0.0.1", 0, what="bare proxy")
    told(listening.getsockname()[1])
    options: dict[str, Any] = {
        "access_log": False,
        "log_level": "error",
        "http": "httptools",
        "ws": "none",
        "timeout_keep_alive": 300,
    }
    uvicorn.Server(uvicorn.Config(proxy, **options)).run(sockets=[listening])


def _serve_ours(upstream: str, told: Callable[[int], None], *, trajectories: bool) -> None:
    """The gateway as it runs by itself, its spans encoded as for a collector."""
    provider = _encoding_provider()
    settings = spanrelay.Settings(
        trajectories="on" if trajectories else "off", trajectory_directory=tempfile.mkdtemp(), quiet=True
    )
    spanrelay.activate(settings, tracer_provider=provider, instrument=False)
    standing = gateway.start(upstreams={"openai": upstream})
    told(int(standing.address.rpartition(":")[2]))
    threading.Event().wait()


def _tell(port: int) -> None:
    print(port, flush=True)
    threading.Thread(target=_account, daemon=True).start()


def _account() -> None:
    for _ in sys.stdin:
        with open("/proc/self/statm") as pages:
            resident = int(pages.read().split()[1]) * 4096
        print(json.dumps({"cpu": time.process_time(), "resident": resident}), flush=True)


if __name__ == "__main__":
    role, url = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    if role == "upstream":
        asyncio.run(_serve_upstream(_tell))
    elif role.startswith("bare"):
        _serve_bare(Bare(url) if role == "bare" else Spanned(url), _tell)
    else:
        _serve_ours(url, _tell, trajectories=role == "ours-trajectories")
