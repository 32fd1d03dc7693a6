"""The rows of SpanRelay: each measures one kind of work and returns its results.

The environment's providers are never touched: every row that needs one brings its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler

import spanrelay
from benchmarks import sdks, workload
from benchmarks.floor import encoding_provider, floor_of
from benchmarks.measure import Effort, Way, differences, interleave
from benchmarks.results import Result, absolute, against_floor
from benchmarks.sdks import SDK
from benchmarks.workload import Exchange, Patched
from spanrelay.tracing import Tracing

Row = Callable[[Effort], list[Result]]


@contextmanager
def activated(
    provider: TracerProvider, trajectories: str | None = None, content: Any = "spans", sdk: SDK = sdks.OPENAI
) -> Generator[tuple[Patched, spanrelay.Runtime]]:
    """Record calls of an SDK; `trajectories` is a folder to write them to, `content` where message content may be."""
    settings = spanrelay.Settings(
        trajectories="on" if trajectories else "off",
        trajectory_directory=trajectories or "never-written",
        content=content,
        metrics=False,
        quiet=True,
    )
    runtime = spanrelay.activate(settings, tracer_provider=provider, instrument=False)
    assert runtime is not None
    instrumentor = sdk.instrumentor()
    patched = sdk.patched(lambda: instrumentor.instrument(tracer_provider=provider))
    try:
        yield patched, runtime
    finally:
        patched.on()
        instrumentor.uninstrument()
        runtime.shutdown()


@contextmanager
def recording(provider: TracerProvider, trajectories: str | None = None, sdk: SDK = sdks.OPENAI) -> Generator[Patched]:
    """Record calls of an SDK with content on; `trajectories` is a folder to write them to."""
    with activated(provider, trajectories, sdk=sdk) as (patched, _):
        yield patched


def _compare(
    row: str,
    exchange: Exchange,
    limit: float | None,
    effort: Effort,
    sampler: Sampler | None = None,
    sdk: SDK = sdks.OPENAI,
) -> list[Result]:
    provider, _ = encoding_provider(sampler)
    with recording(provider, sdk=sdk) as patched:
        call = sdk.plain(exchange)
        floor = floor_of(exchange.content, call)
        bare, ours, least = interleave(
            (
                Way(call, patched.off),
                Way(call, patched.on, provider.force_flush),
                Way(floor.call, patched.off, floor.flush),
            ),
            effort,
        )
    return against_floor(row, ours, bare, least, limit)


def chat_1k(effort: Effort) -> list[Result]:
    """One question, one answer, 1 KB together."""
    return _compare("chat, 1 KB", workload.chat(1_000), 1.6, effort)


def chat_10k(effort: Effort) -> list[Result]:
    """One question, one answer, 10 KB together."""
    return _compare("chat, 10 KB", workload.chat(10_000), 1.6, effort)


def history(effort: Effort) -> list[Result]:
    """A request with 50 messages."""
    return _compare("chat, 50 messages", workload.history(50), 2.0, effort)


def stream(effort: Effort) -> list[Result]:
    """An answer in 50 chunks."""
    return _compare("stream, 50 chunks", workload.stream(50), 3.0, effort)


def chunk(effort: Effort) -> list[Result]:
    """What one more chunk costs: a stream of 250 against one of 50."""
    return _chunk("stream, each chunk", sdks.OPENAI, effort)


def _chunk(row: str, sdk: SDK, effort: Effort) -> list[Result]:
    provider, _ = encoding_provider()
    with recording(provider, sdk=sdk) as patched:
        short, long = sdk.plain(workload.stream(50)), sdk.plain(workload.stream(250))
        bare, bare_long, ours, ours_long = interleave(
            [Way(call, patched.off) for call in (short, long)]
            + [Way(call, patched.on, provider.force_flush) for call in (short, long)],
            effort,
        )
    longer = differences(differences(ours_long, bare_long), differences(ours, bare))
    return absolute(row, longer, 200, 2.5)


def _provider(name: str, effort: Effort) -> list[Result]:
    sdk = sdks.SDKS[name]
    return [
        *_compare(f"{sdk.title}, chat, 1 KB", workload.chat(1_000), 1.6, effort, sdk=sdk),
        *_compare(f"{sdk.title}, stream, 50 chunks", workload.stream(50), 3.0, effort, sdk=sdk),
        *_chunk(f"{sdk.title}, stream, each chunk", sdk, effort),
    ]


def anthropic(effort: Effort) -> list[Result]:
    """The Messages API of Anthropic, by its SDK."""
    return _provider("anthropic", effort)


def google_genai(effort: Effort) -> list[Result]:
    """Gemini, by the Google Gen AI SDK."""
    return _provider("google-genai", effort)


def bedrock(effort: Effort) -> list[Result]:
    """Converse of Amazon Bedrock, by boto3."""
    return _provider("bedrock", effort)


def sampled_out(effort: Effort) -> list[Result]:
    """A call whose span is not sampled, without policy; the floor is sampled."""
    return _compare("sampled out", workload.chat(1_000), 0.5, effort, ALWAYS_OFF)


@spanrelay.request_intercept
def _pass(call: Any) -> None:
    return None


@spanrelay.execution_intercept
def _send_on(call: Any) -> Generator[Any, Any, Any]:
    return (yield call)


@spanrelay.guardrail
def _allow(call: Any) -> None:
    return None


_MANY = 10


def _policy(family: str, declare: Any, middleware: Any, limit: float | None, effort: Effort) -> list[Result]:
    """Measure the first middleware of a call, which brings the pipeline's frame with it, and each further one."""
    entries = [declare(name=f"benchmark-{i}")(middleware.function) for i in range(_MANY + 1)]
    handles: list[Any] = []

    def with_entries(count: int) -> Callable[[], None]:
        def enter() -> None:
            patched.on()
            while handles:
                handles.pop().remove()
            handles.extend(spanrelay.use(entry) for entry in entries[:count])

        return enter

    provider, _ = encoding_provider()
    with recording(provider) as patched:
        call = workload.post(workload.chat(1_000))
        none, one, many = interleave(
            [Way(call, with_entries(count), provider.force_flush) for count in (0, 1, _MANY + 1)], effort
        )
        with_entries(0)()
    return [
        *absolute(f"{family}, the first", differences(one, none), 1, None),
        *absolute(f"{family}, each further", differences(many, one), _MANY, limit),
    ]


