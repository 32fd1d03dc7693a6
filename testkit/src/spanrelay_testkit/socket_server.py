"""A provider that is asked over a WebSocket: answers each message as a script has it, and keeps what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

Script = Callable[[dict[str, Any]], Iterable[dict[str, Any] | None]]
"""Returns the events that answer one of a client's; None among them breaks the connection off."""


class SocketServer:
    """A server on a free port of 127.0.0.1.

    Attributes:
        messages: What clients sent, as it came.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self.messages: list[str | bytes] = []
        self._server: Server

    @property
    def url(self) -> str:
        """The base URL of a provider's WebSocket API."""
        return f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/v1"

    @property
    def events(self) -> list[dict[str, Any]]:
        """What clients sent, as JSON."""
        return [json.loads(message) for message in self.messages]

    def __enter__(self) -> SocketServer:
        self._server = serve(self._talk, "127.0.0.1", 0)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _talk(self, connection: ServerConnection) -> None:
        try:
            for message in connection:
                self.messages.append(message)
                for event in self._script(json.loads(message)):
                    if event is None:
                        connection.socket.close()
                        return
                    connection.send(json.dumps(event))
        except ConnectionClosed:
            return
