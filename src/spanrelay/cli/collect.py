"""Take telemetry in from any number of programs, and write the trajectory of each session."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from spanrelay import config
from spanrelay._guard import losses
from spanrelay._voice import say
from spanrelay.cli.gateway import token_of
from spanrelay.errors import ConfigurationError

if TYPE_CHECKING:
    from spanrelay.collecting.serving import Collector

_NEEDED = ("grpc", "httptools", "uvicorn")

EXAMPLES = (
    "spanrelay collect -o runs/",
    "spanrelay collect --grpc off --http 127.0.0.1:4319 --silence 30 -o runs/",
    "spanrelay collect --http 0.0.0.0:4318 --token-variable TOKEN -o runs/",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `collect` takes."""
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="the folder to write trajectories into")
    parser.add_argument("--http", metavar="ADDR", default="127.0.0.1:4318", help="OTLP over HTTP, or off (%(default)s)")
    parser.add_argument("--grpc", metavar="ADDR", default="127.0.0.1:4317", help="OTLP over gRPC, or off (%(default)s)")
    parser.add_argument(
        "--silence",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long nothing new has come of a session before it is written (%(default)s)",
    )
    parser.add_argument(
        "--keep",
        type=float,
        default=24.0,
        metavar="HOURS",
        help="how long what came is kept for what comes late (%(default)s)",
    )
    parser.add_argument(
        "--token-variable",
        metavar="NAME",
        help="the environment variable with a token that every request must know; needed where others can connect",
    )


def run(options: argparse.Namespace) -> int:
    """Collect until SIGTERM or SIGINT, then write every session.

    Raises:
        ConfigurationError: nobody can listen there or write there; nothing has been started.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"collecting needs {', '.join(missing)}: pip install 'spanrelay[collect]'")
    from spanrelay.collecting.serving import Options, start  # what the other commands do not need

    chosen = Options(
        Path(options.output),
        _address("--http", options.http),
        _address("--grpc", options.grpc),
        token_of(options.token_variable),
        options.silence,
        options.keep * 3600,
        config.load_strictly().atif_version,
    )
    if chosen.http is None and chosen.grpc is None:
        raise ConfigurationError("--http off and --grpc off leave nothing to listen to; choose one of them")
    stopped = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda _number, _frame: stopped.set())
    collector = start(chosen)
    print(*_told(collector), sep="\n", flush=True)
    while not stopped.wait(0.5):  # a wait without end would keep signals from being handled on Windows
        pass
    collector.stop()
    for what, count in sorted(losses.take().items()):
        say(f"{count} {what}")
    return 0


def _address(option: str, given: str) -> tuple[str, int] | None:
    """Read `host:port`, or `off`."""
    if given == "off":
        return None
    host, colon, port = given.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"{option} {given!r} must be HOST:PORT, as in 127.0.0.1:4318, or off")
    return host.strip("[]"), int(port)


def _told(collector: Collector) -> Iterator[str]:
    """Yield the lines that say where a program sends its telemetry."""
    yield "spanrelay collect: listening"
    for port, protocol in ((collector.http_port, "http/protobuf"), (collector.grpc_port, "grpc")):
        if port:
            yield f"  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{port} OTEL_EXPORTER_OTLP_PROTOCOL={protocol}"
