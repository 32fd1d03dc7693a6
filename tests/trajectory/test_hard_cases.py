"""What real programs do to a trajectory, one case a test."""

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.programs import run as run_apart
from tests.trajectory.program import (
    Program,
    answers,
    call,
    calls,
    outline,
    read,
    results,
    run,
    says,
    system,
    tool,
    user,
)

from spanrelay._masking import mask_bytes
from spanrelay.assembly.atif import violations
from spanrelay.records import (
    AgentInfo,
    ErrorInfo,
    Media,
    Message,
    ModelResponse,
    Opaque,
    Reasoning,
    SpanRecord,
    Text,
    ToolCall,
    ToolCallResponse,
    ToolRequest,
    Usage,
)

ASK = [system("be kind"), user("weather?")]
CALL = calls(("c1", "weather", {"city": "SF"}))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "trajectories")


def test_a_repeated_history_is_written_once(program: Program) -> None:
    root = program.agent(session_id="s")
    history = [system("be kind")]
    for turn in range(5):
        history.append(user(f"question {turn}"))
        program.ask(root, history, says(f"answer {turn}"))
        history.append(says(f"answer {turn}"))
    program.end(root)
    told = outline(program.document())
    assert told == [
        "system: be kind",
        *[f"{who} {n}" for n in range(5) for who in ("user: question", "agent: answer")],
    ]


def test_parallel_calls_stand_in_one_step_and_their_results_in_the_order_of_the_calls(program: Program) -> None:
    root = program.agent()
    both = calls(("c1", "weather", {"city": "SF"}), ("c2", "weather", {"city": "NY"}))
    program.ask(root, ASK, both)
    first, second = program.begin("tool", root), program.begin("tool", root)
    program.end(second, **run("weather", {"city": "NY"}, "rain", "c2", None))
    program.end(first, **run("weather", {"city": "SF"}, "sun", "c1", None))
    program.end(root)
    step = program.document()["steps"][-1]
    assert results(step) == [("c1", "sun"), ("c2", "rain")]
    assert all("span_id" in r["extra"]["otel"] for r in step["observation"]["results"])


def test_identical_calls_without_ids_are_paired_in_order_when_as_many_runs_come(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, calls(("c1", "roll", {}), ("c2", "roll", {})))
    program.use(root, "roll", {}, "3")
    program.use(root, "roll", {}, "5")
    program.end(root)
    assert results(program.document()["steps"][-1]) == [("c1", "3"), ("c2", "5")]


def test_identical_calls_without_ids_stay_unpaired_when_one_run_is_missing(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, calls(("c1", "roll", {}), ("c2", "roll", {})))
    program.use(root, "roll", {}, "3")
    program.end(root)
    steps = program.document()["steps"]
    assert results(steps[2]) == []
    assert steps[3]["llm_call_count"] == 0
    assert [content for _, content in results(steps[3])] == ["3"]


def test_a_tool_that_no_model_asked_for_is_a_step_without_a_model_call(program: Program) -> None:
    root = program.agent()
    program.use(root, "setup", {"path": "/x"}, {"ok": True})
    program.end(root)
    document = program.document()
    (step,) = document["steps"]
    assert step["llm_call_count"] == 0
    assert step["tool_calls"][0]["arguments"] == {"path": "/x"}
    assert results(step)[0][1] == '{"ok":true}'
    assert "without a model asking" in document["notes"]


def test_a_result_without_a_tool_span_comes_from_the_next_request(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, CALL)
    program.ask(root, [*ASK, CALL, answers("c1", "sun")], says("sunny"))
    program.end(root)
    step = program.document()["steps"][2]
    assert results(step) == [("c1", "sun")]
    assert step["observation"]["results"][0]["extra"]["otel"] == {"result_source": "next_request"}


def test_what_the_model_saw_wins_over_what_the_tool_gave(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, CALL)
    program.use(root, "weather", {"city": "SF"}, "sun, secret", "c1")
    program.ask(root, [*ASK, CALL, answers("c1", "sun")], says("sunny"))
    program.end(root)
    result = program.document()["steps"][2]["observation"]["results"][0]
    assert result["content"] == "sun"
    assert result["extra"]["otel"]["span_result_differs"] is True


def test_a_call_takes_the_id_by_which_the_next_request_names_it(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, calls(("fc_1", "weather", {"city": "SF"})))
    program.ask(root, [*ASK, calls(("call_1", "weather", {"city": "SF"})), answers("call_1", "sun")], says("ok"))
    program.end(root)
    step = program.document()["steps"][2]
    assert results(step) == [("call_1", "sun")]
    assert step["tool_calls"][0]["extra"] == {"original_tool_call_id": "fc_1"}


def test_calls_without_ids_get_ids_and_are_answered_by_name(program: Program) -> None:
    root = program.agent()
    ask = calls((None, "weather", {"city": "SF"}), (None, "time", {}))
    program.ask(root, ASK, ask)
    told = [answers(None, "sun", "weather"), answers(None, "noon", "time")]
    program.ask(root, [*ASK, ask, *told], says("ok"))
    program.end(root)
    step = program.document()["steps"][2]
    assert [content for _, content in results(step)] == ["sun", "noon"]


def test_reused_call_ids_are_made_unique_and_answered_in_their_own_turn(program: Program) -> None:
    root = program.agent()
    history = list(ASK)
    for city in ("SF", "NY"):
        wanted = calls(("call_0", "weather", {"city": city}))
        program.ask(root, history, wanted)
        history += [wanted, answers("call_0", f"sun in {city}")]
    program.ask(root, history, says("done"))
    program.end(root)
    steps = program.document()["steps"]
    assert results(steps[2]) == [("call_0", "sun in SF")]
    assert results(steps[3]) == [("call_0#2", "sun in NY")]


@pytest.mark.parametrize("asked", [True, False])
def test_calls_of_one_answer_that_share_their_id_have_each_its_own_result(program: Program, asked: bool) -> None:
    root = program.agent()
    history = list(ASK)
    for _ in range(2):
        wanted = calls(("call_0", "weather", {"city": "SF"}), ("call_0", "weather", {"city": "NY"}))
        if asked:
            program.ask(root, history, wanted)
        history += [wanted, answers("call_0", "sun"), answers("call_0", "rain")]
    program.ask(root, history, says("done"))
    program.end(root)
    steps = program.document()["steps"]
    assert results(steps[2]) == [("call_0", "sun"), ("call_0#2", "rain")]
    assert results(steps[3]) == [("call_0#3", "sun"), ("call_0#4", "rain")]


def test_a_provider_span_beneath_a_framework_span_is_the_same_call_and_fills_its_gaps(program: Program) -> None:
    root = program.agent()
    outer = program.begin("llm", root)
    inner = program.begin("llm", outer)
    program.end(inner, **call(ASK, says("hi"), id="r1", usage=Usage(7, 3)))
    program.end(outer, **{**call(ASK, says("hi")), "response": ModelResponse(None, None, [says("hi")])})
    program.end(root)
    document = program.document()
    assert outline(document) == ["system: be kind", "user: weather?", "agent: hi"]
    assert document["steps"][2]["metrics"] == {"prompt_tokens": 7, "completion_tokens": 3}
    assert document["steps"][2]["extra"]["otel"]["duplicates"] == [f"{inner.span_id:016x}"]


