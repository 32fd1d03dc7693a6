"""What is known of a conversation is read once, and what comes out is what reading everything gives."""

from __future__ import annotations

import copy
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanrelay
from spanrelay import _json, conversation, semconv
from spanrelay.assembly.transcript import Alignment, Transcript, Turn
from spanrelay.codecs import Codec, load, openai_chat, openai_responses
from spanrelay.conversation import read_request
from spanrelay.observation.observers import Watchers
from spanrelay.observation.sanitizing import finished
from spanrelay.plugins.pii_redaction import PiiRedactionConfig, Profile, sanitizers
from spanrelay.records import ModelRequest, SpanRecord, Text
from spanrelay.semconv.messages import write_messages, written

Messages = list[Any]
SAID = "It was a quiet morning in the harbour, and nobody said a word about the tide. "
KEY = "sk-proj-" + "a1B2" * 8


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    conversation.forget()
    yield
    conversation.forget()


def read_whole(data: bytes, codec: Codec = openai_chat) -> ModelRequest:
    return codec.decode_request(_json.loads_object(data))


def talk(turns: int, about: str = "tides") -> Messages:
    messages: Messages = [{"role": "system", "content": f"You know {about}. " + SAID * 20}]
    for turn in range(turns):
        messages.append({"role": "user", "content": f"{about} {turn}? " + SAID})
        messages.append({"role": "assistant", "content": f"Yes, {turn}."})
    return messages


def body(messages: Messages, **rest: Any) -> bytes:
    return json.dumps({"model": "m", "messages": messages, **rest}, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )


def check(data: bytes, codec: Codec = openai_chat) -> ModelRequest:
    """Read a request both ways, and return what memory gave."""
    fast, slow = read_request(codec, data), read_whole(data, codec)
    assert repr(fast) == repr(slow)  # which tells 1 from True, and one order of keys from another
    for dialect in semconv.DIALECTS:
        first, second = (
            semconv.write(SpanRecord(1, 2, kind="llm", operation="chat", request=request), dialect, content=True)
            for request in (fast, slow)
        )
        assert list(first.items()) == list(second.items())
    return fast


def test_a_conversation_that_goes_on_shares_the_messages_that_it_had() -> None:
    check(body(talk(3)))
    second = check(body(talk(4)))
    third = check(body(talk(5), tools=[{"type": "function", "function": {"name": "tide"}}]))
    assert len(third.messages) == 11
    assert all(ours is theirs for ours, theirs in zip(third.messages, second.messages, strict=False))


def test_what_differs_and_what_follows_it_is_read_anew() -> None:
    messages = talk(6)
    check(body(messages))
    before = check(body(messages))
    messages[5]["content"] = "changed in place"
    after = check(body(messages))
    assert [ours is theirs for ours, theirs in zip(after.messages, before.messages, strict=True)] == [True] * 5 + (
        [False] * 8
    )


def test_conversations_that_began_alike_are_all_known() -> None:
    prefix = talk(4)
    forks = [[*prefix, {"role": "user", "content": f"fork {number} " + SAID}] for number in range(5)]
    for fork in forks * 2:
        check(body(fork))
    known = [check(body(fork)) for fork in forks]
    again = [check(body(fork)) for fork in forks]
    for one, other in zip(known, again, strict=True):
        assert all(ours is theirs for ours, theirs in zip(one.messages, other.messages, strict=True))


def test_a_hundred_conversations_with_the_same_instructions_do_not_drive_out_each_other() -> None:
    talks = [[talk(1)[0], *talk(3, f"subject {number}")[1:]] for number in range(100)]
    for messages in talks * 2:
        read_request(openai_chat, body(messages))
    known = [read_request(openai_chat, body(messages)) for messages in talks]
    again = [read_request(openai_chat, body(messages)) for messages in talks]
    assert all(one.messages[0] is other.messages[0] for one, other in zip(known, again, strict=True))


def test_memory_has_a_limit_and_is_forgotten() -> None:
    for number in range(100):
        for _ in range(2):
            read_request(openai_chat, body([*talk(2, f"subject {number}"), {"role": "user", "content": "x" * 200_000}]))
    assert 0 < conversation.held() <= 16 << 20
    conversation.forget()
    assert conversation.held() == 0


def test_what_nobody_went_on_with_for_minutes_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(conversation.time, "monotonic", lambda: now)
    for _ in range(2):
        read_request(openai_chat, body(talk(5)))
    held = conversation.held()
    now += 600
    read_request(openai_chat, body(talk(5, "boats")))
    assert held > 0
    assert conversation.held() == 0


