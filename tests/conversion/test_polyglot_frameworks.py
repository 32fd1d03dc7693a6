"""What several spans tell together: captures of programs that ended otherwise, and spans as frameworks write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conversion.captures import WEATHER, converted, told
from tests.shared_data import SHARED, needs_shared

from spanrelay.otlp_in import logs
from spanrelay.otlp_in.records import record_of
from spanrelay.otlp_in.repairs import Repairs
from spanrelay.otlp_in.repairs.roles import SPRING_PROMPT
from spanrelay.otlp_in.telemetry import Event, LogRecord, Origin, Span
from spanrelay.records import Message, SpanRecord, Text, ToolCall, ToolCallResponse


def capture(name: str) -> Path:
    assert SHARED is not None
    return SHARED / "spans-polyglot" / f"{name}.jsonl"


@needs_shared
@pytest.mark.parametrize("name", ["genkit_go_tool_error", "genkit_js_tool_error"])
def test_a_run_that_ends_with_a_tool_that_raises_is_told_up_to_there(name: str, tmp_path: Path) -> None:
    (document,), _ = converted([capture(name)], tmp_path)
    assert told(document) == WEATHER[:3]


@needs_shared
def test_a_history_without_its_beginning_is_another_documents(tmp_path: Path) -> None:
    """Genkit's library for Go forgets after a stream what was asked, and counts no tokens of one."""
    (first, second), _ = converted([capture("genkit_go_stream")], tmp_path)
    bare = [{key: value for key, value in step.items() if key not in ("tokens", "failed")} for step in WEATHER]
    bare[2]["results"] = {**bare[2]["results"], "call_atlantis": "Error: unknown city: Atlantis"}
    assert told(first) == bare[:4]
    assert told(second) == [bare[0], *bare[3:]]


# --- spans of a trace ----------------------------------------------------------------------------------------

_ROOT = 1


class Trace:
    """Spans beneath one, each after the one before."""

    def __init__(self, scope: str = "any") -> None:
        self.origin = Origin({"service.name": "weather"}, scope)
        self.spans = [Span(9, _ROOT, None, False, "root", 0, 10_000_000_000, {}, [], None, self.origin)]

    def add(self, attributes: dict[str, Any], above: int = _ROOT, error: str | None = None, raised: str = "") -> int:
        number = len(self.spans) + 1
        start = number * 100_000_000
        events = [Event("exception", start, {"exception.type": "Oops", "exception.message": raised})] if raised else []
        self.spans.append(
            Span(9, number, above, False, "span", start, start + 50_000_000, attributes, events, error, self.origin)
        )
        return number

    def tool(self, call_id: str | None, arguments: Any, result: str | None, above: int = _ROOT, **more: Any) -> int:
        told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
        told |= {"gen_ai.tool.call.arguments": json.dumps(arguments)}
        told |= {"gen_ai.tool.call.id": call_id} if call_id else {}
        told |= {"gen_ai.tool.call.result": result} if result is not None else {}
        return self.add(told, above, **more)

    def read(self, repairs: Repairs | None = None) -> list[SpanRecord]:
        """Return the records of all but the root."""
        records = [record_of(span) for span in self.spans]
        (repairs or Repairs()).mend(self.spans, records)
        return records[1:]


def call(**more: Any) -> dict[str, Any]:
    return {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"} | {
        key.replace("__", "."): value for key, value in more.items()
    }


def calls_of(record: SpanRecord) -> list[ToolCall]:
    return record.response.tool_calls if record.response is not None else []


def sent(record: SpanRecord) -> list[Message]:
    assert record.request is not None
    return record.request.messages


# --- tools that alone tell what a model asked for --------------------------------------------------------------


def test_tools_between_two_model_calls_are_what_the_first_asked_for() -> None:
    trace = Trace()
    trace.add(call(gen_ai__response__finish_reasons=["TOOL_CALLS"]))
    trace.tool("call_1", {"q": "x"}, "found")
    trace.tool("call_2", {"q": "y"}, "found too")
    trace.add(call(gen_ai__response__finish_reasons=["STOP"]))
    first, _, _, second = trace.read()
    assert calls_of(first) == [ToolCall("call_1", "search", {"q": "x"}), ToolCall("call_2", "search", {"q": "y"})]
    assert calls_of(second) == []


def test_a_model_call_may_stand_deeper_than_the_tools_that_it_asked_for() -> None:
    trace = Trace()
    trace.add(call(), above=trace.add({"gen_ai.operation.name": "framework"}))
    trace.tool("call_1", {"q": "x"}, "found")
    assert [call.id for call in calls_of(trace.read()[1])] == ["call_1"]


def test_a_tool_without_an_id_gets_one_that_it_shares_with_its_call() -> None:
    trace = Trace()
    trace.add(call())
    trace.tool(None, {"q": "x"}, "found")
    asked, run = trace.read()
    assert run.tool is not None
    assert [call.id for call in calls_of(asked)] == [run.tool.call_id]


