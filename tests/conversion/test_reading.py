"""Telemetry is read in whatever form it was recorded, and what cannot be read is named with its place."""

from __future__ import annotations

import gzip
import io
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from tests.conversion import program
from tests.conversion.captures import converted, told
from tests.shared_data import SHARED, needs_shared

from spanrelay import _guard
from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder
from spanrelay.otlp_in import files
from spanrelay.otlp_in.files import Finding
from spanrelay.otlp_in.records import record_of
from spanrelay.otlp_in.telemetry import LogRecord, Span

SPANS = program.spans()
FORMS = dict(program.forms(SPANS))


def items(path: Path) -> tuple[list[Any], list[Finding]]:
    """Return what is in a file, and what could not be read of it."""
    findings: list[Finding] = []
    found = [item for piece in files.pieces_of(path, findings.append) for item in files.read(piece, findings.append)]
    return found, findings


@pytest.mark.parametrize("form", FORMS)
def test_the_same_spans_are_the_same_in_every_form(form: str, tmp_path: Path) -> None:
    found, findings = items(program.write(tmp_path, FORMS[form]))
    assert findings == []
    assert len(found) == len(SPANS)
    for span, given in zip(found, SPANS, strict=True):
        context = given.context
        assert context is not None
        assert (span.trace_id, span.span_id) == (context.trace_id, context.span_id)
        assert span.parent_id == (given.parent.span_id if given.parent else None)
        scope = None if "SDK" in form else "some.instrumentation"  # which the SDK does not print
        assert (span.name, span.origin.scope) == (given.name, scope)
        said = {key: list(v) if isinstance(v, tuple) else v for key, v in (given.attributes or {}).items()}
        assert span.attributes == said
        assert [event.name for event in span.events] == [event.name for event in given.events]
        assert span.origin.resource["service.name"] == "weather-agent"
        assert abs(span.start - (given.start_time or 0)) < 1_000  # the SDK prints microseconds


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_same_trajectory(form: str, tmp_path: Path) -> None:
    documents, summary = converted([program.write(tmp_path, FORMS[form])], tmp_path / "out")
    assert summary.findings == []
    (document,) = documents
    assert document["session_id"] == "session-1"
    assert [step["source"] for step in told(document)] == ["system", "user", "agent", "agent"]
    assert told(document)[2]["results"] == {"c1": "sunny"}


