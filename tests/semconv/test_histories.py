"""What is recognised of a history gives what reading all of it gives, whatever was done to the history."""

import json
import random
from copy import deepcopy
from typing import Any

import pytest

from spanrelay.assembly.steps import answer_of
from spanrelay.assembly.transcript import Alignment, Transcript
from spanrelay.records import Message, ModelResponse, SpanRecord, Text
from spanrelay.semconv import histories, messages, names, traceloop
from spanrelay.semconv.histories import Histories, History
from spanrelay.semconv.messages import read_message, read_messages
from spanrelay.semconv.openinference import reading

Plain = list[Any]

WORDS = [
    "",
    "hello",
    'a "quoted" \\ word',
    "line\nend",
    "{[",
    "]}",
    "],",
    "ümlaut \u2028",
    "\U0001f600",
    "é" * 40,
    "x" * 300,
]


def text_part(chance: random.Random) -> Any:
    return {"type": "text", "content": " ".join(chance.choices(WORDS, k=chance.randint(0, 3)))}


def part(chance: random.Random) -> Any:
    number = chance.randint(0, 99)
    return chance.choice(
        [
            text_part(chance),
            {"type": "text"},  # its content was left out
            {"type": "tool_call", "id": f"c{number}", "name": "search", "arguments": {"q": [number, {"]": "}"}]}},
            {"type": "tool_call_response", "id": f"c{number}", "response": chance.choice(WORDS)},
            {"type": "reasoning", "content": "hm"},
            {"type": "strange", "data": [1, 2.5, None, 2**70, 1e300]},
            {"type": "blob", "modality": "image", "content": "aGk=", "mime_type": "image/png"},
            "only text",
        ]
    )


def message(chance: random.Random) -> Any:
    role = chance.choice(["system", "user", "assistant", "tool", "assistant"])
    if chance.random() < 0.2:
        return {"role": role, "content": chance.choice(WORDS)}
    parts = [text_part(chance)] if chance.random() < 0.6 else [part(chance) for _ in range(chance.randint(0, 3))]
    return {"role": role, "parts": parts}


def edited(chance: random.Random, messages: Plain) -> Plain:
    """Return another history made of one: most often grown, else changed as applications change theirs."""
    messages = deepcopy(messages)
    at = chance.randrange(len(messages)) if messages else 0
    kind = chance.choice(["grow"] * 6 + ["same", "change", "cut", "drop", "swap", "first", "odd", "twice", "last"])
    if kind == "grow" or not messages:
        messages += [message(chance) for _ in range(chance.randint(1, 3))]
    elif kind == "change":
        messages[at] = message(chance)
    elif kind == "cut":
        del messages[at:]
    elif kind == "drop":
        del messages[at]
    elif kind == "swap":
        messages[0], messages[at] = messages[at], messages[0]
    elif kind == "first":
        messages[0] = {"role": "system", "parts": [{"type": "text", "content": str(at)}]}
    elif kind == "odd":
        messages.append(chance.choice([None, 1, 12, "text", [], [message(chance)], {}]))
    elif kind == "twice":
        messages.insert(at, deepcopy(messages[at]))
    elif kind == "last":
        messages[-1] = message(chance)
    return messages


def shuffled(value: Any, chance: random.Random) -> Any:
    """Return JSON with the members of its objects in another order."""
    if isinstance(value, dict):
        items = [(name, shuffled(item, chance)) for name, item in value.items()]
        chance.shuffle(items)
        return dict(items)
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


def spelled(chance: random.Random, messages: Plain) -> str:
    """Return a history as one of the texts that instrumentors write of it, whole or not."""
    kind = chance.choice(["compact"] * 8 + ["blanks", "indent", "ascii", "order", "members", "around", "broken"])
    plain = json.dumps(messages, separators=(",", ":"), ensure_ascii=False)
    if kind == "blanks":
        return json.dumps(messages)
    if kind == "indent":
        return json.dumps(messages, indent=chance.randint(1, 3))
    if kind == "ascii":
        return json.dumps(messages, separators=(",", ":"))
    if kind == "order":
        return json.dumps(shuffled(messages, chance), separators=(",", ":"), ensure_ascii=False)
    if kind == "members":
        return plain.replace('"role":', '"role":"user","role":', chance.randint(0, 2))
    if kind == "around":
        return (
            chance.choice([" ", "\n", "\xa0", '{"messages":', ""]) + plain + chance.choice([" ", "\t\n", "\xa0", "}"])
        )
    if kind == "broken":
        at = chance.randrange(len(plain) + 1)
        return chance.choice(
            [plain[:at], plain[:-1] + ",]", plain + "]", plain[:-1] + ",NaN]", plain[:at] + "\\ud800" + plain[at:]]
        )
    return plain


