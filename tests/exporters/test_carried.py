"""Spans that carry what is new of a conversation are read as those that carry the whole of it."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from tests.shared_data import SHARED, needs_shared
from tests.trajectory.spans import load

from spanrelay import _json, conversation, semconv
from spanrelay._masking import MASK
from spanrelay.assembly import replay
from spanrelay.assembly.exporter import TrajectoryKeeper
from spanrelay.assembly.omitted import Omitted
from spanrelay.codecs import openai_chat
from spanrelay.conversation import read_request
from spanrelay.exporters import carried
from spanrelay.exporters.carried import Carried
from spanrelay.records import (
    JSON,
    Message,
    ModelRequest,
    ModelResponse,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    Usage,
)
from spanrelay.semconv import names
from spanrelay.semconv.messages import write_messages
from spanrelay.semconv.spans import record_of
from spanrelay.telemetry.projection import LazyAttributes

LONG = "a text of some length, since short ones are carried again, " * 6
DIALECTS = ["genai", "openinference"]


def span_of(
    number: int,
    messages: Sequence[Message],
    answer: Message | None = None,
    *,
    dialect: str = "genai",
    session: str | None = "s",
    trace: int = 7,
    start: int | None = None,
    content: bool = True,
    system: str = "",
) -> ReadableSpan:
    """Return the span of a model call; `number` is its id, and when it began unless that is told."""
    record = SpanRecord(0, 0, kind="llm", operation="chat", provider="openai", session_id=session)
    record.request = ModelRequest("gpt-5-mini", list(messages), [Text(system)] if system else [])
    if answer is not None:
        told = replace(answer, finish_reason="stop")
        record.response = ModelResponse(f"r{trace}-{number}", "gpt-5-mini", [told], ["stop"], Usage(1, 1))
    begun = 1000 * number if start is None else start
    attributes = {**semconv.write_start(record, dialect), **semconv.write(record, dialect, content=content)}
    return ReadableSpan(
        "chat gpt-5-mini",
        SpanContext(trace, number, is_remote=False, trace_flags=TraceFlags(1)),
        SpanContext(trace, 1 << 60, is_remote=False, trace_flags=TraceFlags(1)),
        Resource({"service.name": "program"}),
        attributes,  # pyright: ignore[reportArgumentType] - lists of texts are such values
        kind=SpanKind.CLIENT,
        status=Status(StatusCode.UNSET),
        start_time=begun,
        end_time=1000 * number + 500,
        instrumentation_scope=InstrumentationScope("spanrelay"),
    )


def user(text: str) -> Message:
    return Message("user", [Text(f"{text}: {LONG}")])


def said(text: str) -> Message:
    return Message("assistant", [Text(f"{text}! {LONG}")])


def sent(spans: Iterable[ReadableSpan], exporter: Carried | None = None) -> list[ReadableSpan]:
    """Return spans as an exporter sends them, one at a time, to a collector that takes all."""
    exporter = Carried() if exporter is None else exporter
    told: list[ReadableSpan] = []
    for span in spans:
        attempt = exporter.attempt([span])
        told += attempt.spans
        attempt.delivered()
    return told


def omitted(span: ReadableSpan) -> int | None:
    found = (span.attributes or {}).get(names.HISTORY_OMITTED)
    assert found is None or isinstance(found, int)
    return found


def requests(spans: Iterable[ReadableSpan]) -> list[list[Message]]:
    """Return the requests that spans tell, made whole."""
    return [record.request.messages for record in restored(spans) if record.request is not None]


def restored(spans: Iterable[ReadableSpan]) -> list[SpanRecord]:
    reader, records = Omitted(), list[SpanRecord]()
    for span in spans:
        records.append(record_of(span))
        reader.restore(records[-1])
    return records


def documents(spans: Iterable[ReadableSpan]) -> list[dict[str, JSON]]:
    """Return the trajectories of spans, in the order in which they happened."""
    keeper = TrajectoryKeeper()
    for is_end, record in replay.in_order([record_of(span) for span in spans]):
        (keeper.end if is_end else keeper.start)(record)
    keeper.shutdown()
    return keeper.documents(None, None)


def growing(calls: int, dialect: str = "genai", **more: Any) -> list[ReadableSpan]:
    """Return the spans of a conversation in which each request repeats the one before and its answer."""
    messages: list[Message] = []
    spans: list[ReadableSpan] = []
    for call in range(1, calls + 1):
        messages.append(user(f"question {call}"))
        answer = said(f"answer {call}")
        spans.append(span_of(call, messages, answer, dialect=dialect, **more))
        messages.append(answer)
    return spans


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_span_carries_what_no_earlier_one_has(dialect: str) -> None:
    whole = growing(4, dialect)
    new = sent(whole)
    assert [omitted(span) for span in new] == [0, 2, 4, 6]
    assert requests(new) == requests(whole)
    assert [len(record_of(span).request.messages) for span in new] == [1, 1, 1, 1]  # pyright: ignore[reportOptionalMemberAccess]
    assert (new[2].attributes or {})[names.HISTORY_CARRIERS] == ("0000000000000002", "0000000000000001")
    assert documents(new) == documents(whole)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_a_session_sends_does_not_grow_with_what_was_said_before(dialect: str) -> None:
    def size(span: ReadableSpan) -> int:
        return sum(len(key) + len(str(value)) for key, value in (span.attributes or {}).items())

    new = sent(growing(200, dialect))
    assert size(new[-1]) < 1.1 * size(new[9])


def test_the_spans_that_were_given_stay_as_they_are() -> None:
    whole = growing(3)
    before = [dict(span.attributes or {}) for span in whole]
    sent(whole)
    assert [dict(span.attributes or {}) for span in whole] == before


def test_other_attributes_and_their_order_stay() -> None:
    whole = growing(2)
    new = sent(whole)
    given, told = ([dict(span.attributes or {}) for span in spans] for spans in (whole, new))
    for one, other in zip(given, told, strict=True):
        assert list(other)[: len(one)] == list(one)
        assert {k: v for k, v in other.items() if k in one and k != names.INPUT_MESSAGES} == {
            k: v for k, v in one.items() if k != names.INPUT_MESSAGES
        }


def test_a_history_that_was_edited_is_sent_whole() -> None:
    first, second = user("one"), said("two")
    whole = [
        span_of(1, [first]),
        span_of(2, [first, second, user("three")]),
        span_of(3, [user("another one"), second, user("three")]),
        span_of(4, [first, said("another two"), user("three")]),
    ]
    new = sent(whole)
    assert [omitted(span) for span in new] == [0, 1, 0, 1]
    assert requests(new) == requests(whole)


def test_a_call_that_is_made_again_and_one_that_goes_another_way_go_on_from_what_they_repeat() -> None:
    first = [user("one"), said("two"), user("three")]
    whole = [
        span_of(1, first),
        span_of(2, first),
        span_of(3, [*first, said("four"), user("five")]),
        span_of(4, [*first, said("another four"), user("six")]),
        span_of(5, first),
    ]
    new = sent(whole)
    assert [omitted(span) for span in new] == [0, 3, 3, 3, 3]
    assert requests(new) == requests(whole)


def test_calls_at_the_same_time_go_on_from_what_had_ended_before_they_began() -> None:
    first = [user("one")]
    whole = [
        span_of(1, first),
        span_of(2, [*first, said("two"), user("three")], start=1600),
        span_of(3, [*first, said("two"), user("three"), said("four"), user("five")], start=1700),
    ]
    new = sent(whole)
    assert [omitted(span) for span in new] == [0, 1, 1]
    assert requests(new) == requests(whole)


def test_another_conversation_goes_on_from_nothing_however_alike() -> None:
    assert [omitted(span) for span in sent([*growing(2), *growing(2, session="t"), *growing(2, trace=8)])] == [
        *(0, 2),
        *(0, 2),
        *(0, 2),
    ]
    apart = sent([*growing(2, session=None), *growing(2, session=None, trace=8)])
    assert [omitted(span) for span in apart] == [0, 2, 0, 2]


def test_a_span_without_content_has_carried_nothing() -> None:
    messages = [user("one"), said("two"), user("three")]
    hidden = span_of(1, messages[:1], content=False)
    new = sent([hidden, span_of(2, messages), span_of(3, messages, content=False), span_of(4, messages)])
    assert [omitted(span) for span in new] == [None, 0, None, 3]


def test_what_is_recorded_otherwise_since_is_sent_whole() -> None:
    def masked(message: Message) -> Message:
        return replace(message, parts=[Text(message.text.replace("question", "[word]"))])

    clear = [user("question 1"), said("answer"), user("question 2")]
    new = sent([span_of(1, clear[:1]), span_of(2, list(map(masked, clear))), span_of(3, list(map(masked, clear)))])
    assert [omitted(span) for span in new] == [0, 0, 3]


def test_what_was_not_delivered_has_not_been_carried() -> None:
    exporter, spans = Carried(), growing(3)
    lost = exporter.attempt(spans[:2])
    assert [omitted(span) for span in lost.spans] == [0, 2]
    again = exporter.attempt(spans)
    assert [omitted(span) for span in again.spans] == [0, 2, 4]
    again.delivered()
    assert requests(again.spans) == requests(spans)


def test_one_exporter_knows_nothing_of_what_another_has_carried() -> None:
    spans, one, other = growing(3), Carried(), Carried()
    sent(spans[:2], one)
    assert [omitted(span) for span in sent(spans[2:], other)] == [0]
    assert [omitted(span) for span in sent(spans[2:], one)] == [4]


def test_what_an_exporter_keeps_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "MAX_CONVERSATIONS", 3)
    monkeypatch.setattr(carried, "MAX_BESIDE", 4)
    exporter = Carried()
    for each in range(10):
        sent(growing(6, session=f"s{each}"), exporter)
    assert len(exporter) == 3
    assert len(exporter.states(("listed", "s9"))) == 4
    assert [omitted(span) for span in sent(growing(6)[5:], exporter)] == [0]


def test_nothing_is_kept_of_a_trace_that_is_over() -> None:
    exporter = Carried()
    sent(growing(3, session=None), exporter)
    assert len(exporter) == 1
    root = span_of(9, [], session=None)
    root._parent = None
    sent([root], exporter)
    assert len(exporter) == 0


def test_nothing_is_kept_of_a_session_that_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = Carried()
    sent(growing(2), exporter)
    monkeypatch.setattr(carried, "SECONDS_KEPT", 0.0)
    sent([span_of(1, [user("hello")], session="other")], exporter)
    assert exporter.states(("listed", "s")) == ()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_lost_span_is_bridged_and_what_is_missing_is_said(dialect: str) -> None:
    spans = growing(5, dialect)
    told = sent(spans)
    del told[2], spans[2]
    found = restored(told)
    assert [record.missing for record in found] == [0, 0, 3, 0]
    expected = requests(spans)[2]
    assert found[2].request is not None
    assert found[2].request.messages == [*expected[:3], *expected[6:]]
    (document,) = documents(told)
    steps: Any = document["steps"]
    assert [step["extra"]["missing_messages"] for step in steps if "missing_messages" in step.get("extra", {})] == [3]
    assert "Messages that spans left out and no other had: 3." in str(document["notes"])
    assert [step["source"] for step in steps] == ["user", "agent"] * 4
    assert "question 3" not in str(document)
    assert "answer 2" in str(document)
    assert "question 5" in str(document)


def test_where_all_carriers_are_lost_everything_left_out_is_missing() -> None:
    told = sent(growing(8))
    (record,) = restored(told[-1:])
    assert record.missing == 14
    assert record.truncated
    (document,) = documents(told[-1:])
    assert "Messages that spans left out and no other had: 14." in str(document["notes"])


def test_a_text_that_was_changed_on_the_way_is_not_taken_for_what_was_left_out() -> None:
    told = sent(growing(2))
    attributes = {**(told[0].attributes or {})}
    attributes[names.INPUT_MESSAGES] = str(attributes[names.INPUT_MESSAGES]).replace("question", "[word]")
    told[0]._attributes = attributes
    assert [record.missing for record in restored(told)] == [0, 2]


def test_what_others_wrote_as_it_is_wrong_is_read_as_nothing_left_out() -> None:
    for value in ("many", -1, None, True):
        record = SpanRecord(1, 2)
        semconv.read({names.OPERATION: "chat", names.HISTORY_OMITTED: value}, record)
        assert record.omitted is None


def test_messages_that_are_no_list_are_sent_as_they_are() -> None:
    for value in ("[1, 2]", '{"role": "user"}', "hello", "[]", "[{]", '[{"role": "user"'):
        span = span_of(1, [])
        attributes = {**(span.attributes or {}), names.INPUT_MESSAGES: value}
        span._attributes = attributes
        (told,) = sent([span])
        assert dict(told.attributes or {}) == attributes


@needs_shared
@pytest.mark.parametrize("name", sorted(path.stem for path in ((SHARED or Path()) / "spans").glob("*.json")))
def test_what_real_instrumentors_recorded_is_read_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "LEAST_CHARACTERS", 1)
    whole = sorted(load((SHARED or Path()) / "spans" / f"{name}.json"), key=lambda span: span.end_time or 0)
    assert documents(sent(whole)) == documents(whole)


# --- histories that are known one by one -------------------------------------------------------------------


def called(number: int, messages: list[dict[str, Any]], **more: Any) -> ReadableSpan:
    """Return the span of a call with these messages on the wire, its attributes not read yet."""
    body = _json.dumps({"model": "gpt-5-mini", "messages": messages})
    span = span_of(number, [], said(f"answer {number}"), **more)
    record = record_of(span)
    record.request = read_request(openai_chat, body)
    ended = SimpleNamespace(record=record, attributes=span._attributes, changed=False, lock=threading.RLock())
    span._attributes = LazyAttributes(cast("Any", ended), "genai", content=True)
    return span


def turns(count: int, text: str = LONG) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[at % 2], "content": f"{at}: {text}"} for at in range(count)]


def unread(span: ReadableSpan) -> bool:
    return cast("LazyAttributes", span._attributes)._items is None


def test_no_whole_text_is_made_of_what_is_known_one_by_one() -> None:
    conversation.forget()
    spans = [called(number, turns(9 + 2 * number)) for number in range(1, 7)]
    new = sent(spans)
    assert [unread(span) for span in spans] == [False, False, True, True, True, True]
    assert [omitted(span) for span in new] == [0, 11, 13, 15, 17, 19]
    assert requests(new) == requests(spans)
    for span in spans:
        record = record_of(span)
        assert record.request is not None
        told = (span.attributes or {})[names.INPUT_MESSAGES]
        assert told == _json.dumps_text(write_messages(record.request.messages))
    assert sent(spans)[5].attributes == new[5].attributes  # read before or not


def test_a_credential_in_what_is_new_is_masked_and_no_later_span_has_it() -> None:
    conversation.forget()
    key = "sk-" + "a1B2" * 10
    messages = [turns(9 + 2 * number) for number in range(1, 7)]
    for later in messages[3:]:
        later[13]["content"] += f" {key}"
    spans = [called(number, sent_then) for number, sent_then in enumerate(messages, start=1)]
    new = sent(spans)
    assert key not in str([dict(span.attributes or {}) for span in new])
    assert sum(str(dict(span.attributes or {})).count(MASK) for span in new) == 1
    assert requests(new) == requests(spans)


def test_random_conversations_that_are_known_one_by_one_are_read_alike() -> None:
    left_out = made = 0
    for seed in range(300):
        conversation.forget()
        chance, spans, talk = random.Random(seed), list[ReadableSpan](), turns(6)
        for number in range(1, 9):
            act = chance.randint(0, 9)
            if act == 0:
                talk[chance.randrange(len(talk))] = {"role": "user", "content": f"edited {number} {LONG}"}
            elif act == 1:
                del talk[chance.randint(1, len(talk)) :]
            elif act > 2:
                talk = [*talk, *turns(2, f'{number} é " {LONG}')]
            spans.append(called(number, talk, session=f"session {seed}"))
        new = sent(spans)
        made += sum(map(unread, spans))
        left_out += sum(omitted(span) or 0 for span in new)
        assert requests(new) == requests(spans), seed
    assert made > 500
    assert left_out > 5000


# --- random conversations ----------------------------------------------------------------------------------


class Program:
    """A program that talks to models, goes back, edits what was said, and does several things at a time."""

    def __init__(self, seed: int, dialect: str) -> None:
        self.random = random.Random(seed)
        self.dialect = dialect
        self.talks: list[list[Message]] = [[] for _ in range(self.random.randint(1, 3))]
        self.number = 0
        self.seed = seed

    def message(self) -> Message:
        number = self.random.randint(0, 30)
        kind = self.random.randint(0, 9)
        if kind == 0:
            return Message("assistant", [ToolCall(f"c{number}", "look", {"at": number, "why": LONG[:99]})])
        if kind == 1:
            return Message("tool", [ToolCallResponse(f"c{number}", f"seen {number} {LONG[:50]}")])
        if kind == 2:
            return Message("user", [Text('odd: "]}, {"[\\ \n é😀'), Text(str(number))])
        role: Any = self.random.choice(["user", "assistant"])
        return Message(role, [Text(f"{number} {LONG[: self.random.choice([0, 20, 200])]}")])

    def answer(self) -> Message:
        if self.random.random() < 0.3:
            return Message("assistant", [Text("so:"), ToolCall(f"c{self.number}", "look", {"at": LONG[:80]})])
        return said(f"answer {self.number}")

    def next_request(self) -> list[Message]:
        talk = self.random.choice(self.talks)
        act, at = self.random.randint(0, 9), self.random.randint(0, len(talk))
        if act == 0:
            talk[at:] = [self.message()]
        elif act == 1 and talk:
            talk[at - 1] = self.message()
        elif act == 2:
            talk.insert(at, self.message())
        elif act == 3 and talk:
            del talk[at - 1]
        elif act == 4:
            talk[:] = self.random.choice(self.talks)
        elif act > 5:
            talk += [self.message() for _ in range(self.random.randint(1, 3))]
        return [*talk]

    def spans(self) -> Iterator[ReadableSpan]:
        for _ in range(self.random.randint(2, 9)):
            self.number += 1
            messages = self.next_request()
            answer = self.answer() if self.random.random() < 0.8 else None
            begun = 1000 * self.number - self.random.choice([0, 0, 0, 1200, 2400])
            if answer is not None and self.random.random() < 0.6:
                talk = self.random.choice(self.talks)
                talk.append(answer if self.random.random() < 0.9 else said("another answer"))
            yield span_of(
                self.number,
                messages,
                answer,
                dialect=self.dialect,
                session=None if self.seed % 3 == 0 else f"session {self.seed} {self.random.randint(0, self.seed % 2)}",
                trace=self.random.choice([self.seed * 2 + 10, self.seed * 2 + 11]),
                start=begun,
                content=self.random.random() < 0.9,
                system="Be brief." if self.seed % 5 == 0 else "",
            )


def deliver(program: Program, spans: list[ReadableSpan]) -> tuple[list[ReadableSpan], list[ReadableSpan]]:
    """Return the spans that arrive, whole and as sent: in batches, some of which fail, are given up, or come twice."""
    exporter, waiting, chance = Carried(), [*spans], program.random
    arrived: list[ReadableSpan] = []
    known = {id(span): span for span in spans}
    whole: list[ReadableSpan] = []
    while waiting:
        size = chance.randint(1, 3)
        batch, waiting = waiting[:size], waiting[size:]
        attempt = exporter.attempt(batch)
        luck = chance.random()
        if luck < 0.1:
            continue  # given up
        if luck < 0.2:
            waiting = batch + waiting
            continue  # and tried again
        if luck < 0.9:
            attempt.delivered()
        arrived += attempt.spans
        whole += [known[id(span)] for span in batch]
    return whole, arrived


@pytest.mark.parametrize("dialect", DIALECTS)
def test_random_programs_are_read_alike(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "LEAST_CHARACTERS", 50)
    left_out = 0
    for seed in range(1500):
        program = Program(seed, dialect)
        whole, new = deliver(program, [*program.spans()])
        left_out += sum(omitted(span) or 0 for span in new)
        expected, found = [record_of(span) for span in whole], restored(new)
        assert [replace(each, omitted=None) for each in found] == expected, seed
    assert left_out > 3000


@pytest.mark.parametrize("dialect", DIALECTS)
def test_random_programs_give_the_same_trajectories(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "LEAST_CHARACTERS", 50)
    for seed in range(250):
        program = Program(seed, dialect)
        whole, new = deliver(program, [*program.spans()])
        assert documents(new) == documents(whole), seed


@pytest.mark.parametrize("dialect", DIALECTS)
def test_random_losses_change_no_request_in_silence(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "LEAST_CHARACTERS", 50)
    missing = 0
    for seed in range(500):
        program = Program(seed, dialect)
        whole, new = deliver(program, [*program.spans()])
        kept = [program.random.random() < 0.8 for _ in whole]
        whole = [span for span, keep in zip(whole, kept, strict=True) if keep]
        new = [span for span, keep in zip(new, kept, strict=True) if keep]
        incomplete: set[str] = set()
        for one, other, span in zip([record_of(s) for s in whole], restored(new), new, strict=True):
            carriers: Any = (span.attributes or {}).get(names.HISTORY_CARRIERS) or ()
            doubtful = other.missing or not incomplete.isdisjoint(carriers)
            missing += other.missing
            if doubtful:
                incomplete.add(f"{other.span_id:016x}")
            else:
                assert replace(other, omitted=None) == one, seed
        documents(new)
    assert missing > 100


def test_the_digest_is_that_of_the_digest_before_and_what_is_carried() -> None:
    def digest(text: str) -> str:
        return blake2b(text.encode(), digest_size=16).hexdigest()

    first, again, second = (dict(span.attributes or {}) for span in sent([*growing(1), *growing(2)]))
    assert first[names.INPUT_MESSAGES] == again[names.INPUT_MESSAGES]
    asked = digest(str(first[names.INPUT_MESSAGES]))
    answer = str(first[names.OUTPUT_MESSAGES])[1:-1].replace(',"finish_reason":"stop"', "")
    assert second[names.HISTORY_DIGEST] == digest(asked + answer)
    assert len(_json.loads(str(second[names.INPUT_MESSAGES]))) == 1
