"""A coding agent that another program ran stands within what that recorded; what several of its records tell is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conversion.captures import converted

TRACE = "0af7651916cd43dd8448eb211c80319c"
SECOND = 1_000_000_000
Attributes = dict[str, Any]


def attributes(given: Attributes) -> list[Attributes]:
    def value(each: Any) -> Attributes:
        if isinstance(each, bool):
            return {"boolValue": each}
        return {"intValue": str(each)} if isinstance(each, int) else {"stringValue": each}

    return [{"key": name, "value": value(each)} for name, each in given.items()]


def span(scope: str, name: str, number: int, parent: int | None, start: int, end: int, given: Attributes) -> str:
    told = {
        "traceId": TRACE,
        "spanId": f"{number:016x}",
        "name": name,
        "startTimeUnixNano": str(start * SECOND),
        "endTimeUnixNano": str(end * SECOND),
        "attributes": attributes(given),
    }
    if parent is not None:
        told["parentSpanId"] = f"{parent:016x}"
    scopes = [{"scope": {"name": scope}, "spans": [told]}]
    resource = {"attributes": attributes({"service.name": scope})}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]})


def log(time: int, given: Attributes) -> str:
    record = {"timeUnixNano": str(time * SECOND), "traceId": TRACE, "attributes": attributes(given)}
    scopes = [{"scope": {"name": "com.anthropic.claude_code.events"}, "logRecords": [record]}]
    return json.dumps({"resourceLogs": [{"resource": {"attributes": []}, "scopeLogs": scopes}]})


CLAUDE = "com.anthropic.claude_code.tracing"
SESSION = {"session.id": "s1"}
TURN = {**SESSION, "span.type": "interaction", "user_prompt": "Fix it."}
REQUEST = {**SESSION, "span.type": "llm_request", "model": "claude-sonnet-4-5"}


def converted_lines(lines: list[str], folder: Path) -> list[dict[str, Any]]:
    path = folder / "otlp.jsonl"
    path.write_text("\n".join(lines))
    documents, summary = converted([path], folder / "out")
    assert summary.findings == []
    return documents


def test_what_a_coding_agent_did_for_another_program_stands_beneath_the_tool_that_ran_it(tmp_path: Path) -> None:
    model = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5-mini"}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "run_claude", "gen_ai.tool.call.id": "c1"}
    asked = [{"role": "user", "parts": [{"type": "text", "content": "Mend the build."}]}]
    calls = {"type": "tool_call", "id": "c1", "name": "run_claude", "arguments": {}}
    content = {
        "gen_ai.input.messages": json.dumps(asked),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [calls]}]),
    }
    outer = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "mender"}
    done = {**REQUEST, "request_id": "r1", "response.model_output": "Fixed.", "input_tokens": 5, "output_tokens": 2}
    documents = converted_lines(
        [
            span("mender", "invoke_agent mender", 1, None, 1, 20, outer),
            span("mender", "chat", 2, 1, 2, 3, {**model, **content}),
            span("mender", "execute_tool run_claude", 3, 1, 4, 10, tool),
            span(CLAUDE, "claude_code.interaction", 4, 3, 5, 9, TURN),
            span(CLAUDE, "claude_code.llm_request", 5, 4, 6, 7, done),
        ],
        tmp_path,
    )
    (document,) = documents
    assert (document["agent"]["name"], document["session_id"]) == ("mender", "s1")
    (child,) = document["subagent_trajectories"]
    assert child["agent"]["name"] == "claude-code"
    assert [step["message"] for step in child["steps"]] == ["Fix it.", "Fixed."]


def test_a_request_that_nobody_answered_is_told_once_by_its_span_and_its_log_record(tmp_path: Path) -> None:
    failed = {**REQUEST, "success": False, "error": "503 down", "status_code": 503}
    told = {**SESSION, "event.name": "api_error", "error": "503 down", "status_code": 503, "model": "claude-sonnet-4-5"}
    (document,) = converted_lines(
        [
            span(CLAUDE, "claude_code.interaction", 4, None, 5, 9, TURN),
            span(CLAUDE, "claude_code.llm_request", 5, 4, 6, 7, failed),
            log(7, told),
        ],
        tmp_path,
    )
    assert [step["source"] for step in document["steps"]] == ["user", "agent"]
    error = document["steps"][1]["extra"]["error"]
    assert (error["message"], error["status_code"]) == ("503 down", 503)


def test_two_sessions_that_one_program_began_are_two_documents(tmp_path: Path) -> None:
    def session(name: str, number: int) -> list[str]:
        own = {"session.id": name}
        done = {**REQUEST, **own, "request_id": f"r{number}", "response.model_output": f"Fixed {name}."}
        return [
            span(CLAUDE, "claude_code.interaction", number, 9, number, number + 5, {**TURN, **own}),
            span(CLAUDE, "claude_code.llm_request", number + 1, number, number + 1, number + 2, done),
        ]

    documents = converted_lines([*session("s1", 10), *session("s2", 12)], tmp_path)
    assert [(each["session_id"], each["steps"][-1]["message"]) for each in documents] == [
        ("s1", "Fixed s1."),
        ("s2", "Fixed s2."),
    ]


def test_the_body_of_an_answer_has_what_the_model_thought_and_asked_for(tmp_path: Path) -> None:
    content = [
        {"type": "thinking", "thinking": "A command will do.", "signature": "c2ln"},
        {"type": "text", "text": "I run it."},
        {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}},
    ]
    known = {**SESSION, "request_id": "r1"}
    answered = {**known, "event.name": "api_response_body", "body": json.dumps({"content": content})}
    words = {**known, "event.name": "assistant_response", "response": "I run it."}
    ran = {**known, "event.name": "tool_result", "tool_name": "Bash", "tool_use_id": "t1", "success": "true"}
    (document,) = converted_lines([log(7, words), log(7, answered), log(8, ran)], tmp_path)
    (step,) = document["steps"]
    assert (step["reasoning_content"], step["message"]) == ("A command will do.", "I run it.")
    assert [(call["tool_call_id"], call["arguments"]) for call in step["tool_calls"]] == [("t1", {"command": "ls"})]