def test_a_lone_provider_span_in_another_trace_is_the_same_call(program: Program) -> None:
    root = program.agent(session_id="s")
    outer = program.begin("llm", root)
    lone = program.begin("llm")
    lone.scope_name = "provider"
    program.end(lone, **call(ASK, says("hi")))
    program.end(outer, **call(ASK, says("hi")))
    program.end(root)
    assert outline(program.document()) == ["system: be kind", "user: weather?", "agent: hi"]


def test_calls_in_sequence_with_the_same_content_are_never_one(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, says("hi"), id="same")
    program.ask(root, ASK, says("hi"), id="same")
    program.end(root)
    steps = program.document()["steps"]
    assert [step["message"] for step in steps] == ["be kind", "weather?", "hi", "hi"]
    assert steps[3]["extra"]["retry_of_step"] == 3


def test_overlapping_calls_with_other_answers_are_never_one(program: Program) -> None:
    root = program.agent()
    one, two = program.begin("llm", root), program.begin("llm", root)
    program.end(two, **call(ASK, calls(("a", "x", {}))))
    program.end(one, **call(ASK, calls(("b", "y", {}))))
    program.end(root)
    named = [c["function_name"] for s in program.document()["steps"] for c in s.get("tool_calls", [])]
    assert sorted(named) == ["x", "y"]


def test_overlapping_calls_under_different_agents_without_a_shared_question_are_never_one(
    program: Program,
) -> None:
    root = program.agent(session_id="s")
    outer = program.begin("llm", root)
    lone = program.begin("llm")
    lone.scope_name = "provider"
    program.end(lone, **call([user("something else")], says("hi")))
    program.end(outer, **call(ASK, says("hi")))
    program.end(root)
    assert len(program.documents()) == 2


def test_failed_attempts_within_a_framework_call_are_told_on_its_step(program: Program) -> None:
    root = program.agent()
    outer = program.begin("llm", root)
    program.ask(outer, ASK, None, error=ErrorInfo("RateLimit", "slow down"))
    program.ask(outer, ASK, says("hi"))
    program.end(outer, **call(ASK, says("hi")))
    program.end(root)
    document = program.document()
    assert outline(document) == ["system: be kind", "user: weather?", "agent: hi"]
    (attempt,) = document["steps"][2]["extra"]["otel"]["attempts"]
    assert attempt["error"] == {"type": "RateLimit", "message": "slow down"}


def test_attempts_that_a_record_tells_of_are_on_its_step(program: Program) -> None:
    root = program.agent()
    failed = SpanRecord(root.trace_id, 99, start=root.start, error=ErrorInfo("Overloaded", "later", status_code=503))
    elsewhere = SpanRecord(0xBEEF, 98, start=root.start)
    program.ask(root, ASK, says("hi"), known={"attempts": (failed, elsewhere)})
    program.end(root)
    one, two = program.document()["steps"][-1]["extra"]["otel"]["attempts"]
    assert one["error"] == {"type": "Overloaded", "message": "later", "status_code": 503}
    assert "trace_id" not in one
    assert two["trace_id"] == f"{0xBEEF:032x}"


def test_an_agent_whose_parent_is_of_another_trace_stands_beneath_it(program: Program) -> None:
    root = program.agent(session_id="s")
    program.ask(root, ASK, calls(("c1", "delegate", {})))
    used = program.begin("tool", root)
    child = program.agent("helper", session_id="s", parent_trace_id=used.trace_id, parent_id=used.span_id)
    program.ask(child, [user("read it")], says("it says so"))
    program.end(child)
    program.end(used, **run("delegate", {}, "done", "c1", None))
    program.end(root)
    document = program.document()
    (below,) = document["subagent_trajectories"]
    assert below["agent"]["name"] == "helper"
    (result,) = document["steps"][2]["observation"]["results"]
    assert result["subagent_trajectory_ref"] == [{"trajectory_id": below["trajectory_id"]}]
    assert below["steps"][-1]["extra"]["otel"]["trace_id"] == f"{child.trace_id:032x}"


def test_a_fallback_to_another_answer_beneath_a_call_is_a_step_of_its_own(program: Program) -> None:
    root = program.agent()
    outer = program.begin("llm", root)
    program.ask(outer, ASK, says("from the second model"), id="r2")
    program.end(outer, **call(ASK, says("from the first model"), id="r1"))
    program.end(root)
    said = [line for line in outline(program.document()) if line.startswith("agent")]
    assert said == ["agent: from the first model", "agent: from the second model"]


def test_a_failed_call_is_a_step_with_its_error_and_its_retry_repeats_no_message(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, None, error=ErrorInfo("RateLimitError", "429", status_code=429))
    program.ask(root, ASK, says("hi"))
    program.end(root)
    document = program.document()
    assert outline(document) == ["system: be kind", "user: weather?", "agent: ", "agent: hi"]
    failed, retried = document["steps"][2:]
    assert failed["extra"]["error"] == {"type": "RateLimitError", "message": "429", "status_code": 429}
    assert "metrics" not in failed
    assert failed["model_name"] == "m-1"
    assert retried["extra"]["retry_of_step"] == 3


def test_an_answer_of_a_middleware_is_no_model_call_and_costs_nothing(program: Program) -> None:
    root = program.agent()
    thought = Message("assistant", [Reasoning("hm"), Text("hi")])
    program.ask(root, ASK, thought, answered_by="cache")
    program.ask(root, [*ASK, says("hi"), user("more")], says("ho"))
    program.end(root)
    document = program.document()
    step = document["steps"][2]
    assert step["message"] == "hi"
    assert step["llm_call_count"] == 0
    assert "metrics" not in step
    assert step["extra"]["answered_by"] == "cache"
    assert step["extra"]["reasoning_content"] == "hm"
    assert document["final_metrics"]["total_prompt_tokens"] == 10
    assert "extra" not in document["final_metrics"]


@pytest.mark.parametrize(("inner", "count"), [("cache", 0), (None, 1)])
def test_whether_a_model_was_called_is_the_inner_spans_to_say(program: Program, inner: str | None, count: int) -> None:
    root = program.agent()
    outer = program.begin("llm", root)
    program.ask(outer, ASK, says("hi"), id="r1", answered_by=inner)
    program.end(outer, **call(ASK, says("hi"), id="r1", usage=Usage(), answered_by=None if inner else "router"))
    program.end(root)
    step = program.document()["steps"][2]
    assert step["llm_call_count"] == count
    assert ("metrics" in step) == bool(count)


def test_a_tools_result_says_which_middleware_gave_it(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, CALL)
    program.end(program.begin("tool", root), **run("weather", {"city": "SF"}, "sun", "c1", None), answered_by="cache")
    program.end(root)
    (result,) = program.document()["steps"][2]["observation"]["results"]
    assert result["extra"]["answered_by"] == "cache"


