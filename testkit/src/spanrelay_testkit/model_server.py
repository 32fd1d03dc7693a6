"""A model provider for tests: a real HTTP/1.1 server on 127.0.0.1 that speaks the APIs of OpenAI and of many others.

It knows the wire only: no SDK is imported here, so that any client of any version can be tested against it.

    with ModelServer(script=[reply("Hello"), error(429)]) as server:
        client = openai.OpenAI(base_url=server.url, api_key="none")

`python -m spanrelay_testkit.model_server --port 8080 --script weather` runs it alone.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import re
import socket
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from spanrelay_testkit import (
    chat_wire,
    cohere_wire,
    completions_wire,
    converse_wire,
    embeddings_wire,
    gemini_wire,
    messages_wire,
    ollama_wire,
    responses_wire,
)
from spanrelay_testkit.exchange import (
    Answer,
    Raw,
    Reply,
    Request,
    ToolCall,
    Usage,
    error,
    error_body,
    raw,
    reply,
    tool_call,
)
from spanrelay_testkit.model_scripts import SCRIPTS, Script, echo

__all__ = [
    "Answer",
    "ModelServer",
    "Raw",
    "Reply",
    "Request",
    "ToolCall",
    "Usage",
    "error",
    "raw",
    "reply",
    "tool_call",
]

WIRES: dict[str, Any] = {
    "agents/completions": chat_wire,
    "chat/completions": chat_wire,
    "responses": responses_wire,
    "completions": completions_wire,
    **dict.fromkeys(("chat", "embed", "rerank"), cohere_wire),
    **dict.fromkeys(("api/chat", "api/embed", "api/generate"), ollama_wire),
    "messages": messages_wire,
    "converse": converse_wire,
    "invoke": converse_wire,
    "generateContent": gemini_wire,
    "streamGenerateContent": gemini_wire,
}
MODELS = ("gpt-5", "gpt-5-mini", "text-embedding-3-small")
EVENT_STREAM = "text/event-stream"
PATIENCE = 30.0
"""Seconds after which a held answer goes on by itself, so that a broken test ends."""


class ModelServer:
    """The server; a context manager that listens from `__enter__` to `__exit__`.

    Args:
        script: Answers one by one, or a function from request to answer; by default the model echoes.
            It is asked on every POST. A script that raises or has run out gives a 400 that says so.
        port: 0 takes a free one.
        record: Whether to keep what arrives in `requests`; off for long benchmarks.
    """

    def __init__(self, script: Script | Sequence[Answer] | None = None, *, port: int = 0, record: bool = True) -> None:
        self.requests: list[Request] = []
        self._record = record
        self._answer = echo if script is None else script if callable(script) else in_order(script)
        self._counts: Counter[str] = Counter()
        self._responses: dict[str, Any] = {}
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._http = Listener(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._http.serve, daemon=True)

    @property
    def address(self) -> str:
        """Scheme, host and port; an `azure_endpoint`."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def url(self) -> str:
        """The `base_url` of OpenAI clients."""
        return f"{self.address}/v1"

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self.closing.set()
        self._http.wake()
        self._thread.join()
        self._http.server_close()
        self._http.drop_connections()

    def answer(self, request: Request) -> Reply | Raw:
        """Record the request and find the answer to it."""
        with self._lock:
            if self._record:
                self.requests.append(request)
        if request.method == "GET":
            return self._look_up(request)
        if request.method != "POST":
            return error(405, error_body(f"{request.method} is not served here"))
        try:
            answer = self._answer(request)
            if not isinstance(answer, Reply | Raw):
                raise TypeError(f"{answer!r} is not an answer; expected reply(...), error(...) or raw(...)")
            return answer
        except Exception as failure:
            return error(400, error_body(f"the test's script failed: {failure!r}"))

    def number(self, api: str) -> int:
        """The next number of an answer of this API, from 1."""
        with self._lock:
            self._counts[api] += 1
            return self._counts[api]

    def keep_response(self, body: dict[str, Any]) -> None:
        """Remember a stored response, so that it can be retrieved by id."""
        if self._record:
            self._responses[body["id"]] = body

    def _look_up(self, request: Request) -> Raw:
        told = {"object": "model", "created": 0, "owned_by": "testkit"}
        told |= {"type": "base", "capabilities": {}}  # in Mistral's
        models = {name: {"id": name, **told} for name in MODELS}
        if request.api == "models" and request.item is None:
            return raw(json.dumps({"object": "list", "data": list(models.values())}).encode())
        if request.path.endswith("/api/tags"):
            return raw(b'{"models": []}')
        found = {"models": models, "responses": self._responses}.get(request.api, {}).get(request.item or "")
        if found is None:
            return error(404, error_body(f"there is no {request.path!r} here", code="not_found"))
        return raw(json.dumps(found).encode())