def test_messages_that_somebody_changed_are_written_as_they_are() -> None:
    check(body(talk(5)))
    request = check(body(talk(6)))
    request.messages.append(request.messages[1])
    assert written(request.messages) == _json.dumps_text(write_messages(list(request.messages)))


# --- random conversations ----------------------------------------------------------------------------------

CONTENTS: tuple[Callable[[random.Random], Any], ...] = (
    lambda chance: SAID[: chance.randint(0, 60)],
    lambda chance: f'{chance.random()} é 🙂 \u2028 \x7f \\ " }}],[{{',
    lambda _: f"my key is {KEY}, Bearer ",
    lambda _: [{"type": "text", "text": SAID}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}],
    lambda _: [{"type": "input_text", "text": "so"}, {"type": "output_text", "text": "it is"}],
    lambda _: '{"role":"user","messages":[{"role":"user"}],"input":[{"role":"user"}]}',
    lambda _: None,
    lambda _: float("nan"),
    lambda _: 12345678901234567890123,
    lambda _: "half \ud83d of it",
)
ROLES = ("system", "user", "assistant", "tool", "stranger")
ODD: tuple[Any, ...] = (7, "text", None, [], [1, 2], {})


def some_content(chance: random.Random) -> Any:
    return CONTENTS[min(int(chance.expovariate(0.6)), len(CONTENTS) - 1)](chance)


def some_arguments(chance: random.Random) -> Any:
    return {"n": chance.choice([1, True, 1.0, None]), "deep": [[{}]]}


def chat_message(chance: random.Random) -> Any:
    kind = chance.random()
    if kind < 0.1:
        function = {"name": "tide", "arguments": json.dumps(some_arguments(chance))}
        call = {"id": "c1", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind < 0.15:
        return {"role": "tool", "tool_call_id": "c1", "content": [{"type": "x", "n": chance.choice([1, True])}]}
    return {"role": chance.choice(ROLES), "content": some_content(chance)}


def response_item(chance: random.Random) -> Any:
    kind = chance.random()
    if kind < 0.15:
        arguments = json.dumps(some_arguments(chance))
        return {"type": "function_call", "call_id": "c1", "name": "tide", "arguments": arguments}
    if kind < 0.3:
        return {"type": "function_call_output", "call_id": "c1", "output": some_content(chance)}
    if kind < 0.4:
        return {"type": "reasoning", "id": "r1", "summary": [{"type": "summary_text", "text": "hm"}]}
    if kind < 0.45:
        return {"type": chance.choice(["strange", "strange_output", "web_search_call"]), "id": "w1", "action": {"q": 1}}
    return {"role": chance.choice(ROLES), "content": some_content(chance)}


def anthropic_message(chance: random.Random) -> Any:
    kind = chance.random()
    if kind < 0.15:
        call = {"type": "tool_use", "id": "c1", "name": "tide", "input": some_arguments(chance)}
        return {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, call]}
    if kind < 0.3:
        result = {"type": "tool_result", "tool_use_id": "c1", "content": some_content(chance)}
        return {
            "role": "user",
            "content": [result] if chance.random() < 0.7 else [result, {"type": "text", "text": "?"}],
        }
    return {"role": chance.choice(ROLES), "content": some_content(chance)}


def langchain_message(chance: random.Random) -> Any:
    kind = chance.choice(["human", "ai", "system", "tool", "chat", "strange"])
    message = {"type": kind, "content": some_content(chance), "additional_kwargs": {}}
    if kind == "ai" and chance.random() < 0.4:
        message["tool_calls"] = [{"name": "tide", "args": some_arguments(chance), "id": "c1", "type": "tool_call"}]
    return {**message, "tool_call_id": "c1"} if kind == "tool" else message


def ollama_message(chance: random.Random) -> Any:
    role = chance.choice(["user", "assistant", "tool"])
    message: dict[str, Any] = {"role": role, "content": str(some_content(chance))}
    if role == "assistant" and chance.random() < 0.4:
        message["tool_calls"] = [{"function": {"name": "tide", "arguments": some_arguments(chance)}}]
    return {**message, "tool_name": "tide"} if role == "tool" else message


