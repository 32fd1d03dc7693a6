"""From programs through the real collector and a real broker to the bytes that `spanrelay convert` writes."""

from __future__ import annotations

import os
import random
import signal
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tests.collecting.test_collecting import converted, documents_in, until
from tests.collecting.test_kafka import assembler, trace_of, until_written
from tests.e2e.conftest import MakeCollector, cannot

from spanrelay_testkit.kafka_broker import is_possible, running

pytestmark = pytest.mark.e2e
TOPIC = "otlp_spans"


def test_what_programs_send_becomes_the_trajectories_that_convert_makes_though_an_assembler_is_killed(
    collectors: MakeCollector, tmp_path: Path
) -> None:
    if not is_possible():
        cannot("a broker takes Java, and Maven the first time")
    generator, kills = random.Random(3), int(os.environ.get("SPANRELAY_TEST_KILLS", "2"))
    number = int(os.environ.get("SPANRELAY_TEST_SPANS", "1000"))
    requests = [each for trace in range(1, number // 2 + 1) for each in trace_of(trace, f"s-{trace % 50}")]
    (tmp_path / "broker").mkdir()
    with ExitStack() as stack:
        broker = stack.enter_context(running(tmp_path / "broker"))
        admin = AdminClient({"bootstrap.servers": broker.address})
        admin.create_topics([NewTopic(TOPIC, 4, config={"max.message.bytes": "16000000"})])[TOPIC].result(60)
        collector = collectors(kafka={"SPANRELAY_KAFKA_BROKERS": broker.address, "SPANRELAY_KAFKA_TOPIC": TOPIC})
        collector.start()
        members = [stack.enter_context(assembler(broker, TOPIC, tmp_path / "runs")) for _ in range(2)]
        with httpx.Client() as client:
            for kill in range(kills):
                for request in requests[kill * len(requests) // kills : (kill + 1) * len(requests) // kills]:
                    kind = {"content-type": "application/x-protobuf"}
                    told = client.post(f"{collector.url}/v1/traces", content=request.SerializeToString(), headers=kind)
                    assert told.status_code == 200
                written = generator.randrange(1, 50)
                until(lambda written=written: len(documents_in(tmp_path / "runs")) >= written)
                victim = generator.randrange(2)
                members[victim].kill()
                members[victim] = stack.enter_context(assembler(broker, TOPIC, tmp_path / "runs"))
        until_written(tmp_path / "runs", converted(requests, tmp_path / "wanted"), *members)
        for each in members:
            each.send_signal(signal.SIGTERM)
            assert (each.communicate(timeout=120)[1], each.returncode) == ("", 0)
        collector.stop()
