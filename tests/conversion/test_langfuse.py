"""What Langfuse exports becomes the trajectories that the spans themselves become, as far as Langfuse keeps them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.conversion.captures import converted, told
from tests.conversion.stores import PYTHON, both, spans_in
from tests.conversion.test_polyglot import CAPTURES
from tests.shared_data import needs_shared

from spanrelay import semconv
from spanrelay.otlp_in import files
from spanrelay.otlp_in.records import record_of
from spanrelay.otlp_in.telemetry import Span
from spanrelay.records import Text
from spanrelay.semconv.fields import session_of

Row = dict[str, Any]

_EVENTS = "events are lost, and with them the exception that says what kind of error it was"
LOST = {
    "openinference_langchain": _EVENTS,
    "openinference_openai": _EVENTS,
    "node_openinference_openai_stream": "where 'output.value' is empty, the calls in 'llm.output_messages' are lost",
    "traceloop_openai": _EVENTS,
    "quarkus_langchain4j": "events are lost, and with them the exception that says what a tool's failure was",
}
WORDS = {"llm": "GENERATION", "embedder": "EMBEDDING", "tool": "TOOL", "agent": "AGENT", "retriever": "RETRIEVER"}
CONTENT = (
    *(("ai.prompt.messages", "ai.response.text"), ("ai.prompt", "ai.response.toolCalls")),
    *(("ai.toolCall.args", "ai.toolCall.result"), ("traceloop.entity.input", "traceloop.entity.output")),
    *(("input.value", "output.value"), ("pydantic_ai.all_messages", "final_result")),
    *(("tool_arguments", "tool_response"), ("gen_ai.prompt", "gen_ai.completion")),
    *(("llm.input_messages", "llm.output_messages"), ("gen_ai.input.messages", "gen_ai.output.messages")),
    ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result"),
)
"""Attributes that Langfuse takes what a span was given and gave from: the first pair that is there."""
TAKEN = tuple(key for pair in CONTENT for key in pair if key not in ("tool_arguments", "tool_response"))


def at(nanoseconds: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=nanoseconds // 1000)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def nested(attributes: Row, prefix: str) -> Any:
    """Return the attributes `prefix.0.role` as a list of objects, as Langfuse nests them."""
    if prefix in attributes:
        return attributes[prefix]
    found: Row = {}
    for key in attributes:
        if key.startswith(f"{prefix}."):
            *path, last = key[len(prefix) + 1 :].split(".")
            inner = found
            for step in path:
                inner = inner.setdefault(step, {})
            inner[last] = attributes[key]
    return listed(found) or None


def listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: listed(item) for key, item in value.items()}
    return list(inner.values()) if inner and all(key.isdigit() for key in inner) else inner


def content_of(span: Span) -> tuple[Any, Any]:
    """Return what Langfuse has as input and output of a span that came over OTLP."""
    own = span.attributes
    messages = [event for event in span.events if event.name.endswith((".message", "gen_ai.choice"))]
    if messages:
        said = [{"role": event.name.split(".")[1], **event.attributes} for event in messages]
        return [one for one in said if one["role"] != "choice"], [one for one in said if one["role"] == "choice"]
    given, gave = next(filter(any, ([nested(own, key) for key in pair] for pair in CONTENT)), (None, None))
    if "ai.response.toolCalls" in own and "ai.response.text" in own:
        gave = {"role": "assistant", "content": own["ai.response.text"], "tool_calls": own["ai.response.toolCalls"]}
    return given, gave


def observation_of(span: Span) -> Row:
    """Return a span that came over OTLP as Langfuse's API has it."""
    own = span.attributes
    given, gave = content_of(span)
    kept = {key: value for key, value in own.items() if not key.startswith(TAKEN)}
    return {
        "id": f"{span.span_id:016x}",
        "traceId": f"{span.trace_id:032x}",
        "projectId": "p",
        "parentObservationId": f"{span.parent_id:016x}" if span.parent_id else None,
        "type": WORDS.get(str(semconv.kind_of(own)), "SPAN"),
        "name": own.get("gen_ai.tool.name") or own.get("ai.toolCall.name") or span.name,
        "startTime": at(span.start),
        "endTime": at(span.end),
        "level": "ERROR" if span.error is not None else "DEFAULT",
        "statusMessage": span.error,
        "environment": "default",
        "sessionId": session_of(own),
        "input": given,
        "output": gave,
        "model": own.get("gen_ai.request.model") or own.get("llm.model_name"),
        "modelParameters": {},
        "usage": {"input": 1, "output": 1, "total": 2, "unit": "TOKENS"},
        "usageDetails": {"input": 1, "output": 1, "total": 2},
        "costDetails": {},
        "metadata": {
            "attributes": {key: value if isinstance(value, str) else json.dumps(value) for key, value in kept.items()},
            "resourceAttributes": span.origin.resource,
            "scope": {"name": span.origin.scope, "version": span.origin.version, "attributes": {}},
        },
    }