def slowly(text: str) -> tuple[list[Message], bool, bool]:
    record = SpanRecord(0, 0)
    return read_messages(text, record), record.content, record.truncated


def quickly(known: Histories, key: str, text: str) -> tuple[list[Message], bool, bool]:
    record = SpanRecord(0, 0)
    found = known.read(key, text, read_message, record)
    return read_messages(text, record) if found is None else found, record.content, record.truncated


def looked_at(found: Alignment) -> tuple[Any, ...]:
    return found.kind, found.new, found.changed, found.kept, found.dropped, found.echo, found._keys, found._prints


def flattened(talk: Plain, start: int = 0) -> dict[str, Any]:
    """Return a history as OpenInference's and Traceloop's instrumentors write it, each under its own names."""
    written: list[tuple[str, Any]] = []
    for number, each in enumerate(talk, start):
        theirs, ours = f"gen_ai.prompt.{number}", f"llm.input_messages.{number}.message"
        said = each if isinstance(each, dict) else {"content": str(each)}
        parts = said.get("parts", [])
        written += [(f"{prefix}.role", said["role"]) for prefix in (theirs, ours) if "role" in said]
        written.append((f"{theirs}.content", said.get("content", json.dumps(parts))))
        written += [(f"{ours}.content", said["content"])] if "content" in said else []
        for place, part in enumerate(parts):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "tool_call":
                call = f"{ours}.tool_calls.{place}.tool_call"
                written += [(f"{call}.id", part["id"]), (f"{call}.function.name", part["name"])]
                written.append((f"{call}.function.arguments", json.dumps(part["arguments"])))
            elif kind is not None:
                content = f"{ours}.contents.{place}.message_content"
                written += [(f"{content}.type", kind), (f"{content}.text", part.get("content", "__REDACTED__"))]
    return dict(written)


def respelled(chance: random.Random, flat: dict[str, Any]) -> dict[str, Any]:
    """Return flattened attributes as some backend keeps them, whole or not."""
    kind, items = (
        chance.choice(["as they are"] * 12 + ["mixed", "sorted", "cut", "figures", "zeros", "more"]),
        [*flat.items()],
    )
    at = chance.randrange(len(items)) if items else 0
    if kind == "mixed":
        chance.shuffle(items)
    elif kind == "sorted":
        items.sort()
    elif kind == "cut":
        del items[at : at + chance.randint(1, 4)]
    elif kind == "figures" and items:
        items[at] = items[at][0], chance.choice([1, True, 1.0])
    elif kind == "zeros":
        items = [(name.replace(".1.", ".01."), value) for name, value in items]
    elif kind == "more":
        items.append(
            (chance.choice(["gen_ai.prompt.x.role", "llm.input_messages", "llm.input_messages.0.odd"]), "user")
        )
    return {"gen_ai.request.model": "m", **dict(items)}


READERS: dict[str, Any] = {"openinference": reading, "traceloop": traceloop}
PREFIXES = {"openinference": names.OI_INPUT_MESSAGES, "traceloop": names.TL_PROMPT}


def in_the_dialect(dialect: str, attributes: dict[str, Any], trace: int) -> tuple[list[Message], bool, bool]:
    """Read a history; where no trace is known, nothing is recognised."""
    record = SpanRecord(trace, 0)
    given = (attributes, PREFIXES[dialect], *(("user",) if dialect == "traceloop" else ()), record)
    return READERS[dialect]._read_messages(*given), record.content, record.truncated


