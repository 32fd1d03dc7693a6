"""The wire fixtures as span attributes; `python -m tests.semconv.test_goldens` writes the goldens anew."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from spanrelay import semconv
from spanrelay._json import dumps, loads
from spanrelay.records import SpanRecord

WIRE = Path(__file__).parents[2] / "testkit" / "wire"
CASES = sorted(path.parent for path in WIRE.glob("*/*/request.json"))

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
each_dialect = pytest.mark.parametrize("dialect", semconv.DIALECTS)


def record_of(case: Path) -> SpanRecord:
    codec = importlib.import_module(f"spanrelay.codecs.{case.parent.name}")
    request = codec.decode_request(loads((case / "request.json").read_bytes()))
    response = codec.decode_response(loads((case / "response.json").read_bytes()))
    return SpanRecord(1, 2, kind="llm", provider="openai", request=request, response=response, error=response.error)


def attributes_of(case: Path, dialect: str) -> dict[str, Any]:
    record = record_of(case)
    return {**semconv.write_start(record, dialect), **semconv.write(record, dialect, content=True)}


def readable(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes with the JSON inside them spread out, for the golden file."""
    return {key: loads(value) if _is_json(value) else value for key, value in sorted(attributes.items())}


def _is_json(value: Any) -> bool:
    try:
        return isinstance(value, str) and value[:1] in ("{", "[") and isinstance(loads(value), (dict, list))
    except ValueError:
        return False


@each_dialect
@each_case
def test_a_wire_body_becomes_the_golden_attributes(case: Path, dialect: str) -> None:
    golden = loads((case / f"{dialect}.json").read_bytes())
    assert readable(attributes_of(case, dialect)) == golden


@each_dialect
@each_case
def test_golden_attributes_read_back_what_was_said(case: Path, dialect: str) -> None:
    record, read = record_of(case), SpanRecord(1, 2)
    semconv.read(attributes_of(case, dialect), read)
    assert read.request is not None and record.request is not None
    assert read.request.model == record.request.model
    assert [tool.name for tool in read.request.tools] == [tool.name for tool in record.request.tools]
    if record.response is None or not record.response.messages:
        assert read.error is not None
        return
    assert read.response is not None
    assert (read.response.id, read.response.usage) == (record.response.id, record.response.usage)
    assert read.response.text == record.response.text
    assert [(call.id, call.name, call.arguments) for call in read.response.tool_calls] == [
        (call.id, call.name, call.arguments) for call in record.response.tool_calls
    ]


@each_case
def test_genai_gives_the_messages_back_exactly(case: Path) -> None:
    record, read = record_of(case), SpanRecord(1, 2)
    semconv.read(attributes_of(case, "genai"), read)
    assert read.request is not None and record.request is not None
    assert read.request.messages == record.request.messages
    assert read.request.system == record.request.system
    assert read.request.tools == record.request.tools
    assert read.request.parameters == loads(dumps(record.request.parameters))


def write_goldens() -> None:
    for case in CASES:
        for dialect in semconv.DIALECTS:
            text = json.dumps(readable(attributes_of(case, dialect)), indent=1, ensure_ascii=False)
            (case / f"{dialect}.json").write_text(text + "\n")


if __name__ == "__main__":
    write_goldens()
