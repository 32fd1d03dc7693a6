"""Which conversation a request goes on in, by what it repeats."""

from __future__ import annotations

from typing import Any

import pytest
from tests.trajectory.program import calls, says, system, user

from spanrelay.assembly import conversations
from spanrelay.assembly.conversations import Conversations, Question, RecordedHistory, question_of
from spanrelay.records import Message, ModelRequest, ModelResponse


def question(*messages: Message, **parameters: Any) -> Question:
    return question_of(RecordedHistory(list(messages)), ModelRequest(parameters=parameters))


def tell(known: Conversations[str], key: str, *messages: Message, answer: Message | None, **parameters: Any) -> None:
    """Let a conversation go on by a request and its answer."""
    asked = question(*messages, **parameters)
    known.find(asked)
    known.tell(key, asked, ModelResponse(messages=[answer]) if answer is not None else None)


@pytest.fixture
def known() -> Conversations[str]:
    return Conversations(100)


def test_conversations_that_end_alike_are_told_apart_by_their_beginnings(known: Conversations[str]) -> None:
    for key in ("a", "b"):
        tell(known, key, user(f"about {key}"), answer=says("ok"))
        tell(known, key, user(f"about {key}"), says("ok"), user("go on"), answer=says("ok"))
    for key in ("a", "b"):
        history = [user(f"about {key}"), says("ok"), user("go on"), says("ok"), user("go on")]
        assert known.find(question(*history)) == key


def test_of_conversations_that_say_the_same_the_open_one_goes_on(known: Conversations[str]) -> None:
    tell(known, "a", user("hi"), answer=says("hello"))
    tell(known, "b", user("hi"), answer=says("hello"))
    more = [user("hi"), says("hello"), user("more")]
    assert known.find(question(*more)) == "b"
    known.begin("b")  # under way, and not answered yet
    assert known.find(question(*more)) == "a"
    known.begin("a")
    assert known.find(question(*more)) == "b"


@pytest.mark.parametrize(
    "more",
    [
        [user("hi"), says("hello"), user("more")],
        [user("hi"), says(" hello \n"), user("more")],
        [system("be kind"), user("hi"), says("hello"), user("more")],
        [user("hi"), says("hello"), user("more"), says("{")],
    ],
)
def test_what_repeats_the_answer_goes_on(known: Conversations[str], more: list[Message]) -> None:
    tell(known, "a", user("hi"), answer=says("hello"))
    assert known.find(question(*more)) == "a"


@pytest.mark.parametrize(
    "other",
    [
        [user("hi")],
        [user("hi"), says("good day"), user("more")],
        [user("hi"), user("more")],
        [user("first"), says("x"), user("hi"), says("hello"), user("more")],
        [],
    ],
)
def test_what_does_not_begins_another(known: Conversations[str], other: list[Message]) -> None:
    tell(known, "a", user("hi"), answer=says("hello"))
    assert known.find(question(*other)) is None


def test_an_answer_with_calls_is_known_by_their_ids(known: Conversations[str]) -> None:
    tell(known, "a", user("hi"), answer=calls(("c1", "weather", {"city": "Oslo"})))
    rewritten = calls(("c1", "weather", "{}"))
    assert known.find(question(user("hi"), rewritten, user("and?"))) == "a"
    assert known.find(question(user("hi"), calls(("c2", "weather", "{}")), user("and?"))) is None
    assert known.of_call("weather", {"city": "Oslo"}, None) == "a"
    assert (known.of_call("other", {}, "c1"), known.of_call("weather", {}, "c2")) == ("a", None)


def test_a_request_whose_answer_never_came_is_gone_on_from(known: Conversations[str]) -> None:
    tell(known, "a", user("hi"), answer=None)
    assert known.find(question(user("hi"), says("whatever"), user("more"))) == "a"


def test_the_providers_ids_come_first(known: Conversations[str]) -> None:
    tell(known, "a", user("hi"), answer=says("hello"), conversation_id="conv")
    asked = question(user("hi"))
    known.tell("b", asked, ModelResponse(id="resp", messages=[says("hello")]))
    assert known.find(question(user("x"), conversation_id="conv")) == "a"
    assert known.find(question(user("x"), previous_response_id="resp")) == "b"


def test_tables_are_bounded_and_what_is_forgotten_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "MAX_STATES", 50)
    known: Conversations[str] = Conversations(100)
    for number in range(200):
        tell(known, f"key {number}", user(f"q {number}"), answer=says(f"a {number}"), conversation_id=f"c {number}")
    assert (len(known), len(known._states), len(known._names)) == (100, 50, 50)
    assert known.find(question(user("q 199"), says("a 199"), user("more"))) == "key 199"
    assert known.find(question(user("q 170"), says("a 170"), user("more"))) is None
    known.forget("key 199")
    assert known.find(question(user("q 199"), says("a 199"), user("more"))) is None


def test_states_and_names_of_forgotten_conversations_are_let_go_of() -> None:
    known: Conversations[str] = Conversations(10)
    for number in range(200):
        tell(known, f"key {number}", user(f"q {number}"), answer=says(f"a {number}"), conversation_id=f"c {number}")
    told = {id(state) for alike in known._states.values() for state in alike}
    assert len(known) == 10
    assert len(told) <= 21
    assert len(known._names) <= 21


def test_of_many_that_are_alike_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "MAX_ALIKE", 3)
    known: Conversations[str] = Conversations(100)
    for number in range(9):
        tell(known, f"key {number}", user("hi"), answer=says("hello"))
    assert [len(alike) for alike in known._states.values()] == [3] * len(known._states)
