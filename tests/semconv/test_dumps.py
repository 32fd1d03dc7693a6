"""The same conversations under eight combinations of instrumentors must read the same."""

from __future__ import annotations

from typing import Any

import pytest
from tests.shared_data import SHARED, needs_shared
from tests.spans import dump, record_from_json

from spanrelay.records import Media, Message, Reasoning, SpanRecord, Text, ToolCall, ToolCallResponse

pytestmark = needs_shared

NAMES = sorted(path.stem for path in (SHARED / "spans").glob("*.json")) if SHARED else []
LANGCHAIN = [name for name in NAMES if "langchain" in name]
OPENAI = [name for name in NAMES if name.endswith("_openai") and "langchain" not in name]

SYSTEM = ("system", "You are a weather bot.")
ASK = ("user", "weather in SF and NY?")
CALLS = ("assistant", "", ("get_weather", {"city": "SF"}), ("get_weather", {"city": "NY"}))
SUNNY, RAIN = ("tool", "sunny"), ("tool", "rain")
ANSWER = ("assistant", "It is sunny in SF and raining in NY.")
THANKS, HELLO = ("user", "thanks, hello"), ("assistant", "Hello there.")
FIRST_TURN = [SYSTEM, ASK, CALLS, SUNNY, RAIN, ANSWER]

LANGCHAIN_CALLS: list[tuple[list[Any], list[Any]]] = [
    ([SYSTEM, ASK], [CALLS]),
    ([SYSTEM, ASK, CALLS, SUNNY, RAIN], [ANSWER]),
    ([*FIRST_TURN, THANKS], [HELLO]),
    (
        [*FIRST_TURN, THANKS, HELLO, ("user", "please fail")],
        [("assistant", "", ("explode", {"x": 1}))],
    ),
    ([SYSTEM, ("user", "ERR429")], []),
]


def records(name: str) -> list[SpanRecord]:
    return [record_from_json(span) for span in dump(name)]


def of_kind(name: str, kind: str) -> list[SpanRecord]:
    found = [record for record in records(name) if record.kind == kind]
    return sorted(found, key=lambda record: record.start)


def seen(message: Message) -> tuple[Any, ...]:
    """What a message says, without what only some instrumentors record of it."""
    answers = [part.content for part in message.parts if isinstance(part, ToolCallResponse)]
    calls = [(call.name, call.arguments) for call in message.tool_calls]
    return ("tool" if answers else message.role, *(answers or [message.text.rstrip()]), *calls)


def asked(record: SpanRecord) -> list[tuple[Any, ...]]:
    assert record.request is not None
    system = [seen(Message("system", record.request.system))] if record.request.system else []
    return system + [seen(message) for message in record.request.messages]


def answered(record: SpanRecord) -> list[tuple[Any, ...]]:
    return [seen(message) for message in record.response.messages] if record.response else []


def tokens(record: SpanRecord) -> tuple[int | None, ...]:
    usage = record.response.usage if record.response else None
    return (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) if usage else ()


@pytest.mark.parametrize("name", LANGCHAIN)
def test_langchains_model_calls_agree_under_every_instrumentor(name: str) -> None:
    calls = [record for record in of_kind(name, "llm") if record.parent_id is not None]
    assert [(asked(call), answered(call)) for call in calls] == LANGCHAIN_CALLS
    assert [tokens(call) for call in calls] == [(50, 10, 20)] * 4 + [()]
    assert [call.request.model for call in calls if call.request] == ["gpt-x"] * 5
    assert [call.response.model for call in calls if call.response] == ["gpt-x-2026-01-01"] * 4
    assert [call.response.id for call in calls if call.response] == [f"chatcmpl-{n}" for n in (1, 2, 3, 4)]
    assert [call.provider for call in calls] == ["openai"] * 5
    assert all(call.content and not call.truncated for call in calls)


@pytest.mark.parametrize("name", LANGCHAIN)
def test_langchains_failed_model_call_has_an_error_and_no_answer(name: str) -> None:
    failed = of_kind(name, "llm")[-1]
    assert failed.error is not None
    assert failed.error.type.endswith("RateLimitError")
    assert failed.error.message == "Error code: 429 - rate limited"
    assert failed.response is None


