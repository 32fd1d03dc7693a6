"""The plugin `prompt_cache` at Anthropic's SDK, from a file alone, against a provider that caches by its rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest

from spanrelay import gateway, request_intercept, use
from spanrelay.config import PolicyFile
from spanrelay.errors import GuardrailRejected
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.loading import Shelf
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Request, error, reply, tool_call
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.prompt_caching import CachingProvider

from .test_contract import MODEL

SYSTEM = "You answer briefly. " * 400
TOOL = {"name": "tide", "description": "When the tide comes.", "input_schema": {"type": "object"}}
BOTH = [Half(asynchronous=False), Half(asynchronous=True)]
halves = pytest.mark.parametrize("half", BOTH, ids=["sync", "async"])
APPLY = 'plugins.prompt_cache.mode = "apply"\n'


class Provider:
    """Answers `ok`, and charges by the rules at the time that it is."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cache = CachingProvider()

    def __call__(self, request: Request) -> Any:
        self.now += 5.0
        return reply("ok", usage=self.cache.ask(request.body, self.now).usage())


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(Provider()) as running:
        yield running


@pytest.fixture
def in_force(tmp_path: Any) -> Iterator[Callable[[str], None]]:
    """Puts what a file says in force."""
    activations: list[Activation] = []

    def put(text: str) -> None:
        (path := tmp_path / "spanrelay.toml").write_text(text)
        activations.append(Activation([PolicyFile(str(path), "chosen")], Shelf()))
        activations[0].start()

    yield put
    for activation in activations:
        activation.close()


def client_of(half: Half, url: str) -> Any:
    kind: Any = anthropic.AsyncAnthropic if half.asynchronous else anthropic.Anthropic
    return kind(base_url=url, api_key="none", max_retries=0)


async def ask(half: Half, client: Any, messages: Any, *, stream: bool = False, **options: Any) -> Any:
    asked = {"model": MODEL, "max_tokens": 50, "system": SYSTEM, "tools": [TOOL], "messages": messages, **options}
    answer = await half.settle(client.messages.create(**asked, **({"stream": True} if stream else {})))
    return [event async for event in half.each(answer)] if stream else answer


def turns(number: int) -> list[Any]:
    said = [{"role": "user", "content": "hello"}]
    for at in range(number):
        said += [{"role": "assistant", "content": f"answer {at}"}, {"role": "user", "content": f"question {at}"}]
    return said


def marks_in(body: Any) -> int:
    return json.dumps(body).count('"cache_control"')


def told(span: Any) -> dict[str, Any]:
    """What the plugin says on a span."""
    start = names.PROMPT_CACHE_DECISION.removesuffix("decision")
    return {key.removeprefix(start): value for key, value in span.attributes.items() if key.startswith(start)}


streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@halves
@streams
async def test_a_conversation_is_read_from_the_cache_from_its_second_call_on(
    half: Half, stream: bool, server: ModelServer, instrumented: Capture, in_force: Any
) -> None:
    in_force(APPLY)
    await converse(half, server.address, stream=stream)
    check_conversation(instrumented, server)


@halves
@streams
async def test_a_conversation_through_the_gateway_is_too(
    half: Half, stream: bool, server: ModelServer, capture: Capture, in_force: Any
) -> None:
    in_force(APPLY)
    standing = gateway.start(upstreams={"anthropic": server.address}, tracer_provider=capture.provider)
    await converse(half, standing.base_url("anthropic"), stream=stream)
    assert standing.stop()
    check_conversation(capture, server)


async def converse(half: Half, url: str, *, stream: bool) -> None:
    client = client_of(half, url)
    for number in range(3):
        await ask(half, client, turns(number), stream=stream)
    await half.close(client)


def check_conversation(capture: Capture, server: ModelServer) -> None:
    spans = [told(span) for span in capture.spans]
    assert [span["decision"] for span in spans] == ["marked"] * 3
    assert [span["hit_ratio"] > 0.9 for span in spans] == [False, True, True]
    assert sum(span["saved_tokens"] for span in spans) > 3000
    assert spans[0]["marks"] == ("system 5m", "messages[0][0] 5m")
    assert spans[0]["missed"] == "first_use"
    assert [marks_in(request.body) for request in server.requests] == [2, 2, 2]


@halves
async def test_observing_changes_no_byte_and_says_what_would_have_been_saved(
    half: Half, server: ModelServer, instrumented: Capture, in_force: Any
) -> None:
    client = client_of(half, server.address)
    await ask(half, client, turns(1))
    in_force("[plugins.prompt_cache]")
    for _ in range(2):
        await ask(half, client, turns(1))
    await half.close(client)
    assert len({request.raw for request in server.requests}) == 1
    first, second = map(told, instrumented.spans[1:])
    assert first["decision"] == second["decision"] == "would_mark"
    assert first["saved_tokens"] < 0 < second["saved_tokens"]
    assert "hit_ratio" not in first or first["hit_ratio"] == 0


@halves
@pytest.mark.parametrize(
    "own",
    [
        {"system": [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}]},
        {"tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}]},
        {"extra_body": {"cache_control": {"type": "ephemeral"}}},
    ],
    ids=["system", "tools", "automatic"],
)
async def test_a_request_with_a_mark_of_its_callers_is_left_alone(
    half: Half, own: dict[str, Any], server: ModelServer, instrumented: Capture, in_force: Any
) -> None:
    in_force(APPLY)
    client = client_of(half, server.address)
    await ask(half, client, turns(1), **own)
    await half.close(client)
    assert marks_in(server.requests[0].body) == 1
    assert told(instrumented.spans[0]) == {"decision": "unmarked", "skipped": "callers_own"}


