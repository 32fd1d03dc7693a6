"""TLS of what listens: its certificate, and the authority that clients have to have theirs from."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanrelay.errors import ConfigurationError


@dataclass(frozen=True)
class Tls:
    """Files of PEM, read at the start.

    Attributes:
        certificate: What is shown to clients, followed by the certificates between it and its authority.
        key: Its key, without a password.
        client_ca: Certificates of authorities; whoever shows none of theirs is not connected. None asks for none.

    Raises:
        ConfigurationError: a file cannot be read, is not PEM, or the key is of another certificate.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, password="")  # else a locked key would ask a terminal
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{str(self.certificate)!r} and {str(self.key)!r} must be a certificate in PEM and its key without a "
                f"password: {_why(error)}"
            ) from error
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ValueError) as error:
                raise ConfigurationError(
                    f"{str(self.client_ca)!r} must have certificates of authorities in PEM: {_why(error)}"
                ) from error

    def for_http(self) -> dict[str, Any]:
        """Return the settings of uvicorn."""
        named: dict[str, Any] = {"ssl_certfile": self.certificate, "ssl_keyfile": self.key}
        if self.client_ca is not None:
            named |= {"ssl_ca_certs": str(self.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return named

    def for_grpc(self) -> Any:
        """Return the credentials of a server of gRPC."""
        import grpc

        pair = self.key.read_bytes(), self.certificate.read_bytes()
        authorities = None if self.client_ca is None else self.client_ca.read_bytes()
        return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)


def _why(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
