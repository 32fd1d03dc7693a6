"""One long session: every model call sends the whole conversation so far, and a trajectory is written.

`python -m benchmarks.session CALLS` runs it in a process of its own and prints what it cost as JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import spanrelay
from benchmarks import workload
from benchmarks.measure import Effort
from benchmarks.results import Result
from spanrelay_openai import OpenAIInstrumentor

_CALLS = (250, 500, 1000)
_TEXT = 300


def session(effort: Effort) -> list[Result]:
    """Measure sessions of 250, 500 and 1000 calls: file, memory, and whether the file is linear in new text."""
    few, half, all_ = _CALLS if effort.seconds else (5, 10, 20)
    first, middle, last = (_measure(count) for count in (few, half, all_))
    bare = {count: _measure(count, "--bare")["cpu"] for count in (half, all_)}
    name = f"session of {all_} calls"
    growth = (last["file"] - middle["file"]) / (middle["file"] - first["file"]) / 2
    return [
        Result(name, "file", "MB", last["file"] / 1e6, limit=2.0),
        Result(name, "file growth", "x linear", growth, limit=1.05),
        Result(name, "peak RSS", "MB", last["rss"] / 1e6, limit=100.0),
        Result(name, "RSS above start", "MB", (last["rss"] - last["rss_before"]) / 1e6),
        Result(name, "CPU a call", "µs", (last["cpu"] - bare[all_]) / all_ * 1e6),
        Result(f"session of {half} calls", "CPU a call", "µs", (middle["cpu"] - bare[half]) / half * 1e6),
    ]


def _measure(calls: int, *options: str) -> dict[str, float]:
    command = (sys.executable, "-m", "benchmarks.session", str(calls), *options)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _run(calls: int, folder: str, *, record: bool) -> dict[str, float]:
    """Run a session through the real client, recorded or bare, and return bytes and CPU seconds."""
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    settings = spanrelay.Settings(trajectory_directory=folder, metrics=False, quiet=True)
    runtime = spanrelay.activate(settings, instrument=False)
    assert runtime is not None
    if record:
        OpenAIInstrumentor().instrument()
    before, cpu = peak_rss(), 0.0
    with spanrelay.scope("benchmark", session="session-1"):
        messages: list[dict[str, Any]] = []
        for call in range(calls):
            messages.append({"role": "user", "content": f"{call}: {workload.text(_TEXT)}"})
            exchange = workload.Exchange(messages, f"answer {call}: {workload.text(_TEXT)}")
            ask = workload.post(exchange)
            start = time.process_time()
            ask()
            settle(runtime)
            cpu += time.process_time() - start
            messages.append({"role": "assistant", "content": exchange.answer})
    start = time.process_time()
    runtime.shutdown()
    cpu += time.process_time() - start
    size = sum(path.stat().st_size for path in Path(folder).rglob("*.json"))
    return {"file": size, "rss": peak_rss(), "rss_before": before, "cpu": cpu}


def settle(runtime: spanrelay.Runtime) -> None:
    """Wait until what a call left is read: a model takes longer to answer than that, these answer at once."""
    while runtime.processor.pending.size:
        time.sleep(0.0005)
        # The start of a span alone wakes nobody, and may be all that waits; in earlier builds it did.
        getattr(runtime.processor.worker, "wake", time.process_time)()


def peak_rss() -> int:
    """Return this program's peak in bytes; `ru_maxrss` of Linux starts with that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(_run(int(sys.argv[1]), directory, record="--bare" not in sys.argv)))
