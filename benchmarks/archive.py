"""Memory of `spanrelay convert` over a long file of short sessions, which it is not to depend on.

`python -m benchmarks.archive BYTES` makes a file of that size, such as `5e9`, in the folder for temporary files,
converts it, and prints what one process held at most.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Effort
from benchmarks.results import Result

_TURNS = 3
_WORDS = 150
"""In each message."""
_BEGIN = 1_760_000_000_000_000_000
_MOST = 250.0


def archive(effort: Effort) -> list[Result]:
    """Measure the peak over a file, and over one four times as long."""
    size = 50_000_000 if effort.seconds else 100_000
    return [
        Result(f"convert, {count} sessions of three traces", "peak RSS", "MB", peak / 1e6, limit=_MOST)
        for count, peak in map(_converted, (size, 4 * size))
    ]


def _converted(size: int) -> tuple[int, int]:
    """Convert a file of `size` bytes in a process of its own; return its sessions and that one's peak in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "spans.jsonl")
        sessions = _write(path, size)
        # `VmHWM` of the process itself: what `wait4` tells begins with that of the process that started it.
        program = (
            "import re, sys; from spanrelay.cli import main; "
            "status = main(sys.argv[1:]); "
            "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()).group(1)); sys.exit(status)"
        )
        command = [sys.executable, "-c", program, "convert", path, "--jobs", "1", "-o", Path(folder, "out")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return sessions, int(done.stdout.split()[-1]) * 1024


def _write(path: Path, size: int) -> int:
    chance = random.Random(7)
    words = [f"word{number}" for number in range(2000)]
    sessions = 0
    with path.open("w") as file:
        while file.tell() < size:
            sessions += 1
            file.writelines(_session(sessions, chance, words))
    return sessions


def _session(number: int, chance: random.Random, words: list[str]) -> Iterator[str]:
    """Yield a conversation of three turns, a request and a trace each: an agent, and the model that it asks."""
    history: list[dict[str, Any]] = []
    session = {"gen_ai.conversation.id": f"session-{number:08d}"}
    for turn in range(_TURNS):
        history.append(_message("user", " ".join(chance.choices(words, k=_WORDS))))
        answer = {**_message("assistant", " ".join(chance.choices(words, k=_WORDS))), "finish_reason": "stop"}
        start = _BEGIN + (number * _TURNS + turn) * 50_000_000
        trace, agent = f"{chance.getrandbits(128):032x}", f"{chance.getrandbits(64):016x}"
        asked = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "m",
            "gen_ai.input.messages": json.dumps(history),
            "gen_ai.output.messages": json.dumps([answer]),
            "gen_ai.usage.input_tokens": 300,
            "gen_ai.usage.output_tokens": 150,
        }
        ran = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}
        call = _span(trace, f"{chance.getrandbits(64):016x}", "chat m", start + 1_000_000, {**session, **asked})
        spans = [{**call, "parentSpanId": agent}, _span(trace, agent, "invoke_agent a", start, {**session, **ran})]
        resource = {"attributes": [_attribute("service.name", "svc")]}
        scoped = [{"scope": {"name": "app"}, "spans": spans}]
        yield json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scoped}]}) + "\n"
        history.append(answer)


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _span(trace: str, span: str, name: str, start: int, attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": span,
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 40_000_000),
        "attributes": [_attribute(key, value) for key, value in attributes.items()],
    }


def _attribute(key: str, value: str | int) -> dict[str, Any]:
    return {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}


if __name__ == "__main__":
    count, peak = _converted(int(float(sys.argv[1])))
    print(f"{count} sessions, peak {peak / 1e6:.0f} MB")
