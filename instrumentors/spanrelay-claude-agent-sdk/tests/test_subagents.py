"""Agents that the main one delegates to, in the foreground and in the background: each a span beneath its tool."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from claude_agent_sdk import AgentDefinition, ClaudeSDKClient, ResultMessage

import spanrelay
from spanrelay import guardrail
from spanrelay_testkit.capture import Capture, said

from .provider import Asked, Block, Provider, text, use
from .transport import SESSION, Ask, Script, assistant, init, result, told
from .ways import Way, each_way, named, of, queried, result_of, traces, tree

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
    assert helper["claude_agent_sdk.usage.total_tokens"] > 0
    assert [said(span) for span in instrumented.of("LLM")] == ["", "", "It is sunny.", "The helper is done."]


def test_one_in_the_background_goes_on_beneath_its_tool(instrumented: Capture, options: Any) -> None:
    with Provider(delegating(background=True)) as provider:
        queried("Ask the helper.", options(provider, agents=HELPER, model="claude-opus-5-5"))
    lines = tree(instrumented)
    assert lines[:3] == ["invoke_agent claude", "  chat claude-opus-5-5", "  execute_tool Agent"]
    assert lines[3:7] == BELOW
    assert set(lines[7:]) == {"  chat claude-opus-5-5"}
    assert traces(instrumented) == 1


def test_policy_holds_in_a_sub_agent(instrumented: Capture, options: Any) -> None:
    @guardrail(kinds=["tool"])
    def no_shell(call: Any) -> str | None:
        return "no shells" if call.request.name == "Bash" else None

    with Provider(delegating(background=False)) as provider, spanrelay.use(no_shell):
        queried("Ask the helper.", options(provider, agents=HELPER))
        told = [asked.results for asked in provider.asked if "You are the helper." in asked.system]
    assert "refused the call: no shells" in str(told[-1])


def test_one_in_the_background_of_a_client_outlives_the_turn_that_began_it(instrumented: Capture, options: Any) -> None:
    async def turns(provider: Provider) -> list[Any]:
        async with ClaudeSDKClient(options(provider, agents=HELPER, model="claude-opus-5-5")) as client:
            await client.query("Ask the helper.")
            said: list[Any] = []
            async for message in client.receive_messages():
                said += [message.result] if isinstance(message, ResultMessage) else []
                if said[-1:] == ["The helper is done."]:
                    return said
        return []

    with Provider(delegating(background=True)) as provider:
        assert asyncio.run(turns(provider))[-1] == "The helper is done."
    lines = tree(instrumented)
    assert lines[:3] == ["invoke_agent claude", "  chat claude-opus-5-5", "  execute_tool Agent"]
    assert lines[3:7] == BELOW
    assert len({of(span)["gen_ai.conversation.id"] for span in instrumented.spans}) == 1
    assert [line for line in lines if "agent" in line].count("invoke_agent claude") == len(instrumented.of("AGENT")) - 1


@pytest.mark.parametrize("forwarded", [True, False])
def test_words_that_the_cli_passes_on_are_not_said_twice(instrumented: Capture, options: Any, forwarded: bool) -> None:
    with Provider(delegating(background=False)) as provider:
        queried("Ask the helper.", options(provider, agents=HELPER, forward_subagent_text=forwarded))
    assert [said(span) for span in instrumented.of("LLM")] == ["", "", "It is sunny.", "The helper is done."]


@pytest.mark.parametrize("status", ["killed", "completed"])
def test_one_that_is_stopped_says_so(instrumented: Capture, status: str) -> None:
    call = {
        "type": "tool_use",
        "id": "toolu_a",
        "name": "Agent",
        "input": {"prompt": "Rome?", "subagent_type": "helper"},
    }
    given = {"tool_name": "Agent", "tool_input": call["input"], "tool_use_id": "toolu_a"}
    task = {"type": "system", "task_id": "t1", "uuid": "u", "session_id": SESSION}
    steps = (
        init(),
        assistant(call),
        Ask("PreToolUse", **given),
        {**task, "subtype": "task_started", "task_type": "local_agent", "tool_use_id": "toolu_a", "description": "d"},
        Ask("PostToolUse", **given, tool_response={"isAsync": True}),
        told("toolu_a", "launched") | {"tool_use_result": {"isAsync": True}},
        {**task, "subtype": "task_updated", "patch": {"status": status}},
        result(),
    )
    queried("Ask the helper.", None, transport=Script(*steps))
    helper = of(named(instrumented, "invoke_agent helper"))
    assert helper["spanrelay.incomplete"] == "cancelled", "stopped, or cut off by the end of the session"
    assert helper["input.value"] == "Rome?"


def test_one_beneath_another_is_beneath_its_tool(instrumented: Capture, options: Any) -> None:
    def script(asked: Asked) -> list[Block]:
        outer = {"description": "outer", "prompt": "Ask on.", "subagent_type": "helper", "run_in_background": False}
        if "You are the helper." not in asked.system:
            return [text("All done.")] if asked.results else [use("Agent", outer, "toolu_outer")]
        if asked.results:
            return [text("Asked." if asked.says("Ask on.") else "It is sunny.")]
        if asked.says("Ask on."):
            return [use("Agent", {**outer, "prompt": "Rome?"}, "toolu_inner")]
        return [use("Bash", {"command": "echo sun"}, "toolu_shell")]

    helper = {"helper": AgentDefinition(description="Helps.", prompt="You are the helper.", tools=["Bash", "Agent"])}
    with Provider(script) as provider:
        queried("Ask the helper.", options(provider, agents=helper, model="claude-opus-5-5"))
    assert tree(instrumented) == [
        "invoke_agent claude",
        "  chat claude-opus-5-5",
        "  execute_tool Agent",
        "    invoke_agent helper",
        "      chat claude-opus-5-5",
        "      execute_tool Agent",
        "        invoke_agent helper",
        "          execute_tool Bash",  # of one so deep the CLI passes on no messages
        "          chat claude-opus-5-5",
        "      chat claude-opus-5-5",
        "  chat claude-opus-5-5",
    ]
    words = [of(span).get("output.value") for span in instrumented.of("AGENT")]
    assert words == ["It is sunny.", "Asked.", "All done."]