@pytest.mark.parametrize("name", LANGCHAIN)
def test_langchains_tool_calls_have_name_id_and_result_under_every_instrumentor(name: str) -> None:
    tools = of_kind(name, "tool")
    assert sorted(
        (tool.tool.call_id, tool.tool.name, tool.result.content) for tool in tools if tool.tool and tool.result
    ) == [("call_ny", "get_weather", "rain"), ("call_sf", "get_weather", "sunny")]
    (failed,) = [tool for tool in tools if tool.error]
    assert failed.tool is not None and failed.error is not None
    assert (failed.tool.name, failed.tool.arguments) == ("explode", {"x": 1})
    assert (failed.error.type, failed.error.message) == ("ValueError", "boom")
    assert failed.result is None


@pytest.mark.parametrize("name", [name for name in LANGCHAIN if "openinference" not in name])
def test_langchains_tool_arguments_are_decoded(name: str) -> None:
    given = [tool.tool.arguments for tool in of_kind(name, "tool") if tool.tool]
    assert sorted(given, key=str) == [{"city": "NY"}, {"city": "SF"}, {"x": 1}]


def test_openinferences_one_argument_tools_keep_the_bare_argument() -> None:
    tools = of_kind("openinference_langchain", "tool")
    assert [tool.tool.arguments for tool in tools if tool.tool] == ["SF", "NY", {"x": 1}]


SESSIONS = {
    "openinference_langchain": ["sess-1"] * 4 + ["thread-2"],
    "openinference_langchain+openinference_openai": ["sess-1"] * 4 + ["thread-2"],
    "traceloop_langchain": ["sess-1"] * 4 + ["thread-2"],
    "otel_genai_langchain": ["thread-1"] * 4 + ["thread-2"],  # it reads the thread only
}


@pytest.mark.parametrize("name", LANGCHAIN)
def test_langchains_sessions_are_read(name: str) -> None:
    calls = [record for record in of_kind(name, "llm") if record.parent_id is not None]
    assert [call.session_id for call in calls] == SESSIONS[name]


@pytest.mark.parametrize("name", LANGCHAIN)
def test_langchains_tool_definitions_are_read(name: str) -> None:
    call = next(record for record in of_kind(name, "llm") if record.parent_id is not None)
    assert call.request is not None
    weather, explode = call.request.tools
    assert (weather.name, weather.description, weather.type) == ("get_weather", "Get weather.", "function")
    assert weather.parameters["properties"] == {"city": {"type": "string"}}
    assert explode.name == "explode"


@pytest.mark.parametrize("name", OPENAI)
def test_openais_chat_calls_agree_under_every_instrumentor(name: str) -> None:
    calls = of_kind(name, "llm")
    first, second, stream, failed, _ = calls
    assert (asked(first), answered(first)) == ([SYSTEM, ASK], [CALLS])
    assert (asked(second), answered(second)) == ([SYSTEM, ASK, CALLS, SUNNY, RAIN], [ANSWER])
    assert answered(stream) == [HELLO]
    assert stream.request is not None and stream.request.stream
    assert (asked(failed), answered(failed)) == ([("user", "ERR429")], [])
    assert failed.error is not None and failed.error.type.endswith("RateLimitError")
    assert [tokens(call) for call in calls] == [(50, 10, 20)] * 3 + [(), (50, 10, 20)]
    assert [call.response.id for call in calls if call.response] == [
        "chatcmpl-1",
        "chatcmpl-2",
        "chatcmpl-3",
        "resp_5",
    ]


@pytest.mark.parametrize("name", OPENAI)
def test_openais_tool_call_ids_are_read(name: str) -> None:
    first = of_kind(name, "llm")[0]
    assert first.response is not None
    assert [call.id for call in first.response.tool_calls] == ["call_sf", "call_ny"]


@pytest.mark.parametrize("name", [name for name in OPENAI if "traceloop" not in name])
def test_openais_image_is_read_as_data(name: str) -> None:
    stream = of_kind(name, "llm")[2]
    assert stream.request is not None
    (message,) = stream.request.messages
    assert message.parts == [Text("hello"), Media("image", "image/png", data="iVBORw0KGgo=")]


