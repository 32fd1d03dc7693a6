"""The pytest plugin: a user's own tests run with it, and after each the process is as it was before."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from tests.programs import environment
from tests.test_docs import blocks_of

import spanrelay
from spanrelay import runtime, tracing
from spanrelay.instrumentation import threads
from spanrelay.observation.observers import observers
from spanrelay.pipeline.middleware import registered
from spanrelay.plugins import configured
from spanrelay.plugins.demand import demand
from spanrelay.testing import Refusal, ToolCall, record
from spanrelay_testkit.model_scripts import echo, weather
from spanrelay_testkit.model_server import ModelServer

PAGE = Path(__file__).parents[1] / "docs" / "testing.md"

TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]

APP = """
import openai
import spanrelay
from opentelemetry import trace

tracer = trace.get_tracer("app")  # before there is any provider
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


def agent(question, model="m-mini"):
    spanrelay.activate()
    with openai.OpenAI(max_retries=0) as client, tracer.start_as_current_span("request"):
        messages = [{"role": "user", "content": question}]
        while True:
            answer = client.chat.completions.create(model=model, messages=messages, tools=TOOLS).choices[0].message
            if not answer.tool_calls:
                return answer.content
            messages.append(answer)
            for call in answer.tool_calls:
                messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
"""

SUITE = """
import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import spanrelay
from app import agent
from opentelemetry import trace

ORIGINAL = openai._base_client.SyncAPIClient.request, threading.Thread.start


def as_it_was():
    with pytest.raises(spanrelay.TrajectoryUnavailable):
        spanrelay.trajectories()
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert (openai._base_client.SyncAPIClient.request, threading.Thread.start) == ORIGINAL


@pytest.fixture(autouse=True)
def around():
    as_it_was()
    yield
    as_it_was()


@pytest.mark.parametrize("turn", range(3))
def test_what_the_agent_did_is_recorded_in_every_test(recorded, turn):
    agent("weather?")
    assert [call.request.model for call in recorded.model_calls] == ["m-mini", "m-mini"]
    assert [(call.name, call.arguments, call.result) for call in recorded.tool_calls] == [
        ("get_weather", {"city": "San Francisco"}, "sunny"),
        ("get_weather", {"city": "New York"}, "sunny"),
    ]
    assert recorded.tokens.total_tokens == 58
    assert [step["source"] for step in recorded.trajectory["steps"]] == ["user", "agent", "agent"]
    assert [span.name for span in recorded.spans] == ["chat m-mini", "chat m-mini", "request"]


def test_policy_holds_in_its_test(recorded):
    recorded.configure(policy={"models": {"allow": ["*-mini"]}})
    with pytest.raises(spanrelay.GuardrailRejected):
        agent("weather?", model="m-huge")
    assert [(refusal.kind, refusal.name) for refusal in recorded.refused] == [("llm", "m-huge")]
    assert recorded.model_calls == []


def test_policy_holds_in_no_other(recorded):
    agent("weather?", model="m-huge")
    assert recorded.refused == []


def test_what_is_registered_for_the_process_goes_with_the_test(recorded):
    spanrelay.use(spanrelay.guardrail(lambda call: "never", name="never"))
    with pytest.raises(spanrelay.GuardrailRejected):
        agent("weather?")


def test_nothing_is_refused_after_it(recorded):
    assert agent("weather?")


def test_scopes_threads_and_async_are_recorded(recorded):
    async def ask(number):
        with spanrelay.scope("bot", session=f"s{number}") as bot:
            await asyncio.to_thread(agent, "weather?")
        return bot

    async def all_of_them():
        return await asyncio.gather(*map(ask, range(4)))

    bots = asyncio.run(all_of_them())
    assert [len(bot.trajectory()["steps"]) for bot in bots] == [3] * 4
    assert len(recorded.trajectories) == 4
    with ThreadPoolExecutor(1) as pool, spanrelay.scope("bot", session="pool"):
        pool.submit(agent, "weather?").result()
    assert len(spanrelay.trajectory("pool")["steps"]) == 3


def test_without_the_fixture_nothing_is_patched():
    as_it_was()
