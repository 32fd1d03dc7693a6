"""Assembles the sessions of the partitions that the consumer group gives to this process."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from confluent_kafka import Consumer, Message, TopicPartition

from spanrelay._guard import swallow
from spanrelay._masking import mask_bytes
from spanrelay.assembly.sinks import remove_unwritten
from spanrelay.collecting.delivery.outlet import Deliveries, Outlet
from spanrelay.collecting.gatherer import Pace
from spanrelay.collecting.intake import Request
from spanrelay.collecting.kafka.clients import Kafka, begins_of, checked, commit
from spanrelay.collecting.kafka.segments import Segments
from spanrelay.collecting.sessions import Counts, Sessions, Terms
from spanrelay.conversion.documents import Folder

PLACE = ".spanrelay-kafka"
"""The folder beneath the documents' for what is noted of partitions."""
_AT_ONCE = 500
"""Records that are taken at once."""
_PATIENCE_S = 0.25


class _Partition:
    """The sessions of one partition, as long as it is this process's."""

    def __init__(self, name: str, begin: int, end: int, folder: Path, terms: Terms, outlet: Outlet) -> None:
        self._name, self._given = name, end
        self.end = end
        """The offset behind the last record that there is, as far as is known."""
        self.next = begin
        """The offset behind the last record that was read."""
        self._scratch = tempfile.TemporaryDirectory(prefix="spanrelay-")
        self._segments = Segments(folder / PLACE, name, begin)
        self.sessions = Sessions(
            Folder(folder, overwrite=True, mask=mask_bytes),
            self._segments,
            Path(self._scratch.name),
            terms,
            ledger=f"{PLACE}/{name}.ledger",
            outlet=outlet,
        )
        self._outlet = outlet
        self.is_current = False
        """Whether what lay in it as it was given to this process has been read; nothing is written before."""
        self._look()

    @property
    def needed(self) -> int:
        """The offset from which whoever gets the partition next has to read."""
        return self._segments.needed

    def take(self, messages: Iterable[Message]) -> None:
        """Take in records, in their order."""
        requests: list[Request] = []
        for message in messages:
            offset, data = message.offset() or 0, message.value()
            self.next = offset + 1
            if isinstance(data, bytes) and data:
                name = f"{self._name}@{offset}"
                requests.append(Request(data, data.startswith(b"{"), self._segments.number_of(offset), name))
        for _, together in groupby(requests, lambda request: request.file):
            self.sessions.gather(list(together))
        self._look()

    def _look(self) -> None:
        if not self.is_current and self.next >= self._given:
            self.is_current = True
            self.sessions.resume()

    def close(self) -> None:
        """Let go of what is open; whoever has the partition next writes it."""
        self.sessions.close()
        self._outlet.close()
        self._scratch.cleanup()


class Assembling:
    """A member of the consumer group.

    Args:
        kafka: Where records are read.
        folder: Where documents go, and beneath it what is noted of partitions: the same for all members.
        terms: What is agreed on sessions; one that is written is held for as long as it says, for what comes late.
        deliveries: Where documents are delivered besides.
    """

    def __init__(self, kafka: Kafka, folder: Path, terms: Terms, deliveries: Deliveries) -> None:
        (folder / PLACE).mkdir(parents=True, exist_ok=True)
        remove_unwritten(folder)
        self._kafka, self._folder, self._terms, self._deliveries = kafka, folder, terms, deliveries
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._committed: dict[tuple[str, int], int] = {}
        self._before = Counts()
        """What was counted of partitions that others have now."""

    @property
    def counts(self) -> Counts:
        """What has come, and what became of it; asked for from any thread."""
        partitions = list(self._partitions.values())
        counts = Counts(behind=sum(max(0, each.end - each.next) for each in partitions))
        for each in (self._before, *(partition.sessions.counts for partition in partitions)):
            counts.add(each)
        return counts

    def run(self, stopped: threading.Event) -> None:
        """Assemble until `stopped`, then write every session.

        Raises:
            SpanRelayError: nothing can be read any more.
        """
        consumer = Consumer(self._kafka.consumer(self._kafka.group))
        consumer.subscribe([self._kafka.keyed_topic], on_assign=self._given, on_revoke=self._taken, on_lost=self._taken)
        try:
            pace = Pace()
            while not stopped.is_set():
                self._take(consumer.consume(_AT_ONCE, _PATIENCE_S))
                pace.look([each.sessions for each in self._partitions.values() if each.is_current])
                self._commit(consumer)
            for each in self._partitions.values():
                if each.is_current:
                    each.sessions.write_due(everything=True)
            self._deliveries.close()
            self._commit(consumer)
        finally:
            consumer.close()

    def _take(self, messages: list[Message]) -> None:
        messages.sort(key=_partition_of)  # and in each partition as they came
        for where, together in groupby(messages, _partition_of):
            taken = list(together)
            for message in taken:
                if (error := message.error()) is not None:
                    checked(error)
            if (partition := self._partitions.get(where)) is not None:
                partition.take(message for message in taken if message.error() is None)

    def _commit(self, consumer: Consumer) -> None:
        for where, each in self._partitions.items():
            each.end = max(each.end, consumer.get_watermark_offsets(TopicPartition(*where), cached=True)[1])
        commit(consumer, {where: each.needed for where, each in self._partitions.items()}, self._committed)

    def _given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        begins = begins_of(consumer, partitions)
        for where, (begin, end) in begins.items():
            self._committed[where] = begin
            name = "{}-{}".format(*where)
            outlet = self._deliveries.outlet(name)
            self._partitions[where] = _Partition(name, begin, end, self._folder, self._terms, outlet)
        consumer.incremental_assign([TopicPartition(*where, begin) for where, (begin, _) in begins.items()])

    def _taken(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            if (partition := self._partitions.pop((each.topic, each.partition), None)) is not None:
                self._before.add(partition.sessions.counts)
                self._before.open_sessions = 0  # whoever has it next counts them
                try:
                    partition.close()
                except Exception as error:
                    swallow("letting go of a partition", error)
        consumer.incremental_unassign(partitions)


def _partition_of(message: Message) -> tuple[str, int]:
    return message.topic() or "", message.partition() or 0
