"""`python -m benchmarks.peer NAME [--quick] ROW …`: one instrumentation in its own environment, as JSON.

Imports only what it measures: the environment of a peer holds no other instrumentation and no SpanRelay.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import openai
from opentelemetry.sdk.trace import TracerProvider

from benchmarks import agents, workload
from benchmarks.floor import EncodingExporter, encoding_provider, floor_of
from benchmarks.measure import FULL, QUICK, Cost, Effort, Way, differences, interleave, mean, run_block, uncollected
from benchmarks.results import Result, against_floor
from benchmarks.sdks import OPENAI, SDK, SDKS, work_of
from benchmarks.workload import Exchange, Patched

TOOL, GROWING = "tool", "growing"
_MESSAGE = 600
_LENGTHS, _QUICK_LENGTHS = (100, 300), (10, 20)
_EVERY = 10


@dataclass(frozen=True)
class Work:
    """One kind of work, bare and recorded, and how many bytes of spans were exported so far.

    The floor goes around `plain`: the same request without the SDK's typing, which costs many floors and whose noise
    would drown one.
    """

    bare: Way
    recorded: Way
    plain: Way
    exported: Callable[[], int]


@dataclass(frozen=True)
class Switch:
    """Puts an instrumentation out of force and in force, sends what it recorded, and counts the bytes of that."""

    off: Callable[[], object]
    on: Callable[[], object]
    flush: Callable[[], object]
    exported: Callable[[], int]


class Peer(Protocol):
    """An instrumentation that is in force only where a `Way` puts it in force."""

    def call(self, exchange: Exchange, sdk: SDK = OPENAI) -> Work:
        """Return a model call. Raises NotImplementedError where the instrumentation records none of the SDK."""
        ...

    def tool(self) -> Work:
        """Return a call of a tool. Raises NotImplementedError where the instrumentation records none."""
        ...

    def agents(self) -> AbstractContextManager[Switch]:
        """Instrument agents of LangGraph. Raises NotImplementedError where an agent has to be built for it."""
        ...


class PatchedSDK:
    """An instrumentation that patches SDKs: the application's call is the same with it and without.

    Args:
        provider: Where its spans go, and from there to `exporter`.
        exporter: Counts their bytes.
        instrumentors: That of each SDK and framework, by its name, as `module:class`.
    """

    def __init__(self, provider: TracerProvider, exporter: EncodingExporter, instrumentors: Mapping[str, str]) -> None:
        self._provider, self._exporter, self._instrumentors = provider, exporter, instrumentors
        self._patched: dict[str, Patched] = {}

    def call(self, exchange: Exchange, sdk: SDK = OPENAI) -> Work:
        """Return the call of a client that was made under the instrumentation, and of one that was made without."""
        patched = self.patched(sdk)
        patched.off()
        bare = Way(sdk.create(exchange), patched.off)
        plain = Way(sdk.plain(exchange), patched.off) if sdk.post else bare
        patched.on()
        recorded = Way(sdk.create(exchange), patched.on, self._provider.force_flush)
        return Work(bare, recorded, plain, lambda: self._exporter.bytes)

    def patched(self, sdk: SDK) -> Patched:
        """Return what it changes in an SDK; made once: most instrumentors change nothing when they are asked again."""
        if sdk.name not in self._patched:
            self._patched[sdk.name] = sdk.patched(self._instrument(sdk.name))
        return self._patched[sdk.name]

    def off(self) -> None:
        """Put every SDK back as it was."""
        for patched in self._patched.values():
            patched.off()

    def _instrument(self, name: str) -> Callable[[], object]:
        if name not in self._instrumentors:
            raise NotImplementedError(f"has no instrumentor of {name}")
        module, _, kind = self._instrumentors[name].partition(":")
        instrument = getattr(import_module(module), kind)().instrument
        return lambda: instrument(tracer_provider=self._provider)

    def tool(self) -> Work:
        """Raise: who patches a model's SDK sees no tools."""
        raise NotImplementedError("records no tool calls")

    @contextmanager
    def agents(self) -> Generator[Switch]:
        """Instrument LangChain, and with it LangGraph, as far as the instrumentation goes."""
        patched = self._patched_agents
        yield Switch(patched.off, patched.on, self._provider.force_flush, lambda: self._exporter.bytes)
        patched.off()

    @cached_property
    def _patched_agents(self) -> Patched:
        """Made once, as that of an SDK."""
        self.off()
        with agents.runs(awaited=False) as run:
            return Patched(self._instrument("langchain"), run, agents.PACKAGES)


