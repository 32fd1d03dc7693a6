"""Where spans, metrics and logs would go, and what is answered there, to the exporters that a program would use.

One span is really sent; of the other signals an empty request, which leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.util._importlib_metadata import entry_points

from spanrelay import config
from spanrelay._guard import pass_on
from spanrelay.doctor.answers import NOUNS, Place, Sender, refused
from spanrelay.doctor.declaration import Declaration, Exporter, borrowed
from spanrelay.doctor.findings import Case, Finding
from spanrelay.doctor.hiding import address
from spanrelay.doctor.unasked import unasked
from spanrelay.exporters import otlp
from spanrelay.exporters.outbox import Outcome

SPAN = "spanrelay doctor"
"""What the span is called that is sent."""

PROTOCOLS: dict[str, str | None] = {
    "otlp": None,
    "otlp_proto_http": "http/protobuf",
    "otlp_proto_grpc": "grpc",
    "spanrelay_otlp": None,
    "spanrelay_otlp_http": "http/protobuf",
    "spanrelay_otlp_grpc": "grpc",
}
"""The exporters that speak OTLP, by name, and the protocol of those that have only one."""

_SIGNALS = ("", *(f"{signal.upper()}_" for signal in config.SIGNALS))
_FILES = ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")


def place_of(case: Case, protocol: str, given: str) -> Place | None:
    """Return where an endpoint is, as it is given; None where it is not an address."""
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


def place_by_variables(case: Case, signal: str, protocol: str) -> Place | None:
    """Return where a signal goes as variables say; None where the endpoint is not an address."""
    if protocol != "grpc" and config.refusal_of_endpoint(signal, case.environment) is not None:
        return None
    default = "http://localhost:4317" if protocol == "grpc" else "http://localhost:4318"
    return place_of(case, protocol, config.otlp_endpoint(signal, case.environment) or default)


def senders(case: Case, signal: str) -> list[Sender]:
    """Return the exporters of OTLP that a program started here would have for one of `config.SIGNALS`."""
    if case.declared is not None:
        return [_declared(case, each, each.protocol) for each in _of_file(case, signal) if each.protocol is not None]
    usual = config.otlp_protocol(signal, case.environment)
    names = config.chosen_exporters(signal, case.environment)
    protocols = [PROTOCOLS[name] or usual for name in names if name in PROTOCOLS]
    return [
        Sender(signal, place_by_variables(case, signal, protocol), partial(otlp.stock, signal, protocol))
        for protocol in protocols
    ]


def _of_file(case: Case, signal: str) -> list[Exporter]:
    return [] if case.declared is None else [each for each in case.declared.exporters if each.signal == signal]


def _declared(case: Case, exporter: Exporter, protocol: str) -> Sender:
    """Return an exporter of the file, which goes where variables say if that does not say where."""
    given = exporter.said.endpoint
    if given is None:
        place = place_by_variables(case, exporter.signal, protocol)
    elif protocol != "grpc" and not given.startswith(("http://", "https://")):
        place = None
    else:
        place = place_of(case, protocol, given)
    return Sender(exporter.signal, place, exporter.build, of_file=True)


def others(case: Case) -> list[str]:
    """Return the names of the exporters of spans that a program would have beside those of OTLP."""
    if case.declared is not None:
        return [each.shown for each in _of_file(case, "traces") if each.protocol is None]
    names = config.chosen_exporters("traces", case.environment)
    return [name for name in names if name not in PROTOCOLS and name in available()]


def exporters(case: Case) -> Iterator[Finding]:
    """Look at where spans, metrics and logs would go, and send something there."""
    if case.declared is not None:
        if case.declared.fault:
            return  # it has been said of the file
        yield from _borrowed(case.declared, case.environment)
        yield from _unread(case.declared, case.environment)
    elif not config.chosen_exporters("traces", case.environment):
        yield _nowhere(case)
    yield from _files(case)
    failed: set[str] = set()
    for signal in config.SIGNALS:
        for sender in senders(case, signal):
            yield (finding := _of(case, sender, failed))
            if finding.level == "fail" and sender.place is not None:
                failed.add(sender.place.url)
    if case.declared is not None:
        for exporter in case.declared.exporters:
            if exporter.protocol is None:
                yield unasked(exporter, case.declared.path, offline=case.offline)
        return
    for name in others(case):
        yield Finding("pass", f"spans go to the exporter {name!r}, which is not asked")


def available() -> set[str]:
    """Return the names of the exporters of spans that are installed."""
    return {entry.name for entry in entry_points(group="opentelemetry_traces_exporter")}


def _borrowed(found: Declaration, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Say which exporters take their endpoint or headers from variables."""
    for exporter in found.exporters:
        for what, name in borrowed(exporter, environment).items():
            named = f"{exporter.shown} of {exporter.signal} in {found.path}"
            if what == "endpoint":
                yield Finding("pass", f"{named} has no endpoint: {name} says it")
            elif exporter.said.endpoint is not None:
                yield Finding(
                    "warn",
                    f"{named} sends the headers of {name} too",
                    "a key in them gets to the file's endpoint, whoever that is",
                    f"take {name} out, and say in {found.path} which headers are sent",
                )


