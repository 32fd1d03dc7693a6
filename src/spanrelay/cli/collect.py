"""Take telemetry in from any number of programs, and write the trajectory of each session."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spanrelay import config
from spanrelay._guard import losses
from spanrelay._voice import say
from spanrelay.cli.gateway import token_of
from spanrelay.cli.stopping import Stop, stop_on_signals
from spanrelay.errors import ConfigurationError
from spanrelay.report import counted

if TYPE_CHECKING:
    from spanrelay.collecting.delivery.targets import Target
    from spanrelay.collecting.serving import Collector
    from spanrelay.collecting.tls import Tls

_KEEP_H, _KEEP_KAFKA_H = 24.0, 1.0
"""Hours that what came is kept: from Kafka, all of it is read again by whoever gets a partition."""

EXAMPLES = (
    "spanrelay collect -o runs/",
    "spanrelay collect --grpc off --http 127.0.0.1:4319 --silence 30 -o runs/",
    "spanrelay collect --http 0.0.0.0:4318 --token-variable TOKEN -o runs/",
    "spanrelay collect --tls-certificate a.pem --tls-key a.key --http off -o runs/",
    "spanrelay collect --to https://example.com/trajectories -o runs/",
    "spanrelay collect --to s3://bucket/trajectories -o runs/",
    "spanrelay collect --kafka kafka:9092 --topic spans --http 0.0.0.0:80 -o runs/",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `collect` takes."""
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="the folder to write trajectories into")
    parser.add_argument(
        "--http",
        metavar="ADDR",
        help="OTLP over HTTP, or off (127.0.0.1:4318); from Kafka only /healthz and /metrics, where it is given",
    )
    parser.add_argument("--grpc", metavar="ADDR", default="127.0.0.1:4317", help="OTLP over gRPC, or off (%(default)s)")
    parser.add_argument(
        "--silence",
        type=_duration,
        default=10.0,
        metavar="SECONDS",
        help="how long nothing new has come of a session before it is written (%(default)s)",
    )
    parser.add_argument(
        "--keep",
        type=_duration,
        metavar="HOURS",
        help="how long what came is kept for what comes late (24, from Kafka 1)",
    )
    parser.add_argument(
        "--token-variable",
        metavar="NAME",
        help="the environment variable with a token that every request must know; needed where others can connect",
    )
    parser.add_argument(
        "--tls-certificate", metavar="FILE", help="the certificate to show, in PEM; what listens speaks TLS"
    )
    parser.add_argument("--tls-key", metavar="FILE", help="the key of that certificate, in PEM and without a password")
    parser.add_argument(
        "--tls-client-ca",
        metavar="FILE",
        help="the authorities, in PEM, of one of which every client must show a certificate",
    )
    parser.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="URL",
        help="where each document is delivered besides: https://HOST/PATH or s3://BUCKET/PREFIX; may be repeated",
    )
    parser.add_argument(
        "--to-headers-variable",
        metavar="NAME",
        help="the environment variable with the headers for the server of --to: NAME=VALUE,NAME=VALUE, URL-encoded",
    )
    kafka = parser.add_argument_group("from Apache Kafka, in place of listening")
    kafka.add_argument("--kafka", metavar="BROKERS", help="HOST:PORT, several with commas")
    kafka.add_argument(
        "--topic", default="otlp_spans", help="what the collector's kafka exporter writes to (%(default)s)"
    )
    kafka.add_argument(
        "--group", default="spanrelay", help="the consumer group: the same for all that share the work (%(default)s)"
    )
    kafka.add_argument(
        "--keyed",
        action="store_true",
        help="the topic's records are keyed by session already: write no topic TOPIC-by-session",
    )
    kafka.add_argument(
        "--kafka-properties",
        metavar="FILE",
        help="a file of NAME=VALUE lines for librdkafka, such as security.protocol=SSL",
    )


def run(options: argparse.Namespace) -> int:
    """Collect until SIGTERM or SIGINT, then write every session.

    Raises:
        ConfigurationError: nobody can listen there or write there; nothing has been started.
    """
    stopped = stop_on_signals()
    if options.kafka is None:
        _listen(options, stopped)
    else:
        _consume(options, stopped)
    for what, count in sorted(losses.take().items()):
        say(counted(count, what))
    return 0


def _duration(value: str) -> float:
    number = float(value)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number from 0, not {value!r}")
    return number


