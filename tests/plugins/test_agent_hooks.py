"""The plugin `agent_hooks`: by the conformance kit of its contract, and from a file at the real SDK."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from agent_hooks.ctk.runner import load_vectors, run_vector
from tests.plugins.hooks_engine import Engine
from tests.plugins.hooks_harness import Harness

from spanrelay import ConfigurationError, GuardrailRejected, MiddlewareError, agent, run_tool
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.agent_hooks.targets import messages_of, with_messages
from spanrelay.records import Message, ModelRequest, Reasoning, Text, ToolCall, ToolCallResponse
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Answer, Request, reply
from spanrelay_testkit.exchange import ToolCall as Asked
from spanrelay_testkit.model_server import ModelServer

HELLO: Any = [{"role": "user", "content": "hello"}]
VECTORS = load_vectors()
DECLARED, INCREMENTAL = range(120, 144), range(110, 114)
LACKING = {f"AH-CTK-{number:03}" for number in (91, *INCREMENTAL, *DECLARED)}
"""What the kit asks only of hosts that keep larger integers, release streams bit by bit, or load a host declaration."""
DIFFERS = {"AH-CTK-001": ['agent_startup: agent_init.tools_registered == [], want ["calculator"]']}
"""Where we differ, as docs/agent-hooks.md says."""
DENIED: Any = {"decision": "deny", "reason": "not today"}


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_the_host_does_what_the_conformance_kit_wants(vector: Any) -> None:
    result = asyncio.run(run_vector(Harness(), vector))
    assert result.failures == DIFFERS.get(vector["id"], [])
    assert (result.status == "skip") == (vector["id"] in LACKING)


@pytest.fixture
def ask(tmp_path: Path, client: openai.OpenAI) -> Iterator[Callable[..., Any]]:
    """Puts interceptors in force, each as the lines of its table; returns the last `Engine` that was made."""
    started: list[Activation] = []

    def put(*tables: str, top: str = "", file: str = "spanrelay.toml", kind: Any = "chosen") -> Any:
        path = tmp_path / file
        lines = "".join(f"[[plugins.agent_hooks.interceptors]]\n{table}\n" for table in tables)
        path.write_text(f"[plugins.agent_hooks]\n{top}\n{lines}")
        activation = Activation([PolicyFile(str(path), kind)])
        activation.start()
        started.append(activation)
        return getattr(Engine, "last", None)

    yield put
    for activation in started:
        activation.close()


def engine(point: str | None = None, verdict: Any = None) -> str:
    """An `Engine` that is asked at one point, or at all, and answers with `verdict` there."""
    at = f'at = ["{point}"]\n' if point else ""
    config = f"config = {{ verdicts = {{ {point} = {_toml(verdict)} }} }}" if verdict is not None else ""
    return f'factory = "tests.plugins.hooks_engine:Engine"\n{at}{config}'


def named(name: str, more: str = "") -> str:
    return f'factory = "tests.plugins.hooks_engine:{name}"\nat = ["pre_model_call"]\n{more}'


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def transform(path: str, value: Any) -> Any:
    return {"decision": "transform", "transform": {"path": path, "value": value}}


def test_a_denied_model_call_is_not_sent(
    ask: Any, client: openai.OpenAI, server: ModelServer, capture: Capture
) -> None:
    ask(engine("pre_model_call", DENIED))
    with pytest.raises(GuardrailRejected, match="not today") as refused:
        client.chat.completions.create(model="gpt-5", messages=HELLO)
    assert refused.value.name == "agent_hooks.pre_model_call"
    assert server.requests == []
    [verdict] = [span for span in capture.spans if names.GUARDRAIL_VERDICT_TYPE in (span.attributes or {})]
    assert dict(verdict.attributes or {})[names.GUARDRAIL_VERDICT_REASON] == "not today"


def test_an_interceptor_sees_the_request_in_the_form_of_the_contract(ask: Any, client: openai.OpenAI) -> None:
    seen = ask(engine("pre_model_call"))
    tool: Any = {"type": "function", "function": {"name": "t", "description": "d", "parameters": {"type": "object"}}}
    client.chat.completions.create(model="gpt-5", messages=HELLO, tools=[tool], temperature=0.5)
    [context] = seen.asked
    assert context["model"] == {"id": "gpt-5", "vendor": "openai", "params": {"temperature": 0.5}}
    assert context["messages"] == context["target"] == HELLO
    assert context["tools"] == [{"name": "t", "description": "d", "schema": {"type": "object"}}]
    assert context["session"]["id"] == context["trace"]["trace_id"]


def test_a_transform_of_messages_is_what_is_sent(ask: Any, client: openai.OpenAI, server: ModelServer) -> None:
    seen = ask(engine("pre_model_call", transform("$target[0].content", "goodbye")))
    client.chat.completions.create(model="gpt-5", messages=HELLO, user="u-1")
    assert server.requests[0].body["messages"] == [{"role": "user", "content": "goodbye"}]
    assert server.requests[0].body["user"] == "u-1"
    assert len(seen.asked) == 1
    assert HELLO == [{"role": "user", "content": "hello"}]


def test_a_transform_that_leaves_no_messages_refuses(ask: Any, client: openai.OpenAI, server: ModelServer) -> None:
    ask(engine("pre_model_call", transform("$target[0]", "goodbye")))
    with pytest.raises(MiddlewareError, match="role"):
        client.chat.completions.create(model="gpt-5", messages=HELLO)
    assert server.requests == []


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_given_out_as_the_verdict_leaves_it(ask: Any, client: openai.OpenAI, stream: bool) -> None:
    seen = ask(engine("post_model_call", transform("$target.content", "[removed]")))
    answer: Any = client.chat.completions.create(model="gpt-5", messages=HELLO, stream=stream)
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
    else:
        text = answer.choices[0].message.content
    assert text == "[removed]"
    [context] = seen.asked
    assert context["response"] == {"content": "ok", "tool_calls": [], "finish_reason": "stop"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_denied_answer_does_not_reach_the_application(ask: Any, client: openai.OpenAI, stream: bool) -> None:
    ask(engine("post_model_call", DENIED))
    with pytest.raises(GuardrailRejected, match="not today"):
        list(client.chat.completions.create(model="gpt-5", messages=HELLO, stream=stream))  # type: ignore[call-overload]


def test_a_tool_call_that_a_model_asks_for_may_be_changed(ask: Any, client: openai.OpenAI) -> None:
    def script(request: Request) -> Answer:
        return reply(tool_calls=[Asked("pay", {"amount": 900}, "c-1")])

    ask(engine("post_model_call", transform("$target.tool_calls[0].args.amount", 9)))
    with ModelServer(script) as server:
        answer = client.with_options(base_url=server.url).chat.completions.create(model="gpt-5", messages=HELLO)
    [call] = answer.choices[0].message.tool_calls or []
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == ("c-1", "pay", {"amount": 9})  # type: ignore[union-attr]


def test_a_denied_tool_does_not_run(ask: Any) -> None:
    ran: list[str] = []
    seen = ask(engine("pre_tool_call", DENIED))
    with pytest.raises(GuardrailRejected, match="not today"):
        run_tool("delete", lambda path: ran.append(path), {"path": "/"}, call_id="c-1")
    assert ran == []
    assert seen.asked[0]["tool_call"] == {"id": "c-1", "name": "delete", "args": {"path": "/"}}


def test_arguments_and_results_are_what_verdicts_leave_of_them(ask: Any) -> None:
    ask(
        engine("pre_tool_call", transform("$target.path", "/tmp")),
        engine("post_tool_call", transform("$target", "[…]")),
    )
    ran: list[str] = []
    assert run_tool("read", lambda path: ran.append(path) or "secret", {"path": "/etc"}) == "[…]"
    assert ran == ["/tmp"]


def test_a_run_of_an_agent_is_asked_about_from_its_beginning_to_its_end(ask: Any, client: openai.OpenAI) -> None:
    seen = ask(engine())

    @agent(name="clerk", session="s-1", user="u-1")
    def clerk(question: str) -> str:
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": question}])
        return run_tool("greet", lambda: "hello")

    assert clerk("hi") == "hello"
    points = [context["interception_point"] for context in seen.asked]
    assert points == [
        *("agent_startup", "input", "pre_model_call", "post_model_call", "pre_tool_call", "post_tool_call"),
        *("output", "agent_shutdown"),
    ]
    assert [context["sequence"] for context in seen.asked] == list(range(8))
    assert {context["session"]["id"] for context in seen.asked} == {"s-1"}
    assert {context["agent"]["id"] for context in seen.asked} == {"clerk"}
    assert {context["actor"]["id"] for context in seen.asked} == {"u-1"}
    assert (seen.asked[1]["input"]["content"], seen.asked[6]["output"]["content"]) == ("hi", "hello")


def test_input_and_output_of_an_agent_are_what_verdicts_leave_of_them(ask: Any) -> None:
    ask(engine("input", transform("$target.content", "hi")), engine("output", transform("$target.content", "[…]")))
    given: list[str] = []

    @agent
    def clerk(question: str) -> str:
        given.append(question)
        return "secret"

    assert clerk("who?") == "[…]"
    assert given == ["hi"]


def test_the_end_of_a_run_that_fails_is_told_and_its_exception_is_the_applications(ask: Any) -> None:
    seen = ask(engine("agent_shutdown", DENIED))
    mine = LookupError("mine")

    @agent
    def clerk() -> None:
        raise mine

    with pytest.raises(LookupError) as raised:
        clerk()
    assert raised.value is mine
    assert seen.asked[0]["summary"] == {"reason": "error"}


async def test_the_end_of_a_run_that_is_cancelled_is_told(ask: Any) -> None:
    seen, told, began = ask(engine("agent_shutdown")), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    seen.asked = _Telling(lambda: loop.call_soon_threadsafe(told.set))

    @agent
    async def clerk() -> None:
        began.set()
        await asyncio.Event().wait()

    run = asyncio.create_task(clerk())
    await began.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await told.wait()
    assert seen.asked[0]["summary"] == {"reason": "cancelled"}


class _Telling(list[Any]):
    """Says when something is put into it."""

    def __init__(self, tell: Callable[[], object]) -> None:
        super().__init__()
        self._tell = tell

    def append(self, value: Any) -> None:
        super().append(value)
        self._tell()


@pytest.mark.parametrize(
    ("table", "top", "reason"),
    [
        (named("Breaks"), "", "host_error:interceptor_failed"),
        (named("Late"), "timeout = 0.01", "host_error:interceptor_timeout"),
        (engine("pre_model_call", "yes"), "", "host_error:verdict_invalid"),
        (engine("pre_model_call", {"decision": "perhaps"}), "", "host_error:verdict_invalid"),
        (engine("pre_model_call", {"decision": "deny", "approval": {}}), "", "denied"),
    ],
)
def test_what_gives_no_verdict_that_permits_refuses(
    ask: Any, client: openai.OpenAI, server: ModelServer, table: str, top: str, reason: str
) -> None:
    ask(table, top=top)
    with pytest.raises(GuardrailRejected, match=reason):
        client.chat.completions.create(model="gpt-5", messages=HELLO)
    assert server.requests == []


async def test_async_calls_are_judged_as_sync_ones(ask: Any, server: ModelServer) -> None:
    ask(engine("pre_model_call", DENIED))
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        with pytest.raises(GuardrailRejected, match="not today"):
            await client.chat.completions.create(model="gpt-5", messages=HELLO)
    assert server.requests == []


def test_calls_that_an_interceptor_makes_are_not_asked_about(ask: Any, client: openai.OpenAI) -> None:
    def script(request: Request) -> Answer:
        return reply("fine" if "judge" in request.model and "hello" in request.last_user_text else "no")

    with ModelServer(script) as server:
        ask(named("Asks", f'config = {{ url = "{server.url}" }}'))
        there = client.with_options(base_url=server.url)
        assert there.chat.completions.create(model="gpt-5", messages=HELLO).choices[0].message.content == "no"
        with pytest.raises(GuardrailRejected, match="the judge says no"):
            there.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "attack"}])
        assert [request.model for request in server.requests] == ["judge", "gpt-5", "judge"]


def test_a_warning_is_an_event_of_the_call(ask: Any, client: openai.OpenAI, capture: Capture) -> None:
    ask(engine("pre_model_call", {"decision": "allow", "warnings": [{"reason": "odd"}]}))
    client.chat.completions.create(model="gpt-5", messages=HELLO)
    told = [event for span in capture.spans for event in span.events if event.name == names.HOOKS_WARNED]
    assert [dict(event.attributes or {}) for event in told] == [
        {names.HOOKS_POINT: "pre_model_call", names.HOOKS_REASON: "odd"}
    ]


def test_on_trial_it_only_tells_what_it_would_have_refused(ask: Any, client: openai.OpenAI, capture: Capture) -> None:
    ask(engine("pre_model_call", DENIED), top='mode = "observe"')
    client.chat.completions.create(model="gpt-5", messages=HELLO)
    told = [dict(span.attributes or {}).get(names.WOULD_REFUSE) for span in capture.spans]
    assert ("agent_hooks.pre_model_call: not today",) in told


def test_of_several_interceptors_the_profile_makes_one_verdict(ask: Any, client: openai.OpenAI) -> None:
    ask(engine("pre_model_call"), engine("pre_model_call", DENIED), top='profile = "parallel/unanimous"')
    with pytest.raises(GuardrailRejected, match="host_error:composition_disagreement"):
        client.chat.completions.create(model="gpt-5", messages=HELLO)


@pytest.mark.parametrize(
    ("tables", "top", "told"),
    [
        ([], "", r"interceptors: is missing; write a \[\[plugins"),
        (['factory = "tests"'], "", r"interceptors\[0\].factory: names no factory"),
        (['factory = "no_such:Thing"'], "", "makes no interceptor: it raised ModuleNotFoundError"),
        ([named("Nothing")], "", "'Nothing', which has no intercept"),
        ([engine() + "\nat = []"], "", r"interceptors\[0\].at: is an empty list"),
        ([engine()], "timeout = 0", "timeout: is out of its range"),
        ([engine()], 'profile = "loudest"', "profile: is not one of the choices"),
        ([engine("lunch")], "", "is not one of the choices"),
    ],
)
def test_what_cannot_be_asked_is_told_before_the_first_call(ask: Any, tables: list[str], top: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        ask(*tables, top=top)


def test_a_factory_that_raises_does_not_show_what_it_was_given(ask: Any) -> None:
    with pytest.raises(ConfigurationError, match="it raised ValueError") as raised:
        ask(named("refuses_to_be_made", 'config = { secret = "hunter2" }'))
    assert "hunter2" not in str(raised.value)


def test_an_engine_beside_the_file_is_found(ask: Any, tmp_path: Path) -> None:
    before = list(sys.path)
    (tmp_path / "engine_beside.py").write_text(
        "class No:\n    def intercept(self, context):\n        return {'decision': 'deny', 'reason': 'no'}\n"
    )
    ask('factory = "engine_beside:No"\nat = ["pre_tool_call"]')
    with pytest.raises(GuardrailRejected):
        run_tool("t", lambda: 1)
    assert sys.path == before


def test_a_file_that_is_only_found_names_no_code(ask: Any) -> None:
    with pytest.raises(ConfigurationError, match="factory: runs code"):
        ask(engine(), kind="directory")


def test_messages_that_a_verdict_leaves_alone_keep_what_their_json_does_not_say() -> None:
    thought = Message("assistant", [Reasoning("hm", signature="s"), ToolCall("c-1", "t", {}, namespace="n")])
    answer = Message("tool", [ToolCallResponse("c-1", "3")])
    request = ModelRequest("m", [Message("user", [Text("hi")], name="ann"), thought, answer], [Text("be kind")])
    told = messages_of(request)
    assert with_messages(request, json.loads(json.dumps(told))) == request
    told[0]["content"] = "be brief"
    told[1]["content"] = "hello"
    del told[3]
    changed = with_messages(request, told)
    assert changed.system == [Text("be brief")]
    assert changed.messages == [Message("user", [Text("hello")], name="ann"), thought]
    assert changed.messages[1] is thought
