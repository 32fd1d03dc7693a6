"""A server that documents are posted to: it remembers what it takes, and answers what it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Post(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def name(self) -> str:
        return self.headers["ce-subject"]


class Receiver:
    """The server; `status` is what it answers, and `bodies` what it has of each document that it took."""

    def __init__(self, port: int = 0) -> None:
        self.posts: list[Post] = []
        self.bodies: dict[str, bytes] = {}
        self.status, self.headers, self.said = 204, dict[str, str](), b""
        self.open = threading.Event()
        self.open.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/trajectories"

    def _handler(self) -> Any:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        headers = {name.lower(): value for name, value in request.headers.items()}
        post = Post(request.path, headers, body, self.status)
        self.posts.append(post)
        self.open.wait(60)
        if post.status < 300:
            if headers["ce-type"].endswith("removed"):
                self.bodies.pop(post.name, None)
            else:
                self.bodies[post.name] = body
        request.send_response(post.status)
        said = self.said if post.status != 204 else b""
        for name, value in {**self.headers, "content-length": str(len(said))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(said)

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.open.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()
