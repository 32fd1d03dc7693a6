"""What a server's answer means where it does not take what is sent, and what to do."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple

from spanrelay import config
from spanrelay.doctor.findings import Finding
from spanrelay.doctor.hiding import address
from spanrelay.exporters.outbox import Answer

PATIENCE_S = 2.0
"""Seconds within which a port has to answer."""


NOUNS = {"traces": "spans", "metrics": "metrics", "logs": "logs"}
"""What is sent of each signal."""


class Place(NamedTuple):
    """Where OTLP goes: by which protocol, to which host and port, and the address as it may be shown."""

    protocol: str
    host: str
    port: int
    shown: str
    secure: bool

    @property
    def url(self) -> str:
        """The address without its path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"


class Sender(NamedTuple):
    """An exporter of OTLP that a program would have: its signal, where it sends, and what builds it.

    `place` is None where the endpoint is not an address. `of_file`: a file of `OTEL_CONFIG_FILE` asks for it.
    """

    signal: str
    place: Place | None
    build: Callable[[], Any]
    of_file: bool = False


class Meaning(NamedTuple):
    """What an answer that is like a pattern means, and what to do."""

    pattern: re.Pattern[str]
    why: str
    cure: str


def _meaning(pattern: str, why: str, cure: str) -> Meaning:
    return Meaning(re.compile(pattern, re.IGNORECASE), why, cure)


_LOST = "wait in memory, and what is left at the end of the program is lost"

_NOT_TAKEN = re.compile(r"answered (?:40[45]|UNIMPLEMENTED)")

_MEANINGS = (
    _meaning(
        r"answered (?:401|UNAUTHENTICATED)",
        "the key is missing or not known there",
        "set it: OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20KEY, as that server asks for it",
    ),
    _meaning(
        r"answered (?:403|PERMISSION_DENIED)",
        "the key is known there and may not write",
        "ask for a key that may write traces, or set the project or tenant header that the server asks for",
    ),
    _meaning(
        r"answered 407|407 Proxy",
        "the proxy does not let this program through without a name and a password",
        "HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT, or HTTP_PROXY for an endpoint without TLS",
    ),
    _meaning(
        r"answered 3\d\d",
        "a redirect that would lose or leak what is sent is not followed",
        "set the endpoint to where it leads, if that is the right address",
    ),
    _meaning(
        r"answered (?:40[45]|UNIMPLEMENTED)",
        "a server is there and takes no traces at this path",
        "OTEL_EXPORTER_OTLP_ENDPOINT gets /v1/traces added; OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is taken as it is, "
        "and has to end in /v1/traces",
    ),
    _meaning(
        r"answered 413|larger than max", "the server takes smaller requests only", "raise its limit to 4 MB or more"
    ),
    _meaning(
        r"answered (?:429|RESOURCE_EXHAUSTED)",
        "the server asks to be left in peace for a while",
        "send less, or raise its quota",
    ),
    _meaning(
        r"answered (?:400|422|INVALID_ARGUMENT)",
        "the server does not take this content",
        "check that it is an OTLP receiver, and its version",
    ),
    _meaning(
        r"answered 5\d\d",
        "the server, or what is behind it, fails",
        "look at the server's log; the address may be right",
    ),
    _meaning(
        r"web page|in gRPC", "what answers there is not an OTLP receiver", "check host, port and path of the endpoint"
    ),
    _meaning(
        r"certificate.?verify|certificate is not|self.signed|hostname mismatch",
        "the server's certificate is not trusted, or is for another name",
        "name its authority: OTEL_EXPORTER_OTLP_CERTIFICATE=ca.pem",
    ),
    _meaning(
        r"wrong.version|record.layer|unknown protocol|\[SSL|handshake",
        "one side speaks TLS and the other does not",
        "use http:// for a server without TLS, https:// for one with it",
    ),
    _meaning(
        r"name or service|name resolution|nodename|getaddrinfo|DNS|not known|lookup (?:error|failed)",
        "the name of the host is not known here",
        "check how it is spelt, and whether the name is known in this network or container",
    ),
    _meaning(r"refused", "nobody listens there", "start the collector, or set the endpoint to where it is"),
    _meaning(
        r"timed? ?out|DEADLINE|unreachable",
        "the host does not answer in time",
        "check firewall, network and proxy; OTEL_EXPORTER_OTLP_TIMEOUT sets the time",
    ),
)
"""The first that fits counts."""

_OTHER = ("the answer is not that of an OTLP receiver", "check host, port and protocol of the endpoint")


_IN_FILES = {
    "OTEL_EXPORTER_OTLP_ENDPOINT gets /v1/traces added; OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "`endpoint` of the file",
    "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20KEY": "`headers_list: authorization=Bearer KEY` in the file",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "`timeout` of the file",
    "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf": "`otlp_http` in the file",
    "OTEL_EXPORTER_OTLP_PROTOCOL=grpc": "`otlp_grpc` in the file",
}
"""How a file of `OTEL_CONFIG_FILE` says what variables say in a cure."""


