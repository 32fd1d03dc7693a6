"""Spark makes of spans in tables the documents that `spanrelay convert` makes of them."""

from __future__ import annotations

import gzip
import json
import os
import random
import runpy
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.conversion import program
from tests.shared_data import SHARED, needs_shared

from spanrelay._masking import mask_bytes
from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder
from spanrelay.errors import SpanRelayError

pytest.importorskip("pyspark")
from pyspark.sql import DataFrame, Row, SparkSession

from spanrelay.spark import trajectories

# PySpark leaves sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SESSIONS = 30


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    quiet = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "4", "spark.sql.session.timeZone": "UTC"}
    session = SparkSession.builder.master("local[2]").config(map=quiet).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def runs() -> list[list[Any]]:
    """Spans of two runs of each session, of runs that name no session, and of two services' one; each in two pieces."""
    hour = 3_600 * program.SECOND
    names = [f"session-{number}" for number in range(SESSIONS)]
    whole = [program.spans(name, program.START + at * hour) for at in (0, 1) for name in [*names, "", ""]]
    whole.append(program.spans(names[0], program.START + 2 * hour, "billing"))
    pieces = [part for spans in whole for part in (spans[:2], spans[2:])]
    random.Random(7).shuffle(pieces)
    return pieces


PIECES = runs()
LINES = [json.dumps(program.otlp_json(piece)) for piece in PIECES]


def converted(source: Path, folder: Path) -> dict[str, str]:
    work.convert([source], Folder(folder, mask=mask_bytes))
    return {path.name: path.read_text() for path in folder.glob("*.json")}


def documents(found: DataFrame) -> dict[str, str]:
    rows: list[Row] = found.collect()
    assert [row.fault for row in rows if row.fault is not None] == []
    return {row.name: row.document for row in rows}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("convert")
    (folder / "spans.jsonl").write_text("\n".join(LINES))
    return converted(folder / "spans.jsonl", folder / "runs")


def test_lines_of_json_are_the_same_documents(spark: SparkSession, wanted: dict[str, str], tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text("\n".join(LINES[number::3]))
    assert documents(trajectories(spark.read.text(str(tmp_path)))) == wanted
    assert len(wanted) > SESSIONS
    assert [name for name in wanted if name.startswith("session-0_of_billing-")]


def test_requests_of_protobuf_in_parquet_are_the_same_documents(
    spark: SparkSession, wanted: dict[str, str], tmp_path: Path
) -> None:
    requests = [(program.protobuf(piece),) for piece in PIECES]
    spark.createDataFrame(requests, "value binary").repartition(5).write.parquet(str(tmp_path / "archive"))
    assert documents(trajectories(spark.read.parquet(str(tmp_path / "archive")))) == wanted


def test_whole_files_are_read_as_they_are(spark: SparkSession, wanted: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "1.jsonl.gz").write_bytes(gzip.compress("\n".join(LINES[::2]).encode(), mtime=0))
    framed = [data for piece in PIECES[1::2] for data in [program.protobuf(piece)]]
    (tmp_path / "2.pb").write_bytes(b"".join(len(data).to_bytes(4, "big") + data for data in framed))
    assert documents(trajectories(spark.read.format("binaryFile").load(str(tmp_path)))) == wanted


def test_a_table_of_spans_is_the_same_documents(spark: SparkSession, wanted: dict[str, str], tmp_path: Path) -> None:
    rows = [row_of(span) for piece in PIECES for span in piece]
    schema = (
        "Timestamp timestamp, TraceId string, SpanId string, ParentSpanId string, SpanName string, ServiceName string, "
        "ResourceAttributes map<string,string>, ScopeName string, ScopeVersion string, "
        "SpanAttributes map<string,string>, Duration bigint, StatusCode string, "
        "Events array<struct<Timestamp: timestamp, Name: string, Attributes: map<string,string>>>"
    )
    spark.createDataFrame(rows, schema).write.parquet(str(tmp_path / "table"))
    found = documents(trajectories(spark.read.parquet(str(tmp_path / "table"))))
    assert found.keys() == wanted.keys()
    told = {name: json.loads(text)["steps"] for name, text in found.items()}
    assert told == {name: json.loads(text)["steps"] for name, text in wanted.items()}


def moment(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc)


def row_of(span: Any) -> tuple[Any, ...]:
    def texts(attributes: Any) -> dict[str, str]:
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}

    events = [(moment(event.timestamp), event.name, texts(event.attributes)) for event in span.events]
    parent = f"{span.parent.span_id:016x}" if span.parent else ""
    return (
        *(moment(span.start_time), f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent, span.name),
        *(span.resource.attributes["service.name"], texts(span.resource.attributes), span.instrumentation_scope.name),
        *(span.instrumentation_scope.version, texts(span.attributes), span.end_time - span.start_time),
        *(span.status.status_code.name.title(), events),
    )


def test_figures_are_columns_and_what_cannot_be_read_is_a_row(spark: SparkSession) -> None:
    given = [(LINES[0],), ('{"resourceSpans": [',), ("a word",), (None,)]
    rows = trajectories(spark.createDataFrame(given, "value string"), version="1.8").collect()
    faults = sorted(row.fault for row in rows if row.fault is not None)
    assert len(faults) == 2
    assert all("is not JSON" in fault for fault in faults)
    (row,) = (row for row in rows if row.fault is None)
    document = json.loads(row.document)
    assert document["schema_version"] == "ATIF-v1.8"
    assert (row.session_id, row.agent) == (document["session_id"], document["agent"]["name"])
    assert (row.steps, row.errors, row.media) == (len(document["steps"]), 0, [])
    assert row.prompt_tokens == document["final_metrics"]["total_prompt_tokens"]


def test_the_example_leaves_a_table(
    spark: SparkSession,
    wanted: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "spans.jsonl").write_text("\n".join([*LINES, "a word"]))
    monkeypatch.setattr(spark, "stop", lambda: None)  # the tests go on with it
    monkeypatch.setattr(sys, "argv", ["trajectories.py", str(tmp_path / "spans.jsonl"), str(tmp_path / "out")])
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "spark" / "trajectories.py"))
    told = capsys.readouterr()
    assert "is not JSON" in told.err
    assert "weather" in told.out
    assert {row.name: row.document for row in spark.read.parquet(str(tmp_path / "out")).collect()} == wanted


@needs_shared
def test_recordings_in_any_order_are_the_same_documents(spark: SparkSession, tmp_path: Path) -> None:
    assert SHARED is not None
    files = [path for path in sorted((SHARED / "spans-polyglot").glob("*.jsonl")) if ".metrics" not in path.name]
    found = [line for path in files for line in path.read_text().splitlines() if '"resource' in line]
    random.Random(3).shuffle(found)
    (tmp_path / "spans.jsonl").write_text("\n".join(found))
    frame = spark.read.text(str(tmp_path / "spans.jsonl")).repartition(3)
    assert documents(trajectories(frame)) == converted(tmp_path / "spans.jsonl", tmp_path / "runs")


def test_other_columns_and_versions_are_refused(spark: SparkSession) -> None:
    with pytest.raises(SpanRelayError, match=r"with the columns n: expected OTLP in a column 'value' or 'content'"):
        trajectories(spark.createDataFrame([(1,)], "n int"))
    with pytest.raises(SpanRelayError, match=r"version '2' of ATIF: expected 1.7 or 1.8"):
        trajectories(spark.createDataFrame([("{}",)], "value string"), version="2")