def test_a_tool_that_raised_shows_what_the_model_was_told(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, CALL)
    program.use(root, "weather", {"city": "SF"}, None, None, ErrorInfo("ValueError", "boom"))
    program.ask(root, [*ASK, CALL, answers("c1", "Error: boom", is_error=True)], says("sorry"))
    program.end(root)
    result = program.document()["steps"][2]["observation"]["results"][0]
    assert result["content"] == "Error: boom"
    assert result["extra"]["is_error"] is True
    assert result["extra"]["error"]["type"] == "ValueError"


def test_a_refused_call_shows_the_refusal(program: Program) -> None:
    root = program.agent()
    refusal = ErrorInfo("spanrelay.errors.GuardrailRejected", "guardrail 'pii' refused the call: a name")
    outer = program.begin("llm", root)
    program.end(program.begin("guardrail", outer), error=None)
    program.end(outer, **call(ASK, None, error=refusal))
    program.end(root)
    step = program.document()["steps"][-1]
    assert "refused the call" in step["extra"]["error"]["message"]


def test_a_stream_that_was_cut_keeps_what_had_come(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, says("half an ans"), incomplete="cancelled")
    program.end(root)
    step = program.document()["steps"][-1]
    assert step["message"] == "half an ans"
    assert step["extra"]["incomplete"] == "cancelled"


def test_a_span_whose_parent_never_came_is_kept_and_noted(program: Program) -> None:
    record = program.begin("llm")
    record.parent_id = 999
    program.writer = type(program.writer)(program.directory)
    program.writer.start(replace(record))
    program.end(record, **call(ASK, says("hi")))
    assert "never seen" in program.document()["notes"]


def test_a_root_with_a_remote_parent_names_it(program: Program) -> None:
    root = program.begin("agent", remote_parent=True)
    root.parent_id = 77
    program.writer = type(program.writer)(program.directory)
    program.writer.start(replace(root))
    program.ask(root, ASK, says("hi"))
    program.end(root)
    assert program.document()["extra"]["otel"]["remote_parent_span_id"] == f"{77:016x}"


def test_spans_that_never_ended_are_marked_when_the_program_ends(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, CALL)
    program.begin("tool", root, tool=ToolRequest("weather", {"city": "SF"}, "c1"))
    program.begin("llm", root)
    document = program.document()
    assert document["extra"]["status"] == "partial"
    assert document["steps"][2]["observation"]["results"][0]["extra"]["incomplete"] == "unfinished"
    assert "Model calls that had not ended: 1." in document["notes"]


def test_an_agent_beneath_a_tool_is_embedded_and_the_call_refers_to_it(program: Program) -> None:
    root = program.agent("boss")
    program.ask(root, [user("research")], calls(("c1", "delegate", {"topic": "x"})))
    run_of_tool = program.begin("tool", root)
    child = program.agent("researcher", run_of_tool, session_id="own")
    program.ask(child, [system("find"), user("x")], says("found"), usage=Usage(100, 1))
    program.end(child)
    program.end(run_of_tool, **run("delegate", {"topic": "x"}, "summary", "c1", None))
    program.ask(
        root, [user("research"), calls(("c1", "delegate", {"topic": "x"})), answers("c1", "summary")], says("ok")
    )
    program.end(root)
    document = program.document()
    (embedded,) = document["subagent_trajectories"]
    assert embedded["agent"]["name"] == "researcher"
    assert outline(embedded) == ["system: find", "user: x", "agent: found"]
    (result,) = document["steps"][1]["observation"]["results"]
    assert result["content"] == "summary"
    assert result["subagent_trajectory_ref"] == [{"trajectory_id": embedded["trajectory_id"]}]
    assert document["final_metrics"]["total_prompt_tokens"] == 120
    assert document["final_metrics"]["extra"]["subagents"] == {"prompt_tokens": 100, "completion_tokens": 1}


@pytest.mark.parametrize("at_once", [False, True])
def test_agents_that_one_tool_runs_stand_beside_each_other(program: Program, at_once: bool) -> None:
    root = program.agent("boss")
    program.ask(root, [user("add")], calls(("c1", "delegate", {"n": 2})))
    tool = program.begin("tool", root)
    agents = [program.agent("adder", tool)] if not at_once else [program.agent("adder", tool) for _ in range(2)]
    for number in range(2):
        agent = agents[number] if number < len(agents) else program.agent("adder", tool)
        program.ask(agent, [system("you add"), user(f"what is {number} + 1?")], says(f"it is {number + 1}"))
        under = program.agent("checker", agent)
        program.ask(under, [system("you check"), user(f"is it {number + 1}?")], says("yes"))
        program.end(under)
        if not at_once:
            program.end(agent)
    for agent in agents if at_once else ():
        program.end(agent)
    program.end(tool, **run("delegate", {"n": 2}, "1;2", "c1", None))
    program.end(root)
    document = program.document()
    embedded = document["subagent_trajectories"]
    assert [outline(each)[1] for each in embedded] == ["user: what is 0 + 1?", "user: what is 1 + 1?"]
    assert [[below["agent"]["name"] for below in each["subagent_trajectories"]] for each in embedded] == [
        ["checker"],
        ["checker"],
    ]
    (result,) = document["steps"][1]["observation"]["results"]
    assert [ref["trajectory_id"] for ref in result["subagent_trajectory_ref"]] == [
        each["trajectory_id"] for each in embedded
    ]


@pytest.mark.parametrize(
    ("said", "cut_short"), [(None, "closed"), (says("you are wel"), "closed"), (says("you are welcome"), None)]
)
def test_a_run_that_begins_while_one_that_was_left_is_ending_goes_on_in_its_conversation(
    program: Program, said: Message | None, cut_short: Any
) -> None:
    first = program.agent(session_id="s-1")
    program.ask(first, [user("hi")], says("hello"), known={"session_id": "s-1"})
    program.end(first)
    left = program.agent(session_id="s-1")
    thanks = [user("hi"), says("hello"), user("thanks")]
    cut = program.begin("llm", left, session_id="s-1")
    last = program.agent(session_id="s-1")
    asked = program.begin("llm", last, session_id="s-1")
    program.end(cut, **call(thanks, said, incomplete=cut_short))
    program.end(left, incomplete="closed")
    program.end(asked, **call([*thanks, user("bye")], says("see you")))
    program.end(last)
    document = program.document()
    assert [line for line in outline(document) if line.startswith(("user", "agent"))][-2:] == [
        "user: bye",
        "agent: see you",
    ]


def test_a_later_turn_of_an_agent_with_other_words_is_no_agent_beneath_it(program: Program) -> None:
    first = program.agent("writer", session_id="s-1")
    program.ask(first, [system("draft"), user("hello")], says("a draft"), known={"session_id": "s-1"})
    program.end(first)
    resumed = program.agent("writer", session_id="s-1")
    node = program.begin("chain", resumed, name="final", session_id="s-1")
    program.ask(node, [user("final yes"), says("what?"), user("yes")], says("done"), known={"session_id": "s-1"})
    program.end(node)
    program.end(resumed)
    document = program.document()
    dispatch = document["steps"][-1]
    assert dispatch["tool_calls"][0]["extra"] == {"dispatch": "side conversation"}
    assert document["subagent_trajectories"][0]["agent"]["name"] == "final"


