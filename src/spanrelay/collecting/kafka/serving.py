"""Runs a member of the consumer groups: one thread writes what is keyed by session, this one assembles it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException

from spanrelay.collecting.delivery.outlet import Deliveries
from spanrelay.collecting.kafka.assembling import Assembling
from spanrelay.collecting.kafka.clients import Kafka, partitions_of
from spanrelay.collecting.kafka.rekeying import Rekeying, make_topics
from spanrelay.collecting.sessions import Terms
from spanrelay.errors import SpanRelayError


def prepared(kafka: Kafka, folder: Path, terms: Terms, deliveries: Deliveries) -> Assembling:
    """Return a member that `collect` has collect.

    Raises:
        ConfigurationError: there is no such topic or broker.
    """
    if kafka.keyed:
        partitions_of(kafka)
    else:
        make_topics(kafka)
    return Assembling(kafka, folder, terms, deliveries)


def collect(kafka: Kafka, assembling: Assembling, stopped: threading.Event) -> None:
    """Collect until `stopped`, then write every session.

    Raises:
        SpanRelayError: nothing can be read or written any more.
    """
    failures: list[BaseException] = []

    def rekey() -> None:
        try:
            with _told():
                Rekeying(kafka).run(stopped)
        except BaseException as error:  # told by the other thread
            failures.append(error)
            stopped.set()

    rekeying = threading.Thread(target=rekey, name="spanrelay-rekeying")
    if not kafka.keyed:
        rekeying.start()
    try:
        with _told():
            assembling.run(stopped)
    finally:
        stopped.set()
        if not kafka.keyed:
            rekeying.join()
    if failures:
        raise failures[0]


@contextmanager
def _told() -> Generator[None]:
    """Say what brokers refuse as an error of ours, which names what was asked."""
    try:
        yield
    except KafkaException as error:
        raise SpanRelayError(f"Kafka refuses: {error.args[0].str()} ({error.args[0].name()})") from error
