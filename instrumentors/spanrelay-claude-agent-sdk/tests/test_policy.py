"""Policy around runs and tools of the real CLI: in force before a tool runs, on what hooks and permissions leave."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import claude_agent_sdk
import pytest
from claude_agent_sdk import ClaudeSDKClient, HookMatcher, PermissionResultAllow, ResultMessage

from spanrelay import GuardrailRejected, execution_intercept, guardrail, request_intercept, sanitizer, use
from spanrelay.errors import MiddlewareError
from spanrelay.records import AgentResult, ToolResult
from spanrelay_testkit.capture import Capture

from .provider import Asked, Block, Provider, text
from .provider import use as ask_for
from .ways import (
    QUESTION,
    WEATHER,
    Way,
    each_way,
    in_turns,
    named,
    of,
    queried,
    result_of,
    skies,
    stream_of,
    streamed,
    tree,
    weather_model,
)


def shell_model(asked: Asked) -> list[Block]:
    """Asks a shell and says what it was told."""
    if asked.results:
        return [text(f"I was told: {asked.results[-1]}")]
    return [ask_for("Bash", {"command": "echo original"}, "toolu_shell")]


@guardrail(kinds=["tool"])
def no_shell(call: Any) -> str | None:
    return "no shells" if call.request.name == "Bash" else None


@each_way
def test_a_refused_tool_does_not_run_and_the_model_is_told_why(
    instrumented: Capture, options: Any, run: Way, tmp_path: Path
) -> None:
    with Provider(shell_model) as provider, use(no_shell):
        result = result_of(run(QUESTION, options(provider)))
    assert "guardrail 'no_shell' refused the call: no shells" in result
    tool = named(instrumented, "execute_tool Bash")
    assert of(tool)["error.type"] == "spanrelay.errors.GuardrailRejected"
    assert of(named(instrumented, "run_guardrail no_shell"))["gen_ai.guardrail.verdict.type"] == "deny"
    assert named(instrumented, "run_guardrail no_shell").parent == tool.context
    assert named(instrumented, "invoke_agent claude").status.is_unset


@request_intercept(kinds=["tool"])
def quieter(call: Any) -> Any:
    if call.request.name == "Bash":
        return replace(call.request, arguments={"command": "echo rewritten"})
    return None


@each_way
def test_a_rewritten_argument_is_what_runs(instrumented: Capture, options: Any, run: Way) -> None:
    with Provider(shell_model) as provider, use(quieter):
        assert result_of(run(QUESTION, options(provider))) == "I was told: rewritten"
    assert of(named(instrumented, "execute_tool Bash"))["gen_ai.tool.call.arguments"] == '{"command":"echo rewritten"}'


def test_a_rewritten_argument_still_needs_permission(instrumented: Capture, options: Any, tmp_path: Path) -> None:
    asked: list[Any] = []

    async def permit(name: str, given: Any, context: Any) -> Any:
        asked.append((name, given))
        return claude_agent_sdk.PermissionResultDeny(message="not today")

    @request_intercept(kinds=["tool"])
    def elsewhere(call: Any) -> Any:
        return replace(call.request, arguments={"command": f"touch {tmp_path}/made"})

    with Provider(shell_model) as provider, use(elsewhere):
        result = result_of(queried(QUESTION, options(provider, permission_mode="default", can_use_tool=permit)))
    assert asked == [("Bash", {"command": f"touch {tmp_path}/made"})]
    assert "not today" in result
    assert not (tmp_path / "made").exists()


def test_policy_that_breaks_refuses(instrumented: Capture, options: Any) -> None:
    @guardrail(kinds=["tool"])
    def broken(call: Any) -> str | None:
        raise ValueError("broken policy")

    with Provider(shell_model) as provider, use(broken):
        assert "broken policy" in result_of(queried(QUESTION, options(provider)))


def test_arguments_that_are_no_object_refuse(instrumented: Capture, options: Any) -> None:
    @request_intercept(kinds=["tool"])
    def listing(call: Any) -> Any:
        return replace(call.request, arguments=["echo"])

    with Provider(shell_model) as provider, use(listing):
        assert "must be a dict, not 'list'" in result_of(queried(QUESTION, options(provider)))


def test_policy_may_wait(instrumented: Capture, options: Any) -> None:
    @guardrail(kinds=["tool"])
    async def slow(call: Any) -> str | None:
        await asyncio.sleep(0)
        return "after all"

    with Provider(shell_model) as provider, use(slow):
        assert "after all" in result_of(queried(QUESTION, options(provider)))


@each_way
def test_an_answer_of_policy_stands_in_the_tools_place(instrumented: Capture, options: Any, run: Way) -> None:
    @execution_intercept(kinds=["tool"])
    def hidden(call: Any) -> Any:
        yield call
        return ToolResult("[hidden]")

    with Provider(shell_model) as provider, use(hidden):
        assert result_of(run(QUESTION, options(provider))) == "I was told: [hidden]"
        assert "original" not in str(provider.asked[-1].results)


def test_an_answer_of_policy_without_the_tool_is_told_instead(instrumented: Capture, options: Any) -> None:
    @execution_intercept(kinds=["tool"])
    def cached(call: Any) -> Any:
        return ToolResult("from a cache")
        yield

    with Provider(shell_model) as provider, use(cached):
        assert "from a cache" in result_of(queried(QUESTION, options(provider)))


def test_what_a_tool_gave_is_kept_from_the_model_where_policy_refuses_it(instrumented: Capture, options: Any) -> None:
    @execution_intercept(kinds=["tool"])
    def judging(call: Any) -> Any:
        answer = yield call
        if "original" in str(answer.record.content):
            raise GuardrailRejected("not for the model", "judging")
        return answer

    with Provider(shell_model) as provider, use(judging):
        queried(QUESTION, options(provider))
        assert len(provider.asked) == 1, "the model is not asked again"
    assert of(named(instrumented, "execute_tool Bash"))["error.type"] == "spanrelay.errors.GuardrailRejected"


def test_an_answer_that_the_cli_would_ignore_ends_the_run(instrumented: Capture, options: Any) -> None:
    @execution_intercept(kinds=["tool"])
    def odd(call: Any) -> Any:
        yield call
        return ToolResult(["odd"])

    with Provider(shell_model) as provider, use(odd):
        queried(QUESTION, options(provider))
        assert len(provider.asked) == 1


def test_a_tool_is_run_once(instrumented: Capture, options: Any) -> None:
    @execution_intercept(kinds=["tool"])
    def twice(call: Any) -> Any:
        yield call
        return (yield call)

    with Provider(shell_model) as provider, use(twice):
        queried(QUESTION, options(provider))
        assert len(provider.asked) == 1
    assert "cannot send it again" in str(named(instrumented, "execute_tool Bash").status.description)


SWITCHED_OFF: list[dict[str, Any]] = [{"extra_args": {"bare": None}}, {"env": {"CLAUDE_CODE_SIMPLE": "1"}}]


@pytest.mark.parametrize("switch", SWITCHED_OFF, ids=["--bare", "CLAUDE_CODE_SIMPLE"])
@each_way
def test_a_cli_that_calls_no_hooks_does_not_get_to_run_tools_under_policy(
    instrumented: Capture, options: Any, run: Way, switch: dict[str, Any], caplog: Any, tmp_path: Path
) -> None:
    def touching(asked: Asked) -> list[Block]:
        return [text("Done.")] if asked.results else [ask_for("Bash", {"command": f"touch {tmp_path}/made"})]

    with Provider(touching) as provider, use(no_shell):
        with pytest.raises(MiddlewareError, match="calls no hooks in this session"):
            run(QUESTION, options(provider, **switch))
        assert not (tmp_path / "made").exists()
    caplog.clear()  # the SDK's own complaint


def test_a_cli_that_calls_no_hooks_is_recorded_without_policy(instrumented: Capture, options: Any) -> None:
    with Provider(shell_model) as provider:
        assert "original" in result_of(queried(QUESTION, options(provider, extra_args={"bare": None})))
    assert [line.strip().split()[0] for line in tree(instrumented)] == ["invoke_agent", "chat", "execute_tool", "chat"]


# --- the application's own hooks and permissions ---


def hook(*answers: Any) -> Any:
    """A hook of the application's that says where it was called, and answers."""
    said = list(answers)

    async def called(given: Any, tool_use_id: str | None, context: Any) -> Any:
        return said[0]

    return called