def test_an_agent_directly_beneath_an_agent_with_other_words_is_embedded_behind_a_step(program: Program) -> None:
    root = program.agent("boss")
    program.ask(root, ASK, says("let me think"))
    child = program.agent("critic", root)
    program.ask(child, [system("criticise"), user("let me think")], says("weak"))
    program.end(child)
    program.end(root)
    document = program.document()
    dispatch = document["steps"][3]
    assert dispatch["llm_call_count"] == 0
    assert dispatch["tool_calls"][0]["function_name"] == "critic"
    assert dispatch["tool_calls"][0]["extra"] == {"dispatch": "sub-agent"}
    assert "beside the main one" not in document["notes"]
    assert results(dispatch)[0][1] == "weak"
    assert outline(document["subagent_trajectories"][0])[-1] == "agent: weak"


def test_agents_that_share_a_history_hand_off_in_one_document(program: Program) -> None:
    root = program.begin("chain")
    one = program.agent("triage", root)
    transfer = calls(("t1", "transfer", {}))
    program.ask(one, [system("triage"), user("hi")], transfer)
    program.end(one)
    two = program.agent("expert", root)
    program.ask(two, [system("expert"), user("hi"), transfer, answers("t1", "ok")], says("hello"))
    program.end(two)
    program.end(root)
    document = program.document()
    assert outline(document) == ["system: triage", "user: hi", "agent: ", "system: expert", "agent: hello"]
    assert document["steps"][4]["extra"]["agent_name"] == "expert"


def test_agents_that_only_wrap_another_leave_no_trace(program: Program) -> None:
    outer = program.agent("Agent workflow")
    inner = program.agent("bot", program.begin("chain", outer))
    program.ask(inner, ASK, says("hi"))
    program.end(inner)
    program.end(outer)
    assert "subagent_trajectories" not in program.document()


def test_the_turns_of_a_session_join_across_traces(program: Program) -> None:
    history = list(ASK)
    for turn in range(3):
        root = program.agent(session_id="chat/7")
        program.ask(root, history, says(f"answer {turn}"))
        program.end(root)
        history += [says(f"answer {turn}"), user(f"more {turn}")]
    document = program.document()
    assert document["session_id"] == "chat/7"
    assert len(document["steps"]) == 7


def test_every_call_and_tool_of_a_session_may_be_a_trace_of_its_own(program: Program) -> None:
    known = {"session_id": "s"}
    program.ask(None, ASK, CALL, known=known)
    program.end(program.begin("tool", **known), **run("weather", {"city": "SF"}, "sun", "c1", None))
    program.ask(None, [*ASK, CALL, answers("c1", "sun")], says("sunny"), known=known)
    document = program.document()
    assert outline(document) == ["system: be kind", "user: weather?", "agent: ", "agent: sunny"]
    assert results(document["steps"][2]) == [("c1", "sun")]


def test_a_session_may_be_named_only_as_its_spans_end(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, says("hi"), session_id="late")
    program.end(root, session_id="late")
    assert program.document()["session_id"] == "late"


def test_a_plain_loop_without_any_root_span_is_one_document(program: Program) -> None:
    history = list(ASK)
    for turn in range(4):
        program.ask(None, history, says(f"answer {turn}"))
        history += [says(f"answer {turn}"), user(f"more {turn}")]
    assert len(program.document()["steps"]) == 9


def test_programs_that_share_a_session_by_mistake_get_documents_of_their_own(program: Program) -> None:
    one, two = program.agent(session_id="user-1"), program.agent(session_id="user-1")
    for turn in range(2):
        for root, name in ((one, "one"), (two, "two")):
            history = [m for n in range(turn) for m in (user(f"{name} {n}"), says(f"{name} answers {n}"))]
            program.ask(root, [*history, user(f"{name} {turn}")], says(f"{name} answers {turn}"))
    program.end(one)
    program.end(two)
    documents = program.documents()
    assert sorted(documents) == ["user-1", "user-1-2"]
    assert all(len(document["steps"]) == 4 for document in documents.values())
    assert {document["session_id"] for document in documents.values()} == {"user-1"}


def test_a_compacted_history_is_marked_and_its_summary_kept(program: Program) -> None:
    root = program.agent()
    history = [user("start"), says("one"), user("two"), says("three"), user("four")]
    program.ask(root, history, says("five"))
    program.ask(root, [user("Summary: all went well"), user("four"), says("five"), user("six")], says("seven"))
    program.end(root)
    document = program.document()
    change = next(s for s in document["steps"] if s["source"] == "system")
    management = change["extra"]["context_management"]
    assert (management["type"], management["boundary"]) == ("compaction", "replace")
    assert "Summary: all went well" in change["observation"]["results"][0]["content"]
    assert outline(document)[-3:] == [f"system: {change['message']}", "user: six", "agent: seven"]


def test_a_trimmed_history_is_marked_as_pruned(program: Program) -> None:
    root = program.agent()
    history = [user("start"), says("one"), user("two"), says("three")]
    program.ask(root, history[:3], says("three"))
    program.ask(root, [user("two"), says("three"), user("four")], says("five"))
    program.end(root)
    change = next(s for s in program.document()["steps"] if s["source"] == "system")
    assert change["extra"]["context_management"]["type"] == "pruning"
    assert "observation" not in change


def test_a_history_that_was_edited_goes_on_from_where_it_was_cut(program: Program) -> None:
    root = program.agent()
    program.ask(root, [user("start")], says("one"))
    program.ask(root, [user("start"), says("one"), user("wrong")], says("bad"))
    program.ask(root, [user("start"), says("one"), user("right")], says("good"))
    program.end(root)
    document = program.document()
    assert outline(document)[-2:] == ["user: right", "agent: good"]
    assert document["steps"][4]["extra"]["context_management"]["boundary"] == "truncate"


def test_a_title_asked_for_first_is_a_side_conversation_of_the_work_that_follows(program: Program) -> None:
    root = program.agent()
    program.ask(root, [system("Name this chat"), user("weather?")], says("Weather"))
    program.ask(root, ASK, CALL, tools=[tool("weather")])
    program.ask(root, [*ASK, CALL, answers("c1", "sun")], says("sunny"), tools=[tool("weather")])
    program.end(root)
    document = program.document()
    assert outline(document)[1:] == ["system: be kind", "user: weather?", "agent: ", "agent: sunny"]
    assert outline(document["subagent_trajectories"][0])[-1] == "agent: Weather"
    assert results(document["steps"][0])[0][1] == "Weather"
    assert document["steps"][0]["tool_calls"][0]["extra"] == {"dispatch": "side conversation"}
    assert "beside the main one, which no tool call began: 1." in document["notes"]


