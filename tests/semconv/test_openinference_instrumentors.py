"""What instrumentors of OpenInference write in ways of their own is read as what others write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanrelay import semconv
from spanrelay.records import SpanRecord

PREFIX = "openinference.instrumentation"


def read(scope: str, name: str, kind: str | None, **attributes: Any) -> SpanRecord:
    record = SpanRecord(1, 2, name=name, scope_name=scope)
    given = {key.replace("_", "."): value for key, value in attributes.items()}
    semconv.read(given if kind is None else {"openinference.span.kind": kind, **given}, record)
    return record


@pytest.mark.parametrize(
    ("scope", "name", "written", "kind"),
    [
        (f"{PREFIX}.llama_index", "OpenAI._prepare_chat_with_tools", "LLM", "chain"),
        (f"{PREFIX}.llama_index", "OpenAI.achat", "LLM", "llm"),
        (f"{PREFIX}.llama_index", "BaseWorkflowAgent.run_agent_step", "CHAIN", "agent"),
        (f"{PREFIX}.llama_index", "BaseWorkflowAgent.run_agent_step", None, "agent"),
        (f"{PREFIX}.llama_index", "FunctionTool.acall", None, "tool"),
        (f"{PREFIX}.dspy", "Mine.run_agent_step", "CHAIN", "chain"),
        ("gcp.vertex.agent", "execute_tool weather", None, "tool"),
        ("gcp.vertex.agent", "execute_tool (merged)", None, None),
        ("mine", "execute_tool weather", None, None),
    ],
)
def test_a_name_tells_what_a_span_does_where_it_is_known_to(
    scope: str, name: str, written: str | None, kind: str | None
) -> None:
    assert read(scope, name, written).kind == kind


def test_an_agent_of_llama_index_is_named_in_what_its_step_was_given() -> None:
    given = json.dumps({"ctx": "<Context>", "ev": "AgentSetup(input=[], current_agent_name='weather')"})
    record = read(f"{PREFIX}.llama_index", "BaseWorkflowAgent.run_agent_step", "CHAIN", input_value=given)
    assert record.agent is not None
    assert (record.agent.name, record.input) == ("weather", None)


@pytest.mark.parametrize(
    ("blocks", "raw", "content"),
    [
        ([{"text": "rain"}, {"text": "noon"}], ["rain", "noon"], "rain\nnoon"),
        ([{"image": "…"}], "a picture", "a picture"),
    ],
)
def test_a_result_of_llama_index_is_what_the_model_is_shown(blocks: list[Any], raw: Any, content: str) -> None:
    output = {"blocks": blocks, "tool_name": "weather", "raw_input": {}, "raw_output": raw, "is_error": True}
    given = {"input_value": '{"kwargs": {"city": "Oslo"}}', "input_mime.type": "application/json"}
    told = {"tool_name": "weather", "output_value": json.dumps(output), "output_mime.type": "application/json"}
    record = read(f"{PREFIX}.llama_index", "FunctionTool.acall", "TOOL", **given, **told)
    assert record.tool is not None
    assert record.result is not None
    assert (record.tool.name, record.tool.arguments) == ("weather", {"city": "Oslo"})
    assert (record.result.content, record.result.is_error) == (content, True)


def test_a_tool_with_a_parameter_called_kwargs_has_it() -> None:
    schema = json.dumps({"properties": {"kwargs": {"type": "object"}}})
    record = read("mine", "t", "TOOL", tool_parameters=schema, input_value='{"kwargs": {"a": 1}}')
    assert record.tool is not None
    assert record.tool.arguments == {"kwargs": {"a": 1}}


def test_a_tool_of_dspy_has_its_name_without_the_method_that_runs_it() -> None:
    record = read(f"{PREFIX}.dspy", "get_weather.__call__", "TOOL", input_value='{"kwargs": {"city": "Oslo"}}')
    assert record.tool is not None
    assert (record.tool.name, record.tool.arguments) == ("get_weather", {"city": "Oslo"})


@pytest.mark.parametrize(
    ("name", "attributes", "agent"),
    [
        ("weather._execute_core", {}, "weather"),
        ("weather.look outside._execute_core", {}, None),
        ("weather.look outside._execute_core", {"graph_node_id": "weather"}, "weather"),
    ],
)
def test_an_agent_of_crewai_is_named_by_its_node_or_by_its_span(
    name: str, attributes: dict[str, str], agent: str | None
) -> None:
    found = read(f"{PREFIX}.crewai", name, "AGENT", **attributes).agent
    assert (found.name if found is not None else None) == agent


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Delegate work to coworker", "delegate_work_to_coworker"), ("getHTTPPage", "get_http_page"), ("t", "t")],
)
def test_a_tool_of_crewai_is_called_as_models_are_told_and_names_a_coworker(name: str, shown: str) -> None:
    given = json.dumps({"task": "Look.", "coworker": "weather"})
    record = read(f"{PREFIX}.crewai", f"{name}.run", "TOOL", tool_name=name, input_value=given)
    assert record.tool is not None
    assert record.agent is not None
    assert (record.tool.name, record.agent.name) == (shown, "weather")