def written(value: object, folder: Path, name: str = "export.json") -> Path:
    (folder / name).write_text(json.dumps(value))
    return folder / name


def page_of(spans: list[Span]) -> str:
    return json.dumps({"data": list(map(observation_of, spans)), "meta": {}})


@needs_shared
@pytest.mark.parametrize("name", [*CAPTURES, *PYTHON])
def test_observations_of_langfuse_are_the_same_trajectory_but_for_what_it_loses(name: str, tmp_path: Path) -> None:
    found, expected = both(name, tmp_path, page_of)
    assert (list(map(told, found)) == list(map(told, expected))) is (name not in LOST)


TRACE = "8f3c9f0a-5f0e-4a53-9d0a-0b6d0a3c1e11"
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is there a star?"}]
ANSWERED = {"role": "tool", "tool_call_id": "call_1", "content": "a star"}


def observation(name: str, kind: str, second: int, **more: Any) -> Row:
    return {
        "id": name,
        "traceId": TRACE,
        "projectId": "p",
        "type": kind,
        "name": name,
        "startTime": f"2026-11-30T10:00:{second:02}.000Z",
        "endTime": f"2026-11-30T10:00:{second + 1:02}.500Z",
        "parentObservationId": "run",
        "level": "DEFAULT",
        "environment": "default",
        "metadata": {"team": "sky", "resourceAttributes": {"service.name": "astronomer"}},
        **more,
    }


def generation(name: str, second: int, given: Any, gave: Any) -> Row:
    told = {"model": "gpt-4.1", "modelParameters": {"temperature": 0.2}, "costDetails": {"total": 0.25}}
    usage = {"input": 5, "input_cached_tokens": 4, "output": 2, "total": 11}
    return observation(name, "GENERATION", second, input=given, output=gave, usageDetails=usage, **told)


OBSERVATIONS = [
    observation("run", "AGENT", 0, endTime="2026-11-30T10:00:20.000Z") | {"parentObservationId": None},
    generation("ask", 1, ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}),
    observation("look", "TOOL", 3, input={"at": "sky"}, output="a star"),
    generation("answer", 5, [*ASKED, {"role": "assistant", "tool_calls": [CALL]}, ANSWERED], "Yes."),
]
"""As Langfuse's own SDKs record an agent; the ids are those of the older ones."""
ABOUT = {"id": TRACE, "timestamp": "2026-11-30T10:00:00.000Z", "name": "run", "tags": [], "sessionId": "night-1",
         "userId": "u", "public": False, "environment": "default", "metadata": {}}  # fmt: skip
SCORE = {"id": "s", "timestamp": "2026-11-30T10:01:00Z", "source": "API", "name": "good", "value": 1, "traceId": TRACE}


def in_texts(row: Row) -> Row:
    """Return a row as the second version of the API has it: content, and what is in the metadata, as texts."""
    inner = {key: text_of(value) for key, value in row["metadata"].items()}
    return {**row, **{key: text_of(row[key]) for key in ("input", "output") if key in row}, "metadata": inner}


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def snake(row: Row) -> Row:
    """Return a row as the export to blob storage has it."""
    names = {"model": "provided_model_name"}
    found = {names.get(key) or "".join(f"_{c.lower()}" if c.isupper() else c for c in key): row[key] for key in row}
    times = {key: found[key].replace("T", " ").rstrip("Z") for key in found if key.endswith(("_time", "timestamp"))}
    return in_texts({**found, **times})


