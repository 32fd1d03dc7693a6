"""A conversation is the same trajectory whatever SDK it is held through, but for names of models and ids."""

from __future__ import annotations

import difflib
import json
from typing import Any

import pytest
from tests.providers.conversation import SCRIPT, Speaker, hold, script, talking
from tests.providers.speakers import HERE, SPEAKERS, instrumentor_of

from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.conformance.trajectories import complaints_of, documents_of
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

HALVES = [Half(asynchronous=False), Half(asynchronous=True)]
OTHERS = [(each, half) for each in HERE for half in HALVES if each is not SPEAKERS[0] or half.asynchronous]


async def told(kind: type[Speaker], half: Half, capture: Capture, log: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Hold the conversation through an SDK, and return its trajectory without names and ids."""
    with at_work(capture, instrumentor_of(kind), log=log), ModelServer(script()) as server:
        async with talking(kind(half), server.address) as speaker:
            assert await hold(speaker) == SCRIPT[-1].text  # type: ignore[attr-defined]  # it is a reply
        assert len(server.requests) == len(SCRIPT)
    documents = documents_of(capture.spans)
    assert list(complaints_of(documents)) == []
    [document] = documents
    return bare(document, {})


DIFFERENT = frozenset(
    {
        *("model_name", "session_id", "trajectory_id", "original_id", "otel", "provider"),
        *("timestamp", "duration_sec", "time_to_first_token_ms"),
    }
)
"""What names models, ids and times."""


COUNTED_BY_SOME = frozenset({"cached_tokens", "total_cached_tokens"})
"""What providers that cache nothing do not count."""


def bare(value: Any, ids: dict[str, str]) -> Any:
    """Return JSON without what differs; ids of calls are numbered in the order in which they come."""
    if isinstance(value, dict):
        return {
            key: ids.setdefault(inner, f"call {len(ids)}")
            if key in ("tool_call_id", "source_call_id") and isinstance(inner, str)
            else bare(inner, ids)
            for key, inner in value.items()
            if key not in DIFFERENT and not (key in COUNTED_BY_SOME and inner == 0)
        }
    return [bare(inner, ids) for inner in value] if isinstance(value, list) else value


def lines_of(document: dict[str, Any]) -> list[str]:
    """A document line by line, so that a difference is a line."""
    return json.dumps(document, indent=1, sort_keys=True).splitlines()


@pytest.fixture(scope="module")
def by_openai() -> dict[str, Any]:
    return {}


@pytest.mark.parametrize(
    ("kind", "half"),
    OTHERS,
    ids=[f"{kind.__name__} {'async' if half.asynchronous else 'sync'}" for kind, half in OTHERS],
)
async def test_the_trajectory_is_that_of_openais_sdk(
    kind: type[Speaker],
    half: Half,
    capture: Capture,
    caplog: pytest.LogCaptureFixture,
    by_openai: dict[str, Any],
) -> None:
    theirs = await told(kind, half, capture, caplog)
    capture.clear()
    if not by_openai:
        by_openai.update(await told(SPEAKERS[0], HALVES[0], capture, caplog))
    differing = "\n".join(difflib.unified_diff(lines_of(by_openai), lines_of(theirs), "openai", "theirs", lineterm=""))
    assert not differing, differing
