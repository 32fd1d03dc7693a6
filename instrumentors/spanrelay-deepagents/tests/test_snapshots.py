"""Whole spans: a deep agent that reads a skill, asks a sub-agent, waits for a person and goes on."""

from __future__ import annotations

from pathlib import Path

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from tests.whole_spans import check, each_form, recorded

from spanrelay_deepagents import DeepAgentsInstrumentor
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.model_server import ModelServer

from .test_agents import ASKED, THREAD, agent, answers

KINDS = (OpenAIInstrumentor, LangChainInstrumentor, LangGraphInstrumentor, DeepAgentsInstrumentor)


@each_form
def test_the_spans_of_a_deep_agent_are_these(form: str, tmp_path: Path) -> None:
    with recorded(form, *KINDS) as capture, ModelServer(answers) as server:
        careful = agent(
            server,
            tmp_path,
            system_prompt="Plan trips.",
            interrupt_on={"book": True},
            checkpointer=InMemorySaver(),
        )
        careful.invoke(ASKED, THREAD)
        careful.invoke(Command(resume={"decisions": [{"type": "approve"}]}), THREAD)
        check(Path(__file__).with_name("spans.json"), form, capture)
