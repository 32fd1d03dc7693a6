"""Whole spans of a run that waits for approval and is resumed, and the tables of the README that name what they say."""

from __future__ import annotations

import re
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
from spanrelay_testkit.capture import captured
from spanrelay_testkit.model_server import ModelServer

from .ways import QUESTION, Way, awaited, each_way, get_weather, weather_model, weatherman

README = Path(__file__).parents[1] / "README.md"
CALL = "call_get_weather"
agent = weatherman(
    Tool(get_weather, requires_approval=True), output_type=[str, DeferredToolRequests], description="Knows the weather."
)


def spans_of(run: Way, dialect: str, *, content: bool) -> list[dict[str, Any]]:
    """Return the whole spans, but for model calls."""
    with captured(dialect=dialect, content=content) as spans, ModelServer(weather_model) as server:
        instrumentors = (OpenAIInstrumentor(), PydanticAIInstrumentor())
        for instrumentor in instrumentors:
            instrumentor.instrument(tracer_provider=spans.provider)
        try:
            waiting = run(server, agent, QUESTION, conversation_id="chat-1")
            results = DeferredToolResults(approvals={CALL: True})
            run(server, agent, None, message_history=waiting.all_messages(), deferred_tool_results=results)
        finally:
            for instrumentor in instrumentors:
                instrumentor.uninstrument()
        ordered = sorted(spans.spans, key=lambda span: span.context.span_id if span.context else 0)
        assert [span.name for span in ordered if span.name.startswith("chat")] == ["chat gpt-5"] * 2
        return [whole(span) for span in ordered if not span.name.startswith("chat")]


def whole(span: ReadableSpan) -> dict[str, Any]:
    """Everything a span says."""
    context, scope = span.get_span_context(), span.instrumentation_scope
    assert context is not None and scope is not None and span.start_time is not None and span.end_time is not None
    assert span.start_time < span.end_time
    assert (scope.name, scope.version) == ("spanrelay_pydantic_ai", __version__)
    assert (span.kind.name, list(span.links)) == ("INTERNAL", [])
    assert span.status.is_unset
    return {
        "name": span.name,
        "ids": (context.trace_id, context.span_id, span.parent and span.parent.span_id),
        "events": {event.name: dict(event.attributes or {}) for event in span.events},
        "attributes": dict(span.attributes or {}),
    }


WAITS = {
    "pydantic_ai.deferred.tools": ("get_weather",),
    "pydantic_ai.deferred.call_ids": (CALL,),
    "pydantic_ai.deferred.kinds": ("approval",),
}
GOES_ON = {"pydantic_ai.deferred.call_ids": (CALL,), "pydantic_ai.deferred.approved": (True,)}
SPANS: list[tuple[str, tuple[int, int, int | None], dict[str, Any]]] = [
    ("invoke_agent weatherman", (1, 1, None), {"pydantic_ai.interrupt": WAITS}),
    ("invoke_agent weatherman", (2, 3, None), {"pydantic_ai.resume": GOES_ON}),
    ("execute_tool get_weather", (2, 4, 3), {}),
]
"""Name, ids of trace, span and parent, and marks of each span. Spans 2 and 5 are the model calls."""

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


def expected(dialect: str, *, content: bool) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "ids": ids,
            "events": events,
            "attributes": {key: value for key, value in attributes.items() if content or not key.startswith(CONTENT)},
        }
        for (name, ids, events), attributes in zip(SPANS, ATTRIBUTES[dialect], strict=True)
    ]


@each_way
@pytest.mark.parametrize("dialect", ATTRIBUTES)
def test_whole_spans(run: Way, dialect: str) -> None:
    assert spans_of(run, dialect, content=True) == expected(dialect, content=True)


@pytest.mark.parametrize("dialect", ATTRIBUTES)
def test_without_content_nothing_of_what_was_said_is_left(dialect: str) -> None:
    assert spans_of(awaited, dialect, content=False) == expected(dialect, content=False)


# --- the tables in the README ---

ROW = re.compile(r"^\| `(?P<attribute>[a-z][\w.]+)` \| (?P<genai>\w* ?)\| (?P<openinference>\w* ?)\|", re.MULTILINE)
ALWAYS_TOLD = {"error.type", "spanrelay.incomplete"}
"""Attributes of what fails, which no span here has."""


@pytest.mark.parametrize("dialect", ATTRIBUTES)
def test_the_readme_names_exactly_the_attributes_of_the_spans_and_which_of_them_are_content(dialect: str) -> None:
    rows = list(ROW.finditer(README.read_text()))
    assert len({row["attribute"] for row in rows}) == len(rows), "an attribute has two rows"
    told = {row["attribute"]: row[dialect].strip() for row in rows if row[dialect].strip()}
    seen = {
        key: "content" if key.startswith(CONTENT) else "yes" for spans in ATTRIBUTES[dialect] for key in spans
    } | dict.fromkeys(ALWAYS_TOLD, "yes")
    assert told == seen


def test_the_readme_names_every_mark() -> None:
    text = README.read_text()
    for _, _, events in SPANS:
        for name, attributes in events.items():
            assert f"`{name}`" in text
            assert all(f"`{key}`" in text for key in attributes)


# --- the places that are patched ---


@pytest.mark.parametrize(
    "patch", PydanticAIInstrumentor().patches(default_tracing()), ids=lambda patch: patch.attribute
)
def test_every_place_that_is_patched_is_there(patch: Patch) -> None:
    found: Any = import_module(patch.module)
    for name in patch.attribute.split("."):
        found = vars(found)[name]
    assert callable(found)
    assert patch.required


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
