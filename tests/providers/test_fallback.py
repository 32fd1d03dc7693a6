"""Where a model cannot answer now, the next one of a declared order does, for every SDK, and one span tells of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.providers.test_adaptive import Row, each_row

from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Answer, Request, error, reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.policy import in_force

OTHERS = ["other-1", "other-2"]


def order(row: Row) -> str:
    return f'[plugins.fallback]\nmodels."{row.kind.model}" = {OTHERS}\n'


def refusing(**answers: Answer) -> Any:
    """A model's server that gives each model its answer, and `ok` to those that have none."""
    return lambda request: answers.get(model_in(request), reply("ok"))


def model_in(request: Request) -> str:
    return next((name for name in (*OTHERS, "first") if name in request.path or name == request.model), "first")


def events(capture: Capture, calls: int = 1) -> list[tuple[Any, ...]]:
    """What the span of the last of so many calls tells: the models and the reason."""
    *before, span = sorted(capture.of("LLM"), key=lambda span: span.start_time or 0)
    assert len(before) == calls - 1
    told = [event.attributes or {} for event in span.events if event.name == names.FALLBACK_EVENT]
    return [(each[names.FALLBACK_FROM], each[names.FALLBACK_TO], each[names.FALLBACK_REASON]) for each in told]


@each_row
@pytest.mark.parametrize(("status", "reason"), [(429, "rate_limit"), (529, "overload")])
async def test_the_next_model_answers(
    row: Row, status: int, reason: str, capture: Capture, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    answers = {"first": error(status), "other-1": error(status)}
    with ModelServer(refusing(**answers)) as server, row.recorded(server, capture, caplog) as address:
        with in_force(tmp_path, order(row)):
            await row.ask(address, "hi")
        asked = list(dict.fromkeys(map(model_in, server.requests)))
    assert asked == ["first", *OTHERS]
    first = row.kind.model
    assert events(capture) == [(first, "other-1", reason), ("other-1", "other-2", reason)]


@each_row
async def test_a_model_that_asked_to_be_left_alone_is_not_asked_again(
    row: Row, capture: Capture, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    busy = error(429, headers={"retry-after": "60"})
    with ModelServer(refusing(first=busy)) as server, row.recorded(server, capture, caplog) as address:
        with in_force(tmp_path, order(row)):
            await row.ask(address, "hi")
            server.requests.clear()
            await row.ask(address, "hi")
        assert list(map(model_in, server.requests)) == ["other-1"]
    # Its span may end after the program has its answer: the first one's is not to be waited for.
    assert events(capture, calls=2) == [(row.kind.model, "other-1", "resting")]


@each_row
async def test_policy_judges_each_model_that_is_asked(
    row: Row, capture: Capture, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    denied = '[plugins.policy]\nmodels.deny = ["other-1"]\n'
    with ModelServer(refusing(first=error(529))) as server, row.recorded(server, capture, caplog) as address:
        with in_force(tmp_path, order(row) + denied):
            await row.ask(address, "hi")
        assert list(dict.fromkeys(map(model_in, server.requests))) == ["first", "other-2"]
    assert [reason for *_, reason in events(capture)] == ["overload", "refused"]
