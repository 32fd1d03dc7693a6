"""Through the gateway an SDK that nobody instruments is answered, recorded and governed as one in process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.context import Context
from tests.providers.conversation import SCRIPT, Speaker, hold, script, talking
from tests.providers.speakers import HERE, Anthropic, GoogleGenAI, OpenAI, instrumentor_of
from tests.providers.test_same_conversation import bare
from tests.providers.test_same_policy import FILE, HALVES, WAYS, Way, told

from spanrelay import gateway
from spanrelay.propagation import identified
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.conformance.trajectories import complaints_of, documents_of
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

KINDS = [kind for kind in (OpenAI, Anthropic, GoogleGenAI) if kind in HERE]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
each_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))
ASYNC, SYNC = HALVES["async"], HALVES["sync"]
OF_THE_WAY = frozenset({"server.port", "gen_ai.response.time_to_first_chunk"})
"""What differs from one run to the next."""


@contextmanager
def standing(server: ModelServer, capture: Capture) -> Iterator[gateway.Gateway]:
    """A gateway in front of a server; what it has recorded is there when the block is over."""
    found = gateway.start(
        upstreams={"openai": server.url, "anthropic": server.address, "gemini": server.address},
        around=identified(Context(), session_id="weather"),
        tracer_provider=capture.provider,
    )
    try:
        yield found
    finally:
        assert found.stop()


def calls_of(capture: Capture) -> tuple[list[dict[str, Any]], list[Any]]:
    """What the spans of models say, and the trajectory of them alone, without a word on those that it is without."""
    spans = capture.of("LLM")
    documents = documents_of(spans)
    assert list(complaints_of(documents)) == []
    told = [{key: value for key, value in (span.attributes or {}).items() if key not in OF_THE_WAY} for span in spans]
    capture.clear()
    for document in documents:
        document.pop("extra", None)
        document.pop("notes", None)
    return told, [bare(document, {}) for document in documents]


@each_kind
async def test_spans_and_trajectory_of_a_conversation_are_those_of_the_program_in_process(
    kind: type[Speaker], capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    with at_work(capture, instrumentor_of(kind), log=caplog), ModelServer(script()) as server:
        async with talking(kind(SYNC), server.address) as speaker:
            assert await hold(speaker) == SCRIPT[-1].text  # type: ignore[attr-defined]  # it is a reply
    spans, documents = calls_of(capture)
    with ModelServer(script()) as server, standing(server, capture) as stands:
        async with talking(kind(ASYNC), stands.base_url()) as speaker:
            assert await hold(speaker) == SCRIPT[-1].text  # type: ignore[attr-defined]  # it is a reply
    assert calls_of(capture) == (spans, documents)
    assert len(documents) == 1


@each_kind
@each_way
async def test_what_policy_refuses_is_the_sdks_usual_error_and_never_sent(
    kind: type[Speaker], way: Way, capture: Capture, tmp_path: Path
) -> None:
    refused = {"get_weather": kind(ASYNC), "secret-1": kind(ASYNC, model="secret-1", offers=False)}
    with ModelServer(lambda request: reply("ok")) as server, in_force(tmp_path, FILE.format(offered="refuse")):
        with standing(server, capture) as stands:
            for name, speaker in refused.items():
                async with talking(speaker, stands.base_url()):
                    speaker.say("hi")
                    with pytest.raises(Exception, match=f"'{name}' is denied") as raised:
                        await way(speaker)
                assert type(raised.value).__module__.partition(".")[0] == kind.module.partition(".")[0]
                assert 403 in (getattr(raised.value, "status_code", None), getattr(raised.value, "code", None))
        assert server.requests == []
    assert len(capture.of("LLM")) == 2


@each_kind
@each_way
@pytest.mark.parametrize("offered", ["remove"])
async def test_what_policy_changes_is_all_that_is_changed(
    kind: type[Speaker], way: Way, offered: str, capture: Capture, tmp_path: Path
) -> None:
    async def asked(address: str) -> None:
        async with talking(kind(ASYNC), address) as speaker:
            speaker.say("hi")
            await way(speaker)

    with ModelServer(lambda request: reply("ok")) as server:
        with standing(server, capture) as stands:
            await asked(stands.base_url())
            with in_force(tmp_path, FILE.format(offered=offered)):
                await asked(stands.base_url())
        before, after = (request.body for request in server.requests)
    assert told(after, "temperature") == [0.25]
    assert "get_weather" not in json.dumps(after)
    for name in ("tools", "tool_choice", "temperature", "generationConfig"):
        before.pop(name, None)
        after.pop(name, None)
    assert after == before
