"""Calls that a program makes beside each other have equal places, in an order that no scheduler decides."""

from __future__ import annotations

import itertools
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.programs import run as start
from tests.trajectory.program import Program, answers, call, calls, outline, says, system, tool, user

from spanrelay.records import SpanRecord
from spanrelay_testkit.exchange import Answer, Request, reply
from spanrelay_testkit.model_server import ModelServer

ORDERS = list(itertools.permutations(range(3)))


def without_ids_and_times(document: dict[str, Any]) -> str:
    """The document as text, with what differs between any two runs left out."""
    text = json.dumps(document, sort_keys=True)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{16,32}", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME", text)
    return re.sub(r'"(duration_sec|time_to_first_token_ms)": [0-9.e-]+', r'"\1": 0', text)


def children(document: dict[str, Any]) -> list[list[str]]:
    return [outline(child) for child in document.get("subagent_trajectories", [])]


def dispatches(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(c["function_name"], c["extra"]) for step in document["steps"] for c in step.get("tool_calls", [])]


def fan_out(program: Program, begin: tuple[int, ...], end: tuple[int, ...], **more: Any) -> SpanRecord:
    """Ask three questions at once in one scope, begun and answered in any order."""
    root = program.agent("boss", session_id="pool")
    open_calls: dict[int, SpanRecord] = {number: program.begin("llm", root) for number in begin}
    for number in end:
        program.end(open_calls[number], **call([user(f"q{number}")], says(f"a{number}"), **more))
    return root


@pytest.mark.parametrize("end", ORDERS)
@pytest.mark.parametrize("begin", ORDERS)
def test_equal_calls_at_once_give_one_document_whoever_is_first(
    tmp_path: Path, begin: tuple[int, ...], end: tuple[int, ...]
) -> None:
    documents: list[dict[str, Any]] = []
    for name, orders in (("one", (begin, end)), ("other", ((0, 1, 2), (0, 1, 2)))):
        program = Program(tmp_path / name)
        program.end(fan_out(program, *orders, tools=[tool("look")]))
        documents.append(program.document())
    first, second = documents
    assert without_ids_and_times(first) == without_ids_and_times(second)
    assert children(first) == [[f"user: q{n}", f"agent: a{n}"] for n in range(3)]
    assert dispatches(first) == [("chat", {"dispatch": "side conversation", "fan_out": 1})] * 3
    assert all(child["agent"]["model_name"] == "m-1-2026" for child in first["subagent_trajectories"])
    assert all(child["agent"]["tool_definitions"] for child in first["subagent_trajectories"])
    assert first["final_metrics"]["total_prompt_tokens"] == 30


@pytest.mark.parametrize("scopes", [("test", "test", "test"), ("one", "other", "third")], ids=["one", "several"])
@pytest.mark.parametrize("end", ORDERS)
def test_calls_at_once_whose_answers_have_one_id_stay_apart(
    tmp_path: Path, end: tuple[int, ...], scopes: tuple[str, ...]
) -> None:
    # As a mock gives it, or a local server that draws its ids from a few.
    program = Program(tmp_path)
    root = program.agent("boss", session_id="pool")
    open_calls = [program.begin("llm", root) for _ in scopes]
    for number in end:
        open_calls[number].scope_name = scopes[number]
        program.end(open_calls[number], **call([user(f"q{number}")], says(f"a{number}"), id="chatcmpl-7"))
    program.end(root)
    document = program.document()
    assert children(document) == [[f"user: q{n}", f"agent: a{n}"] for n in range(3)]
    assert document["final_metrics"]["total_prompt_tokens"] == 30


