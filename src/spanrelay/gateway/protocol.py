"""HTTP/1.1 as uvicorn reads it with httptools, with the body of a request that offers another protocol.

To httptools an `Upgrade` is the end of HTTP, and what follows is nobody's: with `h2c`, which Java's client offers with
each first request, the application would see an empty body. A server may leave the offer aside, and so is it done.
"""

from __future__ import annotations

from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Protocol(HttpToolsProtocol):
    """Reads a request that offers another protocol once more, without the offer; a WebSocket's it leaves to others."""

    def data_received(self, data: bytes) -> None:
        """Read what comes next."""
        self._unset_keepalive_if_required()
        while data:
            try:
                cast("Any", self.parser).feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[cast("int", upgrade.args[0]) :]
                data = b"" if not self._offers() else self._without_offer() + rest
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return

    def on_headers_complete(self) -> None:
        """Begin a request, unless it is to be read once more."""
        if not self._offers():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request, unless it is to be read once more."""
        if not self._offers():
            super().on_message_complete()

    def _offers(self) -> bool:
        parser = cast("Any", self.parser)
        told = [value.lower() for name, value in self.headers if name == b"upgrade"]
        method = parser.get_method()
        if not (told and parser.should_upgrade()) or method == b"CONNECT":
            return False
        return method != b"GET" or b"websocket" not in b",".join(told)

    def _without_offer(self) -> bytes:
        parser = cast("Any", self.parser)
        head = [b"%s %s HTTP/%s" % (parser.get_method(), self.url, parser.get_http_version().encode())]
        head += [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([*head, b"", b""])
