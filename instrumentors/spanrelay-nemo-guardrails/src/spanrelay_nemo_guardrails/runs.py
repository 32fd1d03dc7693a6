"""The boundary of a run of rails: one CHAIN span for each generation, stream or check.

The run's context is attached while the toolkit works and never while the consumer of a stream does.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import attach, detach

from spanrelay._guard import guarded
from spanrelay.errors import SpanRelayError
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.function import AgentRun
from spanrelay.pipeline.stream import AsyncTap
from spanrelay.records import SpanRecord
from spanrelay.scopes import current_scope, inherit
from spanrelay.semconv.names import span_name
from spanrelay.tracing import Tracing, describe_error
from spanrelay_nemo_guardrails import content
from spanrelay_nemo_guardrails.rails import RailsScope


class Run(AgentRun):
    """One run. It is no agent, and no matter of policy: models and tools beneath it are."""

    __slots__ = ("rails",)

    def __init__(self, scope: RailsScope, given: Any, boundary: Any, tracing: Tracing) -> None:
        super().__init__(scope, given, boundary, tracing)
        self.rails = scope
        self.exempt = True

    def fail(self, error: BaseException) -> None:
        """End the spans of a run that raised `error`."""
        self.rails.leave(stopped=False, error=error)
        super().fail(error)

    def finish(self, end: int | None = None) -> None:
        """End the span, and that of the rail that stopped the run."""
        self.rails.leave()
        super().finish(end)


class RunScope(RailsScope):
    """The scope of a run. The generation that a stream or a check is made of is no run of its own."""

    __slots__ = ("made_of", "rails")

    def __init__(self, name: str, rails: Any, *, made_of: bool) -> None:
        parent = current_scope()
        record = inherit(SpanRecord(0, 0, name=span_name("chain", None, name), kind="chain"), parent)
        super().__init__(record, parent, name)
        self.rails = rails
        self.made_of = made_of
        """Whether it is made of a generation."""


class RunBoundary:
    """The real call: the toolkit's method, with what it was called with."""

    __slots__ = ("_args", "_kwargs", "_wrapped")

    def __init__(self, wrapped: Any, args: Any, kwargs: Any) -> None:
        self._wrapped = wrapped
        self._args = args
        self._kwargs = kwargs

    async def send(self, call: Run) -> Any:
        """Run the rails to their end."""
        result = await _refusing(self._wrapped, self._args, self._kwargs)
        if call.observed:
            with guarded("reading what a run gave"):
                call.gave(content.gave(result))
        return result

    def answer(self, call: Run, body: Any) -> Any:
        """Policy does not answer for a run of rails."""
        raise NotImplementedError  # pragma: no cover - no policy runs here


class StreamBoundary(RunBoundary):
    """The same for a stream, whose generation runs in a task that starts now."""

    __slots__ = ()

    def send(self, call: Run) -> Any:
        """Begin the stream."""
        chunks = self._wrapped(*self._args, **self._kwargs)

        async def close() -> None:
            token = attach(call.context)
            try:
                await chunks.aclose()
            finally:
                detach(token)

        call.tap = tap = AsyncTap(call, aiter(chunks), close if hasattr(chunks, "aclose") else _nothing, form="events")
        return tap


async def _nothing() -> None:
    return None


async def _refusing(wrapped: Any, args: Any, kwargs: Any) -> Any:
    """Call `wrapped`; a refusal of policy that the toolkit wrapped into an error of its own is raised as itself."""
    try:
        return await wrapped(*args, **kwargs)
    except Exception as error:
        refusal = error.__cause__
        if not isinstance(refusal, SpanRelayError) or type(error).__name__ != "LLMCallException":
            raise
    raise refusal


class Runs:
    """Wraps the ways of a run; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def generate(self, wrapped: Any, rails: Any, args: Any, kwargs: Any) -> Any:
        """Generate an answer."""
        scope = current_scope()
        if isinstance(scope, RunScope) and scope.made_of and scope.rails is rails:
            return await _generated(scope, wrapped, args, kwargs)
        return await arun(self._call("generate", wrapped, rails, args, kwargs))

    async def check(self, wrapped: Any, rails: Any, args: Any, kwargs: Any) -> Any:
        """Check messages."""
        messages = args[0] if args else kwargs.get("messages")
        return await arun(self._call("check", wrapped, rails, args, kwargs, messages=messages))

    def stream(self, wrapped: Any, rails: Any, args: Any, kwargs: Any) -> Any:
        """Generate an answer as a stream."""
        return run(self._call("stream", wrapped, rails, args, kwargs))

    def _call(self, way: str, wrapped: Any, rails: Any, args: Any, kwargs: Any, messages: Any = None) -> Run:
        given = None
        with guarded("reading what a run is given"):
            bound = {**dict(zip(("prompt", "messages"), args, strict=False)), **kwargs}
            given = content.given(bound.get("prompt"), messages or bound.get("messages"))
        scope = RunScope(f"LLMRails.{way}", rails, made_of=way != "generate")
        kind = StreamBoundary if way == "stream" else RunBoundary
        return Run(scope, given, kind(wrapped, args, kwargs), self._tracing)


async def _generated(scope: RunScope, wrapped: Any, args: Any, kwargs: Any) -> Any:
    """Generate what a stream or a check is made of; a stream tells its consumer of errors only in words."""
    try:
        return await _refusing(wrapped, args, kwargs)
    except Exception as error:
        scope.record.error = describe_error(error)
        raise


def _silent(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """The toolkit would make spans of a run that has ended: there are live ones already, which say the same."""


async def _asilent(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """The async twin of `_silent`."""


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The three ways of a run, and the toolkit's own account of it."""
    runs, rails = Runs(tracing), "nemoguardrails.rails.llm.llmrails"
    adapter = "nemoguardrails.tracing.adapters.opentelemetry"
    return (
        Patch(rails, "LLMRails.generate_async", runs.generate),
        Patch(rails, "LLMRails.check_async", runs.check),
        Patch(rails, "LLMRails.stream_async", runs.stream),
        Patch(adapter, "OpenTelemetryAdapter.transform", _silent, required=False),
        Patch(adapter, "OpenTelemetryAdapter.transform_async", _asilent, required=False),
    )
