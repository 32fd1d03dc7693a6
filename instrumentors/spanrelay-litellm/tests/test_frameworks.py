"""A framework above LiteLLM, and OpenAI's SDK beneath it: one model call, one span."""

from __future__ import annotations

from typing import Any

import pytest

from spanrelay_litellm import LiteLLMInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, at_work, said
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import tree

agents: Any = pytest.importorskip("agents")


@pytest.mark.parametrize("beneath", [(), (OpenAIInstrumentor,)], ids=["alone", "above OpenAI's SDK"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_model_of_the_openai_agents_sdk_is_one_span(capture: Capture, beneath: Any, streamed: bool) -> None:
    from agents.extensions.models.litellm_model import LitellmModel

    from spanrelay_openai_agents import OpenAIAgentsInstrumentor

    kinds = (OpenAIAgentsInstrumentor, LiteLLMInstrumentor, *beneath)
    with ModelServer(lambda request: reply("Blue.")) as server, at_work(capture, *kinds):
        agent = agents.Agent("painter", model=LitellmModel("openai/gpt-4.1", base_url=server.url, api_key="none"))
        if streamed:
            result = agents.Runner.run_streamed(agent, "Sky?")
            async for _ in result.stream_events():
                pass
        else:
            result = await agents.Runner.run(agent, "Sky?")
    assert result.final_output == "Blue."
    assert tree(capture) == ["invoke_agent painter", "  chat openai/gpt-4.1"]
    [model] = capture.of("LLM")
    assert said(model) == "Blue."
    assert (model.attributes or {})["gen_ai.request.model"] == "gpt-4.1"
