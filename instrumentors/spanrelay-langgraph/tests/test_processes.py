"""An agent whose tool asks an agent in another process, over HTTP: one trace, and one trajectory with both."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from tests.exporters.otlp_server import OtlpServer
from tests.programs import command

from spanrelay_testkit.exchange import Answer, Request, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

from .processes import assembled, collected, exporting, launched, lineage

SERVICE = """
from http.server import BaseHTTPRequestHandler, HTTPServer

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from spanrelay import propagation

agent = create_agent(ChatOpenAI(model="gpt-5"), [], system_prompt="Know the weather.", name="meteorologist")


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        question = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with propagation.continued(self.headers):
            answer = agent.invoke({"messages": [("user", question)]})["messages"][-1].text
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.handle_request()
server.server_close()
"""
CALLER = """
import sys
import urllib.request

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from spanrelay import propagation


@tool
def ask_meteorologist(question: str) -> str:
    "Ask who knows the weather."
    request = urllib.request.Request(sys.argv[1], question.encode(), propagation.headers())
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()


boss = create_agent(ChatOpenAI(model="gpt-5"), [ask_meteorologist], name="boss")
print(boss.invoke({"messages": [("user", "Shall I take an umbrella?")]})["messages"][-1].text)
"""


def answers(request: Request) -> Answer:
    """Asks the other agent, whose answer it is told."""
    if request.body["messages"][0]["role"] == "system":
        return reply("It rains.")
    if request.body["messages"][-1]["role"] != "tool":
        return reply(tool_calls=[tool_call("ask_meteorologist", question="Does it rain?", id="q")])
    return reply("Take one.")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ReadableSpan]]:
    """Both programs, run to their end: where, and the spans of both."""
    folder, collector = tmp_path_factory.mktemp("processes"), OtlpServer()
    with contextlib.closing(collector), ModelServer(answers) as model:
        assert ask_over_http(folder, collector, model, command(), SERVICE, CALLER) == "Take one.\n"
    return folder, collected(collector)


def ask_over_http(folder: Path, collector: OtlpServer, model: ModelServer, start: list[str], *texts: str) -> str:
    """Run two programs, which `start` starts, to their end: a service, and who asks it; what the caller said."""
    for name, text in zip(("service.py", "caller.py"), texts, strict=True):
        (folder / name).write_text(text)
    with launched([*start, "service.py"], folder, exporting("weather", collector, model)) as service:
        assert service.stdout is not None
        port = service.stdout.readline().strip()
        done = subprocess.run(
            [*start, "caller.py", f"http://127.0.0.1:{port}"],
            cwd=folder,
            env=exporting("desk", collector, model),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        _, complaints = service.communicate(timeout=60)
        assert service.returncode == 0, complaints
    return done.stdout


@pytest.mark.proves("langgraph", "sub-agents")
def test_an_agent_in_another_process_is_below_the_tool_that_asks_it(ran: tuple[Path, list[ReadableSpan]]) -> None:
    _, spans = ran
    check_that_the_tool_is_above(spans, "ask_meteorologist")


@pytest.mark.proves("langgraph", "sub-agents")
def test_both_are_one_trajectory_behind_the_collector(ran: tuple[Path, list[ReadableSpan]], tmp_path: Path) -> None:
    _, spans = ran
    for number, order in enumerate((spans, spans[::-1])):
        [document] = assembled(order, tmp_path / str(number))
        check_that_one_embeds_the_other(document)


def check_that_the_tool_is_above(spans: list[ReadableSpan], tool: str) -> None:
    """Check that the two processes made one trace, the meteorologist's part below the tool's span."""
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    assert {span.resource.attributes["service.name"] for span in spans} == {"weather", "desk"}
    [inner] = [span for span in spans if span.name == "invoke_agent meteorologist"]
    assert inner.resource.attributes["service.name"] == "weather"
    above = [span.name for span in lineage(inner, spans) if _is_ours(span)]
    assert above == ["invoke_agent meteorologist", f"execute_tool {tool}", "tools", "invoke_agent boss"]


def _is_ours(span: ReadableSpan) -> bool:
    return span.instrumentation_scope is not None and span.instrumentation_scope.name.startswith("spanrelay")


def check_that_one_embeds_the_other(document: Any) -> None:
    [embedded] = document["subagent_trajectories"]
    assert (document["agent"]["name"], embedded["agent"]["name"]) == ("boss", "meteorologist")
    assert [step["message"] for step in embedded["steps"]] == ["Know the weather.", "Does it rain?", "It rains."]
    [asking] = [step for step in document["steps"] if step.get("tool_calls")]
    [result] = asking["observation"]["results"]
    assert (result["source_call_id"], result["content"]) == ("q", "It rains.")
    [reference] = result["subagent_trajectory_ref"]
    assert reference["trajectory_id"] == embedded["trajectory_id"]
    assert document["agent"]["tool_definitions"][0]["function"]["name"] == "ask_meteorologist"
    assert document["steps"][-1]["message"] == "Take one."


def test_each_process_writes_what_it_saw_of_it(ran: tuple[Path, list[ReadableSpan]]) -> None:
    folder, _ = ran
    written = [json.loads(path.read_text()) for path in (folder / ".spanrelay" / "trajectories").glob("*.json")]
    assert sorted(document["agent"]["name"] for document in written) == ["boss", "meteorologist"]
    [apart] = [document for document in written if document["agent"]["name"] == "meteorologist"]
    assert apart["extra"]["otel"]["remote_parent_span_id"]