def test_a_helper_call_is_a_side_conversation_and_its_tokens_count(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, says("hi"))
    node = program.begin("chain", root, name="judge")
    program.ask(node, [system("judge this"), user("hi")], says("good"))
    program.end(node)
    program.ask(root, [*ASK, says("hi"), user("more")], says("ho"))
    program.end(root)
    document = program.document()
    assert outline(document)[-2:] == ["user: more", "agent: ho"]
    assert document["steps"][3]["tool_calls"][0]["function_name"] == "judge"
    assert document["steps"][3]["tool_calls"][0]["extra"] == {"dispatch": "side conversation"}
    assert "beside the main one, which no tool call began: 1." in document["notes"]
    assert document["final_metrics"]["total_prompt_tokens"] == 30


def test_turns_that_came_with_the_history_are_copied_context(program: Program) -> None:
    root = program.agent()
    earlier = [user("hi"), CALL, answers("c1", "sun"), says("sunny")]
    program.ask(root, [system("be kind"), *earlier, user("more")], says("ok"))
    program.end(root)
    document = program.document()
    copied = [step for step in document["steps"] if step.get("is_copied_context")]
    assert [step["message"] for step in copied] == ["", "sunny"]
    assert results(copied[0]) == [("c1", "sun")]
    assert all("metrics" not in step and "llm_call_count" not in step for step in copied)


def test_a_changed_system_prompt_is_a_step_and_no_rewrite_of_the_dialogue(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, says("hi"))
    program.ask(root, [system("be terse"), ASK[1], says("hi"), user("more")], says("ho"))
    program.end(root)
    document = program.document()
    assert outline(document)[3:] == ["system: be terse", "user: more", "agent: ho"]
    assert document["steps"][3]["extra"]["context_management"] == {"type": "injection", "boundary": "append"}


def test_a_clock_in_a_long_system_prompt_is_told_by_its_change_alone(program: Program) -> None:
    root = program.agent()
    history: list[Message] = []
    for minute in range(20):
        history.append(user(f"q{minute}"))
        clock = system("rules " * 1000 + f"now 12:{minute + 10}" + " more rules" * 1000)
        program.ask(root, [clock, *history], says(f"a{minute}"))
        history.append(says(f"a{minute}"))
    program.end(root)
    steps = [s for s in program.document()["steps"] if s["source"] == "system"]
    assert len(steps) == 20
    assert all(len(step["message"]) < 100 for step in steps[1:])


def test_tool_definitions_are_the_union_of_all_that_were_offered(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, says("hi"), tools=[tool("a"), tool("b")])
    program.ask(root, [*ASK, says("hi"), user("more")], says("ho"), tools=[tool("b"), tool("c")])
    program.end(root)
    document = program.document()
    assert [d["function"]["name"] for d in document["agent"]["tool_definitions"]] == ["a", "b", "c"]
    assert document["steps"][-1]["extra"]["tools_changed_to"] == ["b", "c"]


def test_further_choices_stand_as_alternatives(program: Program) -> None:
    root = program.agent()
    response = ModelResponse("r", "m", [says("one"), says("two")], ["stop", "stop"])
    program.end(program.begin("llm", root), **{**call(ASK, None), "response": response})
    program.end(root)
    step = program.document()["steps"][-1]
    assert step["message"] == "one"
    assert step["extra"]["alternatives"] == [{"message": "two"}]


def test_tools_that_the_provider_runs_stand_with_their_results_on_the_same_step(program: Program) -> None:
    root = program.agent()
    parts: list[Any] = [
        ToolCall("ws1", "web_search", {"q": "x"}, server=True),
        ToolCallResponse("ws1", "found", server=True),
        Text("here"),
    ]
    program.ask(root, ASK, Message("assistant", parts))
    program.end(root)
    step = program.document()["steps"][-1]
    assert results(step) == [("ws1", "found")]
    assert step["tool_calls"][0]["extra"] == {"server_side": True}


def test_images_are_files_and_links_stay_links(program: Program) -> None:
    root = program.agent()
    data = base64.b64encode(b"picture").decode()
    message = Message(
        "user",
        [
            Text("look"),
            Media("image", "image/png", data=data),
            Media("image", None, uri=f"data:image/jpeg;base64,{data}"),
            Media("image", "image/png", uri="https://example.org/a.png"),
            Media("document", "application/pdf", data=data, name="a.pdf"),
            Media("image", "image/png", file_id="file-1"),
        ],
    )
    program.ask(root, [message], says("seen"))
    program.end(root)
    document = program.document()
    parts = document["steps"][0]["message"]
    stored = [part["source"]["path"] for part in parts if part["type"] == "image"]
    assert [path.rpartition(".")[2] for path in stored] == ["png", "jpg", "png"]
    assert all((program.directory / path).read_bytes() == b"picture" for path in stored[:2])
    assert parts[4]["text"].startswith("[document a.pdf application/pdf: assets/")
    assert parts[5]["text"] == "[image image/png: file-1]"
    assert document["schema_version"] == "ATIF-v1.7"


def test_sounds_make_the_document_one_of_version_1_8(program: Program) -> None:
    root = program.agent()
    sound = Media("audio", "audio/mp3", data=base64.b64encode(b"sound").decode())
    program.ask(root, [Message("user", [sound])], says("heard"))
    program.end(root)
    document = program.document()
    assert document["schema_version"] == "ATIF-v1.8"
    assert document["steps"][0]["message"][0]["source"]["media_type"] == "audio/mpeg"


def test_without_content_the_structure_stays(program: Program) -> None:
    root = program.agent()
    for _ in range(2):
        program.end(program.begin("llm", root), **call([], None, usage=Usage(3, 1)), content=False)
    program.end(program.begin("llm", root), **call([], Message("assistant", [])), content=False)
    program.end(root)
    document = program.document()
    assert [step["source"] for step in document["steps"]] == ["agent"] * 3
    assert all(step["extra"]["content_captured"] is False for step in document["steps"])


def test_a_session_without_a_name_has_the_id_of_its_trace_in_the_spelling_of_its_file(program: Program) -> None:
    root = program.agent()
    program.ask(root, [user("start")], says("one"))
    program.end(root)
    document = program.document()
    assert document["session_id"] == document["extra"]["otel"]["trace_id"]
    assert re.fullmatch("[0-9a-f]{32}", document["session_id"])


def test_a_truncated_history_is_no_compaction(program: Program) -> None:
    root = program.agent()
    history = [user("start"), says("one"), user("two")]
    program.ask(root, history, says("three"))
    program.ask(root, [says("three"), user("four")], says("five"), truncated=True)
    program.end(root)
    document = program.document()
    assert "system" not in {step["source"] for step in document["steps"]}
    assert document["steps"][-1]["extra"]["truncated"] is True


def test_huge_results_are_cut_and_name_their_hash(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, CALL)
    program.use(root, "weather", {"city": "SF"}, "x" * 1_500_000, "c1")
    program.end(root)
    content = results(program.document()["steps"][-1])[0][1]
    assert len(content) < 1_001_000
    assert "truncated 500000 characters, sha256=" in content


