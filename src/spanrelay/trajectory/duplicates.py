"""Tells which spans are one physical model call, told by a framework's and by a provider's instrumentation.

Pure. Never guesses: calls in sequence, or with other answers, are never one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

from spanrelay.records import ModelResponse, SpanRecord, Usage
from spanrelay.trajectory.document import keys_of

Relation: TypeAlias = Literal["same", "attempt", "other"]


def contains(outer: SpanRecord, inner: SpanRecord) -> bool:
    """Whether `inner` ran wholly within the time of `outer`."""
    return outer.start <= inner.start and (inner.end or 0) <= (outer.end or 0)


def relate(outer: SpanRecord, inner: SpanRecord, *, nested: bool) -> Relation:
    """Return what `inner` is to `outer`, within whose time it ran: the same call, a failed attempt, or neither.

    `nested` where the parents of `inner` lead to `outer`; otherwise only the contents can tell.
    """
    ids = (_response_id(outer), _response_id(inner))
    if ids[0] and ids[1]:
        return "same" if ids[0] == ids[1] else "other"
    asked, answered = keys_of(outer)
    inner_asked, inner_answered = keys_of(inner)
    alike = asked is not None and asked == inner_asked
    if _failed(inner) and inner_answered is None:
        if not (nested or alike):
            return "other"
        return "same" if _failed(outer) and answered is None else "attempt"
    if answered is not None and answered == inner_answered and (nested or alike):
        return "same"
    blind = answered is None or inner_answered is None
    return "same" if nested and blind and not _failed(outer) else "other"


def _failed(record: SpanRecord) -> bool:
    return record.error is not None or (record.response is not None and record.response.error is not None)


def _response_id(record: SpanRecord) -> str | None:
    return record.response.id if record.response is not None else None


def merged(winner: SpanRecord, other: SpanRecord) -> SpanRecord:
    """Return `winner` with what only `other` knows of the call: answer, usage, id, model, parameters."""
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
    )


def _merged_usage(winner: Usage | None, other: Usage | None) -> Usage | None:
    if winner is None or other is None:
        return winner or other
    names = Usage.__slots__
    pairs = {name: (getattr(winner, name), getattr(other, name)) for name in names}
    return Usage(**{name: first if first is not None else second for name, (first, second) in pairs.items()})
