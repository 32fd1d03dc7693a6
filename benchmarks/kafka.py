"""What a member costs that assembles from Kafka, beside converting the same spans from a file.

Counted is the CPU of the member, a process of its own, from when it has written a first session until it has written
all: of one that assembles a topic which is keyed by session already, and of one that keys it first.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
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
_LEAST, _GAIN = 0.8, 1.7
_PATIENCE_S = 300.0


def kafka(effort: Effort) -> list[Result]:
    """Measure how many spans one CPU second assembles from a topic, beside those that it converts."""
    requests = traces_of(_SIZE, _CALLS, _SPANS // (_CALLS + 1) if effort.seconds else 20)
    shares: dict[str, list[float]] = {"keyed by session": [], "keyed first": []}
    gains: list[float] = []
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as broker:
        for number in range(max(2, int(effort.seconds) // 3)):
            converted = converted_rate(requests)
            for name, options in (("keyed by session", ("--keyed",)), ("keyed first", ())):
                rate = _assembled(broker, f"spans-{number}-{len(options)}", requests, options)
                shares[name].append(rate / converted)
            gains.append(_assembled(broker, f"spans-{number}-two", requests, (), members=2) / rate)
    found = [
        _share(f"kafka, 1 KB a span, {name}", "convert", rates, _LEAST if name == "keyed by session" else None)
        for name, rates in shares.items()
    ]
    return [*found, _share("kafka, two members", "one", gains, _GAIN)]


def _share(row: str, of: str, rates: list[float], limit: float | None) -> Result:
    share = median(rates)
    return Result(row, f"of the rate of {of}", "x", share.value, share.error, limit=limit, more=True)


def _assembled(
    broker: Broker, topic: str, requests: list[bytes], options: tuple[str, ...], *, members: int = 1
) -> float:
    """Return how many spans are assembled in one CPU second of that member which has most to do."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(topic, 8)])[topic].result(60)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        command = [sys.executable, "-m", "spanrelay", "collect", "--kafka", broker.address, "--topic", topic]
        command += ["--group", topic, "--silence", "1", *options, "-o", folder]
        processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(members)]
        for each in processes:
            stack.callback(each.wait)
            stack.callback(each.kill)
        _produce(broker, topic, requests[:1])
        _await(lambda: len(_documents(folder)) == 1 and len(_working(admin, topic)) == members)
        before = [cpu_of(each.pid) for each in processes]
        _produce(broker, topic, requests[1:])
        _await(lambda: len(_documents(folder)) == len(requests))
        most = max(cpu_of(each.pid) - used for each, used in zip(processes, before, strict=True))
        return (len(requests) - 1) * (_CALLS + 1) / most


def _working(admin: AdminClient, group: str) -> list[str]:
    """Return the members of a group that have partitions."""
    found = admin.describe_consumer_groups([group])[group].result(60)
    return [each.member_id for each in found.members if each.assignment.topic_partitions]


def _documents(folder: str) -> list[Path]:
    return list(Path(folder).glob("*.json"))


def _produce(broker: Broker, topic: str, requests: list[bytes]) -> None:
    """Write records, keyed by what names their session."""
    producer = Producer({"bootstrap.servers": broker.address, "compression.type": "lz4", "linger.ms": 20})
    for number, request in enumerate(requests):
        producer.produce(topic, request, str(number))
        producer.poll(0)
    producer.flush()


def _await(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError("not all documents were written, or not all members had partitions")
        time.sleep(0.2)