def test_calls_at_once_of_the_same_words_and_id_are_one_each_whether_in_a_scope_or_not(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent("boss", session_id="pool")
    within, alone = [program.begin("llm", root) for _ in range(2)], [program.begin("llm") for _ in range(2)]
    for record in (*within, *alone):
        program.end(record, **call([user("hello")], says("mocked"), id="chatcmpl-7"))
    program.end(root)
    documents = program.documents().values()
    assert sum(each["final_metrics"]["total_prompt_tokens"] for each in documents) == 40


@pytest.mark.parametrize("begin", ORDERS)
def test_what_is_flushed_and_goes_on_keeps_the_order(tmp_path: Path, begin: tuple[int, ...]) -> None:
    program = Program(tmp_path)
    root = fan_out(program, begin, (0, 1, 2))
    program.writer.flush()
    open_calls = [program.begin("llm", root) for _ in range(2)]
    for number, record in zip((4, 3), open_calls, strict=True):
        program.end(record, **call([user(f"q{number}")], says(f"a{number}")))
    program.end(root)
    document = program.document()
    assert children(document) == [[f"user: q{n}", f"agent: a{n}"] for n in range(5)]
    assert [extra["fan_out"] for _, extra in dispatches(document)] == [1, 1, 1, 2, 2]


@pytest.mark.parametrize("begin", ORDERS)
def test_work_that_follows_a_fan_out_is_the_main_conversation(tmp_path: Path, begin: tuple[int, ...]) -> None:
    program = Program(tmp_path)
    root = fan_out(program, begin, (2, 1, 0))
    history = [system("sum up"), user("a0 a1 a2")]
    program.ask(root, history, calls(("c1", "add", {})), tools=[tool("add")])
    program.use(root, "add", {}, "3", "c1")
    program.ask(root, [*history, calls(("c1", "add", {})), answers("c1", "3")], says("sum"), tools=[tool("add")])
    program.end(root)
    document = program.document()
    assert outline(document)[3:] == ["system: sum up", "user: a0 a1 a2", "agent: ", "agent: sum"]
    assert len(children(document)) == 3


@pytest.mark.parametrize("begin", ORDERS)
def test_each_of_them_may_go_on(tmp_path: Path, begin: tuple[int, ...]) -> None:
    program = Program(tmp_path)
    root = fan_out(program, begin, (1, 0, 2))
    for number in (2, 0, 1):
        program.ask(root, [user(f"q{number}"), says(f"a{number}"), user("why?")], says(f"b{number}"))
    program.end(root)
    document = program.document()
    assert children(document) == [[f"user: q{n}", f"agent: a{n}", "user: why?", f"agent: b{n}"] for n in range(3)]
    assert len(document["steps"]) == 3


@pytest.mark.parametrize("begin", ORDERS)
def test_agents_begun_at_once_stand_beside_each_other_too(tmp_path: Path, begin: tuple[int, ...]) -> None:
    program = Program(tmp_path)
    root = program.agent("boss", session_id="pool")
    agents = {number: program.agent(f"worker {number}", root) for number in begin}
    asked = {number: program.begin("llm", agents[number]) for number in begin}
    for number in (1, 2, 0):
        program.end(asked[number], **call([user(f"q{number}")], says(f"a{number}")))
        program.end(agents[number])
    program.end(root)
    document = program.document()
    assert document["agent"]["name"] == "boss"
    assert [child["agent"]["name"] for child in document["subagent_trajectories"]] == [f"worker {n}" for n in range(3)]
    assert [extra["dispatch"] for _, extra in dispatches(document)] == ["sub-agent"] * 3


def test_a_title_asked_for_beside_the_work_takes_nothing_from_it(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent(session_id="s")
    work, title = program.begin("llm", root), program.begin("llm", root)
    program.end(title, **call([system("make a title"), user("hi")], says("Greeting")))
    program.end(work, **call([system("be kind"), user("hi")], says("hello")))
    program.end(root)
    document = program.document()
    assert outline(document) == ["system: be kind", "user: hi", "agent: hello", "agent: "]
    assert "fan_out" not in json.dumps(document)


POOL = """
import sys, threading
import openai, spanrelay

client = openai.OpenAI()
turns = {number: threading.Event() for number in map(int, sys.argv[1])}
after = dict(zip(turns, list(turns)[1:]))

@spanrelay.guardrail
def next_one(call):
    number = int(call.request.messages[-1].text[1:])
    if number in after:
        turns[after[number]].set()

def ask(number):
    turns[number].wait()
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": f"q{number}"}])

spanrelay.use(next_one)
with spanrelay.scope("boss", session="pool"):
    threads = [threading.Thread(target=ask, args=(number,)) for number in sorted(turns)]
    for thread in threads:
        thread.start()
    turns[int(sys.argv[1][0])].set()
    for thread in threads:
        thread.join()
"""


def test_three_runs_of_a_pool_of_threads_leave_the_same_document(tmp_path: Path) -> None:
    told: set[str] = set()
    for order in ("0123", "3120", "2301"):
        all_here = threading.Barrier(4)

        def answer(request: Request, all_here: threading.Barrier = all_here) -> Answer:
            all_here.wait(60)
            return reply(f"answer to {request.body['messages'][-1]['content']}")

        folder = tmp_path / order
        folder.mkdir()
        with ModelServer(answer) as server:
            ran = start(POOL, folder, server, arguments=(order,))
        (document,) = ran.trajectories
        told.add(re.sub(r"chatcmpl-\w+", "ID", without_ids_and_times(document)))
        assert children(document) == [[f"user: q{n}", f"agent: answer to q{n}"] for n in range(4)]
    assert len(told) == 1