def test_a_tool_that_the_program_runs_by_itself_is_nobodys_call() -> None:
    answer = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "there"}]}])
    trace = Trace()
    trace.tool("call_0", {"q": "x"}, "found")  # before any model was asked
    trace.add(call(gen_ai__output__messages=answer, gen_ai__response__finish_reasons=["stop"]))
    trace.tool("call_1", {"q": "x"}, "found")
    assert calls_of(trace.read()[1]) == []


def test_a_tool_of_another_agent_is_no_call_of_the_model_beside_that() -> None:
    trace = Trace()
    trace.add(call())
    trace.tool("call_1", {"q": "x"}, "found", above=trace.add({"gen_ai.operation.name": "invoke_agent"}))
    assert calls_of(trace.read()[0]) == []


@pytest.mark.parametrize("call_id", ["call_1", None])
def test_a_call_that_is_told_needs_no_witness(call_id: str | None) -> None:
    part = {"type": "tool_call", "id": "call_1", "name": "search", "arguments": {"q": "x"}}
    trace = Trace()
    trace.add(call(gen_ai__output__messages=json.dumps([{"role": "assistant", "parts": [part]}])))
    trace.add(call())
    trace.tool(call_id, {"q": "x"}, "found")
    first, second, _ = trace.read()
    assert ([call.id for call in calls_of(first)], calls_of(second)) == (["call_1"], [])


# --- requests that are but texts -------------------------------------------------------------------------------


def quarkus(trace: Trace, prompt: str, completion: str | None = None) -> None:
    told = {"gen_ai.request.model": "m", "gen_ai.prompt": prompt}
    trace.add(told | ({"gen_ai.completion": completion} if completion is not None else {}))


CALL = Message("assistant", [ToolCall("call_1", "search", {"q": "x"})])


def test_lines_of_a_prompt_get_the_roles_that_the_conversation_before_gives_them() -> None:
    trace = Trace("io.quarkus.opentelemetry")
    quarkus(trace, "be brief\nlook")
    trace.tool("call_1", {"q": "x"}, '"found"')
    quarkus(trace, 'be brief\nlook\nnull\n"found"', "there")
    quarkus(trace, 'be brief\nlook\nnull\n"found"\nthere\nand\nmore?', "no")
    first, _, second, third = trace.read()
    begin = [Message("system", [Text("be brief")]), Message("user", [Text("look")])]
    assert sent(first) == begin
    assert sent(second) == [*begin, CALL, Message("tool", [ToolCallResponse("call_1", "found")])]
    answer = Message("assistant", [Text("there")])
    assert sent(third) == [*sent(second), answer, Message("user", [Text("and\nmore?")])]


def test_what_a_tool_that_raised_gave_is_in_the_next_prompt() -> None:
    trace = Trace("io.quarkus.opentelemetry")
    quarkus(trace, "look")
    trace.tool("call_1", {"q": "x"}, None, raised="gone")
    quarkus(trace, "look\nnull\ngone", "sorry")
    _, run, after = trace.read()
    assert run.error is not None
    assert sent(after)[1:] == [CALL, Message("tool", [ToolCallResponse("call_1", "gone", is_error=True)])]


def test_more_lines_than_two_of_an_unknown_conversation_stay_one_text() -> None:
    trace = Trace("io.quarkus.opentelemetry")
    quarkus(trace, "be brief\nlook\nhere")
    assert sent(trace.read()[0]) == [Message("user", [Text("be brief\nlook\nhere")])]


def test_a_conversation_goes_on_in_the_next_trace() -> None:
    repairs, first, second = Repairs(), Trace("io.quarkus.opentelemetry"), Trace("io.quarkus.opentelemetry")
    quarkus(first, "look", "there")
    quarkus(second, "look\nthere\nmore\nplease")
    first.read(repairs)
    (record,) = second.read(repairs)
    assert [message.role for message in sent(record)] == ["user", "assistant", "user"]
    assert sent(record)[-1].text == "more\nplease"


def test_of_conversations_that_begin_alike_the_one_goes_on_that_has_most_of_a_request() -> None:
    trace = Trace("io.quarkus.opentelemetry")
    quarkus(trace, "be brief\nlook", "there")
    quarkus(trace, "be brief")  # another, that has failed
    quarkus(trace, "be brief\nlook\nthere\nmore")
    assert [message.role for message in sent(trace.read()[2])] == ["system", "user", "assistant", "user"]


def spring(trace: Trace, prompt: str, answer: str = "") -> None:
    said = [{"role": "assistant", "parts": [{"type": "text", "content": answer}]}]
    trace.add(call() | {SPRING_PROMPT: prompt} | ({"gen_ai.output.messages": said} if answer else {}))


