"""What was not recorded is not what was recorded as empty, whoever recorded it."""

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from tests.trajectory.program import Program, call, calls, read, run, says, user

from spanrelay.assembly.exporter import AtifSpanExporter
from spanrelay.records import ModelRequest

TOOLS: dict[str, dict[str, Any]] = {
    "openinference": {"openinference.span.kind": "TOOL", "tool.name": "t"},
    "genai": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"},
    "traceloop": {"traceloop.span.kind": "tool", "traceloop.entity.name": "t"},
}
GIVEN = {
    "openinference": "input.value",
    "genai": "gen_ai.tool.call.arguments",
    "traceloop": "traceloop.entity.input",
}
GAVE = {
    "openinference": "output.value",
    "genai": "gen_ai.tool.call.result",
    "traceloop": "traceloop.entity.output",
}
MODELS: dict[str, dict[str, Any]] = {
    "openinference": {"openinference.span.kind": "LLM"},
    "genai": {"gen_ai.operation.name": "chat"},
    "traceloop": {"llm.request.type": "chat"},
}
DIALECTS = list(TOOLS)


def steps_of(directory: Path, attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps that one span makes."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(AtifSpanExporter(directory)))
    provider.get_tracer("any").start_span("span", attributes=attributes).end()
    provider.shutdown()
    (document,) = read(directory).values()
    return document["steps"]


def conversation(dialect: str, *messages: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a model call: all but the last message are its request."""
    if dialect == "genai":
        shaped = [json.dumps(list(given)) for given in (messages[:-1], messages[-1:])]
        return {**MODELS[dialect], "gen_ai.input.messages": shaped[0], "gen_ai.output.messages": shaped[1]}
    found = dict(MODELS[dialect])
    for at, message in enumerate(messages):
        index = 0 if message is messages[-1] else at
        for key, value in message.items():
            if dialect == "traceloop":
                base = f"gen_ai.{'completion' if message is messages[-1] else 'prompt'}.{index}"
                name = f"{base}.tool_calls.0" if key == "tool_calls" else f"{base}.{key}"
            else:
                side = "output" if message is messages[-1] else "input"
                base = f"llm.{side}_messages.{index}.message"
                name = f"{base}.tool_calls.0.tool_call" if key == "tool_calls" else f"{base}.{key}"
            if key != "tool_calls":
                found[name] = value
                continue
            function = f"{name}.function" if dialect == "openinference" else name
            found[f"{name}.id"] = value[0]["id"]
            found.update({f"{function}.{each}": said for each, said in value[0]["function"].items()})
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("recorded", [True, False])
def test_a_tool_whose_output_is_not_recorded_has_no_content(dialect: str, recorded: bool, tmp_path: Path) -> None:
    given = {**TOOLS[dialect], GIVEN[dialect]: '{"a": 1}', **({GAVE[dialect]: ""} if recorded else {})}
    (step,) = steps_of(tmp_path, given)
    (result,) = step["observation"]["results"]
    assert result.get("content") == ("" if recorded else None)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("recorded", [True, False])
def test_arguments_that_are_not_recorded_are_not_empty_ones(dialect: str, recorded: bool, tmp_path: Path) -> None:
    given = {**TOOLS[dialect], **({GIVEN[dialect]: "{}"} if recorded else {})}
    (step,) = steps_of(tmp_path, given)
    (asked,) = step["tool_calls"]
    assert asked["arguments"] == {}
    assert asked.get("extra") == (None if recorded else {"content_captured": False})


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("recorded", [True, False])
def test_arguments_in_an_answer_that_are_not_recorded_are_not_empty_ones(
    dialect: str, recorded: bool, tmp_path: Path
) -> None:
    function = {"name": "f", **({"arguments": "{}"} if recorded else {})}
    answer = {"role": "assistant", "tool_calls": [{"id": "c", "function": function}]}
    *_, step = steps_of(tmp_path, conversation(dialect, {"role": "user", "content": "q"}, answer))
    assert step["tool_calls"][0].get("extra") == (None if recorded else {"content_captured": False})


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_tools_message_without_content_has_none(dialect: str, tmp_path: Path) -> None:
    asked = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    messages = [{"role": "user", "content": "q"}, asked, {"role": "tool", "tool_call_id": "c"}]
    steps = steps_of(tmp_path, conversation(dialect, *messages, {"role": "assistant", "content": "a"}))
    (result,) = steps[1]["observation"]["results"]
    assert "content" not in result


@pytest.mark.parametrize("dialect", DIALECTS)
def test_messages_without_content_are_not_captured(dialect: str, tmp_path: Path) -> None:
    (step,) = steps_of(tmp_path, conversation(dialect, {"role": "user"}, {"role": "assistant"}))
    assert step["extra"]["content_captured"] is False


@pytest.mark.parametrize("dialect", DIALECTS)
def test_empty_messages_are_captured(dialect: str, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
    asked, answer = steps_of(tmp_path, conversation(dialect, *messages))
    assert (asked["source"], asked["message"], answer["message"]) == ("user", "", "")
    assert "content_captured" not in answer["extra"]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "trajectories")


def test_an_answer_that_is_not_recorded_is_not_an_empty_one(program: Program) -> None:
    root = program.agent()
    program.ask(root, [user("one")], None)
    program.ask(root, [user("two")], says(""))
    program.end(program.begin("llm", root), request=ModelRequest("m", [user("three")]), incomplete="cancelled")
    program.end(root)
    steps = {step["extra"]["otel"]["span_id"][-1]: step for step in _answers(program.document())}
    assert [step["extra"].get("content_captured") for _, step in sorted(steps.items())] == [False, None, None]


def _answers(document: dict[str, Any]) -> list[dict[str, Any]]:
    family = [document, *document.get("subagent_trajectories", [])]
    return [step for each in family for step in each["steps"] if step.get("llm_call_count")]


def test_a_result_that_is_empty_stays_so_where_the_tool_ran_an_agent(program: Program) -> None:
    root = program.agent()
    program.ask(root, [user("go")], calls(("c1", "delegate", {})))
    tool = program.begin("tool", root, name="delegate")
    program.end(program.begin("llm", program.agent("worker", tool)), **call([user("work")], says("done")))
    program.end(tool, **run("delegate", {}, "", "c1", None))
    program.end(root)
    document = program.document()
    (result,) = document["steps"][1]["observation"]["results"]
    assert result["content"] == ""
    assert result["subagent_trajectory_ref"]
