"""Rows of tables of spans become the trajectories that the spans themselves become."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.conversion.captures import told
from tests.conversion.stores import PYTHON, at, both, spans_in
from tests.conversion.test_polyglot import CAPTURES
from tests.shared_data import needs_shared

from spanrelay.otlp_in import files
from spanrelay.otlp_in.telemetry import Event, Origin, Span

Row = dict[str, Any]


def as_text(value: Any) -> str:
    """Return what the Collector's exporter to ClickHouse makes of a value."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if isinstance(value, str) else json.dumps(value)


def texts(attributes: Row) -> Row:
    return {key: as_text(value) for key, value in attributes.items()}


def moment(nanoseconds: int) -> str:
    """Return a time as ClickHouse writes it in a row of JSON."""
    return f"{at(nanoseconds)[:19].replace('T', ' ')}.{nanoseconds % 1_000_000_000:09}"


def of_clickhouse(span: Span) -> Row:
    failed = span.error is not None
    return {
        "Timestamp": moment(span.start),
        "TraceId": f"{span.trace_id:032x}",
        "SpanId": f"{span.span_id:016x}",
        "ParentSpanId": "" if span.parent_id is None else f"{span.parent_id:016x}",
        "TraceState": "",
        "SpanName": span.name,
        "SpanKind": "Client",
        "ServiceName": span.origin.resource.get("service.name", ""),
        "ResourceAttributes": texts(span.origin.resource),
        "ScopeName": span.origin.scope or "",
        "ScopeVersion": span.origin.version or "",
        "SpanAttributes": texts(span.attributes),
        "Duration": str(span.end - span.start),
        "StatusCode": "Error" if failed else "Unset",
        "StatusMessage": span.error or "",
        "Events.Timestamp": [moment(event.time) for event in span.events],
        "Events.Name": [event.name for event in span.events],
        "Events.Attributes": [texts(event.attributes) for event in span.events],
    }


def of_catalog(span: Span) -> Row:
    events = [{"time_unix_nano": e.time, "name": e.name, "attributes": texts(e.attributes)} for e in span.events]
    return {
        "trace_id": f"{span.trace_id:032x}",
        "span_id": f"{span.span_id:016x}",
        "parent_span_id": None if span.parent_id is None else f"{span.parent_id:016x}",
        "name": span.name,
        "kind": "SPAN_KIND_CLIENT",
        "flags": 257,
        "start_time_unix_nano": span.start,
        "end_time_unix_nano": span.end,
        "attributes": texts(span.attributes),
        "events": events,
        "status": {"code": "STATUS_CODE_ERROR", "message": span.error} if span.error is not None else None,
        "resource": {"attributes": texts(span.origin.resource)},
        "instrumentation_scope": {"name": span.origin.scope, "version": span.origin.version},
    }


ROWS = {"ClickHouse": of_clickhouse, "Unity Catalog": of_catalog}


@needs_shared
@pytest.mark.parametrize("table", ROWS)
@pytest.mark.parametrize("name", [*CAPTURES, *PYTHON])
def test_rows_of_a_table_are_the_same_trajectory(name: str, table: str, tmp_path: Path) -> None:
    found, expected = both(name, tmp_path, lambda spans: "\n".join(json.dumps(ROWS[table](span)) for span in spans))
    assert list(map(told, found)) == list(map(told, expected))


SPAN = Span(
    *(0xA1, 0xB2, 0xC3, False, "chat m", 1_700_000_000_000_000_001, 1_700_000_000_000_000_008),
    {"n": 7, "id": "7", "tags": ["a"], "text": "7 days", "yes": True},
    [Event("said", 1_700_000_000_000_000_002, {"x": False})],
    "no",
    Origin({"service.name": "shop", "zone": "eu"}, "lib", "1"),
)


@pytest.mark.parametrize("table", ROWS)
def test_a_span_is_as_it_was(table: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[table](SPAN)))
    assert list(spans_in(tmp_path / "rows.jsonl")) == [SPAN]


@pytest.mark.parametrize(("table", "changed"), [("ClickHouse", {"TraceId": "?"}), ("ClickHouse", {"Timestamp": "noon"}),
                                                ("Unity Catalog", {"start_time_unix_nano": "noon"})])  # fmt: skip
def test_a_row_without_an_id_or_a_time_is_a_finding_and_the_rest_is_read(
    table: str, changed: Row, tmp_path: Path
) -> None:
    row = ROWS[table](SPAN)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, (row | changed, row))))
    findings: list[str] = []
    pieces = files.pieces_of(tmp_path / "rows.jsonl", pytest.fail)
    read = [item for piece in pieces for item in files.read(piece, lambda each: findings.append(str(each)))]
    assert read == [SPAN]
    assert len(findings) == 1
    assert "expected" in findings[0]
