"""Unmodified programs under `opentelemetry-instrument`: what their trajectories read like, and what a file decides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.plugins.installed import distribution
from tests.programs import Run
from tests.programs import run as run_program
from tests.trajectory.program import accept
from tests.trajectory.spans import story

from spanrelay.assembly.atif import violations

from .provider import Asked, Block, Provider, text, use
from .test_subagents import delegating
from .ways import WEATHER, environment, weather_model

OPENING = """
import asyncio
from claude_agent_sdk import (AgentDefinition, AssistantMessage, ClaudeAgentOptions, ClaudeSDKClient, ResultMessage,
                              create_sdk_mcp_server, query, tool)

@tool("get_weather", "The weather of a city.", {"city": str})
async def get_weather(given):
    print(f"asked about {given['city']}")
    return {"content": [{"type": "text", "text": f"sunny in {given['city']}"}]}

options = ClaudeAgentOptions(
    system_prompt="Tell the weather.", model="claude-opus-5-5", permission_mode="bypassPermissions",
    setting_sources=[], mcp_servers={"skies": create_sdk_mcp_server("skies", tools=[get_weather])},
    agents={"helper": AgentDefinition(description="Knows.", prompt="You are the helper.", tools=["Bash"])},
)

def show(message):
    if isinstance(message, ResultMessage):
        print(message.result)

async def ask(prompt):
    async for message in query(prompt=prompt, options=options):
        show(message)

async def prompts(*said):
    for one in said:
        yield {"type": "user", "message": {"role": "user", "content": one}}

async def turns(*said):
    async with ClaudeSDKClient(options) as client:
        for one in said:
            await client.query(one)
            async for message in client.receive_response():
                show(message)
"""
ASK = {
    "query": "asyncio.run(ask('Rome?'))",
    "stream of prompts": "asyncio.run(ask(prompts('Rome?')))",
    "client": "asyncio.run(turns('Rome?'))",
}


def run(program: str, folder: Path, provider: Provider, **settings: str) -> Run:
    return run_program(OPENING + program, folder, **{**environment(provider, folder), **settings})


def told(ran: Run) -> list[list[str]]:
    """The stories of the documents of a program that said nothing but where they are."""
    assert [line for line in ran.err.splitlines() if not line.startswith("spanrelay: trajectories")] == []
    for document in ran.trajectories:
        assert violations(document) == []
        accept(document)
    return [without_numbers(story(document)) for document in ran.trajectories]


def without_numbers(lines: list[str]) -> list[str]:
    return [line.partition(" {'prompt_tokens'")[0] for line in lines]


TOLD = [
    "system Tell the weather.",
    "user Rome?",
    f"agent Let me see. [('{WEATHER}', {{'city': 'Rome'}})] [('sunny in Rome', False, False)]",
    "agent I was told: sunny in Rome",
]


@pytest.mark.parametrize("way", ASK)
def test_a_run_reads_like_the_conversation(tmp_path: Path, way: str) -> None:
    with Provider(weather_model) as provider:
        ran = run(ASK[way], tmp_path, provider)
    assert ran.out.splitlines() == ["asked about Rome", "I was told: sunny in Rome"]
    assert told(ran) == [TOLD]
    [document] = ran.trajectories
    assert (document["agent"]["name"], document["agent"]["model_name"]) == ("claude", "claude-opus-5-5")
    assert document["final_metrics"]["total_completion_tokens"] == 14


@pytest.mark.proves("claude-agent-sdk", "sub-agents")
def test_a_sub_agent_is_embedded(tmp_path: Path) -> None:
    with Provider(delegating(background=False)) as provider:
        ran = run(ASK["query"], tmp_path, provider)
    [lines] = told(ran)
    assert lines[:2] == ["system Tell the weather.", "user Rome?"]
    assert lines[2].startswith("agent [('Agent', {'description': 'weather', 'prompt': 'Rome?'")
    assert lines[2].endswith("False, True)]"), "the result refers to the sub-agent's trajectory"
    assert lines[3:] == ["agent The helper is done."]
    [inner] = ran.trajectories[0]["subagent_trajectories"]
    assert inner["agent"]["name"] == "helper"
    assert without_numbers(story(inner)) == [
        "system You are the helper.",
        "user Rome?",
        "agent [('Bash', {'command': 'echo sun'})] [('sun', False, False)]",
        "agent It is sunny.",
    ]


def test_a_sub_agent_in_the_background_is_embedded(tmp_path: Path) -> None:
    with Provider(delegating(background=True)) as provider:
        ran = run(ASK["query"], tmp_path, provider)
    [lines] = told(ran)
    assert lines[2].endswith("False, True)]")
    [inner] = ran.trajectories[0]["subagent_trajectories"]
    assert without_numbers(story(inner))[1:] == [
        "user Rome?",
        "agent [('Bash', {'command': 'echo sun'})] [('sun', False, False)]",
        "agent It is sunny.",
    ]


def echoing(asked: Asked) -> list[Block]:
    """Says how many prompts there were."""
    return [text(f"That is question {sum(block.get('text', '').startswith('Q') for block in asked.blocks)}.")]


@pytest.mark.proves("claude-agent-sdk", "sessions")
def test_turns_of_a_client_are_one_document(tmp_path: Path) -> None:
    with Provider(echoing) as provider:
        ran = run("asyncio.run(turns('Q1', 'Q2'))", tmp_path, provider)
    assert told(ran) == [
        [
            "system Tell the weather.",
            "user Q1",
            "agent That is question 1.",
            "user Q2",
            "agent That is question 2.",
        ]
    ]


RESUMED = """
async def main():
    from dataclasses import replace
    async for message in query(prompt="Q1", options=options):
        if isinstance(message, ResultMessage):
            known = message.session_id
    async for message in query(prompt="Q2", options=replace(options, resume=known)):
        show(message)

