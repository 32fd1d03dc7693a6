"""What a long-running program keeps in memory of its trajectories does not grow with the traces it has made."""

import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.trajectory.program import Program, call, calls, outline, says, user

from spanrelay import semconv
from spanrelay._guard import losses
from spanrelay.assembly import sessions
from spanrelay.assembly.exporter import TrajectoryKeeper
from spanrelay.records import SpanRecord
from spanrelay.semconv import histories

BUILT = ("Document", "Conversation", "Transcript", "Call", "Node", "SpanRecord", "Message", "Told", "_Talk", "_State")
"""What is built for a trace."""

KEPT = ("Session", "Left", "MemoryJournal", "DirectoryJournal", "_Talk", "_State")
"""What stays when its spans and documents are let go of, up to bounds of its own."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, bound in {"MAX_SESSIONS": 8, "MAX_CLOSED": 4, "MAX_UNENDED": 4, "MAX_PAST": 20, "MAX_TRACES": 20}.items():
        monkeypatch.setattr(sessions, name, bound, raising=False)


@pytest.fixture(params=["files", "memory"])
def program(request: pytest.FixtureRequest, small: None, tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path)
    if request.param == "memory":
        program.writer = TrajectoryKeeper(1 << 14)  # pyright: ignore[reportAttributeAccessIssue] - fed alike
    yield program
    program.writer.shutdown()


def alive() -> Counter[str]:
    gc.collect()
    return Counter(type(each).__name__ for each in gc.get_objects())


def of_an_agent(program: Program, number: int) -> None:
    root = program.agent()
    wanted = calls((f"c{number}", "search", {"q": number}))
    program.ask(root, [user(f"find {number}")], wanted, id=f"r{number}")
    program.use(root, "search", {"q": number}, "found", f"c{number}")
    program.end(root)


def alone(program: Program, number: int) -> None:
    program.ask(None, [user(f"hello {number}")], says(f"hi {number}"), id=f"r{number}")


def of_a_session(program: Program, number: int) -> None:
    root = program.agent(session_id=f"s{number}")
    program.ask(root, [user(f"hello {number}")], says("hi"))
    program.end(root)


def never_ended(program: Program, number: int) -> None:
    root = program.agent()
    program.ask(root, [user(f"hello {number}")], says("hi"))


@pytest.mark.swallows  # sessions are closed, documents in memory forgotten
@pytest.mark.parametrize("trace", [of_an_agent, alone, of_a_session, never_ended])
def test_what_is_kept_does_not_grow_with_the_traces(program: Program, trace: Any) -> None:
    def run(first: int, last: int) -> Counter[str]:
        for number in range(first, last):
            trace(program, number)
        program.ended.clear()
        return alive()

    early, late = run(0, 60), run(60, 150)
    grown = {name: late[name] - early[name] for name in {*BUILT, *KEPT}}
    assert {name: count for name, count in grown.items() if count > 8} == {}


def test_a_late_span_of_a_session_that_has_been_closed_finds_its_place(small: None, tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent("first")
    program.ask(root, [user("hello")], says("hi"))
    program.end(root)
    for number in range(10):
        of_a_session(program, number)
    program.ask(root, [user("hello"), says("hi"), user("more")], says("ok"))
    (told,) = [each for each in program.documents().values() if each["agent"]["name"] == "first"]
    assert outline(told) == ["user: hello", "agent: hi", "user: more", "agent: ok"]


@pytest.mark.swallows  # sessions are closed before their end
def test_a_span_that_ends_after_its_session_was_closed_is_told_in_it(small: None, tmp_path: Path) -> None:
    program = Program(tmp_path)
    roots = [program.agent(f"a{number}") for number in range(10)]
    for root in roots:
        program.end(program.begin("llm", root), **call([user("hello")], says("hi")))
    for root in roots:
        program.end(root)
    documents = program.documents()
    assert [outline(each) for each in documents.values()] == [["user: hello", "agent: hi"]] * 10
    assert losses.take() == {"sessions closed before their end": 2}


def test_a_span_whose_session_is_forgotten_begins_anew_and_says_that_its_parent_is_not_known(
    small: None, tmp_path: Path
) -> None:
    program = Program(tmp_path)
    root = program.agent("first")
    program.ask(root, [user("hello")], says("hi"))
    program.end(root)
    for number in range(20):
        of_a_session(program, number)
    program.ask(root, [user("more")], says("ok"))
    told = [each for each in program.documents().values() if each["extra"]["otel"]["trace_id"].endswith("abc1")]
    assert sorted(map(outline, told)) == [["user: hello", "agent: hi"], ["user: more", "agent: ok"]]
    assert any("Spans whose parent was never seen: 1." in each.get("notes", "") for each in told)


def test_a_forgotten_session_can_still_be_asked_for_by_name_and_by_span(program: Program) -> None:
    root = program.agent("first", session_id="wanted")
    program.ask(root, [user("hello")], says("hi"))
    program.end(root)
    for number in range(15):
        of_a_session(program, number)
    writer = program.writer
    for asked in [("wanted", None), (None, (root.trace_id, root.span_id))]:
        assert [outline(each) for each in writer.documents(*asked)] == [["user: hello", "agent: hi"]]
    assert writer.sessions()[0] == "wanted"
    assert len(writer.documents(None, None)) == 16


def test_a_conversation_without_a_session_goes_on_however_many_traces_it_takes(small: None, tmp_path: Path) -> None:
    program = Program(tmp_path)
    history = [user("begin")]
    for number in range(40):
        program.ask(None, history, says(f"answer {number}"))
        history += [says(f"answer {number}"), user(f"question {number}")]
        of_a_session(program, number)
    (told,) = [each for each in program.documents().values() if len(each["steps"]) > 2]
    assert len(told["steps"]) == 80


def test_what_was_read_of_a_conversation_is_let_go_of_with_its_session(small: None, tmp_path: Path) -> None:
    program = Program(tmp_path)
    attributes = semconv.write(SpanRecord(0, 0, **call([user("hello" * 1000)], says("hi"))), content=True)
    mine = [0x7E57_0000 + number if number % 2 else f"of mine {number}" for number in range(30)]
    for number, key in enumerate(mine):
        trace_id = 0x7E57_0000 + number  # as no other test has it: what was read is known to the whole process
        session = key if isinstance(key, str) else None
        record = SpanRecord(trace_id, 1, start=number, end=number + 1, session_id=session)
        semconv.read({**attributes, "gen_ai.operation.name": "chat"}, record)
        program.writer.end(record)
    program.writer.shutdown()
    assert 0 < len(set(mine) & histories.histories._known.keys()) <= 8
