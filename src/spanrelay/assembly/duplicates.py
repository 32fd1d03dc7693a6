"""Tells which spans are one physical model call, told by a framework's and by a provider's instrumentation.

Pure. Never guesses: calls in sequence, or with other answers, are never one. The id of an answer alone proves nothing:
local servers give few of them, and mocks one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

from spanrelay.assembly import steps
from spanrelay.assembly.transcript import key_of, turns_of
from spanrelay.records import ModelResponse, SpanRecord, Usage

Relation: TypeAlias = Literal["same", "attempt", "other"]


Keys: TypeAlias = tuple[int | None, int | None]
"""The keys of the last turn that a model call sent and of its answer, None where there is none."""


class Sighting:
    """What tells one model call from another: when it ran, the provider's id, what was asked and answered, who tells.

    `scope` is the name of the instrumentation. What was said is looked at only once somebody asks for it, or never
    where one instrumentation tells of everything; `settle` it before the record is let go of.
    """

    __slots__ = ("_keys", "_record", "end", "failed", "response_id", "scope", "start")

    def __init__(self, record: SpanRecord) -> None:
        response = record.response
        self.start, self.end = record.start, record.end or record.start
        self.response_id = response.id if response is not None else None
        self.failed = record.error is not None or (response is not None and response.error is not None)
        self.scope = record.scope_name
        self._record: SpanRecord | None = record
        self._keys: Keys = (None, None)

    def settle(self, keys: Keys | None = None) -> None:
        """Keep what was said, `keys` if somebody has worked them out, and hold the record no longer."""
        if self._record is not None:
            self._keys = keys or _keys_of(self._record)
            self._record = None

    @property
    def asked(self) -> int | None:
        """The key of the last turn that was sent."""
        self.settle()
        return self._keys[0]

    @property
    def answered(self) -> int | None:
        """The key of the answer."""
        self.settle()
        return self._keys[1]


def _keys_of(record: SpanRecord) -> Keys:
    """Return the keys of what a model call says; two spans of one physical call agree in both."""
    messages = record.request.messages if record.request else []
    turns = next((turns for message in reversed(messages) if (turns := turns_of([message]))), [])
    answer = steps.answer_of(record)
    return key_of(turns[-1]) if turns else None, key_of(answer) if answer else None


def contains(outer: Sighting | SpanRecord, inner: Sighting | SpanRecord) -> bool:
    """Whether `inner` ran wholly within the time of `outer`."""
    return outer.start <= inner.start and (inner.end or 0) <= (outer.end or 0)


def relate(outer: Sighting, inner: Sighting, *, nested: bool) -> Relation:
    """Return what `inner` is to `outer`, within whose time it ran: the same call, a failed attempt, or neither.

    `nested` where the parents of `inner` lead to `outer`; otherwise only the contents can tell.
    """
    if not nested and outer.scope and outer.scope == inner.scope:
        return "other"  # no instrumentation tells a call twice
    if outer.response_id and inner.response_id:
        alike = outer.response_id == inner.response_id and (nested or not _tell_of_others(outer, inner))
        return "same" if alike else "other"
    tied = nested or (outer.asked is not None and outer.asked == inner.asked)
    if not tied:
        return "other"
    if inner.failed and inner.answered is None:
        return "same" if outer.failed and outer.answered is None else "attempt"
    if outer.answered is not None and outer.answered == inner.answered:
        return "same"
    blind = outer.answered is None or inner.answered is None
    return "same" if nested and blind and not outer.failed else "other"


def _tell_of_others(one: Sighting, other: Sighting) -> bool:
    """Whether two spans tell of other words and of another answer, whatever id that has."""
    words = (one.asked, other.asked), (one.answered, other.answered)
    return all(None not in pair and pair[0] != pair[1] for pair in words)


def merged(winner: SpanRecord, other: SpanRecord) -> SpanRecord:
    """Return `winner` with what only `other` knows of the call: answer, usage, id, model, parameters.

    Whether the provider was called is the other's to say: it is the inner span.
    """
    found = replace(winner)
    if other.request is not None:
        if winner.request is None or (not winner.request.messages and other.request.messages):
            found.request = other.request
        else:
            found.request = replace(
                winner.request,
                model=winner.request.model or other.request.model,
                tools=winner.request.tools or other.request.tools,
                parameters={**other.request.parameters, **winner.request.parameters},
            )
    found.response = merged_response(winner.response, other.response)
    found.time_to_first_chunk = winner.time_to_first_chunk or other.time_to_first_chunk
    found.content = winner.content or other.content
    found.answered_by = other.answered_by
    return found


def merged_response(winner: ModelResponse | None, other: ModelResponse | None) -> ModelResponse | None:
    """Return one answer with the gaps of `winner` filled from `other`."""
    if winner is None or other is None:
        return winner or other
    return replace(
        winner,
        id=winner.id or other.id,
        model=winner.model or other.model,
        messages=winner.messages or other.messages,
        finish_reasons=winner.finish_reasons or other.finish_reasons,
        usage=_merged_usage(winner.usage, other.usage),
        tokens=winner.tokens or other.tokens,
    )


def _merged_usage(winner: Usage | None, other: Usage | None) -> Usage | None:
    if winner is None or other is None:
        return winner or other
    names = Usage.__slots__
    pairs = {name: (getattr(winner, name), getattr(other, name)) for name in names}
    return Usage(**{name: first if first is not None else second for name, (first, second) in pairs.items()})
