"""What Spark's workers do with batches of rows: they read them into parts of one trace each, and assemble sessions.

Which traces belong together is found on the driver, from what `summaries` says; all that it joins comes to one worker.
"""

from __future__ import annotations

import io
import marshal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import count, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import pyarrow as pa  # pyright: ignore[reportMissingImports] - comes with the extra

from spanrelay import _json
from spanrelay._guard import losses
from spanrelay._masking import mask_bytes
from spanrelay.assembly import spool
from spanrelay.conversion.documents import Documents, Folder, Written
from spanrelay.conversion.gathering import Gathered, Gathering
from spanrelay.conversion.grouping import Groups
from spanrelay.conversion.store import Held, Reader, Writer, packed, unpacked
from spanrelay.conversion.traces import events_of
from spanrelay.evaluation.figures import FAILED
from spanrelay.otlp_in import files
from spanrelay.otlp_in.files import Finding, Piece
from spanrelay.otlp_in.telemetry import Telemetry
from spanrelay.records import JSON

Batches: TypeAlias = Iterator[Any]
"""Record batches of Arrow."""
Row: TypeAlias = dict[str, Any]

SUMMARY = "summary binary"
PART = "key string, data binary, fault string"
DOCUMENT = (
    "name string, session_id string, agent string, steps int, prompt_tokens bigint, completion_tokens bigint, "
    "cached_tokens bigint, cost_usd double, errors int, document string, "
    "media array<struct<path: string, content: binary>>, fault string"
)

_SUMMARY = pa.schema([("summary", pa.binary())])
_PART = pa.schema([("key", pa.string()), ("data", pa.binary()), ("fault", pa.string())])
_MEDIUM = pa.struct([("path", pa.string()), ("content", pa.binary())])
_DOCUMENT = pa.schema(
    [
        *(("name", pa.string()), ("session_id", pa.string()), ("agent", pa.string()), ("steps", pa.int32())),
        *(("prompt_tokens", pa.int64()), ("completion_tokens", pa.int64()), ("cached_tokens", pa.int64())),
        *(("cost_usd", pa.float64()), ("errors", pa.int32()), ("document", pa.string())),
        *(("media", pa.list_(_MEDIUM)), ("fault", pa.string())),
    ]
)
_AT_ONCE = 2 << 20
"""Bytes of rows that are read, and of documents that are handed over, at once."""
_IN_A_PART = 256
"""Items of a trace that are one row of the shuffle."""


class _Kept:
    """A store of what has been read of some rows."""

    def __init__(self) -> None:
        self.items: Held = {}

    def add(self, item: Telemetry) -> int:
        self.items[len(self.items)] = item
        return len(self.items) - 1

    def flush(self) -> None:
        """Everything can be read as it is."""


Read: TypeAlias = tuple[list[Gathered], Held, list[Finding]]
"""The traces in some rows, their items by their places, and what could not be read."""


def summaries(batches: Batches) -> Batches:
    """Yield what says which traces belong together: a row for each trace in some rows, as `gathered` reads it."""
    for traces, _, _ in _read(batches):
        said = [
            (each.key, each.is_trace, each.service, each.start, each.end, [*each.sessions], each.agent, each.nested)
            for each in traces
        ]
        yield pa.record_batch([pa.array(map(marshal.dumps, said), pa.binary())], schema=_SUMMARY)


def gathered(summary: Any) -> Gathered:
    """Return what a row of `summaries` says."""
    key, is_trace, service, start, end, sessions, agent, nested = marshal.loads(summary.as_py())
    return Gathered(key, is_trace, service, start=start, end=end, sessions=set(sessions), agent=agent, nested=nested)


def parts(batches: Batches) -> Batches:
    """Yield the items of each trace under its key, and what could not be read under its place."""
    for traces, items, findings in _read(batches):
        rows: list[Row] = [{"key": each.place, "fault": str(each)} for each in findings]
        for trace in traces:
            for begin in range(0, len(trace.places), _IN_A_PART):
                places = trace.places[begin : begin + _IN_A_PART]
                rows.append({"key": trace.key, "data": packed(map(items.pop, places))})
        yield pa.RecordBatch.from_pylist(rows, schema=_PART)


def told(called: Mapping[str, str]) -> str:
    """Return what documents of some sessions are called, as the column `called` of parts says it."""
    return _json.dumps(called).decode() if called else ""


def documents(batches: Batches, *, version: str, across_services: bool) -> Batches:
    """Yield a row for each document of parts that stand together where their key is the same."""
    with (
        tempfile.TemporaryDirectory(prefix="spanrelay-") as scratch,
        closing(Groups(across_services=across_services)) as groups,
    ):
        rows: list[Row] = []
        size = 0
        for _, together in groupby(_parts(batches), itemgetter(0)):
            for row in _of_group(together, groups, Path(scratch), version):
                rows.append(row)
                size += len(row.get("document") or "")
                if size >= _AT_ONCE:
                    yield pa.RecordBatch.from_pylist(rows, schema=_DOCUMENT)
                    rows, size = [], 0
        yield pa.RecordBatch.from_pylist(rows, schema=_DOCUMENT)