def rewriting(command: str) -> dict[str, Any]:
    return {"hookSpecificOutput": {"hookEventName": "PreToolUse", "updatedInput": {"command": command}}}


def test_hooks_of_the_application_keep_working_in_their_order_and_are_not_touched(
    instrumented: Capture, options: Any
) -> None:
    called: list[str] = []

    def noting(name: str) -> Any:
        async def note(given: Any, tool_use_id: str | None, context: Any) -> Any:
            from opentelemetry import trace

            called.append(f"{name} {trace.get_current_span().name}")  # type: ignore[attr-defined]
            return {}

        return note

    matchers = {
        "PreToolUse": [HookMatcher(matcher="Bash", hooks=[noting("first"), noting("second")]), HookMatcher("Read", [])],
        "PostToolUse": [HookMatcher(hooks=[noting("after")])],
        "Stop": [HookMatcher(hooks=[noting("stop")])],
    }
    before = {event: list(each) for event, each in matchers.items()}
    with Provider(shell_model) as provider:
        mine = options(provider, hooks=matchers)
        assert result_of(queried(QUESTION, mine)) == "I was told: original"
    assert called == [
        "first execute_tool Bash",
        "second execute_tool Bash",
        "after execute_tool Bash",
        "stop invoke_agent claude",
    ]
    assert mine.hooks is matchers and matchers == before
    assert mine.include_partial_messages is False