def instrumentor(instrumentors: Mapping[str, str]) -> Callable[[], AbstractContextManager[Peer]]:
    """Return how to install an instrumentation that has an instrumentor of each SDK, as `module:class`."""

    @contextmanager
    def installed() -> Generator[Peer]:
        peer = PatchedSDK(*encoding_provider(), instrumentors)
        yield peer
        peer.off()

    return installed


class SpanRelay(PatchedSDK):
    """SpanRelay, with its managed tool call; `patched` is what it changed in OpenAI's SDK."""

    def __init__(self, provider: TracerProvider, exporter: EncodingExporter, patched: Patched) -> None:
        super().__init__(provider, exporter, {name: sdk.ours for name, sdk in SDKS.items()})
        self._patched[OPENAI.name] = patched

    def tool(self) -> Work:
        """Return `spanrelay.run_tool(…)`."""
        import spanrelay
        from spanrelay.tracing import Tracing

        tracing = Tracing("spanrelay", None, self._provider)

        def forecast(**_: Any) -> Any:
            return workload.TOOL_RESULT

        def managed() -> object:
            arguments = workload.TOOL_ARGUMENTS
            return spanrelay.run_tool("forecast", forecast, arguments, call_id="call_1", tracing=tracing)

        bare, recorded = (
            Way(lambda: forecast(**workload.TOOL_ARGUMENTS)),
            Way(managed, flush=self._provider.force_flush),
        )
        return Work(bare, recorded, bare, lambda: self._exporter.bytes)

    @contextmanager
    def agents(self) -> Generator[Switch]:
        """Record runs of graphs and their nodes, models and tools."""
        from benchmarks import graphs

        self.off()
        with graphs.instrumented(self._provider, *graphs.AGENTS) as (off, on):
            yield Switch(off, on, self._provider.force_flush, lambda: self._exporter.bytes)


@contextmanager
def spanrelay() -> Generator[Peer]:
    """Install SpanRelay, content on, without trajectories."""
    from benchmarks import ours

    provider, exporter = encoding_provider()
    with ours.recording(provider) as patched:
        peer = SpanRelay(provider, exporter, patched)
        yield peer
        peer.off()


class Relay:
    """NeMo Relay, which patches no SDK: the application hands its call to the managed API, in an event loop.

    Its exporter is its own, which writes OTLP protobuf to a file. The SDK is called without its typing, as in
    `workload.post`: Relay passes JSON, and leaves nothing to turn into it.
    """

    def __init__(self, relay: Any, folder: str) -> None:
        self._relay, self._spans = relay, Path(folder, "spans")
        sink = relay.OpenTelemetryFileSinkConfig("gen_ai", folder, self._spans.name, "proto", "append")
        self._subscriber = relay.OpenTelemetrySubscriber(sink)
        self._subscriber.register("benchmark")
        self._loop = asyncio.new_event_loop()
        self._written = 0

    def call(self, exchange: Exchange, sdk: SDK = OPENAI) -> Work:
        """Return `llm.execute(…)` or `llm.stream_execute(…)`, with the codecs that read what it passes."""
        if sdk is not OPENAI:
            raise NotImplementedError("patches no SDK: what is handed to it costs the same whoever made it")
        return self._stream(exchange) if exchange.chunks else self._chat(exchange)

    def tool(self) -> Work:
        """Return `tools.execute(…)`."""
        relay = self._relay

        async def bare() -> object:
            return workload.TOOL_RESULT

        async def forecast(_: Any) -> Any:
            return relay.ToolExecutionResult(workload.TOOL_RESULT)

        async def managed() -> object:
            arguments = workload.TOOL_ARGUMENTS
            return await relay.tools.execute("forecast", arguments, forecast, tool_call_id="call_1")

        return self._work(bare, managed)

    def agents(self) -> AbstractContextManager[Switch]:
        """Raise: Relay's middleware and its callbacks are given to an agent when it is made and run."""
        raise NotImplementedError("patches no framework: an agent has to be built with its middleware")

    def close(self) -> None:
        """Let go of the file and the loop."""
        self._subscriber.deregister("benchmark")
        self._subscriber.shutdown()
        self._loop.close()

    def _chat(self, exchange: Exchange) -> Work:
        relay, post, codec = self._relay, workload.client(exchange).post, self._relay.codecs.OpenAIChatCodec()

        async def send(body: object) -> object:
            return post("/chat/completions", cast_to=object, body=body)

        async def managed() -> object:
            request = relay.LLMRequest({}, exchange.request)
            return await relay.llm.execute(
                "openai",
                request,
                lambda request: send(request.content),
                model_name=workload.MODEL,
                codec=codec,
                response_codec=codec,
            )

        return self._work(lambda: send(exchange.request), managed)

    def _stream(self, exchange: Exchange) -> Work:
        relay, post, codec = self._relay, workload.client(exchange).post, self._relay.codecs.OpenAIChatCodec()

        async def send(body: object) -> AsyncIterator[Any]:
            answer = post("/chat/completions", cast_to=object, body=body, stream=True, stream_cls=openai.Stream[object])
            for chunk in answer:
                yield chunk

        async def bare() -> None:
            async for _ in send(exchange.request):
                pass

        async def managed() -> None:
            request, chunks = relay.LLMRequest({}, exchange.request), list[Any]()
            stream = await relay.llm.stream_execute(
                "openai",
                request,
                lambda request: send(request.content),
                chunks.append,
                lambda: _join(chunks),
                model_name=workload.MODEL,
                codec=codec,
                response_codec=codec,
            )
            async for _ in stream:
                pass

        return self._work(bare, managed)

    def _work(self, bare: Callable[[], Any], managed: Callable[[], Any]) -> Work:
        run = self._loop.run_until_complete
        plain, recorded = Way(lambda: run(bare())), Way(lambda: run(managed()), self._empty, self._flush)
        return Work(plain, recorded, plain, self._exported)

    def _flush(self) -> None:
        self._relay.subscribers.flush()
        self._subscriber.force_flush()

    def _empty(self) -> None:
        """Throw away what was written, before a block and outside its times."""
        self._written = self._exported()
        if self._spans.exists():
            os.truncate(self._spans, 0)

    def _exported(self) -> int:
        return self._written + (self._spans.stat().st_size if self._spans.exists() else 0)


