"""A pytest plugin, `pytest_plugins = ["spanrelay.testing"]`: what the code under test did, as the fixture `recorded`.

Everything is in memory, and after each test the process is as it was before. Imported by tests only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from spanrelay import runtime, tracing
from spanrelay.config import PolicyFile, Settings
from spanrelay.instrumentation.choice import choose, switch_on
from spanrelay.instrumentation.threads import carry_context_into_threads, leave_threads_alone
from spanrelay.observation.observers import observers
from spanrelay.pipeline.middleware import registered
from spanrelay.plugins import configured
from spanrelay.plugins.activation import Activation, Read
from spanrelay.plugins.files import Layer, read_layers
from spanrelay.records import JSON, Kind, SpanRecord, Usage
from spanrelay.registry import Registry
from spanrelay.report import counted
from spanrelay.runtime import Runtime
from spanrelay.semconv.spans import record_of

_REFUSED = "spanrelay.errors.GuardrailRejected"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that a model called for, or that ran.

    `result` is what the model was told, None where it has not been told anything yet; `error` says whether that was a
    failure or a refusal.
    """

    name: str
    arguments: Mapping[str, JSON]
    result: JSON = None
    error: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that policy refused: of which kind, the model's or the tool's name, and which guardrail said why."""

    kind: Kind
    name: str
    reason: str


class Recorded:
    """What has been recorded since the test began."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.provider = TracerProvider(shutdown_on_exit=False)
        """Records scopes, managed calls, and what instrumentors see; it is the global tracer provider too."""
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._activation: Activation | None = None
        self._runtime: Runtime | None = None

    def __repr__(self) -> str:
        """What has been recorded, in short: pytest shows it where a test fails."""
        tools = [record for record in self.records if record.kind == "tool" and not _is_refused(record)]
        parts = (
            _named("model calls", [_name(record) for record in self.model_calls]),
            _named("tools run", [_name(record) for record in tools]),
            _named("calls refused", [f"{each.name} ({each.reason})" for each in self.refused]),
        )
        return f"<Recorded: {'; '.join(filter(None, parts)) or counted(len(self.spans), 'spans')}>"

    @property
    def runtime(self) -> Runtime:
        """What `spanrelay.activate()` returns in the test."""
        assert self._runtime is not None, "recording has not begun"
        return self._runtime

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in that order, in the dialect of the settings."""
        return self._exporter.get_finished_spans()

    @property
    def records(self) -> list[SpanRecord]:
        """The spans that have ended, read: whoever made them, in whatever dialect."""
        return [record_of(span) for span in self.spans]

    @property
    def model_calls(self) -> list[SpanRecord]:
        """The model calls that have ended, but for those that policy refused: `request`, `response`, `error`."""
        return [record for record in self.records if record.kind == "llm" and not _is_refused(record)]

    @property
    def refused(self) -> list[Refusal]:
        """The calls that policy refused, in that order."""
        records = self.records
        return [
            _refusal(record) for record in records if _is_refused(record) and not _failed_by_another(record, records)
        ]

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tools that models called for, or that ran, in the order of the trajectories, sub-agents behind."""
        return [call for document in self.trajectories for call in _tool_calls(document)]

    @property
    def tokens(self) -> Usage:
        """The tokens of all model calls together; what no answer reported is None."""
        used = [record.response.usage for record in self.model_calls if record.response and record.response.usage]
        return Usage(**{name: _sum([getattr(each, name) for each in used]) for name in _COUNTED})

    @property
    def trajectories(self) -> list[dict[str, JSON]]:
        """The ATIF document of each session, or trace, so far."""
        return self.runtime.trajectories()

    @property
    def trajectory(self) -> dict[str, JSON]:
        """The only trajectory there is.

        Raises:
            AssertionError: there is none, or more than one.
        """
        found = self.trajectories
        sessions = [document.get("session_id") for document in found]
        assert len(found) == 1, f"expected one trajectory, there are {len(found)}: {sessions}"
        return found[0]

    def configure(self, file: str | os.PathLike[str] | None = None, /, **plugins: Mapping[str, Any]) -> None:
        """Put policy and other plugins in force until the test ends, in place of what was configured before.

        Args:
            file: A `spanrelay.toml`.
            plugins: In place of a file, the tables of its `[plugins]` by name: `policy={"models": {"allow": […]}}`.

        Raises:
            ConfigurationError: something cannot be put in force; nothing is then.
        """
        if (file is None) is not bool(plugins):
            raise TypeError("configure() takes a file, or tables by the names of plugins: configure(policy={…})")
        self.unconfigure()
        files = [] if file is None else [PolicyFile(str(Path(file).resolve()), "chosen")]
        activation = Activation(files, read=_leniently(read_layers if files else _reading(plugins)))
        activation.reload()  # unlike `start`, strict whatever the file says of failures
        self._activation = activation

    def unconfigure(self) -> None:
        """Take out of force what `configure` has put there."""
        if self._activation is not None:
            self._activation.close()
            self._activation = None

    def clear(self) -> None:
        """Forget the spans so far; trajectories stay."""
        self._exporter.clear()

    def _begin(self) -> Callable[[], None]:
        self._runtime = runtime.begin(self.provider, self.settings)
        tracing.name_provider(self.provider)
        return self._end

    def _end(self) -> None:
        self.unconfigure()
        self.runtime.shutdown()


