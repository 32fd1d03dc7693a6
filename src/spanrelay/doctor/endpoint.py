"""Where spans would go, and what is answered there: a span is really sent, by the exporter that a program would use."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.util._importlib_metadata import entry_points

from spanrelay import config
from spanrelay._guard import pass_on
from spanrelay.doctor.findings import Case, Finding
from spanrelay.doctor.hiding import address
from spanrelay.exporters import otlp
from spanrelay.exporters.outbox import Answer, Outcome

SPAN = "spanrelay doctor"
"""What the span is called that is sent."""

PATIENCE_S = 2.0
"""Seconds within which a port has to answer."""

PROTOCOLS: dict[str, str | None] = {
    "otlp": None,
    "otlp_proto_http": "http/protobuf",
    "otlp_proto_grpc": "grpc",
    "spanrelay_otlp": None,
    "spanrelay_otlp_http": "http/protobuf",
    "spanrelay_otlp_grpc": "grpc",
}
"""The exporters that speak OTLP, by name, and the protocol of those that have only one."""

_FILES = ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")


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


def place_of(case: Case, protocol: str) -> Place | None:
    """Return where spans go by a protocol; None where the endpoint is not an address."""
    if protocol != "grpc" and config.refusal_of_endpoint("traces", case.environment) is not None:
        return None
    default = "http://localhost:4317" if protocol == "grpc" else "http://localhost:4318"
    given = config.otlp_endpoint("traces", case.environment) or default
    try:
        parts = urlsplit(given if "://" in given else f"//{given}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host:
        return None
    insecure = case.environment.get("OTEL_EXPORTER_OTLP_INSECURE", "").strip().lower() == "true"
    secure = parts.scheme == "https" or (protocol == "grpc" and not parts.scheme and not insecure)
    usual = 4317 if protocol == "grpc" else 443 if secure else 80
    return Place(protocol, host, port or usual, address(given), secure)


def exporters(case: Case) -> Iterator[Finding]:
    """Look at where spans would go, and send one there."""
    if config.config_file(case.environment):
        yield Finding("pass", "not checked: OTEL_CONFIG_FILE says where spans go")
        return
    names = config.chosen_exporters("traces", case.environment)
    if not names:
        yield _nowhere(case)
    yield from _files(case)
    for protocol in protocols_of(case):
        yield from _otlp(case, protocol)
    for name in names:
        if name not in PROTOCOLS and name in available():
            yield Finding("pass", f"spans go to the exporter {name!r}, which is not asked")


def protocols_of(case: Case) -> list[str]:
    """Return the protocols of OTLP by which spans would go."""
    names = config.chosen_exporters("traces", case.environment)
    usual = config.otlp_protocol("traces", case.environment)
    return [PROTOCOLS[name] or usual for name in names if name in PROTOCOLS]


def available() -> set[str]:
    """Return the names of the exporters of spans that are installed."""
    return {entry.name for entry in entry_points(group="opentelemetry_traces_exporter")}


def _nowhere(case: Case) -> Finding:
    endpoint = config.otlp_endpoint("traces", case.environment)
    if endpoint is not None:
        return Finding(
            "fail",
            "OTEL_TRACES_EXPORTER=none: no span is sent, though an OTLP endpoint is set",
            "nothing arrives at the collector",
            "take OTEL_TRACES_EXPORTER out, or set it to otlp",
        )
    kept = case.settings.trajectories in ("on", "all", "memory") and case.settings.content != "off"
    return Finding(
        "pass" if kept else "fail",
        "no OTLP endpoint is set: no span leaves this machine" + ("" if kept else ", and no trajectory is written"),
        "" if kept else "nothing is recorded anywhere",
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 sends them to a collector there",
    )


def _files(case: Case) -> Iterator[Finding]:
    """Look at certificates and keys that are named and cannot be read."""
    for name in (f"OTEL_EXPORTER_OTLP_{signal}{file}" for signal in ("", "TRACES_") for file in _FILES):
        given = case.environment.get(name, "")
        if given and (why := _unreadable(Path(given))) is not None:
            yield Finding(
                "fail", f"{name} names {given}, which cannot be read: {why}", "nothing is sent", f"set {name} right"
            )


def _unreadable(path: Path) -> str | None:
    try:
        path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _otlp(case: Case, protocol: str) -> Iterator[Finding]:
    place = place_of(case, protocol)
    if place is None:
        yield Finding(
            "fail",
            "no span is sent, as the OTLP endpoint is not an address",
            "the exporter is left out",
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318",
        )
    elif case.offline or case.settings.disabled:
        why = "--offline is given" if case.offline else "nothing is recorded"
        yield Finding("pass", f"spans go to {place.shown} by {protocol}; not asked, as {why}")
    else:
        yield _asked(case, place)


def _asked(case: Case, place: Place) -> Finding:
    """Send one span, and say what became of it."""
    try:
        answer = otlp.ask_once([_span()], place.protocol)
    except Exception as error:
        pass_on(error)
        return Finding(
            "fail",
            f"no span can be sent to {place.shown} by {place.protocol}: {type(error).__name__}: {error}",
            "the exporter is left out, or fails with each span",
            "pip install --force-reinstall opentelemetry-exporter-otlp",
        )
    if answer.outcome is Outcome.DELIVERED and not answer.rejected:
        said = f"; it says: {answer.reason}" if answer.reason else ""
        return Finding("pass", f"a span {SPAN!r} was taken at {place.shown} by {place.protocol}{said}")
    if answer.outcome is Outcome.DELIVERED:
        return Finding(
            "fail",
            f"{place.shown} took the request and rejected the span: {answer.reason or 'no reason given'}",
            "spans are lost there",
            "the collector's log says why",
        )
    return _refused(case, place, answer)


def _span() -> ReadableSpan:
    """Return a span as a program started here would make one, which says nothing."""
    provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(), shutdown_on_exit=False)
    span = provider.get_tracer("spanrelay.doctor").start_span(SPAN)
    span.end()
    assert isinstance(span, ReadableSpan)
    return span


# ── what an answer means


class Meaning(NamedTuple):
    """What an answer that is like a pattern means, and what to do."""

    pattern: re.Pattern[str]
    why: str
    cure: str


def _meaning(pattern: str, why: str, cure: str) -> Meaning:
    return Meaning(re.compile(pattern, re.IGNORECASE), why, cure)


_LOST = "spans wait in memory, and what is left at the end of the program is lost"

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


def _refused(case: Case, place: Place, answer: Answer) -> Finding:
    """Say what is wrong where a span was not taken."""
    what = f"{place.shown} by {place.protocol}: {answer.reason}"
    mixed = _mixed(place, answer)
    if mixed is not None:
        why, cure = mixed
    else:
        found = next((meaning for meaning in _MEANINGS if meaning.pattern.search(answer.reason)), None)
        why, cure = (found.why, found.cure) if found is not None else _OTHER
    proxy = config.proxy_of(place.url) if place.protocol != "grpc" else None
    if proxy is not None:
        why += f"; the request went by the proxy {address(proxy)}, which may be who answers"
        cure += "; NO_PROXY names hosts that are reached directly"
    return Finding("fail", what, f"{why}; {_LOST}", cure)


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