def request_intercept(effort: Effort) -> list[Result]:
    """A request intercept that changes nothing."""
    return _policy("request intercept", spanrelay.request_intercept, _pass, 2.0, effort)


def execution_intercept(effort: Effort) -> list[Result]:
    """An execution intercept that sends the call on."""
    return _policy("execution intercept", spanrelay.execution_intercept, _send_on, 2.0, effort)


def guardrail(effort: Effort) -> list[Result]:
    """A guardrail that allows; it opens a span of its own, so the budget of a middleware does not fit."""
    return _policy("guardrail (a span)", spanrelay.guardrail, _allow, None, effort)


def _forecast(**_: Any) -> Any:
    return workload.TOOL_RESULT


def tool(effort: Effort) -> list[Result]:
    """A tool call by the managed API; arguments and result are 1 KB together."""
    exchange = workload.chat(1_000)
    provider, _ = encoding_provider()
    with recording(provider):
        tracing = Tracing("spanrelay", None, provider)

        def managed() -> Any:
            return spanrelay.run_tool("forecast", _forecast, workload.TOOL_ARGUMENTS, call_id="call_1", tracing=tracing)

        def bare() -> Any:
            return _forecast(**workload.TOOL_ARGUMENTS)

        costs = interleave(
            (Way(bare), Way(managed, flush=provider.force_flush), floor_of(exchange.content, bare)), effort
        )
    return against_floor("managed tool call", costs[1], costs[0], costs[2], 1.8)


@contextmanager
def _sessions(provider: TracerProvider) -> Iterator[Callable[[], None]]:
    """Yield what ends one session, flushes it, and begins the next: one block of calls is one session."""
    number = 0

    def begin() -> Any:
        nonlocal number
        number += 1
        opened = spanrelay.scope("benchmark", session=f"session-{number}")
        opened.__enter__()
        return opened

    current = begin()

    def turn_over() -> None:
        nonlocal current
        current.__exit__(None, None, None)
        provider.force_flush()
        current = begin()

    try:
        yield turn_over
    finally:
        current.__exit__(None, None, None)


def _with_trajectories(row: str, exchange: Exchange, effort: Effort) -> list[Result]:
    provider, _ = encoding_provider()
    with tempfile.TemporaryDirectory() as folder, recording(provider, folder) as patched:
        call = workload.post(exchange)
        floor = floor_of(exchange.content, call)
        with _sessions(provider) as turn_over:
            bare, ours, least = interleave(
                (
                    Way(call, patched.off),
                    Way(call, patched.on, turn_over),
                    Way(floor.call, patched.off, floor.flush),
                ),
                effort,
            )
    return against_floor(f"{row}, trajectories on", ours, bare, least, None)


def trajectories(effort: Effort) -> list[Result]:
    """The same calls with a trajectory written as well; one file for each block of calls."""
    return [
        *_with_trajectories("chat, 1 KB", workload.chat(1_000), effort),
        *_with_trajectories("chat, 10 KB", workload.chat(10_000), effort),
        *_with_trajectories("stream, 50 chunks", workload.stream(50), effort),
    ]
