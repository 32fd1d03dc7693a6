"""Anthropic's Messages API for tests, as far as Claude Code uses it: a real server on 127.0.0.1 that streams.

A script answers each request by the blocks of the model's message; what was asked is kept.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Block = dict[str, Any]
Script = Callable[["Asked"], "list[Block] | int"]

USAGE = {"input_tokens": 12, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 1}
"""What a message says when it begins: its output is not counted yet."""
OUTPUT = 7


class Asked:
    """One request for a message."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    @property
    def blocks(self) -> list[Block]:
        """Every block of the conversation, whoever said it."""
        found: list[Block] = []
        for message in self.body["messages"]:
            said = message["content"]
            found += said if isinstance(said, list) else [{"type": "text", "text": said}]
        return found

    @property
    def results(self) -> list[str]:
        """What tools gave so far, as the model is told."""
        told = [block.get("content") for block in self.blocks if block.get("type") == "tool_result"]
        return [one if isinstance(one, str) else " ".join(each.get("text", "") for each in one or ()) for one in told]

    @property
    def system(self) -> str:
        """The instructions."""
        return json.dumps(self.body.get("system", ""))

    def says(self, text: str) -> bool:
        """Whether the conversation has `text` in it."""
        return any(text in block.get("text", "") for block in self.blocks)


def text(said: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": said}


def use(name: str, arguments: dict[str, Any], call_id: str | None = None) -> Block:
    """A block that asks for a tool."""
    return {"type": "tool_use", "id": call_id or f"toolu_{name}", "name": name, "input": arguments}


class Provider(ThreadingHTTPServer):
    """The server; a context manager. A script that gives a number is an error of that status."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.asked: list[Asked] = []
        self.hold: threading.Event | None = None
        """Where set, answers begin and wait for it before they end."""
        self.waiting = threading.Event()
        self.numbers = itertools.count(1)

    @property
    def address(self) -> str:
        """What `ANTHROPIC_BASE_URL` is to be."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Provider:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.hold is not None:
            self.hold.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go away; that is its right."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._reply(b"", "text/plain")

    def do_GET(self) -> None:
        self._reply(b"{}", "application/json", 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
            self._reply(b'{"input_tokens": 10}', "application/json")
            return
        server: Any = self.server
        asked = Asked(body)
        server.asked.append(asked)
        blocks = server.script(asked)
        if isinstance(blocks, int):
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
            self._reply(json.dumps(error).encode(), "application/json", blocks)
            return
        self._stream([_sse(event) for event in events(f"msg_{next(server.numbers):04d}", body["model"], blocks)])

    def _stream(self, chunks: list[bytes]) -> None:
        server: Any = self.server
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(sum(map(len, chunks))))
        self.end_headers()
        with contextlib.suppress(OSError):
            if server.hold is not None and len(chunks) > 4:
                self.wfile.write(b"".join(chunks[:3]))
                self.wfile.flush()
                server.waiting.set()
                server.hold.wait(30)
                chunks = chunks[3:]
            self.wfile.write(b"".join(chunks))

    def _reply(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def events(message_id: str, model: str, blocks: list[Block]) -> list[dict[str, Any]]:
    """The events by which the provider streams a message."""
    asks = any(block["type"] == "tool_use" for block in blocks)
    message = {"id": message_id, "type": "message", "role": "assistant", "model": model, "content": []}
    found: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": USAGE}}
    ]
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            begun, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            begun = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        found += [
            {"type": "content_block_start", "index": index, "content_block": begun},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    stop = {"stop_reason": "tool_use" if asks else "end_turn", "stop_sequence": None}
    return [
        *found,
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": OUTPUT}},
        {"type": "message_stop"},
    ]


def _sse(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
