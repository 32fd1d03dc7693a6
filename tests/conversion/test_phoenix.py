"""Spans that Phoenix's REST API gives become the trajectories that the spans themselves become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conversion.captures import told
from tests.conversion.stores import at, both, spans_in
from tests.conversion.test_polyglot import CAPTURES
from tests.shared_data import needs_shared

from spanrelay.otlp_in import files
from spanrelay.otlp_in.telemetry import Event, Origin, Span

BY_SCOPE = {"quarkus_langchain4j": "what its spans say is known by who recorded them, which Phoenix does not keep"}


def phoenix_span(span: Span) -> dict[str, Any]:
    """Return a span as Phoenix has it: the kind apart, no resource and no scope."""
    attributes = dict(span.attributes)
    kind = attributes.pop("openinference.span.kind", "UNKNOWN")
    return {
        "id": "U3Bhbjox",
        "name": span.name,
        "context": {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"},
        "span_kind": kind,
        "parent_id": f"{span.parent_id:016x}" if span.parent_id else None,
        "start_time": at(span.start),
        "end_time": at(span.end),
        "status_code": "ERROR" if span.error is not None else "UNSET",
        "status_message": span.error or "",
        "attributes": attributes,
        "events": [
            {"name": event.name, "timestamp": at(event.time), "attributes": event.attributes} for event in span.events
        ],
    }


def page_of(spans: list[Span]) -> str:
    return json.dumps({"data": list(map(phoenix_span, spans)), "next_cursor": None})


@needs_shared
@pytest.mark.parametrize("name", CAPTURES)
def test_spans_of_phoenix_are_the_same_trajectory_but_for_what_is_known_by_its_scope(name: str, tmp_path: Path) -> None:
    found, expected = both(name, tmp_path, page_of)
    assert (list(map(told, found)) == list(map(told, expected))) is (name not in BY_SCOPE)


FAILED = Span(
    *(0xA1, 0xB2, 0xC3, False, "look", 1_700_000_000_000_001_000, 1_700_000_000_000_006_000),
    attributes={"tool.name": "look", "openinference.span.kind": "TOOL"},
    events=[Event("exception", 1_700_000_000_000_002_000, {"exception.type": "E"})],
    error="no sky",
    origin=Origin({}),
)


def test_a_span_has_its_kind_its_status_and_its_events_again(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps([phoenix_span(FAILED)]))
    assert list(spans_in(path)) == [FAILED]


def test_a_span_without_an_id_is_a_finding_and_the_rest_of_the_page_is_read(tmp_path: Path) -> None:
    broken = phoenix_span(FAILED)
    broken["context"]["span_id"] = "?"
    path = tmp_path / "page.json"
    path.write_text(json.dumps({"data": [broken, phoenix_span(FAILED)], "next_cursor": None}))
    findings: list[files.Finding] = []
    read = [item for piece in files.pieces_of(path, pytest.fail) for item in files.read(piece, findings.append)]
    assert read == [FAILED]
    assert [finding.fault for finding in findings] == ["a span's 'span_id' is '?': expected hex digits"]
