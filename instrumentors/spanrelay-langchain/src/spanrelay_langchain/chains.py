"""Runs of chains: the outermost is a span, so that a run is one trace, and each step where somebody asks for them.

They are current while they work, so that what they ask is below them; what reads a stream never runs within one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, cast

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import get_current_span

from spanrelay._guard import guarded
from spanrelay.codecs.langchain.config import labels_of, session_of
from spanrelay.instrumentation.patching import Patch
from spanrelay.scopes import Scope, scope, values_within, values_within_async
from spanrelay.tracing import Tracing
from spanrelay_langchain.unmanaged import awithin, kept, within

_MODULE = "langchain_core.runnables.base"
_PARTS = {
    "langchain_core.runnables.fallbacks": "RunnableWithFallbacks",
    "langchain_core.runnables.branch": "RunnableBranch",
}
_CLASSIC = {"langchain_classic.chains.base": "Chain"}
_EXECUTORS = "langchain_classic.agents.agent"


def patches(tracing: Tracing, *, steps: bool) -> tuple[Patch, ...]:
    """The ways in which LangChain runs what is no model, tool or retriever; `steps`: also within another."""
    chains = Chains(tracing, steps=steps)
    whole: tuple[str, ...] = ("RunnableSequence.invoke", "RunnableSequence.batch", "RunnableParallel.invoke")
    awaited: tuple[str, ...] = ("RunnableSequence.ainvoke", "RunnableSequence.abatch", "RunnableParallel.ainvoke")
    return (
        *(Patch(_MODULE, name, chains.invoke, required=False) for name in whole),
        *(Patch(_MODULE, name, chains.ainvoke, required=False) for name in awaited),
        *(
            Patch(module, f"{name}.{way}", wrapper, required=False)
            for module, name in {**_PARTS, **_CLASSIC}.items()
            for way, wrapper in (("invoke", chains.invoke), ("ainvoke", chains.ainvoke))
        ),
        Patch(_EXECUTORS, "AgentExecutor.stream", chains.iterate, required=False),
        Patch(_EXECUTORS, "AgentExecutor.astream", chains.aiterate, required=False),
        Patch(_MODULE, "Runnable._call_with_config", chains.call, required=False),
        Patch(_MODULE, "Runnable._acall_with_config", chains.acall, required=False),
        Patch(_MODULE, "Runnable._transform_stream_with_config", chains.stream, required=False),
        Patch(_MODULE, "Runnable._atransform_stream_with_config", chains.astream, required=False),
    )


class Chains:
    """The wrappers around `Runnable`."""

    def __init__(self, tracing: Tracing, *, steps: bool) -> None:
        self._tracing = tracing
        self._steps = steps

    def _passes(self, runnable: Any) -> bool:
        """Whether a run is none to record: it is a step of another, or only writes a prompt or reads an answer."""
        if self._steps or _acts(runnable):
            return False
        within = get_current_span().get_span_context().is_valid
        return within or hasattr(runnable, "format_prompt") or hasattr(runnable, "parse_result")

    def invoke(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> Any:
        """Run a chain."""
        if self._passes(runnable):
            return wrapped(*args, **kwargs)
        entered = _entered(runnable, *_invoke_arguments(*args, **kwargs))
        return within(entered, self._tracing, partial(wrapped, *args, **kwargs), _all_of_it)

    async def ainvoke(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> Any:
        """Run a chain and await it."""
        if self._passes(runnable):
            return await wrapped(*args, **kwargs)
        entered = _entered(runnable, *_invoke_arguments(*args, **kwargs))
        return await awithin(entered, self._tracing, partial(wrapped, *args, **kwargs), _all_of_it)

    def call(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> Any:
        """Run a step."""
        if self._passes(runnable):
            return wrapped(*args, **kwargs)
        entered = _entered(runnable, *_call_arguments(*args, **kwargs))
        return within(entered, self._tracing, partial(wrapped, *args, **kwargs), _all_of_it)

    async def acall(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> Any:
        """Run a step and await it."""
        if self._passes(runnable):
            return await wrapped(*args, **kwargs)
        entered = _entered(runnable, *_call_arguments(*args, **kwargs))
        return await awithin(entered, self._tracing, partial(wrapped, *args, **kwargs), _all_of_it)

    def iterate(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> Iterator[Any]:
        """Run an agent of the classic kind as a stream of its steps."""
        if self._passes(runnable):
            return wrapped(*args, **kwargs)
        entered = _entered(runnable, *_invoke_arguments(*args, **kwargs))
        return values_within(entered, self._tracing, wrapped(*args, **kwargs))

    def aiterate(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> AsyncIterator[Any]:
        """The same in async."""
        if self._passes(runnable):
            return wrapped(*args, **kwargs)
        entered = _entered(runnable, *_invoke_arguments(*args, **kwargs))
        return values_within_async(entered, self._tracing, wrapped(*args, **kwargs))

    def stream(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> Iterator[Any]:
        """Run a chain or a step as a stream; what goes in is a stream too, and is not read."""
        if self._passes(runnable):
            return wrapped(*args, **kwargs)
        entered = _entered(runnable, None, _call_arguments(*args, **kwargs)[1])
        inputs, rest, others = _stream_arguments(*args, **kwargs)
        outer = get_current()
        return values_within(entered, self._tracing, wrapped(_pulled(outer, inputs), *rest, **others))

    def astream(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> AsyncIterator[Any]:
        """The same in async."""
        if self._passes(runnable):
            return wrapped(*args, **kwargs)
        entered = _entered(runnable, None, _call_arguments(*args, **kwargs)[1])
        inputs, rest, others = _stream_arguments(*args, **kwargs)
        outer = get_current()
        return values_within_async(entered, self._tracing, wrapped(_apulled(outer, inputs), *rest, **others))


def _pulled(outer: Context, inputs: Any) -> Iterator[Any]:
    """Pull on what comes before a step in the context around both: it works beside the step, not beneath it."""
    values = iter(inputs)
    try:
        while True:
            token = attach(outer)
            try:
                value = next(values)
            except StopIteration:
                return
            finally:
                detach(token)
            yield value
    finally:
        if hasattr(inputs, "close"):
            inputs.close()


async def _apulled(outer: Context, inputs: Any) -> AsyncIterator[Any]:
    """The async twin of `_pulled`."""
    values = aiter(inputs)
    try:
        while True:
            token = attach(outer)
            try:
                value = await anext(values)
            except StopAsyncIteration:
                return
            finally:
                detach(token)
            yield value
    finally:
        if hasattr(inputs, "aclose"):
            await inputs.aclose()


def _stream_arguments(inputs: Any, *rest: Any, **others: Any) -> Any:
    return inputs, rest, others


def _invoke_arguments(input: Any = None, config: Any = None, **others: Any) -> Any:
    return others.get("inputs", input), config


def _call_arguments(func: Any = None, input_: Any = None, config: Any = None, *rest: Any, **others: Any) -> Any:
    return others.get("input", input_), config


def _entered(runnable: Any, given: Any, config: Any) -> Scope:
    """Return the scope of one run."""
    name = type(runnable).__name__
    # A batch has a configuration for each of its runs.
    told = cast("dict[str, Any]", config) if isinstance(config, dict) else {}
    with guarded("reading a chain's name"):
        name = told.get("run_name") or runnable.get_name()
    entered = scope(name, "agent" if _acts(runnable) else "chain").make()
    with guarded("reading a chain's configuration"):
        entered.record.session_id = session_of(told) or entered.record.session_id
        entered.record.metadata = {**entered.record.metadata, **labels_of(told)}
    if given is not None:
        entered.record.input = kept(given)
    return entered


def _acts(runnable: Any) -> bool:
    """Whether a chain is an agent of the classic kind, which cannot be asked without importing it."""
    for kind in type(runnable).__mro__:  # noqa: SIM110 - a generator is a call for each class, in every run of a chain
        if kind.__name__ == "AgentExecutor" and kind.__module__ == _EXECUTORS:
            return True
    return False


def _all_of_it(value: Any) -> Any:
    return value