def _unread(found: Declaration, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Say what the file says of exporters of OTLP and nothing reads, of TLS above all."""
    for exporter in found.exporters:
        if "tls" in exporter.unread:
            names = [f"OTEL_EXPORTER_OTLP_{signal}CERTIFICATE" for signal in ("", f"{exporter.signal.upper()}_")]
            yield Finding(
                "pass" if any(environment.get(name, "").strip() for name in names) else "warn",
                f"{exporter.shown} of {exporter.signal} in {found.path}: OpenTelemetry does not read its `tls`",
                "without variables that say the same, it trusts the authorities of this system alone, and shows no "
                "certificate of its own",
                "OTEL_EXPORTER_OTLP_CERTIFICATE=ca.pem, with OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and "
                "OTEL_EXPORTER_OTLP_CLIENT_KEY where the server asks; for gRPC without TLS http:// before the endpoint",
            )


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
    for name in (f"OTEL_EXPORTER_OTLP_{signal}{file}" for signal in _SIGNALS for file in _FILES):
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


def _of(case: Case, sender: Sender, failed: set[str]) -> Finding:
    """Ask where an exporter sends, unless another has failed there; `failed` are addresses without paths."""
    place, noun = sender.place, NOUNS[sender.signal]
    if place is None:
        return Finding(
            "fail",
            f"no {noun} are sent, as the OTLP endpoint is not an address",
            "the exporter is left out",
            f"`endpoint: http://HOST:4318/v1/{sender.signal}` in the file"
            if sender.of_file
            else "OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318",
        )
    why_not = (
        "--offline is given"
        if case.offline
        else "nothing is recorded"
        if case.settings.disabled or (case.declared is not None and not case.declared.records)
        else "nothing is taken there"
        if place.url in failed
        else ""
    )
    if why_not:
        return Finding("pass", f"{noun} go to {place.shown} by {place.protocol}; not asked, as {why_not}")
    return _asked(sender, place)


_PROBES: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "traces": (f"a span {SPAN!r}", "the span", lambda: [_span()]),
    "metrics": ("an empty request of metrics", "it", lambda: MetricsData(resource_metrics=[])),
    "logs": ("an empty request of logs", "it", list[Any]),
}
"""What is sent of each signal: its name, how it is called again, and what makes it."""


def _asked(sender: Sender, place: Place) -> Finding:
    """Send something once, and say what became of it."""
    noun, (named, again, made) = NOUNS[sender.signal], _PROBES[sender.signal]
    try:
        answer = otlp.ask_once(sender.build(), made())
    except Exception as error:
        pass_on(error)
        return Finding(
            "fail",
            f"no {'span' if again == 'the span' else noun} can be sent to {place.shown} by {place.protocol}: "
            f"{type(error).__name__}: {error}",
            f"the exporter is left out, or fails with all {noun}",
            "pip install --force-reinstall opentelemetry-exporter-otlp",
        )
    if answer.outcome is Outcome.DELIVERED and not answer.rejected:
        said = f"; it says: {answer.reason}" if answer.reason else ""
        return Finding("pass", f"{named} was taken at {place.shown} by {place.protocol}{said}")
    if answer.outcome is Outcome.DELIVERED:
        return Finding(
            "fail",
            f"{place.shown} took the request and rejected {again}: {answer.reason or 'no reason given'}",
            f"{noun} are lost there",
            "the collector's log says why",
        )
    return refused(sender, place, answer)


def _span() -> ReadableSpan:
    """Return a span as a program started here would make one, which says nothing."""
    provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(), shutdown_on_exit=False)
    span = provider.get_tracer("spanrelay.doctor").start_span(SPAN)
    span.end()
    assert isinstance(span, ReadableSpan)
    return span