"""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(weather) as running:
        yield running


def run_suite(folder: Path, server: ModelServer, *options: str, **files: str) -> str:
    """Run pytest in a folder with these files, as a user would; return what it says at the end."""
    for name, text in {"conftest": 'pytest_plugins = ["spanrelay.testing"]', **files}.items():
        (folder / f"{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=environment(server, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),  # they take seconds to import
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (folder / ".spanrelay").exists()
    return done.stdout


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")], ids=["plain", "xdist"])
def test_a_users_tests_run_with_it(tmp_path: Path, server: ModelServer, options: tuple[str, ...]) -> None:
    assert "9 passed" in run_suite(tmp_path, server, *options, app=APP, test_app=SUITE)


def test_the_page_is_a_suite_that_passes(tmp_path: Path) -> None:
    conftest, suite, settings, block = [each.source for each in blocks_of(PAGE.read_text())]
    with ModelServer(echo) as server:
        said = run_suite(tmp_path, server, conftest=conftest, test_page=f"{suite}\n\n{settings}\n\n{block}")
    assert "4 passed" in said


def test_a_file_of_the_working_directory_is_not_looked_for_and_can_be_named(
    tmp_path: Path, server: ModelServer
) -> None:
    (tmp_path / "policy").mkdir()
    for folder in (tmp_path, tmp_path / "policy"):
        (folder / "spanrelay.toml").write_text('[plugins.policy]\nmodels.allow = ["none"]\n')
    suite = """
import pytest, spanrelay
from app import agent

def test_left_alone(recorded):
    assert agent("weather?")

def test_named(recorded):
    recorded.configure("policy/spanrelay.toml")
    with pytest.raises(spanrelay.GuardrailRejected):
        agent("weather?")

def test_left_alone_again(recorded):
    assert agent("weather?")
