"""What a member costs that assembles from Kafka, beside converting the same spans from a file.

Counted is the CPU of the member, a process of its own, from when it has written a first session until it has written
all: of one that assembles a topic which is keyed by session already, and of one that keys it first.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.assembly import traces_of
from benchmarks.collecting import converted_rate
from benchmarks.measure import Effort, cpu_of, median
from benchmarks.results import Result
from spanrelay_testkit.kafka_broker import Broker, running

_SIZE, _CALLS = 1_000, 5
"""Bytes of content in a span, and model calls in a run; each run is a record, and a session."""
_SPANS = 30_000
_LEAST = 0.8
_PATIENCE_S = 300.0


def kafka(effort: Effort) -> list[Result]:
    """Measure how many spans one CPU second assembles from a topic, beside those that it converts."""
    requests = traces_of(_SIZE, _CALLS, _SPANS // (_CALLS + 1) if effort.seconds else 20)
    shares: dict[str, list[float]] = {"keyed by session": [], "keyed first": []}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as broker:
        for number in range(max(2, int(effort.seconds) // 3)):
            converted = converted_rate(requests)
            for name, options in (("keyed by session", ("--keyed",)), ("keyed first", ())):
                rate = _assembled(broker, f"spans-{number}-{len(options)}", requests, options)
                shares[name].append(rate / converted)
    return [
        Result(
            f"kafka, 1 KB a span, {name}",
            "of the rate of convert",
            "x",
            (share := median(found)).value,
            share.error,
            limit=_LEAST if name == "keyed by session" else None,
            more=True,
        )
        for name, found in shares.items()
    ]


def _assembled(broker: Broker, topic: str, requests: list[bytes], options: tuple[str, ...]) -> float:
    """Return how many spans one CPU second of a member assembles."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(topic, 4)])[topic].result(60)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "spanrelay", "collect", "--kafka", broker.address, "--topic", topic]
        process = subprocess.Popen(
            [*command, "--group", topic, "--silence", "1", *options, "-o", folder], stdout=subprocess.DEVNULL
        )
        try:
            _produce(broker, topic, requests[:1])
            _await(Path(folder), 1)
            before = cpu_of(process.pid)
            _produce(broker, topic, requests[1:])
            _await(Path(folder), len(requests))
            return (len(requests) - 1) * (_CALLS + 1) / (cpu_of(process.pid) - before)
        finally:
            process.kill()
            process.wait()


def _produce(broker: Broker, topic: str, requests: list[bytes]) -> None:
    """Write records, keyed by what names their session."""
    producer = Producer({"bootstrap.servers": broker.address, "compression.type": "lz4", "linger.ms": 20})
    for number, request in enumerate(requests):
        producer.produce(topic, request, str(number))
        producer.poll(0)
    producer.flush()


def _await(folder: Path, number: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while sum(1 for _ in folder.glob("*.json")) < number:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{number} documents were to be written, {len(list(folder.glob('*.json')))} are")
        time.sleep(0.2)