def test_zstandard_is_read_where_its_package_is_there(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    data = zstandard.ZstdCompressor().compress(FORMS["a JSON request"])
    found, findings = items(program.write(tmp_path, data))
    assert (len(found), findings) == (len(SPANS), [])


def test_a_file_of_zstandard_that_is_cut_says_so_wherever_the_cut_is(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    packing, line = zstandard.ZstdCompressor().compressobj(), FORMS["a JSON request"].replace(b"\n", b"") + b"\n"
    blocks = [packing.compress(line) + packing.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for _ in range(2)]
    whole = b"".join(blocks) + packing.flush()
    for cut, times in ((whole[:-1], 2), (whole[: len(blocks[0])], 1), (whole + blocks[0], 3)):
        found, [finding] = items(program.write(tmp_path, cut))
        assert len(found) == times * len(SPANS)
        assert "the file ends here, or is damaged: it is cut within a frame of zstd" in str(finding)
    found, findings = items(program.write(tmp_path, whole + whole))
    assert (len(found), findings) == (4 * len(SPANS), [])


@pytest.mark.parametrize("depth", [300, 333])
def test_a_span_that_is_nested_too_deep_costs_no_other(depth: int, tmp_path: Path) -> None:
    deep = '{"arrayValue": {"values": [' * depth + '{"intValue": 1}' + "]}}" * depth
    spans = [
        f'{{"traceId": "{number:032x}", "spanId": "{number:016x}", "attributes": [{{"key": "a", "value": {each}}}]}}'
        for number, each in enumerate((deep, '{"stringValue": "y"}'), 1)
    ]
    request = f'{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{", ".join(spans)}]}}]}}]}}'.encode()
    found, findings = items(program.write(tmp_path, request))
    assert found[-1].attributes == {"a": "y"}
    assert len(found) + len(findings) == 2
    assert all("one of 'spans' is nested too deep" in str(finding) for finding in findings)


def test_numbers_and_enums_are_read_as_text_too_and_what_is_empty_is_nothing(tmp_path: Path) -> None:
    span = {
        "traceId": "0" * 31 + "1",
        "spanId": "0" * 15 + "2",
        "parentSpanId": "",
        "name": "x",
        "kind": "SPAN_KIND_CLIENT",
        "startTimeUnixNano": 7,
        "endTimeUnixNano": "9",
        "status": {"code": "STATUS_CODE_ERROR", "message": "no"},
        "attributes": [
            {"key": "a", "value": {"intValue": "5"}},
            {"key": "b", "value": {"intValue": 6}},
            {"key": "c", "value": {}},
            {"key": "d", "value": {"doubleValue": "NaN"}},
            {"key": "e", "value": {"arrayValue": {}}},
            {"key": "f", "value": {"kvlistValue": {"values": [{"key": "g", "value": {"boolValue": True}}]}}},
            {"key": "a", "value": {"intValue": "8"}},
        ],
    }
    data = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    (found,), findings = items(program.write(tmp_path, data))
    assert findings == []
    assert (found.parent_id, found.start, found.end, found.error) == (None, 7, 9, "no")
    assert found.attributes.pop("d") != found.attributes.get("d")
    assert found.attributes == {"a": 8, "b": 6, "c": None, "e": [], "f": {"g": True}}


def test_logs_are_read_from_json_and_protobuf(tmp_path: Path) -> None:
    from opentelemetry._logs import LogRecord as ApiRecord
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource

    record = ApiRecord(timestamp=5, trace_id=1, span_id=2, body={"a": [1, "x"]}, event_name="gen_ai.choice")
    request = encode_logs([ReadableLogRecord(record, Resource({}))])
    from google.protobuf.json_format import MessageToDict

    as_json = json.dumps(MessageToDict(request)).encode()
    for data in (request.SerializeToString(), as_json):
        (found,), findings = items(program.write(tmp_path, data))
        assert findings == []
        assert isinstance(found, LogRecord)
        assert (found.trace_id, found.span_id, found.time, found.name) == (1, 2, 5, "gen_ai.choice")
        assert found.body == {"a": [1, "x"]}


def test_a_wrong_line_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    good = json.dumps(program.otlp_json(SPANS[:1])).encode()
    wrong = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "7", "spanId": "8"}]}]}]}).encode()
    lines = [good, b'{"resourceSpans": [', b"", wrong, b'"text"', b'{"name": "a package"}', b'{"_note": 1}', good]
    found, findings = items(program.write(tmp_path, b"\n".join(lines), "wrong.jsonl"))
    assert len(found) == 1  # the second line is no JSON by itself: what follows is read as its rest
    assert [finding.place.rpartition(":")[2] for finding in findings] == ["2"]
    found, findings = items(program.write(tmp_path, b"\n".join([good, b"oops", *lines[2:]]), "wrong.jsonl"))
    assert len(found) == 2
    assert [finding.place.rpartition(":")[2] for finding in findings] == ["2", "4", "5", "6"]
    assert "expected 32 hex digits" in findings[1].fault


@pytest.mark.parametrize("time", ["9" * 24, -1, "yesterday", 1e30, [5]])
def test_a_time_that_is_none_is_named(time: object, tmp_path: Path) -> None:
    request = program.otlp_json(SPANS)
    request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["startTimeUnixNano"] = time
    found, (finding,) = items(program.write(tmp_path, json.dumps(request).encode()))
    assert len(found) == len(SPANS) - 1
    assert "'startTimeUnixNano'" in finding.fault


@pytest.mark.parametrize("alone", [b"\\ud800", b"\xed\xa0\x80"], ids=["escaped", "as bytes"])
def test_half_a_character_that_a_session_or_a_name_has_is_replaced(alone: bytes, tmp_path: Path) -> None:
    request = json.dumps(program.otlp_json(SPANS)).replace("session-1", "session-?").replace("some.ins", "some?ins")
    found, findings = items(program.write(tmp_path, request.encode().replace(b"?", alone)))
    assert (len(found), findings) == (len(SPANS), [])
    named = {span.attributes.get("gen_ai.conversation.id") for span in found} - {None}
    assert {name.strip("\ufffd") for name in named} == {"session-"}
    assert {span.origin.scope.replace("\ufffd", "") for span in found} == {"someinstrumentation"}


def test_a_file_that_was_cut_gives_what_is_whole(tmp_path: Path) -> None:
    whole = b"".join(json.dumps(program.otlp_json([span])).encode() + b"\n" for span in SPANS)
    found, findings = items(program.write(tmp_path, gzip.compress(whole)[:-20]))
    assert 0 < len(found) < len(SPANS) + 1
    assert len(findings) >= 1
    lengths = FORMS["protobuf requests behind their lengths"]
    found, (finding,) = items(program.write(tmp_path, lengths[:-3]))
    assert len(found) == len(SPANS) // 2
    assert "ends within a message" in finding.fault