@contextmanager
def record(settings: Settings | None = None) -> Generator[Recorded]:
    """Record within the block, as the fixture `recorded` does within a test.

    Args:
        settings: By default trajectories in memory, message content in spans, and no metrics.
    """
    recorded = Recorded(settings or Settings(trajectories="memory", content="spans", metrics=False, quiet=True))
    parts = (
        *(_keep_hooks, _keep_registries, _end_others, _carry_context, partial(_make_global, recorded.provider)),
        *(configured.pass_by, recorded._begin, _instrument),
    )
    with ExitStack() as stack:
        for part in parts:
            stack.callback(part())
        yield recorded


# --- what is done for a test; each returns what puts it back -----------------------------------------------


def _keep_hooks() -> Callable[[], None]:
    settled = {name: getattr(tracing.recording, name) for name in tracing.Recording.__slots__}

    def put_back() -> None:
        for name, value in settled.items():
            setattr(tracing.recording, name, value)

    return put_back


def _keep_registries() -> Callable[[], None]:
    """What the code under test registers for the process, and leaves there, goes with the test."""
    kept: list[tuple[Registry[Any], Any]] = [(each, each.entries) for each in (registered, observers)]

    def put_back() -> None:
        for registry, entries in kept:
            registry.restore(entries)

    return put_back


def _end_others() -> Callable[[], None]:
    """What the code under test has activated for providers of its own ends with the test."""
    before = runtime.active()

    def end() -> None:
        for each in runtime.active():
            if each not in before:
                each.shutdown()

    return end


def _carry_context() -> Callable[[], None]:
    return leave_threads_alone if carry_context_into_threads() else lambda: None


def _make_global(provider: TracerProvider) -> Callable[[], None]:
    """Make `provider` the global one, which OpenTelemetry lets nobody do twice.

    A tracer that was asked for before there was a provider keeps the first that it meets: not one of a test.
    """
    done, patch = Once(), pytest.MonkeyPatch()
    done.do_once(lambda: None)
    patch.setattr(trace, "_TRACER_PROVIDER", provider)
    patch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", done)
    patch.setattr(trace.ProxyTracer, "_tracer", property(_tracer_now))
    return patch.undo


def _tracer_now(proxy: Any) -> trace.Tracer:
    known: trace.Tracer | None = proxy._real_tracer
    return known or trace.get_tracer_provider().get_tracer(
        proxy._instrumenting_module_name,
        proxy._instrumenting_library_version,
        proxy._schema_url,
        proxy._attributes,
    )


def _instrument() -> Callable[[], None]:
    """Switch on every installed instrumentor that is not on already."""
    chosen = [each for each in choose(True) if not each.load()().is_instrumented_by_opentelemetry]
    switch_on(chosen)

    def uninstrument() -> None:
        for instrumentor in [each.load()() for each in chosen]:
            if instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.uninstrument()

    return uninstrument


# --- reading -----------------------------------------------------------------------------------------------


def _reading(plugins: Mapping[str, Mapping[str, Any]]) -> Read:
    tables = {name: dict(table) for name, table in plugins.items()}
    return lambda files: ([Layer("configure()", "warn", plugins=tables)], [])


def _leniently(read: Read) -> Read:
    """Let a fault be an error of the test and not the end of the process, which it is for a program."""

    def read_leniently(files: Any) -> Any:
        layers, found = read(files)
        for layer in layers:
            layer.on_failure = "warn"
        return layers, found

    return read_leniently


def _is_refused(record: SpanRecord) -> bool:
    failed = record.error is not None and record.error.type == _REFUSED
    return failed and (record.request is not None or record.tool is not None)


def _failed_by_another(record: SpanRecord, records: list[SpanRecord]) -> bool:
    """Whether a call beneath is the refused one, which failed this one too."""
    below = {record.span_id}
    for other in sorted(records, key=lambda each: each.start):
        if other.trace_id == record.trace_id and other.parent_id in below:
            below.add(other.span_id)
            if _is_refused(other):
                return True
    return False


def _refusal(record: SpanRecord) -> Refusal:
    assert record.kind is not None and record.error is not None, "refused calls have both"
    return Refusal(record.kind, _name(record), record.error.message)


def _name(record: SpanRecord) -> str:
    name = record.tool.name if record.tool is not None else record.request.model if record.request is not None else ""
    return name or record.name


def _named(what: str, names: list[str]) -> str:
    return f"{counted(len(names), what)}: {', '.join(names)}" if names else ""


_COUNTED = Usage.__dataclass_fields__


def _sum(counts: list[int | None]) -> int | None:
    reported = [count for count in counts if count is not None]
    return sum(reported) if reported else None


def _tool_calls(document: Mapping[str, Any]) -> Iterator[ToolCall]:
    for step in document["steps"]:
        results = {each["source_call_id"]: each for each in step.get("observation", {}).get("results", [])}
        for call in step.get("tool_calls", []):
            if "dispatch" not in call.get("extra", {}):
                yield _tool_call(call, results.get(call["tool_call_id"], {}))
    for below in document.get("subagent_trajectories", []):
        yield from _tool_calls(below)


def _tool_call(call: Mapping[str, Any], result: Mapping[str, Any]) -> ToolCall:
    extra = cast("dict[str, Any]", result.get("extra") or {})
    failed = bool(extra.get("is_error") or extra.get("error"))
    return ToolCall(call["function_name"], call["arguments"], result.get("content"), failed)


# --- fixtures ----------------------------------------------------------------------------------------------


@pytest.fixture
def recorded_settings() -> Settings | None:
    """What `recorded` records: override it to return other `spanrelay.Settings`."""
    return None


@pytest.fixture
def recorded(recorded_settings: Settings | None) -> Generator[Recorded]:
    """What the code under test does, recorded in memory by every installed instrumentor: see `Recorded`."""
    with record(recorded_settings) as found:
        yield found
