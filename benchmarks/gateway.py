"""What the gateway costs beside a bare proxy of the same libraries: CPU a request and a chunk, delay, memory.

All stand before the same upstream, each in a process of its own, and are asked in turn over connections that stay open.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.measure import Effort, median
from benchmarks.proxies import CHUNKS
from benchmarks.results import Result

PATH = "/v1/chat/completions"
_CONNECTIONS = 8
_SESSION = 10
"""Exchanges of one session."""
_MANY, FEW = 100_000, 50
"""Exchanges between the two looks at memory, and those that warm a program up."""


class Program:
    """A program of `proxies`, and connections to it."""

    def __init__(self, process: subprocess.Popen[str], path: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._told, self._asks = process.stdout, process.stdin
        self.listen(int(self._told.readline()), path)

    def listen(self, port: int, path: str) -> None:
        """Know where it listens."""
        self.port, self.path = port, path
        self._sessions = itertools.count()
        self.streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def used(self) -> dict[str, float]:
        """Seconds of CPU so far, and bytes of memory now."""
        self._asks.write("\n")
        self._asks.flush()
        return json.loads(self._told.readline())

    async def connect(self) -> None:
        """Open the connections."""
        self.streams = [await asyncio.open_connection("127.0.0.1", self.port) for _ in range(_CONNECTIONS)]

    async def ask(self, number: int, *, stream: bool = False) -> None:
        """Ask so often, on all connections at the same time."""
        share = max(1, number // _CONNECTIONS)
        await asyncio.gather(*(self._ask(each, share, stream=stream) for each in self.streams))

    async def _ask(self, on: tuple[asyncio.StreamReader, asyncio.StreamWriter], times: int, *, stream: bool) -> None:
        for done in range(times):
            if done % _SESSION == 0:
                asked = _request(self.path, next(self._sessions), stream=stream)
            await _asked(on, asked)

    async def answered(self) -> float:
        """Milliseconds until a short answer is there, of one that comes right behind another."""
        asked = _request(self.path, next(self._sessions), stream=False)
        await _asked(self.streams[0], asked)
        started = time.perf_counter()
        await _asked(self.streams[0], asked)
        return (time.perf_counter() - started) * 1e3

    async def first_byte(self) -> float:
        """Milliseconds until the first piece of a stream is there."""
        reader, writer = self.streams[0]
        started = time.perf_counter()
        writer.write(_request(self.path, next(self._sessions), stream=True))
        await reader.readuntil(b"data: ")
        passed = time.perf_counter() - started
        await reader.readuntil(b"0\r\n\r\n")
        return passed * 1e3


def _request(path: str, session: int, *, stream: bool) -> bytes:
    messages = [
        {"role": "system", "content": "You know the weather. " * 10},
        {"role": "user", "content": "What is the weather like in Oslo and in Bergen? " * 12},
    ]
    body = json.dumps({"model": "gpt-5-mini", "stream": stream, "messages": messages}, separators=(",", ":")).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer none\r\naccept: application/json\r\n"
        f"user-agent: OpenAI/Python\r\nsession.id: {session}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _asked(on: tuple[asyncio.StreamReader, asyncio.StreamWriter], asked: bytes) -> None:
    reader, writer = on
    writer.write(asked)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise RuntimeError(f"the proxy answered {head[:60]!r}")
    counted = head.partition(b"content-length:")[2]
    await (reader.readexactly(int(counted.split(b"\r\n")[0])) if counted else reader.readuntil(b"0\r\n\r\n"))


@contextmanager
def programs(*roles: str) -> Iterator[list[Program]]:
    """Run an upstream and programs that ask it."""
    with ExitStack() as stack:

        def run(role: str, *options: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "benchmarks.proxies", role, *options]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        upstream = Program(run("upstream"), PATH)
        url = f"http://127.0.0.1:{upstream.port}"
        yield [upstream, *(Program(run(role, url), PATH) for role in roles)]


def gateway(effort: Effort) -> list[Result]:
    """The gateway beside a bare proxy."""
    with programs("bare", "bare-span", "ours", "ours-trajectories") as running:
        return asyncio.run(_measure(running, effort))


async def _measure(running: Sequence[Program], effort: Effort) -> list[Result]:
    for each in running:
        await each.connect()
        await each.ask(FEW)
    upstream, *proxies = running
    names = ("bare proxy and a plain span", "gateway, spans", "gateway, spans and trajectories")
    limits = (None, 2.0, None)
    results: list[Result] = []
    for figure, batch, stream in (("a request", 400, False), (f"a stream of {CHUNKS} chunks", 24, True)):
        floor, *costs = map(median, await costs_of(proxies, batch if effort.seconds else 8, effort, stream=stream))
        results += [
            Result(name, f"CPU, {figure}", "µs", cost.value, cost.error, floor.value, floor.error, limit)
            for name, cost, limit in zip(names, costs, limits, strict=True)
        ]
    bare, ours = proxies[0], proxies[2]
    results += await _delays(upstream, bare, ours, effort)
    return [*results, await _growth(ours, effort)]


async def costs_of(running: Sequence[Program], batch: int, effort: Effort, *, stream: bool) -> list[list[float]]:
    """Return what each program used for one answer in each round, in microseconds of CPU."""
    costs: list[list[float]] = [[] for _ in running]
    deadline, done = time.monotonic() + effort.seconds * len(running), 0
    while done < effort.rounds or time.monotonic() < deadline:
        for index in range(len(running)):
            at = (index + done) % len(running)
            before = running[at].used()["cpu"]
            await running[at].ask(batch, stream=stream)
            await asyncio.sleep(0.05 if effort.seconds else 0)  # what is done on other threads later counts too
            costs[at].append((running[at].used()["cpu"] - before) / batch * 1e6)
        done += 1
    return costs


async def _delays(upstream: Program, bare: Program, ours: Program, effort: Effort) -> list[Result]:
    """Return how much later an answer, and the first piece of a stream, is there than it is without a proxy."""
    results: list[Result] = []
    for figure, taken, limit in (("answer", Program.answered, None), ("first byte", Program.first_byte, 3.0)):
        later: dict[str, list[float]] = {"bare": [], "gateway": []}
        for _ in range(effort.rounds):
            direct = await taken(upstream)
            later["bare"].append(await taken(bare) - direct)
            later["gateway"].append(await taken(ours) - direct)
        own, floor = median(later["gateway"]), median(later["bare"])
        results += [
            Result("bare proxy", f"{figure}, later by", "ms", floor.value, floor.error),
            Result("gateway, spans", f"{figure}, later by", "ms", own.value, own.error, limit=limit),
        ]
    return results


async def _growth(ours: Program, effort: Effort) -> Result:
    """Return how much memory the gateway takes more after many exchanges than after a tenth of them."""
    many = _MANY if effort.seconds else FEW
    await ours.ask(many // 10)
    before = ours.used()["resident"]
    await ours.ask(many)
    return Result("gateway, spans", f"memory, after {many:,} more", "MB", (ours.used()["resident"] - before) / 1e6)