def _join(chunks: list[Any]) -> dict[str, Any]:
    """Return the answer that the chunks of a stream make up: Relay leaves it to its user."""
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    message = {"role": "assistant", "content": "".join(delta.get("content") or "" for delta in deltas)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    last = chunks[-1]
    return {"id": last["id"], "model": last["model"], "choices": [choice], "usage": last["usage"]}


@contextmanager
def nemo_relay() -> Generator[Peer]:
    """Set NeMo Relay up."""
    with tempfile.TemporaryDirectory() as folder:
        relay = Relay(import_module("nemo_relay"), folder)
        try:
            yield relay
        finally:
            relay.close()


PEERS: dict[str, Callable[[], AbstractContextManager[Peer]]] = {
    "spanrelay": spanrelay,
    "genai": instrumentor(
        {
            "openai": "opentelemetry.instrumentation.genai.openai:OpenAIInstrumentor",
            "langchain": "opentelemetry.instrumentation.genai.langchain:LangChainInstrumentor",
            "anthropic": "opentelemetry.instrumentation.genai.anthropic:AnthropicInstrumentor",
            "google-genai": "opentelemetry.instrumentation.google_genai:GoogleGenAiSdkInstrumentor",
            "bedrock": "opentelemetry.instrumentation.genai.bedrock:BedrockInstrumentor",
        }
    ),
    "openinference": instrumentor(
        {
            "openai": "openinference.instrumentation.openai:OpenAIInstrumentor",
            "langchain": "openinference.instrumentation.langchain:LangChainInstrumentor",
            "anthropic": "openinference.instrumentation.anthropic:AnthropicInstrumentor",
            "google-genai": "openinference.instrumentation.google_genai:GoogleGenAIInstrumentor",
            "bedrock": "openinference.instrumentation.bedrock:BedrockInstrumentor",
        }
    ),
    "traceloop": instrumentor(
        {
            "openai": "opentelemetry.instrumentation.openai:OpenAIInstrumentor",
            "langchain": "opentelemetry.instrumentation.langchain:LangchainInstrumentor",
            "anthropic": "opentelemetry.instrumentation.anthropic:AnthropicInstrumentor",
            "google-genai": "opentelemetry.instrumentation.google_generativeai:GoogleGenerativeAiInstrumentor",
            "bedrock": "opentelemetry.instrumentation.bedrock:BedrockInstrumentor",
        }
    ),
    "nemo-relay": nemo_relay,
}


def measure(peer: Peer, row: str, effort: Effort) -> list[Result]:
    """Measure one row. Raises RuntimeError where the content is not in what the peer exported."""
    if row in agents.ROWS:
        return _agent(peer, row, effort)
    if row == GROWING:
        return _growing(peer, effort)
    if row in SDKS:
        works = ((title, peer.call(exchange, SDKS[row]), exchange.content) for title, exchange in work_of(row))
        return [result for work in works for result in _measure(*work, effort)]
    if row == TOOL:
        return _measure("managed tool call", peer.tool(), workload.chat(1_000).content, effort)
    title, make = workload.EXCHANGES[row]
    exchange = make()
    return _measure(title, peer.call(exchange), exchange.content, effort)


def _measure(name: str, work: Work, content: str, effort: Effort) -> list[Result]:
    _prove(work, len(content))
    floor = floor_of(content, work.plain.call)
    least = Way(floor.call, work.plain.enter, floor.flush)
    if work.plain is work.bare:
        bare, recorded, floors = interleave((work.bare, work.recorded, least), effort)
        return against_floor(name, recorded, bare, floors, None)
    bare, recorded, plain, floors = interleave((work.bare, work.recorded, work.plain, least), effort)
    return against_floor(name, recorded, bare, floors, None, plain)


def _agent(peer: Peer, row: str, effort: Effort) -> list[Result]:
    title, awaited = agents.ROWS[row]
    with peer.agents() as switch, agents.runs(awaited=awaited) as run:
        bare, recorded = Way(run, switch.off), Way(run, switch.on, switch.flush)
        _prove(Work(bare, recorded, bare, switch.exported), agents.CONTENT)
        return agents.measure(title, (bare, recorded), effort)


def _growing(peer: Peer, effort: Effort) -> list[Result]:
    """Measure sessions as `benchmarks.growing` does: every tenth call is compared, all are recorded."""
    lengths = _LENGTHS if effort.seconds else _QUICK_LENGTHS
    conversation = workload.Conversation(_MESSAGE)
    conversation.begin()
    work = peer.call(conversation.exchange)
    _prove(work, 2 * _MESSAGE)
    floor = floor_of(lambda: json.dumps(conversation.said), work.plain.call)
    ways = (work.bare, work.recorded, work.plain, Way(floor.call, work.plain.enter, floor.flush))
    costs: list[list[Cost]] = [[] for _ in ways]
    with uncollected():
        for call in range(2, lengths[-1] + 1):
            conversation.begin()
            if call % _EVERY:
                work.recorded.enter()
                work.recorded.call()
                work.recorded.flush()
                continue
            for place in range(len(ways)):
                at = (place + call // _EVERY) % len(ways)
                costs[at].append(run_block(ways[at], 1, warm_up=0))
    results: list[Result] = []
    for length in lengths:
        bare, recorded, plain, floors = (found[: length // _EVERY] for found in costs)
        ours, least = (mean([cost.cpu for cost in differences(*both)]) for both in ((recorded, bare), (floors, plain)))
        title, label = f"growing session, {length} calls", "CPU, floor makes its JSON"
        results.append(Result(title, label, "µs", ours.value, ours.error, least.value, least.error))
    return results


def _prove(work: Work, size: int) -> None:
    """See that the recorded work exports its content, and that the bare work exports nothing."""
    bare, recorded = _exported(work, work.bare), _exported(work, work.recorded)
    if bare:
        raise RuntimeError(f"the bare call exported {bare} bytes: the instrumentation cannot be taken out")
    if recorded < size * 0.9:
        raise RuntimeError(f"exported {recorded} bytes of a call with {size} bytes of content; is content captured?")


def _exported(work: Work, way: Way) -> int:
    """Return the bytes that one call exports."""
    way.enter()
    work.recorded.flush()
    before = work.exported()
    way.call()
    work.recorded.flush()
    return work.exported() - before


def _run(name: str, rows: list[str], effort: Effort) -> dict[str, Any]:
    """Return the results of the rows, and for each row that has none the reason: whatever a peer raises."""
    results: list[Any] = []
    failures: dict[str, str] = {}
    try:
        with PEERS[name]() as peer:
            for row in rows:
                try:
                    results += [result.to_json() for result in measure(peer, row, effort)]
                except Exception as error:
                    failures[row] = f"{type(error).__name__}: {error}"
    except Exception as error:
        failures = {**dict.fromkeys(rows, f"{type(error).__name__}: {error}"), **failures}
    return {"results": results, "failures": failures}


def main() -> int:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer", description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("rows", nargs="+", choices=[*workload.EXCHANGES, TOOL, *agents.ROWS, GROWING, *SDKS])
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    print(json.dumps(_run(chosen.name, chosen.rows, QUICK if chosen.quick else FULL)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
