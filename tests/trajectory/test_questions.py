"""What an agent was asked stands in its trajectory, also where no model call repeats it."""

from pathlib import Path
from typing import Any

import pytest
from tests.trajectory.program import Program, call, calls, outline, run, says, system, user

from spanrelay.records import Message, ModelRequest, ToolCallResponse


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "trajectories")


def test_a_question_that_only_the_agents_span_has_stands_before_its_run(program: Program) -> None:
    root = program.agent(session_id="s")
    program.use(root, "search", {"q": "cats"}, "three cats")
    program.ask(root, [user("Sum up: three cats")], says("cats"))
    program.end(root, input="Research cats for me")
    document = program.document()
    assert outline(document) == [
        "user: Research cats for me",
        "agent: ",
        "user: Sum up: three cats",
        "agent: cats",
    ]
    assert document["steps"][0]["extra"]["message_source"] == "agent_span"
    assert document["steps"][0]["timestamp"] < document["steps"][1]["timestamp"]


@pytest.mark.parametrize(
    "given",
    [
        "Research cats",
        {"input": "Research cats"},
        {"messages": [{"role": "user", "content": "Research cats"}]},
        {"messages": [["user", "Research cats"]]},
        {"messages": [{"lc": 1, "kwargs": {"type": "human", "content": "Research cats"}}]},
    ],
)
def test_the_question_is_found_in_what_frameworks_make_of_it(program: Program, given: Any) -> None:
    root = program.agent()
    program.use(root, "search", {}, "three cats")
    program.end(root, input=given)
    assert outline(program.document())[0] == "user: Research cats"


@pytest.mark.parametrize("given", [{"count": 1}, {"messages": [{"role": "assistant", "content": "no"}]}, "", None])
def test_what_is_no_question_is_not_made_one(program: Program, given: Any) -> None:
    root = program.agent()
    program.use(root, "search", {}, "three cats")
    program.end(root, input=given)
    assert outline(program.document()) == ["agent: "]


@pytest.mark.parametrize("prompt", ["weather  in SF?", "Answer the question.\nweather in SF?\nBe brief."])
def test_a_question_that_a_model_was_asked_stands_once(program: Program, prompt: str) -> None:
    root = program.agent()
    program.ask(root, [system("be kind"), user(prompt)], says("sunny"))
    program.end(root, request=ModelRequest(messages=[user("weather in SF?")]))
    assert len(outline(program.document())) == 3


def test_each_turn_of_a_session_has_its_question(program: Program) -> None:
    for turn in ("first", "second"):
        root = program.agent(session_id="s")
        program.use(root, "search", {}, turn)
        program.end(root, input=f"the {turn}")
    assert outline(program.document()) == ["user: the first", "agent: ", "user: the second", "agent: "]


def test_what_an_outer_agent_was_asked_is_told_of_it_and_of_the_agent_in_a_tool_too(program: Program) -> None:
    root = program.agent("boss")
    program.ask(root, [user("compacted")], calls(("c1", "delegate", {})))
    tool = program.begin("tool", root, name="delegate")
    inner = program.agent("worker", tool)
    program.ask(inner, [user("compacted too")], says("done"))
    program.end(inner, input="do the work")
    program.end(tool, **run("delegate", {}, "done", "c1", None))
    program.end(root, input="have it done")
    document = program.document()
    assert outline(document)[:2] == ["user: have it done", "user: compacted"]
    (child,) = document["subagent_trajectories"]
    assert outline(child)[:2] == ["user: do the work", "user: compacted too"]


def test_an_agent_in_a_tool_that_asks_no_model_was_asked_something_too(program: Program) -> None:
    root = program.agent("boss")
    program.ask(root, [user("go")], calls(("c1", "delegate", {})))
    tool = program.begin("tool", root, name="delegate")
    inner = program.agent("worker", tool)
    program.use(inner, "search", {}, "three cats")
    program.end(inner, input="find cats")
    program.end(tool, **run("delegate", {}, "done", "c1", None))
    program.end(root)
    (child,) = program.document()["subagent_trajectories"]
    assert outline(child) == ["user: find cats", "agent: "]


def test_a_question_waits_for_calls_that_wait(program: Program) -> None:
    long = program.begin("llm", program.agent("other", session_id="s"))
    root = program.agent(session_id="s")
    program.ask(root, [user("Research cats")], says("cats"))
    program.end(root, input="Research cats")
    program.end(long, **call([user("dogs")], says("dogs")))
    told = [line for document in program.documents().values() for line in outline(document)]
    assert told.count("user: Research cats") == 1