def test_an_interrupted_call_is_answered_in_a_later_trace(program: Program) -> None:
    one = program.agent(session_id="thread")
    program.ask(one, ASK, calls(("c1", "approve", {})))
    program.end(one)
    two = program.agent(session_id="thread")
    program.use(two, "approve", {}, "yes", "c1")
    program.ask(two, [*ASK, calls(("c1", "approve", {})), answers("c1", "yes")], says("done"))
    program.end(two)
    document = program.document()
    assert results(document["steps"][2]) == [("c1", "yes")]
    assert len(document["steps"]) == 4


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("SF", {"raw": "SF"}),
        ([1, 2], {"value": [1, 2]}),
        ('{"city": "SF"}', {"city": "SF"}),
        ("[1]", {"value": [1]}),
        (None, {}),
    ],
)
def test_arguments_are_always_an_object(program: Program, given: Any, written: Any) -> None:
    root = program.agent()
    program.ask(root, ASK, calls(("c1", "weather", given)))
    program.end(root)
    assert program.document()["steps"][-1]["tool_calls"][0]["arguments"] == written


def test_agents_that_talk_in_text_only_get_user_steps_for_what_the_world_answers(program: Program) -> None:
    root = program.agent()
    history = [user("task")]
    for turn in range(3):
        program.ask(root, history, says(f"<run>{turn}</run>"))
        history += [says(f"<run>{turn}</run>"), user(f"output {turn}")]
    program.end(root)
    assert outline(program.document())[2] == "user: output 0"


def test_adjacent_answers_that_are_known_apart_stay_apart(program: Program) -> None:
    root = program.agent()
    program.ask(root, [user("task")], says("one"))
    program.ask(root, [user("task"), says("one")], says("two"))
    program.ask(root, [user("task"), says("one"), says("two"), user("go")], says("three"))
    program.end(root)
    assert outline(program.document()) == ["user: task", "agent: one", "agent: two", "user: go", "agent: three"]


def test_an_answer_echoed_in_pieces_is_the_answer(program: Program) -> None:
    root = program.agent()
    answer = calls(("a", "x", {"n": 1}), ("b", "y", {}), text="both")
    program.ask(root, [user("task")], answer)
    pieces = [says("both"), calls(("a", "x", '{"n":1}')), calls(("b", "y", "{}"))]
    program.ask(root, [user("task"), *pieces, answers("a", "1"), answers("b", "2")], says("done"))
    program.end(root)
    document = program.document()
    assert outline(document) == ["user: task", "agent: both", "agent: done"]
    assert results(document["steps"][1]) == [("a", "1"), ("b", "2")]


def test_a_request_that_names_the_answer_it_builds_upon_carries_only_what_is_new(program: Program) -> None:
    root = program.agent()
    program.ask(root, [user("one")], CALL, id="r1")
    program.ask(root, [answers("c1", "sun")], says("two"), id="r2", parameters={"previous_response_id": "r1"})
    program.ask(root, [user("one")], says("three"), id="r3", parameters={"previous_response_id": "r2"})
    program.end(root)
    document = program.document()
    assert outline(document) == ["user: one", "agent: ", "agent: two", "user: one", "agent: three"]
    assert results(document["steps"][1]) == [("c1", "sun")]


def test_a_repeated_delta_is_a_retry(program: Program) -> None:
    root = program.agent()
    upon = {"previous_response_id": "r1"}
    program.ask(root, [user("one")], says("a"), id="r1")
    program.ask(root, [user("two")], None, parameters=upon, error=ErrorInfo("Timeout"))
    program.ask(root, [user("two")], says("b"), id="r2", parameters=upon)
    program.end(root)
    assert outline(program.document()) == ["user: one", "agent: a", "user: two", "agent: ", "agent: b"]


def test_a_conversation_kept_by_the_provider_goes_on(program: Program) -> None:
    root = program.agent()
    kept = {"conversation_id": "conv-1"}
    program.ask(root, [user("one")], says("a"), parameters=kept)
    program.ask(root, [user("two")], says("b"), parameters=kept)
    program.end(root)
    assert outline(program.document()) == ["user: one", "agent: a", "user: two", "agent: b"]


def test_a_session_whose_program_sends_no_history_goes_on(program: Program) -> None:
    for turn in range(3):
        root = program.agent(session_id="s")
        program.ask(root, [system("be kind"), user(f"q{turn}")], says(f"a{turn}"))
        program.end(root)
    assert outline(program.document())[-2:] == ["user: q2", "agent: a2"]
    assert "subagent_trajectories" not in program.document()


def test_tools_answers_inside_user_messages_are_results(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, CALL)
    mixed = Message("user", [ToolCallResponse("c1", "sun"), Text("and now?")])
    program.ask(root, [*ASK, CALL, mixed], says("sunny"))
    program.end(root)
    document = program.document()
    assert results(document["steps"][2]) == [("c1", "sun")]
    assert outline(document)[3:] == ["user: and now?", "agent: sunny"]


def test_a_tool_may_end_before_the_call_that_asked_for_it(program: Program) -> None:
    root = program.agent()
    stream = program.begin("llm", root)
    program.use(stream, "weather", {"city": "SF"}, "sun", "c1")
    program.end(stream, **call(ASK, CALL))
    program.end(root)
    document = program.document()
    assert results(document["steps"][2]) == [("c1", "sun")]
    assert len(document["steps"]) == 3


def test_reasoning_and_effort_stand_in_their_fields(program: Program) -> None:
    root = program.agent()
    answer = Message("assistant", [Reasoning("hmm"), Text("yes")])
    usage = Usage(10, 5, cache_read_tokens=4, cache_write_tokens=2, reasoning_tokens=3, cost_usd=0.5)
    program.ask(root, ASK, answer, usage=usage, parameters={"reasoning_effort": "high"}, time_to_first_chunk=0.25)
    program.end(root)
    step = program.document()["steps"][-1]
    assert (step["reasoning_content"], step["reasoning_effort"]) == ("hmm", "high")
    assert step["metrics"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cached_tokens": 4,
        "cost_usd": 0.5,
        "extra": {
            "time_to_first_token_ms": 250.0,
            "cache_creation_input_tokens": 2,
            "reasoning_tokens": 3,
        },
    }


def test_a_refusal_is_the_message_and_its_finish_reason_is_told(program: Program) -> None:
    root = program.agent()
    answer = Message("assistant", [Opaque("refusal", {"type": "refusal", "refusal": "I cannot"})])
    response = ModelResponse("r", "m", [answer], ["content_filter"])
    program.end(program.begin("llm", root), **{**call(ASK, None), "response": response})
    program.end(root)
    step = program.document()["steps"][-1]
    assert step["message"] == "I cannot"
    assert step["extra"]["finish_reason"] == "content_filter"