"""
    assert "3 passed" in run_suite(tmp_path, server, "-p", "spanrelay.testing", app=APP, test_app=suite)


def test_nothing_but_the_plugin_imports_pytest(tmp_path: Path) -> None:
    program = (
        "import spanrelay, sys; spanrelay.activate(spanrelay.Settings(quiet=True)); print('pytest' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# --- in this process ---------------------------------------------------------------------------------------


def state() -> dict[str, Any]:
    return {
        "provider": trace._TRACER_PROVIDER,
        "once": trace._TRACER_PROVIDER_SET_ONCE,
        "proxy": vars(trace.ProxyTracer)["_tracer"],
        "named": tracing.named_provider(),
        "runtimes": runtime.active(),
        "hooks": {name: getattr(tracing.recording, name) for name in tracing.Recording.__slots__},
        "policy": registered.entries,
        "observers": observers.entries,
        "sync": openai._base_client.SyncAPIClient.request,
        "async": openai._base_client.AsyncAPIClient.request,
        "threads": (vars(threading.Thread)["start"], vars(ThreadPoolExecutor)["submit"], threads._wrapped),
        "files": configured._looked,
        "demand": tuple(getattr(demand, name) for name in ("policy", "stops", "stops_unguarded", "held")),
    }


def ask(server: ModelServer, model: str = "m") -> Any:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        question: Any = [{"role": "user", "content": "weather?"}]
        return client.chat.completions.create(model=model, messages=question, tools=TOOLS)


def misbehave(server: ModelServer) -> None:
    """Do what a program may do and a test leaves behind."""
    spanrelay.activate()
    spanrelay.use(spanrelay.guardrail(lambda call: None, name="left behind"))
    spanrelay.subscribe(lambda event: None, name="left behind")
    trace.get_tracer_provider()
    spanrelay.activate(
        spanrelay.Settings(trajectories="off", metrics=False, quiet=True),
        tracer_provider=TracerProvider(shutdown_on_exit=False),
    )
    ask(server)


@pytest.mark.parametrize("fails", [False, True])
def test_the_process_is_left_as_it_was_found(server: ModelServer, fails: bool) -> None:
    before = state()
    try:
        with record() as recorded:
            recorded.configure(policy={"models": {"allow": ["m"]}, "on_unguarded": "warn"})
            assert state() != before
            misbehave(server)
            if fails:
                raise KeyError("the test fails")
    except KeyError:
        assert fails
    assert state() == before


def test_a_global_provider_of_the_program_is_there_again(server: ModelServer) -> None:
    own = TracerProvider(shutdown_on_exit=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", own)
        with record() as recorded:
            assert trace.get_tracer_provider() is recorded.provider
            with trace.get_tracer("app").start_as_current_span("mine"):
                ask(server)
            assert [span.name for span in recorded.spans] == ["chat m", "mine"]
        assert trace.get_tracer_provider() is own


def test_what_a_program_has_activated_goes_on_afterwards(server: ModelServer, tmp_path: Path) -> None:
    settings = spanrelay.Settings(trajectory_directory=str(tmp_path), metrics=False, quiet=True)
    own = spanrelay.activate(settings, tracer_provider=TracerProvider(shutdown_on_exit=False), instrument=False)
    assert own is not None
    try:
        with record() as recorded, spanrelay.scope("in the test", session="a"):
            ask(server)
        assert len(recorded.spans) == 2
        with spanrelay.scope("after it", session="b"):
            spanrelay.run_tool("t", dict, {})
        assert own.flush(60)
        assert [path.stem for path in tmp_path.glob("*.json")] == ["b"]
        assert len(spanrelay.trajectories("b")) == 1
    finally:
        own.shutdown()


def test_an_instrumentor_that_was_on_stays_on(server: ModelServer) -> None:
    from spanrelay_openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    try:
        patched = openai._base_client.SyncAPIClient.request
        with record() as recorded:
            ask(server)
        assert len(recorded.model_calls) == 1
        assert openai._base_client.SyncAPIClient.request == patched
    finally:
        OpenAIInstrumentor().uninstrument()


def test_tools_that_ran_and_tools_that_policy_refused() -> None:
    with record() as recorded:
        recorded.configure(policy={"tools": {"deny": ["rm"]}})
        with spanrelay.scope("bot"):
            spanrelay.run_tool("ls", lambda path: ["a", "b"], {"path": "/"})
            with pytest.raises(spanrelay.GuardrailRejected):
                spanrelay.run_tool("rm", lambda path: None, {"path": "/"})
        reason = "guardrail 'policy.tools' refused the call: tool 'rm' is denied by 'rm'"
        assert recorded.tool_calls == [
            ToolCall("ls", {"path": "/"}, '["a","b"]'),
            ToolCall("rm", {"path": "/"}, reason, error=True),
        ]
        assert recorded.refused == [Refusal("tool", "rm", reason)]


def test_it_says_in_short_what_it_has_recorded(server: ModelServer) -> None:
    with record() as recorded:
        assert repr(recorded) == "<Recorded: 0 spans>"
        with spanrelay.scope("bot"):
            ask(server)
            spanrelay.run_tool("ls", lambda path: ["a", "b"], {"path": "/"})
        assert repr(recorded) == "<Recorded: 1 model call: m; 1 tool run: ls>"
        recorded.configure(policy={"models": {"deny": ["m"]}})
        with pytest.raises(spanrelay.GuardrailRejected) as refused:
            ask(server)
        recorded.clear()
        with pytest.raises(spanrelay.GuardrailRejected):
            ask(server)
        assert repr(recorded) == f"<Recorded: 1 call refused: m ({refused.value})>"


def test_a_refusal_is_told_once_however_many_scopes_fail_by_it(server: ModelServer) -> None:
    with record() as recorded:
        recorded.configure(policy={"models": {"deny": ["m"]}})
        with (
            pytest.raises(spanrelay.GuardrailRejected),
            spanrelay.scope("outer"),
            spanrelay.scope("inner", kind="tool"),
        ):
            ask(server)
        assert [(refusal.kind, refusal.name) for refusal in recorded.refused] == [("llm", "m")]
    assert server.requests == []


def test_configure_says_what_is_wrong_and_leaves_nothing_in_force(server: ModelServer) -> None:
    with record() as recorded:
        for wrong in ({"policy": {"modles": {}}}, {"polcy": {}}):
            with pytest.raises(spanrelay.ConfigurationError, match="did you mean"):
                recorded.configure(**wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="takes a file, or tables"):
            recorded.configure()
        with pytest.raises(spanrelay.ConfigurationError, match="cannot be read"):
            recorded.configure("missing.toml")
        assert ask(server)


def test_configured_anew_the_old_is_gone(server: ModelServer) -> None:
    with record() as recorded:
        recorded.configure(policy={"models": {"deny": ["m"]}})
        recorded.configure(policy={"models": {"deny": ["n"]}})
        assert ask(server)
        recorded.unconfigure()
        assert ask(server, "n")


def test_the_only_trajectory_is_asked_for_where_there_is_not_one() -> None:
    with record() as recorded:
        with pytest.raises(AssertionError, match="expected one trajectory, there are 0"):
            _ = recorded.trajectory
        for session in ("a", "b"):
            with spanrelay.scope("bot", session=session):
                spanrelay.run_tool("t", dict, {})
        with pytest.raises(AssertionError, match=r"there are 2: \['a', 'b'\]"):
            _ = recorded.trajectory
        assert recorded.tokens.input_tokens is None


def test_trajectories_are_there_once_the_program_has_shut_down() -> None:
    with record() as recorded:
        with spanrelay.scope("bot", session="a"):
            spanrelay.run_tool("t", dict, {})
        active = spanrelay.activate()
        assert active is recorded.runtime
        active.shutdown()
        assert recorded.trajectory["session_id"] == "a"


def test_many_tests_leave_no_thread_behind(server: ModelServer) -> None:
    before = threading.active_count()
    for _ in range(20):
        with record() as recorded:
            ask(server)
        assert len(recorded.model_calls) == 1
    assert threading.active_count() <= before + 2
