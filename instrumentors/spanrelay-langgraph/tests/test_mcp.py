"""An agent whose tool asks another process without a word of the trace: over MCP, and over HTTP that is instrumented.

What carries the trace by itself has an environment of its own here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from tests.exporters.otlp_server import OtlpServer
from tests.own_environment import programs_of

from spanrelay_testkit import environments
from spanrelay_testkit.model_server import ModelServer

from .processes import assembled, collected, exporting
from .test_processes import CALLER as HTTP_CALLER
from .test_processes import (
    SERVICE,
    answers,
    ask_over_http,
    check_that_one_embeds_the_other,
    check_that_the_tool_is_above,
)

pytestmark = pytest.mark.skipif(
    os.environ.get("SPANRELAY_TEST_MCP") != "1",
    reason="set SPANRELAY_TEST_MCP=1 to install the MCP SDK and instrumentation of HTTP apart, and test with them",
)

SERVER = """
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from mcp.server.mcpserver import MCPServer

agent = create_agent(ChatOpenAI(model="gpt-5"), [], system_prompt="Know the weather.", name="meteorologist")
server = MCPServer("weather")


@server.tool()
async def ask_meteorologist(question: str) -> str:
    "Ask who knows the weather."
    state = await agent.ainvoke({"messages": [("user", question)]})
    return state["messages"][-1].text


server.run("stdio")
"""
CALLER = """
import asyncio
import os
import sys

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from mcp import Client, StdioServerParameters


async def main():
    command, *arguments = sys.argv[1:]
    # The MCP SDK hands down next to nothing of the environment by itself.
    handed = {**os.environ, "OTEL_SERVICE_NAME": "weather"}
    async with Client(StdioServerParameters(command=command, args=arguments, env=handed)) as client:

        @tool
        async def ask_meteorologist(question: str) -> str:
            "Ask who knows the weather."
            result = await client.call_tool("ask_meteorologist", {"question": question})
            return result.content[0].text

        boss = create_agent(ChatOpenAI(model="gpt-5"), [ask_meteorologist], name="boss")
        state = await boss.ainvoke({"messages": [("user", "Shall I take an umbrella?")]})
        print(state["messages"][-1].text)


asyncio.run(main())
"""


UNAWARE = HTTP_CALLER.replace(", propagation.headers()", "").replace("from spanrelay import propagation\n", "")


HTTP = ["opentelemetry-instrumentation-urllib==0.66b1", "opentelemetry-util-http==0.66b1"]


@pytest.fixture(scope="module")
def python() -> list[str]:
    """`opentelemetry-instrument python` of the environment."""
    ours = ["openai", "langchain", "langgraph"]
    programs = programs_of("mcp", ours, ["mcp", "langchain-openai", "langchain", "langgraph"])
    # They ask for the very version of OpenTelemetry that they came with, and run with the next.
    environments.install(programs.parent, HTTP, alone=True)
    return [str(programs / "opentelemetry-instrument"), str(programs / "python")]


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory, python: list[str]) -> list[ReadableSpan]:
    """The spans of an MCP server and its client, run to their end."""
    folder, collector = tmp_path_factory.mktemp("mcp"), OtlpServer()
    (folder / "server.py").write_text(SERVER)
    (folder / "caller.py").write_text(CALLER)
    with contextlib.closing(collector), ModelServer(answers) as model:
        done = subprocess.run(
            [*python, "caller.py", *python, "server.py"],
            cwd=folder,
            env=exporting("desk", collector, model),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "Take one.\n"), done.stderr
    return collected(collector)


def test_an_agent_in_an_mcp_server_is_below_the_tool_that_asks_it(spans: list[ReadableSpan]) -> None:
    [run] = [span for span in spans if span.name == "invoke_agent boss"]
    # The two also greet each other, before there is any agent.
    check_that_the_tool_is_above([span for span in spans if trace_of(span) == trace_of(run)], "ask_meteorologist")


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


def test_both_are_one_trajectory_behind_the_collector(spans: list[ReadableSpan], tmp_path: Path) -> None:
    for number, order in enumerate((spans, spans[::-1])):
        [document] = assembled(order, tmp_path / str(number))
        check_that_one_embeds_the_other(document)


def test_an_instrumented_http_client_carries_the_trace_of_a_program_that_knows_nothing_of_it(
    python: list[str], tmp_path: Path
) -> None:
    assert "propagation" not in UNAWARE
    with contextlib.closing(OtlpServer()) as collector, ModelServer(answers) as model:
        assert ask_over_http(tmp_path, collector, model, python, SERVICE, UNAWARE) == "Take one.\n"
    found = collected(collector)
    check_that_the_tool_is_above(found, "ask_meteorologist")
    [document] = assembled(found, tmp_path / "trajectories")
    check_that_one_embeds_the_other(document)