def test_steps_that_are_named_by_their_numbers_keep_their_names_and_a_document_grows_on(tmp_path: Path) -> None:
    program = Program(tmp_path)
    asked = [system("one"), user("compacted")]
    for given in ("Research cats", "Research dogs"):
        root = program.agent(session_id="s")
        program.use(root, "search", {}, "three")
        program.end(program.begin("llm", root), **call(asked, None))
        program.end(program.begin("llm", root), **call(asked, says("cats")))
        wanted = calls(("c1", "weather", {}))
        program.ask(root, [system("two"), *asked[1:], says("cats"), user("on")], wanted)
        program.ask(
            root,
            [
                system("one"),
                *asked[1:],
                says("cats"),
                user("on"),
                wanted,
                Message("tool", [ToolCallResponse("c1", "sunny")]),
            ],
            says("done"),
        )
        program.end(root, input=given)
        assert program.writer.flush()
    document = program.document()
    for step in document["steps"]:
        extra = step.get("extra", {})
        if "retry_of_step" in extra:
            assert extra["retry_of_step"] == step["step_id"] - 1
        if "same_as_step" in extra:
            number = extra["same_as_step"]
            assert document["steps"][number - 1]["message"] in ("one", "two")
            assert step["message"] == f"[system prompt of step {number} again]"
    told = outline(document)
    assert told[0] == "user: Research cats"
    assert told.count("user: Research dogs") == 1


def paused(program: Program) -> Message:
    """Run an agent until it waits for a person; return the call that waits."""
    wanted, first = calls(("c1", "weather", {})), program.agent(session_id="s")
    program.ask(first, [user("How is Oslo?")], wanted)
    program.end(first, input="How is Oslo?")
    return wanted


RAIN = Message("tool", [ToolCallResponse("c1", "rain")])
ONCE = ["user: How is Oslo?", "agent: "]


def test_the_question_of_a_run_that_a_person_lets_go_on_stands_once(program: Program) -> None:
    wanted, resumed = paused(program), program.agent(session_id="s")
    program.use(resumed, "weather", {}, "rain", "c1")
    program.ask(resumed, [user("How is Oslo?"), wanted, RAIN], says("wet"))
    program.end(resumed, input="How is Oslo?")
    assert outline(program.document()) == [*ONCE, "agent: wet"]


def test_the_question_of_a_run_that_waits_twice_stands_once(program: Program) -> None:
    asked: list[Message] = [user("How is Oslo?"), paused(program)]
    for number in (1, 2):
        resumed, wanted = program.agent(session_id="s"), calls((f"c{number + 1}", "weather", {}))
        asked.append(Message("tool", [ToolCallResponse(f"c{number}", "Ask again.")]))
        program.ask(resumed, list(asked), wanted)
        program.end(resumed, input="How is Oslo?")
        asked.append(wanted)
    assert outline(program.document()) == [*ONCE, "agent: ", "agent: "]


def test_the_question_of_a_run_that_goes_on_with_tools_alone_stands_once(program: Program) -> None:
    paused(program)
    resumed = program.agent(session_id="s")
    program.use(resumed, "weather", {}, "rain", "c1")
    program.use(resumed, "note", {}, "noted")
    program.end(resumed, input="How is Oslo?")
    assert outline(program.document()) == [*ONCE, "agent: "]


def test_a_question_that_only_agents_had_stands_once_where_the_run_goes_on(program: Program) -> None:
    first = program.agent(session_id="s")
    wanted = calls(("c1", "weather", {}))
    program.ask(first, [user("Sum up")], wanted)
    program.end(first, input="How is Oslo?")
    resumed = program.agent(session_id="s")
    program.ask(resumed, [user("Sum up"), wanted, RAIN], says("wet"))
    program.end(resumed, input="How is Oslo?")
    assert outline(program.document()) == ["user: How is Oslo?", "user: Sum up", "agent: ", "agent: wet"]


def test_a_new_run_that_is_asked_the_same_has_its_question(program: Program) -> None:
    for _ in range(2):
        root = program.agent(session_id="s")
        program.ask(root, [user("How is Oslo?")], says("wet"))
        program.end(root, input="How is Oslo?")
    told = [line for document in program.documents().values() for line in outline(document)]
    assert told.count("user: How is Oslo?") == 2


def test_what_a_resumed_run_is_asked_beside_that_is_told(program: Program) -> None:
    paused(program)
    resumed = program.agent(session_id="s")
    program.use(resumed, "weather", {}, "rain", "c1")
    program.use(resumed, "note", {}, "noted")
    program.end(resumed, input="And Bergen?")
    assert outline(program.document()) == [*ONCE, "user: And Bergen?", "agent: "]
