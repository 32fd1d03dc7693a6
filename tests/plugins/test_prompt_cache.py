"""The plugin `prompt_cache`: what it reads of a request, where it puts marks, and what it leaves alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from benchmarks.saving import Answer, Asked
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shared_data import exchanges, needs_shared

from spanrelay import semconv
from spanrelay.assembly.steps import metrics_of
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.prompt_cache import PromptCacheConfig, PromptCachePlugin, governor
from spanrelay.plugins.prompt_cache.governor import Governor
from spanrelay.plugins.prompt_cache.marking import Mark, marked, unmarked
from spanrelay.plugins.prompt_cache.memory import KEPT, Memory
from spanrelay.plugins.prompt_cache.outline import Outline, Unreadable, outline_of
from spanrelay.plugins.prompt_cache.rules import rules_of
from spanrelay.records import ModelResponse, PromptCache, SpanRecord, Usage
from spanrelay_testkit.prompt_caching import CachingProvider

MODEL = "claude-sonnet-5"
LONG = "word " * 2000


class Agent:
    """Asks a provider that caches by its rules, through a governor, at a time that the test moves."""

    def __init__(self, **options: Any) -> None:
        self.now = 1000.0
        self.provider = CachingProvider()
        self.governor = Governor(**{"applies": True, "clock": lambda: self.now, **options})
        self.sent: dict[str, Any] = {}

    def ask(self, body: dict[str, Any], call: Asked | None = None) -> PromptCache:
        """Send a request and return what is told of it."""
        call = call or Asked(body)
        steps = self.governor.govern(call)
        assert next(steps) is call
        self.sent = dict(call.outgoing())
        charged = self.provider.ask(self.sent, self.now)
        if call.begun is not None:
            call.begun()
        hour = charged.written.get("1h")
        usage = Usage(charged.total, 1, None, charged.read, sum(charged.written.values()), cache_write_1h_tokens=hour)
        with pytest.raises(StopIteration):
            steps.send(Answer(ModelResponse(usage=usage)))
        told = call.record.prompt_cache
        assert told is not None
        return told


def asked(*texts: str, system: Any = LONG, **more: Any) -> dict[str, Any]:
    """A request with messages in turn of the user and of the assistant."""
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    return {"model": MODEL, "max_tokens": 10, "system": system, "messages": messages, **more}


# --- the table ---


@pytest.mark.parametrize(
    ("api", "model", "minimum", "read"),
    [
        ("anthropic", "claude-opus-4-6", 4096, 0.1),
        ("anthropic", "claude-opus-4-7", 4096, 0.1),
        ("anthropic", "claude-opus-4-8-20260401", 1024, 0.1),
        ("anthropic", "claude-opus-5", 512, 0.1),
        ("anthropic", "claude-sonnet-5", 1024, 0.1),
        ("anthropic", "claude-sonnet-5-5", 512, 0.05),
        ("anthropic", "claude-fable-5-1", 512, 0.025),
        ("anthropic", "claude-haiku-4-5-20251001", 4096, 0.1),
        ("anthropic", "claude-3-5-haiku-latest", 2048, 0.1),
        ("anthropic", "claude-sonnet-4@20250514", 1024, 0.1),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", 1024, 0.1),
        ("bedrock", "amazon.nova-pro-v1:0", 1024, 0.25),
    ],
)
def test_a_model_has_the_rules_of_its_row(api: str, model: str, minimum: int, read: float) -> None:
    rules = rules_of(api, model)
    assert rules is not None
    assert (rules.minimum, rules.read) == (minimum, read)
    assert "2026" in rules.source


@pytest.mark.parametrize("model", ["claude-next", "gpt-5", "deepseek-chat", "my-claude", ""])
def test_a_model_that_no_row_names_has_none(model: str) -> None:
    assert rules_of("anthropic", model) is None


# --- the request stays what it is ---


def in_blocks(api: str, body: Any) -> Any:
    """The request with each text that stands for a block as that block, as the API takes it."""

    def listed(content: Any) -> Any:
        block = {"text": content} if api == "bedrock" else {"type": "text", "text": content}
        return [block] if isinstance(content, str) else content

    system = {"system": listed(body["system"])} if "system" in body else {}
    return {**body, **system, "messages": [{**one, "content": listed(one["content"])} for one in body["messages"]]}


def check_same_without_marks(api: str, body: dict[str, Any], outline: Outline) -> None:
    before = json.dumps(body)
    marks = [Mark(number, place) for number, place in enumerate(outline.places) if place is not None][-4:]
    sent = marked(api, body, marks)
    assert json.dumps(body) == before, "the caller's own was changed"
    assert json.dumps(sent).count("cachePoint" if api == "bedrock" else "cache_control") == len(marks)
    assert json.dumps(in_blocks(api, unmarked(sent))) == json.dumps(in_blocks(api, body))


@needs_shared
@pytest.mark.parametrize(("api", "files"), [("anthropic", "anthropic_messages*"), ("bedrock", "bedrock_converse*")])
def test_recorded_requests_are_byte_for_byte_the_same_without_their_marks(api: str, files: str) -> None:
    readable = 0
    for exchange in exchanges(f"{files}.jsonl"):
        body = exchange["request"]["body"]
        if not isinstance(body, dict) or "messages" not in body:
            continue
        try:
            outline = outline_of(api, body)
        except Unreadable:
            continue
        check_same_without_marks(api, body, outline)
        readable += 1
    assert readable > 10


_TEXT = st.text(min_size=1, max_size=8)
_RESULT = {"type": "tool_result", "tool_use_id": "t"}
_BLOCK = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, _TEXT),
    st.builds(lambda text: {**_RESULT, "content": text}, _TEXT),
    st.builds(lambda text: {**_RESULT, "content": [{"type": "text", "text": text}]}, _TEXT),
    st.builds(lambda text: {"type": "tool_use", "id": "t", "name": "n", "input": {text: [1, 2.5, None, True]}}, _TEXT),
    st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, _TEXT),
    st.just({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}),
    st.just({"type": "text", "text": ""}),
)
_CONTENT = st.one_of(_TEXT, st.lists(_BLOCK, min_size=1, max_size=4))


@settings(max_examples=30)
@given(st.lists(_CONTENT, min_size=1, max_size=5), st.none() | _TEXT | st.lists(_BLOCK, min_size=1, max_size=2))
def test_any_request_is_byte_for_byte_the_same_without_its_marks(contents: list[Any], system: Any) -> None:
    body = {**asked(*contents), "tools": [{"name": "t", "input_schema": {}}], "system": system or "s"}
    outline = outline_of("anthropic", body)
    check_same_without_marks("anthropic", body, outline)
    for place in outline.places:
        if place is not None and place[0] == "messages":
            content = body["messages"][place[1]]["content"]
            found = content if isinstance(content, str) else content[place[2]]
            assert isinstance(found, str) or (found["type"] != "thinking" and found.get("text") != "")


@settings(max_examples=30)
@given(st.lists(_CONTENT, min_size=2, max_size=6))
def test_a_conversation_that_goes_on_begins_with_the_digests_of_the_one_before(contents: list[Any]) -> None:
    whole = outline_of("anthropic", asked(*contents))
    for number in range(1, len(contents)):
        part = outline_of("anthropic", asked(*contents[:number]))
        assert part.digests == whole.digests[: len(part.digests)]


@settings(max_examples=100)
@given(_CONTENT, _CONTENT)
def test_what_says_something_else_has_another_digest(one: Any, other: Any) -> None:
    digests = [outline_of("anthropic", asked(content)).digests for content in (one, other)]
    assert (digests[0] == digests[1]) is (one == other)


def test_where_one_block_ends_is_a_part_of_what_is_said() -> None:
    """No other way to tell them apart is left where keys and texts are the same."""
    one, two = [{"type": "text", "text": "a", "id": "b"}], [{"type": "text", "text": "a"}, {"id": "b"}]
    assert outline_of("anthropic", asked(one)).digests != outline_of("anthropic", asked(two)).digests


# --- what is left alone ---


@pytest.mark.parametrize(
    ("body", "skipped"),
    [
        (asked("hi", model="claude-next"), "unknown_model"),
        (asked("hi", model=None), "unknown_model"),
        (asked("hi", cache_control={"type": "ephemeral"}), "callers_own"),
        (asked("hi", tools=[{"name": "t", "cache_control": {"type": "ephemeral"}}]), "callers_own"),
        (asked("hi", system=[{"type": "text", "text": LONG, "cache_control": {}}]), "callers_own"),
        (asked([{**_RESULT, "content": [{"type": "text", "text": "a", "cache_control": {}}]}]), "callers_own"),  # type: ignore[arg-type] - a block
        (asked(object()), "unknown_block"),  # type: ignore[arg-type] - what the API has none for
        (asked("hi", tools=[{"name": "t", "defer_loading": True}]), "unknown_block"),
        (asked("hi", tools=[{"type": "mcp_toolset", "default_config": {"defer_loading": True}}]), "unknown_block"),
        (asked("hi", tools=[{"type": "tool_search_next", "tools": [{"defer_loading": True}]}]), "unknown_block"),
        (asked("hi", messages="hi"), "unknown_block"),
        (asked(system=None), "empty"),
    ],
)
def test_a_request_that_nobody_knows_enough_of_is_left_alone_and_says_why(body: Any, skipped: str) -> None:
    call = Asked(body)
    steps = Agent().governor.govern(call)
    assert next(steps) is call
    assert call.outgoing() is body
    assert call.record.prompt_cache == PromptCache(skipped=skipped)


@pytest.mark.swallows
@pytest.mark.parametrize("where", ["marked", "kept"])
def test_a_fault_while_marking_and_behind_it_fails_no_call(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(governor, where, fail)
    agent = Agent()
    told = agent.ask(asked("a"))
    assert told.skipped == ("ZeroDivisionError" if where == "marked" else None)
    assert not agent.governor._flights


@pytest.mark.swallows
def test_a_fault_of_ours_sends_the_request_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Memory, "again", fail)
    agent = Agent()
    agent.ask(asked("a"))
    told = agent.ask(asked("a", "b", "c"))
    assert told.skipped == "ZeroDivisionError"
    assert "cache_control" not in json.dumps(agent.sent)


def test_a_prompt_below_the_minimum_is_sent_as_it_was() -> None:
    told = Agent().ask(asked("hi", system="short"))
    assert (told.decision, told.missed) == ("unmarked", "below_minimum")


# --- where marks stand ---


def test_marks_stand_behind_the_scaffold_and_the_last_block() -> None:
    agent = Agent()
    assert agent.ask(asked("a")).marks == ("system 5m", "messages[0][0] 5m")
    agent.now += 20
    told = agent.ask(asked("a", "b", "c"))
    assert told.marks == ("system 5m", "messages[2][0] 5m")
    assert told.hit_ratio is not None and told.hit_ratio > 0.99
    assert told.expected_read_tokens is not None and told.expected_read_tokens > 2000


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u00a0"])
def test_no_mark_stands_at_a_text_that_says_nothing(blank: str) -> None:
    said = {"type": "text", "text": "b"}
    body = asked("a", blank, [said, {"type": "text", "text": blank}], system=[said, {"type": "text", "text": blank}])  # type: ignore[arg-type] - blocks
    places = outline_of("anthropic", body).places
    assert places == [("system", 0, 0), ("messages", 0, 0), None, ("messages", 2, 0)]


def test_a_long_turn_is_read_from_where_the_one_before_ended() -> None:
    """The provider looks back 20 blocks only."""
    agent = Agent()
    agent.ask(asked("a"))
    uses = [{"type": "tool_use", "id": str(at), "name": "n", "input": {}} for at in range(30)]
    results = [{"type": "tool_result", "tool_use_id": str(at), "content": "r"} for at in range(30)]
    told = agent.ask(asked("a", uses, results))  # type: ignore[arg-type] - blocks
    assert told.marks == ("system 5m", "messages[0][0] 5m", "messages[2][29] 5m")
    assert told.hit_ratio is not None and told.hit_ratio > 0.5


def test_whoever_pauses_for_long_gets_marks_for_an_hour() -> None:
    agent = Agent()
    texts = ["question 0"]
    tolds = []
    for at in range(6):
        tolds.append(agent.ask(asked(*texts)))
        agent.now += 600
        texts += [f"answer {at}", f"question {at + 1}"]
    assert tolds[-1].marks == ("system 1h", "messages[10][0] 1h")
    assert tolds[-1].hit_ratio is not None and tolds[-1].hit_ratio > 0.9


def test_nothing_is_written_any_more_where_nobody_comes_back() -> None:
    agent = Agent()
    decisions = []
    for at in range(30):
        decisions.append(agent.ask(asked("hi", system=f"{at} {LONG}")).decision)
        agent.now += 20
    assert decisions.count("marked") <= 4
    assert decisions[-10:] == ["unmarked"] * 10


def test_what_the_provider_does_not_have_is_not_expected_again() -> None:
    agent = Agent()
    agent.ask(asked("a"))
    agent.provider = CachingProvider()  # it has forgotten everything
    told = agent.ask(asked("a", "b", "c"))
    assert (told.hit_ratio, told.missed) == (0.0, "not_found")


def test_the_caller_of_a_time_to_live_gets_no_other() -> None:
    from spanrelay.plugins.prompt_cache.planning import Terms

    agent = Agent(terms=Terms("1h"))
    for number in range(4):
        told = agent.ask(asked(*(str(at) for at in range(2 * number + 1))))
        agent.now += 10
    assert {mark.rpartition(" ")[2] for mark in told.marks} == {"1h"}


# --- calls that start together ---


def test_a_call_waits_for_the_one_that_writes_and_goes_on_when_that_fails() -> None:
    agent = Agent()
    first, second = Asked(asked("a")), Asked(asked("b"))
    leads, follows = agent.governor.govern(first), agent.governor.govern(second)
    assert next(leads) is first
    waits = next(follows)
    assert waits is not second
    waits.close()
    with pytest.raises(ConnectionError):
        leads.throw(ConnectionError())
    assert follows.send(None) is second
    assert second.record.prompt_cache is not None and second.record.prompt_cache.decision == "marked"
    third = Asked(asked("c"))
    waits = next(agent.governor.govern(third))
    assert waits is not third, "the second writes now"
    waits.close()


def test_a_call_that_is_given_up_holds_nobody_up() -> None:
    agent = Agent()
    leads = agent.governor.govern(Asked(asked("a")))
    next(leads)
    leads.close()
    call = Asked(asked("b"))
    assert next(agent.governor.govern(call)) is call


def test_who_waited_is_not_asked_to_wait_again() -> None:
    agent = Agent()
    leads, follows = agent.governor.govern(Asked(asked("a"))), agent.governor.govern(call := Asked(asked("b")))
    next(leads)
    next(follows).close()
    assert follows.send(None) is call


# --- what is told ---


@pytest.mark.parametrize("dialect", ["genai", "openinference"])
def test_what_is_told_is_read_from_a_span_as_it_was_written(dialect: str) -> None:
    told = PromptCache("marked", "1f09c2aa", ("system 5m", "messages[2][0] 1h"), 2000, 0.5, -3, 0.25, "expired", None)
    record = SpanRecord(1, 2, kind="llm", operation="chat", prompt_cache=told)
    attributes = {**semconv.write_start(record, dialect), **semconv.write(record, dialect, content=True)}
    semconv.read(attributes, read := SpanRecord(1, 2))
    assert read.prompt_cache == told
    metrics = metrics_of(read)
    assert metrics is not None and metrics.extra is not None
    assert metrics.extra["prompt_cache"]["marks"] == ["system 5m", "messages[2][0] 1h"]


# --- bounds, threads, settings ---


def test_memory_is_bounded() -> None:
    memory = Memory()
    for at in range(KEPT + 10):
        memory.use(at, float(at), memory.first)
    assert memory.used_before(5) is None
    assert memory.used_before(KEPT + 9) is not None


def test_nothing_of_what_is_said_is_kept() -> None:
    import gc

    agent = Agent()
    agent.ask(asked("".join(["sec", "ret"]), system=LONG))
    seen: set[int] = set()
    left: list[Any] = [agent.governor._memory]
    while left:
        each = left.pop()
        if id(each) not in seen and not isinstance(each, type):
            seen.add(id(each))
            assert each not in ("secret", LONG) if isinstance(each, str) else True
            left += gc.get_referents(each)


def test_threads_share_one_governor() -> None:
    agent = Agent(max_wait_s=0.0)
    agent.ask(asked("a"))
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for at in range(20):
                call = Asked(asked(f"{number} {at}"))
                for effect in agent.governor.govern(call):
                    if effect is not call:
                        effect.close()
                    elif call.begun is not None:
                        call.begun()
        except AttributeError:  # there is no answer to learn from
            pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (PromptCacheConfig(providers=[]), "providers"),
        (PromptCacheConfig(max_write_premium=1.5), "max_write_premium"),
        (PromptCacheConfig(min_reuse=-1), "min_reuse"),
        (PromptCacheConfig(max_wait_ms=60_000), "max_wait_ms"),
    ],
)
def test_settings_that_make_no_sense_are_told(config: PromptCacheConfig, key: str) -> None:
    assert [found.key for found in PromptCachePlugin().validate(config)] == [key]


def test_a_file_on_trial_only_observes() -> None:
    context = Context(PromptCacheConfig(mode="apply"), "prompt_cache", mode="observe")
    PromptCachePlugin().register(context)
    [entry] = context.entries
    owner: Callable[..., Any] = entry.function  # type: ignore[attr-defined] - it is middleware
    assert owner.__self__.applies is False  # type: ignore[attr-defined] - a method
    context.close()
