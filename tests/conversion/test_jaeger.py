"""Traces that were saved from Jaeger's UI become the trajectories that the spans themselves become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conversion.stores import both, spans_in
from tests.conversion.test_polyglot import CAPTURES
from tests.shared_data import needs_shared

from spanrelay.assembly.atif import Trajectory
from spanrelay.evaluation.comparison import compare
from spanrelay.otlp_in import files
from spanrelay.otlp_in.telemetry import Event, Origin, Span

KINDS = {bool: "bool", int: "int64", float: "float64"}


def tag(key: str, value: Any) -> dict[str, Any]:
    """Return a tag as Jaeger has it: what is no scalar is its JSON, and large integers are text."""
    kind = KINDS.get(type(value), "string")
    if kind == "int64" and abs(value) >= 1 << 53:
        value = str(value)
    return {
        "key": key,
        "type": kind,
        "value": value if kind != "string" or isinstance(value, str) else json.dumps(value),
    }


def tags(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [tag(key, value) for key, value in attributes.items()]


def jaeger_span(span: Span, process: str) -> dict[str, Any]:
    parent = [{"refType": "CHILD_OF", "traceID": f"{span.trace_id:032x}", "spanID": f"{span.parent_id or 0:016x}"}]
    scope = {"otel.scope.name": span.origin.scope, "otel.scope.version": span.origin.version}
    failed = {"otel.status_code": "ERROR", "error": True, "otel.status_description": span.error}
    said = {**scope, **span.attributes, "span.kind": "internal", **(failed if span.error is not None else {})}
    return {
        "traceID": f"{span.trace_id:032x}",
        "spanID": f"{span.span_id:016x}",
        "operationName": span.name,
        "references": parent if span.parent_id else [],
        "startTime": span.start // 1000,
        "duration": span.end // 1000 - span.start // 1000,
        "tags": tags({key: value for key, value in said.items() if value not in (None, "")}),
        "logs": [
            {"timestamp": event.time // 1000, "fields": tags({"event": event.name, **event.attributes})}
            for event in span.events
        ],
        "processID": process,
        "warnings": None,
    }


def jaeger_of(spans: list[Span]) -> dict[str, Any]:
    """Return spans as Jaeger's UI saves them."""
    traces: dict[int, list[dict[str, Any]]] = {}
    processes: dict[str, dict[str, Any]] = {}
    for span in spans:
        resource = dict(span.origin.resource)
        process = {"serviceName": resource.pop("service.name", ""), "tags": tags(resource)}
        key = next((key for key, known in processes.items() if known == process), f"p{len(processes) + 1}")
        processes[key] = process
        traces.setdefault(span.trace_id, []).append(jaeger_span(span, key))
    data = [
        {"traceID": f"{trace:032x}", "spans": held, "processes": processes, "warnings": None}
        for trace, held in traces.items()
    ]
    return {"data": data, "total": 0, "limit": 0, "offset": 0, "errors": None}


@needs_shared
@pytest.mark.parametrize("name", CAPTURES)
def test_a_trace_of_jaeger_is_the_same_trajectory(name: str, tmp_path: Path) -> None:
    found, expected = both(name, tmp_path, lambda spans: json.dumps(jaeger_of(spans), indent=1))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert not compare(Trajectory.from_json(one), Trajectory.from_json(other), everything=True)


SPAN = {
    "traceID": "a1", "spanID": "b2", "operationName": "chat m", "startTime": 1_700_000_000_000_001, "duration": 5,
    "references": [{"refType": "FOLLOWS_FROM", "traceID": "a1", "spanID": "1"},
                   {"refType": "CHILD_OF", "traceID": "ff", "spanID": "2"},
                   {"refType": "CHILD_OF", "traceID": "a1", "spanID": "3"}],
    "tags": [{"key": "n", "type": "int64", "value": "9007199254740993"}, {"key": "f", "type": "float64", "value": 1},
             {"key": "b", "type": "binary", "value": "AAE="}, {"key": "error", "type": "bool", "value": True},
             {"key": "otel.library.name", "type": "string", "value": "lib"}],
    "logs": [{"timestamp": 1_700_000_000_000_002, "fields": [{"key": "message", "type": "string", "value": "said"},
                                                             {"key": "x", "type": "bool", "value": False}]}],
    "processID": "p1",
}  # fmt: skip


def saved(spans: list[Any], folder: Path) -> Path:
    process = {"serviceName": "shop", "tags": [{"key": "zone", "type": "string", "value": "eu"}]}
    trace = {"traceID": "a1", "spans": spans, "processes": {"p1": process}}
    (folder / "saved.json").write_text(json.dumps({"data": [trace]}))
    return folder / "saved.json"


def test_what_a_span_says_is_read_of_its_tags_logs_references_and_process(tmp_path: Path) -> None:
    (span,) = spans_in(saved([SPAN], tmp_path))
    assert (span.trace_id, span.span_id, span.parent_id) == (0xA1, 0xB2, 3)
    assert (span.start, span.end) == (1_700_000_000_000_001_000, 1_700_000_000_000_006_000)
    assert span.attributes == {"n": 9007199254740993, "f": 1.0, "b": b"\0\1"}
    assert span.events == [Event("said", 1_700_000_000_000_002_000, {"x": False})]
    assert span.error == ""
    assert span.origin == Origin({"service.name": "shop", "zone": "eu"}, "lib", None)


def test_what_is_a_list_by_its_convention_is_one_again(tmp_path: Path) -> None:
    given = {"gen_ai.request.stop_sequences": ["a", "b"], "note": ["c"]}
    (span,) = spans_in(saved([SPAN | {"tags": tags(given)}], tmp_path))
    assert span.attributes == {"gen_ai.request.stop_sequences": ["a", "b"], "note": '["c"]'}


def test_a_trace_alone_is_read_as_one_among_others(tmp_path: Path) -> None:
    path = saved([SPAN], tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text())["data"][0]))
    assert [span.name for span in spans_in(path)] == ["chat m"]


def test_a_span_without_an_id_or_a_time_is_a_finding_and_the_rest_is_read(tmp_path: Path) -> None:
    path = saved([SPAN | {"spanID": None}, SPAN | {"startTime": "noon"}, "no span", SPAN], tmp_path)
    findings: list[str] = []
    read = [
        item
        for piece in files.pieces_of(path, pytest.fail)
        for item in files.read(piece, lambda each: findings.append(str(each)))
    ]
    assert len(read) == 1
    assert [finding.split(": ", 1)[1] for finding in findings] == [
        "'spanID' is 'None': expected hex digits", "'startTime' is 'noon': expected microseconds",
    ]  # fmt: skip