def test_what_a_hook_rewrites_is_what_runs(instrumented: Capture, options: Any) -> None:
    hooks = {"PreToolUse": [HookMatcher(hooks=[hook(rewriting("echo hooked"))])]}
    with Provider(shell_model) as provider:
        assert result_of(queried(QUESTION, options(provider, hooks=hooks))) == "I was told: hooked"
    assert "echo hooked" in of(named(instrumented, "execute_tool Bash"))["gen_ai.tool.call.arguments"]


@guardrail(kinds=["tool"])
def no_evil(call: Any) -> str | None:
    return "evil" if "evil" in str(call.request.arguments) else None


def test_policy_judges_what_a_hook_rewrites(instrumented: Capture, options: Any) -> None:
    hooks = {"PreToolUse": [HookMatcher(hooks=[hook(rewriting("echo evil"))])]}
    with Provider(shell_model) as provider, use(no_evil):
        assert "refused the call: evil" in result_of(queried(QUESTION, options(provider, hooks=hooks)))


def test_policy_rewrites_what_a_hook_rewrites(instrumented: Capture, options: Any) -> None:
    @request_intercept(kinds=["tool"])
    def louder(call: Any) -> Any:
        return replace(call.request, arguments={"command": f"{call.request.arguments['command']} loud"})

    hooks = {"PreToolUse": [HookMatcher(hooks=[hook(rewriting("echo hooked"))])]}
    with Provider(shell_model) as provider, use(louder):
        assert result_of(queried(QUESTION, options(provider, hooks=hooks))) == "I was told: hooked loud"


@pytest.mark.parametrize("wanted", ["echo evil", "echo good"])
def test_policy_judges_what_a_permission_rewrites(instrumented: Capture, options: Any, wanted: str) -> None:
    async def permit(name: str, given: Any, context: Any) -> Any:
        return PermissionResultAllow(updated_input={"command": wanted})

    def touching(asked: Asked) -> list[Block]:
        if asked.results:
            return [text(f"I was told: {asked.results[-1]}")]
        return [ask_for("Bash", {"command": "touch it"}, "toolu_shell")]

    with Provider(touching) as provider, use(no_evil):
        result = result_of(queried(QUESTION, options(provider, permission_mode="default", can_use_tool=permit)))
    assert ("refused the call: evil" in result) if "evil" in wanted else (result == "I was told: good")


# --- runs ---


@guardrail(kinds=["agent"])
def no_gossip(call: Any) -> str | None:
    return "gossip" if "gossip" in str(call.request.input) else None


@each_way
def test_a_refused_run_reaches_nobody(instrumented: Capture, options: Any, run: Way) -> None:
    with Provider(weather_model) as provider, use(no_gossip):
        with pytest.raises(GuardrailRejected, match="gossip"):
            run("some gossip", options(provider))
        assert provider.asked == []
    assert named(instrumented, "invoke_agent claude").status.is_unset is False


@each_way
def test_a_rewritten_prompt_is_what_the_model_is_asked(instrumented: Capture, options: Any, run: Way) -> None:
    @request_intercept(kinds=["agent"])
    def politer(call: Any) -> Any:
        return replace(call.request, input=f"{call.request.input} Please.") if call.request.input else None

    with Provider(lambda asked: [text("Yes.")]) as provider, use(politer):
        run("Say yes.", options(provider))
        assert provider.asked[-1].says("Say yes. Please.")
    assert of(named(instrumented, "invoke_agent claude"))["input.value"] == "Say yes. Please."


