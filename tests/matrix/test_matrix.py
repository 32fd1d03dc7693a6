"""Every family around every way of asking, wherever it was registered: on the wire, for the caller, on record.

Each cell asks a real server over HTTP and reads the span, the event and the trajectory that it left. `cells.py` is the
table, with the reasons for the cells that are missing.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode
from tests.matrix.cells import CELLS, FAMILIES, PLACES, TABLE, Cell
from tests.matrix.ways import WAYS, wire
from tests.matrix.work import Work, World, working

from spanrelay import GuardrailRejected
from spanrelay.semconv import names
from spanrelay_testkit.capture import asked, said

on_one_loop = pytest.mark.asyncio(loop_scope="module")
"""The async clients are made once, and belong to a loop."""


class Family:
    """What the rule of a family does, and all that must be seen of it."""

    acts_on: ClassVar[str]
    """A question that passes untouched once the rule is out of force."""

    async def ask(self, work: Work) -> None:
        """Ask, and check what the server received and what the caller got."""
        raise NotImplementedError

    def check_record(self, work: Work) -> None:
        """Check what span, event and trajectory say."""
        raise NotImplementedError


def calls(work: Work) -> list[Any]:
    """The spans of model calls."""
    return [span for span in work.spans if (span.attributes or {})[names.OI_KIND] == "LLM"]


def verdicts(work: Work) -> list[tuple[Any, Any]]:
    """Which guardrail said what, in order."""
    spans = [dict(span.attributes or {}) for span in work.spans]
    return [
        (each[names.GUARDRAIL_COMPONENT_NAME], each[names.GUARDRAIL_VERDICT_TYPE])
        for each in spans
        if each[names.OI_KIND] == "GUARDRAIL"
    ]


def turns(work: Work) -> list[tuple[str, str]]:
    """Who says what in the trajectory."""
    return [(step["source"], step["message"]) for step in work.steps]


def check_exchange(work: Work, index: int, question: str, answer: str) -> None:
    """Span and event of a call say the same two things."""
    span, event = calls(work)[index], work.events[index]
    assert (asked(span), said(span)) == (question, answer)
    profile = event["category_profile"]
    assert text_in(profile["annotated_request"]) == question
    assert text_in(profile["annotated_response"]) == text_in(event["data"]) == answer


def text_in(value: dict[str, Any]) -> str:
    """The text of the messages in an event."""
    parts = [part for message in value["messages"] for part in message["parts"]]
    return "".join(part["content"] for part in parts if part["type"] == "text")


def check_failure(work: Work, index: int, told: str) -> None:
    """Span, event and trajectory say who refused and why."""
    span, event, step = calls(work)[index], work.events[index], work.steps[-1]
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, told)
    assert event["metadata"]["otel.status_code"] == "ERROR"
    assert event["metadata"]["otel.status_description"] == told
    assert step["extra"]["error"] == {"type": "spanrelay.errors.GuardrailRejected", "message": told}


class Guardrail(Family):
    acts_on = "the forbidden"

    async def ask(self, work: Work) -> None:
        assert await work.ask("hello") == "You said: hello"
        with pytest.raises(GuardrailRejected) as refused:
            await work.ask("the forbidden")
        assert (refused.value.reason, refused.value.name) == (self.reason(work.cell), work.cell.rule_name)
        assert work.questions == ["hello"]
        assert work.heard == ["You said: hello", ""]

    def reason(self, cell: Cell) -> str:
        denied = "model 'gpt-forbidden' is denied by '*-forbidden'"
        return denied if cell.place == "built-in plugin" else "it is forbidden"

    def check_record(self, work: Work) -> None:
        name = work.cell.rule_name
        assert verdicts(work) == [(name, "allow"), (name, "deny")]
        judged = [span for span in work.spans if span.name == f"run_guardrail {name}"]
        for judge, call in zip(judged, calls(work), strict=True):
            assert judge.parent is not None and judge.parent.span_id == call.context.span_id
        check_exchange(work, 0, "hello", "You said: hello")
        assert asked(calls(work)[1]) == "the forbidden"
        check_failure(work, 1, f"guardrail {name!r} refused the call: {self.reason(work.cell)}")
        assert turns(work) == [
            ("user", "hello"),
            ("agent", "You said: hello"),
            ("user", "the forbidden"),
            ("agent", ""),
        ]


class RequestIntercept(Family):
    acts_on = "my secret"

    async def ask(self, work: Work) -> None:
        assert await work.ask("my secret") == "You said: my ***"
        [request] = work.received
        streamed = {"stream": True} if work.cell.way.streams else {}
        assert request.body == wire("my ***", **streamed), "nothing else is changed, and nothing is lost"

    def check_record(self, work: Work) -> None:
        check_exchange(work, 0, "my ***", "You said: my ***")
        assert turns(work) == [("user", "my ***"), ("agent", "You said: my ***")]
        assert "secret" not in json.dumps(work.document)


class ExecutionIntercept(Family):
    acts_on = "the known"

    async def ask(self, work: Work) -> None:
        assert await work.ask("the known") == "by heart"
        assert work.received == []
        assert await work.ask("broken") == "You said: broken"
        assert [request.model for request in work.received] == ["gpt-5", "gpt-5-mini"]
        first, second = work.received
        assert {**first.body, "model": None} == {**second.body, "model": None}

    def check_record(self, work: Work) -> None:
        check_exchange(work, 0, "the known", "by heart")
        check_exchange(work, 1, "broken", "You said: broken")
        known, small = calls(work)
        assert (known.attributes or {})[names.ANSWERED_BY] == work.cell.rule_name
        assert small.name == "chat gpt-5-mini"
        assert small.status.status_code is StatusCode.UNSET
        assert work.events[1]["category_profile"]["model_name"] == "gpt-5-mini"
        by_heart, by_model = (step for step in work.steps if step["source"] == "agent")
        assert (by_heart["message"], by_heart["llm_call_count"]) == ("by heart", 0)
        assert by_heart["extra"]["answered_by"] == work.cell.rule_name
        assert (by_model["message"], by_model["model_name"]) == ("You said: broken", "gpt-5-mini")
        assert by_model["llm_call_count"] == 1


class StreamIntercept(Family):
    acts_on = "mail bob@example.com now"
    shown = "You said: mail [email] now"

    async def ask(self, work: Work) -> None:
        assert await work.ask(self.acts_on) == self.shown
        assert work.questions == [self.acts_on]
        with pytest.raises(GuardrailRejected, match="too dangerous"):
            # The server holds back the rest: a refused stream is not read on.
            await work.ask("a word of danger and more")
        assert "danger" not in work.heard[1]

    def check_record(self, work: Work) -> None:
        check_exchange(work, 0, self.acts_on, self.shown)
        refused = calls(work)[1]
        assert said(refused) == work.heard[1]
        assert (refused.attributes or {})[names.INCOMPLETE] == "error"
        assert work.events[1]["metadata"][names.INCOMPLETE] == "error"
        # It names itself when it refuses, and does not know what a file called it.
        check_failure(work, 1, "guardrail 'without_emails' refused the call: too dangerous")
        assert turns(work)[:2] == [("user", self.acts_on), ("agent", self.shown)]
        assert "danger" not in work.steps[-1]["message"]


class Sanitizer(Family):
    acts_on = "mail bob@example.com"

    async def ask(self, work: Work) -> None:
        assert await work.ask(self.acts_on) == f"You said: {self.acts_on}"
        assert work.questions == [self.acts_on]

    def check_record(self, work: Work) -> None:
        masked = "mail b**@example.com" if work.cell.place == "built-in plugin" else "mail [email]"
        check_exchange(work, 0, masked, f"You said: {masked}")
        assert turns(work) == [("user", masked), ("agent", f"You said: {masked}")]
        everything = [*(span.to_json() for span in work.spans), *map(json.dumps, (work.events, work.document))]
        assert not any("bob@" in each for each in everything)


EXERCISES: dict[str, Family] = {
    "guardrail": Guardrail(),
    "request intercept": RequestIntercept(),
    "execution intercept": ExecutionIntercept(),
    "stream intercept": StreamIntercept(),
    "sanitizer": Sanitizer(),
}


async def check_out_of_force(work: Work, question: str) -> None:
    """What the rule acted on passes, now that it is gone."""
    before = len(work.received)
    work.world.go_on.set()
    assert await work.ask(question) == f"You said: {question}"
    assert work.questions[before:] == [question]


@on_one_loop
@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_it_acts_and_everything_says_so(cell: Cell, world: World, tmp_path: Path) -> None:
    family, folder = EXERCISES[cell.family], tmp_path / "trajectories"
    async with working(cell, world, folder) as work:
        with cell.in_force(tmp_path):
            await family.ask(work)
        work.settle()
        await check_out_of_force(work, family.acts_on)
    work.read_trajectory()
    family.check_record(work)


@on_one_loop
@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_it_acts_where_nothing_is_sampled(cell: Cell, world: World, tmp_path: Path) -> None:
    family, folder = EXERCISES[cell.family], tmp_path / "trajectories"
    async with working(cell, world, folder, sampler=ALWAYS_OFF) as work:
        with cell.in_force(tmp_path):
            await family.ask(work)
        work.settle()
        await check_out_of_force(work, family.acts_on)
    assert work.spans == work.events == []
    assert not folder.exists()


WHOLE = [cell for cell in TABLE if cell.family == "stream intercept" and cell.way.ask and not cell.way.streams]


@on_one_loop
@pytest.mark.parametrize("cell", [cell for cell in WHOLE if cell.place != "built-in plugin"], ids=str)
async def test_a_stream_intercept_leaves_a_whole_answer_alone(cell: Cell, world: World, tmp_path: Path) -> None:
    async with working(cell, world, tmp_path / "trajectories") as work:
        world.go_on.set()
        with cell.in_force(tmp_path):
            assert await work.ask("danger for bob@example.com") == "You said: danger for bob@example.com"


def test_every_cell_is_tested_or_says_why_not() -> None:
    assert len(TABLE) == len(set(map(str, TABLE))) == len(FAMILIES) * len(WAYS) * len(PLACES)
    assert set(EXERCISES) == set(FAMILIES)
    missing = Counter(cell.missing for cell in TABLE if cell.missing)
    assert len(CELLS) + missing.total() == len(TABLE)
    for family in FAMILIES:
        tested = {(cell.way.door, cell.place) for cell in CELLS if cell.family == family}
        own = {"global", "scope-local", "plugin file"}
        assert {place for _, place in tested} >= own
        assert {door for door, _ in tested} == {"managed", "openai"}
