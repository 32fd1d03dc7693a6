"""What is known of a conversation is read once, and what comes out is what reading everything gives."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanrelay
from spanrelay import _json, conversation
from spanrelay.assembly.transcript import prints_of
from spanrelay.codecs import openai_chat
from spanrelay.conversation import read_request
from spanrelay.records import ModelRequest
from spanrelay.semconv.messages import write_messages, written

Messages = list[Any]
SAID = "It was a quiet morning in the harbour, and nobody said a word about the tide. "
KEY = "sk-proj-" + "a1B2" * 8


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    conversation.forget()
    yield
    conversation.forget()


def read_whole(data: bytes) -> ModelRequest:
    return openai_chat.decode_request(_json.loads_object(data))


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


def check(data: bytes) -> ModelRequest:
    """Read a request both ways, and return what memory gave."""
    fast, slow = read_request(openai_chat, data), read_whole(data)
    assert repr(fast) == repr(slow)  # which tells 1 from True, and one order of keys from another
    assert written(fast.messages) == _json.dumps_text(write_messages(slow.messages))
    assert prints_of(fast.messages) == prints_of(slow.messages)
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
    for number in range(60):
        for _ in range(2):
            read_request(openai_chat, body([*talk(2, f"subject {number}"), {"role": "user", "content": "x" * 200_000}]))
    assert 0 < conversation.held() <= 8 << 20
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
    lambda chance: SAID * chance.randint(0, 4),
    lambda chance: f'{chance.random()} é 🙂 \u2028 \x7f \\ " }}],[{{',
    lambda _: f"my key is {KEY}, Bearer ",
    lambda _: [{"type": "text", "text": SAID}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}],
    lambda _: '{"role":"user","messages":[{"role":"user"}]}',
    lambda _: None,
    lambda _: float("nan"),
    lambda _: 12345678901234567890123,
    lambda _: "half \ud83d of it",
)
ROLES = ("system", "user", "assistant", "tool", "stranger")


def some_message(chance: random.Random) -> Any:
    kind = chance.random()
    if kind < 0.1:
        arguments = json.dumps({"n": chance.choice([1, True, 1.0, None]), "deep": [[{}]]})
        call = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": arguments}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind < 0.15:
        return {"role": "tool", "tool_call_id": "c1", "content": [{"type": "x", "n": chance.choice([1, True])}]}
    if kind < 0.18:
        return chance.choice([7, "text", None, [], [1, 2], {}])
    return {"role": chance.choice(ROLES), "content": CONTENTS[min(int(chance.expovariate(0.6)), 8)](chance)}


def edit(messages: Messages, chance: random.Random) -> None:
    """Change a conversation in place, as programs do."""
    kind, at = chance.randrange(10), chance.randrange(len(messages))
    if kind < 4:
        messages += [some_message(chance) for _ in range(chance.randint(0, 3))]
    elif kind == 4:
        del messages[max(at, 2) :]
    elif kind == 5:
        messages[at] = some_message(chance)
    elif kind == 6:
        other = chance.randrange(len(messages))
        messages[at], messages[other] = messages[other], messages[at]
    elif kind == 7 and isinstance(messages[at], dict):
        messages[at] = dict(reversed(messages[at].items()))
    elif kind == 8 and isinstance(messages[at], dict):
        messages[at]["content"] = CONTENTS[chance.randrange(9)](chance)
    elif kind == 9:
        messages.insert(at, some_message(chance))


def sent(messages: Messages, chance: random.Random) -> bytes:
    """Return a conversation as some client sends it."""
    kind = chance.random()
    if kind < 0.75:
        return body(messages, temperature=0.5)
    if kind < 0.8:
        return json.dumps({"messages": messages}).encode()
    if kind < 0.85:
        return b'{"metadata":{"messages":[1]},' + body(messages)[1:]
    if kind < 0.9:
        return body(messages)[:-1] + b',"messages":[{"role":"user","content":"the later one counts"}]}'
    if kind < 0.93:
        return body(messages).replace(b'{"role":', b'{"role":"user","role":', 2)
    if kind < 0.96:
        return body(messages)[: -chance.randint(1, 40)]
    return body(messages).replace(b"},{", b"} , {", chance.randint(0, 3))


def converse(seed: int) -> None:
    """Read a random conversation and what becomes of it, both ways."""
    chance = random.Random(seed)
    messages = [{"role": "system", "content": SAID * 25}, *(some_message(chance) for _ in range(6))]
    past = [copy.deepcopy(messages)]
    for _ in range(30):
        check(sent(messages, chance))
        edit(messages, chance)
        if chance.random() < 0.1:
            messages = copy.deepcopy(chance.choice(past))
        past.append(copy.deepcopy(messages))


@pytest.mark.parametrize("seed", range(40))
def test_whatever_becomes_of_a_conversation_it_is_read_as_if_nothing_were_known(seed: int) -> None:
    converse(seed)


def test_threads_that_share_a_beginning_each_read_their_own() -> None:
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(converse, seed % 3) for seed in range(12)]:
            done.result()


def exported(seed: int) -> list[dict[str, Any]]:
    """Return the attributes of the calls of a random conversation."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings = spanrelay.Settings(trajectories="off", content="spans", metrics=False, quiet=True)
    runtime = spanrelay.activate(settings, tracer_provider=provider, instrument=False)
    assert runtime is not None
    chance = random.Random(seed)
    messages = [{"role": "system", "content": SAID * 25}, *(some_message(chance) for _ in range(6))]
    answer = {"choices": [{"message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}]}
    try:
        for _ in range(15):
            spanrelay.start_model({"model": "m", "messages": messages}).end(answer)
            edit(messages, chance)
    finally:
        runtime.shutdown()
    return [dict(span.attributes or {}) for span in exporter.get_finished_spans()]


@pytest.mark.parametrize("seed", range(8))
def test_what_is_exported_of_a_conversation_is_the_same_with_memory_and_without(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory = exported(seed)
    monkeypatch.setattr(openai_chat, "turns", None)
    assert with_memory == exported(seed)
    assert len(with_memory) == 15
    assert KEY not in repr(with_memory)
