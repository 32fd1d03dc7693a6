"""What Gemini CLI leaves behind becomes the trajectory of its run, but for what the source lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conversion.agent_runs import (
    Run,
    assert_any_order_gives_the_same,
    assert_garbled_telemetry_is_read,
    assert_lacks_what_the_table_says,
    document_of,
    runs,
)
from tests.shared_data import needs_shared

pytestmark = needs_shared
RUNS = runs("gemini", "full", "default", "otlp")


@pytest.mark.parametrize("run", RUNS, ids="-".join)
def test_a_run_becomes_what_the_wire_says(run: Run, tmp_path: Path) -> None:
    assert_lacks_what_the_table_says(run, tmp_path)


@pytest.mark.parametrize("run", RUNS, ids="-".join)
def test_any_order_of_what_was_recorded_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    assert_any_order_gives_the_same(run, tmp_path)


@pytest.mark.parametrize("run", RUNS, ids="-".join)
def test_whatever_stands_in_attributes_is_read(run: Run, tmp_path: Path) -> None:
    assert_garbled_telemetry_is_read(run, tmp_path)


def test_a_call_that_a_hook_refused_says_so(tmp_path: Path) -> None:
    steps = document_of(("gemini", "policy", "otlp"), tmp_path)["steps"]
    refused = [call.get("extra", {}).get("refused") for step in steps for call in step.get("tool_calls") or []]
    assert refused == ["policy_violation", "policy_violation", None]
