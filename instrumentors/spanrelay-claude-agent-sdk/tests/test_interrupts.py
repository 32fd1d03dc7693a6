"""Interrupts, permissions, errors of the provider, and turns: what is a mark, what an error, and what goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from claude_agent_sdk import (
    ClaudeSDKClient,
    PermissionResultAllow,
    PermissionResultDeny,
    ResultError,
    ResultMessage,
    StreamEvent,
    SystemMessage,
)

from spanrelay_testkit.capture import Capture, asked, said

from .provider import Asked, Block, Provider, text, use
from .ways import QUESTION, in_turns, named, of, queried, result_of, skies, traces, tree, weather_model


def shell_model(asked: Asked) -> list[Block]:
    """Asks a shell and says what it was told."""
    return [text("Done.")] if asked.results else [use("Bash", {"command": "touch it"}, "toolu_shell")]


def events_of(capture: Capture, name: str) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.attributes or {})) for event in named(capture, name).events]


@pytest.mark.proves("claude-agent-sdk", "interrupts")
@pytest.mark.parametrize("allowed", [True, False])
def test_a_permission_is_a_mark(instrumented: Capture, options: Any, allowed: bool) -> None:
    seen: list[str] = []

    async def permit(name: str, given: Any, context: Any) -> Any:
        from opentelemetry import trace

        seen.append(trace.get_current_span().name)  # type: ignore[attr-defined]
        return PermissionResultAllow() if allowed else PermissionResultDeny(message="not today")

    with Provider(shell_model) as provider:
        queried(QUESTION, options(provider, permission_mode="default", can_use_tool=permit))
    assert seen == ["execute_tool Bash"]
    [(name, known)] = events_of(instrumented, "invoke_agent claude")
    assert name == "claude_agent_sdk.permission"
    assert known == {
        "claude_agent_sdk.permission.tool": "Bash",
        "claude_agent_sdk.permission.call_id": "toolu_shell",
        "claude_agent_sdk.permission.decision": "allow" if allowed else "deny",
    }
    tool = named(instrumented, "execute_tool Bash")
    assert tool.status.is_unset is allowed
    assert ("not today" in of(tool)["gen_ai.tool.call.result"]) is not allowed
    assert named(instrumented, "invoke_agent claude").status.is_unset


@pytest.mark.proves("claude-agent-sdk", "interrupts")
def test_an_interrupted_turn_has_not_failed_and_the_next_one_goes_on(instrumented: Capture, options: Any) -> None:
    async def turns(provider: Provider) -> list[Any]:
        async with ClaudeSDKClient(options(provider, model="claude-opus-5-5")) as client:
            await client.query("First.")
            await asyncio.to_thread(provider.waiting.wait)
            await client.interrupt()
            first = [message async for message in client.receive_response()]
            assert provider.hold is not None
            provider.hold.set()
            await client.query("Second.")
            return first + [message async for message in client.receive_response()]

    import threading

    with Provider(lambda asked: [text("Here I am.")]) as provider:
        provider.hold = threading.Event()
        results = [one.subtype for one in asyncio.run(turns(provider)) if isinstance(one, ResultMessage)]
    assert results == ["error_during_execution", "success"]
    assert tree(instrumented) == ["invoke_agent claude", "  chat claude-opus-5-5"] * 2
    assert traces(instrumented) == 2
    first, second = sorted(instrumented.of("AGENT"), key=lambda span: span.start_time or 0)
    assert [event.name for event in first.events] == ["claude_agent_sdk.interrupt"]
    assert first.status.is_unset and second.status.is_unset
    assert of(first)["spanrelay.incomplete"] == "cancelled"
    assert "spanrelay.incomplete" not in of(second)
    assert of(first)["gen_ai.conversation.id"] == of(second)["gen_ai.conversation.id"]
    broken, whole = sorted(instrumented.of("LLM"), key=lambda span: span.start_time or 0)
    assert of(broken)["spanrelay.incomplete"] == "cancelled"
    assert (said(whole), of(whole)["gen_ai.usage.output_tokens"]) == ("Here I am.", 7)


@pytest.mark.proves("claude-agent-sdk", "sessions")
def test_turns_of_a_client_are_a_trace_each_with_one_conversation(instrumented: Capture, options: Any) -> None:
    async def turns(provider: Provider) -> None:
        async with ClaudeSDKClient(options(provider, model="claude-opus-5-5")) as client:
            for prompt in ("One.", "Two.", "Three."):
                await client.query(prompt)
                async for _ in client.receive_response():
                    pass

    with Provider(lambda asked: [text("Yes.")]) as provider:
        asyncio.run(turns(provider))
    assert tree(instrumented) == ["invoke_agent claude", "  chat claude-opus-5-5"] * 3
    assert traces(instrumented) == 3
    assert len({of(span)["gen_ai.conversation.id"] for span in instrumented.spans}) == 1
    assert [of(span)["input.value"] for span in instrumented.of("AGENT")] == ["One.", "Two.", "Three."]
    assert [asked(span) for span in instrumented.of("LLM")] == ["One.", "One.Yes.Two.", "One.Yes.Two.Yes.Three."]
    costs = [of(span)["claude_agent_sdk.total_cost_usd"] for span in instrumented.of("AGENT")]
    assert costs == pytest.approx([costs[0]] * 3), "each turn has its own cost, not the session's"


def test_a_prompt_that_connects_is_the_first_turn(instrumented: Capture, options: Any) -> None:
    async def connected(provider: Provider) -> None:
        client = ClaudeSDKClient(options(provider))
        await client.connect("Hello.")
        async for _ in client.receive_response():
            pass
        await client.disconnect()

    with Provider(lambda asked: [text("Yes.")]) as provider:
        asyncio.run(connected(provider))
    assert of(named(instrumented, "invoke_agent claude"))["input.value"] == "Hello."


def test_prompts_that_come_amid_a_turn_are_all_recorded(instrumented: Capture, options: Any) -> None:
    def counting(asked: Asked) -> list[Block]:
        return [text("Done." if asked.says("Second.") else "Wait.")]

    async def turns(provider: Provider) -> None:
        async with ClaudeSDKClient(options(provider, model="claude-opus-5-5")) as client:
            await client.query("First.")
            await client.query("Second.")
            async for message in client.receive_messages():
                if isinstance(message, ResultMessage) and message.result == "Done.":
                    return

    with Provider(counting) as provider:
        asyncio.run(turns(provider))
    last = sorted(instrumented.of("LLM"), key=lambda span: span.start_time or 0)[-1]
    assert said(last) == "Done."
    assert asked(last).count("First.") == asked(last).count("Second.") == 1
    assert not any(span.status.description for span in instrumented.spans)


def test_turns_below_a_span_of_the_application_are_in_its_trace(instrumented: Capture, options: Any) -> None:
    with Provider(lambda asked: [text("Yes.")]) as provider, instrumented.tracer().start_as_current_span("outer"):
        in_turns("Hello.", options(provider, model="claude-opus-5-5"))
    assert tree(instrumented) == ["outer", "  invoke_agent claude", "    chat claude-opus-5-5"]


@pytest.mark.proves("claude-agent-sdk", "streaming")
@pytest.mark.parametrize("partial", [True, False])
def test_partial_messages_change_nothing_and_come_only_when_asked_for(
    instrumented: Capture, options: Any, partial: bool
) -> None:
    with Provider(weather_model) as provider:
        mine = options(provider, mcp_servers=skies(), model="claude-opus-5-5", include_partial_messages=partial)
        messages = queried(QUESTION, mine)
    partials = [one for one in messages if isinstance(one, StreamEvent)]
    requesting = [one for one in messages if isinstance(one, SystemMessage) and one.subtype == "status"]
    assert (bool(partials), bool(requesting)) == (partial, partial)
    assert result_of(messages) == "I was told: sunny in Rome"
    assert len(instrumented.of("LLM")) == 2
    for span in instrumented.of("LLM"):
        assert of(span)["gen_ai.usage.output_tokens"] == 7
        assert of(span)["gen_ai.usage.input_tokens"] == 20
        assert of(span)["gen_ai.response.time_to_first_chunk"] > 0
    run = of(named(instrumented, "invoke_agent claude"))
    assert run["claude_agent_sdk.usage.output_tokens"] == 14


def test_a_provider_that_fails_fails_the_call_and_the_run(instrumented: Capture, options: Any) -> None:
    with Provider(lambda asked: 400) as provider, pytest.raises(ResultError) as raised:
        queried(QUESTION, options(provider, model="claude-opus-5-5"))
    assert tree(instrumented) == ["invoke_agent claude", "  chat claude-opus-5-5"]
    [call] = instrumented.of("LLM")
    assert not call.status.is_unset
    run = named(instrumented, "invoke_agent claude")
    assert run.status.description == str(raised.value)


def test_too_many_turns_end_the_run_with_the_sdks_error(instrumented: Capture, options: Any) -> None:
    with Provider(shell_model) as provider, pytest.raises(ResultError):
        queried(QUESTION, options(provider, max_turns=1))
    run = named(instrumented, "invoke_agent claude")
    assert of(run)["claude_agent_sdk.result"] == "error_max_turns"
    assert not run.status.is_unset


def test_a_failed_turn_of_a_client_is_an_error_and_the_next_one_is_none(instrumented: Capture, options: Any) -> None:
    async def turns(provider: Provider) -> None:
        async with ClaudeSDKClient(options(provider)) as client:
            for prompt in ("Fail.", "Go on."):
                await client.query(prompt)
                async for _ in client.receive_response():
                    pass

    with Provider(lambda asked: [text("Yes.")] if asked.says("Go on.") else 400) as provider:
        asyncio.run(turns(provider))
    first, second = sorted(instrumented.of("AGENT"), key=lambda span: span.start_time or 0)
    assert (first.status.is_unset, second.status.is_unset) == (False, True)