def test_spans_that_are_no_steps_leave_none_and_an_empty_session_no_file(program: Program) -> None:
    root = program.agent()
    for kind in ("retriever", "embedder", "reranker", "evaluator", "chain", None):
        program.end(program.begin(kind, root))  # type: ignore[arg-type]  # the loop widens the literals
    program.end(root)
    assert program.documents() == {}
    assert list(program.directory.glob("*")) == []


def test_times_never_go_back(program: Program) -> None:
    root = program.agent()
    early = program.begin("llm", root)
    program.use(root, "setup", {}, "ok")
    program.end(early, **call(ASK, says("hi")))
    program.end(root)
    program.document()  # is judged


def test_calls_that_overlap_are_written_in_the_order_they_began(program: Program) -> None:
    root = program.agent()
    first = program.begin("llm", root)
    second = program.begin("llm", root)
    program.end(second, **call([*ASK, says("one"), user("more")], says("two")))
    program.end(first, **call(ASK, says("one")))
    program.end(root)
    assert outline(program.document())[2:] == ["agent: one", "user: more", "agent: two"]


def test_an_agents_version_and_name_come_from_its_span(program: Program) -> None:
    root = program.begin("agent", agent=AgentInfo("writer", version="3.1"))
    program.ask(root, ASK, says("hi"))
    program.end(root)
    assert program.document()["agent"] == {"name": "writer", "version": "3.1", "model_name": "m-1-2026"}


def test_a_sub_agents_version_is_its_own(program: Program) -> None:
    root = program.begin("agent", agent=AgentInfo("boss", version="1"))
    program.ask(root, [user("go")], calls(("c1", "delegate", {})))
    tool_span = program.begin("tool", root)
    child = program.begin("agent", tool_span, agent=AgentInfo("worker", version="2"))
    program.ask(child, [user("work")], says("done"))
    program.end(child)
    program.end(tool_span, **run("delegate", {}, "done", "c1", None))
    program.end(root)
    document = program.document()
    (inner,) = document["subagent_trajectories"]
    assert [each["agent"]["version"] for each in (document, inner)] == ["1", "2"]


@pytest.mark.parametrize("given", [123, UUID(int=5)])
def test_a_name_that_is_no_text_is_taken_as_its_text(program: Program, given: Any) -> None:
    root = program.agent(given, session_id=given)
    program.ask(root, [user("weather?")], calls((str(given), "weather", {})))
    program.use(root, given, {}, "sun", given)
    program.end(program.agent("other", session_id=str(given)))
    program.use(root, given, {}, "moon", 7)
    program.end(root)
    document = program.document()
    assert document["session_id"] == document["agent"]["name"] == str(given)
    assert results(document["steps"][1]) == [(str(given), "sun")]
    assert results(document["steps"][2]) == [("7", "moon")]
    assert document["steps"][2]["tool_calls"][0]["function_name"] == str(given)


def test_a_mcp_client_span_beneath_its_tools_span_is_the_same_run(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, CALL)
    outer = program.begin("tool", root, tool=ToolRequest("weather"))
    program.use(outer, "weather", {"city": "SF"}, "sun")
    program.end(outer, **run("weather", {"city": "SF"}, "sun", "c1", None))
    program.end(root)
    document = program.document()
    assert len(document["steps"]) == 3
    told = document["steps"][2]["observation"]["results"][0]["extra"]
    assert document["steps"][0]["timestamp"] < told["otel"]["start"]
    assert told["duration_sec"] == 3.0


@pytest.mark.parametrize(
    ("span", "runs"), [("tools/call weather", 1), ("MCP weather", 2)], ids=["asked over MCP", "another tool"]
)
def test_a_mcp_servers_span_beneath_a_tool_with_its_name_before_it_is_the_same_run(
    program: Program, span: str, runs: int
) -> None:
    root = program.agent()
    program.ask(root, ASK, replace(CALL, parts=[ToolCall("c1", "there_weather", {"city": "SF"})]))
    outer = program.begin("tool", root, tool=ToolRequest("there_weather"))
    program.end(program.begin("tool", outer, name=span), **run("weather", {"city": "SF"}, "sun", None, None))
    program.end(outer, **run("there_weather", {"city": "SF"}, "sun", "c1", None))
    program.end(root)
    told = str(program.document())
    assert told.count("'content': 'sun'") == runs


def test_an_agent_behind_a_mcp_server_is_embedded_below_the_tool_of_its_client(program: Program) -> None:
    root = program.agent()
    program.ask(root, ASK, CALL)
    outer = program.begin("tool", root, tool=ToolRequest("weather"))
    server = program.begin("tool", program.begin(None, outer), tool=ToolRequest("weather"))
    agent = program.agent("meteorologist", server)
    program.ask(agent, [user("SF?")], says("sun"))
    program.end(agent)
    program.end(server)
    program.end(outer, **run("weather", {"city": "SF"}, "sun", "c1", None))
    program.end(root)
    document = program.document()
    [embedded] = document["subagent_trajectories"]
    assert embedded["agent"]["name"] == "meteorologist"
    assert outline(embedded) == ["user: SF?", "agent: sun"]
    [result] = document["steps"][2]["observation"]["results"]
    assert result["subagent_trajectory_ref"] == [{"trajectory_id": embedded["trajectory_id"]}]
    assert "subagent_trajectories" not in embedded


def test_a_framework_may_say_only_at_the_end_that_its_span_is_the_call(program: Program) -> None:
    root = program.agent(session_id="s")
    outer = program.begin(None, root)
    inner = program.begin("llm", outer)
    program.end(inner, **call(ASK, says("hi"), usage=Usage(7, 3)))
    program.end(outer, **call(ASK, says("hi")), kind="llm")
    program.end(root)
    document = program.document()
    assert outline(document) == ["system: be kind", "user: weather?", "agent: hi"]
    assert document["steps"][2]["extra"]["otel"]["duplicates"] == [f"{outer.span_id:016x}"]


def test_a_lone_provider_span_waits_for_a_span_that_may_turn_out_to_be_its_frameworks(program: Program) -> None:
    root = program.agent(session_id="s")
    outer = program.begin(None, root)
    lone = program.begin("llm")
    lone.scope_name = "provider"
    program.end(lone, **call(ASK, says("hi")))
    program.end(outer, **call(ASK, says("hi")), kind="llm")
    program.end(root)
    assert outline(program.document()) == ["system: be kind", "user: weather?", "agent: hi"]


def test_a_flush_writes_a_lone_call_that_still_waits(program: Program) -> None:
    program.begin(None, name="a long job").scope_name = "jobs"
    lone = program.begin("llm")
    lone.scope_name = "provider"
    program.end(lone, **call(ASK, says("hi")))
    assert program.writer.dirty
    program.writer.flush()
    assert outline(next(iter(read(program.directory).values())))[-1] == "agent: hi"
    program.documents()


NAMED_LATE = """
import spanrelay
spanrelay.activate(spanrelay.Settings(content="spans"))
with spanrelay.scope("main", session="a"):
    spanrelay.run_tool("x", str, {})
with spanrelay.scope("outer", kind="tool"):
    with spanrelay.scope("agent"):
        spanrelay.run_tool("u", str, {})
        spanrelay.run_tool("w", str, {})
    with spanrelay.scope("named", session="a"):
        spanrelay.run_tool("v", str, {})
"""


