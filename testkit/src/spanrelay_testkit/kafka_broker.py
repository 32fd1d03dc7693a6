"""A real broker of Apache Kafka, in KRaft mode, alone: its jars come by Maven, and stay in the user's cache."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

VERSION = "4.4.0"
_CACHE = Path.home() / ".cache" / "spanrelay" / f"kafka-{VERSION}"
_PATIENCE_S = 120.0
_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>spanrelay</groupId><artifactId>broker</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
  </dependencies>
</project>
"""
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/log
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
message.max.bytes=16777216
"""


def is_possible() -> bool:
    """Whether a broker can be had here: it takes Java, and Maven the first time."""
    return shutil.which("java") is not None and (_CACHE.exists() or shutil.which("mvn") is not None)


class Broker:
    """A broker at work in a folder, which keeps what it has over a restart. Made by `running`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port, self._controller = folder, free_port(), free_port()
        self._settings = folder / "server.properties"
        given = {"port": self._port, "controller": self._controller, "folder": folder}
        self._settings.write_text(_PROPERTIES.format(**given))
        self._run("kafka.tools.StorageTool", "format", "--standalone", "-t", "4L6g3nShT-eMCtK--X86sw", "-c")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where clients connect: `host:port`."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and return when it takes connections.

        Raises:
            RuntimeError: it ended, or took none within two minutes.
        """
        with (self._folder / "told").open("ab") as told:
            self._process = subprocess.Popen(self._command("kafka.Kafka"), stdout=told, stderr=told)
        deadline = time.monotonic() + _PATIENCE_S
        while not is_open(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                told = (self._folder / "told").read_text(errors="replace")
                raise RuntimeError(f"the broker did not start: {told[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it, as a machine that fails does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _command(self, main: str, *options: str) -> list[str]:
        java = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{_CACHE}/*"]
        return [*java, main, *options, str(self._settings)]

    def _run(self, main: str, *options: str) -> None:
        done = subprocess.run(self._command(main, *options), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{main} ended with {done.returncode}: {done.stderr[-2000:]}")


@contextmanager
def running(folder: Path) -> Generator[Broker]:
    """Run a broker with what it keeps in `folder`."""
    if not _CACHE.exists():
        _fetch()
    broker = Broker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def _fetch() -> None:
    """Fetch the jars, and put them into their place at once: another may fetch them too."""
    work = _CACHE.with_name(f"{_CACHE.name}-{time.monotonic_ns()}")
    work.mkdir(parents=True)
    (work / "pom.xml").write_text(_POM)
    copy = ("mvn", "-B", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars")
    subprocess.run(copy, cwd=work, check=True, timeout=600)
    if not _CACHE.exists():
        (work / "jars").rename(_CACHE)
    shutil.rmtree(work)


def free_port() -> int:
    """Return a port of this machine at which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def is_open(port: int) -> bool:
    """Whether somebody listens at a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
