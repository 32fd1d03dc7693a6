"""Sends on what a program reports to where its user had it sent: the same bytes, in the order in which they came."""

from __future__ import annotations

import queue
import threading
import urllib.request
from collections.abc import Mapping

from spanrelay._guard import losses
from spanrelay._voice import say
from spanrelay.coding_agents.launching import Onward

_ROOM = 256
"""Requests that may wait."""

_PATIENCE_S = 10.0

_OWN = ("host", "content-length", "connection", "transfer-encoding", "content-encoding", "accept-encoding", "expect")
"""Headers that are of one connection, or that no longer hold of a body that was unpacked."""


class Sender:
    """Sends in a thread of its own: whoever reports never waits for it."""

    def __init__(self, onward: Onward) -> None:
        self._onward = onward
        self._waiting: queue.Queue[tuple[str, bytes, dict[str, str]] | None] = queue.Queue(_ROOM)
        self._failed = ""
        self._thread = threading.Thread(target=self._send_all, name="spanrelay-onward", daemon=True)
        self._thread.start()

    def send(self, signal: str, request: bytes, kind: str, headers: Mapping[str, str]) -> None:
        """Send an export request on, where its signal went somewhere; one for which there is no room is counted."""
        url = self._onward.urls.get(signal)
        if url is None:
            return
        kept = {name: value for name, value in headers.items() if name.lower() not in _OWN}
        try:
            self._waiting.put_nowait((url, request, {**kept, **self._onward.headers, "Content-Type": kind}))
        except queue.Full:
            losses.add("export requests that were not sent on")

    def close(self) -> None:
        """Send what waits, for some seconds, and tell where that failed."""
        try:
            self._waiting.put(None, timeout=_PATIENCE_S)
            self._thread.join(_PATIENCE_S)
        except queue.Full:
            pass
        if self._failed:
            say(f"telemetry could not be sent on: {self._failed}")

    def _send_all(self) -> None:
        while (item := self._waiting.get()) is not None:
            url, body, headers = item
            try:
                request = urllib.request.Request(url, body, headers, method="POST")
                with urllib.request.urlopen(request, timeout=_PATIENCE_S) as response:
                    response.read()
            except (OSError, ValueError) as error:
                self._failed = f"{url.partition('?')[0]}: {error}"
                losses.add("export requests that were not sent on")
