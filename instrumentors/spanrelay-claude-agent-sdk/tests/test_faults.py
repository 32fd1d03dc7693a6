"""What goes wrong in runs: nothing stays open or current, nothing is said twice, and the error is where it happened."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import claude_agent_sdk
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, CLIConnectionError, ProcessError
from opentelemetry.context import get_current

from spanrelay import execution_intercept, guardrail, use
from spanrelay_testkit.capture import Capture, said

from .provider import Provider, text
from .transport import SESSION, Ask, Script, assistant, init, result, told
from .ways import QUESTION, named, of, queried, traces, tree, weather_model

PRE = {"tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "toolu_1"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}}
PROMPTED = Ask("UserPromptSubmit", prompt=QUESTION)
TOOL = (PROMPTED, init(), assistant(CALL), Ask("PreToolUse", **PRE))


def run(*steps: Any, **more: Any) -> list[Any]:
    return queried(QUESTION, more.pop("options", None), transport=Script(*steps), **more)


def incomplete(capture: Capture, name: str) -> Any:
    return of(named(capture, name)).get("spanrelay.incomplete")


def test_a_cli_that_dies_ends_everything_and_its_error_is_unchanged(instrumented: Capture, caplog: Any) -> None:
    died = ProcessError("it died", exit_code=9)
    with pytest.raises(ProcessError) as raised:
        run(*TOOL, died)
    assert raised.value is died
    caplog.clear()  # the SDK's own complaint
    assert tree(instrumented) == ["invoke_agent claude", "  chat claude-test", "  execute_tool Bash"]
    assert named(instrumented, "invoke_agent claude").status.description == str(died)
    assert incomplete(instrumented, "execute_tool Bash") == "cancelled"


def test_a_message_that_is_none_ends_the_run_as_the_sdk_ends_it(instrumented: Capture) -> None:
    broken = {"type": "assistant", "message": {"content": "no list"}}
    with pytest.raises(
        claude_agent_sdk.MessageParseError if hasattr(claude_agent_sdk, "MessageParseError") else Exception
    ):
        run(init(), broken, result())
    assert not named(instrumented, "invoke_agent claude").status.is_unset


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "new_kind_of_message", "x": 1},
        {"type": "system", "subtype": "task_started", "task_id": "t", "task_type": "local_agent"}
        | {"description": "d", "uuid": "u", "session_id": SESSION},
        {"type": "system", "subtype": "compact_boundary", "compact_metadata": {"trigger": "auto", "pre_tokens": 9}},
        {"type": "stream_event", "event": {"type": "content_block_delta"}, "uuid": "u", "session_id": SESSION},
        {"type": "stream_event", "event": {"type": "message_start"}, "uuid": "u", "session_id": SESSION},
        told("toolu_unknown", "nobody asked"),
        assistant({"type": "new_block", "x": 1}),
        assistant(message_id="msg_9", parent_tool_use_id="toolu_unknown"),
    ],
    ids=lambda odd: odd.get("subtype") or odd["type"],
)
def test_messages_of_a_newer_cli_break_nothing(instrumented: Capture, odd: Any) -> None:
    messages = run(init(), odd, assistant({"type": "text", "text": "Done."}, message_id="msg_2"), result())
    assert messages[-1].result == "Done."
    assert of(named(instrumented, "invoke_agent claude"))["output.value"] == "Done."


def test_pieces_of_one_message_are_one_call_whose_usage_counts_once(instrumented: Capture) -> None:
    pieces = [assistant({"type": "text", "text": one}) for one in ("One. ", "Two. ", "Three.")]
    run(init(), *pieces, result())
    [call] = instrumented.of("LLM")
    assert said(call) == "One. Two. Three."
    assert of(call)["gen_ai.usage.input_tokens"] == 17
    assert "gen_ai.usage.output_tokens" not in of(call), "what a message that begins says of its output is no count"


def test_a_run_that_is_left_is_closed(instrumented: Capture) -> None:
    async def leave() -> bool:
        transport = Script(*TOOL, told("toolu_1", "files"), result())
        messages: Any = claude_agent_sdk.query(prompt=QUESTION, transport=transport)
        async for _ in messages:
            break
        await messages.aclose()
        del messages
        while not instrumented.of("AGENT"):  # the SDK leaves that to the event loop
            await asyncio.sleep(0)
        return transport.closed

    assert asyncio.run(leave())
    assert incomplete(instrumented, "invoke_agent claude") == "closed"
    assert named(instrumented, "invoke_agent claude").status.is_unset


def test_a_run_that_is_left_at_its_result_is_whole(instrumented: Capture) -> None:
    async def leave() -> None:
        messages: Any = claude_agent_sdk.query(prompt=QUESTION, transport=Script(init(), result()))
        async for message in messages:
            if isinstance(message, claude_agent_sdk.ResultMessage):
                break
        await messages.aclose()
        del messages
        while not instrumented.of("AGENT"):
            await asyncio.sleep(0)

    asyncio.run(leave())
    assert incomplete(instrumented, "invoke_agent claude") is None
    assert of(named(instrumented, "invoke_agent claude"))["output.value"] == "Done."


def test_a_run_that_is_abandoned_is_closed(instrumented: Capture) -> None:
    async def abandon() -> None:
        async for _ in claude_agent_sdk.query(prompt=QUESTION, transport=Script(*TOOL, anyio_never(), result())):
            break

    asyncio.run(abandon())
    gc.collect()
    assert tree(instrumented)[0] == "invoke_agent claude"


def anyio_never() -> Any:
    import anyio

    return anyio.Event()


def test_a_run_that_is_never_started_leaves_nothing(instrumented: Capture) -> None:
    async def never() -> None:
        messages: Any = claude_agent_sdk.query(prompt=QUESTION, transport=Script(result()))
        await messages.aclose()

    asyncio.run(never())
    assert tree(instrumented) == []


def test_a_cancelled_run_says_so(instrumented: Capture) -> None:
    async def cancelled() -> None:
        reached = asyncio.Event()

        async def read() -> None:
            steps = (*TOOL, reached.set, anyio_never(), result())
            async for _ in claude_agent_sdk.query(prompt=QUESTION, transport=Script(*steps)):
                pass

        task = asyncio.create_task(read())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    for name in ("invoke_agent claude", "execute_tool Bash"):
        assert incomplete(instrumented, name) == "cancelled"


def test_what_the_consumer_raises_is_its_own(instrumented: Capture) -> None:
    async def consume() -> None:
        async for _ in claude_agent_sdk.query(prompt=QUESTION, transport=Script(init(), result())):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(consume())
    gc.collect()
    assert len(instrumented.of("AGENT")) == 1


def test_nothing_is_current_while_the_application_has_a_message(instrumented: Capture) -> None:
    async def look() -> list[bool]:
        before = get_current()
        seen: list[bool] = []
        async for _ in claude_agent_sdk.query(prompt=QUESTION, transport=Script(init(), result())):
            seen.append(get_current() == before)
        return [*seen, get_current() == before]

    assert asyncio.run(look()) == [True, True, True]


def test_a_prompt_stream_that_raises_is_the_sdks_to_report(instrumented: Capture, caplog: Any) -> None:
    async def broken() -> Any:
        yield {"type": "user", "message": {"role": "user", "content": "One."}}
        raise ValueError("no more")

    assert queried(broken(), None, transport=Script(init(), result()))[-1].result == "Done."
    assert "no more" in caplog.text
    caplog.clear()


def test_messages_of_a_stream_that_policy_leaves_are_the_applications_own(instrumented: Capture) -> None:
    mine: Any = {"type": "user", "message": {"role": "user", "content": "One."}, "extra": object}
    mine["extra"] = "kept"
    transport = Script(init(), result())

    async def prompts() -> Any:
        yield mine

    queried(prompts(), None, transport=transport)
    assert [one for one in transport.written if one["type"] == "user"] == [mine]


def test_fifty_runs_at_once_do_not_meet(instrumented: Capture) -> None:
    async def one(number: int) -> Any:
        call = {**CALL, "id": f"toolu_{number}", "input": {"command": f"echo {number}"}}
        given = {**PRE, "tool_use_id": f"toolu_{number}", "tool_input": call["input"]}
        steps = (
            init(),
            assistant(call, message_id=f"msg_{number}"),
            Ask("PreToolUse", **given),
            Ask("PostToolUse", **given, tool_response=f"{number}"),
            told(f"toolu_{number}", f"{number}"),
            assistant({"type": "text", "text": f"{number}"}, message_id=f"msg_{number}b"),
            result(f"{number}"),
        )
        messages = claude_agent_sdk.query(prompt=f"{number}", transport=Script(*steps))
        return [message async for message in messages][-1].result

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(one(number) for number in range(50)))

    assert asyncio.run(all_of_them()) == [str(number) for number in range(50)]
    assert traces(instrumented) == 50
    assert (
        tree(instrumented)
        == [
            "invoke_agent claude",
            "  chat claude-test",
            "  execute_tool Bash",
            "  chat claude-test",
        ]
        * 50
    )
    by_trace: dict[int, set[str]] = {}
    for span in instrumented.spans:
        known = of(span)
        value = known.get("output.value") or known.get("gen_ai.tool.call.result") or said(span).strip()
        assert span.context is not None
        by_trace.setdefault(span.context.trace_id, set()).add(str(value))
    assert all(len(values - {""}) == 1 for values in by_trace.values())


@pytest.mark.parametrize("hooks", [True, False])
def test_tools_are_recorded_where_the_cli_calls_no_hooks(instrumented: Capture, hooks: bool) -> None:
    asked = (Ask("PreToolUse", **PRE), Ask("PostToolUse", **PRE, tool_response={"stdout": "files"})) if hooks else ()
    run(init(), assistant(CALL), *asked, told("toolu_1", "files"), result())
    tool = of(named(instrumented, "execute_tool Bash"))
    assert (tool["gen_ai.tool.call.arguments"], tool["gen_ai.tool.call.result"]) == ('{"command":"ls"}', "files")


def test_a_tool_that_says_it_failed_is_an_error(instrumented: Capture) -> None:
    run(*TOOL, Ask("PostToolUseFailure", **PRE, error="no such file"), told("toolu_1", "no", is_error=True), result())
    tool = named(instrumented, "execute_tool Bash")
    assert of(tool)["error.type"] == "tool_error"
    assert tool.status.description == "no such file"


class Unclosable(Script):
    """One whose end fails."""

    async def close(self) -> None:
        await super().close()
        raise OSError("close failed")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK leaves its stream open then
def test_a_run_that_cannot_be_closed_has_ended(instrumented: Capture) -> None:
    from claude_agent_sdk._internal.client import InternalClient

    async def leave_early() -> list[str]:
        transport = Unclosable(PROMPTED, init(), assistant(text("Hello.")), result())
        messages = InternalClient().process_query(prompt=QUESTION, options=ClaudeAgentOptions(), transport=transport)
        await anext(messages)
        with pytest.raises(OSError, match="close failed"):
            await messages.aclose()
        await asyncio.sleep(0)
        return [repr(task) for task in asyncio.all_tasks() if "Errand" in repr(task)]

    assert asyncio.run(leave_early()) == []
    assert incomplete(instrumented, "invoke_agent claude") == "closed"


def test_policy_that_cannot_decide_denies(instrumented: Capture) -> None:
    @guardrail(kinds=["tool"])
    def forgetful(call: Any) -> Any:
        return 42

    transport = Script(*TOOL, told("toolu_1", "denied", is_error=True), result())
    with use(forgetful):
        queried(QUESTION, None, transport=transport)
    [answer] = [one["response"] for one in transport.answers if one.get("response")]
    assert answer["hookSpecificOutput"]["permissionDecision"] == "deny"
    assert "must return None or the reason" in answer["hookSpecificOutput"]["permissionDecisionReason"]


@pytest.mark.swallows
def test_a_hook_of_ours_that_fails_denies_only_under_policy(instrumented: Capture, caplog: Any) -> None:
    def answers(transport: Script) -> list[Any]:
        queried(QUESTION, None, transport=transport)
        return [one["response"] for one in transport.answers]

    without_name = {name: value for name, value in PRE.items() if name != "tool_name"}
    steps = (PROMPTED, init(), assistant(CALL), Ask("PreToolUse", **without_name), told("toolu_1", "files"), result())
    assert answers(Script(*steps)) == [{}, {}]
    with use(guardrail(kinds=["tool"])(lambda call: None)):
        _, refused = answers(Script(*steps))
    assert refused["hookSpecificOutput"]["permissionDecision"] == "deny"
    caplog.clear()


def test_hooks_block_where_they_fail_only_when_policy_is_there(instrumented: Capture) -> None:
    def matcher(transport: Script) -> Any:
        queried(QUESTION, None, transport=transport)
        [request] = [one["request"] for one in transport.written if one["type"] == "control_request"]
        return request["hooks"]["PreToolUse"][0]

    assert "onFailure" not in matcher(Script(init(), result()))

    with use(guardrail(kinds=["tool"])(lambda call: None)), pytest.raises(CLIConnectionError, match="on_failure"):
        matcher(Script(init(), result(), honours=False))


def test_policy_for_model_calls_that_cannot_hold_is_said_once(instrumented: Capture, caplog: Any) -> None:
    @guardrail(kinds=["llm"])
    def small_models(call: Any) -> str | None:
        return "too large"

    @guardrail(kinds=["llm", "tool"])
    def small_everything(call: Any) -> str | None:
        return "too large"

    with use(small_models), use(small_everything):
        run(init(), result())
        run(init(), result())
    for name in ("small_models", "small_everything"):
        assert caplog.text.count(f"policy {name!r} is for model calls") == 1
    caplog.clear()


def test_a_client_that_is_not_connected_raises_as_ever(instrumented: Capture) -> None:
    async def early() -> None:
        await ClaudeSDKClient().query("Hello.")

    with pytest.raises(CLIConnectionError, match="Not connected"):
        asyncio.run(early())
    assert tree(instrumented) == []


def test_a_client_that_leaves_amid_a_turn_closes_it(instrumented: Capture) -> None:
    async def leave() -> None:
        async with ClaudeSDKClient(transport=Script(*TOOL, anyio_never())) as client:
            await client.query(QUESTION)
            async for _ in client.receive_response():
                break

    asyncio.run(leave())
    assert incomplete(instrumented, "invoke_agent claude") == "cancelled"


def test_a_client_whose_cli_dies_closes_its_turn(instrumented: Capture, caplog: Any) -> None:
    async def die() -> None:
        async with ClaudeSDKClient(transport=Script(init(), ProcessError("it died", exit_code=9))) as client:
            await client.query(QUESTION)
            async for _ in client.receive_response():
                pass

    with pytest.raises(ProcessError):
        asyncio.run(die())
    caplog.clear()
    assert not named(instrumented, "invoke_agent claude").status.is_unset


def test_a_turn_that_the_cli_takes_up_by_itself_is_a_run_of_its_own(instrumented: Capture) -> None:
    async def turns() -> None:
        steps = (
            init(),
            assistant({"type": "text", "text": "One."}),
            result("One."),
            Ask("UserPromptSubmit", prompt="<task-notification>"),
            assistant({"type": "text", "text": "Two."}, message_id="msg_2"),
            result("Two."),
        )
        async with ClaudeSDKClient(transport=Script(*steps)) as client:
            await client.query(QUESTION)
            for _ in range(2):
                async for _ in client.receive_response():
                    pass

    asyncio.run(turns())
    assert tree(instrumented) == ["invoke_agent claude", "  chat claude-test"] * 2
    first, second = sorted(instrumented.of("AGENT"), key=lambda span: span.start_time or 0)
    assert [of(one)["input.value"] for one in (first, second)] == [QUESTION, "<task-notification>"]
    assert [of(one)["output.value"] for one in (first, second)] == ["One.", "Two."]


def test_without_sampling_policy_holds_and_nothing_is_recorded(options: Any) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    from spanrelay_claude_agent_sdk import ClaudeAgentSDKInstrumentor
    from spanrelay_testkit.capture import captured

    @execution_intercept(kinds=["tool"])
    def hidden(call: Any) -> Any:
        yield call
        return "[hidden]"

    with captured(sampler=ALWAYS_OFF) as capture, Provider(weather_model) as provider, use(hidden):
        ClaudeAgentSDKInstrumentor().instrument(tracer_provider=capture.provider)
        from .ways import skies

        messages = queried(QUESTION, options(provider, mcp_servers=skies()))
        ClaudeAgentSDKInstrumentor().uninstrument()
    assert messages[-1].result == "I was told: [hidden]"
    assert capture.spans == ()


def test_query_is_covered_whenever_it_was_imported(capture: Capture) -> None:
    from spanrelay_claude_agent_sdk import ClaudeAgentSDKInstrumentor

    early = claude_agent_sdk.query
    ClaudeAgentSDKInstrumentor().instrument(tracer_provider=capture.provider)
    try:

        async def read(function: Any) -> None:
            async for _ in function(prompt=QUESTION, transport=Script(init(), result())):
                pass

        asyncio.run(read(early))
        asyncio.run(read(claude_agent_sdk.query))
    finally:
        ClaudeAgentSDKInstrumentor().uninstrument()
    asyncio.run(read(early))
    assert tree(capture) == ["invoke_agent claude"] * 2


def test_options_stay_as_they_are(instrumented: Capture) -> None:
    mine = ClaudeAgentOptions(system_prompt="Be brief.")
    before = dict(vars(mine))
    run(init(), result(), options=mine)
    assert vars(mine) == before


def test_what_is_said_is_content(options: Any) -> None:
    from spanrelay_claude_agent_sdk import ClaudeAgentSDKInstrumentor
    from spanrelay_testkit.capture import captured

    with captured(content=False) as capture:
        ClaudeAgentSDKInstrumentor().instrument(tracer_provider=capture.provider)
        run(*TOOL, told("toolu_1", "secret files"), result("secret"))
        failed = Ask("PostToolUseFailure", **PRE, error="secret files")
        run(*TOOL, failed, told("toolu_1", "secret files", is_error=True), result("secret"))
        run(*TOOL, told("toolu_1", "secret files", is_error=True), result("secret"))
        ClaudeAgentSDKInstrumentor().uninstrument()
        exported = "".join(span.to_json() for span in capture.spans)
        assert "secret" not in exported
        assert QUESTION not in exported


def test_a_text_of_the_cli_itself_is_no_model_call(instrumented: Capture, options: Any) -> None:
    synthetic = assistant({"type": "text", "text": "No response requested."})
    synthetic["message"]["model"] = "<synthetic>"
    run(init(), synthetic, assistant({"type": "text", "text": "Yes."}, message_id="msg_2"), result())
    assert [said(span) for span in instrumented.of("LLM")] == ["Yes."]


def test_an_empty_answer_is_recorded(instrumented: Capture, options: Any) -> None:
    with Provider(lambda asked: [text("")]) as provider:
        queried("Say nothing.", options(provider))
    assert tree(instrumented)[0] == "invoke_agent claude"
