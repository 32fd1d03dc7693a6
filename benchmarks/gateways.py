"""Other gateways at the exchanges of the row `gateway`: NeMo Relay's, and LiteLLM's proxy, each from its own package.

All are asked in turn in one run, before the same upstream. Each records as it does for its users: ours makes spans that
are encoded for a collector, NeMo Relay writes its events to a file, LiteLLM's proxy has nothing to tell.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.environments import Environment, variables
from benchmarks.gateway import FEW, PATH, Program, costs_of, programs
from benchmarks.measure import Effort, Figure, cpu_of, median
from benchmarks.proxies import CHUNKS
from benchmarks.results import Result
from spanrelay_testkit.kafka_broker import free_port, is_open

_NEMO_RELAY = Environment("nemo-relay-gateway", ("nemo-relay-cli-bin==0.10.4",))
_LITELLM = Environment("litellm-proxy", ("litellm[proxy]==1.108.7",))
_PATIENCE_S = 120.0
"""LiteLLM's proxy imports for half a minute on a slow machine."""

_EVENTS = """\
version = 1
[[components]]
kind = "observability"
enabled = true
[components.config]
version = 4
[components.config.atof]
enabled = true
[[components.config.atof.sinks]]
type = "file"
output_directory = "{folder}"
"""
_MODELS = """\
model_list:
  - model_name: gpt-5-mini
    litellm_params: {{model: openai/gpt-5-mini, api_base: "{url}/v1", api_key: none}}
"""
_OPEN = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
"""LiteLLM's proxy does not start without a key, which the others do not ask for either."""


class Foreign(Program):
    """A gateway that is no program of ours: what it uses is asked of the system."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.listen(port, PATH)
        deadline = time.monotonic() + _PATIENCE_S
        while not is_open(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args!r} does not listen at port {port}")
            time.sleep(0.1)

    def used(self) -> dict[str, float]:
        """Seconds of CPU so far, of all its threads; Linux only."""
        return {"cpu": cpu_of(self._process.pid)}


def gateways(effort: Effort) -> list[Result]:
    """Other gateways, in multiples of what ours costs."""
    with programs("ours", "ours-trajectories") as (upstream, *ours), ExitStack() as stack:
        url = f"http://127.0.0.1:{upstream.port}"
        others = {"NeMo Relay 0.10.4": _nemo_relay, "LiteLLM's proxy 1.108.7": _litellm}
        asked = [*ours, *(stack.enter_context(start(url)) for start in others.values())]
        return asyncio.run(_measure(asked, ("with trajectories", *others), effort))


async def _measure(asked: Sequence[Program], names: Sequence[str], effort: Effort) -> list[Result]:
    for each in asked:
        await each.connect()
        await each.ask(FEW)
    results: list[Result] = []
    for figure, batch, stream in (("a request", 200, False), (f"a stream of {CHUNKS} chunks", 16, True)):
        found = await costs_of(asked, batch if effort.seconds else 8, effort, stream=stream)
        ours, *others = map(median, found)
        results += [_result(name, figure, each, ours) for name, each in zip(names, others, strict=True)]
    return results


def _result(name: str, figure: str, cost: Figure, ours: Figure) -> Result:
    limit = 5.0 if name.startswith("LiteLLM") else None
    return Result(name, f"CPU, {figure}", "µs", cost.value, cost.error, ours.value, ours.error, limit, more=True)


@contextmanager
def _nemo_relay(url: str) -> Iterator[Program]:
    def command(port: int, home: Path) -> Sequence[str]:
        folder = home / ".config" / "nemo-relay"
        folder.mkdir(parents=True)
        (folder / "plugins.toml").write_text(_EVENTS.format(folder=home / "events"))
        program = _NEMO_RELAY.program("nemo-relay")
        return program, "--bind", f"127.0.0.1:{port}", "--openai-base-url", f"{url}/v1"

    with _started(command) as program:
        yield program


@contextmanager
def _litellm(url: str) -> Iterator[Program]:
    def command(port: int, home: Path) -> Sequence[str]:
        (home / "models.yaml").write_text(_MODELS.format(url=url))
        program = _LITELLM.program("litellm")
        return program, "--config", str(home / "models.yaml"), "--host", "127.0.0.1", "--port", str(port)

    with _started(command) as program:
        yield program


@contextmanager
def _started(command: Callable[[int, Path], Sequence[str]]) -> Iterator[Program]:
    """Run a gateway in a home folder of its own, so that it finds no settings but those written for it."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        process = subprocess.Popen(
            command(port, Path(folder)),
            env={**variables(), **_OPEN, "HOME": folder, "PATH": os.environ["PATH"]},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Foreign(process, port)
        finally:
            process.kill()
            process.wait()
