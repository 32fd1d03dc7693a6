"""What one session of a coding agent was: who spoke, what the model was asked for and gave, and which tools ran.

Telemetry tells one account of a session and the agent's own transcript another; `joining` makes one of both, `telling`
makes records of it. Everything has the id by which both tell of it, and times are nanoseconds since the epoch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from spanrelay.records import JSON, ErrorInfo, Part, ToolCall, ToolResult, Usage

MAIN = ""
"""The key of the thread of the agent that the user speaks to."""


class Place(NamedTuple):
    """A span that told of something: its ids and its time; `remote` where its parent is another process's."""

    trace_id: int
    span_id: int
    parent_id: int | None
    remote: bool
    start: int
    end: int


@dataclass(slots=True)
class Prompt:
    """What was said to the model, by the user or, as a notification, by the agent's program.

    `after` is the key of the call whose answer it goes on from, where that is not the last: all since was taken back.
    """

    key: str
    time: int
    role: Literal["user", "system"]
    parts: list[Part]
    place: Place | None = None
    after: str | None = None


@dataclass(slots=True)
class Failure:
    """A request that came to nothing and was sent again."""

    time: int
    error: ErrorInfo


@dataclass(slots=True)
class Call:
    """A model call. `parts` are its answer, None where the words of it are not told; `names` are other ids of it."""

    key: str
    start: int
    end: int
    model: str | None = None
    parts: list[Part] | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    first_chunk: float | None = None
    failures: list[Failure] = field(default_factory=list[Failure])
    error: ErrorInfo | None = None
    place: Place | None = None
    names: set[str] = field(default_factory=set[str])

    @property
    def tools(self) -> list[ToolCall]:
        """The tools that the answer asks for, as far as it is told."""
        return [part for part in self.parts or [] if isinstance(part, ToolCall)]


@dataclass(slots=True)
class Run:
    """A tool that ran, or was refused and why: `call` is the key of the model call that asked for it, if that is known.

    `result` is None where it is not told.
    """

    key: str
    name: str
    start: int
    end: int
    call: str | None = None
    arguments: JSON = None
    result: ToolResult | None = None
    error: ErrorInfo | None = None
    refused: str | None = None
    place: Place | None = None


@dataclass(slots=True)
class Thread:
    """A conversation of one agent: the user's, or a sub-agent's, which a tool's run began: `begun_by` is its key.

    `id` is that of the agent, if anybody gave it one.
    """

    key: str
    id: str | None = None
    name: str | None = None
    begun_by: str | None = None
    prompts: dict[str, Prompt] = field(default_factory=dict[str, Prompt])
    calls: dict[str, Call] = field(default_factory=dict[str, Call])
    runs: dict[str, Run] = field(default_factory=dict[str, Run])

    def in_order(self) -> list[Call]:
        """Return the model calls in the order of their starts."""
        return sorted(self.calls.values(), key=lambda call: (call.start, call.end, call.key))

    def callers(self) -> dict[str, Call]:
        """Return the model calls that asked for tools, by the keys of these.

        It is the call that a run names, or else the last that began before it.
        """
        calls = self.in_order()
        starts = [call.start for call in calls]
        found: dict[str, Call] = {}
        for run in self.runs.values():
            before = bisect_right(starts, run.start)
            caller = self.calls.get(run.call or "") or (calls[before - 1] if before else None)
            if caller is not None:
                found[run.key] = caller
        return found


@dataclass(slots=True)
class Account:
    """A whole session: `agent` and `version` are of the program, `resource` what ran where, as its spans say."""

    session: str | None
    agent: str
    version: str | None = None
    resource: dict[str, JSON] = field(default_factory=dict[str, JSON])
    threads: dict[str, Thread] = field(default_factory=dict[str, Thread])

    def thread(self, key: str) -> Thread:
        """Return a thread, which begins where it is not known."""
        return self.threads.setdefault(key, Thread(key, key or None))

    def runs(self) -> Iterator[Run]:
        """Yield the runs of tools of all threads."""
        for thread in self.threads.values():
            yield from thread.runs.values()
