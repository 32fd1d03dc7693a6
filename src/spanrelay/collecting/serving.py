"""Runs a collector: listens, keeps, gathers, and ends when what was accepted has been written."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanrelay._masking import mask_bytes
from spanrelay.assembly.sinks import remove_unwritten
from spanrelay.collecting.delivery.outlet import Deliveries
from spanrelay.collecting.delivery.targets import Target
from spanrelay.collecting.gatherer import Gatherer
from spanrelay.collecting.grpc import server_of
from spanrelay.collecting.http import App
from spanrelay.collecting.intake import Intake, Shelf
from spanrelay.collecting.listening import serve
from spanrelay.collecting.requests import Taking
from spanrelay.collecting.sessions import Counts, Sessions, Terms
from spanrelay.collecting.tls import Tls
from spanrelay.conversion.documents import Folder
from spanrelay.errors import ConfigurationError
from spanrelay.gateway.listening import is_loopback, listening_at

PLACE = ".spanrelay-collect"
"""The folder beneath the documents' in which requests are kept."""


@dataclass(frozen=True)
class Options(Terms):
    """What a collector is asked to be.

    Attributes:
        folder: Where documents go.
        http: Host and port of OTLP over HTTP, or None; port 0 takes a free one.
        grpc: Those of OTLP over gRPC.
        token: What every request has to know.
        to: Where documents are delivered besides.
        tls: What both speak, and whom they let in; None speaks in the clear.
    """

    folder: Path
    http: tuple[str, int] | None = ("127.0.0.1", 4318)
    grpc: tuple[str, int] | None = ("127.0.0.1", 4317)
    token: str | None = None
    to: tuple[Target, ...] = ()
    tls: Tls | None = None

    @property
    def asks_who(self) -> bool:
        """Whether not everybody is let in who can connect."""
        return self.token is not None or (self.tls is not None and self.tls.client_ca is not None)


class Collector:
    """A collector at work. Made by `start`."""

    def __init__(self, options: Options, listening: socket.socket | None) -> None:
        self._options, self._socket = options, listening
        kept = options.folder / PLACE
        self._intake = Intake(kept, lambda requests: self._gatherer.take(requests))  # first: there may be another
        remove_unwritten(options.folder)
        self._shelf = Shelf(kept)
        self._scratch = tempfile.TemporaryDirectory(prefix="spanrelay-")
        folder = Folder(options.folder, overwrite=True, mask=mask_bytes)
        self._deliveries = Deliveries(options.folder, options.to)
        self._outlet = self._deliveries.outlet("collected")
        self._sessions = Sessions(folder, self._shelf, Path(self._scratch.name), options, outlet=self._outlet)
        self._gatherer = Gatherer(self._sessions)
        self._taking = Taking(self._intake, self._gatherer, options.token)
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Event
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self.grpc_port = 0
        self._thread = threading.Thread(target=self._run, name="spanrelay-collector", daemon=True)

    @property
    def counts(self) -> Counts:
        """What has come, and what became of it."""
        return self._sessions.counts

    @property
    def http_port(self) -> int:
        """Where OTLP over HTTP is taken; 0 where it is not."""
        return 0 if self._socket is None else int(self._socket.getsockname()[1])

    def begin(self) -> None:
        """Read again what was kept, then listen."""
        self._gatherer.start(self._shelf.read_again())
        self._intake.start()
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._close()
            raise self._failure

    def stop(self) -> None:
        """Take nothing more, write every session, and end."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._close()

    def _close(self) -> None:
        self._thread.join()
        self._intake.close()
        self._gatherer.close()
        self._deliveries.close()
        self._outlet.close()
        self._scratch.cleanup()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # told by whoever starts it
            self._failure = error
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        stops: list[Callable[[], Any]] = []
        if self._options.grpc is not None:
            stops.append(await self._serve_grpc(*self._options.grpc))
        if self._socket is not None:
            stops.append(
                await serve(App(self._taking, lambda: self.counts, self._deliveries), self._socket, self._options.tls)
            )
        self._started.set()
        await self._ended.wait()
        for stop in stops:
            await stop()

    async def _serve_grpc(self, host: str, port: int) -> Callable[[], Any]:
        server, tls = server_of(self._taking), self._options.tls
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                self.grpc_port = server.add_insecure_port(place)
            else:
                self.grpc_port = server.add_secure_port(place, tls.for_grpc())
        except RuntimeError as error:
            raise ConfigurationError(f"the collector cannot listen at {host}:{port}: {error}") from error
        await server.start()
        return lambda: server.stop(grace=5.0)


def start(options: Options) -> Collector:
    """Start a collector and return when it listens.

    Raises:
        ConfigurationError: nobody can listen there or write there, or others can connect and nobody asks who they are.
    """
    for place in (options.http, options.grpc):
        if place is not None and not options.asks_who and not is_loopback(place[0]):
            raise ConfigurationError(
                f"the collector would listen at {place[0]!r}, where other machines reach it: give it a token "
                "(--token-variable), have clients show certificates (--tls-client-ca), or listen at 127.0.0.1"
            )
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        listening = None if options.http is None else listening_at(*options.http, what="collector")
        try:
            collector = Collector(options, listening)
        except BaseException:
            if listening is not None:
                listening.close()
            raise
    except OSError as error:
        raise ConfigurationError(f"{str(options.folder)!r} cannot be written to: {error.strerror or error}") from error
    collector.begin()
    return collector
