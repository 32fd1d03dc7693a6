"""Sessions whose every call sends the whole conversation so far: what calls cost, early and late, and what is exported.

All calls of a session are recorded, since each goes on from the last; the bare call and the floors, which know of no
earlier ones, stand beside every tenth, and beside those around the calls that are looked at alone. One floor is given
its JSON, as elsewhere; the other makes it of the messages, as who writes a whole history into a span has to.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

import spanrelay
from benchmarks.floor import EncodingExporter, encoding_processor, floor_of
from benchmarks.measure import Cost, Effort, Figure, Way, differences, mean, run_block, uncollected
from benchmarks.ours import activated
from benchmarks.results import Result
from benchmarks.session import settle
from benchmarks.workload import Conversation

_MESSAGE = 600
_EVERY = 10
_AROUND = 5
_LENGTHS = (300, 1000)
_EARLY = 10
_QUICK = (20, 40)


@dataclass
class _Beside:
    """Costs by the number of the call that they were measured at."""

    bare: dict[int, Cost] = field(default_factory=dict[int, Cost])
    given: dict[int, Cost] = field(default_factory=dict[int, Cost])
    making: dict[int, Cost] = field(default_factory=dict[int, Cost])
    ours: dict[int, Cost] = field(default_factory=dict[int, Cost])

    def added(self, side: dict[int, Cost], calls: list[int], figure: str = "cpu") -> Figure:
        """Return what a side adds to the bare client at `calls`, on average."""
        more, bare = ([costs[call] for call in calls] for costs in (side, self.bare))
        return mean([getattr(cost, figure) for cost in differences(more, bare)])


class _NewExporter(EncodingExporter):
    """Serialises spans as `SPANRELAY_HISTORY=new` has them sent."""

    def __init__(self) -> None:
        from spanrelay.exporters.carried import Carried  # earlier builds, which other rows are run with, have none

        super().__init__()
        self._carried = Carried()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Serialise a batch."""
        attempt = self._carried.attempt(spans)
        result = super().export(attempt.spans)
        attempt.delivered()
        return result


def growing(effort: Effort) -> list[Result]:
    """Whole histories in spans, no trajectory."""
    return _measure("growing session", effort, trajectories=False, content="spans", flat=None)


def growing_trajectories(effort: Effort) -> list[Result]:
    """Whole histories in spans, and a trajectory."""
    return _measure("growing session, trajectories on", effort, trajectories=True, content="spans", flat=None)


def growing_new(effort: Effort) -> list[Result]:
    """Spans that carry what is new, and a trajectory: neither time nor bytes need grow with what was said before."""
    title = "growing session, what is new"
    return _measure(title, effort, trajectories=True, content="spans", flat=1.5, exporter=_NewExporter())


def growing_local(effort: Effort) -> list[Result]:
    """A trajectory, and no content in spans: what a call costs need not grow with what was said before."""
    return _measure("growing session, content local", effort, trajectories=True, content="trajectories", flat=1.5)


def _measure(
    title: str,
    effort: Effort,
    *,
    trajectories: bool,
    content: str,
    flat: float | None,
    exporter: EncodingExporter | None = None,
) -> list[Result]:
    lengths = _LENGTHS if effort.seconds else _QUICK
    conversation = Conversation(_MESSAGE)
    costs, exported = _costs(conversation, lengths, exporter, trajectories=trajectories, content=content)
    limit = 1.5 if content == "spans" and exporter is None else None
    results: list[Result] = []
    for length in lengths:
        calls = list(range(_EVERY, length + 1, _EVERY))
        results += _figures(f"{title}, {length} calls", costs, calls, limit)
    first, last = (_window(call, lengths) for call in (_EARLY, lengths[-1]))
    results += _figures(f"{title}, the last call", costs, last, limit)
    early, late = (costs.added(costs.ours, calls) for calls in (first, last))
    times = late.value / early.value
    error = times * (late.error / late.value + early.error / abs(early.value))
    results.append(Result(f"{title}, the last call", "growth", f"x the {_EARLY}th", times, error, limit=flat))
    said = sum(len(message["content"]) for message in conversation.said)
    most = 3.0 if flat is not None else None
    return [*results, Result(title, "OTLP", "x its text", exported / said, limit=most)]


def _figures(row: str, costs: _Beside, calls: list[int], limit: float | None) -> list[Result]:
    rows = (
        ("caller's CPU", "thread", costs.given, None),
        ("CPU", "cpu", costs.given, None),
        ("CPU, floor makes its JSON", "cpu", costs.making, limit),
    )
    results: list[Result] = []
    for label, figure, floor, budget in rows:
        ours, least = costs.added(costs.ours, calls, figure), costs.added(floor, calls, figure)
        results.append(Result(row, label, "µs", ours.value, ours.error, least.value, least.error, budget))
    return results


def _window(call: int, lengths: tuple[int, ...]) -> list[int]:
    return list(range(call - _AROUND + 1, min(call + _AROUND, lengths[-1]) + 1))


def _costs(
    conversation: Conversation,
    lengths: tuple[int, ...],
    exporter: EncodingExporter | None,
    *,
    trajectories: bool,
    content: str,
) -> tuple[_Beside, int]:
    """Run a session and return what its calls cost, and the bytes that its spans are in OTLP."""
    costs = _Beside()
    exporting, exporter = encoding_processor(exporter)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(exporting)
    watched = {call for around in (_EARLY, lengths[-1]) for call in _window(around, lengths)}
    with ExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory()) if trajectories else None
        patched, runtime = held.enter_context(activated(provider, folder, content))

        def finish() -> None:
            exporting.force_flush()  # and not that of the provider, which would write the trajectory's file each time
            settle(runtime)

        held.enter_context(spanrelay.scope("benchmark", session="session-1"))
        held.enter_context(uncollected())
        carried = ""
        given = floor_of(lambda: carried, conversation.ask)
        making = floor_of(lambda: json.dumps(conversation.said), conversation.ask)
        ours = Way(conversation.ask, patched.on, finish)
        ways: list[tuple[dict[int, Cost], Way]] = [
            (costs.bare, Way(conversation.ask, patched.off)),
            (costs.given, Way(given.call, patched.off, given.flush)),
            (costs.making, Way(making.call, patched.off, making.flush)),
            (costs.ours, ours),
        ]
        for call in range(1, lengths[-1] + 1):
            conversation.begin()
            if call % _EVERY and call not in watched:
                ours.enter()
                ours.call()
                ours.flush()
                continue
            carried = json.dumps(conversation.said)
            for found, way in ways[call % 4 :] + ways[: call % 4]:
                found[call] = run_block(way, 1, warm_up=0)
    return costs, exporter.bytes
