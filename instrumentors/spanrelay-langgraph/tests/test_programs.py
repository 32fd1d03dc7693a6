"""An unmodified program of graphs under `opentelemetry-instrument`, with nothing but a policy file beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.programs import run

from spanrelay_testkit.exchange import Answer, Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

PROGRAM = """
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

@tool
def delete_file(path: str) -> str:
    "Delete a file."
    print("deleted", path)
    return "gone"

model = ChatOpenAI(model="gpt-5").bind_tools([delete_file])

async def ask(state: MessagesState):
    return {"messages": [await model.ainvoke(state["messages"])]}

graph = StateGraph(MessagesState)
graph.add_node("ask", ask)
graph.add_node("tools", ToolNode([delete_file]))
graph.add_edge(START, "ask")
graph.add_conditional_edges("ask", tools_condition)
graph.add_edge("tools", "ask")

import asyncio
answer = asyncio.run(graph.compile(name="cleaner").ainvoke({"messages": [("user", "Delete it.")]}))
print(answer["messages"][-1].text)
"""
POLICY = """
[plugins.policy]
tools.deny = ["delete_*"]
tools.refused = "answer"
[plugins.policy.parameters."*"]
temperature = 0.25
"""


def answers(request: Request) -> Answer:
    if request.body["messages"][-1]["role"] != "tool":
        return reply(tool_calls=[tool_call("delete_file", path="/etc", id="d")])
    return reply("Done.")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server


@pytest.mark.proves("langgraph", "policy")
def test_a_file_refuses_a_tool_and_rewrites_a_parameter(tmp_path: Path, server: ModelServer) -> None:
    bare = run(PROGRAM, tmp_path, server)
    assert (bare.code, bare.out) == (0, "deleted /etc\nDone.\n"), bare.err
    assert [request.body.get("temperature") for request in server.requests] == [None, None]
    (tmp_path / "spanrelay.toml").write_text(POLICY)
    ran = run(PROGRAM, tmp_path, server)
    assert (ran.code, ran.out) == (0, "Done.\n"), ran.err
    assert "is denied by 'delete_*'" in str(ran.trajectories)
    assert [request.body.get("temperature") for request in server.requests[2:]] == [0.25, 0.25]


def test_every_node_is_recorded_by_the_span_processor_that_the_program_starts_with(
    tmp_path: Path, server: ModelServer
) -> None:
    ran = run(PROGRAM, tmp_path, server, SPANRELAY_QUIET="", OTEL_TRACES_EXPORTER="console")
    assert ran.code == 0
    assert "SpanRelay failed" not in ran.err and "lost or left out" not in ran.err
    assert '"langgraph.node": "ask"' in ran.out
