"""The pages of a folder over HTTP, as they are at the moment, for whoever is at this machine and knows their address.

Loopback alone, with a secret in the address; a request under any other name of this machine is refused, so that no
site in the browser can reach it by a name of its own. It only gives: there is nothing that a request could change.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from spanrelay._guard import swallow
from spanrelay.assembly.atif import Trajectory
from spanrelay.errors import ConfigurationError
from spanrelay.view import document, page
from spanrelay.view.beside import Beside
from spanrelay.view.facts import visible
from spanrelay.view.folder import Folder
from spanrelay.view.live import Live, Run, State, state_of

LINES = 500
"""Runs of the index: those that changed last."""

HOST = "127.0.0.1"
_UNFINISHED: dict[State, str] = {
    "growing": "not finished: this page grows with it",
    "left unfinished": "left unfinished, as its program is gone: `spanrelay recover` finishes it",
}
_PATIENCE_S = 30.0
"""Seconds within which a request has to come."""


@dataclass(slots=True)
class Answer:
    """What a request is answered: its status, what tells this content from later content, and the content."""

    status: int
    tag: str = ""
    body: bytes = b""


@dataclass(slots=True)
class Pages:
    """The pages of a folder by their paths: the index at the root, and a number for each run."""

    live: Live
    _runs: list[str] = field(default_factory=list[str])
    _numbers: dict[str, int] = field(default_factory=dict[str, int])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, tag: str | None) -> Answer:
        """Return a page; no content where it is the one that has the tag."""
        with self._lock:  # one at a time: a long page takes memory
            if not path:
                return self._index(tag)
            number = int(path) if path.isdecimal() and len(path) < 10 else 0
            return self._page(self._runs[number - 1], tag) if 0 < number <= len(self._runs) else _missing(path)

    def _index(self, tag: str | None) -> Answer:
        runs, count = self.live.newest(LINES)
        now = _tag((self.live.folder, count, [(run.place, run.stamp) for run, _ in runs]))
        if tag == now:
            return Answer(304, now)
        folder = Folder()
        for run, entry in runs:
            if isinstance(entry, str):
                folder.add_fault(run.path.name, entry)
            else:
                folder.add(entry, run.path.name, str(self._number(run)), state_of(run))
        name = str(self.live.folder) + (f" (the newest {len(runs)} of {count:,})" if count > len(runs) else "")
        return _rendered(now, page.render("folder.html", live=True, page=folder.page(name)))

    def _page(self, place: str, tag: str | None) -> Answer:
        run = self.live.run_at(place)
        now = _tag(run.stamp)
        if tag == now:
            return Answer(304, now)
        found = self.live.document(run)
        if not isinstance(found, Trajectory):
            return Answer(404, body=f"{visible(found)}\n".encode())
        shown = document.read(found, run.path, Beside(run.path, self.live.read))
        if state := state_of(run):
            shown.remarks.insert(0, _UNFINISHED[state])
        return _rendered(now, page.render("document.html", live=True, page=shown))

    def _number(self, run: Run) -> int:
        """The number of a run, which stays the same: its name is no part of an address."""
        if run.place not in self._numbers:
            self._runs.append(run.place)
            self._numbers[run.place] = len(self._runs)
        return self._numbers[run.place]


def _tag(what: object) -> str:
    return f'"{hashlib.sha256(repr(what).encode("utf-8", "replace")).hexdigest()[:32]}"'


def _rendered(tag: str, pieces: Iterable[bytes]) -> Answer:
    return Answer(200, tag, b"".join(pieces))


def _missing(path: str) -> Answer:
    return Answer(404, body=f"there is no page {visible(path)!r}; the index is at ./\n".encode())


class Site:
    """Serves from its making on, in threads that end with the process.

    Args:
        port: Of 127.0.0.1; 0 takes a free one.

    Raises:
        ConfigurationError: nobody can listen there, or no page can be made.
    """

    def __init__(self, live: Live, port: int = 0) -> None:
        page.check()
        try:
            self._server = _Server(Pages(live), port)
        except (OSError, OverflowError) as error:
            words = error.strerror or str(error) if isinstance(error, OSError) else "expected a port from 0 to 65535"
            raise ConfigurationError(f"nothing can listen at {HOST}:{port}: {words}") from error
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="spanrelay-site", daemon=True).start()

    @property
    def address(self) -> str:
        """Where the index is. Whoever knows it can read everything."""
        return f"http://{HOST}:{self._server.server_port}/{self._server.secret}/"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pages: Pages, port: int) -> None:
        super().__init__((HOST, port), _Handler)
        self.pages = pages
        self.secret = secrets.token_urlsafe(24)
        self.names = {f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is nobody's fault."""

    def server_bind(self) -> None:
        """As `HTTPServer`'s, without asking for the name of the host, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, self.server_address[1]

    def answer(self, path: str, host: str, tag: str | None) -> Answer:
        """Return what a request is answered."""
        if host not in self.names:
            return Answer(403, body=b"refused: expected the address that `spanrelay watch --web` printed\n")
        secret, slash, rest = path.partition("?")[0].lstrip("/").partition("/")
        if not slash or not hmac.compare_digest(secret.encode("utf-8", "surrogateescape"), self.secret.encode()):
            return Answer(403, body=b"refused: open the whole address that `spanrelay watch --web` printed\n")
        return self.pages.answer(rest, tag)


class _Handler(BaseHTTPRequestHandler):
    """Takes one request of each connection: one that is kept would be answered still when the site is closed."""

    timeout = _PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said: the terminal has other uses."""

    def version_string(self) -> str:
        """Say what serves, and not of which version."""
        return "spanrelay"

    def do_GET(self) -> None:
        """Answer with a page."""
        server = cast("_Server", self.server)
        try:
            found = server.answer(self.path, self.headers.get("Host", ""), self.headers.get("If-None-Match"))
        except Exception as error:
            swallow("showing a run", error)
            found = Answer(500, body=b"this run cannot be shown; the terminal says why\n")
        self.send_response(found.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        kind = "html" if found.status == 200 else "plain"
        self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(found.body)))
        if found.tag:
            self.send_header("ETag", found.tag)
        self.end_headers()
        self.wfile.write(found.body)


_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What no page can say of itself: nobody else's shows, reads or is told of one. What it may do, it says."""
