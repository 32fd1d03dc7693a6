"""The boundary of a run of a workflow: one AGENT span, whether its result is awaited or streamed.

The toolkit puts the context of the time when a workflow was built in place of the caller's: that is undone here.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import attach, get_current

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.driver import arun
from spanrelay.tracing import Tracing
from spanrelay_nemo_agent_toolkit.agents import CallBoundary, Run, StreamBoundary, agent_scope, passed

UNNAMED = "<workflow>"
"""What the toolkit calls a workflow that nobody named."""


def name_of(function: Any) -> str:
    """Return a function's name as the toolkit says it; one without is called after its kind."""
    config, name = function.config, function.instance_name
    return config.name or (config.type if name == UNNAMED else name)


async def _enter(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Begin to run a workflow, in the caller's context."""
    before = get_current()
    entered = await wrapped(*args, **kwargs)
    if get_current() is not before:
        # No token to detach: what the toolkit put there is not to come back.
        attach(before)
    return entered


class Runs:
    """Wraps the two ways of a run; `tracing` opens the spans."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def result(self, wrapped: Any, runner: Any, args: Any, kwargs: Any) -> Any:
        """Run a workflow to its result."""
        return await arun(self._call(CallBoundary, wrapped, runner, args, kwargs))

    def stream(self, wrapped: Any, runner: Any, args: Any, kwargs: Any) -> Any:
        """Run a workflow as a stream."""
        return passed(lambda: self._call(StreamBoundary, wrapped, runner, args, kwargs), get_current())

    def _call(self, kind: type[CallBoundary], wrapped: Any, runner: Any, args: Any, kwargs: Any) -> Run:
        entry, to_type = runner._entry_fn, args[0] if args else kwargs.get("to_type")
        scope = agent_scope(name_of(entry), entry.description)
        with guarded("reading whose run it is"):
            state = runner._context_state
            scope.record.session_id = state.conversation_id.get() or scope.record.session_id
            scope.record.user_id = state.user_id.get() or scope.record.user_id

        def call(given: Any) -> Any:
            runner._input_message = given
            return wrapped(*args, **kwargs)

        def answer(body: Any) -> Any:
            # A run that policy answered for never began, and the toolkit asks how it ended.
            runner._state = type(runner._state).COMPLETED
            return body if to_type is None or isinstance(body, to_type) else runner.convert(body, to_type)

        return Run(scope, runner._input_message, kind(call, answer), self._tracing, entry)


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The runner's two ways to a result, and its beginning."""
    runs = Runs(tracing)
    return (
        Patch("nat.runtime.runner", "Runner.result", runs.result),
        Patch("nat.runtime.runner", "Runner.result_stream", runs.stream),
        Patch("nat.runtime.runner", "Runner.__aenter__", _enter, required=False),
    )
