"""The turns of a session are one document, in whatever order their spans arrive, and also where some come empty."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.trajectory.program import Program, answers, call, calls, outline, read, says, system, user

from spanrelay.assembly.exporter import TrajectoryWriter
from spanrelay.records import Message, ModelRequest, SpanRecord, Usage


def turns(directory: Path, count: int) -> list[list[SpanRecord]]:
    """Return the spans of a session's turns, each a trace whose requests repeat all that was said before."""
    program = Program(directory)
    history: list[Message] = [system("be kind")]
    traces: list[list[SpanRecord]] = []
    for turn in range(count):
        before = len(program.ended)
        root = program.agent(session_id="s")
        history.append(user(f"question {turn}"))
        wanted = calls((f"c{turn}", "search", {"turn": turn}))
        program.ask(root, history, wanted, id=f"r{turn}a", usage=Usage(10 + turn, 5))
        program.use(root, "search", {"turn": turn}, f"found {turn}", f"c{turn}")
        history += [wanted, answers(f"c{turn}", f"found {turn}")]
        program.ask(root, history, says(f"answer {turn}"), id=f"r{turn}b", usage=Usage(20 + turn, 5))
        history.append(says(f"answer {turn}"))
        program.end(root)
        traces.append(program.ended[before:])
    program.writer.shutdown()
    return traces


def written(traces: list[list[SpanRecord]], directory: Path) -> list[dict[str, Any]]:
    writer = TrajectoryWriter(directory)
    for trace in traces:
        writer.start(replace(trace[-1], end=None))
        for record in trace:
            writer.end(replace(record))
    writer.shutdown()
    return list(read(directory).values())


def story(document: dict[str, Any]) -> list[Any]:
    """Return what each step says, whose it is and what it cost: all but times and the spans that told of results."""
    return [
        (
            step["source"],
            step["message"],
            step.get("metrics"),
            step.get("model_name"),
            step.get("llm_call_count"),
            step.get("is_copied_context"),
            step.get("tool_calls"),
            step["extra"]["otel"] if step["source"] == "agent" else None,
            [each["content"] for each in step.get("observation", {}).get("results", [])],
        )
        for step in document["steps"]
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_a_turn_that_arrives_behind_a_later_one_is_told_where_that_repeats_it(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    traces = turns(tmp_path / "made", 3)
    (whole,) = written(traces, tmp_path / "in order")
    (found,) = written([traces[turn] for turn in order], tmp_path / "as it came")
    first = next(iter(order))
    assert outline(found) == outline(whole)
    shown = story(found)
    for step, known in zip(shown, story(whole), strict=True):
        assert step[:-2] == known[:-2]
        assert step[-1] == known[-1]
        assert step[-2] == known[-2] or first != 0, "the document is of the trace that came first"
    assert "came from elsewhere" not in found.get("notes", "")


def test_a_call_made_again_later_is_no_late_one(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent(session_id="s")
    told = [user("question"), says("answer")]
    program.ask(root, [*told, user("more")], says("ok"))
    program.ask(root, told[:1], says("answer"))
    program.end(root)
    document = program.document()
    assert [step.get("is_copied_context") for step in document["steps"]].count(True) == 1
    assert len(document["steps"]) == 5


@pytest.mark.parametrize("empty", [[1], [3], [1, 2], [0, 1, 2], [1, 3], [0, 2, 3]], ids=str)
@pytest.mark.parametrize("again", [False, True], ids=["at once", "taken up again"])
def test_what_was_left_out_of_a_call_stands_in_its_step_once_a_request_repeats_it(
    empty: list[int], again: bool, tmp_path: Path
) -> None:
    program = Program(tmp_path)
    root = program.agent(session_id="s")
    history: list[Message] = []
    for number in range(5):
        history.append(user(f"question {number}"))
        wanted = calls((f"c{number}", "search", {"at": number}), text=f"searching {number}")
        asked = call(history, wanted)
        if number in empty:  # there was no room for what it said
            asked = {"request": ModelRequest("m-1"), "response": None, "content": False}
        program.end(program.begin("llm", root), **asked)
        history += [wanted, answers(f"c{number}", f"found {number}")]
        if again:
            assert program.writer.flush()
    program.end(root)
    document = program.document()
    assert outline(document) == [
        line for number in range(5) for line in (f"user: question {number}", f"agent: searching {number}")
    ]
    told = [step for step in document["steps"] if step["source"] == "agent"]
    assert [step["tool_calls"][0]["arguments"] for step in told] == [{"at": number} for number in range(5)]
    assert [step["observation"]["results"][0]["content"] for step in told[:-1]] == [
        f"found {number}" for number in range(4)
    ]
    sources = [step["extra"].get("message_source") for step in told]
    assert sources == ["next_request" if number in empty else None for number in range(5)]
    assert not any("content_captured" in step["extra"] or step.get("is_copied_context") for step in told)
