"""What collecting costs beside converting the same spans from a file: requests are taken and kept on disk besides.

The collector is the command, in a process of its own; counted is its CPU from when it listens until it has ended, with
every document written. It is sent requests over connections that stay open, by clients that wait for each answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.assembly import traces_of
from benchmarks.measure import Effort, cpu_of, median
from benchmarks.results import Result
from spanrelay._masking import mask_bytes
from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder

_SIZE, _CALLS = 1_000, 5
"""Bytes of content in a span, and model calls in a run; each run is a request of its own."""
_SPANS, _CLIENTS = 6_000, 8
_LEAST = 0.7
_OPEN, _MOST = 10_000, 300.0
"""Sessions that are open at once, of one run each, and the MB that they may take."""
_HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: %d\r\n\r\n"


def collect(effort: Effort) -> list[Result]:
    """Measure how many spans one CPU second collects, beside those that it converts."""
    requests = traces_of(_SIZE, _CALLS, _SPANS // _CALLS if effort.seconds else 2)
    rates: list[float] = []
    shares: list[float] = []
    for _ in range(max(2, int(effort.seconds) // 2)):
        converted = converted_rate(requests)
        rates.append(_collected(requests))
        shares.append(rates[-1] / converted)
    rate, share = median(rates), median(shares)
    open_sessions = _OPEN if effort.seconds else 20
    peak = _peak(traces_of(_SIZE, _CALLS, open_sessions))
    return [
        Result(f"collect, {open_sessions} sessions open", "peak RSS", "MB", peak / 1e6, limit=_MOST),
        Result("collect, 1 KB a span", "spans a CPU second", "", rate.value, rate.error),
        Result(
            "collect, 1 KB a span", "of the rate of convert", "x", share.value, share.error, limit=_LEAST, more=True
        ),
    ]


def converted_rate(requests: list[bytes]) -> float:
    """Return how many spans of requests one CPU second converts."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "requests.otlp")
        source.write_bytes(b"".join(len(request).to_bytes(4, "big") + request for request in requests))
        start = time.process_time()
        summary = work.convert([source], Folder(Path(folder, "out"), mask=mask_bytes))
        return summary.spans / (time.process_time() - start)


def _collected(requests: list[bytes]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        process, port = _started(folder)
        before = cpu_of(process.pid)
        asyncio.run(_send(port, requests))
        process.send_signal(signal.SIGTERM)
        used = os.wait4(process.pid, 0)[2]
        process.returncode = 0
        spans = len(requests) * (1 + _CALLS)
        return spans / (used.ru_utime + used.ru_stime - before)


def _peak(requests: list[bytes]) -> int:
    """Return the bytes of memory that a collector had at most, once it has gathered requests that are all open."""
    with tempfile.TemporaryDirectory() as folder:
        process, port = _started(folder, "--silence", "600")
        asyncio.run(_send(port, requests))
        while f"spanrelay_sessions_open {len(requests)}" not in _metrics(port):
            time.sleep(0.1)
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.kill()
        process.wait()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return answer.read().decode()


def _started(folder: str, *options: str) -> tuple[subprocess.Popen[str], int]:
    """Start a collector; return it and the port where it listens."""
    command = [sys.executable, "-m", "spanrelay", "collect", "--grpc", "off", "--http", "127.0.0.1:0", "-o", folder]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process, int(process.stdout.readline().partition("127.0.0.1:")[2].split()[0])


async def _send(port: int, requests: list[bytes]) -> None:
    await asyncio.gather(*(_client(port, requests[number::_CLIENTS]) for number in range(_CLIENTS)))


async def _client(port: int, requests: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        writer.write(_HEAD % len(request) + request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer.partition(b"\r\n")[0]:
            raise RuntimeError(f"the collector answered {answer[:60]!r}")
    writer.close()