def refused(sender: Sender, place: Place, answer: Answer) -> Finding:
    """Say what is wrong where a request was not taken."""
    noun = NOUNS[sender.signal]
    what = f"{'' if sender.signal == 'traces' else f'{noun} to '}{place.shown} by {place.protocol}: {answer.reason}"
    if sender.signal != "traces" and _NOT_TAKEN.search(answer.reason):
        return _traces_only(sender, what)
    mixed = _mixed(place, answer)
    if mixed is not None:
        why, cure = mixed
    else:
        found = next((meaning for meaning in _MEANINGS if meaning.pattern.search(answer.reason)), None)
        why, cure = (found.why, found.cure) if found is not None else _OTHER
    if sender.of_file:
        for said, instead in _IN_FILES.items():
            cure = cure.replace(said, instead)
    proxy = config.proxy_of(place.url) if place.protocol != "grpc" else None
    if proxy is not None:
        why += f"; the request went by the proxy {address(proxy)}, which may be who answers"
        cure += "; NO_PROXY names hosts that are reached directly"
    return Finding("fail", what, f"{why}; {noun} {_LOST}", cure)


def _traces_only(sender: Sender, what: str) -> Finding:
    """Say what to do where a server has no place for metrics or logs."""
    noun, variable = NOUNS[sender.signal], sender.signal.upper()
    cure = (
        f"take this exporter out of the file, or set its `endpoint` to a server that takes {noun}"
        if sender.of_file
        else f"OTEL_{variable}_EXPORTER=none, or OTEL_EXPORTER_OTLP_{variable}_ENDPOINT of a server that takes {noun}, "
        f"which over HTTP has to end in /v1/{sender.signal}"
    )
    return Finding("warn", what, f"that server takes no {noun}, as many that show traces; they are lost", cure)


def _mixed(place: Place, answer: Answer) -> tuple[str, str] | None:
    """Say that the protocol is the other one's, or that the other one's port is open; None where neither is so."""
    other_protocol, other_port = ("http/protobuf", 4318) if place.protocol == "grpc" else ("grpc", 4317)
    refused = re.search("refused|UNAVAILABLE", answer.reason) is not None
    if not place.secure and (speaks := spoken_at(place.host, place.port)) is not None:
        wanted = "grpc" if speaks == "HTTP/2" else "http/protobuf"
        if wanted != place.protocol and not re.search(r"answered \d", answer.reason):
            return (
                f"port {place.port} speaks {speaks}, which is {wanted}, and the exporter {place.protocol}",
                f"OTEL_EXPORTER_OTLP_PROTOCOL={wanted}, or the port of {place.protocol}, "
                f"{4317 if place.protocol == 'grpc' else 4318} as a rule",
            )
    elif not place.secure and speaks_tls(place.host, place.port):
        return (
            f"port {place.port} speaks TLS, and the exporter does not",
            "write https:// in front of the endpoint",
        )
    elif refused and place.port != other_port and spoken_at(place.host, other_port) is not None:
        return (
            f"nobody listens at port {place.port}, and somebody does at {other_port}, the port of {other_protocol}",
            f"set the endpoint to port {other_port} and OTEL_EXPORTER_OTLP_PROTOCOL={other_protocol}",
        )
    return None


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client begins that speaks HTTP/2, with empty settings."""

_SETTINGS = 4
"""The kind of the frame with which a server that speaks it answers."""

_HEAD = b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def spoken_at(host: str, port: int) -> str | None:
    """Return `HTTP/2` or `HTTP/1`, as a port without TLS answers; None where nobody does, or speaks neither."""
    head = _heard(host, port, _PREFACE)
    if len(head) > 3 and head[3] == _SETTINGS:
        return "HTTP/2"
    return "HTTP/1" if head and _heard(host, port, _HEAD).startswith(b"HTTP/1") else None


def speaks_tls(host: str, port: int) -> bool:
    """Whether a port takes up TLS, whoever its certificate says it is."""
    try:
        with (
            socket.create_connection((host, port), PATIENCE_S) as connection,
            unchecked().wrap_socket(connection, server_hostname=host),
        ):
            return True
    except (OSError, ValueError):
        return False


def unchecked() -> ssl.SSLContext:
    """Return a context for a question that says nothing and whose answer proves nothing."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _heard(host: str, port: int, said: bytes) -> bytes:
    """Return how the answer to a few bytes begins; nothing where there is none."""
    try:
        with socket.create_connection((host, port), PATIENCE_S) as connection:
            connection.settimeout(PATIENCE_S)
            connection.sendall(said)
            return connection.recv(9)
    except OSError:
        return b""