asyncio.run(main())
"""


def test_a_session_that_is_resumed_goes_on_in_the_same_document(tmp_path: Path) -> None:
    with Provider(echoing) as provider:
        ran = run(RESUMED, tmp_path, provider)
    assert ran.out == "That is question 2.\n"
    [lines] = told(ran)
    assert lines[1:3] == ["user Q1", "agent That is question 1."]
    assert lines[-2:] == ["user Q2", "agent That is question 2."]


MILDER = """
from dataclasses import dataclass, replace

from spanrelay import request_intercept


@dataclass
class Config:
    city: str = ""


class Milder:
    name = "milder"
    config_model = Config

    def validate(self, config):
        return []

    def register(self, context):
        @request_intercept(kinds=["tool"])
        def elsewhere(call):
            if call.request.name == "mcp__skies__get_weather":
                return replace(call.request, arguments={"city": context.config.city})

        context.use(elsewhere)
"""
POLICY = """
[plugins.policy]
tools.deny = ["Bash"]
[plugins.milder]
city = "Oslo"
"""


def two_tools(asked: Asked) -> list[Block]:
    """Asks for a tool that is refused, then for one whose arguments are changed."""
    if not asked.results:
        return [use("Bash", {"command": "touch made"}, "toolu_shell")]
    if len(asked.results) == 1:
        return [use(WEATHER, {"city": "Rome"}, "toolu_weather")]
    return [text(f"I was told: {' / '.join(asked.results)}")]


@pytest.mark.proves("claude-agent-sdk", "policy")
@pytest.mark.parametrize("way", ASK)
def test_a_file_refuses_a_tool_and_rewrites_anothers_arguments(tmp_path: Path, way: str) -> None:
    site = distribution(tmp_path / "site", "other", "milder", MILDER, "[spanrelay_plugin]\nmilder = milder:Milder\n")
    (tmp_path / "spanrelay.toml").write_text(POLICY)
    with Provider(two_tools) as provider:
        ran = run(ASK[way], tmp_path, provider, PYTHONPATH=str(site))
        assert not (tmp_path / "made").exists(), "the tool has not run"
        [refused, changed] = provider.asked[-1].results
    assert "tool 'Bash' is denied by 'Bash'" in refused
    assert changed == "sunny in Oslo"
    assert ran.out.splitlines()[0] == "asked about Oslo"
    [lines] = told(ran)
    assert "is denied by 'Bash'" in lines[2]
    assert "sunny in Oslo" in lines[3]


TRACED = """
from opentelemetry import trace
options.cli_path = "./cli"

async def main():
    with trace.get_tracer("app").start_as_current_span("outer"):
        await ask("Hello")
    print(open("traceparent").read().strip())

asyncio.run(main())
"""


@pytest.mark.proves("claude-agent-sdk", "one trace")
def test_the_cli_is_told_that_it_works_below_the_agent(tmp_path: Path) -> None:
    import claude_agent_sdk

    bundled = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
    (tmp_path / "cli").write_text(
        f'#!/bin/sh\ncase "$*" in *stream-json*) echo "$TRACEPARENT" > traceparent;; esac\nexec {bundled} "$@"\n'
    )
    (tmp_path / "cli").chmod(0o755)
    with Provider(lambda asked: [text("Hello.")]) as provider:
        ran = run(TRACED, tmp_path, provider, OTEL_TRACES_EXPORTER="console")
    spans = {name: (span, parent) for name, span, parent in spans_in(ran.out)}
    agent, above = spans["invoke_agent claude"]
    assert above == spans["outer"][0]
    [traceparent] = re.findall(r"^00-[0-9a-f]{32}-([0-9a-f]{16})-0[0-9]$", ran.out, re.MULTILINE)
    assert traceparent == agent


def spans_in(printed: str) -> list[tuple[str, str, str | None]]:
    """Name, id and parent of each span that the console exporter printed."""
    found: list[Any] = re.findall(
        r'"name": "([^"]+)",\s+"context": \{[^}]*"span_id": "0x([0-9a-f]+)"[^}]*\},\s+"kind": "[^"]*",\s+'
        r'"parent_id": (?:"0x([0-9a-f]+)"|null)',
        printed,
    )
    return [(name, span, parent or None) for name, span, parent in found]


def test_the_program_in_the_readme_runs(tmp_path: Path) -> None:
    text_ = (Path(__file__).parents[1] / "README.md").read_text()
    [program] = re.findall(r"```python\n(.*?)```", text_, re.DOTALL)
    with Provider(lambda asked: [text("Hello.")]) as provider:
        ran = run_program(program, tmp_path, launched=False, **environment(provider, tmp_path))
    assert (ran.code, ran.err) == (0, "")
