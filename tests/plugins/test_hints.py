"""The plugin `hints` in force for the real SDK: what a server that schedules by hints is sent, and what is learned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.plugins.redis_server import RedisServer

from spanrelay import ConfigurationError, guardrail, run_tool, scope, use
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.hints import HintsPlugin
from spanrelay.plugins.hints.habits import KEPT, Habits, Shared, aged, agents_in, answer, ask, expected
from spanrelay.plugins.places import FilePlace, place_of
from spanrelay.plugins.plugin import Secret
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer, Usage

HELLO: Any = [{"role": "user", "content": "hello"}]


class Shelf:
    """Holds the plugin with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def take(self, name: str) -> Any:
        return HintsPlugin(lambda: self.now), []


@pytest.fixture
def clock() -> Shelf:
    return Shelf()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """Answers with 100 tokens."""
    with ModelServer(lambda request: reply("ok", usage=Usage(60, 100))) as running:
        yield running


@pytest.fixture
def hint(tmp_path: Path, clock: Shelf, capture: Capture) -> Iterator[Callable[..., Activation]]:
    """Puts `[plugins.hints]` in force, for the server unless `hosts` is given."""
    started: list[Activation] = []

    def put(text: str = "", hosts: str = '["127.0.0.1"]') -> Activation:
        path = tmp_path / "spanrelay.toml"
        path.write_text(f"[plugins.hints]\nhosts = {hosts}\n{text}")
        started.append(Activation([PolicyFile(str(path), "chosen")], clock))  # type: ignore[arg-type]
        started[-1].start()
        return started[-1]

    yield put
    for each in started:
        each.close()


def run(client: openai.OpenAI, requests: int, clock: Shelf, agent: str = "clerk", **more: Any) -> None:
    """A run of an agent that asks so often, a second apart."""
    with scope(agent, kind="agent", **more):
        for _ in range(requests):
            client.chat.completions.create(model="m", messages=HELLO)
            clock.now += 1


def hints_in(server: ModelServer) -> list[Any]:
    return [request.body.get("nvext", {}).get("agent_hints") for request in server.requests]


def test_what_was_learned_of_an_agent_goes_with_its_requests(
    hint: Any, client: openai.OpenAI, server: ModelServer, clock: Shelf
) -> None:
    hint()
    for _ in range(2):
        run(client, 3, clock)
    first, *_, before_last, last = hints_in(server)
    assert set(first) == {"prefix_id"}
    assert first["prefix_id"].endswith("-d1")
    assert before_last == {"osl": 108, "iat": 1000, "total_requests": 3, "prefix_id": first["prefix_id"]}
    assert last == before_last


def test_the_position_in_the_run_says_how_much_is_left(
    hint: Any, client: openai.OpenAI, server: ModelServer, clock: Shelf
) -> None:
    hint()
    for requests in (1, 5, 5, 5):
        run(client, requests, clock)
    assert [each["total_requests"] for each in hints_in(server)[-5:]] == [4, 5, 5, 5, 5]


def test_agents_are_known_apart(hint: Any, client: openai.OpenAI, server: ModelServer, clock: Shelf) -> None:
    hint()
    run(client, 3, clock)
    run(client, 1, clock, "another")
    with scope("outer", kind="agent"):
        run(client, 1, clock)
    clerk, *_, another, inner = hints_in(server)
    assert set(another) == {"prefix_id"}
    assert another["prefix_id"] != clerk["prefix_id"]
    assert inner["prefix_id"] == clerk["prefix_id"].replace("-d1", "-d2")


def test_nothing_else_of_a_request_changes_and_no_policy_is_asked_again(
    hint: Any, client: openai.OpenAI, server: ModelServer
) -> None:
    asked: list[Any] = []

    @guardrail(kinds=["llm"])
    def watch(call: Any) -> None:
        asked.append(dict(call.wire))

    hint()
    with use(watch):
        client.chat.completions.create(model="m", messages=HELLO, temperature=0, extra_body={"nvext": {"top_k": 1}})
    [body] = [request.body for request in server.requests]
    nvext = body.pop("nvext")
    assert body == {"model": "m", "messages": HELLO, "temperature": 0}
    assert nvext.pop("agent_hints")
    assert nvext == {"top_k": 1}
    assert [sent["nvext"] for sent in asked] == [{"top_k": 1}]


@pytest.mark.parametrize("own", [{"agent_hints": {"osl": 7}}, "what is no object"])
def test_what_the_caller_has_put_there_stays(hint: Any, client: openai.OpenAI, server: ModelServer, own: Any) -> None:
    hint()
    client.chat.completions.create(model="m", messages=HELLO, extra_body={"nvext": own})
    assert server.requests[0].body["nvext"] == own


def test_other_hosts_get_none(hint: Any, client: openai.OpenAI, server: ModelServer) -> None:
    port = server.url.rpartition(":")[2].partition("/")[0]
    for host in ("dynamo.internal", "127.0.0.1:1", f"127.0.0.1:{port}"):
        activation = hint(hosts=f'["{host}"]')
        client.chat.completions.create(model="m", messages=HELLO)
        activation.close()
    assert [each is not None for each in hints_in(server)] == [False, False, True]


