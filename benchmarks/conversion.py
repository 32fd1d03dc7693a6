"""Conversion: from files of OTLP to trajectories, beside assembling what has been read already.

Counted are finding the pieces, reading them, keeping them on disk until their session is whole, assembling, and making
each document; not counted is writing documents, which `assembly` does not do. Garbage is looked for as seldom as the
command does it, and in `assembly` as usual.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.assembly import assemble, traces_of
from benchmarks.measure import Effort, median
from benchmarks.results import Result
from spanrelay._masking import mask_bytes
from spanrelay.conversion import work
from spanrelay.conversion.crew import collect_seldom
from spanrelay.conversion.documents import Folder, Written

_SIZES = {1_000: 5, 7_000: 20, 46_000: 60}
"""Bytes of content in a span: the calls of one run that have it on average."""
_LEAST, _JOBS = 0.8, 1.7


class _Nowhere(Folder):
    """Documents are made and masked, and left."""

    def _write(self, name: str, data: bytes, written: Written) -> None:
        written.documents += 1
        written.names.append(name)


def convert(effort: Effort) -> list[Result]:
    """Measure how many spans one CPU second converts, beside those that it assembles, and what two processes do."""
    results: list[Result] = []
    rounds = max(2, int(effort.seconds))
    with tempfile.TemporaryDirectory() as scratch:
        for size, calls in _SIZES.items():
            requests = traces_of(size, calls, 4_000 // calls if effort.seconds else 2)
            files = dict(_written(requests, Path(scratch)))
            for form, path in files.items():
                results += _row(f"convert, {form}, {size // 1000} KB a span", path, requests, rounds)
        if effort.seconds:
            results.append(_jobs(files["protobuf"], Path(scratch)))
    return results


def _written(requests: list[bytes], folder: Path) -> Iterator[tuple[str, Path]]:
    path = folder / "requests.pb"
    path.write_bytes(b"".join(len(request).to_bytes(4, "big") + request for request in requests))
    yield "protobuf", path
    path = folder / "requests.jsonl"
    values = (MessageToDict(ExportTraceServiceRequest.FromString(request)) for request in requests)
    path.write_bytes(b"".join(orjson.dumps(value) + b"\n" for value in values))
    yield "JSON", path


def _row(name: str, path: Path, requests: list[bytes], rounds: int) -> list[Result]:
    shares: list[float] = []
    rates: list[float] = []
    for _ in range(rounds):
        gc.collect()
        bare = assemble(requests)
        gc.collect()
        rates.append(_rate(path))
        shares.append(rates[-1] / bare)
    share, rate = median(shares), median(rates)
    found = [
        Result(name, "spans a CPU second", "", rate.value, rate.error),
        Result(name, "of the rate of assembly", "x", share.value, share.error, limit=_LEAST, more=True),
    ]
    if path.suffix == ".jsonl":
        lines = path.read_bytes().splitlines()
        start = time.process_time()
        for line in lines:
            orjson.loads(line)
        spans = len(requests) * (1 + _calls(requests[0]))
        rate_of_loads = spans / (time.process_time() - start)
        found.append(Result(name, "orjson.loads of it, spans a CPU second", "", rate_of_loads))
    return found


def _calls(request: bytes) -> int:
    parsed = ExportTraceServiceRequest.FromString(request)
    return sum(len(scope.spans) for resource in parsed.resource_spans for scope in resource.scope_spans) - 1


def _rate(path: Path) -> float:
    with tempfile.TemporaryDirectory() as out, _seldom_collected():
        start = time.process_time()
        summary = work.convert([path], _Nowhere(Path(out), mask=mask_bytes))
        return summary.spans / (time.process_time() - start)


@contextmanager
def _seldom_collected() -> Generator[None]:
    usual = gc.get_threshold()
    collect_seldom()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)


def _jobs(path: Path, scratch: Path) -> Result:
    """Return how much sooner two processes are done than one, their start included, writing included."""
    times: list[float] = []
    for jobs in (1, 2):
        start = time.perf_counter()
        work.convert([path], Folder(scratch / f"out-{jobs}", mask=mask_bytes), jobs=jobs)
        times.append(time.perf_counter() - start)
    return Result("convert, two processes", "of the rate of one", "x", times[0] / times[1], limit=_JOBS, more=True)
