"""The rows of observation: what sanitizers and subscribers cost the thread that makes the call."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import spanrelay
from benchmarks import workload
from benchmarks.floor import encoding_provider, floor_of
from benchmarks.measure import Effort, Way, differences, interleave
from benchmarks.ours import recording
from benchmarks.results import Result, absolute, against_floor

_MANY = 10
_EVENTS = 2
"""A call of a model is told twice: as it starts and as it ends."""


def _same(field: Any) -> Any:
    return field.value


def sanitizers(effort: Effort) -> list[Result]:
    """Ten sanitizers that look at every field of a call of 10 KB and change nothing."""
    exchange = workload.chat(10_000)
    provider, _ = encoding_provider()
    with recording(provider) as patched, ExitStack() as registered:
        call = workload.post(exchange)
        floor = floor_of(exchange.content, call)
        for number in range(_MANY):
            registered.enter_context(spanrelay.use(spanrelay.sanitizer(name=f"benchmark-{number}")(_same)))
        bare, ours, least = interleave(
            (
                Way(call, patched.off),
                Way(call, patched.on, provider.force_flush),
                Way(floor.call, patched.off, floor.flush),
            ),
            effort,
        )
    return against_floor("ten sanitizers, 10 KB", ours, bare, least, 3.0)


def _ignore(event: spanrelay.Event) -> None:
    del event


def events(effort: Effort) -> list[Result]:
    """Subscribers that ignore what they are told: the first brings the event itself, each further only its queue."""
    provider, _ = encoding_provider()
    handles: list[Any] = []

    def with_subscribers(count: int) -> Any:
        def enter() -> None:
            patched.on()
            while handles:
                handles.pop().remove()
            handles.extend(spanrelay.subscribe(_ignore, name=f"benchmark-{n}") for n in range(count))

        return enter

    def flush() -> None:
        provider.force_flush()
        spanrelay.flush()

    with recording(provider) as patched:
        call = workload.post(workload.chat(1_000))
        none, one, many = interleave([Way(call, with_subscribers(count), flush) for count in (0, 1, _MANY + 1)], effort)
        with_subscribers(0)()
    return [
        *absolute("event, the first subscriber", differences(one, none), _EVENTS, 2.0),
        *absolute("event, each further subscriber", differences(many, one), _EVENTS * _MANY, 2.0),
    ]