def in_order(answers: Sequence[Answer]) -> Script:
    """A script that gives the answers one after the other."""
    left = iter(list(answers))
    lock = threading.Lock()

    def following(request: Request) -> Answer:
        with lock:
            answer = next(left, None)
        if answer is None:
            raise LookupError(f"the script has {len(answers)} answers and this request came after them")
        return answer

    return following


class Listener(HTTPServer):
    """One thread for each connection; knows them, so that it can drop them."""

    request_queue_size = 1024  # hundreds of clients may connect at once
    daemon_threads = True

    def __init__(self, address: tuple[str, int], server: ModelServer) -> None:
        self.model_server = server
        self._connections: dict[socket.socket, threading.Thread] = {}
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's reverse lookup of the host name, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def serve(self) -> None:
        """Serve until the model server closes."""
        # serve_forever looks for its end at intervals, which closing would wait out.
        while not self.model_server.closing.is_set():
            self.handle_request()

    def wake(self) -> None:
        """Let `serve` look whether it has come to its end."""
        with contextlib.suppress(OSError):  # it does not listen any more
            socket.create_connection((self.server_name, self.server_port)).close()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take no connection that came to the end."""
        return not self.model_server.closing.is_set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection on its own thread."""
        thread = threading.Thread(target=self._serve, args=(request, client_address), daemon=True)
        self._connections[request] = thread
        thread.start()

    def _serve(self, connection: socket.socket, client_address: Any) -> None:
        try:
            with contextlib.suppress(OSError):  # the client may go away; that is its right
                self.finish_request(connection, client_address)
        finally:
            self.shutdown_request(connection)
            self._connections.pop(connection, None)

    def drop_connections(self) -> None:
        """End every open connection and wait for its thread."""
        for connection, thread in list(self._connections.items()):
            with contextlib.suppress(OSError):  # it may have ended by itself meanwhile
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(5)


