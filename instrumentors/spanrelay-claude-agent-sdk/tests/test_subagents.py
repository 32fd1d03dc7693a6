"""Agents that the main one delegates to, in the foreground and in the background: each a span beneath its tool."""

from __future__ import annotations

from typing import Any

import pytest
from claude_agent_sdk import AgentDefinition

from spanrelay_testkit.capture import Capture, said

from .provider import Asked, Block, Provider, text, use
from .ways import Way, each_way, named, of, result_of, traces, tree

HELPER = {"helper": AgentDefinition(description="Knows the weather.", prompt="You are the helper.", tools=["Bash"])}


def delegating(background: bool) -> Any:
    """A model that delegates, and as the helper asks a shell."""

    def script(asked: Asked) -> list[Block]:
        if "You are the helper." in asked.system:
            return [text("It is sunny.")] if asked.results else [use("Bash", {"command": "echo sun"}, "toolu_shell")]
        if asked.results:
            return [text("The helper is done." if asked.says("It is sunny.") or not background else "Wait.")]
        order = {
            "description": "weather",
            "prompt": "Rome?",
            "subagent_type": "helper",
            "run_in_background": background,
        }
        return [use("Agent", order, "toolu_agent")]

    return script


BELOW = [
    "    invoke_agent helper",
    "      chat claude-opus-5-5",
    "      execute_tool Bash",
    "      chat claude-opus-5-5",
]


@each_way
@pytest.mark.proves("claude-agent-sdk", "sub-agents")
def test_a_sub_agent_is_beneath_its_tool(instrumented: Capture, options: Any, run: Way) -> None:
    with Provider(delegating(background=False)) as provider:
        messages = run("Ask the helper.", options(provider, agents=HELPER, model="claude-opus-5-5"))
    assert result_of(messages) == "The helper is done."
    assert tree(instrumented) == [
        "invoke_agent claude",
        "  chat claude-opus-5-5",
        "  execute_tool Agent",
        *BELOW,
        "  chat claude-opus-5-5",
    ]
    assert traces(instrumented) == 1
    helper = of(named(instrumented, "invoke_agent helper"))
    assert (helper["input.value"], helper["output.value"]) == ("Rome?", "It is sunny.")
    assert "You are the helper." in helper["gen_ai.system_instructions"]
    assert [said(span) for span in instrumented.of("LLM")] == ["", "", "It is sunny.", "The helper is done."]


def test_one_in_the_background_goes_on_beneath_its_tool(instrumented: Capture, options: Any) -> None:
    from .ways import queried

    with Provider(delegating(background=True)) as provider:
        queried("Ask the helper.", options(provider, agents=HELPER, model="claude-opus-5-5"))
    lines = tree(instrumented)
    assert lines[:3] == ["invoke_agent claude", "  chat claude-opus-5-5", "  execute_tool Agent"]
    assert lines[3:7] == BELOW
    assert set(lines[7:]) == {"  chat claude-opus-5-5"}
    assert traces(instrumented) == 1
