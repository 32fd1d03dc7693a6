"""Addresses to listen at: bound before anything is started, so that what is wrong is said at once."""

from __future__ import annotations

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
        found = socket.socket(family, socket.SOCK_STREAM)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, port))
        except BaseException:
            found.close()
            raise
    except OSError as error:
        raise ConfigurationError(f"the {what} cannot listen at {host}:{port}: {error.strerror or error}") from error
    return found
