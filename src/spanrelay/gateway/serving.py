"""Runs a gateway on a thread of its own: started, asked for its addresses, stopped when what is on its way is over."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Mapping

import uvicorn
from opentelemetry.context import Context
from opentelemetry.trace import TracerProvider

from spanrelay.errors import ConfigurationError
from spanrelay.gateway.app import App
from spanrelay.gateway.limits import Limits
from spanrelay.gateway.listening import is_loopback, listening_at
from spanrelay.gateway.protocol import Protocol
from spanrelay.gateway.upstreams import Upstreams

_BACKLOG = 1024
_IDLE_SECONDS = 300
"""How long a connection may be idle: longer than clients keep one, so that none asks on one that is just closed."""


def new_secret() -> str:
    """Return a secret that nobody guesses, of letters that a URL may have."""
    return secrets.token_urlsafe(18)


class Gateway:
    """A gateway at work. Made by `start`."""

    def __init__(self, app: App, listening: socket.socket, upstreams: Upstreams, secret: str | None) -> None:
        self._app, self._socket, self._upstreams = app, listening, upstreams
        self._host, self._port = listening.getsockname()[:2]
        self._below = "" if secret is None else f"/r/{secret}"
        config = uvicorn.Config(
            app,
            loop="auto",
            http=Protocol,
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            log_level="critical",  # it would warn of upgrades that are refused, and of answers that are cut
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_IDLE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="spanrelay-gateway", daemon=True)
        self._failure: BaseException | None = None

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def upstreams(self) -> Mapping[str, str]:
        """The upstreams' own base URLs by name."""
        return {each.name: each.base for each in self._upstreams}

    @property
    def exchanges(self) -> int:
        """How many requests are being answered."""
        return self._app.exchanges

    def base_url(self, upstream: str | None = None) -> str:
        """Return the base URL that a client is given in place of the upstream's own.

        Without an `upstream`, requests are told apart by their paths, as a provider's API has them: `/v1/messages`.
        """
        return f"{self.address}{self._below}" + ("" if upstream is None else f"/{upstream}")

    def stop(self, seconds: float = 5.0) -> bool:
        """Take no more requests, wait for those that are being answered, and end; again does nothing.

        Args:
            seconds: How long to wait; then they are cut.

        Returns:
            Whether all of them came to their end.
        """
        self._server.config.timeout_graceful_shutdown = max(1, int(seconds))
        self._server.should_exit = True
        self._thread.join(seconds + 2.0)
        return not self._thread.is_alive() and self._app.exchanges == 0

    def _begin(self) -> None:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.005)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException as error:  # told by whoever starts it
            self._failure = error
        finally:
            self._socket.close()


def start(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    secret: str | None = None,
    upstreams: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    around: Context | None = None,
    tracer_provider: TracerProvider | None = None,
) -> Gateway:
    """Start a gateway on a thread of its own, and return when it listens.

    Args:
        host: The address to listen at.
        port: The port; 0 takes a free one.
        secret: What every request must know, by its path (see `Gateway.base_url`) or the header `x-spanrelay-token`.
        upstreams: Base URLs by name, as a provider's SDK takes them; `openai`, `anthropic` and `gemini` are there.
        limits: What requests may take.
        around: The context that every exchange is under: a parent span, a session, a user.
        tracer_provider: Opens the spans; by default the one that `activate()` was given, else the global one.

    Raises:
        ConfigurationError: an upstream is not a base URL, nobody can listen there, or the address can be reached from
            elsewhere and there is no secret.
    """
    if secret is None and not is_loopback(host):
        raise ConfigurationError(
            f"the gateway would listen at {host!r}, where other machines reach it: give it a token, or listen at "
            "127.0.0.1"
        )
    found = Upstreams(upstreams)
    app = App(found, limits or Limits(), secret=secret, around=around, tracer_provider=tracer_provider)
    gateway = Gateway(app, listening_at(host, port, what="gateway"), found, secret)
    gateway._begin()
    return gateway