def converse_message(chance: random.Random) -> Any:
    kind = chance.random()
    if kind < 0.15:
        call = {"toolUseId": "c1", "name": "tide", "input": some_arguments(chance)}
        return {"role": "assistant", "content": [{"text": "so"}, {"toolUse": call}]}
    if kind < 0.3:
        result = {"toolUseId": "c1", "content": [{"json": some_arguments(chance)}], "status": "error"}
        return {"role": "user", "content": [{"toolResult": result}]}
    content = some_content(chance)
    return {"role": chance.choice(ROLES), "content": [{"text": content}] if chance.random() < 0.8 else content}


def gemini_part(chance: random.Random) -> Any:
    parts: tuple[Any, ...] = (
        {"text": SAID[: chance.randint(0, 60)]},
        {"text": "hm", "thought": True, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "tide", "args": some_arguments(chance)}},
        {"function_response": {"name": "tide", "response": {"result": some_content(chance)}}},
        {"inline_data": {"mimeType": "image/png", "data": "AA-_"}},
        {"strange": some_content(chance)},
        some_content(chance),
    )
    return chance.choice(parts)


def gemini_content(chance: random.Random) -> Any:
    parts = [gemini_part(chance) for _ in range(chance.randint(0, 3))]
    return {"parts": parts, "role": chance.choice(["user", "model", "function", "stranger"])}


SPOKEN: dict[str, Callable[[random.Random], Any]] = {
    "openai_chat": chat_message,
    "openai_responses": response_item,
    "langchain": langchain_message,
    "ollama_chat": ollama_message,
    "anthropic_messages": anthropic_message,
    "bedrock_converse": converse_message,
    "gemini_generate_content": gemini_content,
}
"""Every codec that reads conversations, and what is said in them."""


