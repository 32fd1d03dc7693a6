"""Memory of conversations that are held at the same time: what is kept of each so that it goes on cheaply.

`python -m benchmarks.concurrent CONVERSATIONS [--bare]` holds them in a process of its own and prints its peak as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from opentelemetry.sdk.trace import TracerProvider

import spanrelay
from benchmarks.floor import encoding_processor
from benchmarks.measure import Effort
from benchmarks.ours import activated
from benchmarks.results import Result
from benchmarks.session import peak_rss, settle
from benchmarks.workload import Conversation

_CONVERSATIONS = 1000
_QUICK = 10
_MESSAGE = 600
_TURNS = (80, 84)
"""How far each conversation is when it first and when it last calls: 80 turns of 1 200 bytes are about 100 KB."""


def concurrent(effort: Effort) -> list[Result]:
    """A thousand conversations of 100 KB, each of which calls twice, and none twice in a row."""
    count = _CONVERSATIONS if effort.seconds else _QUICK
    bare, ours = (_measure(count, *options) for options in (("--bare",), ()))
    above = (ours - bare) / 1e6
    return [Result(f"{count} conversations of 100 KB", "RSS above bare", "MB", above, limit=150.0)]


def _measure(count: int, *options: str) -> int:
    command = (sys.executable, "-m", "benchmarks.concurrent", str(count), *options)
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["peak"]


def _run(count: int, folder: str, *, record: bool) -> int:
    """Let conversations call in turn, whose messages the application itself does not keep; return the peak in bytes."""
    exporting, _ = encoding_processor()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(exporting)
    with activated(provider, folder) as (patched, runtime):
        (patched.on if record else patched.off)()
        for turns in _TURNS:
            for number in range(count):
                conversation = Conversation(_MESSAGE, str(number))
                conversation.begin(turns)
                with spanrelay.scope("benchmark", session=f"session-{number}"):
                    conversation.ask()
                exporting.force_flush()
                settle(runtime)
        return peak_rss()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps({"peak": _run(int(sys.argv[1]), directory, record="--bare" not in sys.argv)}))
