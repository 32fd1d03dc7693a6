"""Trajectories of spans that lie in tables, by Spark: each task reads rows, or assembles one session after the other.

Nothing but ids, times and sessions of traces comes to the driver, which says what belongs together; the spans are
shuffled by that, and a task holds those of one session at a time.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any, TypeAlias

from spanrelay.conversion.crew import ATIF
from spanrelay.conversion.grouping import Groups
from spanrelay.errors import SpanRelayError
from spanrelay.spark import tasks

__all__ = ["trajectories"]

DataFrame: TypeAlias = Any
"""`pyspark.sql.DataFrame`. Its package is an extra, of 870 MB, and not imported before there is one."""

_TABLES = ({"TraceId", "SpanId", "SpanName", "Timestamp"}, {"trace_id", "span_id", "name", "start_time_unix_nano"})
_DATA = ("value", "content")
_TIME = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}
"""How a time is written in a row of JSON: with all that Spark keeps of it."""


def trajectories(spans: DataFrame, *, version: str = "1.7", across_services: bool = False) -> DataFrame:
    """Return the trajectories of spans, a row each: the bytes that `spanrelay convert` writes of the same spans.

    Reads the rows twice: at once, to find out which traces belong together, and whenever the result is computed.
    Provider keys are masked, as everywhere.

    Args:
        spans: OTLP in a column `value` or `content`: a line of JSON (`spark.read.text`), a request of protobuf, or a
            whole file of either, compressed or not (`spark.read.format("binaryFile")`). Or a table of spans, a row
            each: of the Collector's ClickHouse exporter or of Unity Catalog.
        version: Of ATIF, `1.7` or `1.8`.
        across_services: Whether a session is one whichever service names it. Else those of two services are two, unless
            a trace has spans of both that name it.

    Returns:
        The columns `name` (of the file that `convert` writes), `session_id`, `agent`, `steps`, `prompt_tokens`,
        `completion_tokens`, `cached_tokens` (each null where no model said it), `cost_usd`, `errors` (model calls and
        tools that failed), `document` (JSON), `media` (an array of `path` and `content`: what the document names
        beside it), and `fault`: what could not be read or written, in a row without a document.

    Raises:
        SpanRelayError: the columns are none of these, or the version is none.
    """
    if version not in ATIF:
        raise SpanRelayError(f"version {version!r} of ATIF: expected {' or '.join(ATIF)}")
    rows = _rows(spans)
    told = rows.mapInArrow(tasks.summaries, tasks.SUMMARY).toArrow()
    with closing(Groups(across_services=across_services)) as groups:
        groups.add(map(tasks.gathered, told.column("summary")))
        joined = [
            (trace.key, group.key, tasks.told(group.called))
            for group in groups.groups()
            for trace in (group.traces if group.called else group.traces[1:])
        ]
    parts = rows.mapInArrow(tasks.parts, tasks.PART)
    if joined:
        import pyarrow as pa  # pyright: ignore[reportMissingImports] - comes with the extra

        columns = dict(zip(("key", "first", "called"), map(list, zip(*joined, strict=True)), strict=True))
        known = spans.sparkSession.createDataFrame(pa.table(columns))
        parts = parts.join(known, "key", "left").selectExpr("coalesce(first, key) AS key", "data", "fault", "called")
    else:
        parts = parts.selectExpr("*", "'' AS called")
    together = parts.repartition("key").sortWithinPartitions("key")
    do = partial(tasks.documents, version=version, across_services=across_services)
    return together.mapInArrow(do, tasks.DOCUMENT)


def _rows(spans: DataFrame) -> DataFrame:
    """Return the rows as one column: text is JSON, and bytes are what a file of telemetry has.

    Raises:
        SpanRelayError: there is no such column.
    """
    names = set(spans.columns)
    if any(names >= table for table in _TABLES):
        from pyspark.sql.functions import struct, to_json  # pyright: ignore[reportMissingImports] - comes with the extra

        return spans.select(to_json(struct("*"), _TIME).alias("data"))
    for name in _DATA:
        if name in names and dict(spans.dtypes)[name] in ("string", "binary"):
            return spans.selectExpr(f"`{name}` AS data")
    raise SpanRelayError(
        f"a table with the columns {', '.join(sorted(names))}: expected OTLP in a column 'value' or 'content', of "
        "texts or bytes, or the columns 'TraceId', 'SpanId', 'SpanName', 'Timestamp', … or 'trace_id', 'span_id', "
        "'name', 'start_time_unix_nano', …"
    )