class Talk:
    """A random conversation on one API, and what becomes of it."""

    def __init__(self, api: str, chance: random.Random) -> None:
        self.codec = load(api)
        self.field: str = self.codec.turns.field
        self.say = SPOKEN[api]
        self.chance = chance
        self.messages: Messages = [self.first(), *(self.some_message() for _ in range(chance.randint(1, 6)))]

    def first(self) -> Any:
        return {**self.say(random.Random(1)), "content": SAID * 2}

    def some_message(self) -> Any:
        return self.chance.choice(ODD) if self.chance.random() < 0.03 else self.say(self.chance)

    def edit(self) -> None:
        """Change the conversation in place, as programs do."""
        messages, chance = self.messages, self.chance
        kind, at = chance.randrange(12), chance.randrange(len(messages))
        if kind < 5:
            messages += [self.some_message() for _ in range(chance.randint(0, 3))]
        elif kind == 5:
            del messages[max(at, 2) :]
        elif kind == 6:
            messages[at] = self.some_message()
        elif kind == 7:
            other = chance.randrange(len(messages))
            messages[at], messages[other] = messages[other], messages[at]
        elif kind == 8 and isinstance(messages[at], dict):
            messages[at] = dict(reversed(messages[at].items()))
        elif kind == 9 and isinstance(messages[at], dict):
            messages[at]["content"] = some_content(chance)
        elif kind == 10:
            messages.insert(at, self.some_message())
        elif kind == 11:
            messages[0] = self.some_message()

    def body(self, **rest: Any) -> bytes:
        wire = {"model": "m", self.field: self.messages, **rest}
        return json.dumps(wire, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")

    def sent(self) -> bytes:
        """Return the conversation as some client sends it."""
        chance, field = self.chance, self.field.encode()
        kind, body = chance.random(), self.body(instructions="Be brief." if chance.random() < 0.8 else "Be long.")
        if kind < 0.75:
            return body
        if kind < 0.8:
            return json.dumps({self.field: self.messages}).encode()
        if kind < 0.85:
            return b'{"metadata":{"%s":[1]},' % field + body[1:]
        if kind < 0.9:
            return body[:-1] + b',"%s":[{"role":"user","content":"the later one counts"}]}' % field
        if kind < 0.93:
            return body.replace(b'{"role":', b'{"role":"user","role":', 2)
        if kind < 0.96:
            return body[: -chance.randint(1, 40)]
        return body.replace(b"},{", b"} , {", chance.randint(0, 3))


def redacting(**profile: Any) -> Watchers:
    return Watchers(sanitizers(PiiRedactionConfig(profiles=[Profile(**profile)])))


REDACTING = (
    redacting(action="redact", pattern=r"tide|quiet|0\.\d+"),
    redacting(action="remove", pattern=r"user|content|text", target_paths=["/messages/1/parts/0/content"]),
)
"""One that makes the same of a message wherever it is, and one that does not."""


def check_redacted(known: ModelRequest, whole: ModelRequest, watchers: Watchers) -> None:
    """Sanitize a request that is known and one that is not."""
    fast, slow = (
        finished(SpanRecord(1, 2, kind="llm", operation="chat", request=request), watchers)
        for request in (known, whole)
    )
    assert repr(fast) == repr(slow)
    for dialect in semconv.DIALECTS:
        first, second = (semconv.write(record, dialect, content=True) for record in (fast, slow))
        assert list(first.items()) == list(second.items())


def looked_at(found: Alignment) -> str:
    """What was found, as text: a number that is none equals not even itself."""
    seen = found.kind, found.new, found.changed, found.kept, found.dropped, found.echo, found._keys, found._prints
    return repr(seen)


def converse(api: str, seed: int, requests: int = 25) -> None:
    """Read a random conversation and what becomes of it, both ways; its trajectory takes in both, too."""
    chance = random.Random(seed)
    talk = Talk(api, chance)
    past = [copy.deepcopy(talk.messages)]
    quick, slow = Transcript(), Transcript()
    watchers = REDACTING[seed % 6] if seed % 6 < len(REDACTING) else None
    for _ in range(requests):
        data = talk.sent()
        fast = check(data, talk.codec)
        if watchers is not None:
            check_redacted(fast, read_whole(data, talk.codec), watchers)
        one, other = quick.align(fast.messages), slow.align(list(read_whole(data, talk.codec).messages))
        assert looked_at(one) == looked_at(other)
        if chance.random() < 0.8:  # others may be told in other documents
            answer = Turn("assistant", [Text(f"answer {len(past)}")])
            quick.accept(one, answer, None, None)
            slow.accept(other, answer, None, None)
        talk.edit()
        if chance.random() < 0.15:
            talk.messages = copy.deepcopy(chance.choice(past))
        past.append(copy.deepcopy(talk.messages))


@pytest.fixture
def short_ones_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let short requests be recognised, which costs more than it saves; more of them can be tried."""
    monkeypatch.setattr(conversation, "_LEAST_BYTES", 0)


def pass_time(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let some conversations go on after what is known of them has been forgotten."""
    clock, chance = itertools.count(), random.Random(seed)
    monkeypatch.setattr(conversation.time, "monotonic", lambda: next(clock) + 500 * (chance.random() < 0.02))


def as_one(_text: str, _begin: int, _mark: bytes) -> tuple[str, str]:
    return "", ""


@pytest.mark.usefixtures("short_ones_count")
@pytest.mark.parametrize("first", range(0, 400, 80))
@pytest.mark.parametrize("api", SPOKEN)
def test_whatever_becomes_of_a_conversation_it_is_read_as_if_nothing_were_known(
    api: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pass_time(first, monkeypatch)
    for seed in range(first, first + 80):
        with monkeypatch.context() as collision:
            if seed % 4 == 0:  # all that is told of a conversation to find it again is the same
                collision.setattr(conversation, "_beginning", as_one)
            converse(api, seed)


@pytest.mark.usefixtures("short_ones_count")
@pytest.mark.parametrize("api", SPOKEN)
def test_threads_that_share_a_beginning_each_read_their_own(api: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(converse, api, seed % 3) for seed in range(12)]:
            done.result()


def test_an_answer_of_several_items_that_goes_on_is_one_message() -> None:
    talk = Talk("openai_responses", random.Random(0))
    said = [{"type": "reasoning", "summary": []}, {"role": "assistant", "content": SAID}]
    talk.messages = [{"role": "user", "content": SAID * 20}, *said]
    for _ in range(2):
        check(talk.body(), openai_responses)
    talk.messages += [{"type": "function_call", "call_id": "c1", "name": "tide", "arguments": "{}"}]
    goes_on = check(talk.body(), openai_responses)
    talk.messages += [{"type": "function_call_output", "call_id": "c1", "output": "high"}]
    again = check(talk.body(), openai_responses)
    assert [len(message.parts) for message in again.messages] == [1, 3, 1]
    assert all(ours is theirs for ours, theirs in zip(again.messages, goes_on.messages, strict=False))


def exported(api: str, dialect: str, seed: int) -> list[dict[str, Any]]:
    """Return the attributes of the calls of a random conversation."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings = spanrelay.Settings(trajectories="off", content="spans", metrics=False, quiet=True, dialect=dialect)
    runtime = spanrelay.activate(settings, tracer_provider=provider, instrument=False)
    assert runtime is not None
    talk = Talk(api, random.Random(seed))
    try:
        for _ in range(15):
            wire = {"model": "m", talk.field: talk.messages}
            spanrelay.start_model(wire, codec=api).end({})
            talk.edit()
    finally:
        runtime.shutdown()
    return [dict(span.attributes or {}) for span in exporter.get_finished_spans()]


@pytest.mark.usefixtures("short_ones_count")
@pytest.mark.parametrize("dialect", semconv.DIALECTS)
@pytest.mark.parametrize("api", SPOKEN)
def test_what_is_exported_of_a_conversation_is_the_same_with_memory_and_without(
    api: str, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(8):
        with_memory = exported(api, dialect, seed)
        with monkeypatch.context() as nothing:
            nothing.setattr(conversation, "_MOST_BYTES", 0)
            assert with_memory == exported(api, dialect, seed)
        assert len(with_memory) == 15
        assert KEY not in repr(with_memory)


# --- observers ---------------------------------------------------------------------------------------------


@contextmanager
def active(**settings: Any) -> Iterator[InMemorySpanExporter]:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    given: dict[str, Any] = {"trajectories": "off", "content": "spans", "metrics": False, "quiet": True, **settings}
    runtime = spanrelay.activate(spanrelay.Settings(**given), tracer_provider=provider, instrument=False)
    assert runtime is not None
    try:
        yield exporter
    finally:
        runtime.shutdown()


def test_a_message_is_redacted_once_and_again_where_a_registration_changed() -> None:
    seen: list[str] = []

    def redaction(mask: str) -> Any:
        @spanrelay.sanitizer(fields=["request"], name=mask)
        def hide(field: spanrelay.Field) -> Any:
            text = _json.dumps_text(field.value)
            seen.append(text)
            return _json.loads(text.replace("tide", mask))

        return replace(hide, steady=True)

    messages = talk(2)
    with active() as exporter:
        for mask in ("[one]", "[two]"):
            with spanrelay.use(redaction(mask)):
                for turn in range(4):
                    seen.clear()
                    spanrelay.start_model({"model": "m", "messages": messages}, codec="openai_chat").end({})
                    messages += [{"role": "user", "content": f"tide {turn}? " + SAID}]
                    said = str(exporter.get_finished_spans()[-1].attributes or {})
                    assert (mask in said, "tide" in said) == (True, False)
                assert sum(text.count(SAID[:20]) for text in seen) == 1


def test_what_an_injector_does_to_a_record_is_in_no_other() -> None:
    told: list[str] = []

    @spanrelay.metadata_injector
    def spoil(record: Any) -> dict[str, Any]:
        told.append(record.request.messages[0].text)
        record.request.messages[0].parts.clear()
        return {}

    with active() as exporter, spanrelay.use(spoil):
        for turns in range(3, 7):
            spanrelay.start_model({"model": "m", "messages": talk(turns)}, codec="openai_chat").end({})
            assert exporter.get_finished_spans()[-1].attributes
    assert told == [talk(1)[0]["content"]] * 4


# --- trajectories ------------------------------------------------------------------------------------------


def told(api: str, seed: int) -> Any:
    """Return the trajectory of a random conversation, without the ids and times of a run."""
    talk = Talk(api, random.Random(seed))
    with active(trajectories="memory", content="trajectories"), spanrelay.scope("bot", session="s") as bot:
        for number in range(12):
            wire = {"model": "m", talk.field: talk.messages}
            answer = {"choices": [{"message": {"role": "assistant", "content": f"answer {number}"}}]}
            spanrelay.start_model(wire, codec=api).end(answer if api == "openai_chat" else {})
            talk.edit()
        return without_ids(bot.trajectory())


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_ids(item) for name, item in value.items() if not OF_A_RUN.search(name)}
    return [without_ids(item) for item in value] if isinstance(value, list) else value


OF_A_RUN = re.compile("_id$|timestamp|duration|otel")


@pytest.mark.usefixtures("short_ones_count")
@pytest.mark.parametrize("api", SPOKEN)
def test_the_trajectory_of_a_conversation_is_the_same_with_memory_and_without(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(12):
        with_memory = told(api, seed)
        with monkeypatch.context() as nothing:
            nothing.setattr(conversation, "_MOST_BYTES", 0)
            assert with_memory == told(api, seed)
        assert with_memory["steps"]