def test_a_session_that_is_named_when_another_file_has_begun_leaves_both_files_whole(tmp_path: Path) -> None:
    done = run_apart(NAMED_LATE, tmp_path, launched=False)
    assert "lost or left out" not in done.err
    called = [
        call["function_name"]
        for document in done.trajectories
        for step in (*document["steps"], *document.get("subagent_trajectories", [{"steps": []}])[0]["steps"])
        for call in step.get("tool_calls", [])
        if "dispatch" not in call.get("extra", {})
    ]
    assert sorted(called) == ["outer", "u", "v", "w", "x"]
    assert [violations(document) for document in done.trajectories] == [[], []]
    assert list((tmp_path / ".spanrelay" / "trajectories").glob("*.part")) == []


KEY = "fc-" + "0123456789abcdef" * 2


def test_a_text_that_is_cut_ends_with_a_whole_word_so_that_no_half_of_a_key_stays(tmp_path: Path) -> None:
    program = Program(tmp_path, mask=mask_bytes)
    root = program.agent()
    program.ask(root, [system("s"), user("x " * 499_985 + f"{KEY} and more")], says("hi"))
    program.end(root)
    [message] = [step["message"] for step in program.document()["steps"] if step["source"] == "user"]
    assert "0123" not in message
    assert message.endswith("characters, sha256=" + message[-65:])


def test_a_key_that_begins_a_part_is_masked_though_the_part_before_ends_in_a_letter(tmp_path: Path) -> None:
    program = Program(tmp_path, mask=mask_bytes)
    root = program.agent()
    parts = [Text("the key is"), Text(KEY)]
    given = Message("tool", [ToolCallResponse("c", [Text("the key is"), Text(KEY)])])
    asks = Message("assistant", [*parts, ToolCall("c", "f", {})])
    program.ask(root, [system("s"), Message("user", list(parts)), asks, given], Message("assistant", list(parts)))
    program.end(root)
    told = str(program.document()["steps"])
    assert KEY not in told
    assert told.count("[masked key]") == 4


@pytest.mark.parametrize("form", ["Authorization: Bearer {}", "key sk-proj-{}", "aws_secret_access_key = '{}'"])
def test_the_change_of_a_key_in_a_system_prompt_is_masked(tmp_path: Path, form: str) -> None:
    program = Program(tmp_path, mask=mask_bytes)
    root = program.agent()
    history: list[Message] = []
    for end in ("one" * 4, "two" * 4):
        prompt = "rules " * 1000 + form.format("AbCdEfGhIjKlMnOpQrStUvWxYz01" + end) + " more rules" * 1000
        history.append(user("ask"))
        program.ask(root, [system(prompt), *history], says("hi"))
        history.append(says("hi"))
    program.end(root)
    changed = [step["message"] for step in program.document()["steps"] if step["source"] == "system"][1]
    assert len(changed) < 200
    assert "[masked key]" in changed
    assert "two" not in changed


def test_a_changed_private_key_in_a_system_prompt_is_masked(tmp_path: Path) -> None:
    program = Program(tmp_path, mask=mask_bytes)
    root = program.agent()
    history: list[Message] = []
    for end in ("One", "Two"):
        history.append(user("ask"))
        pem = f"-----BEGIN PRIVATE KEY-----\nMIIE\nAbCdEf{end}\n-----END PRIVATE KEY-----"
        program.ask(root, [system("rules " * 1000 + pem + " more" * 1000), *history], says("hi"))
        history.append(says("hi"))
    program.end(root)
    told = str(program.document()["steps"])
    assert "AbCdEf" not in told
    assert "Two" not in told


def test_a_file_that_is_text_is_masked_and_an_image_is_kept_as_it_is(tmp_path: Path) -> None:
    program = Program(tmp_path, mask=mask_bytes)
    root = program.agent()
    image = b"\xff\xd8" + KEY.encode()
    parts = [
        Media("document", "text/plain", data=base64.b64encode(f"key {KEY}".encode()).decode()),
        Media("image", "image/jpeg", data=base64.b64encode(image).decode()),
    ]
    program.ask(root, [system("s"), Message("user", [Text("see"), *parts])], says("hi"))
    program.end(root)
    assert program.document()["steps"]
    [text] = tmp_path.glob("assets/*.txt")
    [kept] = tmp_path.glob("images/*")
    assert text.read_text() == "key [masked key]"
    assert kept.read_bytes() == image


def test_a_trace_without_a_session_goes_on_in_the_document_of_the_conversation_that_it_extends(
    program: Program,
) -> None:
    first = program.agent()
    program.ask(first, ASK, CALL)
    program.use(first, "weather", {"city": "SF"}, "sunny", "c1")
    told = [*ASK, CALL, answers("c1", "sunny")]
    program.ask(first, told, says("sunny"))
    program.end(first)
    second = program.agent()
    more = [*told, says("sunny"), user("and NY?")]
    again = calls(("c2", "weather", {"city": "NY"}))
    program.ask(second, more, again)
    program.use(second, "weather", {"city": "NY"}, "rain", "c2")
    program.ask(second, [*more, again, answers("c2", "rain")], says("rain"))
    program.end(second)
    document = program.document()
    assert [step["source"] for step in document["steps"]] == [
        "system",
        "user",
        "agent",
        "agent",
        "user",
        "agent",
        "agent",
    ]
    assert results(document["steps"][5]) == [("c2", "rain")]


def test_a_trace_without_a_session_that_repeats_no_answer_is_a_document_of_its_own(program: Program) -> None:
    for _ in range(2):
        root = program.agent()
        program.ask(root, ASK, says("sunny"))
        program.end(root)
    assert len(program.documents()) == 2


def test_a_trace_of_another_service_does_not_go_on_in_this_ones_document(program: Program) -> None:
    for service, asked in (("a", ASK), ("b", [*ASK, says("sunny"), user("and NY?")])):
        root = program.agent(service_name=service)
        program.ask(root, asked, says("sunny"), known={"service_name": service})
        program.end(root)
    assert len(program.documents()) == 2


def test_a_trace_whose_session_is_known_goes_on_in_no_other_document(program: Program) -> None:
    for session, asked in ((None, ASK), ("s", [*ASK, says("sunny"), user("and NY?")])):
        root = program.agent(session_id=session)
        program.ask(root, asked, says("sunny"))
        program.end(root)
    assert len(program.documents()) == 2


def test_instructions_that_are_told_apart_and_among_the_messages_are_told_once(program: Program) -> None:
    root = program.agent(session_id="s")
    program.ask(root, ASK, says("sunny"), system=[Text("be kind")])
    program.ask(root, [system("be"), system("kind"), user("x")], says("y"), system=[Text("be kind")])
    program.end(root)
    document = program.document()
    assert [step["message"] for step in document["steps"] if step["source"] == "system"] == ["be kind"]