def _listen(options: argparse.Namespace, stopped: Stop) -> None:
    _need("collect", "grpc", "httptools", "uvicorn")
    from spanrelay.collecting.serving import Options, start  # what the other commands do not need

    chosen = Options(
        Path(options.output),
        _address("--http", options.http or "127.0.0.1:4318"),
        _address("--grpc", options.grpc),
        token_of(options.token_variable),
        _targets(options),
        _tls(options),
        **_terms(options, _KEEP_H),
    )
    if chosen.http is None and chosen.grpc is None:
        raise ConfigurationError("--http off and --grpc off leave nothing to listen to; choose one of them")
    collector = start(chosen)
    print(*_told(collector, "http" if chosen.tls is None else "https"), sep="\n", flush=True)
    stopped.wait_until_set()
    collector.stop()


def _consume(options: argparse.Namespace, stopped: Stop) -> None:
    _need("kafka", "confluent_kafka")
    from spanrelay.collecting.delivery.outlet import Deliveries
    from spanrelay.collecting.kafka.clients import Kafka, properties_of
    from spanrelay.collecting.kafka.serving import collect, prepared
    from spanrelay.collecting.sessions import Terms

    status = _address("--http", options.http or "off")
    if status is not None:
        _need("collect", "httptools", "uvicorn")
    properties = {} if options.kafka_properties is None else properties_of(Path(options.kafka_properties))
    kafka = Kafka(options.kafka, options.topic, options.group, options.keyed, properties)
    folder, terms, targets = Path(options.output), Terms(**_terms(options, _KEEP_KAFKA_H)), _targets(options)
    tls = _tls(options)
    with ExitStack() as stack:
        deliveries = stack.enter_context(closing(Deliveries(folder, targets)))
        assembling = prepared(kafka, folder, terms, deliveries)
        lines = [f"spanrelay collect: reading {kafka.topic} at {kafka.brokers}"]
        if status is not None:
            from spanrelay.collecting.http import Status
            from spanrelay.collecting.listening import serving

            port = stack.enter_context(serving(Status(lambda: assembling.counts, deliveries), *status, tls))
            lines.append(f"  {'http' if tls is None else 'https'}://127.0.0.1:{port}/healthz and /metrics")
        print(*lines, sep="\n", flush=True)
        collect(kafka, assembling, stopped)


def _targets(options: argparse.Namespace) -> tuple[Target, ...]:
    """Return where documents are delivered besides."""
    from spanrelay.collecting.delivery.addresses import targets_of

    variable, headers = options.to_headers_variable, dict[str, str]()
    if variable is not None:
        try:
            headers = config.headers(config.variable(variable) or "")
        except ValueError as error:
            raise ConfigurationError(f"{variable} must hold NAME=VALUE,NAME=VALUE, with URL-encoded values") from error
        if not headers:
            raise ConfigurationError(f"{variable} must hold NAME=VALUE,NAME=VALUE, as in authorization=Bearer%20abc")
    return tuple(targets_of(options.to, headers))


def _tls(options: argparse.Namespace) -> Tls | None:
    """Return what is spoken, where that is not the clear."""
    from spanrelay.collecting.tls import Tls

    certificate, key, client_ca = options.tls_certificate, options.tls_key, options.tls_client_ca
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError("TLS needs --tls-certificate and --tls-key; name both files")
    return Tls(Path(certificate), Path(key), None if client_ca is None else Path(client_ca))


def _terms(options: argparse.Namespace, keep: float) -> dict[str, Any]:
    """Return what is agreed on sessions, with so many hours of `--keep` where it is not given."""
    settings = config.load_strictly()
    return {
        "silence": options.silence,
        "keep": (keep if options.keep is None else options.keep) * 3600,
        "form": settings.atif_version,
        "across_services": settings.sessions_across_services,
    }


def _need(extra: str, *modules: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"collecting needs {', '.join(missing)}: pip install 'spanrelay[{extra}]'")


def _address(option: str, given: str) -> tuple[str, int] | None:
    """Read `host:port`, or `off`."""
    if given == "off":
        return None
    host, colon, port = given.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"{option} {given!r} must be HOST:PORT, as in 127.0.0.1:4318, or off")
    return host.strip("[]"), int(port)


def _told(collector: Collector, scheme: str) -> Iterator[str]:
    """Yield the lines that say where a program sends its telemetry."""
    yield "spanrelay collect: listening"
    for port, protocol in ((collector.http_port, "http/protobuf"), (collector.grpc_port, "grpc")):
        if port:
            yield f"  OTEL_EXPORTER_OTLP_ENDPOINT={scheme}://127.0.0.1:{port} OTEL_EXPORTER_OTLP_PROTOCOL={protocol}"