FORMS: dict[str, Callable[[], list[Any]]] = {
    "a trace of the API": lambda: [{**ABOUT, "htmlPath": "/t", "observations": OBSERVATIONS, "scores": [SCORE]}],
    "pages of observations": lambda: [
        {"data": [{**row, "sessionId": "night-1"} for row in OBSERVATIONS[:2]], "meta": {"page": 1}},
        {"data": [in_texts({**row, "sessionId": "night-1"}) for row in OBSERVATIONS[2:]], "meta": {"cursor": None}},
    ],
    "a list from the UI": lambda: [[{**row, "sessionId": "night-1", "good": [1]} for row in OBSERVATIONS]],
    "a download of a trace": lambda: [
        {"trace": {**ABOUT, "observations": OBSERVATIONS}, "observations": OBSERVATIONS, "scores": [SCORE]}
    ],
    "rows in blob storage": lambda: [*map(snake, OBSERVATIONS), SCORE, snake({**ABOUT, "bookmarked": False})],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_same_trajectory(form: str, tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text("\n".join(json.dumps(value) for value in FORMS[form]()))
    assert files.is_telemetry(path)
    documents, summary = converted([path], tmp_path / "out")
    assert summary.findings == []
    (document,) = documents
    assert (document["session_id"], document["agent"]["name"]) == ("night-1", "astronomer")
    assert [step.get("model_name") for step in document["steps"][2:]] == ["gpt-4.1", "gpt-4.1"]
    assert document["steps"][2]["metrics"]["cost_usd"] == 0.25
    assert told(document) == [
        {"source": "system", "message": "Be brief."},
        {"source": "user", "message": "Is there a star?"},
        {
            "source": "agent",
            "message": "",
            "calls": {"call_1": ("look", {"at": "sky"})},
            "results": {"call_1": "a star"},
            "tokens": (9, 2, 4),
        },
        {"source": "agent", "message": "Yes.", "tokens": (9, 2, 4)},
    ]


def test_a_span_has_its_status_its_scope_and_its_ids_again(tmp_path: Path) -> None:
    scope = {"scope": {"name": "lib", "version": "2"}, "attributes": '{"a.id": "7", "n": "7", "l": "[\\"x\\"]"}'}
    row = observation(
        "0123456789abcdef", "EVENT", 1, endTime=None, metadata=scope, level="ERROR", statusMessage="no sky"
    )
    row |= {"traceId": "f" * 32, "parentObservationId": "0" * 15 + "1"}
    (span,) = spans_in(written([row], tmp_path))
    assert (span.trace_id, span.span_id, span.parent_id) == ((1 << 128) - 1, 0x0123456789ABCDEF, 1)
    assert (span.end - span.start, span.error) == (0, "no sky")
    assert (span.origin.scope, span.origin.version) == ("lib", "2")
    assert span.attributes == {"a.id": "7", "n": 7, "l": ["x"]}


def test_instructions_that_langfuse_put_before_the_messages_are_told_once(tmp_path: Path) -> None:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.system_instructions": "Be brief."}
    row = generation("ask", 1, ASKED, "Yes.") | {"metadata": {"attributes": attributes}}
    (span,) = spans_in(written([row], tmp_path))
    request = record_of(span).request
    assert request is not None
    assert [message.role for message in request.messages if message.parts != [Text("Be brief.")]] == ["user"]
    assert len(request.messages) + len(request.system) == 2


def test_a_row_without_an_id_or_a_time_is_a_finding_and_the_rest_is_read(tmp_path: Path) -> None:
    good = OBSERVATIONS[1]
    rows = [good | {"id": None}, good | {"startTime": "noon"}, good | {"traceId": 7}, "no row", good]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in [*rows, {"data": rows}]))
    found: list[files.Finding] = []
    read = [item for piece in files.pieces_of(lines, found.append) for item in files.read(piece, found.append)]
    findings = [str(finding).removeprefix(str(tmp_path)) for finding in found]
    assert len(read) == 2
    assert findings[:3] == [
        "/rows.jsonl:1: observation 'None' of Langfuse: 'id' is 'None': expected an id",
        "/rows.jsonl:2: observation 'ask' of Langfuse: the time of a span is 'noon': expected one in ISO 8601",
        "/rows.jsonl:3: observation 'ask' of Langfuse: 'traceId' is '7': expected an id",
    ]
    assert [finding.split(":")[1] for finding in findings[3:]] == ["4", "6", "6", "6"]


GARBAGE: list[Any] = [
    None,
    7,
    -1,
    1e300,
    True,
    "",
    "x",
    "{",
    "[1]",
    '{"a": [',
    [],
    [7],
    {},
    {"role": 7},
    [[]],
    {"data": {}},
]


def garbled(value: Any, chance: random.Random) -> Any:
    if chance.random() < 0.06:
        return chance.choice(GARBAGE)
    if isinstance(value, dict):
        return {key: garbled(item, chance) for key, item in value.items()}
    return [garbled(item, chance) for item in value] if isinstance(value, list) else value


def test_whatever_stands_in_an_export_nothing_is_raised(tmp_path: Path) -> None:
    findings: list[files.Finding] = []
    for number in range(150):
        chance = random.Random(number)
        values = garbled(copy.deepcopy(FORMS[chance.choice(sorted(FORMS))]()), chance)
        piece = files.Piece("export", json.dumps(values).encode(), True)
        for span in files.read(piece, findings.append):
            assert isinstance(span, Span)
            record_of(span)
    assert findings