@pytest.mark.parametrize("stream", [False, True])
def test_a_header_has_them_too_unless_the_caller_sets_it(
    hint: Any, client: openai.OpenAI, server: ModelServer, stream: bool
) -> None:
    hint('body = ""\nheader = "x-agent-hints"\nsensitivity = 2')
    for headers in ({}, {"x-agent-hints": "mine"}):
        answer: Any = client.chat.completions.create(
            model="m", messages=HELLO, stream=stream, extra_headers={"x-other": "1", **headers}
        )
        list(answer)
    ours, theirs = server.requests
    hints = json.loads(ours.headers["x-agent-hints"])
    assert (hints["latency_sensitivity"], hints["priority"]) == (2.0, 3)
    assert (ours.headers["x-other"], theirs.headers["x-agent-hints"]) == ("1", "mine")
    assert "nvext" not in ours.body


def test_a_scope_says_how_much_somebody_waits(
    hint: Any, client: openai.OpenAI, server: ModelServer, clock: Shelf
) -> None:
    hint("sensitivity = 2")
    run(client, 1, clock, metadata={"latency_sensitivity": 8})
    run(client, 1, clock, metadata={"latency_sensitivity": "much"})
    first, second = hints_in(server)
    assert (first["latency_sensitivity"], first["priority"]) == (8.0, 0)
    assert (second["latency_sensitivity"], second["priority"]) == (2.0, 3)


def test_on_trial_it_learns_and_sends_nothing(
    hint: Any, client: openai.OpenAI, server: ModelServer, clock: Shelf
) -> None:
    hint('mode = "observe"')
    run(client, 1, clock)
    assert hints_in(server) == [None]


def test_tools_are_left_alone(hint: Any) -> None:
    hint()
    assert run_tool("t", lambda: 1) == 1


def places(tmp_path: Path, redis_server: RedisServer) -> list[Any]:
    return [(tmp_path / "hints.sqlite3", None), (None, Secret(redis_server.url))]


def test_processes_share_what_they_learned(tmp_path: Path, redis_server: RedisServer) -> None:
    for path, url in places(tmp_path, redis_server):
        made = [(Habits(), place_of(path, url, "hints")) for _ in range(2)]
        shared = [Shared(habits, place) for habits, place in made if place is not None]
        for habits, _ in made:
            for position in range(3):
                ask(habits.of("a"), position, None)
            answer(habits.of("a"), 128)
        for each in (*shared, shared[0]):
            each.exchange()
        assert [sum(habits.of("a")) for habits, _ in made] == [8, 8]
        assert expected(made[0][0].of("a"), 0) == {"osl": 128, "total_requests": 3}
        for each in shared:
            each.exchange()  # nothing is counted twice
        assert [sum(habits.of("a")) for habits, _ in made] == [8, 8]
        for each in shared:
            each.close()


def test_what_is_kept_is_known_to_the_next_process_and_holds_no_names(
    hint: Any, client: openai.OpenAI, server: ModelServer, clock: Shelf, tmp_path: Path
) -> None:
    for _ in range(2):
        activation = hint('path = "hints.sqlite3"')
        run(client, 2, clock, "confidential")
        activation.close()
    assert hints_in(server)[2]["total_requests"] == 2
    place = FilePlace(tmp_path / "hints.sqlite3", "spanrelay:hints:learned")
    told = place.read() or b""
    place.close()
    assert len(agents_in(told)) == 1
    assert b"confidential" not in told
    assert b"hello" not in told


@pytest.mark.parametrize("data", [None, b"", b"{", b"[]", b'{"version": 9}', b'{"version": 1, "agents": {"a": [1]}}'])
def test_what_others_have_written_is_nothing_known(data: bytes | None) -> None:
    assert agents_in(data) == {}


def test_habits_are_bounded_and_may_change() -> None:
    habits = Habits()
    for number in range(KEPT + 9):
        habits.of(f"{number}")
    assert len(habits.counts) == KEPT
    counts = habits.of("a")
    for _ in range(300):
        ask(counts, 0, None)
        counts[:] = aged(counts)
    assert sum(counts) < 256
    assert "total_requests" not in expected(counts, 99)


@pytest.mark.parametrize(
    ("text", "hosts", "told"),
    [
        ("", "[]", "hosts: is an empty list"),
        ("", '["https://here"]', "hosts: is not a host"),
        ("", '["api.openai.com"]', "hosts: names a provider that refuses"),
        ('body = ""', '["a"]', "body: is empty, and there is no header"),
        ('body = "a..b"', '["a"]', "body: is not a path"),
        ('header = "a b"', '["a"]', "header: is not the name"),
        ("sensitivity = 11", '["a"]', "sensitivity: is out of its range"),
        ('path = "no/such/folder.sqlite3"', '["a"]', "path: is in a folder that does not exist"),
    ],
)
def test_settings_that_make_no_sense_are_told(hint: Any, text: str, hosts: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        hint(text, hosts)
