"""From programs through the real collector and a real broker to the bytes that `spanrelay convert` writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.collecting.proof import TOPIC, prove
from tests.e2e.conftest import MakeCollector, cannot

from spanrelay_testkit.kafka_broker import is_possible

pytestmark = pytest.mark.e2e


def test_what_programs_send_becomes_the_trajectories_that_convert_makes_though_an_assembler_is_killed(
    collectors: MakeCollector, tmp_path: Path
) -> None:
    if not is_possible():
        cannot("a broker takes Java, and Maven the first time")
    told = prove(
        2_000,
        2,
        seed=3,
        folder=tmp_path,
        collect=lambda broker: collectors(
            kafka={"SPANRELAY_KAFKA_BROKERS": broker.address, "SPANRELAY_KAFKA_TOPIC": TOPIC}
        ),
    )
    assert len(told.kills) == 2
