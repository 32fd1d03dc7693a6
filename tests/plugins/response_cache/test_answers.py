"""The plugin `response_cache` at OpenAI's SDK: what is answered again, what is not, and who may refuse it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from spanrelay import GuardrailRejected, execution_intercept, gateway, guardrail, stream_intercept, use
from spanrelay.assembly.steps import agent_step, answer_of
from spanrelay.plugins.response_cache import redis_store
from spanrelay.records import Message, ModelResponse, Text
from spanrelay.semconv import names
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Request, Usage, error, raw, reply, tool_call
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

BOTH = [Half(asynchronous=False), Half(asynchronous=True)]
halves = pytest.mark.parametrize("half", BOTH, ids=["sync", "async"])
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
ASKED: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}


class Counting:
    """Answers with a number, another each time."""

    def __init__(self) -> None:
        self.asked = 0
        self.next: Any = None
        self.held = threading.Event()
        self.held.set()

    def __call__(self, request: Request) -> Any:
        self.asked += 1
        assert self.held.wait(10)
        answer, self.next = self.next, None
        return answer or reply(f"answer {self.asked}", usage=Usage(60, 40))


@pytest.fixture
def provider() -> Counting:
    return Counting()


@pytest.fixture
def server(provider: Counting) -> Iterator[ModelServer]:
    with ModelServer(provider) as running:
        yield running


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    yield capture
    instrumentor.uninstrument()


@asynccontextmanager
async def client_of(half: Half, server: ModelServer, **options: Any) -> AsyncGenerator[Any]:
    kind: Any = openai.AsyncOpenAI if half.asynchronous else openai.OpenAI
    client = kind(**{"base_url": server.url, "max_retries": 0, "api_key": "none", **options})
    try:
        yield client
    finally:
        await half.settle(client.close())


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Returns the line of a file that names a store."""

    def line(where: str) -> str:
        if where == "sqlite":
            return f'path = "{tmp_path / "answers.sqlite3"}"'
        return f'url = "{request.getfixturevalue("redis_server").url}"'

    return line


async def ask(half: Half, client: Any, *, stream: bool = False, **options: Any) -> Any:
    """Ask, and return the answer or the chunks, as the SDK gives them."""
    answer = await half.settle(client.chat.completions.create(**{**ASKED, **options}, stream=stream))
    return [chunk async for chunk in half.each(answer)] if stream else answer


def attributes_of(capture: Capture) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in capture.spans]


def told_in(attributes: dict[str, Any]) -> dict[str, Any]:
    """What the plugin says on a span."""
    start = names.RESPONSE_CACHE_DECISION.removesuffix("decision")
    return {key.removeprefix(start): value for key, value in attributes.items() if key.startswith(start)}


def decisions(capture: Capture) -> list[Any]:
    """What is told of each call: the decision, and the reason where there is one."""
    found = [each for each in map(told_in, attributes_of(capture)) if each]
    return [each.get("reason", each["decision"]) for each in found]


# --- answered again ---


@halves
@streams
async def test_the_same_request_is_answered_as_before_and_nothing_is_sent(
    half: Half, stream: bool, server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any, clock: Any
) -> None:
    in_force()
    async with client_of(half, server) as client:
        first = await ask(half, client, stream=stream)
        clock.now += 7
        second = await ask(half, client, stream=stream)
    assert second == first
    assert type(second) is type(first)
    assert provider.asked == 1
    sent, answered = attributes_of(instrumented)
    assert told_in(sent) == {"decision": "miss"}
    tokens = {} if stream else {"saved_tokens": 100}
    assert told_in(answered) == {"decision": "hit", "age_seconds": 7.0, **tokens}
    assert answered["spanrelay.answered_by"] == "response_cache.answers"
    assert not [key for key in answered if "token_count" in key or ".usage." in key]
    same = [key for key in sent if key.startswith(("gen_ai.output", "gen_ai.request", "gen_ai.response.id"))]
    assert {key: answered[key] for key in same} == {key: sent[key] for key in same}


