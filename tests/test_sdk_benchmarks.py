"""The rows of SDKs other than OpenAI's, which run in an environment of their own where those are not here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from benchmarks import workload
from benchmarks.floor import encoding_provider
from benchmarks.measure import QUICK
from benchmarks.ours import recording
from benchmarks.peer import PEERS, instrumentor, measure
from benchmarks.sdks import SDKS
from tests.own_environment import ROOT, run_tests_of
from tests.provider_environment import beside_other_sdks, providers
from tests.test_costs import counted

FOLDERS = (str(ROOT / "src"), str(ROOT / "instrumentors"))
PASSED = {
    "anthropic": {"__next__": 100},
    "google-genai": {"__next__": 100, "_kept": 100, "read": 100},
    "bedrock": {"__next__": 100, "_parsed": 100, "stream": 100, "_same": 100},
}
"""Calls that a hundred chunks more take while the application waits, by the row; a step of a generator is one too."""


@pytest.fixture(params=sorted(SDKS))
def row(request: pytest.FixtureRequest) -> str:
    """The row of an SDK that is here."""
    if not SDKS[request.param].is_here:
        pytest.skip(f"{SDKS[request.param].distribution!r} is not here")
    return request.param


def _texts(value: Any) -> str:
    """All texts in what an SDK returned, whatever its types, as one."""
    plain = value.model_dump() if hasattr(value, "model_dump") else value
    if isinstance(plain, dict):
        return "".join(text if key == "text" else _texts(text) for key, text in plain.items() if text is not None)
    return "".join(map(_texts, plain)) if isinstance(plain, (list, tuple)) else ""


def test_a_client_gets_the_answer_of_the_exchange_whole_and_in_chunks(row: str) -> None:
    whole, streamed = workload.chat(1_000), workload.stream(50)
    function, request, _ = SDKS[row].call(whole)
    assert _texts(function(**request)) == whole.answer
    function, request, events = SDKS[row].call(streamed)
    answer = function(**request)
    found = [_texts(event) for event in (answer if events is None else answer[events])]
    assert [text for text in found if text] == streamed.pieces
    assert len(streamed.pieces) == 50


@pytest.mark.slow
def test_a_row_of_an_sdk_prints_its_figures(row: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    command = (sys.executable, "-m", "benchmarks", "--quick", "--json", str(file), row)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())["results"]
    found = {(result["row"].removeprefix(f"{SDKS[row].title}, "), result["figure"]) for result in results}
    works = ("chat, 1 KB", "stream, 50 chunks", "stream, each chunk")
    assert found == {(work, figure) for work in works for figure in ("wall", "CPU")}


@pytest.mark.slow
def test_a_peer_is_measured_at_the_row_of_an_sdk(row: str) -> None:
    with PEERS["spanrelay"]() as peer:
        results = measure(peer, row, QUICK)
    assert len(results) == 2 * 2
    assert all(result.floor is not None for result in results)


def test_an_sdk_that_an_instrumentation_does_not_know_is_a_reason(row: str) -> None:
    with instrumentor({})() as peer, pytest.raises(NotImplementedError) as raised:
        measure(peer, row, QUICK)
    assert str(raised.value) == f"has no instrumentor of {row}"


def test_a_chunk_takes_few_of_our_functions_on_its_way_and_one_to_be_read_and_is_never_serialised(row: str) -> None:
    provider, _ = encoding_provider()
    with recording(provider, sdk=SDKS[row]) as patched:
        patched.on()
        passing, reading = [], []
        for chunks in (50, 150):
            ask = SDKS[row].create(workload.stream(chunks))
            for _ in range(3):  # what is made once is there
                ask()
            provider.force_flush()
            passing.append(counted(ask, FOLDERS))
            reading.append(counted(provider.force_flush, FOLDERS))
    more, later = passing[1] - passing[0], reading[1] - reading[0]
    assert more == Counter(PASSED[row]), more
    assert later - Counter(frames=100) == Counter({"add": 100}), later


@beside_other_sdks("anthropic")
def test_the_rows_of_sdks_run_where_those_are() -> None:
    run_tests_of(providers(), Path(__file__))