def test_a_later_prompt_of_a_stream_is_judged_too(instrumented: Capture, options: Any) -> None:
    with Provider(lambda asked: [text("Yes.")]) as provider, use(no_gossip):
        with pytest.raises(GuardrailRejected, match="gossip"):
            queried(stream_of("Say yes.", "Now gossip."), options(provider))
        assert not any(asked.says("Now gossip.") for asked in provider.asked)


def test_policy_for_runs_is_never_asked_about_no_prompt(instrumented: Capture, options: Any) -> None:
    seen: list[Any] = []

    @guardrail(kinds=["agent"])
    def noting(call: Any) -> str | None:
        seen.append(call.request.input)
        return None

    with Provider(lambda asked: [text("Yes.")]) as provider, use(noting):
        queried(stream_of("One.", "Two."), options(provider))
    assert seen == ["One.", "Two."]
    assert of(named(instrumented, "invoke_agent claude"))["input.value"] == '["One.","Two."]'


def test_a_later_turn_is_judged_and_the_client_goes_on(instrumented: Capture, options: Any) -> None:
    async def turns(provider: Provider) -> list[Any]:
        said: list[Any] = []
        async with ClaudeSDKClient(options(provider)) as client:
            for prompt in ("Say yes.", "Now gossip.", "Say yes again."):
                try:
                    await client.query(prompt)
                except GuardrailRejected as refusal:
                    said.append(refusal.reason)
                    continue
                said += [message.result async for message in client.receive_response() if _is_result(message)]
        return said

    with Provider(lambda asked: [text("Yes.")]) as provider, use(no_gossip):
        assert asyncio.run(turns(provider)) == ["Yes.", "gossip", "Yes."]
    assert [line for line in tree(instrumented) if "agent" in line] == ["invoke_agent claude"] * 3


def _is_result(message: Any) -> bool:
    return isinstance(message, ResultMessage)


def test_an_answer_of_policy_is_what_a_query_says(instrumented: Capture, options: Any) -> None:
    @execution_intercept(kinds=["agent"])
    def cached(call: Any) -> Any:
        return AgentResult("From a cache.")
        yield

    with Provider(weather_model) as provider, use(cached):
        assert result_of(queried(QUESTION, options(provider))) == "From a cache."
        assert provider.asked == []
    assert of(named(instrumented, "invoke_agent claude"))["output.value"] == "From a cache."


def test_an_answer_of_policy_is_none_for_a_client(instrumented: Capture, options: Any) -> None:
    @execution_intercept(kinds=["agent"])
    def cached(call: Any) -> Any:
        return AgentResult("From a cache.")
        yield

    with Provider(weather_model) as provider, use(cached), pytest.raises(MiddlewareError, match="only refuse it"):
        in_turns(QUESTION, options(provider))


def test_how_a_run_ended_cannot_be_changed(instrumented: Capture, options: Any) -> None:
    @execution_intercept(kinds=["agent"])
    def embellished(call: Any) -> Any:
        yield call
        return AgentResult("Better.")

    refused = pytest.raises(MiddlewareError, match="not change how it ended")
    with Provider(lambda asked: [text("Yes.")]) as provider, use(embellished), refused:
        queried(QUESTION, options(provider))


def test_policy_around_a_run_sees_how_it_ended(instrumented: Capture, options: Any) -> None:
    seen: list[Any] = []

    @execution_intercept(kinds=["agent"])
    def watching(call: Any) -> Any:
        seen.append((yield call).record.content)

    with Provider(lambda asked: [text("Yes.")]) as provider, use(watching):
        queried(QUESTION, options(provider))
        in_turns(QUESTION, options(provider))
        streamed(QUESTION, options(provider))
    assert seen == ["Yes.", "Yes."], "of a stream of prompts there is no one answer"


def test_sanitizers_change_what_is_recorded_and_nothing_else(instrumented: Capture, options: Any) -> None:
    @sanitizer(fields=["arguments", "result"], kinds=["tool"])
    def secret(field: Any) -> Any:
        return "***"

    with Provider(weather_model) as provider, use(secret):
        assert result_of(queried(QUESTION, options(provider, mcp_servers=skies()))) == "I was told: sunny in Rome"
        tool = of(named(instrumented, f"execute_tool {WEATHER}"))
    assert (tool["gen_ai.tool.call.arguments"], tool["gen_ai.tool.call.result"]) == ("***", "***")
