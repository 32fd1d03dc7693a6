"""Policy in workflows: around tools however they are called, around models, and around runs as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, use
from spanrelay.records import AgentResult, ToolResult
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, tree

from .workflows import CALLER, PLAIN, QUESTION, TEAM, Way, asked, attributes, awaited, streamed, written
from .workflows import weather_model as talk

# What it says of itself and of what it stands on; ours are errors, as everywhere.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
each_way = pytest.mark.parametrize("run", [awaited, streamed])


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(talk) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_asked(server: ModelServer) -> None:
    server.requests.clear()
    asked().clear()


@guardrail(kinds=["tool"])
def never(call: Any) -> str:
    return f"not {call.request.name}"


@each_way
def test_a_refused_function_ends_the_run_with_the_refusal_itself(
    instrumented: Capture, tmp_path: Path, run: Way
) -> None:
    with use(never), pytest.raises(GuardrailRejected, match="not get_weather"):
        run(written(tmp_path, PLAIN, None), "Oslo")
    assert asked() == []
    assert tree(instrumented) == ["invoke_agent report", "  execute_tool get_weather", "    run_guardrail never"]
    for name in ("execute_tool get_weather", "invoke_agent report"):
        assert named(instrumented, name).status.description == "guardrail 'never' refused the call: not get_weather"


@each_way
def test_a_refusal_that_answers_is_told_to_the_model_of_an_agent(
    instrumented: Capture, server: ModelServer, tmp_path: Path, run: Way
) -> None:
    @guardrail(kinds=["tool"], answers=True)
    def not_today(call: Any) -> str:
        return "not today"

    with use(not_today):
        told = run(written(tmp_path, CALLER, server))
    assert told == "I was told: guardrail 'not_today' refused the call: not today"
    assert asked() == []


@each_way
def test_policy_runs_once_for_a_tool_of_an_agent_and_once_for_each_model_call(
    instrumented: Capture, server: ModelServer, tmp_path: Path, run: Way
) -> None:
    seen: list[str] = []

    @guardrail
    def watches(call: Any) -> None:
        seen.append(call.kind)

    with use(watches):
        run(written(tmp_path, CALLER, server))
    assert seen == ["llm", "tool", "llm"]


@each_way
def test_rewritten_arguments_reach_the_function(instrumented: Capture, tmp_path: Path, run: Way) -> None:
    @request_intercept(kinds=["tool"])
    def elsewhere(call: Any) -> Any:
        return replace(call.request, arguments="Rome")

    with use(elsewhere):
        assert run(written(tmp_path, PLAIN, None), "Oslo") == "Report: sunny in Rome"
    assert asked() == ["Rome"]
    assert attributes(instrumented, "execute_tool get_weather")["gen_ai.tool.call.arguments"] == "Rome"


@each_way
def test_rewritten_parameters_reach_the_model(
    instrumented: Capture, server: ModelServer, tmp_path: Path, run: Way
) -> None:
    @request_intercept(kinds=["llm"])
    def cooler(call: Any) -> Any:
        call.request.parameters["temperature"] = 0.25
        return call.request

    with use(cooler):
        assert run(written(tmp_path, CALLER, server)) == "I was told: sunny in Rome"
    assert [request.get("temperature") for request in server.requests] == [0.25, 0.25]


@each_way
def test_policy_may_answer_for_a_function_and_for_a_run(instrumented: Capture, tmp_path: Path, run: Way) -> None:
    @execution_intercept(kinds=["tool"])
    def remembers(call: Any) -> Any:
        return ToolResult("from memory")
        yield

    @execution_intercept(kinds=["agent"])
    def knows(call: Any) -> Any:
        return AgentResult("known before")
        yield

    path = written(tmp_path, PLAIN, None)
    with use(remembers):
        assert run(path, "Oslo") == "Report: from memory"
    with use(knows):
        assert run(path, "Oslo") == "known before"
    assert asked() == []


def test_a_run_may_be_refused_and_its_input_rewritten(instrumented: Capture, tmp_path: Path) -> None:
    @guardrail(kinds=["agent"])
    def closed(call: Any) -> str:
        return f"no {call.request.name} of {call.request.input}"

    @request_intercept(kinds=["agent"])
    def elsewhere(call: Any) -> Any:
        return replace(call.request, input="Bergen")

    path = written(tmp_path, PLAIN, None)
    with use(closed), pytest.raises(GuardrailRejected, match="no report of Oslo"):
        awaited(path, "Oslo")
    with use(elsewhere):
        assert awaited(path, "Oslo") == "Report: sunny in Bergen"


def test_an_agent_below_a_tool_can_be_refused_by_its_name(
    instrumented: Capture, server: ModelServer, tmp_path: Path
) -> None:
    @guardrail(kinds=["tool"], answers=True)
    def no_men(call: Any) -> str | None:
        return "nobody there" if call.request.name == "weatherman" else None

    with use(no_men):
        told = awaited(written(tmp_path, TEAM, server), QUESTION)
    assert told == "I was told: guardrail 'no_men' refused the call: nobody there"
    assert asked() == []