def strict(request: Request) -> Any:
    """A provider that takes no marks."""
    if marks_in(request.body):
        return error(400, {"error": {"message": "cache_control: Extra inputs are not permitted"}})
    return reply("ok")


async def test_a_provider_that_takes_no_marks_gets_the_request_as_it_was_from_the_gateway_too(
    capture: Capture, in_force: Any
) -> None:
    in_force(APPLY)
    with ModelServer(strict) as server:
        standing = gateway.start(upstreams={"anthropic": server.address}, tracer_provider=capture.provider)
        with client_of(BOTH[0], standing.base_url("anthropic")) as client:
            assert (await ask(BOTH[0], client, turns(1))).content[0].text == "ok"
        assert standing.stop()
    assert [marks_in(request.body) for request in server.requests] == [2, 0]
    assert told(capture.spans[0])["skipped"] == "refused"


@halves
async def test_a_provider_that_takes_no_marks_gets_the_request_as_it_was(
    half: Half, instrumented: Capture, in_force: Any
) -> None:
    in_force(APPLY)
    with ModelServer(strict) as server:
        client = client_of(half, server.address)
        for _ in range(2):
            assert (await ask(half, client, turns(1))).content[0].text == "ok"
        await half.close(client)
    assert [marks_in(request.body) for request in server.requests] == [2, 0, 0]
    assert [told(span)["skipped"] for span in instrumented.spans] == ["refused", "refused"]
    assert all(span.status.is_ok or span.status.is_unset for span in instrumented.spans)


@halves
async def test_policy_checks_once_and_counts_what_was_charged(
    half: Half, server: ModelServer, instrumented: Capture, in_force: Any
) -> None:
    """The marks are put in behind all policy, which sees the request as the application wrote it."""
    in_force(
        f"""{APPLY}
        [plugins.policy]
        models.deny = ["secret-*"]
        process.max_calls = 2
        """
    )
    client = client_of(half, server.address)
    for number in range(2):
        await ask(half, client, turns(number))
    with pytest.raises(GuardrailRejected, match="2 of the 2 model calls allowed"):
        await ask(half, client, turns(2))
    await half.close(client)
    assert [marks_in(request.body) for request in server.requests] == [2, 2]
    judged = [span for span in instrumented.spans if span.name.endswith("policy.models")]
    assert len(judged) == 2


PRICES = """
[[plugins.pricing.sources]]
type = "inline"
[plugins.pricing.sources.catalog]
version = 1
[[plugins.pricing.sources.catalog.entries]]
provider = "anthropic"
model_id = "claude-sonnet-5"
pricing_as_of = "2026-11-01"
pricing_source = "a test"
rates = { input_per_million = 3, output_per_million = 15, cache_read_per_million = 0.3, cache_write_per_million = 3.75 }
"""


async def test_what_was_saved_has_a_price(server: ModelServer, instrumented: Capture, in_force: Any) -> None:
    in_force(APPLY + PRICES)
    with client_of(BOTH[0], server.address) as client:
        for number in range(2):
            await ask(BOTH[0], client, turns(number))
    first, second = map(told, instrumented.spans)
    assert first["saved_usd"] < 0 < second["saved_usd"]
    assert second["saved_usd"] == pytest.approx(second["saved_tokens"] * 3e-6)


async def test_calls_that_start_together_wait_for_the_one_that_writes_what_they_share(
    instrumented: Capture, in_force: Any
) -> None:
    provider, written = Provider(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(request: Request) -> Any:
        loop.call_soon_threadsafe(written.set)
        return provider(request)

    in_force(APPLY)
    with ModelServer(slow) as server:
        client = client_of(BOTH[1], server.address)
        asked = [ask(BOTH[1], client, [{"role": "user", "content": f"part {at}"}]) for at in range(6)]
        await asyncio.gather(*asked)
        await client.close()
    ratios = sorted(told(span)["hit_ratio"] for span in instrumented.spans)
    assert ratios[0] == 0 and min(ratios[1:]) > 0.9


@halves
async def test_what_policy_rewrites_is_what_is_marked(
    half: Half, server: ModelServer, instrumented: Capture, in_force: Any
) -> None:
    @request_intercept
    def shout(call: Any) -> None:
        call.wire["messages"][0]["content"] = "HELLO"

    in_force(APPLY)
    client = client_of(half, server.address)
    with use(shout):
        await ask(half, client, turns(0))
    await half.close(client)
    [message] = server.requests[0].body["messages"]
    assert message["content"] == [{"type": "text", "text": "HELLO", "cache_control": {"type": "ephemeral"}}]


async def test_a_tool_call_in_an_answer_goes_on_as_a_conversation(instrumented: Capture, in_force: Any) -> None:
    provider = Provider()
    answers = iter([reply(tool_calls=[tool_call("tide", {})]), reply("at noon")])

    def script(request: Request) -> Any:
        charged = provider(request)
        given = next(answers)
        return reply(given.text, tool_calls=given.tool_calls, usage=charged.usage)

    in_force(APPLY)
    half = BOTH[0]
    with ModelServer(script) as server:
        client = client_of(half, server.address)
        first = await ask(half, client, turns(0))
        result = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": "12:00"}
        said = [*turns(0), {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        await ask(half, client, said)
        client.close()
    assert [told(span)["decision"] for span in instrumented.spans] == ["marked", "marked"]
    assert told(instrumented.spans[1])["hit_ratio"] > 0.9
