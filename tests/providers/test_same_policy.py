"""One `spanrelay.toml` refuses a tool and a model and sets a parameter, whatever SDK asks, as what is sent shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.providers.conversation import Speaker, script, talking
from tests.providers.speakers import HERE, instrumentor_of

from spanrelay.errors import GuardrailRejected
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

FILE = """
[plugins.policy]
models.deny = ["secret-*"]
tools.deny = ["get_weather"]
tools.offered = "{offered}"

[plugins.policy.parameters."*"]
temperature = 0.25
"""
HALVES = {"sync": Half(asynchronous=False), "async": Half(asynchronous=True)}
Way = Callable[[Speaker], Awaitable[Any]]
WAYS: dict[str, Way] = {"whole": lambda speaker: speaker.ask(), "stream": lambda speaker: speaker.stream()}
each_sdk = pytest.mark.parametrize("kind", HERE, ids=lambda kind: kind.__name__)
each_half = pytest.mark.parametrize("half", list(HALVES.values()), ids=list(HALVES))
each_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))


@pytest.fixture
def instrumented(kind: type[Speaker], capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    with at_work(capture, instrumentor_of(kind), log=caplog):
        yield capture


@pytest.fixture
def offered() -> str:
    return "refuse"


@pytest.fixture
def governed(tmp_path: Path, offered: str) -> Iterator[None]:
    """`FILE` in force."""
    with in_force(tmp_path, FILE.format(offered=offered)):
        yield


def told(value: Any, name: str) -> list[Any]:
    """Return what JSON says under a name, wherever that is."""
    if isinstance(value, dict):
        return [each for key, inner in value.items() for each in ([inner] if key == name else told(inner, name))]
    return [each for inner in value for each in told(inner, name)] if isinstance(value, list) else []


@each_sdk
@each_half
@each_way
async def test_a_tool_and_a_model_are_refused_before_anything_is_sent(
    kind: type[Speaker], half: Half, way: Way, instrumented: Capture, governed: None
) -> None:
    refused = {"get_weather": kind(half), "secret-1": kind(half, model="secret-1", offers=False)}
    with ModelServer(lambda request: reply("ok")) as server:
        for name, speaker in refused.items():
            async with talking(speaker, server.address):
                speaker.say("hi")
                with pytest.raises(GuardrailRejected, match=f"'{name}' is denied"):
                    await way(speaker)
        assert server.requests == []
    spans = instrumented.of("LLM")
    assert [(span.attributes or {})[names.ERROR_TYPE] for span in spans] == ["spanrelay.errors.GuardrailRejected"] * 2


@each_sdk
@each_half
@each_way
async def test_a_parameter_is_what_the_file_says(
    kind: type[Speaker], half: Half, way: Way, instrumented: Capture, governed: None
) -> None:
    with ModelServer(lambda request: reply("ok")) as server:
        async with talking(kind(half, offers=False), server.address) as speaker:
            speaker.say("hi")
            await way(speaker)
        [request] = server.requests
    assert told(request.body, "temperature") == [0.25]
    [span] = instrumented.of("LLM")
    assert (span.attributes or {})[names.PARAMETER_NAMES["temperature"]] == 0.25


@each_sdk
@each_half
@each_way
@pytest.mark.parametrize("offered", ["pass"])
async def test_what_a_refused_tool_gave_in_a_loop_of_the_programs_own_is_not_sent(
    kind: type[Speaker], half: Half, way: Way, instrumented: Capture, governed: None
) -> None:
    with ModelServer(script()) as server:
        async with talking(kind(half), server.address) as speaker:
            speaker.say("hi")
            wanted = await speaker.ask()
            assert [call.name for call in wanted] == ["get_weather"] * 2
            speaker.give([(call, "4 degrees", False) for call in wanted])
            with pytest.raises(GuardrailRejected, match="get_weather"):
                await way(speaker)
        assert len(server.requests) == 1
