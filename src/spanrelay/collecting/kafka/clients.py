"""How brokers are reached, by whoever consumes or produces."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from spanrelay._guard import losses
from spanrelay._voice import say
from spanrelay.errors import ConfigurationError, SpanRelayError

T = TypeVar("T")

PATIENCE_S = 60.0
"""Seconds that an answer of a broker may take."""
_REACHED_S = 5.0
"""Seconds within which one has to be reached at the start: later it is waited for."""
_POLL_MS = 30 * 60_000
"""Milliseconds that writing documents may take between two polls."""
_REFRESH_MS = 10_000
"""Milliseconds after which a topic that was not there, or its new partitions, are seen."""
_AGAIN_S = 0.2
_FINAL = ("TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "_AUTHENTICATION")
"""Names of the errors that do not go away by waiting."""
_log = logging.getLogger("spanrelay.kafka")
_log.setLevel(logging.CRITICAL)  # what goes wrong is said by `_failed`, once, and not each second
_REBALANCING = ("ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "UNKNOWN_MEMBER_ID", "_STATE")
"""Names of the errors of who commits while the group shares its partitions out anew."""
_told: set[str] = set()
"""Names of errors that have been said: a client meets them each second."""


@dataclass(frozen=True)
class Kafka:
    """The brokers, and what is asked of them.

    Attributes:
        brokers: `host:port`, several with commas.
        topic: What producers write export requests to.
        group: The consumer group, the same for all assemblers that share the work.
        keyed: Whether all records of a session have one key already, so that nothing is written to a topic of our own.
        properties: Further settings of librdkafka, as in its CONFIGURATION.md, such as those of TLS and SASL.
    """

    brokers: str
    topic: str = "otlp_spans"
    group: str = "spanrelay"
    keyed: bool = False
    properties: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def keyed_topic(self) -> str:
        """The topic whose records are keyed by session."""
        return self.topic if self.keyed else f"{self.topic}-by-session"

    @property
    def traces_topic(self) -> str:
        """The topic that remembers which session a trace belongs to, for whoever gets a partition next."""
        return f"{self.topic}-traces"

    def client(self) -> dict[str, Any]:
        """Return the settings of any client."""
        return {"bootstrap.servers": self.brokers, "error_cb": _failed, "logger": _log, **self.properties}

    def consumer(self, group: str) -> dict[str, Any]:
        """Return the settings of a consumer that says itself what it has done with."""
        return {
            "auto.offset.reset": "earliest",
            "topic.metadata.refresh.interval.ms": _REFRESH_MS,
            "partition.assignment.strategy": "cooperative-sticky",
            "max.poll.interval.ms": _POLL_MS,
            **self.client(),
            "group.id": group,
            "enable.auto.commit": False,
        }


def properties_of(path: Path) -> dict[str, str]:
    """Read a file of `name=value` lines, as Kafka's own tools take; `#` begins a comment.

    Raises:
        ConfigurationError: it cannot be read, or a line is none.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the file of Kafka properties {str(path)!r} cannot be read: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = line.strip().partition("=")
        if name.startswith("#") or not (name or equals):
            continue
        if not equals:
            raise ConfigurationError(f"{str(path)!r}, line {number}, must be NAME=VALUE, as in security.protocol=SSL")
        found[name.strip()] = value.strip()
    return found


def partitions_of(kafka: Kafka) -> dict[str, int]:
    """Return how many partitions each topic has; they are asked at the start.

    Raises:
        ConfigurationError: no broker is reached, or there is no producers' topic.
    """
    try:
        topics: dict[str, Any] = AdminClient(kafka.client()).list_topics(timeout=_REACHED_S).topics
    except KafkaException as error:
        raise ConfigurationError(
            f"no broker of {kafka.brokers!r} is reached within {_REACHED_S:.0f} seconds ({error.args[0].str()}): "
            "name their addresses in --kafka, and TLS and SASL in --kafka-properties"
        ) from error
    if kafka.topic not in topics:
        raise ConfigurationError(f"there is no topic {kafka.topic!r} at {kafka.brokers!r}: create it (kafka-topics.sh)")
    return {name: len(topic.partitions) for name, topic in topics.items()}


def patiently(ask: Callable[[], T]) -> T:
    """Return what brokers answer, asking again while they are not ready, as with a topic that has just been made.

    Raises:
        KafkaException: they are not ready within a minute, or never will be.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            fault: KafkaError = error.args[0]
            if fault.fatal() or fault.name() in _FINAL or time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_S)


def begins_of(consumer: Any, partitions: list[TopicPartition]) -> dict[tuple[str, int], tuple[int, int]]:
    """Return where reading each partition begins, and where it ends now; says what was removed before it was read."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for stored in patiently(lambda: consumer.committed(partitions, timeout=PATIENCE_S)):
        low, high = ends_of(consumer, stored)
        begin = stored.offset if stored.offset >= 0 else low
        if begin < low:
            losses.add("records that the broker removed before they were read", low - begin)
            say(
                f"{low - begin} records of {stored.topic!r}, partition {stored.partition}, were removed by the broker "
                "before they were read: keep them longer (retention.ms), or run more assemblers"
            )
        found[stored.topic, stored.partition] = max(begin, low), high
    return found


def ends_of(consumer: Any, partition: TopicPartition) -> tuple[int, int]:
    """Return the offsets of the first record of a partition and behind its last."""
    return patiently(lambda: consumer.get_watermark_offsets(partition, timeout=PATIENCE_S))


def checked(error: KafkaError) -> None:
    """Say what is wrong with a topic or a connection, once; the client tries again by itself.

    Raises:
        SpanRelayError: nothing will be read any more.
    """
    if error.fatal():
        raise SpanRelayError(f"Kafka gives up: {error.str()}")
    _failed(error)


def _failed(error: KafkaError) -> None:
    if error.name() not in _told:
        _told.add(error.name())
        say(f"Kafka: {error.str()} ({error.name()}); it is tried again")


def commit(consumer: Any, offsets: Mapping[tuple[str, int], int], committed: dict[tuple[str, int], int]) -> None:
    """Commit offsets that are beyond those `committed`, which then has them; what fails is committed with the next."""
    changed = {where: offset for where, offset in offsets.items() if offset > committed[where]}
    if not changed:
        return
    places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in changed.items()]
    try:
        consumer.commit(offsets=places, asynchronous=False)
    except KafkaException as error:
        if error.args[0].name() not in _REBALANCING:
            checked(error.args[0])
    else:
        committed |= changed
