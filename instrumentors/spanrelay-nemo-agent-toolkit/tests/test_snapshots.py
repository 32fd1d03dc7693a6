"""Whole spans: an agent whose tool is an agent, which calls a tool."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.whole_spans import check, each_form, recorded

from spanrelay_langchain import LangChainInstrumentor
from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_nemo_agent_toolkit import NemoAgentToolkitInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.model_server import ModelServer

from .workflows import TEAM, awaited, weather_model, written

# What it says of itself and of what it stands on; ours are errors, as everywhere.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
KINDS = (NemoAgentToolkitInstrumentor, LangChainInstrumentor, LangGraphInstrumentor, OpenAIInstrumentor)


@each_form
def test_the_spans_of_an_agent_beneath_an_agent_are_these(form: str, tmp_path: Path) -> None:
    with recorded(form, *KINDS) as capture, ModelServer(weather_model) as server:
        assert "sunny in Rome" in awaited(written(tmp_path, TEAM, server), conversation_id="chat-1")
        check(Path(__file__).with_name("spans.json"), form, capture)
