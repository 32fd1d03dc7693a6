"""Policy in runs of rails: around model calls and around tools, without a change to the rails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, use
from spanrelay.records import Message, Text, ToolResult
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, tree
from spanrelay_testkit.policy import in_force

pytest.importorskip("nemoguardrails", reason="set SPANRELAY_TEST_NEMO=1")

from .bots import COLANG, YAML, Way, bot, generated, generated_synchronously, streamed, talk

# What it says of itself; ours are errors, as everywhere.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:(nemoguardrails|pydantic)\b.*")

STOCK = "how many are left?"
POLICY = """
[plugins.policy]
models.deny = ["gpt-4*"]
tools.deny = ["count_*"]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(talk) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_asked(server: ModelServer) -> None:
    server.requests.clear()


@pytest.mark.parametrize("run", [generated, generated_synchronously])
def test_a_refused_model_call_is_raised_as_the_refusal_itself(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @guardrail(kinds=["llm"])
    def never(call: Any) -> str:
        return "not this model"

    with use(never), pytest.raises(GuardrailRejected, match="not this model"):
        run(bot(server), "hi")
    assert server.requests == []
    assert [line for line in tree(instrumented) if "chat" in line or "never" in line] == [
        "    chat gpt-5",
        "      run_guardrail never",
    ]
    assert not named(instrumented, "LLMRails.generate").status.is_ok


def test_a_stream_is_told_of_a_refusal_in_the_toolkits_words(instrumented: Capture, server: ModelServer) -> None:
    @guardrail(kinds=["llm"])
    def never(call: Any) -> str:
        return "not this model"

    with use(never):
        told = streamed(bot(server, YAML.partition("  output:")[0]), "hi")
    assert "not this model" in told
    assert server.requests == []
    assert "not this model" in (named(instrumented, "LLMRails.stream").status.description or "")


@pytest.mark.proves("nemo-guardrails", "policy")
@pytest.mark.parametrize("run", [generated, streamed])
def test_a_rewritten_request_is_what_goes_over_the_wire(instrumented: Capture, server: ModelServer, run: Way) -> None:
    @request_intercept(kinds=["llm"])
    def cheaper(call: Any) -> Any:
        return {**call.wire, "model": "gpt-5-mini", "temperature": 0.5}

    with use(cheaper):
        assert run(bot(server, YAML.partition("  output:")[0]), "hi") == "Hello, you."
    [request] = server.requests
    assert (request.model, request.get("temperature")) == ("gpt-5-mini", 0.5)
    assert named(instrumented, "chat gpt-5-mini")


@pytest.mark.parametrize("run", [generated, streamed])
def test_policy_may_answer_for_a_model_and_change_what_it_says(
    instrumented: Capture, server: ModelServer, run: Way
) -> None:
    @execution_intercept(kinds=["llm"], buffered=True)
    def shouts(call: Any) -> Any:
        response = yield call
        return replace(response.record, messages=[Message("assistant", [Text(response.record.text.upper())])])

    with use(shouts):
        assert run(bot(server, YAML.partition("  output:")[0]), "hi") == "HELLO, YOU."


def test_a_refused_tool_ends_the_run_with_the_refusal_itself(instrumented: Capture, server: ModelServer) -> None:
    @guardrail(kinds=["tool"])
    def never(call: Any) -> str:
        return f"not {call.request.name}"

    with use(never), pytest.raises(GuardrailRejected, match="not count_stock"):
        generated(bot(server, colang=COLANG), STOCK)
    assert named(instrumented, "execute_tool count_stock").status.description


def test_rewritten_arguments_reach_the_tool_and_answers_reach_the_dialog(
    instrumented: Capture, server: ModelServer
) -> None:
    @request_intercept(kinds=["tool"])
    def elsewhere(call: Any) -> Any:
        return replace(call.request, arguments={"thing": "a"})

    @execution_intercept(kinds=["tool"])
    def answers(call: Any) -> Any:
        return ToolResult(40)
        yield

    rails = bot(server, colang=COLANG)
    with use(elsewhere):
        assert generated(rails, STOCK) == "There are 1 left."
    with use(answers):
        assert generated(rails, STOCK) == "There are 40 left."


def test_rails_are_no_matter_of_policy(instrumented: Capture, server: ModelServer) -> None:
    seen: list[str] = []

    @guardrail
    def watches(call: Any) -> None:
        seen.append(call.kind)

    with use(watches):
        generated(bot(server), "hi")
    assert seen == ["llm"]


@pytest.mark.proves("nemo-guardrails", "policy")
def test_a_policy_file_refuses_a_tool_without_a_change_to_the_rails(
    instrumented: Capture, server: ModelServer, tmp_path: Path
) -> None:
    with in_force(tmp_path, POLICY), pytest.raises(GuardrailRejected, match="count_stock"):
        generated(bot(server, colang=COLANG), STOCK)
