"""Steps of chains, where somebody asked for them: each run of a sequence, a function, a prompt or a parser is a span.

They are current while they work, so that what they ask is below them; what reads a stream never runs within one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, cast

from opentelemetry.context import Context, attach, detach, get_current

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.scopes import Scope, scope, values_within, values_within_async
from spanrelay.tracing import Tracing
from spanrelay_langchain.unmanaged import awithin, kept, within

_MODULE = "langchain_core.runnables.base"


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """The ways in which LangChain runs what is no model, tool or retriever."""
    chains = Chains(tracing)
    whole: tuple[str, ...] = ("RunnableSequence.invoke", "RunnableSequence.batch", "RunnableParallel.invoke")
    awaited: tuple[str, ...] = ("RunnableSequence.ainvoke", "RunnableSequence.abatch", "RunnableParallel.ainvoke")
    return (
        *(Patch(_MODULE, name, chains.invoke, required=False) for name in whole),
        *(Patch(_MODULE, name, chains.ainvoke, required=False) for name in awaited),
        Patch(_MODULE, "Runnable._call_with_config", chains.call, required=False),
        Patch(_MODULE, "Runnable._acall_with_config", chains.acall, required=False),
        Patch(_MODULE, "Runnable._transform_stream_with_config", chains.stream, required=False),
        Patch(_MODULE, "Runnable._atransform_stream_with_config", chains.astream, required=False),
    )


class Chains:
    """The wrappers around `Runnable`."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def invoke(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> Any:
        """Run a chain."""
        entered = _entered(runnable, *_invoke_arguments(*args, **kwargs))
        return within(entered, self._tracing, partial(wrapped, *args, **kwargs), _all_of_it)

    async def ainvoke(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> Any:
        """Run a chain and await it."""
        entered = _entered(runnable, *_invoke_arguments(*args, **kwargs))
        return await awithin(entered, self._tracing, partial(wrapped, *args, **kwargs), _all_of_it)

    def call(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> Any:
        """Run a step."""
        entered = _entered(runnable, *_call_arguments(*args, **kwargs))
        return within(entered, self._tracing, partial(wrapped, *args, **kwargs), _all_of_it)

    async def acall(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> Any:
        """Run a step and await it."""
        entered = _entered(runnable, *_call_arguments(*args, **kwargs))
        return await awithin(entered, self._tracing, partial(wrapped, *args, **kwargs), _all_of_it)

    def stream(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> Iterator[Any]:
        """Run a chain or a step as a stream; what goes in is a stream too, and is not read."""
        entered = _entered(runnable, None, _call_arguments(*args, **kwargs)[1])
        inputs, rest, others = _stream_arguments(*args, **kwargs)
        outer = get_current()
        return values_within(entered, self._tracing, wrapped(_pulled(outer, inputs), *rest, **others))

    def astream(self, wrapped: Any, runnable: Any, args: Any, kwargs: Any) -> AsyncIterator[Any]:
        """The same in async."""
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
    with guarded("reading a chain's name"):
        # A batch has a configuration for each of its runs.
        told = cast("dict[str, Any]", config).get("run_name") if isinstance(config, dict) else None
        name = told or runnable.get_name()
    entered = scope(name, "chain").make()
    if given is not None:
        entered.record.input = kept(given)
    return entered


def _all_of_it(value: Any) -> Any:
    return value
