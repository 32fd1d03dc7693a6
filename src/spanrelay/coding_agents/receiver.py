"""Takes in, on loopback, what a program reports: telemetry by OTLP over HTTP, and hooks, which it answers.

Whoever does not know the secret in the path is refused. Telemetry and hooks have a secret each, since some programs
can be told where to send telemetry only on their command line, which everybody on the machine can read.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
import zlib
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from spanrelay._guard import losses, swallow
from spanrelay.coding_agents.hooks import Unjudged

SIGNALS = ("traces", "logs", "metrics")

MAX_TELEMETRY = 64 << 20
"""Bytes of an export request, unpacked."""

MAX_HOOK = 64 << 20
"""Bytes of a hook."""

_PATIENCE_S = 60.0
"""Seconds within which the next bytes of a request have to come."""

Telemetry = Callable[[str, bytes, str, Mapping[str, str]], None]
"""Is given the signal, the request, its content type and its headers."""

Hook = Callable[[str, bytes], bytes]
"""Is given the agent and the hook, and returns what the hook is to print."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, telemetry: Telemetry, hook: Hook) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.telemetry, self.hook = telemetry, hook
        self.secret = {"otlp": secrets.token_urlsafe(18), "hooks": secrets.token_urlsafe(18)}
        self.busy = 0
        self.changed = threading.Condition()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that goes away is nobody's fault."""

    def server_bind(self) -> None:
        """As `HTTPServer`'s, without asking for the name of the host, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]


class Receiver:
    """Listens from its making on, in threads that end with the process.

    Args:
        telemetry: Is given each export request; what it raises is counted.
        hook: Answers each hook.
    """

    def __init__(self, telemetry: Telemetry, hook: Hook) -> None:
        self._server = _Server(telemetry, hook)
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="spanrelay-receiver", daemon=True
        ).start()

    @property
    def otlp(self) -> str:
        """Where telemetry goes: what `OTEL_EXPORTER_OTLP_ENDPOINT` would be."""
        return f"http://127.0.0.1:{self._server.server_port}/{self._server.secret['otlp']}"

    @property
    def hooks(self) -> str:
        """Where hooks go: the port and the secret."""
        return f"{self._server.server_port}/{self._server.secret['hooks']}"

    def close(self, patience: float = 2.0) -> None:
        """Take in what is under way, for at most `patience` seconds, and stop."""
        server = self._server
        with server.changed:
            server.changed.wait_for(lambda: server.busy == 0, timeout=patience)
        server.shutdown()
        server.server_close()


class _Refused(Exception):
    """A request that is not taken: its status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer waits for the client to confirm what came before it
    timeout = _PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said: stderr is the agent's."""

    def do_POST(self) -> None:
        """Take in a request and answer it."""
        server = cast("_Server", self.server)
        with server.changed:
            server.busy += 1
        try:
            status, body, kind = self._taken(server)
        except _Refused as refused:
            status, body, kind = refused.status, str(refused).encode(), "text/plain"
            self.close_connection = True  # what of the body has not been read would be taken for a request
            losses.add(f"requests refused by the receiver ({refused.status})")
        except Exception as error:
            swallow("taking in what a program reports", error)
            status, body, kind = 500, b"", "text/plain"
            self.close_connection = True
        finally:
            with server.changed:
                server.busy -= 1
                server.changed.notify_all()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _taken(self, server: _Server) -> tuple[int, bytes, str]:
        secret, _, what = self.path.lstrip("/").partition("/")
        if what.startswith("hooks/") and _same(secret, server.secret["hooks"]):
            try:
                answer = server.hook(what.removeprefix("hooks/"), self._body(MAX_HOOK))
            except Unjudged as error:
                raise _Refused(409, str(error)) from None
            return 200, answer, "application/json"
        signal = what.removeprefix("v1/")
        if signal not in SIGNALS or not _same(secret, server.secret["otlp"]):
            raise _Refused(404, "there is nothing here")
        kind = self.headers.get_content_type()
        data = _unpacked(self._body(MAX_TELEMETRY), self.headers.get("Content-Encoding", ""))
        server.telemetry(signal, data, kind, dict(self.headers.items()))
        is_json = kind == "application/json"
        return 200, b"{}" if is_json else b"", kind

    def _body(self, most: int) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks(most)
        try:
            size = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            raise _Refused(400, "expected a number as Content-Length") from None
        if not 0 <= size <= most:
            raise _Refused(413, f"a body may have {most} bytes")
        return self._read(size)

    def _chunks(self, most: int) -> bytes:
        parts: list[bytes] = []
        left = most
        while True:
            try:
                size = int(self.rfile.readline(1 << 10).partition(b";")[0], 16)
            except ValueError:
                raise _Refused(400, "a chunk has no size") from None
            if not 0 <= size <= left:
                raise _Refused(413, f"a body may have {most} bytes")
            if size == 0:
                while self.rfile.readline(1 << 16).strip():  # trailers
                    pass
                return b"".join(parts)
            parts.append(self._read(size))
            self.rfile.readline(16)
            left -= size

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise _Refused(400, "the body was cut off")
        return data


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())


def _unpacked(data: bytes, encoding: str) -> bytes:
    """Return a body as it was before it was compressed."""
    window = {"gzip": 31, "x-gzip": 31, "deflate": 15}.get(encoding.strip().lower())
    if window is None:
        if encoding.strip().lower() not in ("", "identity"):
            raise _Refused(415, f"Content-Encoding {encoding!r} is not known; send gzip, deflate or identity")
        return data
    unpacking = zlib.decompressobj(window)
    try:
        found = unpacking.decompress(data, MAX_TELEMETRY)
    except zlib.error as error:
        raise _Refused(400, f"the body cannot be unpacked as {encoding}: {error}") from None
    if unpacking.unconsumed_tail:
        raise _Refused(413, f"a body may have {MAX_TELEMETRY} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise _Refused(400, f"the body is not one whole stream of {encoding}")
    return found
