"""Whole spans of a run that waits for approval and is resumed, and the tables of the README that name what they say."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from pydantic_ai import DeferredToolRequests, DeferredToolResults, Tool

from spanrelay.instrumentation.patching import Patch, is_patched
from spanrelay.tracing import default_tracing
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_pydantic_ai import PydanticAIInstrumentor, __version__
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.contract.snapshots import SnapshotContract, Told
from spanrelay_testkit.model_server import ModelServer

from .ways import QUESTION, WAYS, get_weather, weather_model, weatherman

CALL = "call_get_weather"
agent = weatherman(
    Tool(get_weather, requires_approval=True), output_type=[str, DeferredToolRequests], description="Knows the weather."
)


WAITS = {
    "pydantic_ai.deferred.tools": ("get_weather",),
    "pydantic_ai.deferred.call_ids": (CALL,),
    "pydantic_ai.deferred.kinds": ("approval",),
}
GOES_ON = {"pydantic_ai.deferred.call_ids": (CALL,), "pydantic_ai.deferred.approved": (True,)}
SPANS = (
    Told("invoke_agent weatherman", (1, 1, None), {"pydantic_ai.interrupt": WAITS}),
    Told("invoke_agent weatherman", (2, 3, None), {"pydantic_ai.resume": GOES_ON}),
    Told("execute_tool get_weather", (2, 4, 3), {}),
)
"""Spans 2 and 5 are the model calls."""

SCHEMA = '{"additionalProperties":false,"properties":{"city":{"type":"string"}},"required":["city"],"type":"object"}'
TOOL = f'"name":"get_weather","description":"The weather of a city.","parameters":{SCHEMA}'
AGENT: dict[str, dict[str, Any]] = {
    "genai": {
        "agent.name": "weatherman",
        "gen_ai.agent.description": "Knows the weather.",
        "gen_ai.agent.name": "weatherman",
        "gen_ai.conversation.id": "chat-1",
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.system_instructions": '[{"type":"text","content":"Tell the weather."}]',
        "gen_ai.tool.definitions": f'[{{"type":"function",{TOOL}}}]',
        "openinference.span.kind": "AGENT",
        "session.id": "chat-1",
    },
    "openinference": {
        "agent.name": "weatherman",
        "gen_ai.agent.description": "Knows the weather.",
        "gen_ai.operation.name": "invoke_agent",
        "llm.input_messages.0.message.content": "Tell the weather.",
        "llm.input_messages.0.message.role": "system",
        "llm.tools.0.tool.json_schema": f'{{"type":"function","function":{{{TOOL}}}}}',
        "openinference.span.kind": "AGENT",
        "session.id": "chat-1",
    },
}
ASKED = {"input.mime_type": "text/plain", "input.value": QUESTION}
ENDED = {"output.mime_type": "text/plain", "output.value": "I was told: sunny in Rome"}
EXECUTED: dict[str, dict[str, Any]] = {
    "genai": {
        "gen_ai.conversation.id": "chat-1",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.call.arguments": '{"city":"Rome"}',
        "gen_ai.tool.call.id": CALL,
        "gen_ai.tool.call.result": "sunny in Rome",
        "gen_ai.tool.description": "The weather of a city.",
        "gen_ai.tool.name": "get_weather",
        "gen_ai.tool.type": "function",
        "openinference.span.kind": "TOOL",
        "session.id": "chat-1",
        "tool.id": CALL,
        "tool.name": "get_weather",
    },
    "openinference": {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.type": "function",
        "input.mime_type": "application/json",
        "input.value": '{"city":"Rome"}',
        "openinference.span.kind": "TOOL",
        "output.mime_type": "text/plain",
        "output.value": "sunny in Rome",
        "session.id": "chat-1",
        "tool.description": "The weather of a city.",
        "tool.id": CALL,
        "tool.name": "get_weather",
    },
}
ATTRIBUTES = {
    dialect: [{**AGENT[dialect], **ASKED}, {**AGENT[dialect], **ENDED}, EXECUTED[dialect]] for dialect in AGENT
}
CONTENT = (
    "input.",
    "output.",
    "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.tool.definitions",
    "llm.",
)
"""What the attributes begin with that carry what was said."""


class TestSnapshots(SnapshotContract):
    scope = ("spanrelay_pydantic_ai", __version__)
    ways = WAYS
    spans = SPANS
    attributes = ATTRIBUTES
    content = CONTENT
    readme = Path(__file__).parents[1] / "README.md"

    def is_shown(self, span: ReadableSpan) -> bool:
        return span.name != "chat gpt-5"

    def record(self, run: Any, capture: Capture, request: Any) -> None:
        """A run that waits for approval and is resumed."""
        with at_work(capture, OpenAIInstrumentor, PydanticAIInstrumentor), ModelServer(weather_model) as server:
            waiting = run(server, agent, QUESTION, conversation_id="chat-1")
            results = DeferredToolResults(approvals={CALL: True})
            run(server, agent, None, message_history=waiting.all_messages(), deferred_tool_results=results)
        assert len(capture.of("LLM")) == 2


# --- the places that are patched ---


@pytest.mark.parametrize(
    "patch", PydanticAIInstrumentor().patches(default_tracing()), ids=lambda patch: patch.attribute
)
def test_every_place_that_is_patched_is_there(patch: Patch) -> None:
    found: Any = import_module(patch.module)
    for name in patch.attribute.split("."):
        found = vars(found)[name]
    assert callable(found)
    # Without these an innocent answer in a tool's place would be refused; nothing would get past policy.
    answers_in_its_place = ("build_tool_return_part", "_ToolCallProcessor._skip_function_call")
    assert patch.required is (patch.attribute not in answers_in_its_place)


def test_every_class_of_models_is_patched_and_put_back() -> None:
    from pydantic_ai.models import Model
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.models.test import TestModel

    known = (FunctionModel, OpenAIChatModel, OpenAIResponsesModel, TestModel)
    before = [(vars(kind)["request"], vars(kind)["request_stream"]) for kind in known]
    instrumentor = PydanticAIInstrumentor()
    instrumentor.instrument()

    class Later(TestModel):
        async def request(self, *args: Any, **kwargs: Any) -> Any:
            return await super().request(*args, **kwargs)

    assert all(is_patched(kind, way) for kind in (*known, Later) for way in ("request", "request_stream"))
    instrumentor.uninstrument()
    assert [(vars(kind)["request"], vars(kind)["request_stream"]) for kind in known] == before
    assert not any(is_patched(kind, way) for kind in (*known, Later, Model) for way in ("request", "request_stream"))