@halves
async def test_raw_responses_and_helpers_are_answered_too(
    half: Half, server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    async with client_of(half, server) as client:
        first = await ask(half, client)
        second = await half.settle(client.chat.completions.with_raw_response.create(**ASKED))
        assert (second.status_code, second.parse()) == (200, first)
        parsed = await half.settle(client.chat.completions.parse(**ASKED))
    assert parsed.choices[0].message.content == "answer 1"
    assert provider.asked == 1


@halves
@streams
async def test_the_responses_api_is_answered_where_it_keeps_nothing(
    half: Half, stream: bool, server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    asked: dict[str, Any] = {"model": "gpt-5", "input": "hello", "temperature": 0, "stream": stream}
    async with client_of(half, server) as client:
        answers: list[Any] = []
        for options in ({"store": False}, {"store": False}, {}):
            answer = await half.settle(client.responses.create(**asked, **options))
            answers.append([event async for event in half.each(answer)] if stream else answer)
    assert answers[0] == answers[1]
    assert provider.asked == 2
    assert decisions(instrumented) == ["miss", "hit", "stateful"]


@halves
@streams
async def test_what_comes_through_the_gateway_is_answered_too(
    half: Half, stream: bool, server: ModelServer, provider: Counting, capture: Capture, in_force: Any
) -> None:
    in_force()
    standing = gateway.start(upstreams={"openai": server.url}, tracer_provider=capture.provider)
    answers: list[Any] = []
    for key in ("one", "one", "two"):
        async with client_of(half, server, base_url=standing.base_url("openai"), api_key=key) as client:
            answers.append(await ask(half, client, stream=stream))
    assert standing.stop()
    assert answers[0] == answers[1] != answers[2]
    assert decisions(capture) == ["miss", "hit", "miss"]
    assert provider.asked == 2


async def test_a_tool_call_is_answered_as_it_came(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    provider.next = reply(tool_calls=[tool_call("tide", {"place": "Brest"}, id="call_1")])
    tool = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}
    async with client_of(BOTH[0], server) as client:
        first, second = [await ask(BOTH[0], client, tools=[tool], stream=True) for _ in range(2)]
    assert first == second
    assert decisions(instrumented) == ["miss", "hit"]


async def test_an_answer_is_given_no_longer_than_its_time_and_not_from_the_future(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any, clock: Any
) -> None:
    in_force("ttl_seconds = 10")
    async with client_of(BOTH[0], server) as client:
        for seconds in (0, 9.9, 0.2, -1000):
            clock.now += seconds
            await ask(BOTH[0], client)
    assert decisions(instrumented) == ["miss", "hit", "miss", "miss"]
    assert provider.asked == 3


async def test_no_more_is_kept_than_there_is_room_for(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force("max_bytes = 1500")
    async with client_of(BOTH[0], server) as client:
        for seed in (1, 2, 3, 3, 1):
            await ask(BOTH[0], client, seed=seed)
    assert decisions(instrumented) == ["miss", "miss", "miss", "hit", "miss"]


async def test_what_only_observes_sends_each_call_and_says_what_it_would_have_answered(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force(mode="observe")
    async with client_of(BOTH[0], server) as client:
        answers = [await ask(BOTH[0], client) for _ in range(2)]
    assert [each.choices[0].message.content for each in answers] == ["answer 1", "answer 2"]
    assert decisions(instrumented) == ["miss", "would_hit"]
    assert attributes_of(instrumented)[1]["gen_ai.usage.input_tokens"] == 60


# --- kept elsewhere ---


@halves
@streams
@pytest.mark.parametrize("where", ["sqlite", "redis"])
async def test_what_another_process_was_answered_is_answered_here(
    half: Half,
    stream: bool,
    where: str,
    server: ModelServer,
    provider: Counting,
    instrumented: Capture,
    in_force: Any,
    place: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_store, "PATIENCE_S", 5.0)  # nobody is to give up here
    lines = f'{place(where)}\nencryption_key = "{"A" * 43}="'
    async with client_of(half, server) as client:
        in_force(lines).close()
        activation = in_force(lines)
        first = await ask(half, client, stream=stream)
        activation.close()
        in_force(lines)  # with nothing in memory
        assert await ask(half, client, stream=stream) == first
    assert provider.asked == 1


@pytest.mark.swallows
async def test_a_file_that_breaks_later_loses_no_call(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any, place: Any, tmp_path: Path
) -> None:
    in_force(place("sqlite"))
    async with client_of(BOTH[0], server) as client:
        await ask(BOTH[0], client)
        for path in tmp_path.glob("answers.sqlite3*"):
            path.unlink()
        (tmp_path / "answers.sqlite3").write_bytes(b"no database" * 200)
        await ask(BOTH[0], client)
    assert provider.asked == 2


# --- another request ---


@pytest.mark.parametrize(
    "options",
    [
        {"model": "gpt-5-mini"},
        {"messages": [{"role": "user", "content": "hello "}]},
        {"temperature": 0.0, "seed": 7},
        {"stream": True},
        {"user": "u-2"},
        {"extra_headers": {"OpenAI-Beta": "other=v2"}},
        {"extra_query": {"api-version": "2"}},
        {"extra_body": {"top_k": 3}},
        {"extra_headers": {"Authorization": "Bearer another"}},
    ],
    ids=str,
)
async def test_what_differs_is_asked_anew(
    options: dict[str, Any], server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    async with client_of(BOTH[0], server) as client:
        await ask(BOTH[0], client)
        await ask(BOTH[0], client, **options)
    assert decisions(instrumented) == ["miss", "miss"]
    assert provider.asked == 2


@pytest.mark.parametrize(
    "options",
    [
        {"prompt_cache_key": "k"},
        {"extra_body": {"cache_control": {"type": "ephemeral"}}},
        {"extra_headers": {"X-Request-Id": "7", "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}},
        {"timeout": 7},
    ],
    ids=str,
)
async def test_what_no_model_sees_makes_no_difference(
    options: dict[str, Any], server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    async with client_of(BOTH[0], server) as client:
        await ask(BOTH[0], client)
        await ask(BOTH[0], client, **options)
    assert decisions(instrumented) == ["miss", "hit"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"temperature": 0.1}, "nondeterministic"),
        pytest.param({"temperature": openai.omit}, "nondeterministic", id="no temperature"),
        ({"store": True}, "stateful"),
        ({"extra_body": {"tools": [{"type": "web_search"}]}}, "server_tools"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
            "files",
        ),
    ],
    ids=str,
)
async def test_what_may_be_answered_otherwise_is_sent_each_time(
    options: dict[str, Any],
    reason: str,
    server: ModelServer,
    provider: Counting,
    instrumented: Capture,
    in_force: Any,
) -> None:
    in_force()
    async with client_of(BOTH[0], server) as client:
        for _ in range(2):
            await ask(BOTH[0], client, **options)
    assert decisions(instrumented) == [reason, reason]
    assert provider.asked == 2


@pytest.mark.parametrize(("line", "asked"), [("nondeterministic = true", 1), ('models = ["gpt-5*"]', 1), ("", 2)])
async def test_a_file_may_say_that_it_does_not_matter(
    line: str, asked: int, server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force(line)
    async with client_of(BOTH[0], server) as client:
        for _ in range(2):
            await ask(BOTH[0], client, temperature=openai.omit)
    assert provider.asked == asked


# --- others ---


async def test_two_keys_never_share_an_answer_unless_they_are_told_to(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    activation = in_force()
    for _ in range(2):
        for key in ("one", "two"):
            async with client_of(BOTH[0], server, api_key=key) as client:
                await ask(BOTH[0], client)
    assert decisions(instrumented) == ["miss", "miss", "hit", "hit"]
    async with client_of(BOTH[0], server, api_key=lambda: "one") as client:
        await ask(BOTH[0], client)
    assert decisions(instrumented)[4:] == ["unknown_credential"]
    activation.close()
    in_force("per_credential = false", namespace="shared")
    for key in ("one", "two"):
        async with client_of(BOTH[0], server, api_key=key) as client:
            await ask(BOTH[0], client)
    assert decisions(instrumented)[5:] == ["miss", "hit"]


# --- what is not kept ---


@streams
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply("cut", finish_reason="length"), "length"),
        (reply("no", finish_reason="content_filter"), "content_filter"),
        (raw(b'{"error": {"message": "overloaded"}}'), "error"),
    ],
    ids=["length", "filtered", "error"],
)
async def test_an_answer_that_did_not_end_as_it_should_is_not_kept(
    stream: bool,
    answer: Any,
    reason: str,
    server: ModelServer,
    provider: Counting,
    instrumented: Capture,
    in_force: Any,
) -> None:
    in_force()
    provider.next = answer
    async with client_of(BOTH[0], server) as client:
        with contextlib.suppress(openai.APIError):
            await ask(BOTH[0], client, stream=stream)
        await ask(BOTH[0], client, stream=stream)
    assert decisions(instrumented)[1] == "miss"
    assert provider.asked == 2


async def test_a_failed_call_is_not_kept(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    provider.next = error(500)
    async with client_of(BOTH[0], server) as client:
        with pytest.raises(openai.InternalServerError):
            await ask(BOTH[0], client)
        await ask(BOTH[0], client)
    assert decisions(instrumented) == ["miss", "miss"]


@halves
async def test_a_stream_that_is_left_is_not_kept(
    half: Half, server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    async with client_of(half, server) as client:
        stream = await half.settle(client.chat.completions.create(**ASKED, stream=True))
        async for _ in half.each(stream):
            break
        await half.settle(stream.close())
        del stream
        await ask(half, client, stream=True)
    assert provider.asked == 2


# --- policy ---


@streams
async def test_an_answer_that_a_guardrail_refuses_is_not_kept(
    stream: bool, server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()

    @execution_intercept(buffered=True)
    def rail(call: Any) -> Iterator[Any]:
        response = yield call
        if "1" in response.record.messages[0].text:
            raise GuardrailRejected("not that one", "rail")

    with use(rail):
        async with client_of(BOTH[0], server) as client:
            with pytest.raises(GuardrailRejected):
                await ask(BOTH[0], client, stream=stream)
            for _ in range(2):
                await ask(BOTH[0], client, stream=stream)
    assert provider.asked == 2


@streams
async def test_policy_judges_and_changes_what_is_answered_again(
    stream: bool, server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    seen: list[str] = []

    @execution_intercept(buffered=True)
    def rail(call: Any) -> Iterator[Any]:
        response = yield call
        seen.append(response.record.messages[0].text)
        if len(seen) == 3:
            return ModelResponse(messages=[Message("assistant", [Text("changed")], finish_reason="stop")])
        return None

    with use(rail):
        async with client_of(BOTH[0], server) as client:
            answers = [await ask(BOTH[0], client, stream=stream) for _ in range(3)]
    assert seen == ["answer 1"] * 3
    assert "changed" in str(answers[2])
    assert "answer" not in str(answers[2])
    assert provider.asked == 1


async def test_a_guardrail_refuses_what_would_be_answered_again(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    async with client_of(BOTH[0], server) as client:
        await ask(BOTH[0], client)

        @execution_intercept
        def changes(call: Any) -> Iterator[Any]:
            call.wire = {**call.wire, "messages": ASKED["messages"]}
            return (yield call)

        judged = guardrail(name="no hello")(
            lambda call: "not hello" if call.request.messages[0].text == "hello" else None
        )
        with use(changes), use(judged), pytest.raises(GuardrailRejected):
            await ask(BOTH[0], client, messages=[{"role": "user", "content": "good day"}])
    assert provider.asked == 1


async def test_a_stream_that_intercepts_rewrite_is_not_answered_again(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    rewrites = stream_intercept(hold_back=3)(lambda call, text: text.replace("answer", "word"))
    async with client_of(BOTH[0], server) as client:
        await ask(BOTH[0], client, stream=True)
        with use(rewrites):
            assert "answer" not in str(await ask(BOTH[0], client, stream=True))
    assert decisions(instrumented) == ["miss", "stream_intercepts"]


async def test_who_asks_again_in_one_call_gets_another_answer(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()

    @execution_intercept
    def twice(call: Any) -> Iterator[Any]:
        yield call
        return (yield call)

    async with client_of(BOTH[0], server) as client:
        await ask(BOTH[0], client)
        with use(twice):
            answer = await ask(BOTH[0], client)
    assert answer.choices[0].message.content == "answer 2"


async def test_what_is_answered_again_counts_in_no_budget_and_is_no_model_call_of_a_trajectory(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force("[plugins.policy.process]\nmax_tokens = 150")
    async with client_of(BOTH[0], server) as client:
        for _ in range(4):
            await ask(BOTH[0], client)
        await ask(BOTH[0], client, seed=1)
        with pytest.raises(GuardrailRejected, match="tokens"):
            await ask(BOTH[0], client, seed=2)
    assert decisions(instrumented) == ["miss", "hit", "hit", "hit", "miss"]
    calls = [span for span in instrumented.spans if names.RESPONSE_CACHE_DECISION in (span.attributes or {})]
    record = instrumented.record(calls[1])
    step = agent_step(record, answer_of(record), None, 1)
    assert (step.llm_call_count, step.metrics) == (0, None)
    assert (step.extra or {})["answered_by"] == "response_cache.answers"


# --- at the same time ---


async def test_threads_that_ask_the_same_at_once_send_it_once(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    provider.held.clear()
    answers: list[Any] = []
    half = BOTH[0]
    async with client_of(half, server) as client:
        threads = [
            threading.Thread(target=lambda: answers.append(client.chat.completions.create(**ASKED))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        provider.held.set()
        for thread in threads:
            thread.join()
    assert provider.asked == 1
    assert len(answers) == 4
    assert all(answer == answers[0] for answer in answers)


@streams
async def test_tasks_that_ask_the_same_at_once_send_it_once(
    stream: bool, server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    half = BOTH[1]
    async with client_of(half, server) as client:
        answers = await asyncio.gather(*(ask(half, client, stream=stream) for _ in range(4)))
    assert provider.asked == 1
    assert all(answer == answers[0] for answer in answers)
    assert sorted(decisions(instrumented)) == ["hit", "hit", "hit", "miss"]


async def test_nobody_waits_for_a_stream_that_he_has_not_read(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    half = BOTH[0]
    async with client_of(half, server) as client:
        first = client.chat.completions.create(**ASKED, stream=True)
        second = client.chat.completions.create(**ASKED, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in second if chunk.choices) == "answer 2"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in first if chunk.choices) == "answer 1"
    assert decisions(instrumented) == ["miss", "miss"]


async def test_who_waits_sends_it_himself_where_the_first_fails(
    server: ModelServer, provider: Counting, instrumented: Capture, in_force: Any
) -> None:
    in_force()
    provider.next = error(500)
    half = BOTH[1]
    async with client_of(half, server) as client:
        answers: list[Any] = await asyncio.gather(*(ask(half, client) for _ in range(2)), return_exceptions=True)
    assert isinstance(answers[0], openai.InternalServerError)
    assert answers[1].choices[0].message.content == "answer 2"