def _read(batches: Batches) -> Iterator[Read]:
    kept, findings, size = _Kept(), list[Finding](), 0
    gathering = Gathering(kept)
    for piece in _pieces(batches, findings):
        for item in files.read(piece, findings.append):
            gathering.add(item)
        size += len(piece.data)
        if size >= _AT_ONCE:
            yield gathering.hand_over(), kept.items, findings
            kept.items, size = {}, 0
            findings.clear()
    yield gathering.hand_over(), kept.items, findings


def _pieces(batches: Batches, findings: list[Finding]) -> Iterator[Piece]:
    row = count(1)
    for batch in batches:
        for value in batch.column(0):
            data: str | bytes | None = value.as_py()
            place = f"row {next(row)} of its partition"
            if isinstance(data, str):
                yield Piece(place, data.encode(), True)
            elif data:
                yield from files.pieces_of_stream(io.BytesIO(data), place, findings.append)


class _Part(NamedTuple):
    """A row of the shuffle: some items of a trace, or what could not be read."""

    key: str
    data: bytes | None
    fault: str | None
    called: str | None


def _parts(batches: Batches) -> Iterator[_Part]:
    for batch in batches:
        for row in zip(*map(batch.column, _Part._fields), strict=True):
            yield _Part(*(each.as_py() for each in row))


def _of_group(together: Iterator[_Part], groups: Groups, scratch: Path, version: str) -> Iterator[Row]:
    held: Held = {}
    writer, reader = Writer(scratch, 0, held), Reader(scratch, held)
    try:
        gathering, called = Gathering(writer), dict[str, str]()
        for part in together:
            if part.data is None:
                yield {"fault": part.fault}
                continue
            writer.expect(len(part.data))
            called = _json.loads(part.called) if part.called else {}
            for item in unpacked(part.data):
                gathering.add(item)
        groups.add(gathering.hand_over())
        for group in map(groups.fill, groups.groups()):
            folder = _Rows(Path(), mask=mask_bytes)
            with losses.apart() as lost:
                written = Documents(folder, version, frozenset(), called).add(events_of(group, reader))
            yield from folder.rows()
            for fault in (*written.faults, *(f"{number} {what}" for what, number in sorted(lost.items()))):
                yield {"fault": f"{group.name}: {fault}"}
    finally:
        groups.clear()
        writer.close()
        reader.close()


class _Rows(Folder):
    """Documents and their media are rows."""

    def __init__(self, path: Path, *, mask: Any) -> None:
        super().__init__(path, mask=mask)
        self._media: dict[str, bytes] = {}
        self._documents: list[tuple[str, dict[str, JSON], bytes]] = []
        self._document: dict[str, JSON] = {}

    def put(self, data: bytes, folder: str, extension: str) -> str:
        data = spool.masked_medium(data, self._mask)
        name = spool.path_of_media(data, folder, extension)
        self._media[name] = data
        return name

    def write(self, name: str, document: dict[str, JSON], written: Written) -> None:
        self._document = document
        super().write(name, document, written)

    def _write(self, name: str, data: bytes, written: Written) -> None:
        written.documents += 1
        self._documents.append((name, self._document, data))

    def rows(self) -> Iterator[Row]:
        """Yield a row for each document."""
        for name, document, data in self._documents:
            told = document.get("final_metrics") or {}
            yield {
                "name": name,
                "session_id": document.get("session_id"),
                "agent": (document.get("agent") or {}).get("name"),
                "steps": len(document["steps"]),
                "prompt_tokens": told.get("total_prompt_tokens"),
                "completion_tokens": told.get("total_completion_tokens"),
                "cached_tokens": told.get("total_cached_tokens"),
                "cost_usd": told.get("total_cost_usd"),
                "errors": _errors(document),
                "document": data.decode(),
                "media": [
                    {"path": path, "content": content} for path, content in self._media.items() if path.encode() in data
                ],
            }


def _errors(document: dict[str, JSON]) -> int:
    """Return how many model calls and tools failed, those of sub-agents too."""
    failed = 0
    for step in cast("list[dict[str, JSON]]", document["steps"]):
        results = (step.get("observation") or {}).get("results") or []
        failed += "error" in (step.get("extra") or {})
        failed += sum(any((result.get("extra") or {}).get(mark) for mark in FAILED) for result in results)
    return failed + sum(map(_errors, document.get("subagent_trajectories") or []))
