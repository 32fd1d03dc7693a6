"""What a model was asked and answered is read from log records where its span does not say it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from tests.conversion import program
from tests.conversion.captures import converted, told

from spanrelay.conversion.traces import parted
from spanrelay.otlp_in import logs
from spanrelay.otlp_in.records import record_of
from spanrelay.otlp_in.telemetry import LogRecord, Origin, Span
from spanrelay.records import Message, SpanRecord, Text, ToolCall, ToolCallResponse
from spanrelay.semconv import names

CALL: dict[str, Any] = {
    "id": "c1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
}
OLD: list[tuple[str, Any]] = [
    ("gen_ai.system.message", {"content": "be brief"}),
    ("gen_ai.user.message", {"content": "hi"}),
    ("gen_ai.assistant.message", {"content": None, "tool_calls": [CALL]}),
    ("gen_ai.tool.message", {"id": "c1", "content": "sunny"}),
    ("gen_ai.choice", {"index": 0, "finish_reason": "stop", "message": {"content": "Sunny.", "tool_calls": None}}),
]
ASKED = [
    Message("system", [Text("be brief")]),
    Message("user", [Text("hi")]),
    Message("assistant", [ToolCall("c1", "weather", {"city": "Rome"})]),
    Message("tool", [ToolCallResponse("c1", "sunny")]),
]


def event(name: str, body: Any, *, span_id: int = 2, named: bool = False, **attributes: Any) -> LogRecord:
    """Return a log record of span 2; its event is `named` by the format's field, else by an attribute."""
    said = attributes if named else {"event.name": name, **attributes}
    return LogRecord(1, span_id, 5, name if named else None, body, said)


def read(*records: LogRecord, **attributes: Any) -> SpanRecord:
    """Return the record of a model call with what log records say of it."""
    given = {"gen_ai.operation.name": "chat", **attributes}
    span = Span(1, 2, None, False, "chat", 1, 9, given, [], None, Origin({}))
    logs.join([span], list(records))
    return record_of(span)


def test_records_of_one_uid_and_time_are_one_and_all_others_are_as_many_as_there_are() -> None:
    def said(uid: str | None, time: int) -> LogRecord:
        return LogRecord(1, 2, time, "gen_ai.choice", {"content": "Yes."}, {}, uid=uid)

    given = [said("a", 5), said("a", 5), said("b", 5), said(None, 5), said(None, 5), said("a", 6)]
    assert parted(given)[1] == [given[0], *given[2:]]


def messages_of(record: SpanRecord) -> list[Message]:
    return list(record.request.messages) if record.request is not None else []


@pytest.mark.parametrize("named", [True, False])
def test_an_event_a_message_is_the_messages_of_a_request_and_its_answer(named: bool) -> None:
    record = read(*(event(name, body, named=named) for name, body in OLD))
    assert messages_of(record) == ASKED
    assert record.response is not None
    assert record.response.messages == [Message("assistant", [Text("Sunny.")], finish_reason="stop")]
    assert record.content


def test_a_body_that_is_the_text_of_json_is_read() -> None:
    assert messages_of(read(*(event(name, json.dumps(body)) for name, body in OLD))) == ASKED


def test_records_that_came_twice_count_once() -> None:
    told_twice = [event(name, body) for name, body in [*OLD[:2], OLD[1], *OLD[2:]]] * 2
    record = read(*told_twice)
    assert messages_of(record) == [*ASKED[:2], ASKED[1], *ASKED[2:]]
    assert record.response is not None
    assert len(record.response.messages) == 1


def test_choices_are_told_in_their_order() -> None:
    choices = [event("gen_ai.choice", {"index": n, "message": {"content": str(n)}}) for n in (1, 0)]
    record = read(*choices)
    assert record.response is not None
    assert [message.text for message in record.response.messages] == ["0", "1"]


def test_the_details_of_an_operation_are_attributes_of_the_span() -> None:
    asked = [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    answer = [{"role": "assistant", "parts": [{"type": "tool_call", "id": "fc_1", "call_id": "c1", "name": "weather"}]}]
    details = (
        event(names.OPERATION_DETAILS, None, named=True, **{"gen_ai.input.messages": asked}),
        event(names.OPERATION_DETAILS, None, named=True, **{"gen_ai.output.messages": json.dumps(answer)}),
    )
    record = read(*details)
    assert messages_of(record) == [Message("user", [Text("hi")])]
    assert record.response is not None
    assert record.response.tool_calls == [ToolCall("c1", "weather")]


def test_what_a_span_says_itself_stays() -> None:
    said = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "mine"}]}])
    record = read(event("gen_ai.user.message", {"content": "theirs"}), **{"gen_ai.input.messages": said})
    assert [message.text for message in messages_of(record)] == ["mine"]


def test_records_of_other_spans_and_other_events_say_nothing() -> None:
    record = read(event("gen_ai.user.message", {"content": "hi"}, span_id=3), event("app.started", {"content": "x"}))
    assert (messages_of(record), record.content) == ([], False)


def test_events_without_content_say_that_it_was_not_recorded() -> None:
    record = read(event("gen_ai.user.message", {}), event("gen_ai.choice", {"index": 0, "message": {}}))
    assert not record.content


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": k, "value": _value(v)} for k, v in value.items()]}}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {} if value is None else {"intValue": value} if isinstance(value, int) else {"stringValue": value}


REQUESTS: list[dict[str, Any]] = [
    {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "0" * 31 + "1",
                                "spanId": "0" * 15 + "2",
                                "name": "chat m",
                                "startTimeUnixNano": "1795900000000000000",
                                "endTimeUnixNano": "1795900001000000000",
                                "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}],
                            }
                        ]
                    }
                ]
            }
        ]
    },
    *(
        {
            "resourceLogs": [
                {
                    "scopeLogs": [
                        {
                            "logRecords": [
                                {
                                    "traceId": "0" * 31 + "1",
                                    "spanId": "0" * 15 + "2",
                                    "timeUnixNano": str(1_795_900_000_000_000_001 + at),
                                    "eventName": name,
                                    "body": _value(body),
                                }
                                for name, body in part
                            ]
                        }
                    ]
                }
            ]
        }
        for at, part in enumerate((OLD[:2], OLD[2:]))
    ),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_log_records_may_come_before_and_behind_their_span(order: tuple[int, ...], tmp_path: Path) -> None:
    lines = b"\n".join(json.dumps(REQUESTS[number]).encode() for number in order)
    (document,), summary = converted([program.write(tmp_path, lines)], tmp_path / "out")
    assert (summary.spans, summary.logs, summary.silent) == (1, 5, 0)
    assert [(step["source"], step["message"]) for step in told(document)] == [
        ("system", "be brief"),
        ("user", "hi"),
        ("agent", ""),
        ("agent", "Sunny."),
    ]


def test_those_of_whom_no_trajectory_comes_are_named(tmp_path: Path) -> None:
    spans = REQUESTS[0]["resourceSpans"][0]["scopeSpans"][0]["spans"]
    plain = {**spans[0], "attributes": []}
    request = {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {"scope": {"name": "some.http"}, "spans": [plain]},
                    {"spans": [{**plain, "spanId": "0" * 15 + "3"}]},
                ]
            }
        ]
    }
    documents, summary = converted([program.write(tmp_path, json.dumps(request).encode())], tmp_path / "out")
    assert (documents, summary.unknown, summary.silent) == ([], {"some.http": 1, "no scope": 1}, 2)