@pytest.mark.parametrize("first", range(0, 840, 140))
@pytest.mark.parametrize("dialect", ["genai", *READERS])
def test_what_is_recognised_is_read_and_aligned_as_all_of_it_would_be(
    dialect: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "LEAST_ATTRIBUTES", 0)
    for seed in range(first, first + 140):
        chance = random.Random(seed)
        known = Histories()
        monkeypatch.setattr(messages, "histories", known)
        talks: list[Plain] = [[message(chance)]]
        quick, slow = Transcript(), Transcript()
        for _ in range(12):
            talk = edited(chance, chance.choice(talks))
            talks.append(talk)
            if dialect == "genai":
                text: Any = spelled(chance, talk)
                wanted, got = slowly(text), quickly(known, "s", text)
            else:
                text = respelled(chance, flattened(talk, chance.choice([0] * 20 + [1, 3])))
                wanted, got = in_the_dialect(dialect, text, 0), in_the_dialect(dialect, text, 7)
            assert repr(got) == repr(wanted), f"seed {seed}: {text}"
            one, other = quick.align(got[0]), slow.align(list(wanted[0]))
            assert looked_at(one) == looked_at(other), f"seed {seed}"
            assert quick.extends(got[0]) == slow.extends(wanted[0])
            if chance.random() < 0.8:  # others may be told in other documents
                answer = Message("assistant", [Text(f"answer {len(talks)}")])
                told = answer_of(SpanRecord(0, 0, response=ModelResponse(messages=[answer])))
                quick.accept(one, told, None, None)
                slow.accept(other, told, None, None)
                talk.append({"role": "assistant", "parts": [{"type": "text", "content": answer.text}]})


def history(length: int, start: str = "") -> str:
    talk = [{"role": "user", "parts": [{"type": "text", "content": f"{start}{at}"}]} for at in range(length)]
    return json.dumps(talk, separators=(",", ":"))


def of(known: Histories, key: str, text: str) -> History:
    found = known.read(key, text, read_message, SpanRecord(0, 0))
    assert found is not None
    return found


def test_messages_that_both_requests_have_are_the_same_objects() -> None:
    known = Histories()
    before, grown = of(known, "s", history(3)), of(known, "s", history(5))
    assert [one is other for one, other in zip(before, grown, strict=False)] == [True] * 3
    changed = of(known, "s", history(5).replace('"3"', '"other"'))
    assert [one is other for one, other in zip(grown, changed, strict=False)] == [True, True, True, False, False]
    again = of(known, "s", history(5))
    assert all(one is other for one, other in zip(grown, again, strict=True))


def test_conversations_of_one_session_are_known_beside_each_other() -> None:
    known = Histories()
    first = {name: of(known, "s", history(2, name)) for name in ("a", "b", "c")}
    for name, before in first.items():
        grown = of(known, "s", history(3, name))
        assert [one is other for one, other in zip(before, grown, strict=False)] == [True, True]


def test_what_is_known_is_bounded_and_goes_with_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Histories()
    monkeypatch.setattr(histories, "MAX_CONVERSATIONS", 10)
    for number in range(30):
        of(known, f"s{number}", history(2))
    assert len(known) == 10
    known.forget(*(f"s{number}" for number in range(30)))
    assert (len(known), known._size) == (0, 0)
    monkeypatch.setattr(histories, "MAX_CHARACTERS", 1000)
    for number in range(30):
        of(known, "s", history(4, str(number)))
        of(known, f"t{number}", history(number + 1))
        assert known._size == sum(len(each.text) for beside in known._known.values() for each in beside) <= 1000


@pytest.mark.parametrize("dialect", READERS)
def test_flattened_messages_that_both_requests_have_are_the_same_objects(
    dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Histories()
    monkeypatch.setattr(messages, "histories", known)
    talk = [{"role": "user", "content": f"message {number}"} for number in range(30)]
    for number in range(10, 30):
        found, _, _ = in_the_dialect(dialect, flattened(talk[:number]), 7)
        grown, _, _ = in_the_dialect(dialect, flattened(talk[: number + 1]), 7)
        assert [one is other for one, other in zip(found, grown, strict=False)] == [True] * number
        assert known._size == sum(each.size for beside in known._known.values() for each in beside)
    changed = [*talk[:5], {"role": "user", "content": "another"}, *talk[6:]]
    found, _, _ = in_the_dialect(dialect, flattened(changed), 7)
    assert [one is other for one, other in zip(found, grown, strict=False)] == [True] * 5 + [False] * 25
    known.forget(7)
    assert (len(known), known._size) == (0, 0)
