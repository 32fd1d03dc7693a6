"""Transcripts of coding agents are read wherever they lie, also of earlier versions, and where they were cut off."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conversion.captures import converted, told
from tests.conversion.leavings import Left, items, repeated
from tests.shared_data import needs_shared

from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder
from spanrelay.otlp_in import files

SESSION = "5e551011"
Line = dict[str, Any]


def second(number: int) -> str:
    return f"2026-11-28T21:20:{number:02}.000Z"


def claude(kind: str, at: int, message: Line, **more: Any) -> Line:
    line = {"type": kind, "uuid": f"u{at}", "isSidechain": False, "sessionId": SESSION, "timestamp": second(at)}
    return {**line, "version": "2.1.0", "message": message, **more}


def prompt(at: int, text: str, **more: Any) -> Line:
    return claude("user", at, {"role": "user", "content": text}, **more)


def answer(at: int, *blocks: Line, output: int = 5, **more: Any) -> Line:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 2, "output_tokens": output}
    said = {"role": "assistant", "model": "claude-sonnet-4-5", "usage": usage, "content": list(blocks)}
    return claude("assistant", at, {"id": more.pop("message", f"msg_{at}"), **said}, **more)


def result(at: int, call: str, text: str, **more: Any) -> Line:
    block = {"type": "tool_result", "tool_use_id": call, "content": text}
    return claude("user", at, {"role": "user", "content": [block]}, **more)


def text(words: str) -> Line:
    return {"type": "text", "text": words}


def call(key: str, name: str, **arguments: Any) -> Line:
    return {"type": "tool_use", "id": key, "name": name, "input": arguments}


def write(path: Path, lines: Iterable[Line]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


CHILD = [
    prompt(3, "Read the notes.", agentId="a1", isSidechain=True),
    answer(4, text("They say 4711."), agentId="a1", isSidechain=True),
]
PARENT = [
    prompt(1, "Use a helper."),
    answer(2, call("t1", "Agent", prompt="Read the notes.", subagent_type="reader")),
    result(5, "t1", "4711"),
    answer(6, text("4711.")),
]


def test_a_session_whose_sub_agent_has_files_of_its_own_is_one_document(tmp_path: Path) -> None:
    project = tmp_path / "projects" / "-home-user-project"
    main = write(project / f"{SESSION}.jsonl", PARENT)
    own = write(project / SESSION / "subagents" / "agent-a1.jsonl", CHILD)
    beside = write(own.with_name("agent-a1.meta.json"), [{"agentType": "reader", "toolUseId": "t1"}])
    assert [files.is_telemetry(path) for path in (main, own, beside)] == [True] * 3
    documents, summary = converted([beside, own, main], tmp_path / "out")
    assert (len(documents), summary.lines, summary.findings) == (1, 7, [])
    (child,) = documents[0]["subagent_trajectories"]
    assert child["agent"] == {"name": "reader", "version": "2.1.0", "extra": {"id": "a1"}, **_model(child)}
    (outcome,) = documents[0]["steps"][1]["observation"]["results"]
    assert outcome["subagent_trajectory_ref"] == [{"trajectory_id": child["trajectory_id"]}]


def _model(document: Line) -> Line:
    return {"model_name": document["agent"]["model_name"]}


def test_a_sub_agent_within_the_file_of_its_session_is_known_by_what_it_was_asked(tmp_path: Path) -> None:
    """As before sub-agents had ids."""
    inside = [{key: value for key, value in line.items() if key != "agentId"} for line in CHILD]
    inside[1]["parentUuid"] = inside[0]["uuid"]
    documents, _ = converted([write(tmp_path / "session.jsonl", [*PARENT, *inside])], tmp_path / "out")
    assert [step["source"] for step in documents[0]["steps"]] == ["user", "agent", "agent"]
    (child,) = documents[0]["subagent_trajectories"]
    assert [step["message"] for step in child["steps"]] == ["Read the notes.", "They say 4711."]
    assert "extra" not in child["agent"]
    assert documents[0]["steps"][1]["observation"]["results"][0]["subagent_trajectory_ref"]


def test_the_usage_of_an_answer_stands_on_each_of_its_lines_and_counts_once(tmp_path: Path) -> None:
    lines = [prompt(1, "Hello"), answer(2, text("One. "), output=1, message="m"), answer(3, text("Two."), message="m")]
    documents, _ = converted([write(tmp_path / "session.jsonl", lines)], tmp_path / "out")
    assert told(documents[0])[1:] == [{"source": "agent", "message": "One. Two.", "tokens": (12, 5, 2)}]


def after(at: int, line: Line) -> Line:
    """Let a line go on from that of a second, as all do."""
    return {**line, "parentUuid": f"u{at}"}


TAKEN_BACK = [
    after(0, prompt(1, "Look.")),
    after(1, answer(2, text("At what?"))),
    after(2, prompt(3, "At a.")),
    after(3, answer(4, call("t1", "Read", path="a"))),
    after(4, result(5, "t1", "A")),
    after(5, answer(6, text("It says A."))),
    after(2, prompt(7, "At b.")),
    after(7, answer(8, call("t2", "Read", path="b"))),
    after(8, result(9, "t2", "B")),
    after(9, answer(10, text("It says B."))),
    after(10, prompt(11, "Thanks.")),
    after(11, answer(12, text("So long."))),
]


def test_what_was_taken_back_is_told_and_that_it_was_and_the_rest_goes_on_without_it(tmp_path: Path) -> None:
    documents, _ = converted([write(tmp_path / "session.jsonl", TAKEN_BACK)], tmp_path / "out")
    steps = documents[0]["steps"]
    assert [(step["source"], step["message"]) for step in steps] == [
        ("user", "Look."),
        ("agent", "At what?"),
        ("user", "At a."),
        ("agent", ""),
        ("agent", "It says A."),
        ("system", "Context pruning: 3 earlier turns are no longer sent."),
        ("user", "At b."),
        ("agent", ""),
        ("agent", "It says B."),
        ("user", "Thanks."),
        ("agent", "So long."),
    ]
    assert steps[5]["extra"]["context_management"] == {
        "type": "pruning",
        "boundary": "truncate",
        "kept_turns": 2,
        "dropped_turns": 3,
    }
    assert [each["observation"]["results"][0]["content"] for each in (steps[3], steps[7])] == ["A", "B"]
    assert "subagent_trajectories" not in documents[0]


def test_what_was_taken_back_twice_is_told_so_twice(tmp_path: Path) -> None:
    again = [after(10, prompt(13, "And c?")), after(13, answer(14, text("No."))), after(2, prompt(15, "At d."))]
    lines = [*TAKEN_BACK, *again, after(15, answer(16, text("It says D.")))]
    documents, _ = converted([write(tmp_path / "session.jsonl", lines)], tmp_path / "out")
    told_so = [step["message"] for step in documents[0]["steps"] if step["source"] == "system"]
    assert told_so == [f"Context pruning: {number} earlier turns are no longer sent." for number in (3, 2, 5)]


def test_the_same_words_twice_are_two_prompts(tmp_path: Path) -> None:
    lines = [each for at in (1, 3, 5) for each in (prompt(at, "Go on."), answer(at + 1, text("Done.")))]
    documents, _ = converted([write(tmp_path / "session.jsonl", lines)], tmp_path / "out")
    assert [step["source"] for step in documents[0]["steps"]] == ["user", "agent"] * 3


def test_a_tool_of_which_nothing_came_back_is_a_call_without_a_result(tmp_path: Path) -> None:
    documents, _ = converted([write(tmp_path / "session.jsonl", PARENT[:2])], tmp_path / "out")
    assert "observation" not in documents[0]["steps"][1]
    assert [each["tool_call_id"] for each in documents[0]["steps"][1]["tool_calls"]] == ["t1"]


def test_a_summary_of_what_was_said_is_not_the_users(tmp_path: Path) -> None:
    lines = [prompt(1, "Hello"), answer(2, text("Hi.")), prompt(3, "So far: hello.", isCompactSummary=True)]
    lines.append(answer(4, text("Go on?")))
    documents, _ = converted([write(tmp_path / "session.jsonl", lines)], tmp_path / "out")
    assert [step["source"] for step in documents[0]["steps"]] == ["user", "agent", "system", "agent"]


def test_an_error_that_the_program_shows_is_no_answer_of_the_model(tmp_path: Path) -> None:
    failed = answer(2, text("API Error: 500"), isApiErrorMessage=True)
    failed["message"]["model"] = "<synthetic>"
    documents, _ = converted([write(tmp_path / "session.jsonl", [prompt(1, "Hello"), failed])], tmp_path / "out")
    step = documents[0]["steps"][1]
    assert (step["message"], step["extra"]["error"]["message"]) == ("", "API Error: 500")
    assert "metrics" not in step


def test_a_line_of_an_agent_that_is_not_known_is_named_with_its_place(tmp_path: Path) -> None:
    other = prompt(1, "Hello")
    del other["isSidechain"]
    place = write(tmp_path / "session.jsonl", [{**other, "parentUuid": None}])
    _, summary = converted([place], tmp_path / "out")
    assert [finding.place for finding in summary.findings] == [f"{place}:1"]


def test_a_session_that_is_written_as_spans_tells_the_same_when_these_are_read(tmp_path: Path) -> None:
    sources = [write(tmp_path / f"{SESSION}.jsonl", PARENT), write(tmp_path / "subagents" / "agent-a1.jsonl", CHILD)]
    (once,), _ = converted(sources, tmp_path / "once")
    (tmp_path / "spans").mkdir()
    work.convert(sources, Folder(tmp_path / "spans"), form="genai")
    (again,), _ = converted(sorted((tmp_path / "spans").glob("*.jsonl")), tmp_path / "again")
    assert told(again) == told(once)
    assert told(again["subagent_trajectories"][0]) == told(once["subagent_trajectories"][0])


def rollout(*items: tuple[str, Line]) -> list[Line]:
    return [{"timestamp": second(at), "type": kind, "payload": item} for at, (kind, item) in enumerate(items)]


def test_a_rollout_of_an_earlier_version_has_no_ids_of_answers_and_no_word_on_who_spoke(tmp_path: Path) -> None:
    def said(role: str, kind: str, words: str) -> tuple[str, Line]:
        return "response_item", {"type": "message", "role": role, "content": [{"type": kind, "text": words}]}

    def counted(tokens: int) -> tuple[str, Line]:
        usage = {"input_tokens": tokens, "cached_input_tokens": 0, "output_tokens": 5}
        return "event_msg", {"type": "token_count", "info": {"last_token_usage": usage}}

    asked = {"type": "function_call", "name": "shell", "arguments": '{"command": ["ls"]}', "call_id": "c1"}
    lines = rollout(
        ("session_meta", {"id": SESSION, "cli_version": "0.50.0"}),
        said("user", "input_text", "<environment_context>here</environment_context>"),
        said("user", "input_text", "List the files."),
        said("assistant", "output_text", "I look."),
        ("response_item", asked),
        ("response_item", {"type": "function_call_output", "call_id": "c1", "output": "notes.txt"}),
        counted(10),
        said("assistant", "output_text", "One file."),
        counted(20),
    )
    documents, summary = converted([write(tmp_path / "rollout.jsonl", lines)], tmp_path / "out")
    assert summary.findings == []
    assert told(documents[0]) == [
        {"source": "user", "message": "List the files."},
        {
            "source": "agent",
            "message": "I look.",
            "calls": {"c1": ("shell", {"command": ["ls"]})},
            "results": {"c1": "notes.txt"},
            "tokens": (10, 5, 0),
        },
        {"source": "agent", "message": "One file.", "tokens": (20, 5, 0)},
    ]


NONSENSE: list[Any] = [None, -5, 1.5, 10**30, True, "", "x", "2026-13-99T00:00:00Z", [], ["a"], {}, {"a": 1}]


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where something stands within a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*above, key)
        yield from places(each, (*above, key))


def with_nonsense(lines: list[str], chance: random.Random) -> list[Any]:
    """Return lines in which some values are others."""
    values = [json.loads(line) for line in lines]
    for _ in range(chance.choice((1, 3, 10))):
        value = chance.choice(values)
        *path, last = chance.choice(list(places(value)) or [(None,)])
        for key in path:
            value = value[key]
        if last is not None:
            value[last] = json.loads(json.dumps(chance.choice(NONSENSE)))
    return values


@needs_shared
@pytest.mark.parametrize("scenario", ["basic", "subagent"])
@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_nonsense_in_what_an_agent_left_spoils_nothing_else(agent: str, scenario: str, tmp_path: Path) -> None:
    chance = random.Random(f"{agent} {scenario}")
    whole = {path.name: items(path) for path in Left(agent, scenario, "both").files}
    for number in range(25):
        sources = [write(tmp_path / name, with_nonsense(lines, chance)) for name, lines in whole.items()]
        documents, _ = converted(sources, tmp_path / f"{number}")
        assert documents


@needs_shared
@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_telemetry_goes_on_where_a_transcript_was_cut_off(agent: str, tmp_path: Path) -> None:
    both = Left(agent, "basic", "both")
    telemetry, transcript = both.files
    lines = transcript.read_text().splitlines(keepends=True)
    cut = tmp_path / "session.jsonl"
    for number in range(len(lines)):
        cut.write_text("".join(lines[:number]))
        (document,) = converted([telemetry, cut], tmp_path / f"{number}")[0]
        assert [step["source"] for step in document["steps"]] == ["user", "agent", "agent", "agent", "agent"]
        assert repeated(document) == []
