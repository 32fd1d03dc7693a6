"""Tools of the provider's that run here: a span each, and policy before anything happens."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from agents import Agent, ApplyPatchTool, Computer, ComputerTool, CustomTool, LocalShellTool, ShellTool
from agents.editor import ApplyPatchResult

from spanrelay import GuardrailRejected, MiddlewareError, guardrail, request_intercept, use
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import Request, raw, reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, tree

from .ways import awaited

done: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


def execute(request: Any) -> str:
    done.append(list(request.data.action.commands))
    return "listed"


def execute_locally(request: Any) -> str:
    done.append(list(request.data.action.command))
    return "listed"


class Editor:
    def create_file(self, operation: Any) -> ApplyPatchResult:
        done.append([operation.path])
        return ApplyPatchResult(output="created")

    update_file = delete_file = create_file


async def invoke(context: Any, given: str) -> str:
    done.append([given])
    return "invoked"


class Screen(Computer):
    """A computer that shows nothing."""

    @property
    def environment(self) -> Any:
        return "linux"

    @property
    def dimensions(self) -> tuple[int, int]:
        return (1, 1)

    def screenshot(self) -> str:
        done.append(["looked"])
        return "aGk="

    def _nothing(self, *_: Any, **__: Any) -> None:
        return None

    click = double_click = scroll = type = wait = move = keypress = drag = _nothing


EXEC = {"type": "exec", "command": ["ls"], "env": {}}
CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "shell": (
        lambda: ShellTool(executor=execute),
        {"type": "shell_call", "id": "sh_1", "status": "completed", "action": {"commands": ["ls"]}},
    ),
    "local_shell": (
        lambda: LocalShellTool(executor=execute_locally),
        {"type": "local_shell_call", "id": "ls_1", "status": "completed", "action": EXEC},
    ),
    "apply_patch": (
        lambda: ApplyPatchTool(editor=Editor()),
        {
            "type": "apply_patch_call",
            "id": "ap_1",
            "status": "completed",
            "operation": {"type": "create_file", "path": "a.txt", "diff": "+hello"},
        },
    ),
    "raw_sql": (
        lambda: CustomTool(name="raw_sql", description="Runs SQL.", on_invoke_tool=invoke),
        {"type": "custom_tool_call", "id": "ct_1", "name": "raw_sql", "input": "SELECT 1"},
    ),
    "computer_use_preview": (
        lambda: ComputerTool(computer=Screen()),
        {
            "type": "computer_call",
            "id": "cu_1",
            "status": "completed",
            "pending_safety_checks": [],
            "action": {"type": "screenshot"},
        },
    ),
}
each_tool = pytest.mark.parametrize("name", CALLS)


def server_for(name: str) -> ModelServer:
    """A model that asks for the tool once, and then says what came of it."""

    def script(request: Request) -> Any:
        outputs = [item for item in request.body["input"] if str(item.get("type")).endswith("_output")]
        if outputs:
            return reply(json.dumps(outputs[-1]["output"]))
        call = {**CALLS[name][1], "call_id": "call_1"}
        return raw(json.dumps({**RESPONSE, "output": [call]}).encode())

    return ModelServer(script)


RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 0,
    "status": "completed",
    "model": "gpt-5",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}


def agent(name: str) -> Agent[Any]:
    return Agent("operator", model="gpt-5", tools=[CALLS[name][0]()])


@each_tool
def test_each_is_a_span_with_the_call_it_answers(instrumented: Capture, name: str) -> None:
    with server_for(name) as server:
        awaited(server, agent(name), "go")
    tool = named(instrumented, f"execute_tool {CALLS[name][0]().name}")
    attributes = dict(tool.attributes or {})
    assert attributes["gen_ai.tool.call.id"] == "call_1"
    assert attributes["gen_ai.tool.type"] == CALLS[name][1]["type"]
    assert "gen_ai.tool.call.arguments" in attributes and "gen_ai.tool.call.result" in attributes
    assert len(done) == 1
    assert tree(instrumented)[2] == f"  {tool.name}"


@each_tool
def test_what_is_refused_has_not_happened(instrumented: Capture, name: str) -> None:
    @guardrail(kinds=["tool"])
    def never(call: Any) -> str:
        return f"no {call.request.name}"

    with server_for(name) as server, use(never), pytest.raises(GuardrailRejected, match="no "):
        awaited(server, agent(name), "go")
    assert done == []


@each_tool
def test_a_refusal_may_be_told_to_the_model(instrumented: Capture, name: str) -> None:
    @guardrail(kinds=["tool"], answers=True)
    def never(call: Any) -> str:
        return "not here"

    with server_for(name) as server, use(never):
        if name == "computer_use_preview":
            with pytest.raises(MiddlewareError, match="screenshot"):
                awaited(server, agent(name), "go")
        else:
            assert "not here" in awaited(server, agent(name), "go").final_output
    assert done == []


@each_tool
def test_what_policy_changes_is_refused(instrumented: Capture, name: str) -> None:
    @request_intercept(kinds=["tool"])
    def other(call: Any) -> Any:
        return replace(call.request, arguments={"commands": ["rm"]})

    with server_for(name) as server, use(other), pytest.raises(MiddlewareError, match="cannot change"):
        awaited(server, agent(name), "go")
    assert done == []


def test_one_that_waits_for_approval_has_no_result_yet(instrumented: Capture) -> None:
    careful = Agent("operator", model="gpt-5", tools=[ShellTool(executor=execute, needs_approval=True)])
    with server_for("shell") as server:
        waiting = awaited(server, careful, "go")
        assert done == []
        assert "gen_ai.tool.call.result" not in (named(instrumented, "execute_tool shell").attributes or {})
        state = waiting.to_state()
        state.approve(waiting.interruptions[0])
        awaited(server, careful, state)
    assert done == [["ls"]]