@pytest.mark.parametrize("name", OPENAI)
def test_openais_responses_call_is_one_answer(name: str) -> None:
    call = of_kind(name, "llm")[4]
    assert asked(call) == [("system", "Be brief."), ASK]
    assert answered(call) == [CALLS]
    assert call.response is not None and call.response.usage is not None
    assert call.response.usage.reasoning_tokens == 4


@pytest.mark.parametrize("name", [name for name in OPENAI if "otel" not in name])
def test_openais_reasoning_is_read_where_it_was_recorded(name: str) -> None:
    response = of_kind(name, "llm")[4].response
    assert response is not None
    thoughts = [part for part in response.messages[0].parts if isinstance(part, Reasoning)]
    assert [thought.text for thought in thoughts] == ["thinking about it"]


def test_a_stream_without_recorded_input_still_has_content() -> None:
    stream = of_kind("traceloop_openai", "llm")[2]
    assert stream.request is not None
    assert stream.request.messages == []
    assert stream.content


def test_time_to_first_chunk_is_read_in_seconds() -> None:
    stream = of_kind("otel_genai_openai", "llm")[2]
    assert stream.time_to_first_chunk == pytest.approx(0.0167, abs=1e-4)


def test_pydantic_ais_results_in_a_user_message_are_read() -> None:
    second = of_kind("pydantic_ai_subagents", "llm")[1]
    assert second.request is not None
    assert second.request.messages[1].parts == [
        ToolCall("call_sf", "get_weather", {"city": "SF"}),
        ToolCall("call_ny", "get_weather", {"city": "NY"}),
    ]
    assert second.request.messages[2].parts == [
        ToolCallResponse("call_sf", "sunny", "get_weather"),
        ToolCallResponse("call_ny", "rain", "get_weather"),
    ]


def test_pydantic_ais_agents_have_names_sessions_and_their_conversation_without_usage() -> None:
    agents = of_kind("pydantic_ai_subagents", "agent")
    assert [agent.agent.name for agent in agents if agent.agent] == [
        "weatherbot",
        "weatherbot",
        "boss",
        "greeter",
        "greeter",
    ]
    assert len({agent.session_id for agent in agents}) == 4
    first = agents[0]
    assert asked(first)[:2] == [SYSTEM, ASK]
    assert answered(first) == [ANSWER]
    assert first.response is not None and first.response.usage is None


def test_pydantic_ais_tool_spans_are_read() -> None:
    tools = of_kind("pydantic_ai_subagents", "tool")
    assert [tool.result.content for tool in tools if tool.result] == ["sunny", "rain"] + ["Hello there."] * 2
    assert [tool.tool.arguments for tool in tools if tool.tool][:2] == [{"city": "SF"}, {"city": "NY"}]


def test_otels_agent_spans_are_read_with_their_conversation() -> None:
    agents = of_kind("otel_genai_langchain", "agent")
    assert asked(agents[0]) == [ASK]
    assert answered(agents[0]) == [ANSWER]


def test_traceloops_wrappers_are_agents_and_tasks() -> None:
    kinds = {(record.name.split()[0], record.kind) for record in records("traceloop_langchain")}
    assert {("LangGraph.workflow", "agent"), ("invoke_agent", "agent"), ("execute_task", "chain")} <= kinds


def test_traceloops_agent_definition_has_its_instructions_in_plain_text() -> None:
    (created,) = [r for r in records("traceloop_langchain") if r.operation == "create_agent"]
    assert created.request is not None
    assert created.request.system == [Text("You are a weather bot.")]
    assert [tool.name for tool in created.request.tools] == ["get_weather", "explode"]


@pytest.mark.parametrize("name", NAMES)
def test_every_span_of_an_instrumentor_has_a_kind_and_a_dialect(name: str) -> None:
    for record in records(name):
        if record.name != "agent-root":
            assert record.kind is not None, record.name
            assert record.dialect is not None, record.name


def test_dialects_are_recognised_span_by_span() -> None:
    assert {r.dialect for r in records("openinference_langchain")} == {"openinference"}
    assert {r.dialect for r in records("pydantic_ai_subagents")} == {"genai"}