def test_what_is_no_telemetry_is_one_finding(tmp_path: Path) -> None:
    found, (finding,) = items(program.write(tmp_path, b"# A page\n\nof words"))
    assert found == []
    assert "not telemetry" in finding.fault


MUTATIONS = 300
"""Mutated files that are read and converted in a normal run.

`python -m tests.conversion.test_reading 1000000` reads as many as it is told, and converts a twentieth as many mutated
recordings.
"""


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return data with a few changes: bytes flipped, cut out, repeated, or the end cut off."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(changed) + 1)
        what = chance.randrange(6)
        if what == 0 and changed:
            changed[at % len(changed)] = chance.randrange(256)
        elif what == 1:
            del changed[at : at + chance.randrange(1, 40)]
        elif what == 2:
            changed[at:at] = changed[at : at + chance.randrange(1, 40)]
        elif what == 3:
            del changed[at:]
        elif what == 4:
            changed[at:at] = chance.choice([b"null", b"{}", b"[]", b'"', b"-1", b"1e999", b"\\ud800", b"\0", b"[[[["])
        else:
            changed[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))
    return bytes(changed)


def file_of(number: int) -> bytes:
    """Return a mutated file, the same for the same number."""
    chance = random.Random(number)
    return mutated(FORMS[chance.choice(sorted(FORMS))], chance)


def read_mutated(number: int) -> None:
    """Read a mutated file down to its records: nothing is raised, and nothing that is read is no telemetry."""
    findings: list[Finding] = []
    for piece in files.pieces_of_stream(io.BytesIO(file_of(number)), "mutated", findings.append):
        for item in files.read(piece, findings.append):
            if isinstance(item, Span):
                record_of(item)


def recordings() -> list[Path]:
    """Return the small files of what programs and coding agents left."""
    if SHARED is None:
        return []
    folders = (SHARED / name for name in ("cli-captures", "spans", "spans-polyglot"))
    every = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [
        path for path in every if path.suffix in (".jsonl", ".json", ".pb", ".db") and path.stat().st_size < 150_000
    ]


RECORDINGS = recordings()


def convert_mutated(number: int, folder: Path) -> None:
    """Convert a mutated recording: its documents are valid, and nothing is written outside of the folder."""
    chance = random.Random(number)
    path = chance.choice(RECORDINGS)
    folder.mkdir()
    mutant = program.write(folder, mutated(path.read_bytes(), chance), f"mutated{path.suffix}")
    converted([mutant], folder / "out")
    assert {each.name for each in folder.iterdir()} == {mutant.name, "out"}


def test_mutated_files_are_read_and_raise_nothing() -> None:
    for number in range(20 * MUTATIONS):
        read_mutated(number)


def test_mutated_files_are_converted_and_write_nothing_outside_of_the_folder(tmp_path: Path) -> None:
    for number in range(MUTATIONS):
        path = program.write(tmp_path, file_of(number), "mutated")
        work.convert([path], Folder(tmp_path / "out", overwrite=True))
    assert {path.name for path in tmp_path.iterdir()} == {"mutated", "out"}


@needs_shared
def test_whatever_is_left_of_a_recording_becomes_valid_documents_and_nothing_outside(tmp_path: Path) -> None:
    for number in range(MUTATIONS // 3):
        convert_mutated(number, tmp_path / f"{number}")


@pytest.mark.parametrize("session", ["../../outside", "/etc/outside", "a\0b", "..", "C:\\x", "x" * 5_000, "CON"])
def test_a_session_names_no_file_outside_of_the_folder(session: str, tmp_path: Path) -> None:
    path = program.write(tmp_path, json.dumps(program.otlp_json(program.spans(session))).encode())
    converted([path], tmp_path / "inner" / "out")
    assert {each.name for each in tmp_path.iterdir()} == {"telemetry", "inner"}
    assert len(list((tmp_path / "inner" / "out").glob("*.json"))) == 1


if __name__ == "__main__":
    _guard.strict = True
    for number in range(int(sys.argv[1])):
        read_mutated(number)
    for number in range(int(sys.argv[1]) // 20 if RECORDINGS else 0):
        with tempfile.TemporaryDirectory() as scratch:
            convert_mutated(number, Path(scratch) / "all")
    print(f"{sys.argv[1]} mutated files were read, and nothing was raised")
