"""What the plugin `prompt_cache` decides otherwise than before is an event of the call's span, with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.saving import Answer, Asked
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Span
from tests.plugins.test_prompt_cache import LONG, Agent, asked

from spanrelay.codecs import openai_chat
from spanrelay.plugins.prompt_cache.keys import PER_MINUTE
from spanrelay.records import ModelResponse
from spanrelay.semconv import names

Event = tuple[str, dict[str, Any]]


class Told:
    """Sends requests through a governor, each with a span, and says what events it has."""

    def __init__(self, **options: Any) -> None:
        self.agent = Agent(**options)
        self._tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")

    def call(self, body: dict[str, Any]) -> Asked:
        call = Asked(body)
        call.span = self._tracer.start_span("chat")
        return call

    def ask(self, body: dict[str, Any]) -> list[Event]:
        call = self.call(body)
        self.agent.ask(body, call)
        return events_of(call.span)


def events_of(span: Span) -> list[Event]:
    assert isinstance(span, ReadableSpan)
    return [(event.name, dict(event.attributes or {})) for event in span.events]


def decisions(events: list[Event]) -> list[tuple[Any, ...]]:
    assert all(name == names.PROMPT_CACHE_DECIDED for name, _ in events)
    keys = (names.PROMPT_CACHE_DECISION, names.PROMPT_CACHE_REASON, names.PROMPT_CACHE_MARKS)
    return [tuple(about.get(key) for key in keys) for _, about in events]


def test_a_conversation_that_is_marked_says_so_once() -> None:
    told = Told()
    first = told.ask(asked("a" * 100))
    assert decisions(first) == [("marked", "pays", ("system 5m", "messages 5m"))]
    assert len(first[0][1][names.PROMPT_CACHE_SCAFFOLD]) == 8
    said = ["a" * 100]
    for turn in range(4):
        told.agent.now += 5
        said += ["b" * 9, f"{turn}" * 9]
        assert told.ask(asked(*said)) == []


def test_while_it_only_observes_it_says_what_it_would_decide() -> None:
    assert decisions(Told(applies=False).ask(asked("a")))[0][:2] == ("would_mark", "pays")


def test_that_nothing_is_marked_where_nothing_was_is_no_news() -> None:
    assert Told().ask(asked("a", system="short")) == []


def test_what_is_not_written_any_more_says_why() -> None:
    told = Told()
    found = []
    for number in range(40):
        told.agent.now += 4000
        found += decisions(told.ask(asked(f"{number}", system=LONG)))
    assert found[0][:2] == ("marked", "pays")
    assert found[-1][0] == "unmarked"
    assert found[-1][1] in ("rarely_reused", "uncovered")
    assert len(found) < 10


def test_a_model_that_nobody_knows_is_told_of_once() -> None:
    told = Told()
    unknown = {**asked("a"), "model": "no-such-model"}
    assert decisions(told.ask(unknown)) == [("skipped", "unknown_model", None)]
    assert told.ask(unknown) == []


def test_marks_that_the_provider_refuses_are_told() -> None:
    told = Told()
    call = told.call(asked("a"))
    steps = told.agent.governor.govern(call)
    assert next(steps) is call
    assert steps.throw(ValueError("cache_control: unknown field")) is call
    assert [each[:2] for each in decisions(events_of(call.span))] == [("marked", "pays"), ("skipped", "refused")]
    steps.close()


def test_a_call_that_was_held_back_says_for_how_long() -> None:
    told = Told()
    leads = told.agent.governor.govern(told.call(asked("a")))
    next(leads)
    follows = told.call(asked("b"))
    steps = told.agent.governor.govern(follows)
    waiting: Any = next(steps)
    waiting.close()
    told.agent.now += 1.5
    assert next(steps) is follows
    assert events_of(follows.span)[0] == (names.PROMPT_CACHE_WAITED, {names.PROMPT_CACHE_WAITED_S: 1.5})
    steps.close()
    leads.close()


def test_a_key_is_told_when_it_is_given_and_when_conversations_share_it_out() -> None:
    told = Told(providers=frozenset({"openai"}))
    found: list[tuple[Any, ...]] = []
    for _ in range(PER_MINUTE + 1):
        call = told.call({"model": "gpt-5", "messages": [{"role": "system", "content": LONG}]})
        call.codec, call.record.provider = openai_chat, "openai"  # type: ignore[assignment]
        steps = told.agent.governor.govern(call)
        next(steps)
        found += decisions(events_of(call.span))
        with pytest.raises(StopIteration):
            steps.send(Answer(ModelResponse()))
    assert [each[:2] for each in found] == [("marked", "first_use"), ("marked", "busy")]