class Handler(BaseHTTPRequestHandler):
    """Reads one request after the other from a connection and writes the answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def provider(self) -> ModelServer:
        """The server that knows the answers."""
        return cast(Listener, self.server).model_server

    def do_POST(self) -> None:
        """Answer whatever the method is; `do_GET` and the others are the same function."""
        answer = self.provider.answer(request := self._read())
        if isinstance(answer, Raw):
            self._deliver_raw(answer)
        else:
            self._deliver_reply(answer, request)

    do_GET = do_DELETE = do_PUT = do_PATCH = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: stderr belongs to the test."""

    def _read(self) -> Request:
        chunked = "chunked" in self.headers.get("transfer-encoding", "")
        content = b"".join(self._chunks()) if chunked else self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(content) if content else None
        except ValueError:
            body = None
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.command, unquote(parts.path), dict(parse_qsl(parts.query)), headers, content, body)

    def _chunks(self) -> Iterator[bytes]:
        """Read a body whose length nobody knew."""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass

    def _deliver_raw(self, answer: Raw) -> None:
        if answer.cuts is not None:
            self._stream(answer, cut(answer.content, answer.cuts), answer.status, answer.content_type)
        elif EVENT_STREAM in answer.content_type:
            self._stream(answer, recorded_events(answer.content), answer.status, answer.content_type)
        else:
            self._whole(answer, answer.content, answer.status, answer.content_type)

    def _deliver_reply(self, answer: Reply, request: Request) -> None:
        if request.api == "embeddings":
            return self._json(answer, embeddings_wire.body(request))
        if request.api == "batchEmbedContents":
            return self._json(answer, gemini_wire.embeddings(request))
        wire = WIRES.get(request.api)
        if wire is None or not isinstance(request.body, dict):
            return self._deliver_raw(
                error(404 if wire is None else 400, error_body(f"no model answers {request.path!r}"))
            )
        number = self.provider.number(request.api)
        if request.api == "responses":
            self.provider.keep_response(responses_wire.body(answer, request, number))
        if request.streamed:
            kind = getattr(wire, "CONTENT_TYPE", f"{EVENT_STREAM}; charset=utf-8")
            return self._stream(answer, wire.events(answer, request, number), 200, kind)
        return self._json(answer, wire.body(answer, request, number))

    def _json(self, answer: Answer, body: dict[str, Any]) -> None:
        self._whole(answer, json.dumps(body, separators=(",", ":")).encode(), 200, "application/json")

    def _whole(self, answer: Answer, content: bytes, status: int, content_type: str) -> None:
        self._wait(answer)
        content = gzip.compress(content, mtime=0) if answer.gzip else content
        head = self._head(answer, status, content_type, f"content-length: {len(content)}")
        if answer.cut_after is None:
            self.wfile.write(head + content)
        else:
            self.wfile.write(head + content[: answer.cut_after])
            self._drop()

    def _stream(self, answer: Answer, events: Iterable[bytes], status: int, content_type: str) -> None:
        encode = event_encoder(answer.gzip)
        self.wfile.write(self._head(answer, status, content_type, "transfer-encoding: chunked"))
        for at, event in enumerate(events):
            if at == answer.cut_after:
                break
            if at == answer.hold_after:
                self._wait(answer)
            self._chunk(encode(event))
        if answer.cut_after is not None:
            self._drop()
        else:
            self._chunk(encode(None))
            self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        if data:  # an empty chunk would end the body
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _head(self, answer: Answer, status: int, content_type: str, framing: str) -> bytes:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Scripted"
        lines = [f"HTTP/1.1 {status} {phrase}", f"content-type: {content_type}", framing]
        lines += ["content-encoding: gzip"] if answer.gzip else []
        lines += [f"x-request-id: req_{self.provider.number('http')}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    def _wait(self, answer: Answer) -> None:
        """Wait for the answer's event, but not longer than the server lives."""
        waited = 0.0
        while answer.hold is not None and not answer.hold.wait(0.02) and waited < PATIENCE:
            waited += 0.02
            if self.provider.closing.is_set():
                return

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def event_encoder(compressed: bool) -> Callable[[bytes | None], bytes]:
    """A function from event to bytes for the wire; None asks for what ends the stream."""
    if not compressed:
        return lambda event: event or b""
    squeeze = zlib.compressobj(wbits=31)  # 31 = deflate in a gzip wrapper

    def encode(event: bytes | None) -> bytes:
        if event is None:
            return squeeze.flush()
        return squeeze.compress(event) + squeeze.flush(zlib.Z_SYNC_FLUSH)

    return encode


def recorded_events(content: bytes) -> Iterator[bytes]:
    """A recorded stream, event by event, byte for byte."""
    yield from re.findall(rb".+?(?:\r?\n\r?\n|\Z)", content, re.DOTALL)


def cut(content: bytes, at: Sequence[int]) -> Iterator[bytes]:
    """`content` in pieces that end at the bytes `at`."""
    for start, stop in pairwise([0, *sorted(at), len(content)]):
        yield content[start:stop]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is interrupted; its URL is the first line on stdout."""
    parser = argparse.ArgumentParser(prog="spanrelay_testkit.model_server", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--script", choices=sorted(SCRIPTS), default="echo")
    options = parser.parse_args(argv)
    with ModelServer(SCRIPTS[options.script], port=options.port, record=False) as server:
        print(server.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.closing.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
