"""A thread is one trajectory, over every run of it: interrupted, resumed, and asked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState
from langgraph.types import Command, interrupt
from opentelemetry.sdk.trace import TracerProvider

import spanrelay
from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer

from .graphs import chain

THREAD: Any = {"configurable": {"thread_id": "t"}}


@pytest.fixture
def provider(tmp_path: Path) -> Any:
    """A provider whose spans become trajectories in `tmp_path`, with both instrumentors at work."""
    provider = TracerProvider(shutdown_on_exit=False)
    settings = spanrelay.Settings(trajectories="on", trajectory_directory=str(tmp_path), metrics=False, quiet=True)
    runtime = spanrelay.activate(settings, tracer_provider=provider, instrument=False)
    assert runtime is not None
    instrumentors = (LangGraphInstrumentor(), OpenAIInstrumentor())
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=provider)
    yield provider
    for instrumentor in instrumentors:
        instrumentor.uninstrument()
    runtime.shutdown()


@pytest.mark.proves("langgraph", "interrupts", "sessions")
def test_a_resumed_thread_goes_on_in_the_same_trajectory(provider: TracerProvider, tmp_path: Path) -> None:
    with (
        ModelServer([reply("Shall I?"), reply("Done.")]) as server,
        openai.OpenAI(base_url=server.url, api_key="none") as client,
    ):

        def asked(messages: list[Any]) -> Any:
            wire: Any = [
                {"role": "assistant" if one.type == "ai" else "user", "content": one.content} for one in messages
            ]
            answer = client.chat.completions.create(model="gpt-5", messages=wire)
            return {"messages": [("ai", answer.choices[0].message.content)]}

        def proposes(state: MessagesState) -> Any:
            return asked(state["messages"])

        def confirms(state: MessagesState) -> Any:
            return {"messages": [("user", interrupt("Shall I?"))]}

        def acts(state: MessagesState) -> Any:
            return asked(state["messages"])

        graph = chain(proposes, confirms, acts, state=MessagesState, name="clerk", checkpointer=InMemorySaver())
        graph.invoke({"messages": [("user", "Delete it.")]}, THREAD)
        graph.invoke(Command(resume="Yes."), THREAD)
        client.close()
    provider.force_flush()
    [file] = tmp_path.glob("*.json")
    trajectory = json.loads(file.read_text())
    assert trajectory["session_id"] == "t"
    assert trajectory["agent"]["name"] == "clerk"
    said = [(step["source"], step["message"]) for step in trajectory["steps"]]
    assert said == [("user", "Delete it."), ("agent", "Shall I?"), ("user", "Yes."), ("agent", "Done.")]
    assert "subagent_trajectories" not in trajectory
