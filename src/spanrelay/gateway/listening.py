"""Addresses to listen at: bound before anything is started, so that what is wrong is said at once."""

from __future__ import annotations

import errno
import ipaddress
import socket

from spanrelay.errors import ConfigurationError


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening_at(host: str, port: int, *, what: str) -> socket.socket:
    """Return a socket that is bound; `what` is what listens, for the error.

    Raises:
        ConfigurationError: nobody can listen there.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio sends at once (TCP_NODELAY) only where the socket names its protocol; else each answer on a connection
        # that is kept waits some 40 ms for the client to confirm what came before.
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, port))
        except BaseException:
            found.close()
            raise
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"the {what} cannot listen at {host}:{port}: {_why(error)}") from error
    return found


def _why(error: OSError | OverflowError) -> str:
    if isinstance(error, OverflowError):
        return "expected a port from 0 to 65535"
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; end it, or choose another port"
    return error.strerror or str(error)
