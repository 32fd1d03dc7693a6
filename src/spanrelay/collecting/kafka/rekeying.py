"""Writes what producers wrote into a topic that is keyed by session: theirs is keyed by trace, or by nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic  # where its types are

from spanrelay.collecting.kafka.clients import PATIENCE_S, Kafka, begins_of, checked, commit, ends_of, partitions_of
from spanrelay.collecting.kafka.keying import HELD_S, Keyed, Keying
from spanrelay.collecting.requests import LARGEST
from spanrelay.errors import ConfigurationError, SpanRelayError

_AT_ONCE = 500
_PATIENCE_S = 0.25
_COMMIT_S = 1.0
"""Seconds between two commits, each of which waits for all that has been written."""
_REMEMBERED_MS = 24 * 3_600_000
"""Milliseconds for which the session of a trace is known at least."""


class Rekeying:
    """A member of the consumer group that reads the producers' topic."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._partitions: dict[tuple[str, int], Keying] = {}
        self._read: dict[tuple[str, int], int] = {}
        """The offset behind the last record that was read of each partition."""
        self._times: dict[tuple[str, int], float] = {}
        """The newest time of a record of each partition."""
        self._heard: dict[tuple[str, int], float] = {}
        """When a record of each was read last, by our clock."""
        self._committed: dict[tuple[str, int], int] = {}
        self._failure: KafkaError | None = None
        self._producer: Producer

    def run(self, stopped: threading.Event) -> None:
        """Write until `stopped`, then what is held.

        Raises:
            SpanRelayError: nothing can be read or written any more.
        """
        self._producer = Producer(
            {
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "message.max.bytes": LARGEST,
                **self._kafka.client(),
                "partitioner": "murmur2_random",  # as Java's clients have it: whoever else writes there agrees
            }
        )
        consumer = Consumer(self._kafka.consumer(f"{self._kafka.group}-by-session"))
        consumer.subscribe([self._kafka.topic], on_assign=self._given, on_revoke=self._taken, on_lost=self._taken)
        next_commit = 0.0
        try:
            while not stopped.is_set():
                for message in consumer.consume(_AT_ONCE, _PATIENCE_S):
                    self._take(message)
                self._write_due(consumer)
                if time.monotonic() >= next_commit:
                    self._commit(consumer)
                    next_commit = time.monotonic() + _COMMIT_S
            self._commit(consumer)  # what is held is read again by whoever comes
        finally:
            consumer.close()

    def _take(self, message: Message) -> None:
        if (error := message.error()) is not None:
            checked(error)
            return
        where, offset, data = (message.topic() or "", message.partition() or 0), message.offset() or 0, message.value()
        if (keying := self._partitions.get(where)) is None:
            return
        self._read[where], self._heard[where] = offset + 1, time.monotonic()
        self._times[where] = max(self._times[where], message.timestamp()[1] / 1e3)
        if isinstance(data, bytes) and data:
            for keyed in keying.add(data, offset, self._times[where]):
                self._write(keyed)

    def _write_due(self, consumer: Consumer) -> None:
        """Write what has been held for long enough by the clock of the records, which is ours where all are read."""
        for where, keying in self._partitions.items():
            time_there, quiet = self._times[where], time.monotonic() - self._heard[where]
            if keying.needed is not None and quiet >= HELD_S:
                _, end = ends_of(consumer, TopicPartition(*where))
                time_there += quiet if self._read[where] >= end else 0
            for keyed in keying.due(time_there):
                self._write(keyed)

    def _write(self, keyed: Keyed) -> None:
        self._produce(self._kafka.keyed_topic, keyed.data, keyed.key)

    def _produce(self, topic: str, data: bytes, key: str, partition: int = -1) -> None:
        while True:
            try:
                self._producer.produce(topic, data, key, partition, on_delivery=self._delivered)
            except BufferError:  # until some of what waits has been written
                self._producer.poll(_PATIENCE_S)
                continue
            self._producer.poll(0)
            return

    def _remember(self, partition: int, trace: str, session: str) -> None:
        self._produce(self._kafka.traces_topic, session.encode(), trace, partition)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failure = error

    def _commit(self, consumer: Consumer) -> None:
        """Commit what has been written, but for what is held."""
        needed: dict[tuple[str, int], int] = {}
        for where, keying in self._partitions.items():
            held = keying.needed
            needed[where] = self._read[where] if held is None else held
        if any(offset > self._committed[where] for where, offset in needed.items()):
            waiting = self._producer.flush(PATIENCE_S)
            if self._failure is not None:
                fault = self._failure.str()
                raise SpanRelayError(f"a record cannot be written to {self._kafka.keyed_topic!r}: {fault}")
            if not waiting:  # else a broker is away: they are tried again
                commit(consumer, needed, self._committed)

    def _given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        begins = begins_of(consumer, partitions)
        for where, (begin, _) in begins.items():
            learned = partial(self._remember, where[1])
            self._partitions[where] = Keying("{}-{}".format(*where), learned, _known(self._kafka, where[1]))
            self._read[where] = self._committed[where] = begin
            self._times[where], self._heard[where] = 0.0, time.monotonic()
        consumer.incremental_assign([TopicPartition(*where, begin) for where, (begin, _) in begins.items()])

    def _taken(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self._partitions.pop((each.topic, each.partition), None)
        consumer.incremental_unassign(partitions)


def _known(kafka: Kafka, partition: int) -> Iterator[tuple[str, str]]:
    """Yield the traces of a partition and their sessions, as whoever had it before has learned them."""
    consumer = Consumer(kafka.consumer(f"{kafka.group}-traces"))  # commits nothing
    try:
        place = TopicPartition(kafka.traces_topic, partition)
        low, end = ends_of(consumer, place)
        consumer.assign([TopicPartition(kafka.traces_topic, partition, low)])
        while consumer.position([place])[0].offset < end and low < end:
            for message in consumer.consume(_AT_ONCE, _PATIENCE_S):
                if (error := message.error()) is not None:
                    checked(error)
                    continue
                key, value = message.key(), message.value()
                if isinstance(key, bytes) and isinstance(value, bytes):
                    yield key.decode(), value.decode()
    finally:
        consumer.close()


def make_topics(kafka: Kafka) -> None:
    """Make the topics of our own, of as many partitions as the producers', if they are not there.

    Raises:
        ConfigurationError: no broker is reached, there is no producers' topic, or they cannot be made.
    """
    topics = partitions_of(kafka)
    admin = AdminClient(kafka.client())
    number = topics[kafka.topic]
    remembers = {"cleanup.policy": "compact,delete", "retention.ms": str(_REMEMBERED_MS)}
    wanted = [
        NewTopic(kafka.keyed_topic, num_partitions=number, config={"max.message.bytes": str(LARGEST)}),
        NewTopic(kafka.traces_topic, num_partitions=number, config=remembers),
    ]
    missing = [topic for topic in wanted if topic.topic not in topics]
    for name, made in admin.create_topics(missing).items() if missing else ():
        try:
            made.result(PATIENCE_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # by another of us
                raise ConfigurationError(
                    f"the topic {name!r} cannot be created: {error.args[0].str()}; create it, or have producers key by "
                    "session (--keyed)"
                ) from error
    _await(admin, {topic.topic for topic in wanted})


def _await(admin: AdminClient, names: set[str]) -> None:
    """Wait until the brokers tell of topics: who asks for one before hears of it much later."""
    deadline = time.monotonic() + PATIENCE_S
    while not names.issubset(admin.list_topics(timeout=PATIENCE_S).topics):
        if time.monotonic() > deadline:
            raise ConfigurationError(f"the brokers do not tell of the topics {sorted(names)}, which were created")
        time.sleep(0.1)