@pytest.mark.parametrize(
    ("prompt", "roles"),
    [
        ("look", ["user"]),
        ('be brief", "look', ["system", "user"]),
        ('look", "there", "more', ["user", "assistant", "user"]),
        ('be brief", "look", "", "", "there", "more', ["system", "user", "assistant", "user"]),
    ],
)
def test_texts_of_an_unknown_conversation_take_turns(prompt: str, roles: list[str]) -> None:
    trace = Trace()
    spring(trace, prompt)
    assert [message.role for message in sent(trace.read()[0])] == roles


def test_a_memory_that_keeps_nothing_of_tools_goes_on_with_the_conversation() -> None:
    trace = Trace()
    spring(trace, "look")
    trace.tool("call_1", {"q": "x"}, "found")
    spring(trace, 'look", "", "', "there")
    spring(trace, 'look", "there", "more', "no")
    *_, second, third = trace.read()
    results = Message("tool", [ToolCallResponse("call_1", "found")])
    assert sent(second) == [Message("user", [Text("look")]), CALL, results]
    assert [message.role for message in sent(third)] == ["user", "assistant", "tool", "assistant", "user"]


def test_the_texts_of_spring_are_in_its_log_records() -> None:
    trace = Trace()
    number = trace.add(call())
    scope = "org.springframework.ai.chat.observation."
    prompt = LogRecord(
        9, number, 2, None, 'Chat Model Prompt Content:\n["say "hi"", "look"]', {}, Origin({}, f"{scope}A")
    )
    answer = LogRecord(9, number, 1, None, 'Chat Model Completion:\n["one", "two"]', {}, Origin({}, f"{scope}B"))
    none = LogRecord(9, number, 3, None, "Chat Model Completion:\n[]", {}, Origin({}, f"{scope}B"))
    logs.join(trace.spans, [none, answer, prompt])
    (record,) = trace.read()
    assert [message.text for message in sent(record)] == ['say "hi"', "look"]
    assert record.response is not None
    assert [message.text for message in record.response.messages] == ["one", "two"]


# --- Mastra's steps --------------------------------------------------------------------------------------------


def mastra(kind: str, **more: Any) -> dict[str, Any]:
    told = {f"mastra.{kind}.{key}": json.dumps(value) for key, value in more.items()}
    return {"mastra.span.type": kind, "gen_ai.operation.name": {"model_step": "agent_step"}.get(kind, kind)} | told


def steps(trace: Trace, above: int, *given: list[dict[str, Any]]) -> None:
    output = {"text": "", "toolCalls": [{"toolCallId": "call_1", "toolName": "search", "args": {"q": "x"}}]}
    first = trace.add(mastra("model_step", input=given[0], output=output), above)
    trace.add(call(gen_ai__output__messages='[{"role":"assistant","parts":[{"type":"text","content":""}]}]'), first)
    trace.tool("call_1", {"q": "x"}, "found", first)
    second = trace.add(mastra("model_step", input=given[1], output={"text": "there", "toolCalls": []}), above)
    trace.add(call(), second)


SHORT = [{"role": "user", "content": "look"}]
LONGER = [*SHORT, {"role": "assistant", "content": "[tool: search]"}, {"role": "tool", "content": "[tool-result]"}]


def models(records: list[SpanRecord]) -> list[SpanRecord]:
    return [record for record in records if record.kind == "llm"]


def test_a_step_of_mastra_is_sent_what_the_steps_before_it_told() -> None:
    trace = Trace()
    steps(trace, trace.add(mastra("model_generation", input={"messages": SHORT})), SHORT, LONGER)
    first, second = models(trace.read())
    assert sent(first) == [Message("user", [Text("look")])]
    assert first.response is not None and first.response.messages == [CALL]
    assert sent(second) == [*sent(first), CALL, Message("tool", [ToolCallResponse("call_1", "found")])]


def test_where_mastras_generation_tells_nothing_the_agents_input_begins_a_conversation() -> None:
    trace = Trace()
    run = {"gen_ai.system_instructions": "be brief", "gen_ai.tool.definitions": '["search"]'}
    agent = trace.add({**mastra("agent_run", input=SHORT), **run, "gen_ai.operation.name": "invoke_agent"})
    steps(trace, trace.add(mastra("model_generation"), agent), [], [])
    first, second = models(trace.read())
    assert sent(first) == [Message("system", [Text("be brief")]), Message("user", [Text("look")])]
    assert [message.role for message in sent(second)] == ["system", "user", "assistant", "tool"]
    assert first.request is not None and [tool.name for tool in first.request.tools] == ["search"]


def test_a_step_of_mastra_that_was_sent_something_else_says_so_as_it_does() -> None:
    trace = Trace()
    steps(trace, trace.add(mastra("model_generation", input={"messages": SHORT})), SHORT, SHORT)
    _, second = models(trace.read())
    assert sent(second) == [Message("user", [Text("look")])]
